//! Leader election: reading and writing the lease as [`vpa_core::leader`] decides.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use vpa_core::leader::{Contender, Record, Settings, Step};

use super::{CALL_MAX, identity, lease_of, record_of};
use crate::client::Failure;
use crate::errors::MissingPermission;
use crate::executor::jitter;
use crate::flags::LeaderElectFlags;
use crate::metrics::RuntimeMetrics;
use crate::{Cluster, Error, Shell, clock};

/// The right to write. Without leader election it holds until the program ends.
#[derive(Debug)]
pub struct Leadership {
    token: CancellationToken,
    contender: Option<Arc<Mutex<Contender>>>,
    release: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

impl Leadership {
    /// Whether this replica may write now. To be asked before each write; it is only a look at the clock.
    pub fn holds(&self) -> bool {
        !self.token.is_cancelled()
            && self.contender.as_ref().is_none_or(|contender| contender.lock().leads(clock::steady()))
    }

    /// Cancelled when leadership is lost. Does not end with the program's stopping: what is under way is finished.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Gives leadership up so that another replica need not wait, once all is written.
    pub async fn release(mut self) {
        let Some(release) = self.release.take() else { return };
        let (done, wait) = oneshot::channel();
        if release.send(done).is_ok() {
            // The runner bounds its own write; if it is gone there is nothing to wait for.
            let _ = tokio::time::timeout(CALL_MAX, wait).await;
        }
    }
}

/// See [`Shell::lead`].
pub(crate) async fn lead(
    shell: &Shell,
    cluster: &Cluster,
    flags: &LeaderElectFlags,
) -> Result<Option<Leadership>, Error> {
    let settings = flags.settings()?;
    let metrics = shell.metrics();
    if !flags.leader_elect {
        metrics.leading.set(1);
        return Ok(Some(Leadership { token: CancellationToken::new(), contender: None, release: None }));
    }
    let namespace = flags.leader_elect_resource_namespace.clone();
    let mut runner = Runner {
        api: Api::namespaced(cluster.client.clone(), &namespace),
        namespace,
        name: flags.leader_elect_resource_name.clone(),
        settings,
        contender: Arc::new(Mutex::new(Contender::new(identity(), settings))),
        holder: None,
        last: None,
        metrics,
    };
    shell.health().phase(format!("waiting for lease {}", runner.lease()));
    tracing::info!(
        lease = runner.lease(),
        identity = runner.contender.lock().identity(),
        "waiting for leadership"
    );
    let stop = shell.stopping();
    tokio::select! {
        acquired = runner.acquire() => acquired?,
        () = stop.cancelled() => return Ok(None),
    }
    tracing::info!(lease = runner.lease(), "leading");
    shell.health().phase("leading");
    runner.metrics.leading.set(1);
    let token = CancellationToken::new();
    let (release, released) = oneshot::channel();
    let leadership = Leadership {
        token: token.clone(),
        contender: Some(runner.contender.clone()),
        release: Some(release),
    };
    shell.vital("leader election", runner.keep(token, released));
    Ok(Some(leadership))
}

/// Times that a release is written. One renewal can be under way, so the second hits; the third is for a slow server.
const RELEASE_ATTEMPTS_MAX: u32 = 3;

struct Runner {
    api: Api<Lease>,
    namespace: String,
    name: String,
    settings: Settings,
    contender: Arc<Mutex<Contender>>,
    /// The other holder that was last reported.
    holder: Option<String>,
    /// The lease as it was last read or written, for what is not ours to say in it.
    last: Option<Lease>,
    metrics: Arc<RuntimeMetrics>,
}

impl Runner {
    fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    async fn acquire(&mut self) -> Result<(), Error> {
        let mut trouble: Option<String> = None;
        loop {
            match self.attempt().await {
                Ok(()) => trouble = None,
                Err(Failure::Forbidden(reason)) => return Err(self.forbidden(&reason)),
                Err(failure) => {
                    let reason = self.explain(&failure);
                    if trouble.as_ref() != Some(&reason) {
                        tracing::warn!(lease = self.lease(), reason, "cannot get leadership yet");
                        trouble = Some(reason);
                    }
                }
            }
            if self.contender.lock().leads(clock::steady()) {
                return Ok(());
            }
            self.pause().await;
        }
    }

    /// Renews until leadership is lost or released.
    async fn keep(
        mut self,
        token: CancellationToken,
        mut released: oneshot::Receiver<oneshot::Sender<()>>,
    ) -> Result<(), Error> {
        let mut reason = String::from("it was not renewed in time");
        loop {
            let now = clock::steady();
            let left = self.contender.lock().leads_until().map_or(Duration::ZERO, |end| {
                if end > now { end.duration_since(now).unsigned_abs() } else { Duration::ZERO }
            });
            if left.is_zero() {
                token.cancel();
                self.metrics.leading.set(0);
                return Err(Error::LeadershipLost { lease: self.lease(), reason });
            }
            tokio::select! {
                result = &mut released => {
                    self.release().await;
                    token.cancel();
                    if let Ok(done) = result {
                        // The other side may have stopped to wait.
                        let _ = done.send(());
                    }
                    // The task stays, as its end would be that of a vital task.
                    return std::future::pending().await;
                }
                () = tokio::time::sleep(left) => {}
                failure = async { self.pause().await; self.attempt().await } => {
                    if let Err(failure) = failure {
                        reason = self.explain(&failure);
                        tracing::warn!(lease = self.lease(), reason, "leadership is not renewed; trying again");
                    } else if let Some(holder) = &self.holder {
                        reason = format!("{holder} holds it");
                    }
                }
            }
        }
    }

