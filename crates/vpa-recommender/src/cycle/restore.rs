//! History from before the start.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vpa_core::model::{ApplyError, ObjectId, Observation};

use super::Cycle;
use crate::checkpoints;
use crate::history::{History, Wanted};

/// Time between two tries to read the checkpoints; the client has tried for some seconds by itself then.
const RESTORE_RETRY: Duration = Duration::from_secs(2);

impl Cycle {
    /// Reads history from Prometheus, before the first cycle. Returns `false` if `stop` came first.
    pub(crate) async fn load_history(&mut self, history: &History, stop: &CancellationToken) -> bool {
        self.load_vpas();
        let wanted = Wanted {
            state: &mut self.state,
            live: &self.sources.pods,
            scope: &self.options.scope,
            selected_only: self.options.memory_saver,
            clock: self.sources.clock,
        };
        history.load(wanted, stop).await
    }

    /// Reads the checkpoints, before the first cycle. Tries until they come: to go on without history would publish
    /// recommendations made from nothing, and write them over the history. Returns `false` if `stop` came first.
    pub(crate) async fn restore(&mut self, stop: &CancellationToken) -> bool {
        let began = Instant::now();
        self.load_vpas();
        loop {
            let now = (self.sources.clock)();
            let namespace = self.options.scope.namespace.clone();
            let (state, scope) = (&mut self.state, &self.options.scope);
            let mut restored = 0;
            let read = checkpoints::for_each(&self.cluster, namespace.as_deref(), |checkpoint| {
                let id = ObjectId::new(
                    checkpoint.metadata.namespace.as_deref().unwrap_or(""),
                    checkpoint.metadata.name.as_deref().unwrap_or(""),
                );
                if !scope.has_namespace(&id.namespace) {
                    return;
                }
                match state.apply(Observation::Checkpoint(&checkpoint), now) {
                    Ok(()) => restored += 1,
                    Err(ApplyError::Rejected(_)) => {
                        tracing::debug!(checkpoint = %id, "no VPA here for this checkpoint");
                    }
                    Err(error) => {
                        tracing::warn!(checkpoint = %id, %error, "a checkpoint cannot be restored");
                    }
                }
            });
            match read.await {
                Ok((read, unreadable)) => {
                    let seconds = began.elapsed().as_secs_f64();
                    tracing::info!(read, unreadable, restored, seconds, "checkpoints restored");
                    return true;
                }
                Err(error) => tracing::warn!(%error, "checkpoints do not come; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RESTORE_RETRY) => {}
            }
        }
    }
}
