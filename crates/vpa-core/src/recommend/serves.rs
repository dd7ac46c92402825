//! Which VPAs a recommender serves, and what their targets lead to.

use vpa_api::VerticalPodAutoscaler;
use vpa_api::names::DEFAULT_RECOMMENDER;

use crate::model::Target;
use crate::target::{ChainError, ControllerKey, ControllerSource, Lookup, SelectorError, WellKnown, climb};

/// Which VPAs a recommender serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name. VPAs that name no recommender are for the one called `default`.
    pub recommender: String,
    /// The only namespace that it looks at; `None` for all.
    pub namespace: Option<String>,
    /// Namespaces that it does not look at.
    pub ignored_namespaces: Vec<String>,
}

impl Scope {
    /// Whether it looks at a namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|only| only == namespace)
            && !self.ignored_namespaces.iter().any(|ignored| ignored == namespace)
    }

    /// Whether it serves a VPA.
    pub fn serves(&self, vpa: &VerticalPodAutoscaler) -> bool {
        let named = vpa.spec.recommenders.as_deref().unwrap_or(&[]);
        let chosen = if named.is_empty() {
            self.recommender == DEFAULT_RECOMMENDER
        } else {
            named.iter().any(|recommender| recommender.name == self.recommender)
        };
        chosen && self.has_namespace(vpa.metadata.namespace.as_deref().unwrap_or(""))
    }
}

/// Looks a VPA's target up: it has to be there, to select pods, and to be the topmost controller of its chain.
pub fn resolve<S: ControllerSource + ?Sized>(source: &S, vpa: &VerticalPodAutoscaler) -> Target {
    let Some(key) = ControllerKey::of_target(vpa) else {
        return Target::Unsupported("Cannot read targetRef. Reason: spec.targetRef is missing".to_owned());
    };
    let controller = match source.get(&key) {
        Lookup::Found(controller) => controller,
        Lookup::NotFound => {
            return Target::Gone(format!("Cannot read targetRef. Reason: {key} does not exist"));
        }
        Lookup::UnknownKind => {
            let what = format!("{} {}", key.api_version, key.kind);
            return Target::Gone(format!(
                "Cannot read targetRef. Reason: the API server does not serve {what}"
            ));
        }
        Lookup::Forbidden => {
            let what = if key.well_known().is_some() { "to list and watch it" } else { "to get its scale" };
            return Target::Failed(format!(
                "Cannot read targetRef. Reason: the recommender lacks permission {what}: {key}"
            ));
        }
        Lookup::Pending => return Target::Pending,
        Lookup::Failed(error) => return Target::Failed(format!("Cannot read targetRef. Reason: {error}")),
    };
    let selector = match &controller.selector {
        Ok(selector) => selector.clone(),
        Err(error) => return unusable_selector(&key, error),
    };
    match climb(source, key.clone()) {
        Ok(Some(top)) if same(&top.key, &key) => Target::Found(selector),
        Ok(_) => Target::Unsupported(format!(
            "The target {key} has a parent controller but it should point to a topmost well-known or scalable controller"
        )),
        Err(ChainError::Pending(_)) => Target::Pending,
        Err(error) => Target::Failed(format!(
            "Error checking if target {key} is a topmost well-known or scalable controller: {error}"
        )),
    }
}

fn same(a: &ControllerKey, b: &ControllerKey) -> bool {
    a.kind == b.kind
        && a.name == b.name
        && (WellKnown::from_kind(&a.kind).is_some() || a.group() == b.group())
}

fn unusable_selector(key: &ControllerKey, error: &SelectorError) -> Target {
    Target::Unsupported(format!("Cannot read targetRef. Reason: {key}: {error}"))
}
