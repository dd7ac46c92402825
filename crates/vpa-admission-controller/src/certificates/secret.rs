//! The Secret in which the replicas agree about their certificates.
//!
//! Each replica reads it every [`LOOK_EVERY`](super::LOOK_EVERY), does what [`decide`] says and writes with the version that it
//! read as a condition. Whoever comes second reads again and takes what the first one wrote.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use vpa_runtime::client::{Failure, chain};
use vpa_runtime::{Cluster, clock};

use super::Certificates;
use super::kept::{self, Content, Found, Situation, Step, carry_out, decide};
use crate::registration::Known;

/// Tries when other replicas write it at the same moment. Each lost one means that another replica has done the work, so
/// the next look mostly finds nothing to do.
const TRIES_MAX: usize = 8;

/// Label of what this program made, and its value.
pub(crate) const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "vpa-admission-controller");

/// Why the Secret could not be brought in order.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A right is missing.
    #[error(
        "no permission to {verb} Secret {namespace}/{name}; add to the role in {namespace}: \
         {{apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"create\"]}} and \
         {{apiGroups: [\"\"], resources: [\"secrets\"], resourceNames: [{name:?}], verbs: [\"get\", \"update\"]}}: {text}"
    )]
    Forbidden {
        /// What was to be done.
        verb: &'static str,
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said.
        text: String,
    },
    /// It holds something that this program did not make.
    #[error(
        "Secret {namespace}/{name} holds something else ({keys}) and is left alone; name another one with \
         --certificate-secret-name, or delete it"
    )]
    Foreign {
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        name: String,
        /// Keys of its data.
        keys: String,
    },
    /// Others wrote it each time.
    #[error("Secret {namespace}/{name} was changed by others {TRIES_MAX} times in a row")]
    Busy {
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The API server did not answer, or refused it.
    #[error("{verb} Secret {namespace}/{name}: {reason}")]
    Api {
        /// What was to be done.
        verb: &'static str,
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        name: String,
        /// What happened.
        reason: String,
    },
    /// No certificate can be made.
    #[error("{0}")]
    Making(String),
}

/// A Secret by its place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// API of its namespace.
    pub(crate) api: Api<Secret>,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl Place {
    /// The Secret `namespace/name`.
    pub(crate) fn new(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced(cluster.client.clone(), namespace);
        Self { api, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn explain(&self, error: &kube::Error, verb: &'static str) -> KeepError {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        match Failure::of(error) {
            Failure::Forbidden(text) => KeepError::Forbidden { verb, namespace, name, text },
            Failure::NotFound => {
                KeepError::Api { verb, namespace, name, reason: "the namespace does not exist".to_owned() }
            }
            _ => KeepError::Api { verb, namespace, name, reason: chain(error) },
        }
    }

    /// Whether this program made it: then it may be replaced, whatever became of it.
    pub(crate) fn made_here(secret: &Secret) -> bool {
        let labels = secret.metadata.labels.iter().flatten();
        let empty = secret.data.as_ref().is_none_or(|data| data.is_empty());
        empty
            || labels.into_iter().any(|(key, value)| (key.as_str(), value.as_str()) == LABEL)
            || secret.data.iter().flatten().any(|(key, _)| key == kept::AUTHORITY_KEY)
    }

    async fn read(&self) -> Result<Option<Secret>, KeepError> {
        let Some(secret) = self.api.get_opt(&self.name).await.map_err(|error| self.explain(&error, "get"))?
        else {
            return Ok(None);
        };
        if Self::made_here(&secret) {
            return Ok(Some(secret));
        }
        let keys: Vec<String> = secret.data.into_iter().flatten().map(|(key, _)| key).collect();
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        Err(KeepError::Foreign { namespace, name, keys: keys.join(", ") })
    }

    /// Writes it; false when another was faster.
    async fn write(&self, found: Option<Secret>, content: &Content) -> Result<bool, KeepError> {
        let exists = found.is_some();
        let mut secret = found.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        });
        // Its version is among the metadata, so nothing that another replica wrote is written over.
        secret.metadata.managed_fields = None;
        secret.metadata.labels.get_or_insert_default().insert(LABEL.0.to_owned(), LABEL.1.to_owned());
        secret.data = Some(content.data());
        let params = PostParams::default();
        let (verb, result) = if exists {
            ("update", self.api.replace(&self.name, &params, &secret).await)
        } else {
            ("create", self.api.create(&params, &secret).await)
        };
        match result {
            Ok(_) => Ok(true),
            Err(error) => match Failure::of(&error) {
                Failure::Conflict => Ok(false),
                // Deleted since it was read.
                Failure::NotFound if exists => Ok(false),
                _ => Err(self.explain(&error, verb)),
            },
        }
    }
}

