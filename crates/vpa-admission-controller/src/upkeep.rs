//! What goes on beside the serving of reviews: the certificate, its place in the webhook configuration, the heartbeat.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use vpa_runtime::lease::HeartbeatWriter;
use vpa_runtime::{Cluster, Shell, clock};

use crate::certificates::secret::{KeepError, Keeper, Place};
use crate::certificates::{self, Alarm, Certificates, Warning};
use crate::metrics::WebhookMetrics;
use crate::registration::{self, Known, Look, Overlap, Registration};
use crate::self_review::SelfReview;

/// Time between two tries to get certificates at the start.
const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// Time between two looks whether the first attempt at the registration is over.
const SETTLED_POLL: Duration = Duration::from_millis(100);

/// Failed self-reviews in a row before this replica counts as not ready. One may be a moment without processor time; three
/// are half a minute with the heartbeat's default interval, and other replicas answer better.
const FAILURES_MAX: u32 = 3;

/// Says each trouble when it begins and when it changes, not each time.
#[derive(Debug, Default)]
struct Trouble(Option<String>);

impl Trouble {
    /// Whether this one is new.
    fn begins(&mut self, text: &str) -> bool {
        let new = self.0.as_deref() != Some(text);
        self.0 = Some(text.to_owned());
        new
    }

    fn over(&mut self) {
        self.0 = None;
    }
}

/// Where the certificates come from, with what keeps them in order.
pub(crate) enum Supply {
    /// Files, that are read again when they change or not.
    Files {
        /// What is in them.
        certificates: Certificates,
        /// Whether to read them again.
        reload: bool,
    },
    /// The program's own.
    Kept {
        /// What keeps them.
        keeper: Box<Keeper>,
        /// What was said about them already.
        told: Option<String>,
    },
}

impl Supply {
    /// Opens the program's own certificates; none when the program has to end before that.
    ///
    /// # Errors
    /// The Secret belongs to somebody else.
    pub(crate) async fn open(
        shell: &Shell,
        place: Option<Place>,
        names: Vec<String>,
        known: Option<Known>,
    ) -> Result<Option<Self>, vpa_runtime::Error> {
        let mut trouble = Trouble::default();
        loop {
            match Keeper::open(place.clone(), names.clone(), known.clone()).await {
                Ok((keeper, problem)) => {
                    let told = problem.map(|error| error.to_string());
                    if let Some(error) = &told {
                        tracing::warn!(
                            error,
                            "certificates are kept in memory, each replica with its own, and each start changes the webhook \
                             configuration"
                        );
                    }
                    return Ok(Some(Self::Kept { keeper: Box::new(keeper), told }));
                }
                Err(error @ (KeepError::Foreign { .. } | KeepError::Making(_))) => {
                    return Err(vpa_runtime::Error::other("the webhook's certificate", error));
                }
                Err(error) => {
                    let text = error.to_string();
                    if trouble.begins(&text) {
                        tracing::warn!(error = text, "no certificate yet; trying on");
                    }
                }
            }
            if !shell.sleep(OPEN_AGAIN).await {
                return Ok(None);
            }
        }
    }

    /// What is served.
    pub(crate) fn certificates(&self) -> &Certificates {
        match self {
            Self::Files { certificates, .. } => certificates,
            Self::Kept { keeper, .. } => keeper.certificates(),
        }
    }

    /// Where they come from, for the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Files { .. } => "files",
            Self::Kept { keeper, .. } if keeper.shared() => "Secret",
            Self::Kept { .. } => "memory",
        }
    }

    /// Looks for something new to serve.
    async fn look(&mut self) -> Result<(), String> {
        let now = clock::wall();
        match self {
            Self::Files { reload: false, .. } => Ok(()),
            Self::Files { certificates, .. } => match certificates.refresh(now) {
                Ok(true) => {
                    tracing::info!(valid_until = %certificates.served().valid.1, "serving another certificate");
                    Ok(())
                }
                Ok(false) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            Self::Kept { keeper, .. } => keeper.look(now).await.map_err(|error| error.to_string()),
        }
    }
}

/// Keeps the certificates in order and shows until when the one that is served is valid.
pub(crate) fn keep_certificates(shell: &Shell, mut supply: Supply, metrics: WebhookMetrics) {
    let task = shell.clone();
    shell.vital("watch of the certificate", async move {
        let told = if let Supply::Kept { told, .. } = &mut supply { told.take() } else { None };
        let mut trouble = Trouble(told);
        let mut alarm = Alarm::default();
        let mut end = None;
        loop {
            match supply.look().await {
                Ok(()) => trouble.over(),
                // While files are being replaced they do not fit for a moment; said once for each state.
                Err(error) if trouble.begins(&error) => {
                    tracing::warn!(error, "the certificate cannot be kept up to date; the old one is served on");
                }
                Err(_) => {}
            }
            let served = supply.certificates().served();
            let valid_until = served.valid.1;
            if end.replace(valid_until) != Some(valid_until) {
                if matches!(supply, Supply::Files { .. }) && served.of_a_stranger() {
                    tracing::warn!("no authority in --client-ca-file has signed --tls-cert-file");
                }
                metrics.certificate(valid_until);
                if !task.stopping().is_cancelled() {
                    task.health().phase(format!("serving, with a certificate that is valid until {valid_until}"));
                }
            }
            match alarm.look(valid_until, clock::wall()) {
                Some(Warning::EndsIn(left)) => {
                    let hours = left.as_hours();
                    tracing::warn!(%valid_until, hours, "the webhook's certificate ends soon; after that no pod is reviewed");
                }
                Some(Warning::Expired) => {
                    tracing::error!(%valid_until, "the webhook's certificate has ended; no pod is reviewed");
                }
                None => {}
            }
            if !task.sleep(certificates::LOOK_EVERY).await {
                return Ok(());
            }
        }
    });
}

