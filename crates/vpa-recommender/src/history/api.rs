//! Prometheus' HTTP API.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use form_urlencoded::Serializer;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vpa_runtime::Error;
use vpa_runtime::client::{Login, Outside, chain};

use super::answer;
use super::metrics::HistoryMetrics;
use super::take::Take;
use crate::args::{Credentials, PrometheusOptions};

/// Pieces of an answer that wait to be read: a few, so that a slow reader holds the sender up.
const PIECES: usize = 4;
/// Bytes of an answer of failure that are read.
const FAILURE_MAX: usize = 64 * 1024;

/// Why a query gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// It asked for too much at once, or took too long.
    #[error("{0}")]
    TooMuch(String),
    /// Anything else; the same query may succeed later.
    #[error("{0}")]
    Failed(String),
}

/// A Prometheus server.
#[derive(Clone)]
pub(super) struct Prometheus {
    client: Client,
    timeout: Duration,
    metrics: Arc<HistoryMetrics>,
}

impl Prometheus {
    /// # Errors
    /// The address or a file of the options cannot be used.
    pub(super) fn new(options: &PrometheusOptions, metrics: Arc<HistoryMetrics>) -> Result<Self, Error> {
        let login = match options.credentials.clone() {
            Credentials::None => Login::None,
            Credentials::Basic { username, password } => Login::Basic { username, password: password.0 },
            Credentials::Token(token) => Login::Token(token.0),
            Credentials::TokenFile(path) => Login::TokenFile(path),
        };
        let outside = Outside {
            address: options.address.clone(),
            insecure: options.insecure,
            ca_file: options.ca_file.clone(),
            login,
            silence_max: options.timeout,
        };
        Ok(Self { client: outside.client()?, timeout: options.timeout, metrics })
    }

    /// Asks `api/v1/QUERY` with these parameters. Returns what `take` is once it has all series of the answer.
    ///
    /// # Errors
    /// There is no answer in time, it is one of failure, or it cannot be read to its end.
    pub(super) async fn query<T: Take>(
        &self,
        query: &str,
        parameters: &[(&str, String)],
        take: T,
    ) -> Result<T, QueryError> {
        let asked = async {
            let form = Serializer::new(String::new()).extend_pairs(parameters).finish();
            let mut answer = self.send(Method::POST, query, &form).await?;
            // As clients of Prometheus do: a proxy may let only GET through.
            if matches!(answer.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
                answer = self.send(Method::GET, query, &form).await?;
            }
            if answer.status().is_success() {
                read(answer.into_body(), take).await
            } else {
                Err(refused(answer).await)
            }
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(|_| {
            Err(QueryError::TooMuch(format!("no whole answer within {} s", self.timeout.as_secs())))
        })
    }

    async fn send(
        &self,
        method: Method,
        query: &str,
        form: &str,
    ) -> Result<http::Response<Body>, QueryError> {
        let label = method.as_str().to_ascii_lowercase();
        let path = format!("/api/v1/{query}");
        let request = if method == Method::GET {
            Request::get(format!("{path}?{form}")).body(Body::empty())
        } else {
            Request::post(path)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from(form.as_bytes().to_vec()))
        };
        let request = request.map_err(|error| QueryError::Failed(error.to_string()))?;
        let began = Instant::now();
        let answer = self.client.send(request).await;
        let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        self.metrics.observe_request(code, &label, began.elapsed());
        answer.map_err(|error| QueryError::Failed(chain(&error)))
    }
}

/// What an answer of failure says.
async fn refused(answer: http::Response<Body>) -> QueryError {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), FAILURE_MAX).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    let said = answer::read(text.as_bytes(), |_| Ok(())).err();
    let said = said.filter(|_| text.starts_with('{')).unwrap_or_else(|| text.chars().take(200).collect());
    let said = format!("answered {}: {}", status.as_u16(), said.trim());
    // 422: the query was understood and could not be carried out, for instance for its size. 503: it took too long.
    match status {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::SERVICE_UNAVAILABLE => QueryError::TooMuch(said),
        _ => QueryError::Failed(said),
    }
}

/// Reads a body as it comes, on a thread that may wait.
async fn read<T: Take>(mut body: Body, mut take: T) -> Result<T, QueryError> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let reader = tokio::task::spawn_blocking(move || {
        let pieces = Pieces { receiver, present: Bytes::new() };
        let read = answer::read(io::BufReader::new(pieces), |series| take.take(series));
        (read, take)
    });
    let mut cut = None;
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => {
                // Without a reader there is nothing to send any more: it says why.
                if sender.send(data).await.is_err() {
                    break;
                }
            }
            // Trailers.
            Ok(Err(_)) => {}
            Err(error) => {
                cut = Some(format!("the answer was cut off: {}", chain(&error)));
                break;
            }
        }
    }
    drop(sender);
    let (read, take) = reader.await.map_err(|error| QueryError::Failed(error.to_string()))?;
    match (read, cut) {
        (Ok(()), _) => Ok(take),
        (Err(_), Some(cut)) => Err(QueryError::Failed(cut)),
        (Err(error), None) if error.starts_with(super::TOO_MANY_SAMPLES) => Err(QueryError::TooMuch(error)),
        (Err(error), None) => Err(QueryError::Failed(error)),
    }
}

/// Pieces of a body as a reader.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    present: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.present.is_empty() {
            match self.receiver.blocking_recv() {
                Some(next) => self.present = next,
                None => return Ok(0),
            }
        }
        let count = self.present.len().min(buffer.len());
        self.present.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
