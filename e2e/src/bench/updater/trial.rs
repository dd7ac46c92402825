//! One updater on one fleet: until every due pod is updated, or for some passes with nothing to do.

use std::fmt;
use std::time::{Duration, Instant};

use kube::Client;

use super::changes::{Change, Changes, Seen};
use super::stage::Stage;
use crate::bench::os::Usage;
use crate::bench::subject::{Started, Subject};
use crate::error::{Error, Result};
use crate::process::Process;

/// Passes with nothing to do of which the mean counts, at least.
pub(super) const IDLE_PASSES: u64 = 6;

/// Time between two passes with nothing to do: waiting a minute for each would tell nothing more.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// Longest time for all updates, or for all passes. The Go suite updates 1,000 pods in a few minutes.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// How often it is seen to that everything still runs.
const LOOK: Duration = Duration::from_millis(500);

/// How often a program is asked for its metrics during passes with nothing to do. With a thousand VPAs the answer is long
/// and costs more than a pass, so it is asked no oftener than it is in a cluster.
const SCRAPE: Duration = Duration::from_secs(15);

/// What an updater took for all due pods.
#[derive(Clone, Debug)]
pub(super) struct Update {
    /// From the first change to the last.
    pub(super) took: Duration,
    /// Use of memory and CPU by the end of the pass.
    pub(super) usage: Usage,
    /// From the start of the program to the first change.
    until_first: Duration,
    /// Number of changes.
    count: usize,
}

/// What an updater took with nothing to do.
#[derive(Clone, Debug)]
pub(super) struct Idle {
    /// Time of a pass, on average.
    pub(super) pass: Duration,
    /// Use of memory and CPU by the end of the last one.
    pub(super) usage: Usage,
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { took, usage, until_first, count } = self;
        let (took, until_first) = (took.as_secs_f64(), until_first.as_secs_f64());
        write!(f, "the first after {until_first:.1} s, {count} in {took:.2} s: {}", text(usage))
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pass, usage } = self;
        write!(f, "a pass takes {:.2} ms: {}", pass.as_secs_f64() * 1e3, text(usage))
    }
}

fn text(usage: &Usage) -> String {
    let (cpu, peak) = (usage.cpu.as_secs_f64(), usage.peak as f64 / 1e6);
    format!("{cpu:.2} s of CPU, at most {peak:.1} MB")
}

/// Runs it until all due pods are updated, one of each VPA.
///
/// # Errors
/// If something ends by itself, if it takes too long, or if anything else was changed.
pub(super) async fn update(
    stage: &mut Stage,
    subject: &Subject,
    interval: Option<Duration>,
    change: Change,
) -> Result<Update> {
    let due = stage.fleet().vpas;
    let what = format!("{change:?}").to_lowercase();
    let mut running = Running::start(stage, subject, interval, &what).await?;
    let started = Instant::now();
    // What is not the change that it should be would never become it.
    while running.changes.seen().total() < due {
        running.wait(&format!("{due} pods to be {what}"), started).await?;
    }
    // Its pass ends with its last answer; what it counts and logs then belongs to it.
    while running.passes().await.is_none_or(|passes| passes.count == 0) {
        running.wait("the first pass to end", started).await?;
    }
    let seen = running.expect(change, due)?;
    let span = seen.of(change);
    let until_first = span.first().map_or(Duration::ZERO, |first| first.saturating_duration_since(started));
    Ok(Update { took: span.took(), usage: running.usage()?, until_first, count: span.count })
}

/// Runs it for some passes on a fleet of which no pod is due.
///
/// # Errors
/// If something ends by itself, if it takes too long, or if anything was changed.
pub(super) async fn idle(stage: &mut Stage, subject: &Subject) -> Result<Idle> {
    let pods = stage.fleet().pods();
    let mut running = Running::start(stage, subject, Some(IDLE_INTERVAL), "idle").await?;
    let started = Instant::now();
    // The first pass fills what later ones find filled.
    let mut first = None;
    let mut scraped = started;
    let pass = loop {
        running.wait(&format!("{} passes with nothing to do", IDLE_PASSES + 1), started).await?;
        if scraped.elapsed() < SCRAPE {
            continue;
        }
        scraped = Instant::now();
        let Some(now) = running.passes().await.filter(|passes| passes.count > 0) else { continue };
        let first: &Passes = first.get_or_insert(now.clone());
        let count = now.count - first.count;
        // What a pass found is told shortly after its time, so that one look may come between the two.
        if count >= IDLE_PASSES && now.pods == pods {
            break Duration::from_secs_f64((now.seconds - first.seconds).max(0.0) / count as f64);
        }
        if count >= IDLE_PASSES * 2 {
            let (name, found) = (subject.name(), now.pods);
            let text = format!("{name} finds that VPAs control {found} pods, not {pods}");
            return Err(Error::expectation(text));
        }
    };
    running.expect(Change::Resized, 0)?;
    Ok(Idle { pass, usage: running.usage()? })
}

