//! Go's manners on top of clap.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};

use super::groups::{Flags, KlogFlags};
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
        .bin_name(component.name)
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
    A: Flags,
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
    args.validate()?;
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
mod tests;
