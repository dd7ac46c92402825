//! The flag reference, from the programs' own definitions.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use crate::generated::{Generated, TaskError, apply};

/// Where the reference lies.
const FILE: &str = "docs/flags.md";

/// Help text of a flag that is taken but does nothing.
const NO_EFFECT: &str = "No effect";

/// Flags whose comparison cannot be read off their defaults.
const REMARKS: [(&str, &str); 2] =
    [("feature-gates", "all are off there by default"), ("profiling", "serves Go's /debug/pprof there")];

/// A flag of the Go suite.
struct GoFlag<'a> {
    kind: &'a str,
    default: &'a str,
}

/// Flags of one Go component by name.
type GoFlags<'a> = BTreeMap<&'a str, GoFlag<'a>>;

/// The programs by the name that the Go suite's component has.
fn programs() -> Vec<(&'static str, Command)> {
    vec![
        ("recommender", vpa_recommender::command()),
        ("updater", vpa_updater::command()),
        ("admission-controller", vpa_admission_controller::command()),
        ("admission-controller deregister", vpa_admission_controller::deregister::command()),
    ]
}

/// Writes the reference, or compares it with what is on disk.
///
/// # Errors
/// The file cannot be written, or is stale.
pub fn run(check: bool) -> Result<(), TaskError> {
    let content = render(&programs());
    apply(&[Generated { path: FILE.to_owned(), content }], check, "flags")
}

/// Flags of the Go suite that a program does not take, as `component flag`.
pub fn missing() -> Vec<String> {
    let programs = programs();
    let missing = programs.iter().flat_map(|(component, command)| {
        let names = untaken(command, &go_flags(component));
        names.into_iter().map(move |name| format!("{component} --{name}")).collect::<Vec<_>>()
    });
    missing.collect()
}

const INTRODUCTION: &str = "\
<!-- Generated from the programs by `cargo xtask flags`; do not edit. -->
# Flags

The flags are written as the Go suite takes them: `--flag=value` and `--flag value`, also with one dash; a switch is `--flag`, \
`--flag=true` or `--flag=false`; `_` in a name counts as `-`; durations are like `1m30s`; of a flag given twice the last one wins.

The last column says how a flag compares with the Go suite: *same* means same name, meaning and default.
";

fn render(programs: &[(&str, Command)]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (component, command) in programs {
        text.push_str(&section(component, command));
    }
    text
}

fn section(component: &str, command: &Command) -> String {
    let go = go_flags(component);
    let mut text = format!(
        "\n## vpa-{component}\n\n| Flag | Default | Meaning | Against the Go suite |\n|---|---|---|---|\n"
    );
    let mut idle = Vec::new();
    let mut arguments: Vec<(&str, &Arg)> =
        command.get_arguments().filter_map(|argument| Some((argument.get_long()?, argument))).collect();
    arguments.sort_by_key(|(name, _)| *name);
    for (name, argument) in arguments {
        let help = help(argument);
        if matches!(name, "help" | "version") {
            continue;
        }
        if help.starts_with(NO_EFFECT) {
            idle.push(format!("`--{name}`"));
            continue;
        }
        let default = default(argument);
        let shown = if default.is_empty() { String::new() } else { format!("`{}`", cell(&default)) };
        let remark = REMARKS.iter().find(|(flag, _)| *flag == name).map(|(_, remark)| (*remark).to_owned());
        let against = remark.unwrap_or_else(|| against(&default, go.get(name)));
        text.push_str(&format!("| `--{name}` | {shown} | {} | {} |\n", cell(&help), cell(&against)));
    }
    if !idle.is_empty() {
        text.push_str(&format!(
            "\nTaken without effect, so that a command line of the Go suite works: {}.\n",
            idle.join(", ")
        ));
    }
    let untaken: Vec<String> = untaken(command, &go).into_iter().map(|name| format!("`--{name}`")).collect();
    if !untaken.is_empty() {
        text.push_str(&format!("\nFlags of the Go suite that are not taken yet: {}.\n", untaken.join(", ")));
    }
    text
}

fn against(default: &str, go: Option<&GoFlag<'_>>) -> String {
    match go {
        None => "new".to_owned(),
        Some(go) if same(default, go) => "same".to_owned(),
        Some(go) if go.default.is_empty() => "default there: none".to_owned(),
        Some(go) => format!("default there: `{}`", go.default),
    }
}

/// Equal as text or as number; no default of a switch means off.
fn same(default: &str, go: &GoFlag<'_>) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    let off = |text: &str| go.kind == "bool" && matches!(text, "" | "false");
    default == go.default
        || (number(default).is_some() && number(default) == number(go.default))
        || (off(default) && off(go.default))
}

fn default(argument: &Arg) -> String {
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    values.join(",")
}

/// The whole help text in one line.
fn help(argument: &Arg) -> String {
    let text =
        argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn untaken(command: &Command, go: &GoFlags<'_>) -> Vec<String> {
    let taken = |name: &str| {
        command.get_arguments().any(|argument| {
            argument.get_long() == Some(name)
                || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
                || argument.get_short().is_some_and(|short| name == short.to_string())
        })
    };
    go.keys().filter(|name| !taken(name)).map(|name| (*name).to_owned()).collect()
}

fn go_flags(component: &str) -> GoFlags<'static> {
    let lines = include_str!("../data/go-flags.txt").lines().filter(|line| !line.starts_with('#'));
    let flags = lines.filter_map(|line| {
        let mut words = line.splitn(4, ' ');
        (words.next()? == component).then_some(())?;
        let (name, kind) = (words.next()?, words.next()?);
        Some((name, GoFlag { kind, default: words.next().unwrap_or_default() }))
    });
    flags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Command {
        Command::new("vpa-updater")
            .arg(Arg::new("address").long("address").default_value(":8943").help("Address of the server"))
            .arg(
                Arg::new("qps").long("kube-api-qps").default_value("50.0").help("Requests a second,\nin all"),
            )
            .arg(Arg::new("min").long("min-replicas").default_value("3").help("Least | replicas"))
            .arg(Arg::new("own").long("own-thing").help("Own"))
            .arg(Arg::new("dir").long("log-dir").help("No effect: logs go to standard error"))
    }

    #[test]
    fn each_flag_is_compared() {
        let text = section("updater", &sample());
        for line in [
            "| `--address` | `:8943` | Address of the server | same |",
            "| `--kube-api-qps` | `50.0` | Requests a second, in all | same |",
            "| `--min-replicas` | `3` | Least \\| replicas | default there: `2` |",
            "| `--own-thing` |  | Own | new |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(
            text.contains("without effect, so that a command line of the Go suite works: `--log-dir`."),
            "{text}"
        );
        assert!(text.contains("not taken yet: ") && text.contains("`--eviction-tolerance`"), "{text}");
        assert!(!text.contains("`--min-replicas`,"), "{text}");
    }

    #[test]
    fn the_facts_are_complete() {
        let counts =
            ["recommender", "updater", "admission-controller"].map(|component| go_flags(component).len());
        assert_eq!(counts, [83, 43, 42]);
        assert_eq!(go_flags("recommender")["metric-for-pod-labels"].default, "up{job=\"kubernetes-pods\"}");
    }
}
