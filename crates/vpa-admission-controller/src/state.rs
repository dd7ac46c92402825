//! The cluster as reviews see it, fed by watches.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::time::Instant;
use vpa_api::VerticalPodAutoscaler;
use vpa_api::limit_range::LimitRange;
use vpa_core::policy::{LimitRangeSource, LimitRanges};
use vpa_core::target::{ControllerKey, ControllerSource, Lookup, VpaIndex, VpaSource};
use vpa_runtime::flags::Scope;
use vpa_runtime::store::{Synced, wait_all};
use vpa_runtime::targets::Targets;
use vpa_runtime::{Cluster, Shell, Store, StoreEvent, StoreOptions};

use crate::surroundings::Neighbourhood;
use crate::webhook::{View, Views};

/// How long a controller of a well-known kind may be on its way. It is created milliseconds before its first pod, and
/// the watch needs about as long.
const OWNER_LAG_MAX: Duration = Duration::from_millis(500);

/// Time between two looks while waiting.
const POLL: Duration = Duration::from_millis(10);

/// VPAs by target, kept up to date object by object: a change of one costs the same with ten VPAs as with ten thousand.
#[derive(Default)]
struct Index(RwLock<VpaIndex>);

impl Index {
    fn on_event(&self, scope: &Scope, event: &StoreEvent<'_, VerticalPodAutoscaler>) {
        let admits =
            |vpa: &VerticalPodAutoscaler| scope.admits(vpa.metadata.namespace.as_deref().unwrap_or_default());
        match event {
            StoreEvent::Applied { before, now } => {
                let mut index = self.0.write();
                if let Some(before) = before {
                    index.remove(before);
                }
                if admits(now) {
                    index.insert((*now).clone());
                }
            }
            StoreEvent::Deleted(vpa) => self.0.write().remove(vpa),
            StoreEvent::Synced => {}
        }
    }
}

impl VpaSource for Index {
    fn any_in(&self, namespace: &str) -> bool {
        self.0.read().any_in(namespace)
    }

    fn targeting(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<VerticalPodAutoscaler>> {
        self.0.read().targeting(namespace, kind, name)
    }
}

struct NamespaceLimits(Store<LimitRange>);

impl LimitRangeSource for NamespaceLimits {
    fn limit_ranges(&self, namespace: &str) -> Arc<LimitRanges> {
        let objects = self.0.in_namespace(namespace);
        Arc::new(LimitRanges::merge(objects.iter().map(Arc::as_ref)))
    }
}

/// Watches of everything that reviews look at.
pub struct State {
    vpas: Store<VerticalPodAutoscaler>,
    limit_ranges: Store<LimitRange>,
    targets: Targets,
    view: View,
}

impl State {
    /// Starts the watches.
    pub fn start(shell: &Shell, cluster: &Cluster, scope: &Scope) -> Self {
        let index = Arc::new(Index::default());
        let vpas = {
            let (index, scope) = (index.clone(), scope.clone());
            let options = StoreOptions::named("verticalpodautoscalers").scope(&scope);
            let options = options.modify(slim).on_event(move |event| index.on_event(&scope, &event));
            shell.watch::<VerticalPodAutoscaler>(cluster, options)
        };
        let limit_ranges =
            shell.watch::<LimitRange>(cluster, StoreOptions::named("limitranges").scope(scope));
        let targets = Targets::start(shell, cluster, scope);
        let view = View {
            vpas: index,
            controllers: Arc::new(targets.clone()),
            limit_ranges: Arc::new(NamespaceLimits(limit_ranges.clone())),
            surroundings: Some(Arc::new(Neighbourhood::start(shell, cluster, scope))),
        };
        Self { vpas, limit_ranges, targets, view }
    }

    /// Waits until everything is listed. False when the program has to end before that.
    pub async fn wait_synced(&self, shell: &Shell) -> bool {
        let stores: [&(dyn Synced + Sync); 3] = [&self.vpas, &self.limit_ranges, &self.targets];
        wait_all(&stores, &shell.stopping()).await
    }
}

/// Drops what reviews do not look at: half of a VPA's memory are the bounds of its recommendation.
pub fn slim(vpa: &mut VerticalPodAutoscaler) {
    vpa.metadata.annotations = None;
    vpa.metadata.labels = None;
    vpa.metadata.managed_fields = None;
    vpa.metadata.owner_references = None;
    vpa.metadata.finalizers = None;
    let Some(status) = &mut vpa.status else { return };
    status.conditions = None;
    let recommendation = status.recommendation.iter_mut();
    for container in recommendation.flat_map(|all| all.container_recommendations.iter_mut().flatten()) {
        container.lower_bound = None;
        container.upper_bound = None;
        container.uncapped_target = None;
    }
}

impl Views for State {
    fn view(&self) -> View {
        self.view.clone()
    }

    fn resolve<'a>(&'a self, key: &'a ControllerKey) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let began = Instant::now();
            loop {
                match self.targets.get(key) {
                    Lookup::Pending => {}
                    Lookup::NotFound if began.elapsed() < OWNER_LAG_MAX => {}
                    _ => return,
                }
                tokio::time::sleep(POLL).await;
            }
        })
    }
}
