//! How the parts come together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vpa_core::admit;
use vpa_runtime::flags::{CommonFlags, FeatureGates, Scope};
use vpa_runtime::lease::HeartbeatWriter;
use vpa_runtime::preflight::{self, Permission};
use vpa_runtime::{Component, Error, Shell, server, targets};

use crate::args::{Args, DEFAULT_CA, DEFAULT_CERTIFICATE, DEFAULT_KEY, HeartbeatFlags, ServingFlags};
use crate::certificates::secret::Place;
use crate::certificates::{Certificates, Source};
use crate::metrics::WebhookMetrics;
use crate::registration::{self, Known, Registration};
use crate::self_review::SelfReview;
use crate::state::State;
use crate::surroundings;
use crate::tls::{self, Requirements};
use crate::upkeep::{self, Supply};
use crate::webhook::Webhook;

/// This program.
pub const COMPONENT: Component = Component {
    name: "vpa-admission-controller",
    about: "Gives pods the recommendation of their VPA when they are created, and validates VPAs. \
            `vpa-admission-controller deregister` ends that for good; it has a --help of its own.",
    default_address: ":8944",
    lease_name: None,
};

/// Namespace where the variable NAMESPACE names none.
const DEFAULT_NAMESPACE: &str = "kube-system";

/// Runs the program until it is told to stop.
///
/// # Errors
/// A flag that cannot be served, a cluster, kind or permission that is missing, a certificate that is no good.
pub async fn run(args: Args, shell: Shell) -> Result<(), Error> {
    let Args { common, serving, registration, heartbeat, max_allowed_cpu_boost } = args;
    let CommonFlags { kube, scope, log: _, address, profiling, feature_gates } = common;
    let scope = scope.scope()?;
    let namespace = own_namespace();
    let requirements = Requirements::new(&serving.min_tls_version, &serving.tls_ciphers)?;
    let register = registration.register_webhook;
    let registration = Registration::new(&registration, &namespace, &scope)?;
    // Known to be good before anything else is done.
    let from_files = from_files(&serving, register)?;
    let secret = serving.certificate_secret_name.as_str();
    let secret = (from_files.is_none() && !secret.is_empty()).then_some(secret);

    shell.serve(&address, profiling).await?;
    let cluster = shell.connect(&kube).await?;
    preflight::crds(&cluster, &[preflight::VPA_CRD]).await?;
    let lease = (lease_namespace(&heartbeat, &namespace), heartbeat.status_lease_name.as_str());
    let secret = secret.map(|secret| (namespace.as_str(), secret));
    preflight::permissions(&cluster, &permissions(&scope, register, lease, secret)).await?;

    let known = register.then(Known::default);
    let supply = match from_files {
        Some(supply) => Some(supply),
        None => {
            shell.health().phase("getting certificates");
            let place = secret.map(|(namespace, name)| Place::new(&cluster, namespace, name));
            Supply::open(&shell, place, registration.names(), known.clone()).await?
        }
    };
    let Some(supply) = supply else { return Ok(()) };
    let certificates = supply.certificates().clone();
    let config = requirements.server(certificates.clone()).map_err(|error| Error::other("TLS", error))?;

    shell.health().phase("reading the cluster's state");
    let serves = check_serving(&shell);
    known.iter().for_each(|known| upkeep::ready_when_registered(&shell, known));
    let state = State::start(&shell, &cluster, &scope);
    if !state.wait_synced(&shell).await {
        return Ok(());
    }

    let settings =
        admit::Config { gates: gates(feature_gates), max_allowed_cpu_boost: max_allowed_cpu_boost.0 };
    let (router, metrics) = webhook(&shell, state, settings)?;
    let listener = server::listen(&listen_address(&serving)?).await?;
    let local = listener.local_addr().map_err(|error| Error::other("the webhook's address", error))?;
    tracing::info!(address = %local, certificates = supply.name(), "serving reviews");
    // Not the shell's own token: the server outlives the signal by the delay.
    let stop_serving = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(tls::serve(listener, config, router, stop_serving.clone()));
    serves.store(true, Ordering::Relaxed);

    upkeep::keep_certificates(&shell, supply, metrics);
    // Without the registration nobody here knows by which name the webhook is called.
    let host = if register { registration.reach().host() } else { None };
    if let Some(known) = known.clone() {
        upkeep::keep_registered(&shell, &cluster, registration, &certificates, known);
    }
    let interval = heartbeat.status_lease_update_interval.as_std();
    let writer = HeartbeatWriter::new(&cluster, lease.0, lease.1, interval);
    let review = SelfReview::new(local, host, &namespace);
    upkeep::beat(&shell, writer, interval, review, &certificates, known);

    watch_server(&shell, server, &stop_serving, serving.shutdown_delay.as_std()).await
}

/// The webhook's HTTP side and its metrics.
fn webhook(
    shell: &Shell,
    state: State,
    settings: admit::Config,
) -> Result<(axum::Router, WebhookMetrics), Error> {
    let metrics = WebhookMetrics::new(shell.registry())
        .map_err(|error| Error::other("metrics of the webhook", error))?;
    let webhook = Arc::new(Webhook::new(Arc::new(state), settings, metrics.clone()));
    let load = webhook.load();
    shell.vital("measure of the load", async move {
        load.measure().await;
        Ok(())
    });
    Ok((webhook.router(), metrics))
}

