//! Groups of flags that the programs share.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use vpa_core::leader;

use super::values::{parse_non_negative, parse_positive_duration};
use super::{CommaList, FeatureGates, GoDuration, ListenAddress};
use crate::FlagError;

/// What has to be known of the flags of any command.
pub trait Flags: clap::Parser {
    /// How to log.
    fn log(&self) -> &LogFlags;

    /// Checks flags against each other.
    ///
    /// # Errors
    /// The first pair that contradicts itself.
    fn validate(&self) -> Result<(), FlagError> {
        Ok(())
    }
}

impl<A: clap::Parser + AsRef<CommonFlags>> Flags for A {
    fn log(&self) -> &LogFlags {
        &self.as_ref().log
    }

    fn validate(&self) -> Result<(), FlagError> {
        self.as_ref().validate()
    }
}

/// Flags that every program has.
#[derive(clap::Args, Clone, Debug)]
pub struct CommonFlags {
    /// The cluster.
    #[command(flatten)]
    pub kube: KubeFlags,
    /// Which VPAs to look at.
    #[command(flatten)]
    pub scope: ScopeFlags,
    /// Logs.
    #[command(flatten)]
    pub log: LogFlags,
    /// Address of the HTTP server for /metrics, /health-check, /healthz and /readyz
    #[arg(long, value_name = "HOST:PORT")]
    pub address: ListenAddress,
    /// Serve /debug/tasks, a list of what the program is doing
    #[arg(long)]
    pub profiling: bool,
    /// Features to switch, as Name=true|false; CPUStartupBoost, InPlace and PerVPAConfig are all on by default
    #[arg(long, value_name = "NAME=BOOL,...", default_value_t)]
    pub feature_gates: FeatureGates,
}

impl CommonFlags {
    /// Checks flags against each other.
    ///
    /// # Errors
    /// The first pair that contradicts itself.
    pub fn validate(&self) -> Result<(), FlagError> {
        self.scope.scope().map(drop)
    }
}

/// Flags for the connection to the API server.
#[derive(clap::Args, Clone, Debug)]
pub struct KubeFlags {
    /// Path to a kubeconfig; without it KUBECONFIG, ~/.kube/config or the service account of the pod is used
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    pub kubeconfig: Option<PathBuf>,
    /// Requests a second to the API server, fractions allowed; 0 leaves the limit to the API server's own fairness
    /// queues, which know its load better than a client does
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND", value_parser = parse_non_negative)]
    pub kube_api_qps: f64,
    /// Requests that may go at once before --kube-api-qps applies
    #[arg(long, default_value_t = 100.0, value_name = "COUNT", value_parser = parse_non_negative)]
    pub kube_api_burst: f64,
}

/// A path; unlike clap's own parser it takes an empty one, which means none.
fn parse_path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

/// Flags for the namespaces of VPAs.
#[derive(clap::Args, Clone, Debug)]
pub struct ScopeFlags {
    /// Namespace to look for VPAs in; empty for all
    #[arg(long, default_value = "", value_name = "NAMESPACE")]
    pub vpa_object_namespace: String,
    /// Namespaces whose VPAs are left alone, separated by commas; excludes --vpa-object-namespace
    #[arg(long, default_value = "", value_name = "NAMESPACES")]
    pub ignored_vpa_object_namespaces: CommaListText,
}

/// A [`CommaList`] that remembers its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommaListText(String, BTreeSet<String>);

impl std::str::FromStr for CommaListText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let CommaList(entries) = text.parse()?;
        Ok(Self(text.to_owned(), entries))
    }
}

impl ScopeFlags {
    /// The namespaces that these flags select.
    ///
    /// # Errors
    /// Both flags are given.
    pub fn scope(&self) -> Result<Scope, FlagError> {
        let namespace = Some(self.vpa_object_namespace.clone()).filter(|namespace| !namespace.is_empty());
        let CommaListText(text, ignored) = self.ignored_vpa_object_namespaces.clone();
        if namespace.is_some() && !ignored.is_empty() {
            return Err(FlagError::new(
                "ignored-vpa-object-namespaces",
                text,
                "nothing, since --vpa-object-namespace is given too",
            ));
        }
        Ok(Scope { namespace, ignored })
    }
}

/// The namespaces whose VPAs a program serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The only one, or none for all.
    pub namespace: Option<String>,
    /// Those that are left alone.
    pub ignored: BTreeSet<String>,
}

impl Scope {
    /// Whether VPAs of a namespace are served.
    pub fn admits(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|only| only == namespace) && !self.ignored.contains(namespace)
    }
}

/// Form of the log.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Flags for the log.
#[derive(clap::Args, Clone, Debug)]
pub struct LogFlags {
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to log, as directives such as `info,vpa_updater=debug`; without it -v decides
    #[arg(long, value_name = "DIRECTIVES")]
    pub log_filter: Option<String>,
    /// klog's flags.
    #[command(flatten)]
    pub klog: KlogFlags,
}

