//! The admission controller of the Vertical Pod Autoscaler.

fn main() -> std::process::ExitCode {
    vpa_admission_controller::main(std::env::args_os().collect())
}
