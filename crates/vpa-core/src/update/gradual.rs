//! Resizes in steps: how far one of them may go.

use vpa_api::pod::Pod;
use vpa_api::vpa::RecommendedContainerResources;
use vpa_api::{Quantity, ResourceList};

use crate::policy::current_resources;

/// How far a request may move in one resize, as fractions of what it is. Evictions are not bound by it: a new pod gets
/// the whole recommendation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MaxStep {
    /// Fraction by which a request may grow; none or zero: no bound.
    pub up: Option<f64>,
    /// Fraction by which a request may shrink; none or zero: no bound.
    pub down: Option<f64>,
}

impl MaxStep {
    /// The recommendation, with each target no further from the request than one step. `None` where one step is enough, so
    /// that nothing has to be kept.
    ///
    /// A container without a request gets its whole target: there is nothing to take a fraction of.
    pub fn within(
        self,
        recommended: &[RecommendedContainerResources],
        pod: &Pod,
    ) -> Option<Vec<RecommendedContainerResources>> {
        let Self { up, down } = self;
        up.or(down)?;
        let mut stepped = recommended.to_vec();
        let mut shorter = false;
        for container in &mut stepped {
            let name = container.container_name.clone().unwrap_or_default();
            let Some(requests) = current_resources(&name, pod).0 else { continue };
            for (resource, target) in &mut container.target {
                if let Some(step) = self.step(requests, resource, target) {
                    *target = step;
                    shorter = true;
                }
            }
        }
        shorter.then_some(stepped)
    }

    /// Where one step leads to, if the target is further away than that.
    fn step(self, requests: &ResourceList, resource: &str, target: &Quantity) -> Option<Quantity> {
        let request = requests.get(resource).filter(|request| request.signum() > 0)?;
        let (from, to) = (request.milli_value_saturating(), target.milli_value_saturating());
        // CPU moves by thousandths, all else by whole units; at least by one, or a small request would never move.
        let unit = if resource == "cpu" { 1 } else { 1000 };
        let most = |fraction: f64| ((from as f64 * fraction) as i64 / unit).max(1).saturating_mul(unit);
        let step = if to > from {
            from.saturating_add(most(self.up?))
        } else {
            from.saturating_sub(most(self.down?))
        };
        let ends_short = if to > from { step < to } else { step > to };
        ends_short.then(|| Quantity::from_milli(step, target.format()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stepped(step: MaxStep, request: &str, target: &str) -> Option<String> {
        let pod: Pod = serde_json::from_value(json!({
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": request } } }] }
        }))
        .unwrap();
        let target = json!([{ "containerName": "c", "target": { "cpu": target } }]);
        let recommended: Vec<RecommendedContainerResources> = serde_json::from_value(target).unwrap();
        step.within(&recommended, &pod).map(|list| list[0].target["cpu"].to_string())
    }

    #[test]
    fn a_target_further_than_one_step_is_cut() {
        let step = MaxStep { up: Some(0.5), down: Some(0.25) };
        for (request, target, want) in [
            ("100m", "400m", Some("150m")),
            ("100m", "150m", None),
            ("100m", "20m", Some("75m")),
            ("100m", "80m", None),
            ("1m", "100m", Some("2m")),
            ("0", "100m", None),
        ] {
            assert_eq!(stepped(step, request, target).as_deref(), want, "{request} to {target}");
        }
        assert_eq!(stepped(MaxStep::default(), "100m", "400m"), None);
        assert_eq!(stepped(MaxStep { up: None, down: Some(0.5) }, "100m", "400m"), None);
    }

    #[test]
    fn steps_end_at_the_target() {
        let step = MaxStep { up: Some(0.5), down: Some(0.5) };
        for target in ["1m", "7300m"] {
            let mut request = "100m".to_owned();
            let mut steps = 0;
            while let Some(next) = stepped(step, &request, target) {
                request = next;
                steps += 1;
                assert!(steps < 20, "no end in sight at {request}");
            }
            assert!(steps > 3);
        }
    }
}
