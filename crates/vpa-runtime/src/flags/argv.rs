//! Go's manners on top of clap.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};

use super::groups::{CommonFlags, KlogFlags};
use super::values::{parse_bool, parse_float, parse_int};
use crate::{Component, Error, FlagError};

/// Flags as they were read.
#[derive(Debug)]
pub struct Parsed<A> {
    /// The flags.
    pub args: A,
    /// What was ignored, one text each.
    pub warnings: Vec<String>,
}

/// What came of reading the command line.
enum Word {
    Flag { name: String, value: Option<String> },
    Other(String),
}

/// The clap command of `A` with Go's manners and the defaults of `component`.
pub fn command<A: clap::CommandFactory>(component: &Component) -> Command {
    let mut command = A::command()
        .name(component.name)
        .about(component.about)
        .version(env!("CARGO_PKG_VERSION"))
        .args_override_self(true)
        .mut_args(go_manners);
    let has = |command: &Command, id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
    if has(&command, "address") {
        command =
            command.mut_arg("address", |arg| arg.required(false).default_value(component.default_address));
    }
    if let Some(lease) = component.lease_name
        && has(&command, "leader_elect_resource_name")
    {
        command =
            command.mut_arg("leader_elect_resource_name", |arg| arg.required(false).default_value(lease));
    }
    command
}

/// Gives an argument the parser that Go has for its type, and its place in the help.
fn go_manners(arg: Arg) -> Arg {
    let heading = KlogFlags::IGNORED.contains(&arg.get_id().as_str()).then_some("Accepted for compatibility");
    let arg = arg.help_heading(heading);
    let is = |id: TypeId| arg.get_value_parser().type_id() == id;
    if is(TypeId::of::<bool>()) && !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        let off_by_default = arg.get_default_values().is_empty();
        let arg = arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .value_parser(parse_bool);
        return if off_by_default { arg.default_value("false") } else { arg };
    }
    let arg = if is(TypeId::of::<i32>()) {
        arg.value_parser(parse_int::<i32>)
    } else if is(TypeId::of::<i64>()) {
        arg.value_parser(parse_int::<i64>)
    } else if is(TypeId::of::<u16>()) {
        arg.value_parser(parse_int::<u16>)
    } else if is(TypeId::of::<u32>()) {
        arg.value_parser(parse_int::<u32>)
    } else if is(TypeId::of::<u64>()) {
        arg.value_parser(parse_int::<u64>)
    } else if is(TypeId::of::<usize>()) {
        arg.value_parser(parse_int::<usize>)
    } else if is(TypeId::of::<f64>()) && arg.get_id() != "kube_api_qps" && arg.get_id() != "kube_api_burst" {
        arg.value_parser(parse_float)
    } else {
        arg
    };
    if matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
        arg.allow_hyphen_values(true)
    } else {
        arg
    }
}

/// Reads the flags of `component` from `argv`, the program's name first.
///
/// # Errors
/// [`Error::Flag`] for the first flag that is unknown or has a value it does not take. The text for `--help` and
/// `--version` comes as `Ok(Err(text))`.
pub fn parse<A>(
    component: &Component,
    argv: impl IntoIterator<Item = OsString>,
) -> Result<Result<Parsed<A>, String>, Error>
where
    A: clap::Parser + AsRef<CommonFlags>,
{
    let mut command = command::<A>(component);
    // Defaults of groups and derived settings are only there once built.
    command.build();
    let mut warnings = Vec::new();
    let words = normalise(&command, argv, &mut warnings)?;
    let matches = match command.clone().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Err(error.render().to_string()));
        }
        Err(error) => return Err(flag_error(&command, &error).into()),
    };
    let ignored: Vec<String> = KlogFlags::IGNORED
        .iter()
        .filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
        .map(|id| format!("--{}", id.replace('_', "-")))
        .collect();
    if !ignored.is_empty() {
        warnings.push(format!("flags without effect here: {}", ignored.join(", ")));
    }
    let args = A::from_arg_matches(&matches).map_err(|error| flag_error(&command, &error))?;
    args.as_ref().validate()?;
    Ok(Ok(Parsed { args, warnings }))
}

