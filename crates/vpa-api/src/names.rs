//! Names that the programs of the suite, its users and the Go suite agree on.

/// API group of both kinds.
pub const GROUP: &str = "autoscaling.k8s.io";

/// Name of the recommender that serves VPAs which name none.
pub const DEFAULT_RECOMMENDER: &str = "default";

/// Annotations of pods.
pub mod annotation {
    /// Containers that the admission controller saw, joined by `", "`.
    pub const OBSERVED_CONTAINERS: &str = "vpaObservedContainers";
    /// What the admission controller changed, as text.
    pub const UPDATES: &str = "vpaUpdates";
    /// Set to `true` by the updater after a resize in place.
    pub const IN_PLACE_UPDATED: &str = "vpaInPlaceUpdated";
    /// Prefix of the annotation that holds what a container had before its startup boost.
    pub const CPU_STARTUP_BOOST_PREFIX: &str = "vpaCpuStartupBoost/";
    /// Annotation of a VPA: whole cores for the container between prefix and suffix.
    pub const INTEGER_CPU_PREFIX: &str = "vpa-post-processor.kubernetes.io/";
    /// See [`INTEGER_CPU_PREFIX`].
    pub const INTEGER_CPU_SUFFIX: &str = "_integerCPU";
}

/// Names of leases.
pub mod lease {
    /// Heartbeat of the admission controller.
    pub const ADMISSION_CONTROLLER: &str = "vpa-admission-controller";
    /// Leader election of the updater.
    pub const UPDATER: &str = "vpa-updater";
    /// Leader election of the recommender.
    pub const RECOMMENDER: &str = "vpa-recommender-lease";
}

/// Condition types of a VPA.
pub mod condition {
    /// A recommendation could be computed.
    pub const RECOMMENDATION_PROVIDED: &str = "RecommendationProvided";
    /// The recommendation rests on little data.
    pub const LOW_CONFIDENCE: &str = "LowConfidence";
    /// No pod matches.
    pub const NO_PODS_MATCHED: &str = "NoPodsMatched";
    /// History is being loaded.
    pub const FETCHING_HISTORY: &str = "FetchingHistory";
    /// The object uses something that will go.
    pub const CONFIG_DEPRECATED: &str = "ConfigDeprecated";
    /// The object cannot be served as it is.
    pub const CONFIG_UNSUPPORTED: &str = "ConfigUnsupported";
}

/// Pod conditions and reasons of a resize in place; plain strings in the Kubernetes API.
pub mod pod_condition {
    /// The resize waits on the kubelet.
    pub const RESIZE_PENDING: &str = "PodResizePending";
    /// The kubelet is at it.
    pub const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
    /// Reason: cannot fit at present.
    pub const REASON_DEFERRED: &str = "Deferred";
    /// Reason: can never fit on its node.
    pub const REASON_INFEASIBLE: &str = "Infeasible";
    /// Reason: the kubelet failed at it.
    pub const REASON_ERROR: &str = "Error";
}

/// Resource names.
pub mod resource {
    /// CPU.
    pub const CPU: &str = "cpu";
    /// Memory.
    pub const MEMORY: &str = "memory";
}
