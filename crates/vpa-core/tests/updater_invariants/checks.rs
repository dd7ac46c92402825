//! Each step against the model before it is answered, and each verdict at the end of a pass.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use vpa_core::update::{Action, FallbackReason, Outcome, PassReport, Reason, Rejection, Step, Verdict};

use crate::model::Model;
use crate::world::{SimPod, World, cpu_after, evicts};

const DEFERRED_FALLBACK: SignedDuration = SignedDuration::from_mins(5);
const IN_PROGRESS_FALLBACK: SignedDuration = SignedDuration::from_hours(1);

/// What the API server answered to the steps of a pass, by pod UID, in order.
pub(crate) type Answers = BTreeMap<String, Vec<(bool, Outcome)>>;

fn reason_of(pod: &SimPod) -> &'static str {
    match pod.condition {
        None => "None",
        Some((_, "")) => "InProgress",
        Some((_, reason)) => reason,
    }
}

/// Whether a resize of the pod would ask more of its node than that has.
fn is_too_large(pod: &SimPod, asked: i64) -> bool {
    asked > pod.spec_m && pod.allocatable_m().is_some_and(|allocatable| asked > allocatable)
}

/// Whether a resize that is under way has to be waited for, where evictions are a way out.
fn waits(pod: &SimPod, model: &Model, now: Timestamp) -> bool {
    let known = &model.known[&pod.uid()];
    match reason_of(pod) {
        "Deferred" => !known.longer_than(DEFERRED_FALLBACK, now),
        "InProgress" => !known.longer_than(IN_PROGRESS_FALLBACK, now),
        _ => false,
    }
}

pub(crate) fn check_step(step: &Step, pod: &SimPod, model: &mut Model, answers: &Answers, now: Timestamp) {
    let budget = &model.budgets[pod.owner];
    assert!(model.pass.heartbeat, "a step without the admission controller");
    if evicts(step) {
        check_eviction(step, pod, model, answers, now);
        model.disrupt(pod.owner, now);
        return;
    }
    assert_ne!(budget.mode, "Recreate", "it resizes");
    let free_of_budget = model.settings.skip_budget && !model.may_restart(pod);
    // As in the Go suite the flag lifts the minimum of replicas for all resizes.
    let large_enough = !budget.small || model.settings.skip_budget;
    assert!(!pod.pending && (free_of_budget || (budget.has_room() && large_enough)), "{budget:?}");
    let asked = cpu_after(step);
    assert_eq!(asked, model.asked(pod), "one step of {pod:?}");
    assert_ne!(asked, pod.spec_m, "nothing new is asked");
    assert!(!is_too_large(pod, asked), "{asked}m on a node that has {:?}", pod.allocatable_m());
    let in_place = budget.mode == "InPlace";
    let known = model.known.get_mut(&pod.uid()).unwrap();
    match reason_of(pod) {
        "None" => {}
        "Infeasible" if in_place => {}
        "Error" if in_place => {
            assert!(known.retry_at.is_none_or(|at| now >= at), "too soon: {known:?}");
            known.retried(now);
        }
        phase => panic!("resized while {phase}"),
    }
    if in_place {
        let before = known.infeasible;
        assert!(before.is_none_or(|before| asked < before), "{asked}m again, after {before:?}");
        if reason_of(pod) == "Infeasible" {
            known.infeasible = Some(asked);
        }
    }
    if model.may_restart(pod) {
        model.disrupt(pod.owner, now);
    }
}

fn check_eviction(step: &Step, pod: &SimPod, model: &Model, answers: &Answers, now: Timestamp) {
    let Action::Evict { fallback } = &step.action else { return };
    let budget = &model.budgets[pod.owner];
    assert!(pod.pending || (budget.has_room() && !budget.small), "{budget:?}");
    assert_eq!(cpu_after(step), model.pass.target_m, "a new pod gets the whole recommendation");
    assert!(
        pod.spec_m != model.pass.target_m || pod.running_m != model.pass.target_m,
        "nothing would change"
    );
    let refused = answers.get(&pod.uid()).is_some_and(|answers| {
        answers.iter().any(|(evicted, answer)| !evicted && matches!(answer, Outcome::Refused(_)))
    });
    let justified = match (budget.mode, fallback) {
        ("Recreate", None) => pod.pending || !waits(pod, model, now),
        ("InPlaceOrRecreate", Some(why)) => match why {
            FallbackReason::Infeasible => reason_of(pod) == "Infeasible",
            FallbackReason::Failed => reason_of(pod) == "Error",
            FallbackReason::Unclear => reason_of(pod) == "SomethingNew",
            FallbackReason::DeferredTooLong => reason_of(pod) == "Deferred" && !waits(pod, model, now),
            FallbackReason::InProgressTooLong => reason_of(pod) == "InProgress" && !waits(pod, model, now),
            FallbackReason::Refused => refused,
            FallbackReason::NodeTooSmall => is_too_large(pod, model.asked(pod)),
            FallbackReason::QosClass => false,
        },
        _ => false,
    };
    assert!(justified, "{} evicts {pod:?} for {fallback:?}", budget.mode);
}

