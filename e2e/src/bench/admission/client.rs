//! A client that costs little beside what it measures: one thread for each connection, one write and one read for each
//! review.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::error::{Error, Result};

/// Longest wait for an answer: what an API server waits by default.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Longest answer that is read. One with a patch takes about 1 kB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where a webhook listens on loopback, and how to talk to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    port: u16,
    config: Arc<ClientConfig>,
}

impl Target {
    /// A webhook on `port` whose certificate was signed by this authority (PEM).
    ///
    /// # Errors
    /// If the certificate cannot be used.
    pub(super) fn new(port: u16, authority: &str) -> Result<Self> {
        let failed =
            |error: &dyn std::fmt::Display| Error::Client(format!("the webhook's authority: {error}"));
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
        // As an API server offers them: the short key first, and HTTP/1.1 alone.
        let mut provider = ring::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
        let mut config = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { port, config: Arc::new(config) })
    }

    /// Port of loopback.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Opens a connection, through its handshake.
    ///
    /// # Errors
    /// If nobody listens, or the certificate is no good.
    pub(super) fn connect(&self) -> io::Result<Connection> {
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let tls = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection { stream, read: vec![0; ANSWER_BYTES_MAX], body: Vec::new() })
    }
}

/// A connection that is kept.
pub(super) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    read: Vec<u8>,
    body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Status code of HTTP.
    pub(super) status: u16,
    /// The whole body.
    pub(super) body: &'a str,
}

impl Answer<'_> {
    /// Whether it admits the object, with a patch.
    pub(super) fn patches(&self) -> bool {
        let Self { status, body } = self;
        *status == 200 && body.contains("\"allowed\":true") && body.contains("\"patch\":\"")
    }
}

impl Connection {
    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// If the connection fails, or what comes is no answer.
    pub(super) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request)?;
        self.stream.flush()?;
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.read[filled..])?;
            filled += count;
            if count == 0 {
                return Err(invalid("an answer that ends early or is too long"));
            }
            if let Some(status) = parse(&self.read[..filled], &mut self.body)? {
                let body =
                    std::str::from_utf8(&self.body).map_err(|_| invalid("an answer that is not UTF-8"))?;
                return Ok(Answer { status, body });
            }
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Status of a whole answer, whose body goes into `body`; none while more has to come.
fn parse(bytes: &[u8], body: &mut Vec<u8>) -> io::Result<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid("a head that is not text"))?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| invalid("not an answer of HTTP/1.1"))?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    };
    let rest = &bytes[end + 4..];
    body.clear();
    if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(unchunk(rest, body)?.then_some(status));
    }
    let length: usize = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let Some(whole) = rest.get(..length) else { return Ok(None) };
    body.extend_from_slice(whole);
    Ok(Some(status))
}

/// Puts chunks together; whether the last one is there.
fn unchunk(mut rest: &[u8], body: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| invalid("a chunk without its size"))?;
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { return Ok(false) };
        if rest.len() < end + size + 4 {
            return Ok(false);
        }
        if size == 0 {
            return Ok(true);
        }
        body.extend_from_slice(chunk);
        rest = &rest[end + size + 4..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
        let mut body = Vec::new();
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end], &mut body).unwrap(), None, "{end}");
        }
        assert_eq!(parse(text.as_bytes(), &mut body).unwrap(), Some(200));
        assert_eq!(body, b"body");
        assert!(parse(b"SMTP\r\n\r\n", &mut body).is_err());
    }

    #[test]
    fn chunks_are_put_together() {
        let text =
            "HTTP/1.1 413 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        let mut body = Vec::new();
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end], &mut body).unwrap(), None, "{end}");
        }
        assert_eq!(parse(text.as_bytes(), &mut body).unwrap(), Some(413));
        assert_eq!(body, b"abc0123456789");
    }

    #[test]
    fn only_an_allowed_answer_with_a_patch_patches() {
        let answer = |status, body| Answer { status, body }.patches();
        assert!(answer(200, r#"{"allowed":true,"patch":"W10="}"#));
        assert!(!answer(500, r#"{"allowed":true,"patch":"W10="}"#));
        assert!(!answer(200, r#"{"allowed":false,"patch":"W10="}"#));
        assert!(!answer(200, r#"{"allowed":true}"#));
    }
}
