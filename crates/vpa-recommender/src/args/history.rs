//! Flags of where history and usage come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use vpa_runtime::FlagError;
use vpa_runtime::flags::{GoDuration, parse_positive_duration};

/// Flags of history and usage.
#[derive(clap::Args, Debug)]
pub(super) struct HistoryFlags {
    /// Where history from before the start is: checkpoint, or prometheus, which then keeps it; empty means checkpoint
    #[arg(long, default_value = "", value_name = "KIND")]
    storage: String,
    /// Address of Prometheus, with --storage=prometheus
    #[arg(long, default_value = "http://prometheus.monitoring.svc", value_name = "URL")]
    prometheus_address: String,
    /// Do not check the certificate of Prometheus
    #[arg(long)]
    prometheus_insecure: bool,
    /// Certificates, as PEM, that Prometheus' own is checked against; those of the system by default
    #[arg(long, value_name = "PATH")]
    prometheus_ca_file: Option<PathBuf>,
    /// Name of the scrape job of cAdvisor; empty for any
    #[arg(long, default_value = "kubernetes-cadvisor", value_name = "NAME")]
    prometheus_cadvisor_job_name: String,
    /// Longest time of one query
    #[arg(long, default_value = "5m", value_parser = parse_positive_duration, value_name = "DURATION")]
    prometheus_query_timeout: GoDuration,
    /// Token for Prometheus
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOKEN")]
    prometheus_bearer_token: Secret,
    /// File with the token for Prometheus; read again when it changes
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PATH")]
    prometheus_bearer_token_file: String,
    /// User name for Prometheus; also taken from PROMETHEUS_USERNAME
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    username: String,
    /// Password for Prometheus; also taken from PROMETHEUS_PASSWORD
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PASSWORD")]
    password: Secret,
    /// How far back history is read, in Prometheus' form: 8d, 1w, 36h
    #[arg(long, default_value = "8d", value_name = "DURATION")]
    history_length: PrometheusDuration,
    /// Time between two samples of history
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    history_resolution: PrometheusDuration,
    /// Metric of CPU seconds used
    #[arg(long, default_value = "container_cpu_usage_seconds_total", value_name = "METRIC")]
    history_cpu_metric: String,
    /// Metric of bytes of memory used
    #[arg(long, default_value = "container_memory_working_set_bytes", value_name = "METRIC")]
    history_memory_metric: String,
    /// Metric whose labels hold those of pods
    #[arg(long, default_value = "up{job=\"kubernetes-pods\"}", value_name = "METRIC")]
    metric_for_pod_labels: String,
    /// What the names of these labels begin with
    #[arg(long, default_value = "pod_label_", value_name = "PREFIX")]
    pod_label_prefix: String,
    /// Label of that metric with the pod's namespace
    #[arg(long, default_value = "kubernetes_namespace", value_name = "LABEL")]
    pod_namespace_label: String,
    /// Label of that metric with the pod's name
    #[arg(long, default_value = "kubernetes_pod_name", value_name = "LABEL")]
    pod_name_label: String,
    /// Label of the usage metrics with the pod's namespace
    #[arg(long, default_value = "namespace", value_name = "LABEL")]
    container_namespace_label: String,
    /// Label of the usage metrics with the pod's name
    #[arg(long, default_value = "pod_name", value_name = "LABEL")]
    container_pod_name_label: String,
    /// Label of the usage metrics, and of external metrics, with the container's name
    #[arg(long, default_value = "name", value_name = "LABEL")]
    container_name_label: String,

    /// Read usage from external metrics in place of metrics.k8s.io
    #[arg(long)]
    use_external_metrics: bool,
    /// External metric of CPU in use
    #[arg(long, default_value = "", value_name = "METRIC")]
    external_metrics_cpu_metric: String,
    /// External metric of memory in use
    #[arg(long, default_value = "", value_name = "METRIC")]
    external_metrics_memory_metric: String,
}

/// Where history from before the start comes from.
#[derive(Clone, Debug)]
pub(crate) enum HistorySource {
    /// The checkpoints in the cluster.
    Checkpoints,
    /// Prometheus, which keeps it as well: no checkpoints are written.
    Prometheus(Box<PrometheusOptions>),
}

impl HistorySource {
    /// Whether this program keeps history in checkpoints.
    pub(crate) fn keeps_checkpoints(&self) -> bool {
        matches!(self, Self::Checkpoints)
    }
}

/// Where usage comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UsageSource {
    /// metrics.k8s.io.
    Resource,
    /// External metrics, by resource; `None` for a resource of which there is none.
    External {
        /// Metric of CPU.
        cpu: Option<String>,
        /// Metric of memory.
        memory: Option<String>,
        /// Label with the container's name.
        container_label: String,
    },
}

