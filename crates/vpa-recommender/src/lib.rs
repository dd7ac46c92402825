//! The recommender: watches VPAs, their pods and what these use, and writes what they should request.
//!
//! # One cycle
//! ```text
//!  metrics.k8s.io ─┐
//!  stores: VPAs,   ├─▶ observations ─▶ vpa_core::model::ClusterState ─▶ vpa_core::recommend::plan
//!  pods, targets  ─┤                                                          │
//!  OOM kills      ─┘                     outcomes ◀─ executor ◀─ statuses, checkpoints
//! ```
//! All of it happens in `cycle::Cycle::run`, in this order: VPAs, pods, usage, OOM kills, removed pods, plan, writes.
//! Nothing is decided while writing. What could not be written is in the next plan again.
//!
//! # Bounds
//! The model is bounded by the pods that there are plus a history of a few days (garbage collection every hour); OOM
//! kills that wait for their pod by `inbox::MAX_WAITING`; a cycle's writes by a minute for statuses and `--checkpoints-timeout` for checkpoints, of which each object is made
//! when its turn comes.

mod args;
mod checkpoints;
mod cycle;
mod external;
mod history;
mod inbox;
mod metrics;
mod pods;
mod statuses;
#[cfg(test)]
mod testing;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vpa_api::VerticalPodAutoscaler;
use vpa_core::model::oom::{ooms_of_event, ooms_of_pod};
use vpa_runtime::flags::{CommonFlags, Scope};
use vpa_runtime::preflight::{self, Permission};
use vpa_runtime::targets::{self, Targets};
use vpa_runtime::{Component, Error, Shell, Store, StoreEvent, StoreOptions, clock, store};

pub use args::Args;
use args::{HistorySource, Options, UsageSource};
use cycle::{Cycle, Sources};
use history::{History, HistoryMetrics};
use inbox::Inbox;
use metrics::RecommenderMetrics;
use pods::StoredPod;

/// What this program is.
pub const COMPONENT: Component = Component {
    name: "vpa-recommender",
    about: "Recommends requests for the pods of VerticalPodAutoscalers.",
    default_address: ":8942",
    lease_name: Some(vpa_api::names::lease::RECOMMENDER),
};

/// The command line, for the flag reference.
pub fn command() -> clap::Command {
    vpa_runtime::flags::command::<Args>(&COMPONENT)
}

/// The program: from flags to the end of its loop.
///
/// # Errors
/// When it cannot start, or loses leadership.
pub async fn run(args: Args, shell: Shell) -> Result<(), Error> {
    let Args { common, leader, recommender } = args;
    let CommonFlags { kube, scope, log: _, address, profiling, feature_gates } = common;
    let scope = scope.scope()?;
    let options = recommender.options(&scope, &feature_gates)?;
    let metrics = Arc::new(RecommenderMetrics::new(shell.registry())?);
    let history_metrics = Arc::new(HistoryMetrics::new(shell.registry())?);
    let history = match &options.history {
        HistorySource::Checkpoints => None,
        HistorySource::Prometheus(prometheus) => Some(History::new(prometheus, history_metrics)?),
    };
    shell.serve(&address, profiling).await?;
    let cluster = shell.connect(&kube).await?;
    preflight::crds(&cluster, &[preflight::VPA_CRD, preflight::CHECKPOINT_CRD]).await?;
    preflight::permissions(&cluster, &permissions(&scope, &options)).await?;

    let inbox = Inbox::default();
    let sources = Sources {
        vpas: shell.watch(&cluster, StoreOptions::named("vpas").scope(&scope).modify(slim)),
        pods: watch_pods(&shell, &cluster, &scope, &inbox, &metrics),
        targets: Targets::start(&shell, &cluster, &scope),
        inbox: inbox.clone(),
        clock: clock::wall,
    };
    watch_evictions(&shell, &cluster, &scope, &inbox, &metrics);

    let Some(leadership) = shell.lead(&cluster, &leader).await? else { return Ok(()) };
    let stop = shell.stopping();
    if !store::wait_all(&[&sources.vpas, &sources.pods, &sources.targets], &stop).await {
        leadership.release().await;
        return Ok(());
    }
    let interval = options.interval;
    let mut cycle = Cycle::new(cluster, sources, options, metrics, shell.metrics());
    let restored = match &history {
        None => cycle.restore(&stop).await,
        Some(history) => {
            let progress = history.progress();
            shell.health().check("history", move || progress.ready());
            shell.health().phase("reading history from Prometheus");
            cycle.load_history(history, &stop).await
        }
    };
    if !restored {
        leadership.release().await;
        return Ok(());
    }
    shell.health().phase("recommending");
    shell.health().monitor(interval * 5);
    let mut due = Instant::now();
    loop {
        if !leadership.holds() {
            break;
        }
        cycle.run(&stop, &leadership.token()).await;
        shell.health().active();
        // A cycle that takes longer than the interval is followed by the next one at once, not by a burst of them.
        due = (due + interval).max(Instant::now());
        if !shell.sleep(due - Instant::now()).await {
            break;
        }
    }
    if leadership.holds() {
        cycle.finish(&leadership.token()).await;
    }
    leadership.release().await;
    Ok(())
}

