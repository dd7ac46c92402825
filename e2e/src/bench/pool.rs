//! Many requests, some at once.

use std::future::Future;

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Result;

/// Requests at once: an API server on the same machine takes no more in a second from more of them.
const AT_ONCE: usize = 32;

/// Does `work` for all items; ends at the first failure.
///
/// # Errors
/// The first failure.
pub(super) async fn for_each<I, F, Fut>(items: I, work: F) -> Result<()>
where
    I: IntoIterator,
    F: Fn(I::Item) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    stream::iter(items).map(work).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
}
