//! The admission controllers, and the server of a constant answer, one after the other in several rounds: what else the
//! machine does then hits all of them alike.

use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::client::Target;
use super::constant;
use super::load::{self, Load, Shape};
use super::review::Review;
use super::stage::{self, Stage};
use crate::bench::fleet;
use crate::bench::os::Usage;
use crate::bench::subject::{Subject, Suite};
use crate::error::{Error, Result};
use crate::ports::free_port;
use crate::process::{self, Process};

/// Connections under load: an API server has about so many reviews under way when a large Deployment is rolled out.
pub(super) const CONNECTIONS: usize = 8;

/// Time under load that does not count, then time that does: far more than a thousand reviews either way.
const MANY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// The same for one connection.
const ONE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Load before the first round, until a program has met each path and its memory is what it stays.
const WARM_UP: Duration = Duration::from_secs(3);

/// Longest time until a program gives the first right answer. It reads three objects for each VPA first.
const READY_MAX: Duration = Duration::from_secs(5 * 60);

/// How often the first answer is asked for.
const READY_POLL: Duration = Duration::from_millis(100);

/// Workloads whose reviews are checked in full.
const CHECKED: usize = 50;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// An admission controller.
    Program(Suite),
    /// This suite's server with a constant answer.
    Constant,
}

/// One round of one of them.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// With [`CONNECTIONS`].
    pub(super) many: Load,
    /// With one connection.
    pub(super) one: Load,
}

/// All that was found of one of them.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Who it was.
    pub(super) who: Who,
    /// Its rounds.
    pub(super) rounds: Vec<Round>,
    /// Use of memory and CPU at the end.
    pub(super) usage: Usage,
}

impl Found {
    /// The median of the rounds.
    pub(super) fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(0.0)
    }

    /// Least and most of the rounds.
    pub(super) fn range(&self, figure: impl Fn(&Round) -> f64) -> (f64, f64) {
        let figures = self.rounds.iter().map(figure);
        figures.fold((f64::INFINITY, 0.0), |(least, most), figure| (least.min(figure), most.max(figure)))
    }

    /// What reports call it.
    pub(super) fn name(&self) -> &'static str {
        match self.who {
            Who::Program(Suite::Own) => "this suite",
            Who::Program(Suite::Peer) => "Go suite",
            Who::Constant => "constant answer",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |figure: &dyn Fn(&Round) -> f64, factor: f64, digits: usize| {
            let (least, most) = self.range(figure);
            let [median, least, most] = [self.median(figure), least, most].map(|figure| figure * factor);
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        };
        write!(f, "{}: {} reviews a second, ", self.name(), span(&|round| round.many.rate(), 1.0, 0))?;
        write!(f, "{} µs of CPU each, ", span(&|round| round.many.cpu(), 1e6, 1))?;
        write!(f, "p50 {} ms, ", span(&|round| round.many.percentile(0.5), 1e3, 3))?;
        write!(f, "p99 {} ms; ", span(&|round| round.many.percentile(0.99), 1e3, 3))?;
        write!(f, "one connection p50 {} ms; ", span(&|round| round.one.percentile(0.5), 1e3, 4))?;
        write!(f, "at most {:.1} MB", self.usage.peak as f64 / 1e6)
    }
}

/// One of them, running. Dropping it kills it: how it ends is not measured.
struct Contestant {
    who: Who,
    process: Process,
    target: Target,
    rounds: Vec<Round>,
}

/// Runs all of them.
///
/// # Errors
/// If something ends by itself, or an answer is wrong.
pub(super) async fn run(stage: &mut Stage, subjects: &[Subject], rounds: usize) -> Result<Vec<Found>> {
    let mut contestants = Vec::new();
    for subject in subjects {
        let (contestant, answer) = start(stage, subject).await?;
        contestants.push(contestant);
        if subject.suite == Suite::Own {
            contestants.push(start_constant(stage, &answer).await?);
        }
    }
    let workloads = stage.vpas();
    let mut first = 0;
    for round in 0..=rounds {
        for contestant in &mut contestants {
            contestant.process.check_running()?;
            stage.check_running()?;
            let shape = Shape { connections: CONNECTIONS, times: MANY, workloads, first };
            if round == 0 {
                contestant.load(Shape { times: (Duration::ZERO, WARM_UP), ..shape }).await?;
                continue;
            }
            let many = contestant.load(shape).await?;
            first += many.reviews;
            let one = contestant.load(Shape { connections: 1, times: ONE, workloads, first }).await?;
            first += one.reviews;
            contestant.rounds.push(Round { many, one });
        }
    }
    let found = contestants.into_iter().map(|contestant| {
        let usage = Usage::of(contestant.process.id())?;
        Ok(Found { who: contestant.who, rounds: contestant.rounds, usage })
    });
    found.collect()
}