/// Pods that run or ran; those that wait for a node have no usage. Their OOM kills go to the inbox.
fn watch_pods(
    shell: &Shell,
    cluster: &vpa_runtime::Cluster,
    scope: &Scope,
    inbox: &Inbox,
    metrics: &Arc<RecommenderMetrics>,
) -> Store<StoredPod> {
    let (inbox, metrics) = (inbox.clone(), metrics.clone());
    let options = StoreOptions::named("pods").scope(scope).fields("status.phase!=Pending").on_event(
        move |event: StoreEvent<'_, StoredPod>| {
            if let StoreEvent::Applied { before, now } = event {
                let ooms = ooms_of_pod(before.map(|before| &***before), now);
                for oom in &ooms {
                    metrics.observe_oom_source(now, &oom.container.container);
                }
                inbox.put(ooms);
                metrics.observe_inbox(inbox.len());
            }
        },
    );
    shell.watch(cluster, options)
}

/// Drops what the recommender does not read, and the room that lists had to grow.
fn slim(vpa: &mut VerticalPodAutoscaler) {
    if let Some(annotations) = &mut vpa.metadata.annotations {
        // What was applied last is the whole object once more.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    if let Some(status) = &mut vpa.status {
        status.conditions.iter_mut().for_each(Vec::shrink_to_fit);
        let containers = status.recommendation.as_mut().and_then(|r| r.container_recommendations.as_mut());
        containers.into_iter().for_each(Vec::shrink_to_fit);
    }
}

/// Evictions for want of memory, which the kubelet tells of in events.
fn watch_evictions(
    shell: &Shell,
    cluster: &vpa_runtime::Cluster,
    scope: &Scope,
    inbox: &Inbox,
    metrics: &Arc<RecommenderMetrics>,
) {
    let (inbox, metrics) = (inbox.clone(), metrics.clone());
    let options = StoreOptions::named("evictions").scope(scope).fields("reason=Evicted").optional().on_event(
        move |event| {
            if let StoreEvent::Applied { before: None, now } = event {
                inbox.put(ooms_of_event(now));
                metrics.observe_inbox(inbox.len());
            }
        },
    );
    shell.watch::<k8s_openapi::api::core::v1::Event>(cluster, options);
}

fn permissions(scope: &Scope, options: &Options) -> Vec<Permission> {
    let group = vpa_api::names::GROUP;
    let checkpoints = "verticalpodautoscalercheckpoints";
    let mut all = targets::permissions(scope);
    let own = [
        Permission::new("list", "", "pods", "find the pods of VPAs"),
        Permission::new("watch", "", "pods", "find the pods of VPAs"),
        Permission::new("get", group, "verticalpodautoscalers", "read VPAs again after a conflict"),
        Permission::new("list", group, "verticalpodautoscalers", "read VPAs"),
        Permission::new("watch", group, "verticalpodautoscalers", "read VPAs"),
        Permission::new("patch", group, "verticalpodautoscalers/status", "write recommendations"),
        Permission::new("list", "", "events", "see evictions for want of memory").optional(),
        Permission::new("watch", "", "events", "see evictions for want of memory").optional(),
    ];
    all.extend(own);
    if options.history.keeps_checkpoints() {
        all.extend([
            Permission::new("list", group, checkpoints, "restore history after a restart"),
            Permission::new("create", group, checkpoints, "keep history across restarts"),
            Permission::new("patch", group, checkpoints, "keep history across restarts"),
            Permission::new("delete", group, checkpoints, "remove history of VPAs that are gone"),
        ]);
    }
    all.push(match options.usage {
        UsageSource::Resource => Permission::new("list", "metrics.k8s.io", "pods", "read usage"),
        // Metrics are the resources of this group, whatever their names.
        UsageSource::External { .. } => Permission::new("list", "external.metrics.k8s.io", "*", "read usage"),
    });
    all.into_iter().map(|permission| permission.in_namespace(scope.namespace.as_deref())).collect()
}

/// Longest time for writing checkpoints at the end: leaves time to release the lease before the process has to be gone.
const FINISH_MAX: Duration = Duration::from_secs(15);
