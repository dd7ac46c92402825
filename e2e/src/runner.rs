//! Runs scenarios: chooses them, runs them side by side with a deadline each, and tells what happened.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::error::{Error, Result};

/// What a cluster is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// The embedded cluster of `vpa-sim`.
    Sim,
    /// etcd, kube-apiserver and kube-controller-manager.
    Real,
}

/// Where a scenario runs: on which backend, and whether requests fail there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// On [`Backend::Sim`].
    Sim,
    /// On [`Backend::Sim`], where one in five requests of the updater fails.
    Faulty,
    /// On [`Backend::Real`].
    Real,
}

impl Setting {
    /// Its name, as in the `E2E` variable and the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sim => "sim",
            Self::Faulty => "faulty",
            Self::Real => "real",
        }
    }

    /// The backend of its clusters.
    pub fn backend(self) -> Backend {
        match self {
            Self::Sim | Self::Faulty => Backend::Sim,
            Self::Real => Backend::Real,
        }
    }

    /// The settings that the value of `E2E` names; `sim` where it is unset. `both` names those of both backends, and so
    /// all of them.
    ///
    /// # Errors
    /// If the value names none.
    pub fn chosen(value: Option<&str>) -> Result<Vec<Self>> {
        match value.unwrap_or("sim") {
            "sim" => Ok(vec![Self::Sim]),
            "faulty" => Ok(vec![Self::Faulty]),
            "real" => Ok(vec![Self::Real]),
            "both" => Ok(vec![Self::Sim, Self::Faulty, Self::Real]),
            other => Err(Error::expectation(format!("E2E={other}: must be sim, faulty, real or both"))),
        }
    }
}

/// A scenario's code.
pub type Run<C> = fn(C) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A scenario: a name, where it runs, and what it does with a context of type `C`.
#[derive(Debug)]
pub struct Scenario<C> {
    /// Name, unique, in words joined by `_`.
    pub name: &'static str,
    /// Settings in which it runs.
    pub settings: &'static [Setting],
    /// What it does.
    pub run: Run<C>,
}

// Derived, the two would ask the context to be copied as well.
impl<C> Clone for Scenario<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Scenario<C> {}

/// How scenarios are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings to run in.
    pub settings: Vec<Setting>,
    /// Run those only whose name contains one of these; all where empty.
    pub filters: Vec<String>,
    /// How many run side by side.
    pub jobs: usize,
    /// Time that one may take.
    pub deadline: Duration,
    /// Folder under which each scenario has its logs, as `<setting>/<scenario>`.
    pub logs: PathBuf,
}

/// What makes contexts and looks after what scenarios share.
pub trait Host: Send + Sync + 'static {
    /// What a scenario is given.
    type Context: Send + 'static;

    /// Makes the context of the scenario `name`, which keeps its logs in `logs`.
    fn context(
        &self,
        setting: Setting,
        name: &'static str,
        logs: PathBuf,
    ) -> impl Future<Output = Result<Self::Context>> + Send;
}

/// How many scenarios passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
}

/// Runs what `options` choose out of `scenarios`, printing a line for each and a last one with the totals.
pub async fn run<H: Host>(host: Arc<H>, scenarios: &[Scenario<H::Context>], options: &Options) -> Totals {
    let chosen: Vec<_> = options
        .settings
        .iter()
        .flat_map(|setting| scenarios.iter().map(move |scenario| (*setting, *scenario)))
        .filter(|(setting, scenario)| scenario.settings.contains(setting))
        .filter(|(_, scenario)| {
            options.filters.is_empty()
                || options.filters.iter().any(|part| scenario.name.contains(part.as_str()))
        })
        .collect();
    println!("running {} scenarios, {} side by side", chosen.len(), options.jobs);
    let started = Instant::now();
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    let mut results = futures::stream::iter(chosen)
        .map(|(setting, scenario)| run_one(host.clone(), setting, scenario, options))
        .buffer_unordered(options.jobs.max(1));
    while let Some(outcome) = results.next().await {
        let verdict = if outcome.error.is_none() { "ok" } else { "FAILED" };
        println!(
            "{verdict:>6}  {:<6} {} ({:.1}s)",
            outcome.setting.name(),
            outcome.name,
            outcome.took.as_secs_f64()
        );
        match outcome.error {
            None => totals.passed += 1,
            Some(error) => {
                totals.failed += 1;
                println!("        {}", error.to_string().replace('\n', "\n        "));
                println!("        logs: {}", outcome.logs.display());
                failures.push(format!("{} {}", outcome.setting.name(), outcome.name));
            }
        }
    }
    if !failures.is_empty() {
        println!("failed: {}", failures.join(", "));
    }
    println!("{} passed, {} failed in {}s", totals.passed, totals.failed, started.elapsed().as_secs());
    totals
}

