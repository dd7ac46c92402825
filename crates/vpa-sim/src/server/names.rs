//! Names and UIDs that the server makes up.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Letters and digits of generated name suffixes, as in Kubernetes: no vowels, nothing that looks alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Random bits: the keys of the standard library's hasher come from the operating system.
fn random() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNTER.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

/// A UUID of version 4.
pub(crate) fn uid() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// Five characters for `generateName`.
pub(crate) fn suffix() -> String {
    let mut bits = random();
    let count = ALPHABET.len() as u64;
    let mut out = String::with_capacity(5);
    for _ in 0..5 {
        let index = usize::try_from(bits % count).unwrap_or_default();
        out.push(char::from(ALPHABET[index]));
        bits /= count;
    }
    out
}

/// Whether a name is a DNS subdomain: what most kinds ask for.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let bytes = label.as_bytes();
            ends(bytes.first())
                && ends(bytes.last())
                && bytes
                    .iter()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_of_the_api_server() {
        let uid = uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert_eq!(suffix().len(), 5);
        for (name, good) in
            [("a", true), ("a-b.c1", true), ("A", false), ("-a", false), ("a..b", false), ("", false)]
        {
            assert_eq!(is_dns_subdomain(name), good, "{name:?}");
        }
    }
}
