//! The tables of `docs/in-place.md` against the code. The one of phases and modes is read beside the code.

// Helpers outside of test functions; what they panic on is a document that does not have its form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod updater_world;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use updater_world::world::{Nodes, World, changed, done, pods, resize_policy, words};
use updater_world::{pod, vpa};
use vpa_core::update::{Action, InPlaceState, Outcome, PassReport, Refusal, ResizePhase, Step};

/// The rows of the table whose first column has this title, without its head.
fn table(title: &str) -> (Vec<&'static str>, Vec<Vec<&'static str>>) {
    let document = include_str!("../../../docs/in-place.md");
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    let mut lines = document.lines().skip_while(|line| !line.starts_with(&format!("| {title} |")));
    let head = cells(lines.next().expect(title));
    let rows: Vec<Vec<_>> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == head.len()), "{title}");
    (head, rows)
}

fn name(state: InPlaceState) -> &'static str {
    match state {
        InPlaceState::Settled => "Settled",
        InPlaceState::Deferred { .. } => "Deferred",
        InPlaceState::InProgress { .. } => "InProgress",
        InPlaceState::Infeasible { .. } => "Infeasible",
        InPlaceState::Failed { .. } => "Failed",
        InPlaceState::Unclear { .. } => "Unclear",
    }
}

/// What becomes of a state on a phase, in the words of the document.
fn transition(state: InPlaceState, phase: ResizePhase, now: Timestamp) -> String {
    let next = state.observe(phase, now);
    let begins = state == InPlaceState::Settled && next != InPlaceState::Settled;
    if begins {
        assert_eq!(next.since(), Some(now));
        return format!("{}, from now", name(next));
    }
    assert!(next.since().is_none() || next.since() == state.since(), "{state:?} to {next:?}");
    match (state, next) {
        (InPlaceState::Failed { .. }, InPlaceState::Failed { .. }) => {
            assert_eq!(next, state);
            "Failed, retries kept".to_owned()
        }
        _ => name(next).to_owned(),
    }
}

#[test]
fn states_follow_each_other_as_the_document_says() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let (head, rows) = table("state");
    assert_eq!(head[1..], ResizePhase::ALL.map(ResizePhase::as_str));
    let states = ResizePhase::ALL.map(|phase| InPlaceState::Settled.observe(phase, at(0)).retried(at(0)));
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), states.map(name));
    for (state, row) in states.into_iter().zip(rows) {
        for (phase, want) in ResizePhase::ALL.into_iter().zip(&row[1..]) {
            assert_eq!(transition(state, phase, at(60)), **want, "{state:?} on {phase}");
        }
    }
}

/// The fate of the first pod, in the words of the document.
fn fate(report: &PassReport) -> &'static str {
    match words(report)[0] {
        "resized" => "resize",
        "evicted" => "evict",
        reason => reason,
    }
}

fn refusal(code: u16, node_capacity: bool) -> Refusal {
    Refusal { code, node_capacity, message: "no".into(), ..Refusal::default() }
}

/// Answers each resize like this, and each eviction with the refusal of a disruption budget.
fn to_resizes(outcome: Outcome) -> impl Fn(&Step) -> Outcome {
    move |step| match step.action {
        Action::Evict { .. } => Outcome::Blocked("budget".into()),
        _ => outcome.clone(),
    }
}

/// Recommends 200m within these bounds.
fn bounds(world: &mut World, lower: &str, upper: &str) {
    let vpa = Arc::make_mut(&mut world.vpas[0]);
    let recommendation = vpa.status.as_mut().unwrap().recommendation.as_mut().unwrap();
    let container = &mut recommendation.container_recommendations.as_mut().unwrap()[0];
    container.lower_bound = serde_json::from_value(json!({ "cpu": lower })).unwrap();
    container.upper_bound = serde_json::from_value(json!({ "cpu": upper })).unwrap();
}

/// A cluster in which a check of the document holds for the first pod and none before it does.
fn where_it_holds(check: &str, mode: &str) -> World {
    let mut world = World::new(mode, 200, vec![pod("w", 0, false, 50, None), pod("w", 1, false, 200, None)]);
    match check {
        "its owner has fewer live pods than the minimum" => return world.with(|c| c.min_replicas = 3),
        "it does not run yet" => world.pods[0] = pod("w", 0, true, 50, None),
        "nothing is recommended" => Arc::make_mut(&mut world.vpas[0]).status = None,
        "its node could not take as much before" => {
            drop(world.pass(1, to_resizes(Outcome::of_status(refusal(403, true), false))));
        }
        "it is within its bounds and young" => {
            bounds(&mut world, "10m", "1");
            let now = world.now;
            world.pods = changed(world.pods, |pod| {
                pod.status.start_time = serde_json::from_value(json!(now.to_string())).unwrap();
            });
        }
        "the budget of its owner is used up" => world.pods[1] = pod("w", 1, true, 200, None),
        "it already has what it would get" => {
            world.pods = pods(2, 200);
            bounds(&mut world, "300m", "300m");
        }
        "its spec asks for it already" => {
            let status = json!([{ "name": "c", "restartCount": 0, "resources": { "requests": { "cpu": "50m", "memory": "100Mi" } } }]);
            world.pods = changed(pods(2, 200), |pod| {
                pod.status.container_statuses = serde_json::from_value(status.clone()).unwrap();
            });
        }
        "its QoS class would change" => {
            world.pods = changed(pods(2, 50), |pod| pod.spec.containers[0].resources = Default::default());
        }
        "its node is too small" => {
            world.pods = changed(world.pods, |pod| pod.spec.node_name = Some("n".into()));
            let allocatable = serde_json::from_value(json!({ "cpu": "150m" })).unwrap();
            world.nodes = Nodes(BTreeMap::from([("n".to_owned(), allocatable)]));
        }
        "it may restart, and the hourly limit is reached" => {
            world.pods = changed(world.pods, resize_policy("cpu", "RestartContainer"));
            world = world.with(|config| config.max_disruptions_per_hour = 1);
            drop(world.pass(1, done));
        }
        "none of these" => {}
        other => panic!("no cluster for {other:?}"),
    }
    world
}

