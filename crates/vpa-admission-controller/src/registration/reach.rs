//! The way from the API server to the webhook.

use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use vpa_runtime::FlagError;

use crate::args::ReachFlags;

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

impl Reach {
    /// Reads the flags; `namespace` is that of the program.
    ///
    /// # Errors
    /// A URL that the API server would refuse.
    pub fn new(flags: &ReachFlags, namespace: &str) -> Result<Self, FlagError> {
        let ReachFlags { register_by_url, webhook_service, webhook_address, webhook_port } = flags;
        if !*register_by_url {
            return Ok(Self::Service { namespace: namespace.to_owned(), name: webhook_service.clone() });
        }
        if !webhook_address.starts_with("https://") {
            let allowed = "a URL that starts with https://, such as https://10.0.0.1";
            return Err(FlagError::new("webhook-address", webhook_address, allowed));
        }
        let port = if webhook_port.is_empty() { String::new() } else { format!(":{webhook_port}") };
        Ok(Self::Url(format!("{webhook_address}{port}")))
    }

    /// Host by which the API server calls the webhook, and which the certificate has to name.
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Service { namespace, name } => Some(format!("{name}.{namespace}.svc")),
            Self::Url(url) => host(url),
        }
    }

    /// Whether a configuration leads here.
    pub(super) fn is_in(&self, client: &WebhookClientConfig) -> bool {
        match (self, &client.service, &client.url) {
            (Self::Service { namespace, name }, Some(service), _) => {
                service.namespace == *namespace && service.name == *name
            }
            (Self::Url(own), None, Some(url)) => url.trim_end_matches('/') == own.trim_end_matches('/'),
            _ => false,
        }
    }
}

/// Host of a URL, without the brackets of an IPv6 address.
pub(super) fn host(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}