struct Outcome {
    setting: Setting,
    name: &'static str,
    took: Duration,
    logs: PathBuf,
    error: Option<Error>,
}

async fn run_one<H: Host>(
    host: Arc<H>,
    setting: Setting,
    scenario: Scenario<H::Context>,
    options: &Options,
) -> Outcome {
    let logs = options.logs.join(setting.name()).join(scenario.name);
    // Logs of an earlier run would be taken for this one's.
    let _ = std::fs::remove_dir_all(&logs);
    let started = Instant::now();
    let deadline = options.deadline;
    let task = {
        let logs = logs.clone();
        tokio::spawn(async move {
            let context = host.context(setting, scenario.name, logs).await?;
            match tokio::time::timeout(deadline, (scenario.run)(context)).await {
                Ok(result) => result,
                Err(_) => Err(Error::Timeout {
                    what: "the scenario to end".to_owned(),
                    waited: deadline,
                    last: "still running".to_owned(),
                }),
            }
        })
    };
    let error = match task.await {
        Ok(result) => result.err(),
        Err(panicked) => Some(Error::expectation(format!("panicked: {panicked}"))),
    };
    if error.is_none() && std::env::var_os("E2E_KEEP_LOGS").is_none() {
        let _ = std::fs::remove_dir_all(&logs);
    }
    Outcome { setting, name: scenario.name, took: started.elapsed(), logs, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Host for Nothing {
        type Context = ();

        async fn context(&self, _: Setting, _: &'static str, _: PathBuf) -> Result<()> {
            Ok(())
        }
    }

    fn good(_: ()) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async { Ok(()) })
    }

    fn bad(_: ()) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async { Err(Error::expectation("no")) })
    }

    fn panics(_: ()) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async { panic!("oh") })
    }

    fn hangs(_: ()) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(std::future::pending())
    }

    #[tokio::test]
    async fn every_way_to_fail_is_counted_and_none_stops_the_rest() {
        let both: &[Setting] = &[Setting::Sim, Setting::Real];
        let scenario = |name, run| Scenario { name, settings: both, run };
        let scenarios = [
            scenario("bad", bad),
            scenario("panics", panics),
            scenario("hangs", hangs),
            scenario("good", good),
            Scenario { name: "elsewhere", settings: &[Setting::Real], run: bad },
        ];
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options {
            settings: vec![Setting::Sim],
            filters: Vec::new(),
            jobs: 2,
            deadline: Duration::from_millis(50),
            logs: dir.path().to_owned(),
        };
        let totals = run(Arc::new(Nothing), &scenarios, &options).await;
        assert_eq!(totals, Totals { passed: 1, failed: 3 });
        options.filters = vec!["goo".to_owned()];
        let totals = run(Arc::new(Nothing), &scenarios, &options).await;
        assert_eq!(totals, Totals { passed: 1, failed: 0 });
    }

    #[test]
    fn settings_are_named() {
        assert_eq!(Setting::chosen(None).unwrap(), [Setting::Sim]);
        assert_eq!(Setting::chosen(Some("both")).unwrap(), [Setting::Sim, Setting::Faulty, Setting::Real]);
        for setting in [Setting::Sim, Setting::Faulty, Setting::Real] {
            assert_eq!(Setting::chosen(Some(setting.name())).unwrap(), [setting]);
        }
        let error = Setting::chosen(Some("")).unwrap_err().to_string();
        assert!(error.contains("sim, faulty, real or both"), "{error}");
    }
}
