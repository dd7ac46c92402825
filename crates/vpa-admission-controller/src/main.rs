//! The admission controller of the Vertical Pod Autoscaler.

fn main() -> std::process::ExitCode {
    vpa_runtime::run_main(
        &vpa_admission_controller::program::COMPONENT,
        vpa_admission_controller::program::run,
    )
}
