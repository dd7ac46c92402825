//! What ends a program, and the exit code it ends with.

use std::fmt;

/// Why a program of the suite stops without having been asked to.
///
/// Each variant prints as one clear line that says what was found and what to do. The chain of causes is part of that
/// line, so it is printed once, by [`crate::run_main`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag is unknown, has a value that it does not take, or contradicts another. Exit code 2.
    #[error("{0}")]
    Flag(#[from] FlagError),
    /// No kubeconfig and no service account could be read, or what was read is not usable. Exit code 3.
    #[error(
        "no usable access to a cluster: {0}; give --kubeconfig PATH, set KUBECONFIG, or run inside a cluster with a service account"
    )]
    ClusterConfig(String),
    /// The API server did not answer. Exit code 3.
    #[error("the cluster at {url} is out of reach: {reason}")]
    ClusterUnreachable {
        /// Address that was tried.
        url: String,
        /// What the last attempt ran into.
        reason: String,
    },
    /// The API server does not know who is asking. Exit code 3.
    #[error("the cluster at {url} does not accept the credentials: {reason}")]
    Unauthorized {
        /// Address that was tried.
        url: String,
        /// The API server's answer.
        reason: String,
    },
    /// Kinds that the program reads are not served. Exit code 4.
    #[error("the cluster does not serve {}; install the CRDs first (charts/vpa/crds, or `helm install` of the chart)", .0.join(", "))]
    CrdsMissing(Vec<String>),
    /// Rights that the program cannot do without. Exit code 5.
    #[error("{}", missing_text(.0))]
    PermissionMissing(Vec<MissingPermission>),
    /// The metrics and health server could not listen. Exit code 1.
    #[error("cannot listen on --address {address}: {source}")]
    Listen {
        /// Value of the flag.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A task that the program cannot do without has ended. Exit code 1.
    #[error("the task {task} has ended: {reason}")]
    VitalTask {
        /// Name of the task.
        task: String,
        /// Its last words.
        reason: String,
    },
    /// Leadership went to somebody else or could not be renewed in time. Exit code 1.
    #[error("leadership of lease {lease} is lost: {reason}")]
    LeadershipLost {
        /// `namespace/name` of the lease.
        lease: String,
        /// How it was lost.
        reason: String,
    },
    /// Draining took longer than it may, or a second signal came. Exit code 1.
    #[error("stopped before all work was drained: {0}")]
    Aborted(String),
    /// Anything else, with an explanation. Exit code 1.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// Makes an [`Error::Other`] out of an error and what was being done.
    pub fn other(doing: impl fmt::Display, source: impl fmt::Display) -> Self {
        Self::Other(format!("{doing}: {source}"))
    }

    /// Exit code of the process: 2 flags, 3 cluster, 4 CRDs, 5 permissions, 1 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Flag(_) => 2,
            Self::ClusterConfig(_) | Self::ClusterUnreachable { .. } | Self::Unauthorized { .. } => 3,
            Self::CrdsMissing(_) => 4,
            Self::PermissionMissing(_) => 5,
            Self::Listen { .. }
            | Self::VitalTask { .. }
            | Self::LeadershipLost { .. }
            | Self::Aborted(_)
            | Self::Other(_) => 1,
        }
    }
}

/// A flag that cannot be taken as it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("flag --{flag}: found {found:?}, allowed: {allowed}")]
pub struct FlagError {
    /// Name, without dashes.
    pub flag: String,
    /// What was given.
    pub found: String,
    /// What it takes.
    pub allowed: String,
}

impl FlagError {
    /// An error about `--flag`, which was given as `found` and takes `allowed`.
    pub fn new(flag: impl Into<String>, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { flag: flag.into(), found: found.into(), allowed: allowed.into() }
    }
}