/// Namespace of this program.
pub(crate) fn own_namespace() -> String {
    let namespace = std::env::var("NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// Makes readiness follow whether the program listens; set what is returned when it does.
fn check_serving(shell: &Shell) -> Arc<AtomicBool> {
    let serves = Arc::new(AtomicBool::new(false));
    let (flag, stop) = (serves.clone(), shell.stopping());
    shell.health().check("webhook", move || {
        if stop.is_cancelled() {
            Err("stopping".to_owned())
        } else if flag.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("not listening yet".to_owned())
        }
    });
    serves
}

/// Waits for the end: the server's own, which is a failure, or the program's.
async fn watch_server(
    shell: &Shell,
    mut server: tokio::task::JoinHandle<()>,
    stop_serving: &tokio_util::sync::CancellationToken,
    delay: Duration,
) -> Result<(), Error> {
    tokio::select! {
        ended = &mut server => {
            let reason = ended.err().map_or_else(|| "it came to an end".to_owned(), |error| error.to_string());
            return Err(Error::VitalTask { task: "webhook server".to_owned(), reason });
        }
        () = shell.stopping().cancelled_owned() => {}
    }
    // Readiness is off by now. The cluster needs a moment to send no more reviews here.
    tokio::time::sleep(delay).await;
    stop_serving.cancel();
    server.await.map_err(|error| Error::other("ending the webhook server", error))
}

/// The certificate from files; none where none are given and the default ones are not there.
fn from_files(serving: &ServingFlags, register: bool) -> Result<Option<Supply>, Error> {
    let ServingFlags { client_ca_file, tls_cert_file, tls_private_key, reload_cert, .. } = serving;
    let defaults =
        [(client_ca_file, DEFAULT_CA), (tls_cert_file, DEFAULT_CERTIFICATE), (tls_private_key, DEFAULT_KEY)];
    if defaults.iter().all(|(path, default)| path.as_os_str() == *default && !path.exists()) {
        return Ok(None);
    }
    let source = Source::Files {
        certificate: tls_cert_file.clone(),
        key: tls_private_key.clone(),
        authority: client_ca_file.clone(),
    };
    let certificates =
        Certificates::load(source).map_err(|error| Error::other("the webhook's certificate", error))?;
    if register && certificates.served().authority.is_empty() {
        tracing::warn!(
            file = %client_ca_file.display(),
            "there is no file --client-ca-file: the webhook configuration keeps the caBundle that it has; one without any \
             is good only for certificates that the API servers' systems trust"
        );
    }
    Ok(Some(Supply::Files { certificates, reload: *reload_cert }))
}

fn listen_address(serving: &ServingFlags) -> Result<vpa_runtime::flags::ListenAddress, Error> {
    let ServingFlags { port, bind_address, .. } = serving;
    let host = if bind_address.contains(':') { format!("[{bind_address}]") } else { bind_address.clone() };
    let text = format!("{host}:{port}");
    text.parse()
        .map_err(|allowed: String| vpa_runtime::FlagError::new("bind-address", bind_address, allowed).into())
}

fn gates(gates: FeatureGates) -> admit::Gates {
    let FeatureGates { cpu_startup_boost, in_place, per_vpa_config } = gates;
    admit::Gates { in_place, per_vpa_config, cpu_startup_boost }
}

pub(crate) fn lease_namespace<'a>(flags: &'a HeartbeatFlags, namespace: &'a str) -> &'a str {
    if flags.status_lease_namespace.is_empty() { namespace } else { &flags.status_lease_namespace }
}

/// The rights that the program needs, given namespace and name of its lease and of the Secret that it keeps, if any.
pub fn permissions(
    scope: &Scope,
    register: bool,
    (lease_namespace, lease): (&str, &str),
    secret: Option<(&str, &str)>,
) -> Vec<Permission> {
    let namespace = scope.namespace.as_deref();
    let listed = [
        (vpa_api::names::GROUP, "verticalpodautoscalers", "find the VPA of a pod"),
        ("", "limitranges", "keep within the limits of a namespace"),
    ];
    let mut wanted: Vec<Permission> = listed
        .into_iter()
        .flat_map(|(group, resource, purpose)| {
            ["list", "watch"].map(|verb| Permission::new(verb, group, resource, purpose))
        })
        .map(|permission| permission.in_namespace(namespace))
        .collect();
    wanted.extend(targets::permissions(scope));
    wanted.extend(surroundings::permissions(scope));
    let heartbeat = |verb| {
        let purpose = "tell the updater that pods will be reviewed";
        Permission::new(verb, "coordination.k8s.io", "leases", purpose)
            .in_namespace(Some(lease_namespace))
            .optional()
    };
    wanted.push(heartbeat("create"));
    wanted.extend(["get", "update"].map(|verb| heartbeat(verb).on(lease)));
    if register {
        let configuration = |verb| {
            let purpose = "register the webhook";
            Permission::new(verb, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", purpose)
        };
        wanted.push(configuration("create"));
        wanted.extend(["get", "patch"].map(|verb| configuration(verb).on(registration::CONFIGURATION)));
    }
    // That it cannot be read or made shows at once; this would show in two months.
    wanted.extend(secret.map(|(namespace, name)| {
        let purpose = "renew the webhook's certificates";
        Permission::new("update", "", "secrets", purpose).in_namespace(Some(namespace)).on(name).optional()
    }));
    wanted
}

/// The command line, for the documents.
pub fn command() -> clap::Command {
    vpa_runtime::flags::command::<Args>(&COMPONENT)
}
