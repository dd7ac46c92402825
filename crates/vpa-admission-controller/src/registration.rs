//! The webhook configuration in the cluster.
//!
//! It is created where it is missing and patched where it differs, never deleted: while there is none, pods are created
//! without their recommendation. It is looked at every few seconds, so that one that was removed or changed by mistake
//! comes back. [`remove`](Reach::remove) is for the end of an installation.

mod bundle;
mod known;
mod reach;
mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use vpa_runtime::client::{Failure, chain};
use vpa_runtime::flags::Scope;
use vpa_runtime::{Cluster, FlagError, clock, patch};

use crate::args::{self, RegistrationFlags};
use crate::certificates::{Certificates, Served, x509};

use bundle::Moment;
pub(crate) use bundle::Overlap;
pub use known::Known;
pub use reach::Reach;
pub use remove::Removed;

/// Name of the configuration.
pub const CONFIGURATION: &str = "vpa-webhook-config";
/// Name of the webhook in it.
pub const WEBHOOK: &str = "vpa.k8s.io";

/// Time between two looks at the configuration. A look is one read of one object.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time between two tries when it cannot be written.
pub const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Tries when others write it at the same moment.
const CONFLICTS_MAX: usize = 5;
/// With the failure policy Fail a configuration that is not there yet is made so long after the program is ready, as the Go
/// suite does always: until the service has its endpoints each creation of a pod would fail.
pub const CREATE_DELAY: Duration = Duration::from_secs(10);

/// Namespace of the cluster's own pods.
const SYSTEM: &str = "kube-system";

/// Label of namespaces that the API server sets to their name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// What the configuration has to say.
#[derive(Clone, Debug)]
pub struct Registration {
    reach: Reach,
    timeout_seconds: i32,
    fail: bool,
    labels: BTreeMap<String, String>,
    /// Only this namespace, where it is set.
    only: Option<String>,
    /// Not these namespaces.
    without: BTreeSet<String>,
}

/// What a look at the configuration came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It was as it should be.
    Same,
    /// It was written.
    Written,
    /// There is none, and it was not to be made.
    Missing,
}

impl Registration {
    /// Reads the flags; `namespace` is that of this program.
    ///
    /// # Errors
    /// A value that the API server would refuse.
    pub fn new(flags: &RegistrationFlags, namespace: &str, scope: &Scope) -> Result<Self, FlagError> {
        let RegistrationFlags {
            register_webhook: _,
            reach,
            webhook_timeout_seconds,
            webhook_failure_policy_fail: fail,
            webhook_labels,
        } = flags;
        let reach = Reach::new(reach, namespace)?;
        if !(1..=30).contains(webhook_timeout_seconds) {
            let found = webhook_timeout_seconds.to_string();
            return Err(FlagError::new("webhook-timeout-seconds", found, "a number from 1 to 30"));
        }
        let Scope { namespace: only, ignored } = scope.clone();
        let mut without = ignored;
        if *fail {
            without.extend(unlocked(namespace));
            if let Some(only) = only.as_ref().filter(|only| without.contains(*only)) {
                let allowed = format!(
                    "false while --vpa-object-namespace is {only}: pods of that namespace have to be creatable \
                     without this program, so with the failure policy Fail it would be asked about nothing"
                );
                return Err(FlagError::new("webhook-failure-policy-fail", "true", allowed));
            }
        }
        let labels = args::labels(webhook_labels)?;
        Ok(Self { reach, timeout_seconds: *webhook_timeout_seconds, fail: *fail, labels, only, without })
    }

    /// Whether the creation of pods fails while the webhook does not answer.
    pub fn fails_closed(&self) -> bool {
        self.fail
    }

    /// Namespaces whose pods are created without being reviewed.
    pub fn without(&self) -> &BTreeSet<String> {
        &self.without
    }

    /// How the API server reaches the webhook.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Names under which the API server knows the webhook, for a certificate.
    pub fn names(&self) -> Vec<String> {
        match &self.reach {
            Reach::Service { namespace, name } => {
                let full = format!("{name}.{namespace}.svc");
                vec![format!("{full}.cluster.local"), full, format!("{name}.{namespace}"), name.clone()]
            }
            Reach::Url(_) => self.reach.host().into_iter().collect(),
        }
    }

