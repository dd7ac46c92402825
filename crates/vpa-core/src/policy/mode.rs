//! Update modes as they take effect.

use vpa_api::VerticalPodAutoscaler;
use vpa_api::vpa::UpdateMode;

/// What an update mode means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Recommend only.
    Off,
    /// Apply to pods as they are created.
    Initial,
    /// Also evict running pods.
    Recreate,
    /// Resize running pods, evict those that cannot be.
    InPlaceOrRecreate,
    /// Resize running pods, never evict.
    InPlace,
    /// A value this version does not know. Running pods are left alone; pods being created get the recommendation,
    /// as with every mode but `Off`.
    Unknown,
}

impl Mode {
    /// Whether running pods may be evicted.
    pub fn evicts(self) -> bool {
        matches!(self, Self::Recreate | Self::InPlaceOrRecreate)
    }

    /// Whether running pods are resized in place.
    pub fn resizes(self) -> bool {
        matches!(self, Self::InPlaceOrRecreate | Self::InPlace)
    }

    /// Name of the mode, as the metrics of the suite write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Initial => "Initial",
            Self::Recreate => "Recreate",
            Self::InPlaceOrRecreate => "InPlaceOrRecreate",
            Self::InPlace => "InPlace",
            Self::Unknown => "Unknown",
        }
    }
}

/// The mode that a VPA is in: `Recreate` where none is set, `Auto` means `Recreate`, `InPlaceOnly` means `InPlace`.
pub fn mode(vpa: &VerticalPodAutoscaler) -> Mode {
    match vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode.as_ref()) {
        None | Some(UpdateMode::Recreate | UpdateMode::Auto) => Mode::Recreate,
        Some(UpdateMode::Off) => Mode::Off,
        Some(UpdateMode::Initial) => Mode::Initial,
        Some(UpdateMode::InPlaceOrRecreate) => Mode::InPlaceOrRecreate,
        Some(UpdateMode::InPlace | UpdateMode::InPlaceOnly) => Mode::InPlace,
        Some(UpdateMode::Unknown(text)) if text.is_empty() => Mode::Recreate,
        Some(UpdateMode::Unknown(_)) => Mode::Unknown,
    }
}

/// Whether a VPA asks for a startup boost, for all containers or for one.
pub fn has_startup_boost(vpa: &VerticalPodAutoscaler) -> bool {
    let policies =
        vpa.spec.resource_policy.iter().flat_map(|policy| policy.container_policies.iter().flatten());
    vpa.spec.startup_boost.is_some() || policies.into_iter().any(|policy| policy.startup_boost.is_some())
}