impl Contestant {
    async fn load(&self, shape: Shape) -> Result<Load> {
        let (name, id, target) = (self.process.name().to_owned(), self.process.id(), self.target.clone());
        let load = tokio::task::spawn_blocking(move || load::run(&name, id, &target, shape)).await;
        load.map_err(|error| Error::expectation(error.to_string()))?
    }
}

/// Starts an admission controller and checks what it answers; returns one answer too.
async fn start(stage: &mut Stage, subject: &Subject) -> Result<(Contestant, String)> {
    let (port, folder, vpas) = (free_port()?, stage.certificates(), stage.vpas());
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let mut flags = vec![
        format!("--port={port}"),
        "--register-webhook=false".to_owned(),
        file("client-ca-file", "authority.crt"),
        file("tls-cert-file", "webhook.crt"),
        file("tls-private-key", "webhook.key"),
    ];
    if subject.suite == Suite::Own {
        // The Go suite's listens on all interfaces, and has no flag for it.
        flags.push("--bind-address=127.0.0.1".to_owned());
    }
    let log = stage.logs().join(format!("{}-{vpas}.log", subject.name()));
    let mut process = subject.start_with(stage.kubeconfig(), &flags, &log)?.process;
    let target = Target::new(port, stage.authority())?;
    let mut review = Review::new(port)?;
    let mut answer = first_answer(&mut process, &target, &mut review).await?;
    let mut connection = target.connect().map_err(|error| Error::expectation(error.to_string()))?;
    for number in 0..CHECKED {
        let workload = number * vpas.saturating_sub(1) / (CHECKED - 1);
        review.set(workload, number);
        let found = connection.exchange(review.request());
        let found = found.map_err(|error| Error::expectation(format!("{}: {error}", subject.name())))?;
        check(&review.body()?, found.body, workload).map_err(|what| {
            Error::expectation(format!("{} answers a review with {what}: {}", subject.name(), found.body))
        })?;
        found.body.clone_into(&mut answer);
    }
    let who = Who::Program(subject.suite);
    Ok((Contestant { who, process, target, rounds: Vec::new() }, answer))
}

async fn start_constant(stage: &Stage, answer: &str) -> Result<Contestant> {
    let port = free_port()?;
    let log = stage.logs().join(format!("constant-answer-{}.log", stage.vpas()));
    let mut process = constant::start(stage.certificates(), port, answer, &log)?;
    let target = Target::new(port, stage.authority())?;
    first_answer(&mut process, &target, &mut Review::new(port)?).await?;
    Ok(Contestant { who: Who::Constant, process, target, rounds: Vec::new() })
}

/// Waits for the first answer with a patch.
async fn first_answer(process: &mut Process, target: &Target, review: &mut Review) -> Result<String> {
    let started = Instant::now();
    review.set(0, 0);
    loop {
        process.check_running()?;
        let answer = target.connect().and_then(|mut connection| {
            let answer = connection.exchange(review.request())?;
            Ok((answer.patches(), answer.body.to_owned()))
        });
        let last = match answer {
            Ok((true, body)) => return Ok(body),
            Ok((false, body)) => body,
            Err(error) => error.to_string(),
        };
        if started.elapsed() > READY_MAX {
            let what = format!("an answer with a patch from {}", process.name());
            let last = format!("{last}; the end of its log:\n{}", process::tail(process.log(), 15));
            return Err(Error::Timeout { what, waited: READY_MAX, last });
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Whether an answer gives the pod of the review what is recommended for its workload; what is wrong, if it does not.
fn check(review: &Value, answer: &str, workload: usize) -> Result<(), String> {
    let answer: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let (request, response) = (&review["request"], &answer["response"]);
    if response["uid"] != request["uid"] || response["allowed"] != true {
        return Err("another identity, or a refusal".to_owned());
    }
    let patch = response["patch"].as_str().and_then(|patch| BASE64_STANDARD.decode(patch).ok());
    let patch = patch.ok_or("no patch")?;
    let patch: json_patch::Patch = serde_json::from_slice(&patch).map_err(|error| error.to_string())?;
    let mut pod = request["object"].clone();
    json_patch::patch(&mut pod, &patch).map_err(|error| error.to_string())?;
    let requests = &pod["spec"]["containers"][0]["resources"]["requests"];
    let (cpu, memory) = stage::recommended(workload);
    if requests["cpu"] != cpu || requests["memory"] != memory {
        let name = fleet::name(workload);
        return Err(format!("requests for {name} of {requests}, where {cpu} and {memory} are recommended"));
    }
    Ok(())
}
