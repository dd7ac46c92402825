//! Colours and amounts as people read them.

/// One piece of text in one colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// The terminal's own.
    #[default]
    Plain,
    /// For what matters less.
    Dim,
    /// For titles.
    Bold,
    /// For what is good.
    Green,
    /// For what is bad.
    Red,
    /// For what changes.
    Yellow,
    /// For amounts that are recommended.
    Cyan,
}

impl Colour {
    /// Every colour, with the number of its escape sequence.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Plain, "0"),
        (Self::Dim, "2"),
        (Self::Bold, "1"),
        (Self::Green, "32"),
        (Self::Red, "31"),
        (Self::Yellow, "33"),
        (Self::Cyan, "36"),
    ];

    fn code(self) -> &'static str {
        Self::ALL.iter().find(|(colour, _)| *colour == self).map_or("0", |(_, code)| code)
    }

    /// `text` in this colour, as an escape sequence.
    pub fn paint(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            _ => format!("\x1b[{}m{text}\x1b[0m", self.code()),
        }
    }
}

/// A line as pieces of text with their colours, without the escape sequences.
pub fn pieces(line: &str) -> Vec<(Colour, String)> {
    let mut pieces = Vec::new();
    let mut colour = Colour::Plain;
    for (number, part) in line.split("\x1b[").enumerate() {
        let text = match (number, part.split_once('m')) {
            (0, _) | (_, None) => part,
            (_, Some((code, text))) => {
                let known = Colour::ALL.iter().find(|(_, known)| *known == code);
                colour = known.map_or(Colour::Plain, |(colour, _)| *colour);
                text
            }
        };
        if !text.is_empty() {
            pieces.push((colour, text.to_owned()));
        }
    }
    pieces
}

/// A line without escape sequences.
pub fn plain(line: &str) -> String {
    pieces(line).into_iter().map(|(_, text)| text).collect()
}

/// CPU: `75m` up to ten cores, `12.3` cores above.
pub fn cpu(millis: i64) -> String {
    if millis.abs() < 10_000 { format!("{millis}m") } else { cores(millis) }
}

/// CPU in cores: `0.4`, `12.3`.
pub fn cores(millis: i64) -> String {
    format!("{:.1}", millis as f64 / 1000.0)
}

/// Memory: `64Mi`, `1.5Gi`.
pub fn memory(bytes: i64) -> String {
    const MI: f64 = 1024.0 * 1024.0;
    let bytes = bytes as f64;
    if bytes.abs() < 1000.0 * MI {
        format!("{:.0}Mi", bytes / MI)
    } else {
        format!("{:.1}Gi", bytes / MI / 1024.0)
    }
}

/// `1 pod`, `2 pods`.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Columns of text, aligned; the widths do not count the colours.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(Colour, String)>>,
    right: Vec<usize>,
}

impl Table {
    /// A table in which these columns are aligned to the right.
    pub fn new(right: &[usize]) -> Self {
        Self { rows: Vec::new(), right: right.to_vec() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<(Colour, String)>) {
        self.rows.push(cells);
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(_, text)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[(Colour, String)], widths: &[usize]) -> String {
        let cell = |(column, (colour, text)): (usize, &(Colour, String))| {
            let pad = " ".repeat(widths.get(column).map_or(0, |width| width - text.chars().count()));
            let text = colour.paint(text);
            if self.right.contains(&column) { format!("{pad}{text}") } else { format!("{text}{pad}") }
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        format!(" {}", cells.join("  ")).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        const MI: i64 = 1024 * 1024;
        assert_eq!((cpu(75), cpu(9999), cpu(12_340)), ("75m".into(), "9999m".into(), "12.3".into()));
        assert_eq!(
            (memory(64 * MI), memory(1536 * MI), memory(-300 * MI)),
            ("64Mi".into(), "1.5Gi".into(), "-300Mi".into())
        );
        assert_eq!((count(1, "pod"), count(0, "pod")), ("1 pod".into(), "0 pods".into()));
    }

    #[test]
    fn colours_are_written_and_read() {
        let line = format!("a{}b{}", Colour::Green.paint("yes"), Colour::Dim.paint("no"));
        assert_eq!(plain(&line), "ayesbno");
        let expected =
            [(Colour::Plain, "a"), (Colour::Green, "yes"), (Colour::Plain, "b"), (Colour::Dim, "no")];
        assert_eq!(pieces(&line), expected.map(|(colour, text)| (colour, text.to_owned())));
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(&[1]);
        table.row(vec![(Colour::Bold, "name".into()), (Colour::Plain, "n".into())]);
        table.row(vec![(Colour::Plain, "x".into()), (Colour::Red, "100".into())]);
        let lines: Vec<String> = table.lines().iter().map(|line| plain(line)).collect();
        assert_eq!(lines, [" name    n", " x     100"]);
    }
}
