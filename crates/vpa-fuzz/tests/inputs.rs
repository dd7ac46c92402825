//! The checks of the fuzz targets, over the golden inputs, over what fuzzing left behind, and over some changes to both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

use std::path::Path;

use vpa_fuzz::{Problem, Worth, seeds};

/// Changes of either kind made to each input. With about two thousand inputs this takes some seconds.
const CHANGES: u32 = 2;

/// As the targets have it in `fuzz/fuzz_targets`.
const MAX_BYTES: usize = 16 << 10;

fn check(target: &str, input: &[u8]) -> Result<Worth, Problem> {
    match target {
        "review" => vpa_fuzz::review(input),
        "pod" => vpa_fuzz::pod(input),
        "vpa" => vpa_fuzz::vpa(input),
        "patch_maths" => vpa_fuzz::maths(input),
        other => panic!("no check for {other}"),
    }
}

/// A few of the problems, each of another kind as far as their first words tell.
fn some(problems: &[String]) -> String {
    let mut problems: Vec<&String> = problems.iter().collect();
    let kind = |problem: &str| problem.split_whitespace().take(6).collect::<String>();
    problems.sort_by_key(|problem| (kind(problem), problem.len()));
    problems.dedup_by_key(|problem| kind(problem));
    problems.iter().take(10).map(|problem| format!("{problem}\n")).collect()
}

fn run(target: &str) {
    let mut inputs = seeds::from_golden(&seeds::golden_data()).unwrap().remove(target).unwrap();
    let golden = inputs.len();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort();
    inputs.extend(left.iter().map(|path| std::fs::read(path).unwrap()));
    let mut problems = Vec::new();
    let mut worthless = 0;
    for (number, input) in inputs.iter().enumerate() {
        let other = &inputs[(number * 7 + 1) % inputs.len()];
        let seed = u32::try_from(number).unwrap() * 2 * CHANGES;
        let changed = (seed..seed + CHANGES).filter_map(|seed| vpa_fuzz::mutate(input, MAX_BYTES, seed));
        let crossed =
            (seed..seed + CHANGES).filter_map(|seed| vpa_fuzz::cross(input, other, MAX_BYTES, seed));
        let all = std::iter::once(input.clone()).chain(changed).chain(crossed);
        for (change, input) in all.enumerate() {
            match check(target, &input) {
                Ok(Worth::Checked) => {}
                // The golden inputs all have the right form.
                Ok(Worth::Nothing) => worthless += usize::from(change == 0 && number < golden),
                Err(problem) => problems.push(format!("{problem}\n  {}", String::from_utf8_lossy(&input))),
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} inputs of {target} fail, among them:\n{}",
        problems.len(),
        some(&problems)
    );
    assert!(worthless * 20 < golden, "{worthless} of {golden} golden inputs of {target} are no inputs");
}

#[test]
fn reviews() {
    run("review");
}

#[test]
fn pods() {
    run("pod");
}

#[test]
fn vpas() {
    run("vpa");
}

#[test]
fn patch_maths() {
    run("patch_maths");
}
