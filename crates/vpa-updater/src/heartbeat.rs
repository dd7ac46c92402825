//! Reads the admission controller's lease.

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use vpa_core::update::{Heartbeat, READ_RETRY_WAITS, is_retryable};
use vpa_runtime::Cluster;
use vpa_runtime::client::chain;

use crate::args::HeartbeatFlags;

/// Reads the admission controller's lease, or nothing where it is not to be used.
pub struct HeartbeatReader {
    lease: Option<(Api<Lease>, String, String)>,
    timeout: SignedDuration,
}

impl HeartbeatReader {
    /// A reader as the flags say.
    pub fn new(cluster: &Cluster, flags: &HeartbeatFlags) -> Self {
        let namespace = flags.namespace();
        let api = Api::namespaced(cluster.client.clone(), &namespace);
        let name = flags.admission_controller_status_lease_name.clone();
        Self {
            lease: flags.use_admission_controller_status.then_some((api, namespace, name)),
            timeout: flags.admission_controller_status_lease_timeout.as_signed(),
        }
    }

    /// Reads the lease, again after short waits where that may help.
    pub async fn read(&self) -> Heartbeat {
        let Some((api, namespace, name)) = &self.lease else { return Heartbeat::NotUsed };
        let mut waits = READ_RETRY_WAITS.iter();
        loop {
            let error = match api.get(name).await {
                Ok(lease) => return Heartbeat::of(&lease, self.timeout),
                Err(error) => error,
            };
            let (retry, why) = judge(&error, namespace, name);
            match waits.next().filter(|_| retry) {
                Some(wait) => tokio::time::sleep(wait.unsigned_abs()).await,
                None => return Heartbeat::Missing(why),
            }
        }
    }
}

/// Whether another read may help, and what to say if not.
fn judge(error: &kube::Error, namespace: &str, name: &str) -> (bool, String) {
    let kube::Error::Api(status) = error else {
        return (true, format!("lease {namespace}/{name} cannot be read: {}", chain(error)));
    };
    let retry_after = status.details.as_ref().map(|details| details.retry_after_seconds);
    let why = match status.code {
        404 => format!("there is no lease {namespace}/{name}; is the admission controller running?"),
        403 => format!("no permission to get lease {namespace}/{name}: {}", status.message),
        code => format!("lease {namespace}/{name} cannot be read: {code} {}", status.message),
    };
    (is_retryable(status.code, retry_after), why)
}
