//! Flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vpa_api::Quantity;
use vpa_runtime::FlagError;
use vpa_runtime::flags::{CommonFlags, GoDuration, parse_positive_duration};

/// Flags of the admission controller.
#[derive(clap::Parser, Clone, Debug)]
pub struct Args {
    /// Shared flags.
    #[command(flatten)]
    pub common: CommonFlags,
    /// The HTTPS server.
    #[command(flatten)]
    pub serving: ServingFlags,
    /// The webhook configuration in the cluster.
    #[command(flatten)]
    pub registration: RegistrationFlags,
    /// The heartbeat.
    #[command(flatten)]
    pub heartbeat: HeartbeatFlags,
    /// Most CPU, as a quantity, that a container gets by a startup boost; empty or 0 for no bound
    #[arg(long, default_value = "", value_name = "QUANTITY", value_parser = parse_boost)]
    pub max_allowed_cpu_boost: Boost,
}

impl AsRef<CommonFlags> for Args {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

/// Flags of the HTTPS server.
#[derive(clap::Args, Clone, Debug)]
pub struct ServingFlags {
    /// Port of the webhook
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    pub port: u16,
    /// Address of the interface that the webhook listens on; empty for all
    #[arg(long, default_value = "", value_name = "ADDRESS")]
    pub bind_address: String,
    /// File with the certificate of the authority that signed the server's, in PEM; goes into the webhook
    /// configuration
    #[arg(long, default_value = DEFAULT_CA, value_name = "PATH")]
    pub client_ca_file: PathBuf,
    /// File with the server's certificate chain in PEM. Where the three default files do not exist, the program makes
    /// its own certificates and keeps them as --certificate-secret-name says
    #[arg(long, default_value = DEFAULT_CERTIFICATE, value_name = "PATH")]
    pub tls_cert_file: PathBuf,
    /// File with the key of the server's certificate in PEM
    #[arg(long, default_value = DEFAULT_KEY, value_name = "PATH")]
    pub tls_private_key: PathBuf,
    /// Read the certificate files again when they change. On by default, unlike in the Go suite: a certificate that
    /// expires stops all admission
    #[arg(long, default_value_t = true)]
    pub reload_cert: bool,
    /// Secret, in the namespace of this program, with the certificates that the program makes where no files are given: all
    /// replicas serve those, and renew them in time. Empty to keep them in memory, for a single replica
    #[arg(long, default_value = DEFAULT_SECRET, value_name = "NAME")]
    pub certificate_secret_name: String,
    /// Oldest version of TLS to take: tls1_2 or tls1_3
    #[arg(long, default_value = "tls1_2", value_name = "VERSION")]
    pub min_tls_version: String,
    /// Cipher suites of TLS 1.2 to take, by their IANA names, separated by commas or colons; empty for all that are
    /// safe
    #[arg(long, default_value = "", value_name = "NAMES")]
    pub tls_ciphers: String,
    /// Time to go on serving after SIGTERM, while the cluster learns that this replica is going
    #[arg(long, default_value = "2s", value_name = "DURATION")]
    pub shutdown_delay: GoDuration,
}

/// Default of `--certificate-secret-name`.
pub const DEFAULT_SECRET: &str = "vpa-webhook-certificates";
/// Default of `--client-ca-file`.
pub const DEFAULT_CA: &str = "/etc/tls-certs/caCert.pem";
/// Default of `--tls-cert-file`.
pub const DEFAULT_CERTIFICATE: &str = "/etc/tls-certs/serverCert.pem";
/// Default of `--tls-private-key`.
pub const DEFAULT_KEY: &str = "/etc/tls-certs/serverKey.pem";

/// Flags of the webhook configuration.
#[derive(clap::Args, Clone, Debug)]
pub struct RegistrationFlags {
    /// Write the webhook configuration vpa-webhook-config, and keep it as these flags say
    #[arg(long, default_value_t = true)]
    pub register_webhook: bool,
    /// Where the API server finds the webhook.
    #[command(flatten)]
    pub reach: ReachFlags,
    /// Time in seconds that the API server waits for an answer, from 1 to 30
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub webhook_timeout_seconds: i32,
    /// Let the creation of pods fail when the webhook does not answer, except in kube-system and in the namespace of this
    /// program, whose pods are not reviewed then, so that a cluster can always come back. Without it pods are created as
    /// they are
    #[arg(long)]
    pub webhook_failure_policy_fail: bool,
    /// Labels of the webhook configuration, as key:value,key:value
    #[arg(long, default_value = "", value_name = "LABELS")]
    pub webhook_labels: String,
}

/// Flags that say where the API server finds the webhook.
#[derive(clap::Args, Clone, Debug)]
pub struct ReachFlags {
    /// Register by URL (--webhook-address and --webhook-port) instead of by service
    #[arg(long)]
    pub register_by_url: bool,
    /// Service of the webhook, in the namespace of this program
    #[arg(long, default_value = "vpa-webhook", value_name = "NAME")]
    pub webhook_service: String,
    /// Address of the webhook, such as https://10.0.0.1; with --register-by-url
    #[arg(long, default_value = "", value_name = "URL")]
    pub webhook_address: String,
    /// Port of the webhook; with --register-by-url
    #[arg(long, default_value = "", value_name = "PORT")]
    pub webhook_port: String,
}

/// Flags of the heartbeat.
#[derive(clap::Args, Clone, Debug)]
pub struct HeartbeatFlags {
    /// Name of the lease that says that this program is alive; the updater's
    /// --admission-controller-status-lease-name has to name the same
    #[arg(long, default_value = vpa_api::names::lease::ADMISSION_CONTROLLER, value_name = "NAME")]
    pub status_lease_name: String,
    /// Namespace of that lease; empty for that of the variable NAMESPACE, or else kube-system
    #[arg(long, default_value = "", value_name = "NAMESPACE")]
    pub status_lease_namespace: String,
    /// Time between two renewals of the lease, and the longest that one may take; well below the updater's
    /// --admission-controller-status-lease-timeout
    #[arg(long, default_value = "10s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub status_lease_update_interval: GoDuration,
}

/// Value of `--max-allowed-cpu-boost`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boost(pub Option<Quantity>);

fn parse_boost(text: &str) -> Result<Boost, String> {
    if text.is_empty() {
        return Ok(Boost(None));
    }
    let amount = Quantity::parse(text).map_err(|error| error.to_string())?;
    if amount.signum() < 0 { Err("must not be negative".to_owned()) } else { Ok(Boost(Some(amount))) }
}

/// Reads `--webhook-labels`.
///
/// # Errors
/// An entry without a colon or a key.
pub fn labels(text: &str) -> Result<BTreeMap<String, String>, FlagError> {
    let text = text.trim_matches('"');
    let error = || FlagError::new("webhook-labels", text, "key:value, several separated by commas");
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let entry = |entry: &str| {
        let (key, value) = entry.split_once(':').ok_or_else(error)?;
        let key = key.trim();
        if key.is_empty() { Err(error()) } else { Ok((key.to_owned(), value.trim().to_owned())) }
    };
    text.split(',').map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_the_go_suite_does() {
        let read = |text: &str| labels(text).ok().map(|labels| format!("{labels:?}"));
        assert_eq!(read("").as_deref(), Some("{}"));
        assert_eq!(read("\"a:b, c : d:e\"").as_deref(), Some(r#"{"a": "b", "c": "d:e"}"#));
        assert_eq!(read("a"), None);
        assert_eq!(read(":b"), None);
        assert_eq!(read("a:b,"), None);
    }

    #[test]
    fn the_boost_is_a_quantity_or_nothing() {
        assert_eq!(parse_boost(""), Ok(Boost(None)));
        assert_eq!(parse_boost("2"), Ok(Boost(Some(Quantity::parse("2").unwrap()))));
        assert!(parse_boost("-1").is_err());
        assert!(parse_boost("much").is_err());
    }
}
