//! The updater: brings running pods to their VPA's recommendation.

fn main() -> std::process::ExitCode {
    vpa_runtime::run_main(&vpa_updater::COMPONENT, vpa_updater::run)
}
