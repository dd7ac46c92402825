//! The updater: brings running pods to their VPA's recommendation.
//!
//! All decisions are `vpa_core::update`'s. This crate is its shell: flags ([`args`]), the stores and the loop ([`run`]),
//! calls to the API server ([`writes`]), events ([`events`]), metrics ([`metrics`]), the log ([`narrate`]) and what was
//! tried before ([`journal`]).

pub mod args;
pub mod events;
mod explain;
pub mod heartbeat;
pub mod journal;
pub mod metrics;
pub mod narrate;
mod nodes;
mod passes;
mod pods;
pub mod writes;

use std::time::Duration;

use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_api::names::{GROUP, lease};
use vpa_api::pod::Pod;
use vpa_core::update::UpdaterMemory;
use vpa_runtime::flags::{CommonFlags, Scope};
use vpa_runtime::nodes::StoredNode;
use vpa_runtime::preflight::{self, Permission};
use vpa_runtime::targets::{self, Targets};
use vpa_runtime::{Component, Error, Shell, StoreOptions, store};

use args::Args;
use events::EventWriter;
use explain::Explainer;
use heartbeat::HeartbeatReader;
use metrics::UpdaterMetrics;
use nodes::Nodes;
use passes::Updater;

/// What this program is.
pub const COMPONENT: Component = Component {
    name: "vpa-updater",
    about: "Brings running pods to the recommendation of their VerticalPodAutoscaler: resizes them in place or evicts them.",
    default_address: ":8943",
    lease_name: Some(lease::UPDATER),
};

/// All flags, for the reference of flags.
pub fn command() -> clap::Command {
    vpa_runtime::flags::command::<Args>(&COMPONENT)
}

/// Pods that are worth looking at: they have a node and have not ended.
const POD_FIELDS: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";

/// Kubernetes version from which the memory limit of a container that keeps running can be lowered.
const LOWERS_MEMORY_LIMITS: (u32, u32) = (1, 34);

/// Longest time that the end of the program waits for events: well within the 25 s that it has.
const EVENTS_DRAIN_MAX: Duration = Duration::from_secs(5);

/// Passes without a sign of life after which the program counts as dead; the Go suite's number.
const HEALTH_PASSES: u32 = 5;

/// Runs the updater until it is asked to stop.
///
/// # Errors
/// What keeps it from starting, and the loss of leadership.
pub async fn run(args: Args, shell: Shell) -> Result<(), Error> {
    let Args { common, leader, heartbeat, policy, updater_interval, max_parallel_updates } = args;
    let CommonFlags { kube, scope, log: _, address, profiling, feature_gates } = common;
    let scope = scope.scope()?;
    // Looked at before anything is asked of the cluster; whether it lowers memory limits is known later.
    let mut config = args::config(&policy, updater_interval, feature_gates, &scope)?;
    let memory = UpdaterMemory::new(&config).map_err(|error| Error::other("reading the flags", error))?;
    let metrics = UpdaterMetrics::new(shell.registry())?;
    let explainer = Explainer::default();
    let asked = explainer.clone();
    shell.pages().add("pods", move |query| asked.page(query));
    shell.serve(&address, profiling).await?;
    let cluster = shell.connect(&kube).await?;
    preflight::crds(&cluster, &[preflight::VPA_CRD]).await?;
    preflight::permissions(&cluster, &permissions(&scope)).await?;
    config.lowers_memory_limits = cluster.at_least(LOWERS_MEMORY_LIMITS.0, LOWERS_MEMORY_LIMITS.1);
    cluster.pace.set_most(max_parallel_updates.max(1));

    let vpas = shell.watch::<VerticalPodAutoscaler>(&cluster, StoreOptions::named("vpas").scope(&scope));
    let pods = shell.watch::<Pod>(
        &cluster,
        StoreOptions::named("pods").scope(&scope).fields(POD_FIELDS).modify(pods::slim),
    );
    let limit_ranges = shell.watch::<LimitRange>(&cluster, StoreOptions::named("limitranges").scope(&scope));
    let nodes = shell.watch::<StoredNode>(&cluster, StoreOptions::named("nodes").optional());
    let targets = Targets::start(&shell, &cluster, &scope);
    let (events, event_task) = EventWriter::new(cluster.client.clone());
    let written = tokio::spawn(event_task.run(shell.stopping()));

    let Some(leadership) = shell.lead(&cluster, &leader).await? else { return Ok(()) };
    shell.health().phase("waiting for the cluster's state");
    if !store::wait_all(&[&vpas, &pods, &limit_ranges, &targets], &shell.stopping()).await {
        leadership.release().await;
        return Ok(());
    }
    let interval = Duration::from(updater_interval);
    shell.health().monitor(interval * HEALTH_PASSES);
    shell.health().phase("updating");
    let mut updater = Updater {
        heartbeat: HeartbeatReader::new(&cluster, &heartbeat),
        client: cluster.client.clone(),
        pace: cluster.pace.clone(),
        write_workers: shell.metrics().workers.clone(),
        narrator: narrate::Narrator::default(),
        explainer,
        nodes: Nodes(nodes),
        config,
        vpas,
        pods,
        limit_ranges,
        targets,
        metrics,
        events,
    };
    updater.run(&shell, &leadership, memory, interval).await;
    // What was done is told before leadership goes, but nobody waits for it for long.
    drop(updater);
    let _ = tokio::time::timeout(EVENTS_DRAIN_MAX, written).await;
    leadership.release().await;
    Ok(())
}

fn permissions(scope: &Scope) -> Vec<Permission> {
    let namespace = scope.namespace.as_deref();
    let mut wanted = targets::permissions(scope);
    let read = |group, resource, purpose| {
        ["list", "watch"].map(|verb| Permission::new(verb, group, resource, purpose))
    };
    wanted.extend(
        [
            read(GROUP, "verticalpodautoscalers", "read recommendations"),
            read("", "pods", "find pods"),
            read("", "limitranges", "keep to the limits of namespaces"),
        ]
        .into_iter()
        .flatten()
        .chain([
            Permission::new("create", "", "pods/eviction", "evict pods"),
            Permission::new("patch", "", "pods/resize", "resize pods in place"),
            Permission::new("patch", "", "pods", "annotate resized pods"),
            Permission::new("create", "", "events", "tell what was done").optional(),
            Permission::new("patch", "", "events", "tell what was done").optional(),
        ])
        .map(|permission| permission.in_namespace(namespace)),
    );
    // Nodes have no namespace. Without them the kubelet is the first to say that a resize does not fit.
    let nodes = read("", "nodes", "see whether a resize fits on its node");
    wanted.extend(nodes.map(Permission::optional));
    wanted
}
