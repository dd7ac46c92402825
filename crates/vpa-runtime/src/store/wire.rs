//! Answers of the API server, read only as far as a store needs before it decodes the objects one by one.

use std::pin::Pin;

use compact_str::CompactString;
use futures::AsyncBufRead;
use futures::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Largest event that is read; etcd bounds an object at 1.5 MB, and this leaves room for escapes.
const LINE_MAX: u64 = 16 * 1024 * 1024;

/// A list, its objects not decoded yet, so that one bad object does not spoil the page.
#[derive(Deserialize)]
pub(super) struct RawList<'a> {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// A line of a watch.
#[derive(Deserialize)]
pub(super) struct RawEvent<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What can be read of an object that cannot be decoded.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Stub {
    pub(super) metadata: StubMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StubMeta {
    pub(super) name: CompactString,
    pub(super) namespace: CompactString,
    pub(super) resource_version: String,
}

pub(super) fn stub(raw: &RawValue) -> Stub {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// Reads up to the next end of line. `false` at the end of the stream.
pub(super) async fn read_line(
    mut stream: Pin<&mut impl AsyncBufRead>,
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    loop {
        let read = (&mut stream).take(LINE_MAX).read_until(b'\n', line).await?;
        if read as u64 >= LINE_MAX && line.last() != Some(&b'\n') {
            return Err(std::io::Error::other(format!("an event is larger than {LINE_MAX} bytes")));
        }
        if read == 0 {
            return Ok(false);
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            return Ok(true);
        }
        line.clear();
    }
}
