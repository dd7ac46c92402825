//! The connections at once, and which of them gives way to a new one.
//!
//! Anything in the cluster can connect to the webhook. A flood of connections must take neither the memory nor the places of
//! the API servers', so their number is bounded, and when all places are taken the connection goes that is of least use: one
//! that has not brought a request yet, or else the one that brought its last longest ago. One with a request under way stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once. Each API server keeps a few dozen.
pub const CONNECTIONS_MAX: usize = 1024;

/// The connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    stop: CancellationToken,
    all: Mutex<All>,
    /// Wakes up who waits for the last one.
    left: Notify,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    by_id: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    requests: usize,
    under_way: bool,
    last: Instant,
    end: CancellationToken,
}

impl Connections {
    /// Room for `most` connections, which all end with `stop`.
    pub fn new(most: usize, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner { most, stop, all: Mutex::default(), left: Notify::new() }))
    }

    /// A place for a new connection; another one may have to go for it. `None` where all have a request under way.
    pub fn enter(&self) -> Option<Place> {
        let Inner { most, stop, all, .. } = &*self.0;
        let mut all = all.lock();
        if all.by_id.len() >= *most {
            let idle = all.by_id.iter().filter(|(_, entry)| !entry.under_way);
            let least = idle.min_by_key(|(_, entry)| (entry.requests > 0, entry.last)).map(|(id, _)| *id)?;
            if let Some(entry) = all.by_id.remove(&least) {
                entry.end.cancel();
            }
        }
        let id = all.next;
        all.next = id.wrapping_add(1);
        let end = stop.child_token();
        let entry = Entry { requests: 0, under_way: false, last: Instant::now(), end: end.clone() };
        all.by_id.insert(id, entry);
        Some(Place { connections: self.clone(), id, end })
    }

    /// Number of connections.
    pub fn count(&self) -> usize {
        self.0.all.lock().by_id.len()
    }

    /// Waits until all have ended, for `patience` at most. False where some are left.
    pub async fn wait_none(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = self.0.left.notified();
            if self.count() == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline, left).await.is_err() {
                return self.count() == 0;
            }
        }
    }
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    id: u64,
    end: CancellationToken,
}

impl Place {
    /// Waits until the connection has to end: another one needs its place, or the server stops.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Notes that a request is under way, until what is returned is dropped.
    pub fn request(&self) -> UnderWay<'_> {
        self.note(true);
        UnderWay(self)
    }

    fn note(&self, under_way: bool) {
        if let Some(entry) = self.connections.0.all.lock().by_id.get_mut(&self.id) {
            entry.under_way = under_way;
            entry.last = Instant::now();
            entry.requests = entry.requests.saturating_add(usize::from(under_way));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.0.all.lock().by_id.remove(&self.id);
        self.connections.0.left.notify_waiters();
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a Place);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.note(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(most: usize) -> Connections {
        Connections::new(most, CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_of_least_use_gives_way() {
        let connections = room(3);
        let [served_first, served_last, never] = [(); 3].map(|()| connections.enter().unwrap());
        drop(served_first.request());
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(served_last.request());
        // The newest goes, since it brought nothing; then who brought the last request longest ago.
        let fourth = connections.enter().unwrap();
        assert!(never.end.is_cancelled() && !served_first.end.is_cancelled());
        let _under_way = fourth.request();
        let fifth = connections.enter().unwrap();
        assert!(served_first.end.is_cancelled() && !served_last.end.is_cancelled());
        assert_eq!(connections.count(), 3);
        // What was given back already is not given back again.
        drop((never, served_first));
        assert_eq!(connections.count(), 3);
        drop(fifth);
        assert_eq!(connections.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_not_disturbed() {
        let connections = room(1);
        let only = connections.enter().unwrap();
        let under_way = only.request();
        assert!(connections.enter().is_none());
        drop(under_way);
        assert!(connections.enter().is_some());
        assert!(only.end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_all_and_not_for_ever() {
        let connections = room(2);
        assert!(connections.wait_none(Duration::ZERO).await);
        let place = connections.enter().unwrap();
        assert!(!connections.wait_none(Duration::from_secs(1)).await);
        let waiting = connections.clone();
        let waiting = tokio::spawn(async move { waiting.wait_none(Duration::from_secs(1)).await });
        tokio::task::yield_now().await;
        drop(place);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_server_that_stops_ends_all() {
        let stop = CancellationToken::new();
        let connections = Connections::new(2, stop.clone());
        let place = connections.enter().unwrap();
        stop.cancel();
        place.ended().await;
    }
}