    /// The configuration as it should be, given what is there.
    fn wanted(
        &self,
        found: Option<&MutatingWebhookConfiguration>,
        authority: Vec<u8>,
    ) -> MutatingWebhookConfiguration {
        let mut wanted = found.cloned().unwrap_or_else(|| MutatingWebhookConfiguration {
            metadata: ObjectMeta { name: Some(CONFIGURATION.to_owned()), ..ObjectMeta::default() },
            webhooks: None,
        });
        if !self.labels.is_empty() {
            wanted.metadata.labels.get_or_insert_default().extend(self.labels.clone());
        }
        let webhooks = wanted.webhooks.get_or_insert_default();
        let ours = self.webhook(authority);
        match webhooks.iter_mut().find(|webhook| webhook.name == WEBHOOK) {
            Some(webhook) => update(webhook, ours),
            None => webhooks.push(ours),
        }
        wanted
    }

    fn webhook(&self, authority: Vec<u8>) -> MutatingWebhook {
        let (service, url) = match self.reach.clone() {
            Reach::Service { namespace, name } => {
                (Some(ServiceReference { name, namespace, path: None, port: None }), None)
            }
            Reach::Url(url) => (None, Some(url)),
        };
        let ca_bundle = (!authority.is_empty()).then_some(ByteString(authority));
        MutatingWebhook {
            name: WEBHOOK.to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            rules: Some(vec![
                rule(&["CREATE"], "", "v1", "pods"),
                rule(&["CREATE", "UPDATE"], vpa_api::names::GROUP, "*", "verticalpodautoscalers"),
            ]),
            failure_policy: Some(if self.fail { "Fail" } else { "Ignore" }.to_owned()),
            client_config: WebhookClientConfig { ca_bundle, service, url },
            side_effects: "None".to_owned(),
            timeout_seconds: Some(self.timeout_seconds),
            namespace_selector: Some(self.namespaces()),
            ..MutatingWebhook::default()
        }
    }

    fn namespaces(&self) -> LabelSelector {
        let expression = |operator: &str, values: Vec<String>| LabelSelectorRequirement {
            key: NAMESPACE_LABEL.to_owned(),
            operator: operator.to_owned(),
            values: Some(values),
        };
        let only = self.only.clone().map(|namespace| expression("In", vec![namespace]));
        let without = Vec::from_iter(self.without.iter().cloned());
        let without = (!without.is_empty()).then(|| expression("NotIn", without));
        let expressions: Vec<_> = only.into_iter().chain(without).collect();
        LabelSelector {
            match_expressions: (!expressions.is_empty()).then_some(expressions),
            match_labels: None,
        }
    }

    /// Brings the configuration to what it should be, and notes in `known` what it is.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub(crate) async fn apply(
        &self,
        cluster: &Cluster,
        certificates: &Certificates,
        may_create: bool,
        overlap: &mut Overlap,
        known: &Known,
    ) -> Result<Look, String> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
        for _ in 0..CONFLICTS_MAX {
            let found = api.get_opt(CONFIGURATION).await.map_err(|error| explain(&error, "get"))?;
            let moment = Moment { steady: clock::steady(), wall: clock::wall(), alone: certificates.alone() };
            let there = trusted(found.as_ref());
            let bundle = overlap.merge(&there, &own_authorities(&certificates.served(), &there), moment);
            let wanted = self.wanted(found.as_ref(), bundle.clone());
            let (verb, result) = match &found {
                None if !may_create => {
                    known.not_written();
                    return Ok(Look::Missing);
                }
                None => {
                    known.not_written();
                    ("create", api.create(&PostParams::default(), &wanted).await.map(drop))
                }
                Some(found) => {
                    let Some(change) = patch::diff(&json(found), &json(&wanted)) else {
                        known.written(&bundle, moment.steady);
                        return Ok(Look::Same);
                    };
                    let version = found.metadata.resource_version.as_deref();
                    ("patch", patch::merge(&api, CONFIGURATION, change, version).await.map(drop))
                }
            };
            match result {
                Ok(()) => {
                    known.written(&bundle, moment.steady);
                    return Ok(Look::Written);
                }
                Err(error) if Failure::of(&error) == Failure::Conflict => {}
                Err(error) => {
                    // It stays as it was found, which may be good enough: a label that cannot be set harms nobody.
                    if !self.calls_here(found.as_ref()) {
                        known.not_written();
                    }
                    return Err(explain(&error, verb));
                }
            }
        }
        Err(format!("{CONFIGURATION} was changed by others {CONFLICTS_MAX} times in a row"))
    }

    /// Whether the configuration sends reviews to this program.
    fn calls_here(&self, found: Option<&MutatingWebhookConfiguration>) -> bool {
        ours(found).is_some_and(|webhook| self.reach.is_in(&webhook.client_config))
    }
}

