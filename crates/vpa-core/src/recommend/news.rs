//! What a status tells its reader that the published one does not, and how much it matters.

use std::cmp::Ordering;

use vpa_api::vpa::{RecommendedContainerResources, VerticalPodAutoscalerStatus};
use vpa_api::{Quantity, ResourceList};

/// The most that a status has to tell. The earlier ones matter more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum News {
    /// The first recommendation of a VPA.
    First,
    /// A target, capped or not, is another one. The largest change, as a part of what it was.
    Target(f64),
    /// A condition, the generation, or which amounts there are.
    Other,
    /// Nothing but amounts of bounds. The largest move, as a part of what it was.
    Bounds(f64),
}

/// How urgent a write is: by what it tells, weighed by the pods that it is for. The greater goes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// What the status tells.
    pub news: News,
    /// Weight of the pods, see [`weight`].
    pub weight: f64,
}

impl Need {
    /// The more urgent first.
    pub fn compare(&self, other: &Self) -> Ordering {
        let key = |need: &Self| match need.news {
            News::First => (0, need.weight),
            News::Target(change) => (1, change * need.weight),
            News::Other => (2, need.weight),
            News::Bounds(moved) => (3, moved * need.weight),
        };
        let ((class, amount), (other_class, other_amount)) = (key(self), key(other));
        class.cmp(&other_class).then(other_amount.total_cmp(&amount))
    }
}

/// Weight of pods by the value of their priority class: 1 without one, 2 for 1,000, 4 for 1,000,000,000, less than 1
/// below zero. A step of a thousand counts as much as a change that is once more as large, so neither hides the other.
pub(super) fn weight(priority: i32) -> f64 {
    let digits = f64::from(priority.unsigned_abs().saturating_add(1).ilog10()) / 3.0;
    if priority < 0 { 1.0 / (2.0 + digits) } else { 1.0 + digits }
}

/// What the status `new` tells that the published one does not; `None` where both say the same.
pub(super) fn news(
    published: Option<&VerticalPodAutoscalerStatus>,
    new: &VerticalPodAutoscalerStatus,
    first_recommendation: bool,
) -> Option<News> {
    if published == Some(new) {
        return None;
    }
    if first_recommendation {
        return Some(News::First);
    }
    let before = containers(published);
    let now = containers(Some(new));
    if before.len() != now.len() || before.iter().zip(now).any(|(a, b)| a.container_name != b.container_name)
    {
        // A container that comes or goes is as if its whole target did.
        return Some(News::Target(1.0));
    }
    let pairs = || before.iter().zip(now);
    let target = pairs()
        .flat_map(|(a, b)| {
            [change(&a.target, &b.target), optional(&a.uncapped_target, &b.uncapped_target).unwrap_or(1.0)]
        })
        .fold(0.0, f64::max);
    if target > 0.0 {
        return Some(News::Target(target));
    }
    let same_else = published.is_some_and(|published| {
        published.conditions == new.conditions
            && published.observed_generation == new.observed_generation
            && published.recommendation.is_some() == new.recommendation.is_some()
    });
    let bounds: Option<Vec<f64>> = pairs()
        .flat_map(|(a, b)| {
            [optional(&a.lower_bound, &b.lower_bound), optional(&a.upper_bound, &b.upper_bound)]
        })
        .collect();
    match bounds {
        Some(moves) if same_else => Some(News::Bounds(moves.into_iter().fold(0.0, f64::max))),
        _ => Some(News::Other),
    }
}

fn containers(status: Option<&VerticalPodAutoscalerStatus>) -> &[RecommendedContainerResources] {
    status
        .and_then(|status| status.recommendation.as_ref())
        .and_then(|recommendation| recommendation.container_recommendations.as_deref())
        .unwrap_or(&[])
}

/// The change of lists that may be missing; `None` where they do not name the same resources.
fn optional(before: &Option<ResourceList>, now: &Option<ResourceList>) -> Option<f64> {
    match (before, now) {
        (Some(before), Some(now)) if before.keys().eq(now.keys()) => Some(change(before, now)),
        (None, None) => Some(0.0),
        _ => None,
    }
}

/// The largest change of an amount, as a part of what it was; 1 for one that comes or goes.
fn change(before: &ResourceList, now: &ResourceList) -> f64 {
    if !before.keys().eq(now.keys()) {
        return 1.0;
    }
    before.values().zip(now.values()).map(|(before, now)| relative(before, now)).fold(0.0, f64::max)
}

fn relative(before: &Quantity, now: &Quantity) -> f64 {
    if before == now {
        return 0.0;
    }
    let (was, is) = (before.as_f64(), now.as_f64());
    let change = (is - was).abs() / was.abs();
    // Amounts that a float cannot tell apart still differ.
    if change.is_finite() { change.max(f64::MIN_POSITIVE) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(target: &str, upper: Value, generation: i64) -> VerticalPodAutoscalerStatus {
        serde_json::from_value(json!({
            "observedGeneration": generation,
            "recommendation": {"containerRecommendations": [
                {"containerName": "c", "target": {"cpu": target}, "uncappedTarget": {"cpu": target}, "upperBound": upper}
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn the_most_that_changed_counts() {
        let upper = |amount: &str| json!({"cpu": amount});
        let old = status("100m", upper("1"), 1);
        let cases = [
            (status("100m", upper("1"), 1), None),
            (status("100m", upper("1100m"), 1), Some(News::Bounds(0.1))),
            (status("100m", upper("500m"), 1), Some(News::Bounds(0.5))),
            (status("100m", upper("1"), 2), Some(News::Other)),
            (status("100m", json!({"memory": "1"}), 1), Some(News::Other)),
            (status("100m", Value::Null, 1), Some(News::Other)),
            (status("150m", upper("500m"), 2), Some(News::Target(0.5))),
            (VerticalPodAutoscalerStatus::default(), Some(News::Target(1.0))),
        ];
        for (new, want) in cases {
            let got = news(Some(&old), &new, false);
            let round = |part: f64| (part * 1e6).round() / 1e6;
            let rounded = got.map(|news| match news {
                News::Target(change) => News::Target(round(change)),
                News::Bounds(moved) => News::Bounds(round(moved)),
                other => other,
            });
            assert_eq!(rounded, want, "{new:?}");
        }
        assert_eq!(news(None, &old, true), Some(News::First));
        assert_eq!(news(None, &VerticalPodAutoscalerStatus::default(), false), Some(News::Other));
    }

    #[test]
    fn need_orders_by_news_and_then_by_weight() {
        let need = |news, priority| Need { news, weight: weight(priority) };
        let in_order = [
            need(News::First, 1000),
            need(News::First, 0),
            need(News::Target(0.2), 1_000_000),
            need(News::Target(0.5), 0),
            need(News::Target(0.5), -10),
            need(News::Target(0.1), 0),
            need(News::Other, 0),
            need(News::Bounds(9.0), 2_000_000_000),
            need(News::Bounds(0.2), 0),
        ];
        let mut sorted = in_order;
        sorted.reverse();
        sorted.sort_by(Need::compare);
        assert_eq!(sorted, in_order);
    }

    #[test]
    fn weight_grows_slowly_with_priority() {
        for (priority, want) in
            [(i32::MIN, 0.2), (-1, 0.5), (0, 1.0), (8, 1.0), (999, 2.0), (1_000_000_000, 4.0)]
        {
            assert!((weight(priority) - want).abs() < 1e-9, "{priority}: {}", weight(priority));
        }
    }
}
