//! How the parts come together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use vpa_core::admit;
use vpa_runtime::flags::{CommonFlags, FeatureGates, Scope};
use vpa_runtime::lease::HeartbeatWriter;
use vpa_runtime::preflight::{self, Permission};
use vpa_runtime::{Cluster, Component, Error, Shell, clock, server, targets};

use crate::args::{Args, DEFAULT_CA, DEFAULT_CERTIFICATE, DEFAULT_KEY, HeartbeatFlags, ServingFlags};
use crate::certificates::{Certificates, Source};
use crate::metrics::WebhookMetrics;
use crate::registration::{self, Registration};
use crate::state::State;
use crate::tls::{self, Requirements};
use crate::webhook::Webhook;

/// This program.
pub const COMPONENT: Component = Component {
    name: "vpa-admission-controller",
    about: "Gives pods the recommendation of their VPA when they are created, and validates VPAs.",
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
    let namespace = std::env::var("NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let requirements = Requirements::new(&serving.min_tls_version, &serving.tls_ciphers)?;
    let register = registration.register_webhook;
    let registration = Registration::new(&registration, &namespace, &scope)?;
    let certificates = Certificates::load(source(&serving, &registration))
        .map_err(|error| Error::other("the webhook's certificate", error))?;
    let config = requirements.server(certificates.clone()).map_err(|error| Error::other("TLS", error))?;

    shell.serve(&address, profiling).await?;
    let cluster = shell.connect(&kube).await?;
    preflight::crds(&cluster, &[preflight::VPA_CRD]).await?;
    let lease_namespace = lease_namespace(&heartbeat, &namespace);
    let wanted = permissions(&scope, register, lease_namespace, &heartbeat.status_lease_name);
    preflight::permissions(&cluster, &wanted).await?;

    shell.health().phase("reading the cluster's state");
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
    let state = State::start(&shell, &cluster, &scope);
    if !state.wait_synced(&shell).await {
        return Ok(());
    }

    let settings =
        admit::Config { gates: gates(feature_gates), max_allowed_cpu_boost: max_allowed_cpu_boost.0 };
    let metrics = WebhookMetrics::new(shell.registry())
        .map_err(|error| Error::other("metrics of the webhook", error))?;
    metrics.certificate(certificates.served().valid.1);
    let router = Arc::new(Webhook::new(Arc::new(state), settings, metrics.clone())).router();
    let listener = server::listen(&listen_address(&serving)?).await?;
    tracing::info!(port = serving.port, self_made = certificates.self_made(), "serving reviews");
    // Not the shell's own token: the server outlives the signal by the delay.
    let stop_serving = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(tls::serve(listener, config, router, stop_serving.clone()));
    serves.store(true, Ordering::Relaxed);
    shell.health().phase("serving");

    let registered = start_registration(&shell, &cluster, &certificates, register.then_some(registration));
    start_certificate_watch(&shell, &certificates, serving.reload_cert, metrics, registered);
    start_heartbeat(&shell, &cluster, &heartbeat, lease_namespace, &certificates, &serves);

    watch_server(&shell, server, &stop_serving, serving.shutdown_delay.as_std()).await
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

/// Where the certificate comes from: files, unless none are given and the default ones are not there.
fn source(serving: &ServingFlags, registration: &Registration) -> Source {
    let ServingFlags { client_ca_file, tls_cert_file, tls_private_key, .. } = serving;
    let defaults =
        [(client_ca_file, DEFAULT_CA), (tls_cert_file, DEFAULT_CERTIFICATE), (tls_private_key, DEFAULT_KEY)];
    if defaults.iter().all(|(path, default)| path.as_os_str() == *default && !path.exists()) {
        let mut names = registration.names();
        names.extend(
            ["localhost", "127.0.0.1"]
                .map(str::to_owned)
                .into_iter()
                .filter(|name| !registration.names().contains(name)),
        );
        return Source::SelfMade(names);
    }
    Source::Files {
        certificate: tls_cert_file.clone(),
        key: tls_private_key.clone(),
        authority: client_ca_file.clone(),
    }
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

fn lease_namespace<'a>(flags: &'a HeartbeatFlags, namespace: &'a str) -> &'a str {
    if flags.status_lease_namespace.is_empty() { namespace } else { &flags.status_lease_namespace }
}

/// The rights that the program needs.
pub fn permissions(scope: &Scope, register: bool, lease_namespace: &str, lease: &str) -> Vec<Permission> {
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
    wanted
}

/// Keeps the webhook configuration as it should be. What is returned wakes it up when the authority has changed.
fn start_registration(
    shell: &Shell,
    cluster: &Cluster,
    certificates: &Certificates,
    registration: Option<Registration>,
) -> Arc<Notify> {
    let wake = Arc::new(Notify::new());
    let Some(registration) = registration else { return wake };
    let (cluster, certificates, woken, task) =
        (cluster.clone(), certificates.clone(), wake.clone(), shell.clone());
    shell.vital("registration of the webhook", async move {
        let mut trouble = None;
        loop {
            let served = certificates.served();
            let pause = match registration.apply(&cluster, &served.authority, certificates.self_made()).await
            {
                Ok(written) => {
                    if written {
                        tracing::info!(
                            configuration = registration::CONFIGURATION,
                            "webhook configuration written"
                        );
                    }
                    trouble = None;
                    registration::LOOK_EVERY
                }
                Err(reason) => {
                    if trouble.as_ref() != Some(&reason) {
                        tracing::warn!(reason, "the webhook is not registered; trying on");
                        trouble = Some(reason);
                    }
                    registration::RETRY_EVERY
                }
            };
            tokio::select! {
                () = woken.notified() => {}
                go_on = task.sleep(pause) => if !go_on { return Ok(()) },
            }
        }
    });
    wake
}

fn start_certificate_watch(
    shell: &Shell,
    certificates: &Certificates,
    reload: bool,
    metrics: WebhookMetrics,
    changed: Arc<Notify>,
) {
    if !reload && !certificates.self_made() {
        return;
    }
    let (certificates, stop) = (certificates.clone(), shell.stopping());
    shell.vital("watch of the certificate", async move {
        let on_change = || {
            metrics.certificate(certificates.served().valid.1);
            changed.notify_one();
        };
        tokio::select! {
            () = certificates.watch(on_change) => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    });
}

fn start_heartbeat(
    shell: &Shell,
    cluster: &Cluster,
    flags: &HeartbeatFlags,
    namespace: &str,
    certificates: &Certificates,
    serves: &Arc<AtomicBool>,
) {
    let interval = flags.status_lease_update_interval.as_std();
    let writer = HeartbeatWriter::new(cluster, namespace, &flags.status_lease_name, interval);
    let (certificates, serves, stop) = (certificates.clone(), serves.clone(), shell.stopping());
    let fit = move || {
        if !serves.load(Ordering::Relaxed) {
            return Err("the webhook does not listen".to_owned());
        }
        certificates.check(clock::wall())
    };
    shell.vital("heartbeat", async move {
        writer.run(stop, fit).await;
        Ok(())
    });
}

/// The command line, for the documents.
pub fn command() -> clap::Command {
    vpa_runtime::flags::command::<Args>(&COMPONENT)
}
