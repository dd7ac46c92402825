//! What warnings about a VPA look at: the horizontal autoscalers and the nodes of the cluster.
//!
//! The program works without the right to read either; then the warnings that need it are not given.

mod autoscaler;

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use parking_lot::RwLock;
use smallvec::SmallVec;
use vpa_api::Quantity;
use vpa_api::names::resource::{CPU, MEMORY};
use vpa_core::admit::{Autoscaler, Surroundings};
use vpa_runtime::flags::Scope;
use vpa_runtime::nodes::StoredNode;
use vpa_runtime::preflight::Permission;
use vpa_runtime::{Cluster, Shell, StoreEvent, StoreOptions};

pub use autoscaler::StoredAutoscaler;

/// Rights without which some warnings are not given.
pub fn permissions(scope: &Scope) -> Vec<Permission> {
    let listed = |group, resource, purpose| {
        ["list", "watch"].map(|verb| Permission::new(verb, group, resource, purpose).optional())
    };
    let autoscalers = listed(
        "autoscaling",
        "horizontalpodautoscalers",
        "warn of one that scales a VPA's target on the same resource",
    );
    let nodes = listed("", "nodes", "warn of bounds of a VPA that no node can hold");
    let in_scope = autoscalers.map(|permission| permission.in_namespace(scope.namespace.as_deref()));
    in_scope.into_iter().chain(nodes).collect()
}

/// What is around VPAs, kept up to date by watches.
pub struct Neighbourhood {
    scope: Scope,
    autoscalers: Arc<ByTarget>,
    nodes: Arc<Largest>,
}

impl Neighbourhood {
    /// Starts the watches. Nothing waits for them: until they are through, less is warned of.
    pub fn start(shell: &Shell, cluster: &Cluster, scope: &Scope) -> Self {
        let (autoscalers, nodes) = (Arc::new(ByTarget::default()), Arc::new(Largest::default()));
        let (by_target, largest) = (autoscalers.clone(), nodes.clone());
        // The watches outlive the handles; what is asked for is in the indices.
        shell.watch::<StoredAutoscaler>(
            cluster,
            StoreOptions::named("horizontalpodautoscalers")
                .scope(scope)
                .optional()
                .on_event(move |event| by_target.on_event(&event)),
        );
        shell.watch::<StoredNode>(
            cluster,
            StoreOptions::named("nodes").optional().on_event(move |event| largest.on_event(&event)),
        );
        Self { scope: scope.clone(), autoscalers, nodes }
    }
}

impl Surroundings for Neighbourhood {
    fn covers(&self, namespace: &str) -> bool {
        self.scope.admits(namespace)
    }

    fn autoscalers(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<Autoscaler>> {
        self.autoscalers.of(namespace, kind, name)
    }

    fn largest_node(&self, resource: &str) -> Option<Quantity> {
        self.nodes.largest(resource)
    }
}

/// Autoscalers of one target; mostly there is one.
type OfTarget = SmallVec<[Arc<Autoscaler>; 1]>;

/// Autoscalers by what they scale.
#[derive(Default)]
struct ByTarget(RwLock<HashMap<CompactString, OfTarget>>);

impl ByTarget {
    fn on_event(&self, event: &StoreEvent<'_, StoredAutoscaler>) {
        match event {
            StoreEvent::Applied { before, now } => {
                if let Some(before) = before {
                    self.remove(before);
                }
                // One that scales on other metrics alone is in nobody's way.
                if !now.autoscaler.scaled_on.is_empty() {
                    self.add(now);
                }
            }
            StoreEvent::Deleted(gone) => self.remove(gone),
            StoreEvent::Synced => {}
        }
    }

    fn add(&self, stored: &StoredAutoscaler) {
        let mut index = self.0.write();
        let of_target = index.entry(stored.slot()).or_default();
        let place = of_target.partition_point(|other| other.name < stored.autoscaler.name);
        of_target.insert(place, stored.autoscaler.clone());
    }

    fn remove(&self, stored: &StoredAutoscaler) {
        let (mut index, slot) = (self.0.write(), stored.slot());
        if let Some(of_target) = index.get_mut(&slot) {
            of_target.retain(|other| other.name != stored.autoscaler.name);
            if of_target.is_empty() {
                index.remove(&slot);
            }
        }
    }

    fn of(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<Autoscaler>> {
        let slot = autoscaler::slot(namespace, kind, name);
        self.0.read().get(&slot).map(|of_target| of_target.to_vec()).unwrap_or_default()
    }
}

/// How many nodes have each amount, so that the largest is at hand whichever node changes or goes. Nodes of one type have
/// the same amounts, so there are few.
#[derive(Default)]
struct Largest(RwLock<Amounts>);

#[derive(Default)]
struct Amounts {
    cpu: BTreeMap<Quantity, usize>,
    memory: BTreeMap<Quantity, usize>,
}

impl Largest {
    fn on_event(&self, event: &StoreEvent<'_, StoredNode>) {
        match event {
            StoreEvent::Applied { before, now } => {
                let mut amounts = self.0.write();
                if let Some(before) = before {
                    amounts.remove(before);
                }
                amounts.add(now);
            }
            StoreEvent::Deleted(node) => self.0.write().remove(node),
            StoreEvent::Synced => {}
        }
    }

    fn largest(&self, resource: &str) -> Option<Quantity> {
        let amounts = self.0.read();
        let amounts = match resource {
            CPU => &amounts.cpu,
            MEMORY => &amounts.memory,
            _ => return None,
        };
        amounts.last_key_value().map(|(amount, _)| amount.clone())
    }
}

impl Amounts {
    fn add(&mut self, node: &StoredNode) {
        for (counts, amount) in self.of(node) {
            *counts.entry(amount.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, node: &StoredNode) {
        for (counts, amount) in self.of(node) {
            if let Some(nodes) = counts.get_mut(amount) {
                *nodes -= 1;
                if *nodes == 0 {
                    counts.remove(amount);
                }
            }
        }
    }

    /// What a node has, each with the counts of its resource.
    fn of<'a>(
        &'a mut self,
        node: &'a StoredNode,
    ) -> impl Iterator<Item = (&'a mut BTreeMap<Quantity, usize>, &'a Quantity)> {
        let Self { cpu, memory } = self;
        let own = &node.allocatable;
        [(cpu, &own.cpu), (memory, &own.memory)]
            .into_iter()
            .filter_map(|(counts, amount)| Some((counts, amount.as_ref()?)))
    }
}

#[cfg(test)]
mod tests;
