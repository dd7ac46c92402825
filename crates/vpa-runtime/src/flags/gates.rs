//! Feature gates.

use std::fmt;
use std::str::FromStr;

use super::values::parse_bool;

/// Features that the Go suite keeps behind `--feature-gates`. All are on here unless they are switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    /// Startup boost of CPU (`CPUStartupBoost`).
    pub cpu_startup_boost: bool,
    /// Update mode `InPlace` (`InPlace`).
    pub in_place: bool,
    /// Settings of the components in a VPA (`PerVPAConfig`).
    pub per_vpa_config: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self { cpu_startup_boost: true, in_place: true, per_vpa_config: true }
    }
}

/// A value of `--feature-gates` that names no gate or gives it no truth value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseGatesError {
    /// The gate does not exist.
    #[error(
        "feature gate {0:?} is unknown; there are AllAlpha, AllBeta, CPUStartupBoost, InPlace and PerVPAConfig"
    )]
    Unknown(String),
    /// No truth value.
    #[error("feature gate {gate} takes true or false, found {found:?}")]
    Value {
        /// The gate.
        gate: String,
        /// What stood behind it.
        found: String,
    },
}

impl FromStr for FeatureGates {
    type Err = ParseGatesError;

    /// Reads `InPlace=true,CPUStartupBoost=false`. As in Kubernetes, a gate named by itself wins over `AllAlpha`,
    /// whatever their order, and the last word on a gate counts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all_alpha = None;
        let mut named = [None; 3];
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (gate, value) = entry.split_once('=').unwrap_or((entry, ""));
            let (gate, value) = (gate.trim(), value.trim());
            let slot = match gate {
                "AllAlpha" => &mut all_alpha,
                // None of the gates is beta, so this switches nothing; its value is checked all the same.
                "AllBeta" => &mut None,
                "CPUStartupBoost" => &mut named[0],
                "InPlace" => &mut named[1],
                "PerVPAConfig" => &mut named[2],
                _ => return Err(ParseGatesError::Unknown(gate.to_owned())),
            };
            *slot =
                Some(parse_bool(value).map_err(|_| ParseGatesError::Value {
                    gate: gate.to_owned(),
                    found: value.to_owned(),
                })?);
        }
        let gate = |index: usize| named[index].or(all_alpha).unwrap_or(true);
        Ok(Self { cpu_startup_boost: gate(0), in_place: gate(1), per_vpa_config: gate(2) })
    }
}

impl fmt::Display for FeatureGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_startup_boost, in_place, per_vpa_config } = self;
        write!(f, "CPUStartupBoost={cpu_startup_boost},InPlace={in_place},PerVPAConfig={per_vpa_config}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_on_until_switched_off() {
        let cases = [
            ("", (true, true, true)),
            ("InPlace=false", (true, false, true)),
            ("InPlace=false,InPlace=true", (true, true, true)),
            ("AllAlpha=false", (false, false, false)),
            ("InPlace=true,AllAlpha=false", (false, true, false)),
            ("AllAlpha=f,PerVPAConfig=T", (false, false, true)),
            ("AllBeta=true", (true, true, true)),
            (" InPlace = 0 , ", (true, false, true)),
        ];
        for (text, (boost, in_place, per_vpa)) in cases {
            let want = FeatureGates { cpu_startup_boost: boost, in_place, per_vpa_config: per_vpa };
            assert_eq!(text.parse(), Ok(want), "{text:?}");
            assert_eq!(want.to_string().parse(), Ok(want));
        }
    }

    #[test]
    fn an_unknown_gate_and_a_missing_value_are_named() {
        assert_eq!("Inplace=true".parse::<FeatureGates>(), Err(ParseGatesError::Unknown("Inplace".into())));
        for (text, found) in [("InPlace", ""), ("InPlace=yes", "yes"), ("AllBeta=2", "2")] {
            match text.parse::<FeatureGates>() {
                Err(ParseGatesError::Value { found: f, .. }) => assert_eq!(f, found),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
