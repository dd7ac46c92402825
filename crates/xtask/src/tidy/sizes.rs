//! Files and functions that have grown too long to be read at once.

use super::Report;
use super::source::{Source, Tree};

/// Lines from which a file or function is pointed out.
const FILE_WARNED: usize = 400;
const FUNCTION_WARNED: usize = 60;
/// Lines beyond which it must be split, or listed with its reason.
const FILE_MAX: usize = 600;
const FUNCTION_MAX: usize = 100;

/// Where exceptions are listed: `path` or `path function`, then `# reason`.
const ALLOW_FILE: &str = "crates/xtask/tidy-allow.txt";

pub(super) fn check(tree: &Tree, report: &mut Report) {
    let allowed = tree.files.iter().find(|file| file.path == ALLOW_FILE).map_or("", |file| &file.text);
    let mut allowed: Vec<(&str, bool)> = allowed
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| (line, false))
        .collect();
    let mut judge = |what: String, lines: usize, warned: usize, max: usize| {
        if lines <= warned {
            return;
        }
        if let Some(entry) = allowed.iter_mut().find(|(entry, _)| *entry == what) {
            entry.1 = true;
        } else if lines > max {
            report.error(format!(
                "{what} has {lines} lines, more than {max}: split it, or list it in {ALLOW_FILE}"
            ));
        } else {
            report.warn(format!("{what} has {lines} lines, more than {warned}"));
        }
    };
    for file in tree.of_kind("rs") {
        let code = without_tests(file);
        judge(file.path.clone(), code.len(), FILE_WARNED, FILE_MAX);
        for (name, lines) in functions(&code) {
            judge(format!("{} {name}", file.path), lines, FUNCTION_WARNED, FUNCTION_MAX);
        }
    }
    for (entry, _) in allowed.iter().filter(|(_, used)| !used) {
        report.error(format!("{ALLOW_FILE} lists `{entry}`, which is short enough or not there"));
    }
}

/// The lines before the test module; none of a file of tests.
fn without_tests(file: &Source) -> Vec<&str> {
    if file.path.contains("/tests/") || file.path.ends_with("/tests.rs") || file.path.contains("/benches/") {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let end = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    lines[..end.unwrap_or(lines.len())].to_vec()
}

/// Functions with the number of their lines. rustfmt puts the closing brace in the column of the first line.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}}}");
        // A declaration in a trait ends with a semicolon before any body.
        let signature_end = lines[start..].iter().find(|line| line.ends_with(['{', ';', '}']));
        let has_body = signature_end.is_some_and(|line| line.ends_with('{'));
        if let Some(end) = lines[start..].iter().position(|line| *line == close).filter(|_| has_body) {
            found.push((name.to_owned(), end + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: String) -> Tree {
        Tree { files: vec![Source { path: path.to_owned(), text }] }
    }

    #[test]
    fn counts_functions_without_declarations() {
        let text = "trait T {\n    fn a(&self);\n    fn c(&self) {\n    }\n}\n\npub async fn b<T>(\n    x: T,\n) {\n    y();\n}\n";
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(functions(&lines), [("c".to_owned(), 2), ("b".to_owned(), 5)]);
    }

    #[test]
    fn long_ones_are_pointed_out_and_very_long_ones_refused() {
        for (lines, warnings, errors) in [(50, 0, 0), (80, 1, 0), (150, 1, 1)] {
            let mut report = Report::default();
            let text = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines));
            check(&tree("crates/a/src/lib.rs", text), &mut report);
            assert_eq!(
                (report.warnings.len().max(report.errors.len()), report.errors.len()),
                (warnings, errors),
                "{lines}"
            );
        }
    }

    #[test]
    fn tests_may_be_long() {
        let mut report = Report::default();
        let text = format!("fn short() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    // x\n".repeat(1000));
        check(&tree("crates/a/src/lib.rs", text), &mut report);
        assert!(report.errors.is_empty() && report.warnings.is_empty());
    }

    #[test]
    fn an_exception_that_is_not_needed_is_an_error() {
        let mut report = Report::default();
        check(&tree(ALLOW_FILE, "# list\ncrates/a/src/lib.rs long # a table\n".to_owned()), &mut report);
        assert_eq!(report.errors.len(), 1);
    }
}
