//! `vpa-admission-controller deregister`: the end of an installation, as the chart's hook calls it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource};
use tokio::time::Instant;
use vpa_runtime::client::{Failure, chain};
use vpa_runtime::errors::MissingPermission;
use vpa_runtime::flags::{Flags, GoDuration, KubeFlags, LogFlags};
use vpa_runtime::{Cluster, Component, Error, Shell};

use crate::args::{DEFAULT_SECRET, ReachFlags};
use crate::certificates::secret::Place;
use crate::program::own_namespace;
use crate::registration::{CONFIGURATION, Reach, Removed, WEBHOOK};

/// The word that asks for it, first on the command line.
pub const WORD: &str = "deregister";

/// This command.
pub const COMPONENT: Component = Component {
    name: "vpa-admission-controller deregister",
    about: "Removes the webhook configuration vpa-webhook-config, if its webhook is the one that the flags name, so that the \
            API server asks nobody about new pods any more. What is not there, or belongs to somebody else, is no failure. \
            Stop the program first: while it runs it writes the configuration again.",
    default_address: "",
    lease_name: None,
};

/// Time between two looks for a configuration that comes back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Flags of this command. Those of the registration are the program's own, so that both can be given the same.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// The cluster.
    #[command(flatten)]
    pub kube: KubeFlags,
    /// Logs.
    #[command(flatten)]
    pub log: LogFlags,
    /// Where the API server finds the webhook.
    #[command(flatten)]
    pub reach: ReachFlags,
    /// Time to go on looking: a program that is just ending may write the configuration once more
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub settle: GoDuration,
    /// Remove also what the program keeps beside it: the Secret with its certificates and the lease of its heartbeat
    #[arg(long)]
    pub purge: bool,
    /// Secret with the program's certificates; with --purge
    #[arg(long, default_value = DEFAULT_SECRET, value_name = "NAME")]
    pub certificate_secret_name: String,
    /// Lease of the heartbeat; with --purge
    #[arg(long, default_value = vpa_api::names::lease::ADMISSION_CONTROLLER, value_name = "NAME")]
    pub status_lease_name: String,
    /// Namespace of that lease; empty for that of the variable NAMESPACE, or else kube-system
    #[arg(long, default_value = "", value_name = "NAMESPACE")]
    pub status_lease_namespace: String,
}

impl Flags for Args {
    fn log(&self) -> &LogFlags {
        &self.log
    }
}

/// Removes what there is, and prints a line about each.
///
/// # Errors
/// The cluster is out of reach, or a right is missing. What could be removed is gone then; the command may be repeated.
pub async fn run(args: Args, shell: Shell) -> Result<(), Error> {
    let Args {
        kube,
        log: _,
        reach,
        settle,
        purge,
        certificate_secret_name,
        status_lease_name,
        status_lease_namespace,
    } = args;
    let namespace = own_namespace();
    let reach = Reach::new(&reach, &namespace)?;
    let cluster = shell.connect(&kube).await?;
    // Each is tried, whatever becomes of the others.
    let mut outcomes = vec![remove_configuration(&shell, &cluster, &reach, settle.as_std()).await];
    if purge {
        outcomes.push(remove_secret(&cluster, &namespace, &certificate_secret_name).await);
        let lease_namespace =
            if status_lease_namespace.is_empty() { &namespace } else { &status_lease_namespace };
        outcomes.push(remove_lease(&cluster, lease_namespace, &status_lease_name).await);
    }
    outcomes.into_iter().collect()
}

/// Removes the configuration, and again for as long as `settle` where it comes back.
async fn remove_configuration(
    shell: &Shell,
    cluster: &Cluster,
    reach: &Reach,
    settle: Duration,
) -> Result<(), Error> {
    let what = format!("mutatingwebhookconfiguration {CONFIGURATION}");
    let deadline = Instant::now() + settle;
    let mut told = None;
    loop {
        let removed = reach.remove(cluster).await.map_err(|error| {
            let (group, resource) = ("admissionregistration.k8s.io", "mutatingwebhookconfigurations");
            explain(&error, &what, missing(group, resource, None, "remove the webhook configuration"))
        })?;
        // That there is none any more goes without saying.
        if told.is_none() || !matches!(removed, Removed::Nothing) && told.as_ref() != Some(&removed) {
            tell(&what, &removed);
            told = Some(removed);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !shell.sleep(left.min(LOOK_AGAIN)).await {
            return Ok(());
        }
    }
}

fn tell(what: &str, removed: &Removed) {
    match removed {
        Removed::Whole => println!("{what} removed"),
        Removed::Webhook => println!("webhook {WEBHOOK} removed from {what}; the others in it stay"),
        Removed::Nothing => println!("{what} is not there"),
        Removed::Foreign(way) => {
            println!("{what} left alone: its webhook leads to {way}, not where the flags say");
        }
    }
}

async fn remove_secret(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let right = || missing("", "secrets", Some(namespace), "remove the certificates");
    remove(&api, &format!("secret {namespace}/{name}"), name, Place::made_here, right).await
}

/// Nobody can tell by a lease who made it. One that is renewed while it is being looked at belongs to somebody who lives.
async fn remove_lease(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), Error> {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    let right = || missing("coordination.k8s.io", "leases", Some(namespace), "remove the heartbeat");
    remove(&api, &format!("lease {namespace}/{name}"), name, |_| true, right).await
}

/// Removes an object as it was found, if it is this program's.
async fn remove<K>(
    api: &Api<K>,
    what: &str,
    name: &str,
    ours: impl Fn(&K) -> bool,
    right: impl Fn() -> MissingPermission,
) -> Result<(), Error>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let found = api.get_opt(name).await.map_err(|error| explain(&error, what, right()))?;
    let Some(found) = found else {
        println!("{what} is not there");
        return Ok(());
    };
    if !ours(&found) {
        println!("{what} left alone: it was not made by this program");
        return Ok(());
    }
    let meta = found.meta();
    let preconditions =
        Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Ok(_) => println!("{what} removed"),
        Err(error) => match Failure::of(&error) {
            Failure::NotFound => println!("{what} is not there"),
            Failure::Conflict => println!("{what} left alone: somebody has just written it"),
            _ => return Err(explain(&error, what, right())),
        },
    }
    Ok(())
}

fn missing(group: &str, resource: &str, namespace: Option<&str>, purpose: &str) -> MissingPermission {
    MissingPermission {
        verb: String::new(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
        purpose: purpose.to_owned(),
    }
}

fn explain(error: &kube::Error, what: &str, right: MissingPermission) -> Error {
    match Failure::of(error) {
        Failure::Forbidden(_) => {
            let verbs =
                ["get", "delete"].map(|verb| MissingPermission { verb: verb.to_owned(), ..right.clone() });
            Error::PermissionMissing(verbs.to_vec())
        }
        _ => Error::other(format!("removing {what}"), chain(error)),
    }
}

/// The command line, for the documents.
pub fn command() -> clap::Command {
    vpa_runtime::flags::command::<Args>(&COMPONENT)
}
