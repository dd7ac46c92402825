//! Where the lines go: a terminal, redrawn in place, or plain output, a line at a time.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::paint::plain;

/// Time between two lines of plain output.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Enters the terminal's second screen, without its cursor and without wrapping long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

/// Leaves it again.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Standard output. Dropping it leaves the terminal as it was.
#[derive(Debug)]
pub struct Screen {
    redraws: bool,
    coloured: bool,
    drawn: bool,
    last: Option<Duration>,
}

impl Screen {
    /// Redraws where standard output is a terminal; colours there too, unless `NO_COLOR` is set.
    pub fn new() -> Self {
        let terminal =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { redraws: terminal, coloured, drawn: false, last: None }
    }

    /// Shows the picture on a terminal, else now and then the short line.
    pub fn show(
        &mut self,
        now: Duration,
        picture: impl FnOnce() -> Vec<String>,
        short: impl FnOnce() -> String,
    ) {
        if self.redraws {
            let enter = if self.drawn { "" } else { ENTER };
            self.drawn = true;
            let lines: Vec<String> = picture().iter().map(|line| self.line(line) + "\x1b[K").collect();
            self.write(&format!("{enter}\x1b[H{}\x1b[J", lines.join("\r\n")));
        } else if self.last.is_none_or(|last| now >= last + PLAIN_EVERY) {
            self.last = Some(now);
            let line = short();
            self.print(&[line]);
        }
    }

    /// Goes back to the first screen, where what is printed stays.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.drawn) {
            self.write(LEAVE);
        }
    }

    /// Prints lines that stay.
    pub fn print(&mut self, lines: &[String]) {
        self.leave();
        let text: String = lines.iter().map(|line| self.line(line) + "\n").collect();
        self.write(&text);
    }

    fn line(&self, line: &str) -> String {
        if self.coloured { line.to_owned() } else { plain(line) }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the demonstration goes on for its exit code.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}