#[test]
fn checks_before_a_resize_lead_where_the_document_says() {
    let (head, rows) = table("check");
    for row in rows.iter().filter(|row| row[1] != "table above") {
        for (mode, want) in head.iter().zip(row).skip(1) {
            let (_, report) = where_it_holds(row[0], mode).pass(1, done);
            assert_eq!(fate(&report), *want, "{}, {mode}", row[0]);
        }
    }
}

/// Answers of which a row of the document speaks.
fn answers(row: &str) -> Vec<Outcome> {
    let status = |code, node_capacity| Outcome::of_status(refusal(code, node_capacity), false);
    match row {
        "taken" => vec![Outcome::Done],
        "refused (400, 403, 422)" => [400, 403, 422].map(|code| status(code, false)).into(),
        "refused, beyond the node's capacity (403 NodeCapacity)" => vec![status(403, true)],
        "passing (404, 409, 429, 503)" => [404, 409, 429, 503].map(|code| status(code, false)).into(),
        "unknown (500, 502, 504, time-out, connection lost)" => {
            let lost = Outcome::Unknown("lost".into());
            [500, 502, 504].map(|code| status(code, false)).into_iter().chain([lost]).collect()
        }
        "not sent: another replica leads" => vec![Outcome::NotLeader],
        "not sent: shutting down" => vec![Outcome::ShuttingDown],
        other => panic!("no answer for {other:?}"),
    }
}

/// Four pods of which one may be disrupted, or which share one disruption an hour.
fn scarce(mode: &str, by_hour: bool) -> World {
    let pods = changed(pods(4, 50), resize_policy("cpu", "RestartContainer"));
    World::new(mode, 200, pods).with(|config| {
        config.eviction_tolerance = if by_hour { 1.0 } else { 0.25 };
        config.max_disruptions_per_hour = u32::from(by_hour);
    })
}

/// Whether an answer uses up what is scarce.
fn uses_up(answer: &Outcome, by_hour: bool) -> bool {
    let mut first = Some(answer.clone());
    let (_, report) = scarce("InPlace", by_hour).pass(1, |_| first.take().unwrap_or(Outcome::Done));
    let taken = matches!(answer, Outcome::Done);
    let resized = words(&report).iter().filter(|word| **word == "resized").count() - usize::from(taken);
    // Where the pass ends with the answer, there is no second pod to see it by.
    resized == 0 && !matches!(answer, Outcome::NotLeader | Outcome::ShuttingDown)
}

/// What the pass after an answer does in mode InPlace, with the same and with a lower recommendation.
fn next_pass(answer: &Outcome) -> &'static str {
    let asks = |cpu_m: i64| {
        let mut world = scarce("InPlace", false);
        drop(world.pass(1, |_| answer.clone()));
        world.vpas = vec![vpa("w", "InPlace", cpu_m)];
        !world.pass(1, |_| answer.clone()).0.is_empty()
    };
    match (asks(200), asks(150)) {
        (true, true) => "asks again",
        (false, true) => "asks for less only",
        other => panic!("no words for {other:?}"),
    }
}

#[test]
fn answers_to_a_resize_mean_what_the_document_says() {
    let (head, rows) = table("answer");
    for row in rows {
        for answer in answers(row[0]) {
            for (mode, want) in head.iter().zip(&row).skip(1).take(2) {
                let answer_all = |step: &Step| match step.action {
                    Action::Evict { .. } => Outcome::Done,
                    _ => answer.clone(),
                };
                let (_, report) = scarce(mode, false).pass(1, answer_all);
                assert_eq!(fate(&report), *want, "{}, {mode}", row[0]);
            }
            for by_hour in [false, true] {
                assert_eq!(uses_up(&answer, by_hour), row[3] == "yes", "{}, hour: {by_hour}", row[0]);
            }
            if row[4] != "by its state" {
                assert_eq!(next_pass(&answer), row[4], "{}", row[0]);
            }
        }
    }
}