impl LogFlags {
    /// Level that `-v` asks for.
    pub fn verbosity(&self) -> Verbosity {
        match self.klog.v {
            ..=4 => Verbosity::Info,
            5..=6 => Verbosity::Debug,
            _ => Verbosity::Trace,
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// `-v` up to 4, the Go suite's default.
    Info,
    /// `-v` 5 and 6.
    Debug,
    /// `-v` from 7.
    Trace,
}

/// Flags of Go's log library. All are taken, so that a command line of the Go suite works; only `v` has an effect.
#[derive(clap::Args, Clone, Debug)]
pub struct KlogFlags {
    /// Verbosity of the log: up to 4 info, 5 and 6 debug, from 7 trace
    #[arg(long, default_value_t = 4, value_name = "LEVEL")]
    pub v: i32,
    /// No effect
    #[arg(long, hide_short_help = true)]
    pub add_dir_header: bool,
    /// No effect
    #[arg(long, hide_short_help = true)]
    pub alsologtostderr: bool,
    /// No effect
    #[arg(long, hide_short_help = true, default_value = "")]
    pub alsologtostderrthreshold: String,
    /// No effect
    #[arg(long, hide_short_help = true, default_value_t = true)]
    pub legacy_stderr_threshold_behavior: bool,
    /// No effect
    #[arg(long, hide_short_help = true, default_value = ":0")]
    pub log_backtrace_at: String,
    /// No effect: logs go to standard error
    #[arg(long, hide_short_help = true, default_value = "")]
    pub log_dir: String,
    /// No effect: logs go to standard error
    #[arg(long, hide_short_help = true, default_value = "")]
    pub log_file: String,
    /// No effect
    #[arg(long, hide_short_help = true, default_value_t = 1800)]
    pub log_file_max_size: u64,
    /// No effect: logs always go to standard error
    #[arg(long, hide_short_help = true, default_value_t = true)]
    pub logtostderr: bool,
    /// No effect
    #[arg(long, hide_short_help = true)]
    pub one_output: bool,
    /// No effect
    #[arg(long, hide_short_help = true)]
    pub skip_headers: bool,
    /// No effect
    #[arg(long, hide_short_help = true)]
    pub skip_log_headers: bool,
    /// No effect
    #[arg(long, hide_short_help = true, default_value = "info")]
    pub stderrthreshold: String,
    /// No effect; see --log-filter
    #[arg(long, hide_short_help = true, default_value = "")]
    pub vmodule: String,
}

impl KlogFlags {
    /// Those that have no effect, by the names of their fields.
    pub(super) const IGNORED: [&'static str; 14] = [
        "add_dir_header",
        "alsologtostderr",
        "alsologtostderrthreshold",
        "legacy_stderr_threshold_behavior",
        "log_backtrace_at",
        "log_dir",
        "log_file",
        "log_file_max_size",
        "logtostderr",
        "one_output",
        "skip_headers",
        "skip_log_headers",
        "stderrthreshold",
        "vmodule",
    ];
}

/// Flags for leader election among replicas.
#[derive(clap::Args, Clone, Debug)]
pub struct LeaderElectFlags {
    /// Wait for leadership before doing anything; for more than one replica
    #[arg(long)]
    pub leader_elect: bool,
    /// Time that others wait without a sign of the leader before one of them takes over; the longest that a dead
    /// leader goes without a successor
    #[arg(long, default_value = "15s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub leader_elect_lease_duration: GoDuration,
    /// Time after which a leader that cannot renew stops; shorter than --leader-elect-lease-duration
    #[arg(long, default_value = "10s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub leader_elect_renew_deadline: GoDuration,
    /// Time between two tries to acquire or to renew
    #[arg(long, default_value = "2s", value_parser = parse_positive_duration, value_name = "DURATION")]
    pub leader_elect_retry_period: GoDuration,
    /// Kind of lock; only leases
    #[arg(long, default_value = "leases", value_name = "KIND")]
    pub leader_elect_resource_lock: String,
    /// Name of the lease
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: String,
    /// Namespace of the lease
    #[arg(long, default_value = "kube-system", value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: String,
}

impl LeaderElectFlags {
    /// The times as the election takes them.
    ///
    /// # Errors
    /// The times do not leave room for each other, or the lock is of another kind than `leases`.
    pub fn settings(&self) -> Result<leader::Settings, FlagError> {
        if self.leader_elect_resource_lock != "leases" {
            let found = &self.leader_elect_resource_lock;
            return Err(FlagError::new("leader-elect-resource-lock", found, "leases"));
        }
        let settings = leader::Settings {
            lease_duration: Duration::from(self.leader_elect_lease_duration),
            renew_deadline: Duration::from(self.leader_elect_renew_deadline),
            retry_period: Duration::from(self.leader_elect_retry_period),
        };
        settings.validate().map_err(|problem| match problem {
            leader::SettingsError::RenewDeadline => FlagError::new(
                "leader-elect-renew-deadline",
                self.leader_elect_renew_deadline.to_string(),
                format!("less than --leader-elect-lease-duration, {}", self.leader_elect_lease_duration),
            ),
            leader::SettingsError::RetryPeriod => FlagError::new(
                "leader-elect-retry-period",
                self.leader_elect_retry_period.to_string(),
                format!(
                    "less than 5/6 of --leader-elect-renew-deadline, {}",
                    self.leader_elect_renew_deadline
                ),
            ),
            leader::SettingsError::LeaseDuration => FlagError::new(
                "leader-elect-lease-duration",
                self.leader_elect_lease_duration.to_string(),
                "1s or more, as a lease holds whole seconds",
            ),
        })?;
        Ok(settings)
    }
}