/// How Prometheus is reached and asked.
#[derive(Clone, Debug)]
pub(crate) struct PrometheusOptions {
    pub(crate) address: http::Uri,
    pub(crate) insecure: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) credentials: Credentials,
    pub(crate) timeout: Duration,
    pub(crate) length: PrometheusDuration,
    pub(crate) resolution: PrometheusDuration,
    pub(crate) job: String,
    pub(crate) cpu_metric: String,
    pub(crate) memory_metric: String,
    pub(crate) labels_metric: String,
    pub(crate) label_prefix: String,
    pub(crate) pod: [String; 2],
    pub(crate) container: [String; 3],
    /// The only namespace that is looked at.
    pub(crate) namespace: Option<String>,
}

/// What this program shows to Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    Basic { username: String, password: Secret },
    Token(Secret),
    TokenFile(String),
}

/// A text that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A duration in Prometheus' form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrometheusDuration {
    /// As it was given, for queries.
    pub(crate) text: String,
    /// How long it is.
    pub(crate) length: Duration,
}

impl fmt::Display for PrometheusDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PrometheusDuration {
    type Err = String;

    /// Numbers with units, the larger first, each at most once: `1w2d`, `90m`.
    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 7] = [
            ("y", 365 * 86_400_000),
            ("w", 7 * 86_400_000),
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
            ("ms", 1),
        ];
        let bad = || "a duration in Prometheus' form, such as 8d, 1h30m or 90s, longer than zero".to_owned();
        let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0_u64);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            // Units that were passed over cannot come any more, which keeps them in order.
            let (_, millis) = units.find(|(name, _)| *name == &rest[..unit]).ok_or_else(bad)?;
            total = number.checked_mul(*millis).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
            rest = &rest[unit..];
        }
        if total == 0 {
            return Err(bad());
        }
        Ok(Self { text: text.to_owned(), length: Duration::from_millis(total) })
    }
}

impl HistoryFlags {
    /// Takes the flags apart.
    ///
    /// # Errors
    /// When values contradict each other or cannot be served.
    pub(super) fn sources(self, namespace: Option<&str>) -> Result<(HistorySource, UsageSource), FlagError> {
        let Self {
            storage,
            prometheus_address,
            prometheus_insecure,
            prometheus_ca_file,
            prometheus_cadvisor_job_name,
            prometheus_query_timeout,
            prometheus_bearer_token,
            prometheus_bearer_token_file,
            username,
            password,
            history_length,
            history_resolution,
            history_cpu_metric,
            history_memory_metric,
            metric_for_pod_labels,
            pod_label_prefix,
            pod_namespace_label,
            pod_name_label,
            container_namespace_label,
            container_pod_name_label,
            container_name_label,
            use_external_metrics,
            external_metrics_cpu_metric,
            external_metrics_memory_metric,
        } = self;
        let usage = usage_source(
            use_external_metrics,
            [external_metrics_cpu_metric, external_metrics_memory_metric],
            container_name_label.clone(),
        )?;
        match storage.as_str() {
            "" | "checkpoint" => return Ok((HistorySource::Checkpoints, usage)),
            "prometheus" => {}
            _ => return Err(FlagError::new("storage", storage, "checkpoint or prometheus")),
        }
        let address = address(&prometheus_address)?;
        let credentials =
            credentials(prometheus_bearer_token, prometheus_bearer_token_file, username, password)?;
        if history_resolution.length > history_length.length {
            let allowed = format!("at most --history-length, {history_length}");
            return Err(FlagError::new("history-resolution", history_resolution.text, allowed));
        }
        let options = PrometheusOptions {
            address,
            insecure: prometheus_insecure,
            ca_file: prometheus_ca_file.filter(|path| !path.as_os_str().is_empty()),
            credentials,
            timeout: prometheus_query_timeout.into(),
            length: history_length,
            resolution: history_resolution,
            job: prometheus_cadvisor_job_name,
            cpu_metric: history_cpu_metric,
            memory_metric: history_memory_metric,
            labels_metric: metric_for_pod_labels,
            label_prefix: pod_label_prefix,
            pod: [pod_namespace_label, pod_name_label],
            container: [container_namespace_label, container_pod_name_label, container_name_label],
            namespace: namespace.map(str::to_owned),
        };
        Ok((HistorySource::Prometheus(Box::new(options)), usage))
    }
}