/// Brings the words into the one form `--name=value`, or `--name` for a truth value.
fn normalise(
    command: &Command,
    argv: impl IntoIterator<Item = OsString>,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, FlagError> {
    let booleans: BTreeMap<String, bool> = command
        .get_arguments()
        .filter_map(|arg| {
            let takes_none =
                !arg.get_action().takes_values() || arg.get_num_args().is_some_and(|n| n.min_values() == 0);
            Some((arg.get_long()?.to_owned(), takes_none))
        })
        .collect();
    let mut argv = argv.into_iter().map(|word| word.to_string_lossy().into_owned());
    let mut words = vec![argv.next().unwrap_or_else(|| command.get_name().to_owned())];
    let mut gates: Vec<String> = Vec::new();
    let mut ignored = Vec::new();
    while let Some(word) = argv.next() {
        if word == "--" {
            ignored.extend(argv.by_ref());
            break;
        }
        let (name, value) = match split(&word) {
            Word::Flag { name, value } => (name, value),
            Word::Other(word) => {
                ignored.push(word);
                continue;
            }
        };
        if name == "h" {
            words.push("-h".to_owned());
            continue;
        }
        let value = match (value, booleans.get(&name)) {
            (Some(value), _) => Some(value),
            (None, Some(false)) => {
                Some(argv.next().ok_or_else(|| FlagError::new(&name, "nothing", "a value"))?)
            }
            (None, _) => None,
        };
        match value {
            Some(value) if name == "feature-gates" => gates.push(value),
            Some(value) => words.push(format!("--{name}={value}")),
            None => words.push(format!("--{name}")),
        }
    }
    if !gates.is_empty() {
        words.push(format!("--feature-gates={}", gates.join(",")));
    }
    if !ignored.is_empty() {
        warnings.push(format!(
            "ignored words that are no flags: {} (a truth value is written --flag=false)",
            ignored.join(" ")
        ));
    }
    Ok(words)
}

fn split(word: &str) -> Word {
    let Some(rest) =
        word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|rest| !rest.is_empty())
    else {
        return Word::Other(word.to_owned());
    };
    // klog's only flag of one letter may have its level right behind it.
    if let Some(level) = rest.strip_prefix('v')
        && !word.starts_with("--")
        && !level.is_empty()
        && level.bytes().all(|b| b.is_ascii_digit())
    {
        return Word::Flag { name: "v".to_owned(), value: Some(level.to_owned()) };
    }
    match rest.split_once('=') {
        Some((name, value)) => Word::Flag { name: name.replace('_', "-"), value: Some(value.to_owned()) },
        None => Word::Flag { name: rest.replace('_', "-"), value: None },
    }
}