/// What an updater tells of its passes.
#[derive(Clone, Debug, PartialEq)]
struct Passes {
    /// Passes that have ended.
    count: u64,
    /// What they took together.
    seconds: f64,
    /// Pods that VPAs control.
    pods: usize,
}

impl Passes {
    /// From the output of `/metrics`; both suites have the same names.
    fn parse(text: &str) -> Self {
        let sum = |name: &str| -> f64 {
            let values = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
            values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
        };
        Self {
            count: sum("vpa_updater_execution_latency_seconds_count{step=\"total\"}") as u64,
            seconds: sum("vpa_updater_execution_latency_seconds_sum{step=\"total\"}"),
            pods: sum("vpa_updater_controlled_pods_total{") as usize,
        }
    }
}

/// A running updater. Dropping it kills it: how it ends is not measured.
struct Running<'a> {
    stage: &'a mut Stage,
    changes: Changes,
    process: Process,
    metrics: Client,
}

impl<'a> Running<'a> {
    async fn start(
        stage: &'a mut Stage,
        subject: &Subject,
        interval: Option<Duration>,
        what: &str,
    ) -> Result<Self> {
        let changes = Changes::follow(&stage.client()).await;
        let log = stage.logs().join(format!("{}-{what}-{}.log", subject.name(), stage.fleet().vpas));
        let Started { process, port } = subject.start(stage.kubeconfig(), interval, &log)?;
        let failed = |error: String| Error::Client(error);
        let url = format!("http://127.0.0.1:{port}").parse::<http::Uri>();
        let url = url.map_err(|error| failed(error.to_string()))?;
        let metrics = Client::try_from(kube::Config::new(url)).map_err(|error| failed(error.to_string()))?;
        Ok(Self { stage, changes, process, metrics })
    }

    /// Waits a little, and sees to it that everything still runs and that it does not take too long.
    async fn wait(&mut self, what: &str, since: Instant) -> Result<()> {
        tokio::time::sleep(LOOK).await;
        self.process.check_running()?;
        self.stage.check_running()?;
        if since.elapsed() <= LONGEST {
            return Ok(());
        }
        let Seen { evicted, resized, .. } = self.changes.seen();
        let tail = crate::process::tail(self.process.log(), 15);
        let (evicted, resized) = (evicted.count, resized.count);
        let last = format!("{evicted} pods evicted, {resized} resized; the end of its log:\n{tail}");
        Err(Error::Timeout { what: what.to_owned(), waited: since.elapsed(), last })
    }

    /// None until it answers.
    async fn passes(&self) -> Option<Passes> {
        let request = http::Request::get("/metrics").body(Vec::new()).ok()?;
        self.metrics.request_text(request).await.ok().map(|text| Passes::parse(&text))
    }

    /// What has happened, which is to be `count` changes of this kind and nothing else.
    fn expect(&self, change: Change, count: usize) -> Result<Seen> {
        let seen = self.changes.seen();
        let (evicted, resized) = (seen.evicted.count, seen.resized.count);
        if seen.of(change).count == count && seen.total() == count {
            return Ok(seen);
        }
        let (name, log) = (self.process.name(), self.process.log().display());
        Err(Error::expectation(format!(
            "{name} evicted {evicted} pods and resized {resized}, where {count} were to be {change:?}; its log: {log}"
        )))
    }

    fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_read_from_the_metrics_of_both_suites() {
        let text = "# TYPE vpa_updater_execution_latency_seconds histogram\n\
                    vpa_updater_execution_latency_seconds_bucket{step=\"total\",le=\"0.01\"} 3\n\
                    vpa_updater_execution_latency_seconds_sum{step=\"total\"} 0.0125\n\
                    vpa_updater_execution_latency_seconds_count{step=\"total\"} 4\n\
                    vpa_updater_execution_latency_seconds_count{step=\"ListPods\"} 9\n\
                    vpa_updater_controlled_pods_total{update_mode=\"Recreate\",vpa_size_log2=\"0\"} 0\n\
                    vpa_updater_controlled_pods_total{update_mode=\"Recreate\",vpa_size_log2=\"1\"} 2000\n";
        assert_eq!(Passes::parse(text), Passes { count: 4, seconds: 0.0125, pods: 2000 });
        assert_eq!(Passes::parse(""), Passes { count: 0, seconds: 0.0, pods: 0 });
    }
}
