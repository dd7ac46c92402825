//! Warnings of webhooks on their way to the client, as `Warning` headers.

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;

/// Characters of all warnings of an answer; beyond it each is cut to [`ITEM_CHARS`]. The API server's numbers.
const ALL_CHARS: usize = 4096;
/// Characters of a warning that is cut.
const ITEM_CHARS: usize = 256;

/// Warnings about one request, each once, in their order.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds a warning. One that no header can hold is left out, as by the API server.
    pub(crate) fn add(&self, text: &str) {
        let mut texts = self.0.lock();
        let known = texts.iter().any(|known| known == text);
        if !text.is_empty() && !known && !text.chars().any(char::is_control) {
            texts.push(text.to_owned());
        }
    }

    /// Writes them into the headers of the answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let texts = self.0.lock();
        let cut = texts.iter().map(|text| text.chars().count()).sum::<usize>() > ALL_CHARS;
        let item_chars = if cut { ITEM_CHARS } else { usize::MAX };
        let mut left = ALL_CHARS;
        for text in texts.iter() {
            let text: String = text.chars().take(item_chars).collect();
            let Some(rest) = left.checked_sub(text.chars().count()) else { return };
            left = rest;
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
                headers.append(header::WARNING, value);
            }
        }
    }
}