/// Keeps certificates in the Secret, and [`Certificates`] serving them.
#[derive(Debug)]
pub struct Keeper {
    /// None for certificates that are kept in memory only.
    place: Option<Place>,
    names: Vec<String>,
    /// None without self-registration: then nobody here knows what the API servers trust.
    known: Option<Known>,
    certificates: Certificates,
    held: Content,
    /// Whether the Secret has been read or written.
    shared: bool,
    /// How long the next authority has to have been trusted before it signs.
    settle: Duration,
}

impl Keeper {
    /// Takes the certificates out of the Secret `place`, or makes them. Without the right to do so they are kept in memory;
    /// the error then says so.
    ///
    /// # Errors
    /// The Secret is not usable, or there is no answer: call again.
    pub(crate) async fn open(
        place: Option<Place>,
        names: Vec<String>,
        known: Option<Known>,
    ) -> Result<(Self, Option<KeepError>), KeepError> {
        let now = clock::wall();
        let settle = kept::TRUST_SETTLE;
        let look = Look { names: &names, known: known.as_ref(), settle, now };
        let mut problem = None;
        let (held, shared) = match &place {
            Some(place) => match agree(place, None, look).await {
                Ok(content) => (content, true),
                Err(error @ KeepError::Forbidden { .. }) => {
                    problem = Some(error);
                    (Content::new(&names, now).map_err(KeepError::Making)?, false)
                }
                Err(error) => return Err(error),
            },
            None => (Content::new(&names, now).map_err(KeepError::Making)?, false),
        };
        let certificates = Certificates::serving(held.served().map_err(KeepError::Making)?);
        certificates.set_alone(!shared);
        Ok((Self { place, names, known, certificates, held, shared, settle }, problem))
    }

    /// What is served.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Whether other replicas serve the same.
    pub fn shared(&self) -> bool {
        self.shared
    }

    /// Looks at the Secret, does what there is to do, and serves what is in it.
    ///
    /// # Errors
    /// What keeps it from being read or written. What was served goes on being served, and renewed where it has to be.
    pub async fn look(&mut self, now: Timestamp) -> Result<(), KeepError> {
        let result = match &self.place {
            Some(place) => {
                let held = Held { content: &self.held, shared: self.shared };
                agree(place, Some(held), self.at(now)).await
            }
            None => self.alone(now),
        };
        match result {
            Ok(content) => {
                self.shared = self.place.is_some();
                self.certificates.set_alone(!self.shared);
                self.take(content, now)
            }
            Err(error) => {
                // What other replicas may yet agree about is not changed here, unless it has become useless.
                if self.place.is_some() && (!self.shared || self.held.leaf.valid.1 < now) {
                    let content = self.alone(now)?;
                    self.take(content, now)?;
                }
                Err(error)
            }
        }
    }