/// Keeps the webhook configuration as it should be, and `known` up to date.
pub(crate) fn keep_registered(
    shell: &Shell,
    cluster: &Cluster,
    registration: Registration,
    certificates: &Certificates,
    known: Known,
) {
    if registration.fails_closed() {
        let namespaces = registration.without();
        tracing::info!(
            ?namespaces,
            "failure policy Fail; pods of these namespaces are created without a review"
        );
    }
    let (cluster, certificates, task) = (cluster.clone(), certificates.clone(), shell.clone());
    shell.vital("registration of the webhook", async move {
        let mut trouble = Trouble::default();
        let mut overlap = Overlap::default();
        let began = Instant::now();
        loop {
            let may_create = !registration.fails_closed() || began.elapsed() >= registration::CREATE_DELAY;
            let result = registration.apply(&cluster, &certificates, may_create, &mut overlap, &known).await;
            let pause = match result {
                Ok(look) => {
                    if look == Look::Written {
                        tracing::info!(
                            configuration = registration::CONFIGURATION,
                            "webhook configuration written"
                        );
                    }
                    trouble.over();
                    registration::LOOK_EVERY
                }
                Err(reason) => {
                    known.failed(&reason);
                    if trouble.begins(&reason) {
                        tracing::warn!(reason, "the webhook is not registered; trying on");
                    }
                    registration::RETRY_EVERY
                }
            };
            tokio::select! {
                () = certificates.changed() => {}
                go_on = task.sleep(pause) => if !go_on { return Ok(()) },
            }
        }
    });
}

/// Beats for as long as the webhook is known to work.
pub(crate) fn beat(
    shell: &Shell,
    writer: HeartbeatWriter,
    interval: Duration,
    review: SelfReview,
    certificates: &Certificates,
    known: Option<Known>,
) {
    let failures = Arc::new(Mutex::new((0, String::new())));
    let seen = failures.clone();
    shell.health().check("self-review", move || {
        let (count, reason) = &*seen.lock();
        if *count < FAILURES_MAX { Ok(()) } else { Err(reason.clone()) }
    });
    let (certificates, registration, task) = (certificates.clone(), known.clone(), shell.clone());
    let fit = move || {
        let (certificates, known, review, failures) =
            (certificates.clone(), known.clone(), review.clone(), failures.clone());
        async move {
            // Another replica can do nothing about this, so it does not count against this one.
            let bundle = registered(known.as_ref(), &certificates)?;
            let answered = answers(&review, &certificates, &bundle, interval).await;
            let mut failures = failures.lock();
            *failures = match &answered {
                Ok(()) => (0, String::new()),
                Err(reason) => (failures.0.saturating_add(1), reason.clone()),
            };
            answered
        }
    };
    shell.vital("heartbeat", async move {
        // Until the first attempt at the registration is over there is nothing to say, nor to warn of.
        while registration.as_ref().is_some_and(|known| !known.settled()) {
            if !task.sleep(SETTLED_POLL).await {
                return Ok(());
            }
        }
        writer.run(task.stopping(), fit).await;
        Ok(())
    });
}

/// What the API servers trust, as far as is known.
fn registered(known: Option<&Known>, certificates: &Certificates) -> Result<Vec<u8>, String> {
    match known {
        Some(known) => known.bundle(),
        None => Ok(certificates.served().authority.clone()),
    }
}

/// Whether the webhook answers as it should.
async fn answers(
    review: &SelfReview,
    certificates: &Certificates,
    bundle: &[u8],
    patience: Duration,
) -> Result<(), String> {
    certificates.check(clock::wall())?;
    let served = certificates.served();
    review.send(&served, bundle, patience).await.map_err(|error| error.to_string())
}

/// Makes readiness wait for the first look at the webhook configuration: reviews come in by a service as soon as this
/// replica is ready, and until then the configuration may not trust it.
pub(crate) fn ready_when_registered(shell: &Shell, known: &Known) {
    let known = known.clone();
    shell.health().check("registration", move || {
        if known.looked() {
            Ok(())
        } else {
            Err("the webhook configuration has not been looked at".to_owned())
        }
    });
}

#[cfg(test)]
mod tests;
