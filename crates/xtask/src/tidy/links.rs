//! Documents that name what is not there.

use super::Report;
use super::source::{Source, Tree};
use crate::workspace;

/// Folders at the root whose paths, in backticks, a document may name.
const FOLDERS: [&str; 7] = ["crates/", "golden/", "e2e/", "charts/", "docs/", "benches/", "fuzz/"];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.of_kind("md") {
        for (line, text) in prose(&file.text) {
            for target in targets(text) {
                if let Some(problem) = dead(tree, file, target) {
                    report.error(format!("{}:{line}: {problem}", file.path));
                }
            }
            for path in code_paths(text) {
                if !workspace().join(path).exists() {
                    report.error(format!("{}:{line}: names `{path}`, which does not exist", file.path));
                }
            }
        }
    }
}

/// Numbered lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return None;
        }
        (!in_code).then_some((index + 1, line))
    })
}

/// Targets of the links `[text](target)` of a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// Paths in backticks that start with a folder of the project and hold no placeholder.
fn code_paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        FOLDERS.iter().any(|folder| text.starts_with(folder))
            && !text.contains(['*', '<', '{', ' ', '$', '…', '#'])
    })
}

/// What is wrong with a link, if anything. Links to other sites are not looked up.
fn dead(tree: &Tree, from: &Source, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") || target.is_empty() {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = from.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if path.is_empty() { from.path.clone() } else { normalise(folder, path) };
    if !workspace().join(&path).exists() && !tree.files.iter().any(|file| file.path == path) {
        return Some(format!("links to {target}, which does not exist"));
    }
    let document = tree.files.iter().find(|file| file.path == path && path.ends_with(".md"))?;
    let found = anchor.is_empty() || document.text.lines().any(|line| slug(line).as_deref() == Some(anchor));
    (!found).then(|| format!("links to {target}, which has no such heading"))
}

fn normalise(folder: &str, path: &str) -> String {
    let joined = if let Some(absolute) = path.strip_prefix('/') {
        absolute.to_owned()
    } else {
        format!("{folder}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchor of a heading.
fn slug(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_dead_links_and_paths() {
        let text = "# A b: c\n[x](docs/other.md#a-b-c) [y](other.md#nothing) [z](../no.md) <https://x.y/#z>\n\
                    `crates/none/src` and `crates/vpa-api` and `crates/<name>`\n```\n[code](not-looked-at.md)\n```\n";
        let file = |path: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let mut report = Report::default();
        check(
            &Tree { files: vec![file("docs/a.md"), file("docs/other.md"), file("docs/docs/other.md")] },
            &mut report,
        );
        // Per file: y, z and the path; in docs/other.md and docs/a.md alike, in docs/docs/other.md also x.
        let of =
            |path: &str| report.errors.iter().filter(|error| error.starts_with(&format!("{path}:"))).count();
        assert_eq!(
            (of("docs/a.md"), of("docs/other.md"), of("docs/docs/other.md")),
            (3, 3, 4),
            "{:#?}",
            report.errors
        );
    }
}
