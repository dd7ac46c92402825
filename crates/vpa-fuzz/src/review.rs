//! Any body of a review.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::cluster::FIXED;
use crate::glue::{self, Cluster, Reviewed};
use crate::sound::{self, Facts};
use crate::{Problem, Worth, ensure, response};

/// Decodes a body, decides it against a fixed cluster with every gate on, and looks at the answer.
///
/// # Errors
/// What is wrong with the answer.
pub fn review(body: &[u8]) -> Result<Worth, Problem> {
    // What cannot be decoded is admitted before anything is decided.
    let Some(found) = decide(body, &FIXED)? else { return Ok(Worth::Checked) };
    if let Some((before, after)) = found.patched(body)?
        && found.reviewed.is_pod
    {
        sound::pod(&before, &after, &found.operations, &Facts::none())?;
    }
    Ok(Worth::Checked)
}

/// A decision and its answer, which is well formed.
pub(crate) struct Found {
    pub(crate) reviewed: Reviewed,
    /// The operations of the patch, as they go over the wire; empty without a patch.
    pub(crate) operations: Vec<Value>,
}

/// Decodes, decides and answers; none where the body is no review.
pub(crate) fn decide(body: &[u8], cluster: &Cluster) -> Result<Option<Found>, Problem> {
    let Some(reviewed) = glue::decide(body, cluster) else { return Ok(None) };
    let answer =
        response::encode(&reviewed.uid, &reviewed.decision).map_err(|error| format!("no answer: {error}"))?;
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let operations = well_formed(&reviewed, &answer)?;
    Ok(Some(Found { reviewed, operations }))
}

/// What Go's encoder escapes is escaped.
fn escaped(json: &[u8]) -> Result<(), Problem> {
    let text = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    let bare = text.find(['<', '>', '&', '\u{2028}', '\u{2029}']);
    ensure(bare.is_none(), || format!("a character that is not escaped: {text}"))
}

/// What the API server asks of an answer, and that it says what was decided.
fn well_formed(reviewed: &Reviewed, answer: &Value) -> Result<Vec<Value>, Problem> {
    let Reviewed { uid, is_vpa, decision, .. } = reviewed;
    let response = &answer["response"];
    ensure(response["uid"] == uid.as_str(), || format!("uid {} instead of {uid:?}", response["uid"]))?;
    ensure(response["allowed"] == decision.allowed(), || format!("allowed is {}", response["allowed"]))?;
    ensure(decision.allowed() || *is_vpa, || "something that is no VPA is refused".to_owned())?;
    let warnings = response["warnings"].as_array().map_or(0, Vec::len);
    ensure(warnings == decision.warnings.len(), || format!("{warnings} warnings in the answer"))?;
    if let Some(denial) = &decision.denial {
        let causes = response["status"]["details"]["causes"].as_array().map_or(0, Vec::len);
        ensure(causes > 0 && causes == denial.causes.len(), || format!("{causes} causes of a refusal"))?;
        let nameless = denial.causes.iter().find(|cause| cause.field.is_empty() || cause.message.is_empty());
        ensure(nameless.is_none(), || format!("a cause without path or text: {nameless:?}"))?;
        ensure(response.get("patch").is_none(), || "a patch for what is refused".to_owned())?;
    }
    let Some(patch) = response.get("patch") else {
        ensure(decision.patches.is_empty(), || "the patch is not in the answer".to_owned())?;
        return Ok(Vec::new());
    };
    ensure(response["patchType"] == "JSONPatch", || format!("patchType {}", response["patchType"]))?;
    let patch = BASE64_STANDARD
        .decode(patch.as_str().unwrap_or_default())
        .map_err(|error| format!("patch: {error}"))?;
    escaped(&patch)?;
    serde_json::from_slice(&patch).map_err(|error| format!("the patch is no list of JSON: {error}"))
}

impl Found {
    /// The object as it was sent and as the API server makes it with the patch; none without a patch, or where two
    /// readers can differ on what was sent.
    pub(crate) fn patched(&self, body: &[u8]) -> Result<Option<(Value, Value)>, Problem> {
        if self.operations.is_empty() {
            return Ok(None);
        }
        let Ok(mut review) = serde_json::from_slice::<Value>(body) else { return Ok(None) };
        let Some(before) = only(&mut review, "request").and_then(|request| only(request, "object")) else {
            return Ok(None);
        };
        let patch: json_patch::Patch = serde_json::from_value(Value::from(self.operations.clone()))
            .map_err(|error| format!("the patch is no JSON patch: {error}"))?;
        // A VPA without a spec is refused by the API server, whatever the patch would put into it.
        if self.reviewed.is_vpa && !before["spec"].is_object() {
            return Ok(None);
        }
        let mut after = before.clone();
        json_patch::patch(&mut after, &patch)
            .map_err(|error| format!("the patch does not apply: {error}: {:?}", self.operations))?;
        Ok(Some((before.take(), after)))
    }
}

/// The member of this name, where none has the same name in other case.
fn only<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let members = value.as_object_mut()?;
    let same = members.keys().filter(|key| key.eq_ignore_ascii_case(name)).count();
    if same == 1 { members.get_mut(name) } else { None }
}
