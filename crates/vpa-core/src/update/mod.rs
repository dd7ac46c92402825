//! The updater: which pods are brought to their recommendation, by what means, and when.
//!
//! A [`Pass`] takes a [`Snapshot`] of the cluster and hands out [`Step`]s one by one; a program carries them out and
//! reports each [`Outcome`]. The way of a pod through a pass:
//!
//! 1. `snapshot`: its VPA is found by its topmost controller, and its [`Group`] by its own controller;
//! 2. [`decide_resize`] or [`may_evict`]: what budget and resize state allow ([`InPlaceState`] is the state machine);
//! 3. [`accept`]: whether it is worth an update and how urgent;
//! 4. `work` (with `plan`, `attempt` and `settle`): steps in order of urgency, with fallbacks from resize to eviction;
//! 5. [`PassReport`]: what became of it, with a [`Reason`] where it was left alone.
//!
//! What has to be known across passes is in [`UpdaterMemory`].

mod accept;
mod attempt;
mod blocked;
mod boost;
mod config;
mod decide;
mod gradual;
mod group;
mod heartbeat;
mod in_place;
mod memory;
mod nodes;
mod pass;
mod patch;
mod plan;
mod priority;
mod qos;
mod quota;
mod reason;
mod report;
mod restarts;
mod settle;
mod snapshot;
mod step;
mod work;

pub use accept::{Rejection, accept, has_lower_target, meets_eviction_requirements};
pub use attempt::may_end_boost;
pub use boost::{BoostError, OriginalResources, expired_annotations, is_boosted, original_resources};
pub use config::{Config, ConfigError, Features};
pub use decide::{Decision, Situation, decide_resize, may_evict, may_resize};
pub use gradual::MaxStep;
pub use group::{Group, GroupKey, GroupRules, Groups, Replicas, Untracked, is_pending, pod_name};
pub use heartbeat::{Heartbeat, READ_RETRY_WAITS, is_retryable};
pub use in_place::{Fallback, FallbackReason, InPlaceAction, InPlaceState, ResizePhase};
pub use memory::{EVICTIONS_STOPPED_FOR, UpdaterMemory};
pub use nodes::{NoNodes, NodeSource, TooLarge};
pub use pass::{Next, Pass};
pub use patch::{PatchOp, ResizePatch, resize_patch};
pub use priority::{PodPriority, observed_containers, pod_priority};
pub use qos::{QosClass, qos_class};
pub use quota::{QUOTA_WINDOW, QuotaScope};
pub use reason::Reason;
pub use report::{LeftOut, PassReport, PodReport, Tally, Verdict, VpaReport, failure};
pub use restarts::UnexpectedRestart;
pub use snapshot::{Snapshot, replicas, vpa_name};
pub use step::{Action, Event, EventTarget, ObjectRef, Outcome, Refusal, Step, StepId};
pub use work::groups;
