//! Truth values, numbers and lists as Go's flag packages read them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Reads a truth value in one of the forms that Go takes.
///
/// # Errors
/// Any other text, with the forms it takes.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false (also t, f, 1, 0)".to_owned()),
    }
}

/// Reads a whole number, also as `0x1f`, `0o17`, `017`, `0b11` or `1_000`.
///
/// # Errors
/// Anything else, or a number that `T` cannot hold.
pub fn parse_int<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
    let allowed = || "a whole number in range".to_owned();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    let well_placed =
        !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'));
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if !well_placed || plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(allowed());
    }
    let value = i128::from_str_radix(&plain, radix).map_err(|_| allowed())?;
    T::try_from(if negative { -value } else { value }).map_err(|_| allowed())
}

/// Reads a finite number.
///
/// # Errors
/// Anything else, infinities and NaN included: no flag of the suite has a use for them.
pub fn parse_float(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("a finite number".to_owned()),
    }
}

/// Reads a finite number of at least 0.
///
/// # Errors
/// Anything else.
pub fn parse_non_negative(text: &str) -> Result<f64, String> {
    parse_float(text)
        .ok()
        .filter(|value| *value >= 0.0)
        .ok_or_else(|| "a finite number of at least 0".to_owned())
}

/// Reads a duration longer than nothing; a value parser for intervals and timeouts.
///
/// # Errors
/// Anything else.
pub fn parse_positive_duration(text: &str) -> Result<super::GoDuration, String> {
    let duration: super::GoDuration = text.parse().map_err(|e: super::ParseDurationError| e.to_string())?;
    if duration.is_positive() { Ok(duration) } else { Err("a duration longer than 0s".to_owned()) }
}

/// A comma-separated list; empty entries and blanks around entries are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommaList(pub BTreeSet<String>);

impl FromStr for CommaList {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(
            text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect(),
        ))
    }
}

/// An address to listen on, in Go's form: `:8942`, `127.0.0.1:8942`, `[::1]:8942`, `localhost:0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    text: String,
    host: String,
    port: u16,
}

impl ListenAddress {
    /// Port, 0 for one of the system's choice.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Addresses to try, in order. Without a host it is every interface, IPv6 with IPv4 first, then IPv4 alone for
    /// nodes that have no IPv6.
    ///
    /// # Errors
    /// The name of the host cannot be resolved.
    pub async fn candidates(&self) -> std::io::Result<Vec<SocketAddr>> {
        if self.host.is_empty() {
            let any4 = IpAddr::from([0, 0, 0, 0]);
            return Ok(vec![
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), self.port),
                SocketAddr::new(any4, self.port),
            ]);
        }
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = || "HOST:PORT or :PORT, with a port from 0 to 65535".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(allowed)?;
        let port = port.parse().map_err(|_| allowed())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(allowed)?,
            None if host.contains(':') => return Err(allowed()),
            None => host,
        };
        Ok(Self { text: text.to_owned(), host: host.to_owned(), port })
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_gos_forms() {
        for (text, want) in [
            ("7", 7),
            ("-7", -7),
            ("+7", 7),
            ("0x1F", 31),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("1_000", 1000),
            ("0", 0),
        ] {
            assert_eq!(parse_int::<i64>(text), Ok(want), "{text}");
        }
        for text in
            ["", "-", "1.5", "0x", "1__0", "_1", "1_", "08", "abc", "1e3", "99999999999999999999", " 1"]
        {
            assert!(parse_int::<i64>(text).is_err(), "{text:?} was taken");
        }
        assert!(parse_int::<u32>("-1").is_err());
        assert!(parse_int::<i32>("2147483648").is_err());
        assert_eq!(parse_float("1e3"), Ok(1000.0));
        for text in ["NaN", "inf", "-Inf", "", "1,5"] {
            assert!(parse_float(text).is_err(), "{text:?} was taken");
        }
        assert!(parse_non_negative("-0.1").is_err());
        assert_eq!(parse_non_negative("0.5"), Ok(0.5));
    }

    #[test]
    fn addresses_in_gos_forms() {
        for text in [":8942", "127.0.0.1:8942", "[::1]:8942", "localhost:0", "0.0.0.0:1"] {
            assert!(text.parse::<ListenAddress>().is_ok(), "{text}");
        }
        for text in ["8942", "::1:8942", "host:", "host:99999", "[::1:80", ""] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_list_drops_blanks() {
        let list: CommaList = " a, b ,,a".parse().unwrap();
        assert_eq!(list.0.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
