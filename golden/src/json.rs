//! Reads JSON with correctly rounded numbers.
//!
//! serde_json may be off by a last bit unless a feature is on that would change the build of every crate. A last bit
//! decides about a histogram bucket, so the cases are read by this small reader.

use serde_json::{Map, Number, Value};

/// Deeper nesting is refused; the data reach a dozen levels.
const DEPTH_MAX: usize = 128;

/// Reads one JSON text.
///
/// # Errors
/// Says what is wrong and at which byte.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_blanks();
    if reader.at < text.len() { Err(reader.error("text after the end")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Whether the next character that is not blank is `byte`, which is then taken.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(_) => self.scalar(),
            None => Err(self.error("the text ends early")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut map = Map::new();
        if self.take(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            self.skip_blanks();
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.error("no colon after a key"));
            }
            map.insert(key, self.value(depth + 1)?);
            if self.take(b'}') {
                return Ok(Value::Object(map));
            }
            if !self.take(b',') {
                return Err(self.error("neither comma nor end of an object"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.error("neither comma nor end of an array"));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let bytes = self.text.as_bytes();
        if self.peek() != Some(b'"') {
            return Err(self.error("no string"));
        }
        let mut end = self.at + 1;
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let raw = self.text.get(self.at..=end).ok_or_else(|| self.error("a string without an end"))?;
        let string = serde_json::from_str(raw).map_err(|error| self.error(&error.to_string()))?;
        self.at = end + 1;
        Ok(string)
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<Value, String> {
        let rest: &'a str = &self.text[self.at..];
        let end = rest.find(|c: char| c.is_ascii_whitespace() || ",]}".contains(c)).unwrap_or(rest.len());
        let token = &rest[..end];
        // serde_json judges the form, the standard library the value.
        let plain: Value =
            serde_json::from_str(token).map_err(|_| self.error("neither number nor literal"))?;
        self.at += end;
        Ok(match plain {
            Value::Number(number) if number.is_f64() => {
                let exact = token.parse().ok().and_then(Number::from_f64);
                Value::Number(exact.ok_or_else(|| self.error("a number out of range"))?)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        for text in
            ["null", " [ ] ", "{}", r#"{"a":[1,-2,true,{"b":"x\"\\ü€"}],"c":null}"#, "18446744073709551615"]
        {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn rounds_to_the_nearest_float() {
        for text in
            ["0.1", "122.416294033786585", "9007199254740993.0", "1e23", "5e-324", "2.2250738585072011e-308"]
        {
            assert_eq!(
                parse(text).unwrap().as_f64().unwrap().to_bits(),
                text.parse::<f64>().unwrap().to_bits()
            );
        }
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in ["", "[1", "[1 2]", "{\"a\"}", "{\"a\":}", "\"x", "01", "nul", "1 2", "[1,]", "{1:2}"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
