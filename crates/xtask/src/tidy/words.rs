//! Texts that must not be committed.

use super::Report;
use super::source::{Source, Tree};

/// A text that must not stand in certain files, and why.
struct Word {
    text: &'static str,
    applies: fn(&Source) -> bool,
    why: &'static str,
}

/// The texts are put together here so that this file does not hold them.
const WORDS: [Word; 8] = [
    Word { text: concat!("TO", "DO"), applies: anywhere, why: "do it, or open an issue" },
    Word { text: concat!("FIX", "ME"), applies: anywhere, why: "fix it, or open an issue" },
    Word { text: concat!("XX", "X"), applies: is_rust, why: "say what is meant" },
    Word { text: concat!("/ro", "ot/"), applies: anywhere, why: "a path of one machine" },
    Word { text: concat!("/wo", "rk/"), applies: anywhere, why: "a path of one machine" },
    Word { text: "\"vpa_recommender_", applies: is_core, why: "metric names live in the shells" },
    Word { text: "\"vpa_updater_", applies: is_core, why: "metric names live in the shells" },
    Word { text: "\"vpa_admission_controller_", applies: is_core, why: "metric names live in the shells" },
];

fn anywhere(_: &Source) -> bool {
    true
}

fn is_rust(file: &Source) -> bool {
    file.path.ends_with(".rs")
}

fn is_core(file: &Source) -> bool {
    file.path.starts_with("crates/vpa-core/src/")
}

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in &tree.files {
        for word in WORDS.iter().filter(|word| (word.applies)(file)) {
            let lines = file.text.lines().enumerate().filter(|(_, line)| line.contains(word.text));
            for (index, _) in lines {
                report.error(format!("{}:{}: `{}`: {}", file.path, index + 1, word.text, word.why));
            }
        }
        if file.text.contains('\r') {
            report.error(format!("{}: has carriage returns", file.path));
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            report.error(format!("{}: has no newline at its end", file.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_words_with_their_line() {
        let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let later = concat!("fn a() {}\n// TO", "DO later\n");
        let files = vec![
            file("a.rs", later),
            file("crates/vpa-core/src/b.rs", "const N: &str = \"vpa_updater_x\";\n"),
            file("crates/vpa-updater/src/b.rs", "const N: &str = \"vpa_updater_x\";\n"),
            file("c.md", "no newline"),
        ];
        let mut report = Report::default();
        check(&Tree { files }, &mut report);
        assert_eq!(report.errors.len(), 3, "{:?}", report.errors);
        assert!(report.errors[0].starts_with("a.rs:2: "));
    }
}
