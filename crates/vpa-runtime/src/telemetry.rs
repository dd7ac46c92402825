//! Logs: structured lines on standard error.

use tracing_subscriber::EnvFilter;

use crate::FlagError;
use crate::flags::{LogFlags, LogFormat, Verbosity};

/// Starts logging for the process. Only the first call has an effect.
///
/// # Errors
/// `--log-filter` is not a list of directives.
pub fn init(flags: &LogFlags) -> Result<(), FlagError> {
    let directives = match &flags.log_filter {
        Some(filter) => filter.clone(),
        None => default_directives(flags.verbosity()),
    };
    let filter = EnvFilter::try_new(&directives).map_err(|_| {
        FlagError::new(
            "log-filter",
            directives,
            "directives such as info or warn,vpa_updater=debug, separated by commas",
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation, as tests make it, keeps the first one's settings.
    let _ = match flags.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
    };
    Ok(())
}

/// The client library reports each failed request by itself, also those that are retried or expected; the programs
/// report what they make of a failure, so the library is only heard at higher verbosity.
fn default_directives(verbosity: Verbosity) -> String {
    match verbosity {
        Verbosity::Info => "info,kube_client=off,kube_runtime=error,hyper=error,tower=error,rustls=error",
        Verbosity::Debug => {
            "debug,kube_client=info,kube_runtime=info,hyper=info,hyper_util=info,tower=info,rustls=info"
        }
        Verbosity::Trace => "trace,hyper=debug,hyper_util=debug,rustls=debug",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directives_are_valid() {
        for verbosity in [Verbosity::Info, Verbosity::Debug, Verbosity::Trace] {
            EnvFilter::try_new(default_directives(verbosity)).unwrap();
        }
    }
}
