//! The webhook configuration in the cluster.
//!
//! It is created where it is missing and patched where it differs, never deleted: while there is none, pods are created
//! without their recommendation. It is looked at from time to time, so that one that was removed or changed by mistake
//! comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::Value;
use vpa_runtime::client::{Failure, chain};
use vpa_runtime::flags::Scope;
use vpa_runtime::{Cluster, FlagError, patch};

use crate::args::{self, RegistrationFlags};

/// Name of the configuration.
pub const CONFIGURATION: &str = "vpa-webhook-config";
/// Name of the webhook in it.
pub const WEBHOOK: &str = "vpa.k8s.io";

/// Time between two looks at the configuration.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Time between two tries when it cannot be written.
pub const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Tries when others write it at the same moment.
const CONFLICTS_MAX: usize = 5;
/// Authorities that are kept from other replicas, which sign their own certificates: more than any deployment has
/// replicas, and old ones must not pile up.
const AUTHORITIES_MAX: usize = 8;

/// How the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By a service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// By a URL.
    Url(String),
}

/// What the configuration has to say.
#[derive(Clone, Debug)]
pub struct Registration {
    reach: Reach,
    timeout_seconds: i32,
    fail: bool,
    labels: BTreeMap<String, String>,
    scope: Scope,
}

impl Registration {
    /// Reads the flags; `namespace` is that of this program.
    ///
    /// # Errors
    /// A value that the API server would refuse.
    pub fn new(flags: &RegistrationFlags, namespace: &str, scope: &Scope) -> Result<Self, FlagError> {
        let RegistrationFlags {
            register_webhook: _,
            register_by_url,
            webhook_service,
            webhook_address,
            webhook_port,
            webhook_timeout_seconds,
            webhook_failure_policy_fail,
            webhook_labels,
        } = flags;
        let reach = if *register_by_url {
            if !webhook_address.starts_with("https://") {
                let allowed = "a URL that starts with https://, such as https://10.0.0.1";
                return Err(FlagError::new("webhook-address", webhook_address, allowed));
            }
            let port = if webhook_port.is_empty() { String::new() } else { format!(":{webhook_port}") };
            Reach::Url(format!("{webhook_address}{port}"))
        } else {
            Reach::Service { namespace: namespace.to_owned(), name: webhook_service.clone() }
        };
        if !(1..=30).contains(webhook_timeout_seconds) {
            let found = webhook_timeout_seconds.to_string();
            return Err(FlagError::new("webhook-timeout-seconds", found, "a number from 1 to 30"));
        }
        Ok(Self {
            reach,
            timeout_seconds: *webhook_timeout_seconds,
            fail: *webhook_failure_policy_fail,
            labels: args::labels(webhook_labels)?,
            scope: scope.clone(),
        })
    }

    /// Names under which the API server knows the webhook, for a certificate.
    pub fn names(&self) -> Vec<String> {
        match &self.reach {
            Reach::Service { namespace, name } => {
                let full = format!("{name}.{namespace}.svc");
                vec![format!("{full}.cluster.local"), full, format!("{name}.{namespace}"), name.clone()]
            }
            Reach::Url(url) => host(url).into_iter().collect(),
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
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: operator.to_owned(),
            values: Some(values),
        };
        let Scope { namespace, ignored } = &self.scope;
        let only = namespace.clone().map(|namespace| expression("In", vec![namespace]));
        let without = (!ignored.is_empty()).then(|| expression("NotIn", ignored.iter().cloned().collect()));
        let expressions: Vec<_> = only.into_iter().chain(without).collect();
        LabelSelector {
            match_expressions: (!expressions.is_empty()).then_some(expressions),
            match_labels: None,
        }
    }

    /// Brings the configuration to what it should be; true when something was written. With `shared` authorities of
    /// other replicas are kept beside this one's.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub async fn apply(&self, cluster: &Cluster, authority: &[u8], shared: bool) -> Result<bool, String> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
        for _ in 0..CONFLICTS_MAX {
            let found = api.get_opt(CONFIGURATION).await.map_err(|error| explain(&error, "get"))?;
            let bundle = if shared { bundle(found.as_ref(), authority) } else { authority.to_vec() };
            let wanted = self.wanted(found.as_ref(), bundle);
            let (verb, result) = match &found {
                None => ("create", api.create(&PostParams::default(), &wanted).await.map(drop)),
                Some(found) => {
                    let Some(change) = patch::diff(&json(found), &json(&wanted)) else { return Ok(false) };
                    let version = found.metadata.resource_version.as_deref();
                    ("patch", patch::merge(&api, CONFIGURATION, change, version).await.map(drop))
                }
            };
            match result {
                Ok(()) => return Ok(true),
                Err(error) if Failure::of(&error) == Failure::Conflict => {}
                Err(error) => return Err(explain(&error, verb)),
            }
        }
        Err(format!("{CONFIGURATION} was changed by others {CONFLICTS_MAX} times in a row"))
    }
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

/// This replica's authority first, then those that are there already.
fn bundle(found: Option<&MutatingWebhookConfiguration>, authority: &[u8]) -> Vec<u8> {
    const END: &str = "-----END CERTIFICATE-----";
    let there = found
        .and_then(|found| found.webhooks.as_ref()?.iter().find(|webhook| webhook.name == WEBHOOK))
        .and_then(|webhook| webhook.client_config.ca_bundle.as_ref())
        .map(|ByteString(bytes)| String::from_utf8_lossy(bytes).into_owned())
        .unwrap_or_default();
    let own = String::from_utf8_lossy(authority).trim().to_owned();
    let mut seen = BTreeSet::from([own.clone()]);
    let others = there.split_inclusive(END).map(str::trim).filter(|pem| pem.ends_with(END));
    let others: Vec<&str> = others.filter(|pem| seen.insert((*pem).to_owned())).collect();
    // Where ours is there already, nothing changes, whatever the order: replicas must not write in turns.
    if there.contains(&own) && others.len() < AUTHORITIES_MAX {
        return there.into_bytes();
    }
    let others = others.into_iter().take(AUTHORITIES_MAX - 1);
    let all: Vec<&str> = std::iter::once(own.as_str()).chain(others).collect();
    format!("{}\n", all.join("\n")).into_bytes()
}

/// Host of a URL, without the brackets of an IPv6 address.
fn host(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
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
mod tests;