/// Takes in an answer.
pub(crate) fn note(
    step: &Step,
    pod: &SimPod,
    outcome: &Outcome,
    taken: Timestamp,
    model: &mut Model,
    now: Timestamp,
) {
    let maybe_done = matches!(outcome, Outcome::Done | Outcome::Unknown(_));
    if maybe_done {
        model.update(pod, evicts(step), now);
    } else if evicts(step) || model.may_restart(pod) {
        model.take_back(pod.owner, taken);
    }
    if let (Outcome::Refused(refusal), false) = (outcome, evicts(step))
        && refusal.node_capacity
        && model.budgets[pod.owner].mode == "InPlace"
    {
        model.known.entry(pod.uid()).or_default().infeasible = Some(cpu_after(step));
    }
}

/// Each pod was resized or evicted, or is left alone for a reason that is true.
pub(crate) fn check_report(report: &PassReport, world: &World, model: &mut Model, answers: &Answers) {
    assert_eq!(report.pods().count(), world.pods.len(), "each pod is in the report");
    for (_, one) in report.pods() {
        let pod = &world.pods[one.object.metadata.uid.as_deref().unwrap()];
        let last = answers.get(&pod.uid()).and_then(|answers| answers.last());
        let done = |evicted| matches!(last, Some((how, Outcome::Done)) if *how == evicted);
        let holds = match &one.verdict {
            Verdict::Resized => done(false),
            Verdict::Evicted(_) => done(true),
            Verdict::BoostEnded { .. } => false,
            Verdict::Left(Reason::PassOver) => !report.complete,
            Verdict::Left(reason) => {
                is_true(reason, pod, model, last) && (last.is_none() || !done(true) && !done(false))
            }
        };
        assert!(
            holds,
            "{:?}, last answer {last:?}, mode {}: {pod:?}, {:?}",
            one.verdict,
            model.budgets[pod.owner].mode,
            model.known.get(&pod.uid())
        );
        if matches!(one.verdict, Verdict::Left(Reason::InfeasibleRemembered))
            && reason_of(pod) == "Infeasible"
        {
            // The kubelet has what would be asked for already, so that counts as tried.
            let asked = model.asked(pod);
            let known = model.known.get_mut(&pod.uid()).unwrap();
            known.infeasible = Some(known.infeasible.map_or(asked, |before| before.min(asked)));
        }
    }
}

fn is_true(reason: &Reason, pod: &SimPod, model: &Model, last: Option<&(bool, Outcome)>) -> bool {
    let begun = model.begun;
    let budget = &model.budgets[pod.owner];
    let (asked, target) = (model.asked(pod), model.pass.target_m);
    let known = &model.known[&pod.uid()];
    let (resizes, in_place) = (budget.mode != "Recreate", budget.mode == "InPlace");
    let has_target = pod.spec_m == target && pod.running_m == target;
    let remembered = known.infeasible.is_some_and(|before| asked >= before);
    match reason {
        Reason::HeartbeatStale(_) => !model.pass.heartbeat,
        Reason::Untracked(_) => budget.small,
        Reason::Pending => pod.pending && resizes,
        Reason::NotWorthIt(Rejection::NotLowerThanInfeasible) | Reason::InfeasibleRemembered => {
            in_place && (remembered || (reason_of(pod) == "Infeasible" && asked == pod.spec_m))
        }
        Reason::NotWorthIt(_) => pod.running_m == target,
        Reason::Resizing { .. } if in_place => match reason_of(pod) {
            "None" | "Infeasible" => false,
            "Error" => known.retry_at.is_some_and(|at| begun < at),
            _ => true,
        },
        Reason::Resizing { .. } => waits(pod, model, begun),
        Reason::AlreadyAsked => resizes && asked == pod.spec_m && asked != pod.running_m,
        Reason::NothingWouldChange => has_target,
        Reason::Budget { .. } => !budget.has_room(),
        Reason::DisruptionLimit { .. } => {
            let (all, own) = model.in_the_hour(pod.owner, begun);
            // What came to nothing in this pass had used up room for a while.
            let is_reached = |count: usize, most: u32| most > 0 && count + model.taken_back >= most as usize;
            is_reached(all, model.settings.per_hour) || is_reached(own, model.settings.per_hour_per_vpa)
        }
        Reason::NodeTooSmall(_) => in_place && is_too_large(pod, asked),
        Reason::RecreatedUnchanged { .. } => !model.webhook && model.evicted_ever.contains(&pod.owner),
        Reason::DisruptionBudget(_) => matches!(last, Some((true, Outcome::Blocked(_)))),
        Reason::Refused(_) => {
            matches!(last, Some((evicted, Outcome::Refused(_))) if *evicted || in_place)
        }
        Reason::Transient(_) => matches!(last, Some((_, Outcome::Transient(_) | Outcome::Unknown(_)))),
        Reason::RateLimited => model.settings.rate > 0.0,
        _ => false,
    }
}