/// Turns clap's error into which flag, what was found and what is allowed.
fn flag_error(command: &Command, error: &clap::Error) -> FlagError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let invalid = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = invalid.trim_start_matches('-').split(['=', ' ', '[']).next().unwrap_or_default().to_owned();
    if error.kind() == ErrorKind::UnknownArgument {
        let near = text(ContextKind::SuggestedArg)
            .map(|near| format!("a flag of {}, such as {near}", command.get_name()))
            .unwrap_or_else(|| format!("the flags that {} --help lists", command.get_name()));
        return FlagError::new(&flag, format!("--{flag}"), near);
    }
    let found = text(ContextKind::InvalidValue).unwrap_or_else(|| "nothing".to_owned());
    let source = std::error::Error::source(error).map(ToString::to_string);
    let allowed =
        source.or_else(|| text(ContextKind::ValidValue)).unwrap_or_else(|| "a value of its type".to_owned());
    FlagError::new(flag, found, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{FeatureGates, GoDuration, LeaderElectFlags};

    #[derive(clap::Parser, Debug)]
    struct Args {
        #[command(flatten)]
        common: CommonFlags,
        #[command(flatten)]
        leader: LeaderElectFlags,
        /// An interval.
        #[arg(long, default_value = "1m0s")]
        updater_interval: GoDuration,
        /// On by default.
        #[arg(long, default_value_t = true)]
        use_status: bool,
        /// A number.
        #[arg(long, default_value_t = -1)]
        burst: i64,
        /// A ratio.
        #[arg(long, default_value_t = 0.5)]
        tolerance: f64,
    }

    impl AsRef<CommonFlags> for Args {
        fn as_ref(&self) -> &CommonFlags {
            &self.common
        }
    }

    const COMPONENT: Component = Component {
        name: "vpa-test",
        about: "A test.",
        default_address: ":8943",
        lease_name: Some("vpa-updater"),
    };

    fn read(line: &str) -> Result<Parsed<Args>, Error> {
        let argv = std::iter::once("vpa-test").chain(line.split_whitespace()).map(OsString::from);
        Ok(parse::<Args>(&COMPONENT, argv)?.expect("no help asked for"))
    }

    fn args(line: &str) -> Args {
        read(line).unwrap_or_else(|e| panic!("{line}: {e}")).args
    }

    #[test]
    fn defaults() {
        let Args { common, leader, updater_interval, use_status, burst, tolerance } = args("");
        assert_eq!(common.address.as_str(), ":8943");
        assert_eq!(common.kube.kube_api_qps, 0.0);
        assert_eq!(leader.leader_elect_resource_name, "vpa-updater");
        assert!(!leader.leader_elect);
        assert_eq!(updater_interval.to_string(), "1m0s");
        assert!(use_status);
        assert_eq!((burst, tolerance), (-1, 0.5));
        assert_eq!(common.feature_gates, FeatureGates::default());
    }

    #[test]
    fn truth_values() {
        for (line, want) in [
            ("", false),
            ("--leader-elect", true),
            ("-leader-elect", true),
            ("--leader_elect", true),
            ("--leader-elect=true", true),
            ("--leader-elect=T", true),
            ("--leader-elect=1", true),
            ("--leader-elect=False", false),
            ("--leader-elect=0", false),
            ("-leader_elect=f", false),
            ("--leader-elect --leader-elect=false", false),
            ("--leader-elect=false --leader-elect", true),
        ] {
            assert_eq!(args(line).leader.leader_elect, want, "{line}");
        }
        assert!(!args("--use-status=false").use_status);
        assert!(args("--use-status=false --use_status").use_status);
    }

    #[test]
    fn values() {
        assert_eq!(args("--burst -7").burst, -7);
        assert_eq!(args("--burst=-7 --burst=0x10").burst, 16);
        assert_eq!(args("-burst 1_000").burst, 1000);
        assert_eq!(args("--tolerance -1e-1").tolerance, -0.1);
        assert_eq!(args("--updater_interval .5s").updater_interval.to_string(), "500ms");
        assert_eq!(args("--updater-interval=0").updater_interval, GoDuration::default());
        assert_eq!(args("-address=127.0.0.1:0").common.address.port(), 0);
        assert_eq!(args("--kubeconfig a=b").common.kube.kubeconfig.unwrap().to_str(), Some("a=b"));
        assert_eq!(args("--kubeconfig=").common.kube.kubeconfig.unwrap().to_str(), Some(""));
    }

    #[test]
    fn klog_flags() {
        for (line, level) in [("-v=6", 6), ("-v 6", 6), ("-v6", 6), ("--v=6", 6), ("--v 0", 0), ("", 4)] {
            assert_eq!(args(line).common.log.klog.v, level, "{line}");
        }
        let parsed =
            read("--logtostderr --stderrthreshold=info --vmodule=a=1 --skip_headers=false -v=2").unwrap();
        assert_eq!(
            parsed.warnings,
            ["flags without effect here: --logtostderr, --skip-headers, --stderrthreshold, --vmodule"]
        );
    }

    #[test]
    fn words_that_are_no_flags_are_ignored_aloud() {
        let parsed = read("--leader-elect false x -- --burst=3").unwrap();
        assert!(parsed.args.leader.leader_elect, "as in Go, the flag does not take the word behind it");
        assert_eq!(parsed.args.burst, -1);
        assert_eq!(parsed.warnings.len(), 1);
        assert!(parsed.warnings[0].contains("false x --burst=3"), "{:?}", parsed.warnings);
    }

    #[test]
    fn feature_gates_add_up() {
        let gates =
            args("--feature-gates=InPlace=false --feature-gates CPUStartupBoost=false").common.feature_gates;
        assert_eq!(gates, FeatureGates { in_place: false, cpu_startup_boost: false, per_vpa_config: true });
    }

    #[test]
    fn a_bad_flag_says_which_what_was_found_and_what_is_allowed() {
        for (line, flag, found, allowed) in [
            ("--burst=many", "burst", "many", "whole number"),
            ("--leader-elect=yes", "leader-elect", "yes", "true or false"),
            ("--updater-interval=60", "updater-interval", "60", "units"),
            ("--address=8943", "address", "8943", "HOST:PORT"),
            ("--feature-gates=Foo=true", "feature-gates", "Foo=true", "InPlace"),
            ("--feature-gates=InPlace=maybe", "feature-gates", "InPlace=maybe", "true or false"),
            ("--kube-api-qps=-1", "kube-api-qps", "-1", "at least 0"),
            ("--kube-api-qps=NaN", "kube-api-qps", "NaN", "finite"),
            ("--log-format=xml", "log-format", "xml", "json"),
            ("--updater-intervall=1m", "updater-intervall", "--updater-intervall", "--updater-interval"),
            ("--nonsense", "nonsense", "--nonsense", "--help"),
            ("--burst", "burst", "nothing", "a value"),
            ("--tolerance=inf", "tolerance", "inf", "finite"),
            (
                "--vpa-object-namespace=a --ignored-vpa-object-namespaces=b",
                "ignored-vpa-object-namespaces",
                "b",
                "--vpa-object-namespace",
            ),
            ("--leader-elect-renew-deadline=20s", "leader-elect-renew-deadline", "20s", "lease-duration"),
            ("--leader-elect-resource-lock=configmaps", "leader-elect-resource-lock", "configmaps", "leases"),
        ] {
            let parsed = read(line).and_then(|parsed| {
                parsed.args.leader.settings()?;
                Ok(parsed)
            });
            match parsed {
                Err(Error::Flag(error)) => {
                    assert_eq!((error.flag.as_str(), error.found.as_str()), (flag, found), "{line}: {error}");
                    assert!(error.allowed.contains(allowed), "{line}: {error}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_is_a_text_and_not_an_error() {
        for word in ["--help", "-help", "-h"] {
            let argv = ["vpa-test", word].map(OsString::from);
            let text = parse::<Args>(&COMPONENT, argv).unwrap().unwrap_err();
            assert!(text.contains("--updater-interval"), "{text}");
        }
    }
}
