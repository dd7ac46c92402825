//! The end of an installation: the webhook configuration goes.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, WebhookClientConfig};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use serde_json::json;
use vpa_runtime::client::Failure;
use vpa_runtime::{Cluster, patch};

use super::{CONFIGURATION, CONFLICTS_MAX, Reach, WEBHOOK, ours};

/// What became of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Whole,
    /// The webhook is gone from it; others that are in it stay.
    Webhook,
    /// There was none, or no webhook of this suite in it.
    Nothing,
    /// Its webhook belongs to somebody else, who is reached so; it was left alone.
    Foreign(String),
}

impl Reach {
    /// Removes the configuration, if its webhook is the one that is reached so. A webhook that leads elsewhere (to
    /// another installation, say one of the Go suite that has taken over) is left alone.
    ///
    /// # Errors
    /// What keeps it from being removed.
    pub async fn remove(&self, cluster: &Cluster) -> Result<Removed, kube::Error> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
        let mut tries = 0;
        loop {
            let Some(found) = api.get_opt(CONFIGURATION).await? else { return Ok(Removed::Nothing) };
            let Some(webhook) = ours(Some(&found)) else { return Ok(Removed::Nothing) };
            if !self.is_in(&webhook.client_config) {
                return Ok(Removed::Foreign(way(&webhook.client_config)));
            }
            let others = found.webhooks.iter().flatten().filter(|webhook| webhook.name != WEBHOOK);
            let others: Vec<_> = others.cloned().collect();
            let version = found.metadata.resource_version.clone();
            let (result, removed) = if others.is_empty() {
                // Only the object that was looked at: one that was made in the meantime may be another's.
                let preconditions =
                    Preconditions { uid: found.metadata.uid.clone(), resource_version: version };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                (api.delete(CONFIGURATION, &params).await.map(drop), Removed::Whole)
            } else {
                let change = json!({ "webhooks": others });
                let result = patch::merge(&api, CONFIGURATION, change, version.as_deref()).await;
                (result.map(drop), Removed::Webhook)
            };
            tries += 1;
            match result {
                Ok(()) => return Ok(removed),
                Err(error) => match Failure::of(&error) {
                    Failure::NotFound => return Ok(removed),
                    Failure::Conflict if tries < CONFLICTS_MAX => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

/// Where a webhook leads, for people.
fn way(client: &WebhookClientConfig) -> String {
    match (&client.service, &client.url) {
        (Some(service), _) => format!("service {}/{}", service.namespace, service.name),
        (None, Some(url)) => url.clone(),
        (None, None) => "nowhere".to_owned(),
    }
}
