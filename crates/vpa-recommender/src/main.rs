//! `vpa-recommender`; see the library.

fn main() -> std::process::ExitCode {
    vpa_runtime::run_main(&vpa_recommender::COMPONENT, vpa_recommender::run)
}
