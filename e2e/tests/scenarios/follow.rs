//! Following all versions of the objects of a kind.

use e2e::cluster::SOON;
use e2e::error::Result;
use e2e::wait::{Seen, wait_for};
use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is made of all versions of the objects of a kind.
pub(crate) trait Observer: Clone + Send + Sync + 'static {
    /// The kind.
    type Object: kube::Resource<DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static;

    /// Takes in a version of an object.
    fn see(&mut self, object: &Self::Object);
}

/// An observer at work, until it is dropped.
pub(crate) struct Followed<O> {
    seen: watch::Receiver<O>,
    task: JoinHandle<()>,
}

impl<O: Observer> Followed<O> {
    /// Follows the objects of an API from now on, those included that are there.
    pub(crate) fn begin(api: Api<O::Object>, observer: O) -> Self {
        let (sender, seen) = watch::channel(observer);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                    sender.send_modify(|observer| observer.see(&object));
                }
            }
        });
        Self { seen, task }
    }

    /// What was made of them so far.
    pub(crate) fn now(&self) -> O {
        self.seen.borrow().clone()
    }

    /// Waits until what was made of them is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&O) -> bool) -> Result<O> {
        wait_for(what, SOON, || async {
            let seen = self.now();
            Ok(if wanted(&seen) { Seen::Done(seen) } else { Seen::Not("not yet".to_owned()) })
        })
        .await
    }
}

impl<O> Drop for Followed<O> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