    fn at(&self, now: Timestamp) -> Look<'_> {
        Look { names: &self.names, known: self.known.as_ref(), settle: self.settle, now }
    }

    /// What there is to do about certificates in memory.
    fn alone(&self, now: Timestamp) -> Result<Content, KeepError> {
        let mut content = self.held.clone();
        for _ in 0..TRIES_MAX {
            let found = Found::from(content.clone());
            let situation = self.at(now).situation(&found);
            let step = decide(&found, &situation);
            if step == Step::Keep {
                break;
            }
            tracing::info!(?step, "certificates in memory are changed");
            content = carry_out(&step, found, Some(&content), &situation).map_err(KeepError::Making)?;
        }
        Ok(content)
    }

    /// Serves what was agreed upon, once the API servers trust it.
    fn take(&mut self, content: Content, now: Timestamp) -> Result<(), KeepError> {
        self.held = content;
        let served = self.certificates.served();
        let new = self.held.served().map_err(KeepError::Making)?;
        if served.leaf() == new.leaf() {
            if served.authority != new.authority {
                self.certificates.serve(new);
            }
            return Ok(());
        }
        // Mostly they do: the authority was announced long ago. Somebody may have put other content there, though, and then
        // the webhook configuration has to be written first; it keeps what is trusted now for the time being.
        let trusted = self.known.as_ref().is_none_or(|known| known.trusts(&self.held.authority.certificate));
        if trusted || served.valid.1 < now {
            tracing::info!(valid_until = %new.valid.1, "serving another certificate");
            self.certificates.serve(new);
        } else if served.authority != new.authority {
            self.certificates.trusting(new.authority);
        }
        Ok(())
    }
}

/// What this replica has, whatever becomes of the Secret.
#[derive(Clone, Copy)]
struct Held<'a> {
    content: &'a Content,
    /// Whether it came from the Secret, or stands in it.
    shared: bool,
}

/// What one look goes by, besides the Secret.
#[derive(Clone, Copy)]
struct Look<'a> {
    names: &'a [String],
    known: Option<&'a Known>,
    settle: Duration,
    now: Timestamp,
}

impl<'a> Look<'a> {
    fn situation(self, found: &Found) -> Situation<'a> {
        let Self { names, known, settle, now } = self;
        let next_trusted = found.next().zip(known).is_some_and(|(next, known)| {
            let trusted_for = known.trusted_for(&next.certificate, clock::steady());
            known.trusts(&next.certificate) && trusted_for >= settle
        });
        Situation { now, names, next_trusted }
    }
}

/// Brings the Secret in order; what is in it then.
async fn agree(place: &Place, held: Option<Held<'_>>, look: Look<'_>) -> Result<Content, KeepError> {
    let Place { namespace, name, .. } = place;
    for _ in 0..TRIES_MAX {
        let secret = place.read().await?;
        let found = match &secret {
            Some(secret) => kept::read(&secret.data.clone().unwrap_or_default()),
            None => Found::nothing(),
        };
        let situation = look.situation(&found);
        let step = decide(&found, &situation);
        let content = match (&step, held) {
            (Step::Keep, _) => match found.whole() {
                Some(content) => return Ok(content),
                None => continue,
            },
            // It was never there: what is served so far goes in as it is.
            (Step::Replace(_), Some(Held { content, shared: false })) if secret.is_none() => content.clone(),
            _ => carry_out(&step, found, held.map(|held| held.content), &situation)
                .map_err(KeepError::Making)?,
        };
        let first = secret.is_none() && held.is_none();
        if place.write(secret, &content).await? {
            if first {
                tracing::info!(namespace, name, "certificates made and put into the Secret");
            } else {
                tell(&step, namespace, name);
            }
        }
    }
    Err(KeepError::Busy { namespace: namespace.clone(), name: name.clone() })
}

fn tell(step: &Step, namespace: &str, name: &str) {
    match step {
        Step::Keep => {}
        Step::RenewLeaf(reason) => {
            tracing::info!(namespace, name, reason, "certificate renewed in the Secret")
        }
        Step::Announce => {
            tracing::info!(
                namespace,
                name,
                "another authority announced in the Secret; it will sign once it is trusted"
            );
        }
        Step::Switch(reason) => {
            tracing::info!(namespace, name, reason, "another authority signs from now on")
        }
        Step::Retire => tracing::info!(namespace, name, "the authority before is no longer trusted"),
        Step::Replace(reason) => tracing::warn!(namespace, name, reason, "Secret written anew"),
    }
}

#[cfg(test)]
mod rotation;
#[cfg(test)]
mod tests;
