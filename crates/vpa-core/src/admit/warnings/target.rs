//! A target that is not there.

use super::{Subject, Warnings};
use crate::target::{ControllerKey, Lookup};

/// Warns of a target that names nothing, or nothing that exists. Returns its key where another look may show more.
pub(super) fn advise(subject: &Subject<'_>, warnings: &mut Warnings) -> Option<ControllerKey> {
    let Some(target) = subject.target() else {
        warnings.push("spec.targetRef", || "names no object, so the VPA has no pods".to_owned());
        return None;
    };
    let ControllerKey { namespace, api_version, kind, name } = &target;
    let Some(group) = target.group() else {
        warnings.push("spec.targetRef.apiVersion", || {
            format!("{api_version:?} is not group/version, so the VPA has no pods")
        });
        return None;
    };
    match subject.snapshot.controllers.get(&target) {
        Lookup::NotFound => {
            let no_scale = if target.well_known().is_some() { "" } else { " with a scale subresource" };
            let kind = kind.escape_debug();
            warnings.push("spec.targetRef", || {
                format!(
                    "there is no {kind} {name:?}{no_scale} in namespace {namespace:?}; the VPA takes effect once there is"
                )
            });
            // Workload and VPA mostly come in one file, and the watch shows the workload a moment later.
            subject.created.then_some(target)
        }
        Lookup::UnknownKind => {
            warnings.push("spec.targetRef", || {
                format!(
                    "API group {group:?} has no kind {kind:?} in this cluster; the VPA takes effect once it has"
                )
            });
            None
        }
        Lookup::Pending => Some(target),
        // Of these nothing can be said for sure.
        Lookup::Found(_) | Lookup::Forbidden | Lookup::Failed(_) => None,
    }
}
