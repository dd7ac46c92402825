//! Reading the body of a request, within bounds of size, time and memory.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest review that is read. Objects are at most 1.5 MB in etcd, and an update brings two of them.
pub const BODY_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Size up to which a body needs no room of its own: nearly every pod's is smaller. The number of connections bounds them, to
/// 64 MiB.
const SMALL_BYTES: usize = 64 * 1024;

/// Bodies larger than that at once: 60 MiB.
const LARGE_AT_ONCE: usize = 12;

/// Longest time for a body to arrive, with the wait for room. The API server sends it at once.
const READ_MAX: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is answered.
    pub status: StatusCode,
    /// For the metric.
    pub reason: &'static str,
    /// For the caller.
    pub text: &'static str,
}

const TOO_LARGE: Refusal = Refusal {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    reason: "too_large",
    text: "request payload too large\n",
};

const BROKEN: Refusal =
    Refusal { status: StatusCode::BAD_REQUEST, reason: "body", text: "body cannot be read\n" };

const SLOW: Refusal =
    Refusal { status: StatusCode::REQUEST_TIMEOUT, reason: "timeout", text: "request took too long\n" };

const BUSY: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    reason: "busy",
    text: "too many large requests at once\n",
};

/// Reads bodies.
#[derive(Debug)]
pub struct Reader {
    large: Semaphore,
}

/// A body, with the room that it takes.
#[derive(Debug)]
pub struct Read<'a> {
    /// The bytes.
    pub bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { large: Semaphore::new(LARGE_AT_ONCE) }
    }
}

impl Reader {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// It is too large, breaks off, takes too long, or too many large ones are being read.
    pub async fn read(&self, body: Body) -> Result<Read<'_>, Refusal> {
        let mut room = None;
        match tokio::time::timeout(READ_MAX, self.collect(body, &mut room)).await {
            Ok(read) => read.map(|bytes| Read { bytes, _room: room }),
            Err(_) if room.is_none() && self.large.available_permits() == 0 => Err(BUSY),
            Err(_) => Err(SLOW),
        }
    }

    async fn collect<'a>(
        &'a self,
        mut body: Body,
        room: &mut Option<SemaphorePermit<'a>>,
    ) -> Result<Bytes, Refusal> {
        let announced = axum::body::HttpBody::size_hint(&body).lower();
        if announced > BODY_BYTES_MAX as u64 {
            return Err(TOO_LARGE);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BROKEN)?.into_data() else { continue };
            // Most bodies come in one piece, which is then not copied.
            if whole.is_empty() && axum::body::HttpBody::is_end_stream(&body) && data.len() <= SMALL_BYTES {
                return Ok(data);
            }
            let length = whole.len() + data.len();
            if length > BODY_BYTES_MAX {
                return Err(TOO_LARGE);
            }
            if length > SMALL_BYTES && room.is_none() {
                *room = Some(self.large.acquire().await.map_err(|_| BUSY)?);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    /// A body in pieces, without a length that is known before.
    fn pieces(size: usize, count: usize) -> Body {
        let piece = Bytes::from(vec![b' '; size]);
        Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, Infallible>(piece.clone()))))
    }

    fn never() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
    }

    #[tokio::test]
    async fn what_is_small_enough_is_read_whole() {
        let reader = Reader::default();
        assert_eq!(reader.read(Body::empty()).await.unwrap().bytes.len(), 0);
        assert_eq!(reader.read(Body::from("{}")).await.unwrap().bytes, "{}");
        assert_eq!(reader.read(pieces(1000, 3)).await.unwrap().bytes.len(), 3000);
        let most = reader.read(pieces(BODY_BYTES_MAX / 5, 5)).await.unwrap();
        assert_eq!(most.bytes.len(), BODY_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_whether_it_says_so_or_not() {
        let reader = Reader::default();
        assert_eq!(reader.read(pieces(BODY_BYTES_MAX / 5, 6)).await.unwrap_err(), TOO_LARGE);
        let announced = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
        assert_eq!(reader.read(announced).await.unwrap_err(), TOO_LARGE);
        assert_eq!(reader.large.available_permits(), LARGE_AT_ONCE, "room is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_not_waited_for() {
        assert_eq!(Reader::default().read(never()).await.unwrap_err(), SLOW);
    }

    #[tokio::test(start_paused = true)]
    async fn large_ones_wait_for_room_and_small_ones_do_not() {
        let reader = Reader::default();
        let mut held = Vec::new();
        for _ in 0..LARGE_AT_ONCE {
            held.push(reader.read(pieces(SMALL_BYTES, 2)).await.unwrap());
        }
        assert_eq!(reader.read(pieces(SMALL_BYTES, 2)).await.unwrap_err(), BUSY);
        assert!(reader.read(pieces(1000, 3)).await.is_ok());
        held.pop();
        assert!(reader.read(pieces(SMALL_BYTES, 2)).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let pieces = [Ok(Bytes::from("{")), Err(std::io::Error::other("reset"))];
        let body = Body::from_stream(stream::iter(pieces));
        assert_eq!(Reader::default().read(body).await.unwrap_err(), BROKEN);
    }
}