    /// Reads the lease and writes what the contender makes of it.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let found = self.call(self.api.get_opt(&self.name)).await?;
        let record = found.as_ref().map(record_of);
        self.last = found;
        let sent = clock::steady();
        let step = self.contender.lock().step(record, sent, clock::wall());
        let (record, create) = match step {
            Step::Follow { holder, free_at: _ } => {
                self.follow(holder);
                return Ok(());
            }
            Step::Create(record) => (record, true),
            Step::Replace(record) => (record, false),
        };
        match self.write(&record, create).await {
            Ok(stored) => {
                self.holder = None;
                self.metrics.lease_holder.reset();
                self.contender.lock().on_written(stored, sent);
                Ok(())
            }
            // Somebody was faster; the next read shows who.
            Err(Failure::Conflict) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn write(&mut self, record: &Record, create: bool) -> Result<Record, Failure> {
        let lease = lease_of(record, self.last.clone(), &self.namespace, &self.name);
        let stored = if create {
            self.call(self.api.create(&PostParams::default(), &lease)).await?
        } else {
            self.call(self.api.replace(&self.name, &PostParams::default(), &lease)).await?
        };
        let record = record_of(&stored);
        self.last = Some(stored);
        Ok(record)
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(CALL_MAX.min(self.settings.renew_deadline / 2), call).await {
            Ok(result) => result.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Unavailable("no answer in time".to_owned())),
        }
    }

    /// Another one holds the lease.
    fn follow(&mut self, holder: String) {
        let led = self.contender.lock().leads_until().is_some();
        if led {
            // Written over by somebody who does not keep the rules: stop at once.
            self.contender.lock().step_down();
        }
        if self.holder.as_ref() != Some(&holder) {
            tracing::info!(lease = self.lease(), holder, "the lease is held by another one; standing by");
            self.metrics.lease_holder.reset();
            self.metrics.lease_holder.with_label_values(&[&self.lease(), &holder]).set(1);
            self.holder = Some(holder);
        }
    }

    async fn release(&mut self) {
        let record = self.contender.lock().release(clock::wall());
        self.metrics.leading.set(0);
        let Some(record) = record else { return };
        match self.write_release(record).await {
            Ok(()) => tracing::info!(lease = self.lease(), "leadership released"),
            Err(failure) => {
                tracing::warn!(
                    lease = self.lease(),
                    reason = self.explain(&failure),
                    "leadership could not be released; it runs out by itself"
                );
            }
        }
    }

    /// Writes the release. A renewal that was under way when the release came may still reach the API server, and is
    /// then a write by somebody unknown: while the lease is ours by name, the release is written over it.
    async fn write_release(&mut self, mut record: Record) -> Result<(), Failure> {
        for _ in 1..RELEASE_ATTEMPTS_MAX {
            match self.write(&record, false).await {
                Err(Failure::Conflict) => {}
                result => return result.map(drop),
            }
            let found = self.call(self.api.get(&self.name)).await?;
            let current = record_of(&found);
            if current.holder != self.contender.lock().identity() {
                return Ok(());
            }
            record.resource_version = current.resource_version;
            self.last = Some(found);
        }
        self.write(&record, false).await.map(drop)
    }

    /// The retry period with up to a fifth on top, as client-go waits.
    async fn pause(&self) {
        let period = self.settings.retry_period;
        tokio::time::sleep(period + jitter(period / 5)).await;
    }

    fn explain(&self, failure: &Failure) -> String {
        match failure {
            Failure::NotFound => format!("namespace {} does not exist", self.namespace),
            Failure::Conflict => "somebody else wrote it".to_owned(),
            Failure::Forbidden(text)
            | Failure::TooMany(text)
            | Failure::Invalid(text)
            | Failure::Unavailable(text) => text.clone(),
        }
    }

    fn forbidden(&self, reason: &str) -> Error {
        // The API server's text begins with what was tried: `… cannot get resource "leases" …`.
        let verb =
            ["get", "create", "update"].into_iter().find(|verb| reason.contains(&format!("cannot {verb} ")));
        Error::PermissionMissing(vec![MissingPermission {
            verb: verb.unwrap_or("get").to_owned(),
            group: "coordination.k8s.io".to_owned(),
            resource: "leases".to_owned(),
            namespace: Some(self.namespace.clone()),
            purpose: format!("elect a leader by lease {}", self.name),
        }])
    }
}
