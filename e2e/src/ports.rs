//! Free ports of loopback for programs that are told where to listen.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// Below the ports that the system gives to outgoing connections (from 32768 on Linux, from 49152 elsewhere): one of
/// those could be taken by any connection before its program binds it.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port that nobody listens on, and that this process has not given away before.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Runs side by side start at different places.
    let next = NEXT.get_or_init(|| {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
        AtomicU32::new(std::process::id().wrapping_mul(331).wrapping_add(nanos / 1000) % COUNT)
    });
    for _ in 0..COUNT {
        let offset = next.fetch_add(1, Ordering::Relaxed) % COUNT;
        let Ok(port) = u16::try_from(FIRST + offset) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::expectation(format!("no free port of 127.0.0.1 between {FIRST} and {}", FIRST + COUNT)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<_> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
    }

    #[test]
    fn a_port_in_use_is_not_given() {
        let port = free_port().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!((0..COUNT).all(|_| free_port().unwrap() != port));
    }
}