/// Namespaces in which pods can always be created with the failure policy Fail: the program's own, whose pods could not
/// come back after all of them are gone, and that of what the cluster itself needs, such as its network and DNS.
fn unlocked(own: &str) -> [String; 2] {
    [own.to_owned(), SYSTEM.to_owned()]
}

/// What has to be trusted on this replica's account: the authorities that go with its certificate and, where none of them
/// signed it, the one that is there and did. A wrong file must not undo what works.
fn own_authorities(served: &Served, there: &[u8]) -> Vec<u8> {
    let mut own = served.authority.clone();
    if !served.of_a_stranger() {
        return own;
    }
    let signs = |found: &CertificateDer<'static>| served.signed_by(std::slice::from_ref(found));
    let signer = x509::split(there).unwrap_or_default().into_iter().find(signs);
    own.extend(x509::pem(&signer).into_bytes());
    own
}

/// The webhook of this suite.
fn ours(found: Option<&MutatingWebhookConfiguration>) -> Option<&MutatingWebhook> {
    found?.webhooks.as_ref()?.iter().find(|webhook| webhook.name == WEBHOOK)
}

/// Authorities that the configuration trusts, in PEM.
fn trusted(found: Option<&MutatingWebhookConfiguration>) -> Vec<u8> {
    let bundle = ours(found).and_then(|webhook| webhook.client_config.ca_bundle.clone());
    bundle.map(|ByteString(bytes)| bytes).unwrap_or_default()
}

/// Sets what is ours and leaves what the API server filled in or an operator added (match conditions, object selector).
fn update(webhook: &mut MutatingWebhook, ours: MutatingWebhook) {
    let MutatingWebhook {
        name: _,
        admission_review_versions,
        rules,
        failure_policy,
        client_config,
        side_effects,
        timeout_seconds,
        namespace_selector,
        match_conditions: _,
        match_policy: _,
        object_selector: _,
        reinvocation_policy: _,
    } = ours;
    webhook.admission_review_versions = admission_review_versions;
    webhook.failure_policy = failure_policy;
    webhook.side_effects = side_effects;
    webhook.timeout_seconds = timeout_seconds;
    webhook.namespace_selector = namespace_selector;
    // The API server adds the default scope of rules and port of services; those are not differences.
    let all_scopes = |rule| RuleWithOperations { scope: Some("*".to_owned()), ..rule };
    webhook.rules = rules.map(|rules| rules.into_iter().map(all_scopes).collect());
    webhook.client_config = WebhookClientConfig {
        service: client_config.service.map(|service| ServiceReference { port: Some(443), ..service }),
        ..client_config
    };
}

fn rule(operations: &[&str], group: &str, version: &str, resource: &str) -> RuleWithOperations {
    RuleWithOperations {
        operations: Some(operations.iter().map(|&operation| operation.to_owned()).collect()),
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        scope: None,
    }
}

fn json(configuration: &MutatingWebhookConfiguration) -> Value {
    serde_json::to_value(configuration).unwrap_or_default()
}

fn explain(error: &kube::Error, verb: &str) -> String {
    match Failure::of(error) {
        Failure::Forbidden(text) => {
            format!(
                "no permission to {verb} mutatingwebhookconfigurations.admissionregistration.k8s.io: {text}"
            )
        }
        _ => format!("{verb} {CONFIGURATION}: {}", chain(error)),
    }
}

#[cfg(test)]
mod in_a_cluster;
#[cfg(test)]
mod tests;
