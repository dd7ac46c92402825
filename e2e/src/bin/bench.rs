//! Measures the three programs: `make bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::bench::table::Report;
use e2e::bench::{self, Row, admission, in_process};
use e2e::error::{Error, OnFile, Result};

/// Measures the three programs, and the Go suite's beside them where PEER names a folder with its programs.
///
/// Nothing is asserted. All of it takes about 50 minutes, twice that with PEER, and needs a machine that does nothing
/// else; it can be stopped at any time and leaves nothing behind.
#[derive(Debug, Parser)]
struct Args {
    /// Rows of the table, separated by commas: a to f for the recommender, g to j for the updater, k to n for the
    /// admission controller; all where nothing is said.
    #[arg(long, env = "ROWS", default_value = "", value_name = "LETTERS")]
    rows: String,
    /// Folder with the Go suite's programs.
    #[arg(long, env = "PEER", value_name = "FOLDER")]
    peer: Option<PathBuf>,
    /// Version of the Go suite's programs, for the report.
    #[arg(long, env = "PEER_VERSION", value_name = "TEXT")]
    peer_version: Option<String>,
    /// Seconds between two cycles or passes, for a quick look; the true minute where nothing is said.
    #[arg(long, env = "BENCH_CYCLE", value_name = "SECONDS")]
    cycle: Option<String>,
    /// Cycles of steady state in row c.
    #[arg(long, env = "BENCH_CYCLES", default_value_t = 20, value_name = "COUNT")]
    steady_cycles: usize,
    /// Rounds of reviews in rows k to n, of which the median counts.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 5, value_name = "COUNT")]
    rounds: usize,
    /// Divides all numbers of VPAs and pods, to try the bench itself.
    #[arg(long, env = "BENCH_DIVISOR", default_value_t = 1, value_name = "NUMBER")]
    divisor: usize,
    /// Folder into which the report goes as bench.md and bench.json too.
    #[arg(long, env = "OUT", value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Runs the model for so many VPAs in this process, and prints its figures as JSON.
    #[arg(long, hide = true, value_name = "VPAS")]
    in_process: Option<usize>,
    /// Serves a constant answer on this port, with the files of this folder.
    #[arg(long, hide = true, value_name = "PORT:FOLDER")]
    constant: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (args.in_process, &args.constant) {
        (Some(vpas), _) => model(vpas),
        (None, Some(what)) => admission::constant::serve(what).await,
        (None, None) => tokio::select! {
            done = measure(&args) => done,
            _ = tokio::signal::ctrl_c() => Err(Error::expectation("interrupted")),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn model(vpas: usize) -> Result<()> {
    let figures = in_process::run(vpas)?;
    println!("{}", json(&figures)?);
    Ok(())
}

async fn measure(args: &Args) -> Result<()> {
    let report = bench::run(&options(args)?).await?;
    println!("{}", report.terminal());
    match &args.out {
        Some(folder) if !folder.as_os_str().is_empty() => write(&report, folder),
        _ => Ok(()),
    }
}

fn options(args: &Args) -> Result<bench::Options> {
    let rows = args.rows.split(',').filter(|row| !row.trim().is_empty());
    let rows: Vec<Row> = rows.map(str::parse).collect::<Result<_, String>>().map_err(Error::Expectation)?;
    let own = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    Ok(bench::Options {
        rows: if rows.is_empty() { Row::ALL.to_vec() } else { rows },
        peer: args.peer.clone().filter(|path| !path.as_os_str().is_empty()),
        peer_version: args.peer_version.clone().filter(|version| !version.is_empty()),
        cycle: args.cycle.as_deref().filter(|text| !text.is_empty()).map(cycle).transpose()?,
        steady_cycles: args.steady_cycles.max(1),
        rounds: args.rounds.max(1),
        divisor: args.divisor,
        logs: own.unwrap_or_default().join("bench-logs"),
    })
}

fn cycle(text: &str) -> Result<Duration> {
    let seconds = text.parse().ok().filter(|seconds| (1.0..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        Error::expectation(format!("BENCH_CYCLE: found {text:?}, allowed: seconds from 1 to 3600"))
    })
}

fn write(report: &Report, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).on_file(folder, "create")?;
    for (name, text) in [("bench.md", report.markdown()), ("bench.json", json(report)?)] {
        let path = folder.join(name);
        std::fs::write(&path, text).on_file(&path, "write")?;
        eprintln!("bench: {} written", path.display());
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::expectation(error.to_string()))
}