fn usage_source(
    external: bool,
    metrics: [String; 2],
    container_label: String,
) -> Result<UsageSource, FlagError> {
    if !external {
        return Ok(UsageSource::Resource);
    }
    let [cpu, memory] = metrics.map(|metric| Some(metric).filter(|metric| !metric.is_empty()));
    if cpu.is_none() && memory.is_none() {
        let allowed = "true with --external-metrics-cpu-metric, --external-metrics-memory-metric or both";
        return Err(FlagError::new("use-external-metrics", "true", allowed));
    }
    Ok(UsageSource::External { cpu, memory, container_label })
}

fn address(text: &str) -> Result<http::Uri, FlagError> {
    let parsed = text.parse::<http::Uri>().ok();
    let usable = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    parsed
        .filter(usable)
        .ok_or_else(|| FlagError::new("prometheus-address", text, "http://HOST[:PORT][/PATH], or https"))
}

/// One of them, or none. As in the Go suite the environment counts where no flag names any.
fn credentials(
    token: Secret,
    token_file: String,
    username: String,
    password: Secret,
) -> Result<Credentials, FlagError> {
    let given = [
        ("prometheus-bearer-token", !token.0.is_empty()),
        ("prometheus-bearer-token-file", !token_file.is_empty()),
        ("username", !username.is_empty()),
    ];
    let mut given = given.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        return Err(FlagError::new(second, "a value", format!("none beside --{first}")));
    }
    if username.is_empty() != password.0.is_empty() {
        let flag = if username.is_empty() { "username" } else { "password" };
        return Err(FlagError::new(flag, "nothing", "--username and --password together"));
    }
    if !token.0.is_empty() {
        return Ok(Credentials::Token(token));
    }
    if !token_file.is_empty() {
        return Ok(Credentials::TokenFile(token_file));
    }
    if !username.is_empty() {
        return Ok(Credentials::Basic { username, password });
    }
    let from_environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Ok(match (from_environment("PROMETHEUS_USERNAME"), from_environment("PROMETHEUS_PASSWORD")) {
        (Some(username), Some(password)) => Credentials::Basic { username, password: Secret(password) },
        _ => Credentials::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        history: HistoryFlags,
    }

    fn sources(flags: &[&str]) -> Result<(HistorySource, UsageSource), String> {
        let argv = std::iter::once("x").chain(flags.iter().copied());
        let only = <Only as clap::Parser>::try_parse_from(argv).map_err(|error| error.to_string())?;
        only.history.sources(None).map_err(|error| error.to_string())
    }

    #[test]
    fn durations_are_prometheus_own() {
        let cases = [
            ("8d", Some(8 * 86_400)),
            ("1w1d", Some(8 * 86_400)),
            ("1h30m", Some(5400)),
            ("90s", Some(90)),
            ("1y", Some(31_536_000)),
            ("", None),
            ("0s", None),
            ("5", None),
            ("h", None),
            ("1m1h", None),
            ("1h1h", None),
            ("1.5h", None),
            ("-1h", None),
            ("99999999999999999999d", None),
            ("9999999999999y", None),
        ];
        for (text, want) in cases {
            let got = text.parse::<PrometheusDuration>().ok().map(|duration| duration.length.as_secs());
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_flag_named() {
        let prometheus = "--storage=prometheus";
        let cases: [(&[&str], &str); 9] = [
            (&["--storage=disk"], "--storage"),
            (&[prometheus, "--prometheus-address="], "--prometheus-address"),
            (&[prometheus, "--prometheus-address=ftp://a"], "--prometheus-address"),
            (&[prometheus, "--prometheus-bearer-token=t", "--username=u", "--password=p"], "--username"),
            (
                &[prometheus, "--prometheus-bearer-token=t", "--prometheus-bearer-token-file=/f"],
                "--prometheus-bearer-token-file",
            ),
            (&[prometheus, "--username=u"], "--password"),
            (&[prometheus, "--history-length=1h", "--history-resolution=2h"], "--history-resolution"),
            (&["--history-length=soon"], "--history-length"),
            (&["--use-external-metrics"], "--use-external-metrics"),
        ];
        for (flags, named) in cases {
            let error = sources(flags).map(|_| ()).unwrap_err();
            assert!(error.contains(named), "{flags:?}: {error}");
        }
    }

    #[test]
    fn no_secret_shows() {
        let flags = ["--storage=prometheus", "--username=me", "--password=hunter2"];
        let (history, usage) = sources(&flags).unwrap();
        let shown = format!("{history:?} {usage:?}");
        assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
        let only = <Only as clap::Parser>::parse_from(["x", "--prometheus-bearer-token=hunter2"]);
        assert!(!format!("{:?}", only.history).contains("hunter2"));
    }
}
