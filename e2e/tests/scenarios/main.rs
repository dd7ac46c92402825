//! End-to-end scenarios, each in every setting that `E2E` names (`sim`, `faulty`, `real`, or `both` for all of them; `sim`
//! where it is unset) and that it is meant for.
//!
//! Arguments are parts of scenario names; without one all run. `--list` prints the names. `E2E_JOBS` sets how many run
//! side by side, `E2E_KEEP_LOGS=1` keeps the logs of those that pass.

mod admit;
mod certificates;
mod chart;
mod crash;
mod explain;
mod follow;
mod harness;
mod history;
mod limits;
mod operation;
mod recommend;
mod update;
mod warnings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use e2e::bed::{Bed, Beds, Clusters};
use e2e::runner::{self, Options, Scenario, Setting};

/// Time for one scenario: the slowest takes well under one minute on an idle machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// How many run side by side. They mostly wait for intervals to pass, so more than there are cores.
const JOBS: usize = 6;

/// Held by a scenario while it uses the name `vpa-webhook-config`, of which a cluster has one and the scenarios on the real
/// control plane share a cluster.
static WEBHOOK_CONFIGURATION: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Keeps other scenarios that use that name waiting, in a cluster that is shared.
async fn sole_webhook(bed: &Bed) -> Option<tokio::sync::MutexGuard<'static, ()>> {
    match bed.setting() {
        Setting::Real => Some(WEBHOOK_CONFIGURATION.lock().await),
        _ => None,
    }
}

/// Declares a scenario of an async function of the same name.
macro_rules! scenario {
    ($module:ident :: $name:ident on $($setting:ident),+) => {
        Scenario { name: stringify!($name), settings: &[$(Setting::$setting),+], run: |bed| Box::pin($module::$name(bed)) }
    };
    ($module:ident :: $name:ident) => { scenario!($module::$name on Sim, Real) };
}

const SCENARIOS: &[Scenario<Bed>] = &[
    // Longest first, so that the last one is short.
    scenario!(update::without_the_webhook_nothing_is_evicted on Sim, Faulty, Real),
    scenario!(update::a_stuck_resize_never_evicts_in_mode_in_place on Sim, Faulty, Real),
    scenario!(update::a_stuck_resize_falls_back_to_eviction on Sim, Faulty, Real),
    scenario!(recommend::a_recommendation_appears_and_follows_usage),
    scenario!(recommend::recommenders_share_a_cluster_by_name),
    scenario!(operation::a_second_replica_takes_over),
    scenario!(recommend::a_checkpoint_keeps_the_recommendation_over_a_restart),
    scenario!(history::history_comes_from_prometheus_once_it_is_there on Real),
    scenario!(crash::a_recommender_killed_at_any_moment_goes_on_where_it_was),
    scenario!(recommend::an_oom_kill_raises_memory),
    scenario!(update::a_blocked_workload_holds_up_no_other on Sim, Faulty, Real),
    scenario!(update::recreate_evicts_within_tolerance on Sim, Faulty, Real),
    scenario!(update::a_resize_in_place_restarts_nothing on Sim, Faulty, Real),
    scenario!(update::off_and_initial_leave_running_pods_alone on Sim, Faulty, Real),
    scenario!(update::all_three_shrink_an_oversized_workload on Sim, Faulty, Real),
    scenario!(limits::an_hourly_limit_lets_one_pod_go_and_no_other on Sim, Faulty, Real),
    scenario!(limits::a_bounded_step_reaches_the_target_in_several_resizes on Sim, Faulty, Real),
    scenario!(explain::each_decision_is_told_with_what_led_to_it),
    scenario!(certificates::replicas_share_certificates_that_nobody_has_to_look_after),
    scenario!(admit::the_webhook_registers_itself),
    scenario!(admit::a_created_pod_gets_the_recommendation),
    scenario!(admit::an_invalid_vpa_is_refused_with_the_field_named),
    scenario!(warnings::a_vpa_that_will_disappoint_is_warned_of),
    scenario!(warnings::vpas_are_reviewed_without_the_right_to_read_nodes),
    scenario!(chart::the_api_server_accepts_the_chart on Real),
    scenario!(harness::the_cluster_works_without_the_suite),
    scenario!(harness::the_updater_meets_with_every_fault on Faulty),
    scenario!(harness::nothing_outlives_a_killed_run on Sim),
    scenario!(operation::missing_crds_end_a_program_with_a_clear_message),
    scenario!(operation::an_unreachable_cluster_ends_a_program_with_a_clear_message),
    scenario!(operation::a_missing_permission_ends_a_program_with_a_clear_message),
];

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = harness::helper_process(&args) {
        return code;
    }
    if args.iter().any(|arg| arg == "--list") {
        SCENARIOS.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let chosen = std::env::var("E2E").ok();
    let settings = match Setting::chosen(chosen.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let jobs = std::env::var("E2E_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(JOBS);
    let logs = logs();
    let filters = args.into_iter().filter(|arg| !arg.starts_with('-')).collect();
    let options = Options { settings, filters, jobs, deadline: DEADLINE, logs: logs.clone() };
    let clusters = Arc::new(Clusters::new(logs));
    if let Err(error) = prepare(&clusters, &options).await {
        eprintln!("e2e: {error}");
        return ExitCode::FAILURE;
    }
    let totals = tokio::select! {
        totals = runner::run(Arc::new(Beds(clusters.clone())), SCENARIOS, &options) => totals,
        // Returning drops everything that was started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    drop(clusters);
    if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Has what is missing built before the clock of any scenario runs, and fails with one line if it cannot be.
async fn prepare(clusters: &Clusters, options: &Options) -> e2e::error::Result<()> {
    e2e::programs::folder()?;
    if options.settings.contains(&Setting::Real) {
        clusters.tools().await?;
    }
    Ok(())
}

/// `e2e-logs` in cargo's target folder.
fn logs() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    // target/<profile>/deps/<this>
    let target = exe.ancestors().nth(3).unwrap_or_else(|| Path::new("target"));
    target.join("e2e-logs")
}
