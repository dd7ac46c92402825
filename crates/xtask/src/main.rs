//! Command line of the project's own tasks.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks on the project itself.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Writes the CRDs of the chart from the API types.
    Crds {
        /// Only fails where a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Writes the flag reference from the programs' definitions.
    Flags {
        /// Only fails where the file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Checks the rules of the tree: dependencies, sizes, words, links.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Crds { check } => xtask::crds::run(check),
        Task::Flags { check } => xtask::flags::run(check),
        Task::Tidy => xtask::tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