/// A right that is missing, with where it is needed and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPermission {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural resource name, with `/subresource` where one is meant.
    pub resource: String,
    /// Namespace, or none for the whole cluster.
    pub namespace: Option<String>,
    /// What the program needs it for.
    pub purpose: String,
}

impl fmt::Display for MissingPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&[&self.verb]))
    }
}

impl MissingPermission {
    /// The rule to add to a role (or, without a namespace, to a cluster role), as one line of YAML.
    pub fn rule(&self) -> String {
        self.rule_with(&[&self.verb])
    }

    fn text(&self, verbs: &[&str]) -> String {
        let Self { verb: _, group, resource, namespace, purpose } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let place = match namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in all namespaces".to_owned(),
        };
        format!("{} {resource}{dot}{group} {place} (to {purpose})", verbs.join(", "))
    }

    fn rule_with(&self, verbs: &[&str]) -> String {
        format!("{{apiGroups: [{:?}], resources: [{:?}], verbs: {verbs:?}}}", self.group, self.resource)
    }
}

/// One line for all of them, the verbs of a resource together.
fn missing_text(missing: &[MissingPermission]) -> String {
    let mut grouped: Vec<(&MissingPermission, Vec<&str>)> = Vec::new();
    for one in missing {
        let same = |known: &&MissingPermission| {
            (&known.group, &known.resource, &known.namespace) == (&one.group, &one.resource, &one.namespace)
        };
        match grouped.iter_mut().find(|(known, _)| same(known)) {
            Some((_, verbs)) => verbs.push(&one.verb),
            None => grouped.push((one, vec![&one.verb])),
        }
    }
    let texts: Vec<String> = grouped.iter().map(|(one, verbs)| one.text(verbs)).collect();
    let rules: Vec<String> = grouped
        .iter()
        .map(|(one, verbs)| match &one.namespace {
            Some(namespace) => format!("role in {namespace}: {}", one.rule_with(verbs)),
            None => format!("cluster role: {}", one.rule_with(verbs)),
        })
        .collect();
    format!("the service account may not {}; add to its {}", texts.join("; nor "), rules.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_names_the_rule_to_add() {
        let error = Error::PermissionMissing(vec![MissingPermission {
            verb: "create".into(),
            group: String::new(),
            resource: "pods/eviction".into(),
            namespace: None,
            purpose: "evict pods".into(),
        }]);
        assert_eq!(
            error.to_string(),
            "the service account may not create pods/eviction in all namespaces (to evict pods); add to its cluster role: \
             {apiGroups: [\"\"], resources: [\"pods/eviction\"], verbs: [\"create\"]}"
        );
        assert_eq!(error.exit_code(), 5);
    }

    #[test]
    fn the_verbs_of_a_resource_stand_together() {
        let missing = |verb: &str, resource: &str, namespace: Option<&str>| MissingPermission {
            verb: verb.into(),
            group: "g".into(),
            resource: resource.into(),
            namespace: namespace.map(Into::into),
            purpose: "look".into(),
        };
        let error = Error::PermissionMissing(vec![
            missing("list", "as", None),
            missing("get", "bs", Some("ns")),
            missing("watch", "as", None),
        ]);
        assert_eq!(
            error.to_string(),
            "the service account may not list, watch as.g in all namespaces (to look); nor get bs.g in namespace ns \
             (to look); add to its cluster role: {apiGroups: [\"g\"], resources: [\"as\"], verbs: [\"list\", \"watch\"]}, \
             role in ns: {apiGroups: [\"g\"], resources: [\"bs\"], verbs: [\"get\"]}"
        );
    }

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        let cases = [
            (Error::Flag(FlagError::new("v", "x", "a number")), 2),
            (Error::ClusterConfig("none".into()), 3),
            (Error::ClusterUnreachable { url: "https://x".into(), reason: "refused".into() }, 3),
            (Error::CrdsMissing(vec!["verticalpodautoscalers.autoscaling.k8s.io".into()]), 4),
            (Error::Other("x".into()), 1),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
