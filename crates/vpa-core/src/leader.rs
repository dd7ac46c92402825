//! Who leads: the decision of client-go's leader election, without its clock and its client.
//!
//! A lease is an object in the API server that names its holder. A contender never compares the times in it with its
//! own clock; it watches whether the lease *changes*. A lease that has not changed for its duration, measured by the
//! contender's own clock from the moment it first saw that state, is free. The holder stops by itself sooner than
//! that ([`Settings::renew_deadline`] after the last renewal that it *sent* and that succeeded), so two leaders
//! at a time need clocks that run at rates more than a third apart.
//!
//! Times named `now` come from a clock that never steps back; `wall` is only written into the lease for people.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an unchanged lease of another holder is respected.
    pub lease_duration: Duration,
    /// How long a leader leads after its last renewal.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

impl Default for Settings {
    /// The Go suite's: 15 s, 10 s, 2 s.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Which time leaves no room for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A lease holds whole seconds, at least one.
    #[error("the lease duration must be at least 1 s")]
    LeaseDuration,
    /// A leader must stop before others may take over.
    #[error("the renew deadline must be shorter than the lease duration")]
    RenewDeadline,
    /// There must be time for a second try.
    #[error("the retry period must be shorter than 5/6 of the renew deadline")]
    RetryPeriod,
}

impl Settings {
    /// Checks that a leader stops before others take over, and has time to try twice.
    ///
    /// # Errors
    /// The first time that does not fit.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.lease_duration < Duration::from_secs(1) {
            return Err(SettingsError::LeaseDuration);
        }
        // The lease holds whole seconds: what others respect is the duration without its fraction.
        if self.renew_deadline >= Duration::from_secs(self.lease_duration.as_secs()) {
            return Err(SettingsError::RenewDeadline);
        }
        // 1.2 is client-go's jitter on the retry period.
        if self.retry_period.is_zero() || self.retry_period.saturating_mul(6) / 5 >= self.renew_deadline {
            return Err(SettingsError::RetryPeriod);
        }
        Ok(())
    }
}

/// What a lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Identity of the holder; empty when nobody holds it.
    pub holder: String,
    /// Seconds that the holder asks others to wait.
    pub duration_seconds: i32,
    /// When the holder took it, by the holder's clock.
    pub acquired: Option<Timestamp>,
    /// When the holder last renewed it, by the holder's clock.
    pub renewed: Option<Timestamp>,
    /// Number of times that the holder changed.
    pub transitions: i32,
    /// State of the object, for the precondition of a write.
    pub resource_version: String,
}

/// What to do next about the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create it with this content; a conflict means that somebody was faster.
    Create(Record),
    /// Replace it with this content, on the condition that its `resource_version` is unchanged.
    Replace(Record),
    /// Somebody else holds it; read it again after the retry period.
    Follow {
        /// The holder.
        holder: String,
        /// When it becomes free, should it stay as it is.
        free_at: Timestamp,
    },
}

/// One contender.
#[derive(Clone, Debug)]
pub struct Contender {
    identity: String,
    settings: Settings,
    /// What the lease said when it last changed, and when that was seen.
    observed: Option<(Record, Timestamp)>,
    /// When the last successful renewal was sent.
    renewed_at: Option<Timestamp>,
}

impl Contender {
    /// A contender that knows nothing yet. The identity has to differ from that of every other one.
    pub fn new(identity: impl Into<String>, settings: Settings) -> Self {
        Self { identity: identity.into(), settings, observed: None, renewed_at: None }
    }

    /// The identity.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Decides on what was just read: `found` is `None` when there is no lease.
    pub fn step(&mut self, found: Option<Record>, now: Timestamp, wall: Timestamp) -> Step {
        let Some(found) = found else {
            self.observed = None;
            return Step::Create(self.claim(0, wall, wall));
        };
        let seen_at = match &self.observed {
            Some((known, seen_at)) if *known == found => *seen_at,
            _ => {
                self.observed = Some((found.clone(), now));
                now
            }
        };
        if found.holder == self.identity {
            let acquired = found.acquired.unwrap_or(wall);
            let claim = self.claim(found.transitions, acquired, wall);
            return Step::Replace(Record { resource_version: found.resource_version, ..claim });
        }
        if !found.holder.is_empty() {
            let free_at = later(seen_at, self.respected(&found));
            if now < free_at {
                return Step::Follow { holder: found.holder, free_at };
            }
        }
        let claim = self.claim(found.transitions.saturating_add(1), wall, wall);
        Step::Replace(Record { resource_version: found.resource_version, ..claim })
    }

    /// A write that [`Contender::step`] asked for at `sent` has succeeded and left `stored`.
    pub fn on_written(&mut self, stored: Record, sent: Timestamp) {
        self.observed = Some((stored, sent));
        self.renewed_at = Some(sent);
    }

    /// Whether this contender leads at `now`. To be asked before every write that only a leader may make.
    pub fn leads(&self, now: Timestamp) -> bool {
        self.leads_until().is_some_and(|end| now < end)
    }

    /// End of the leadership, unless it is renewed before.
    pub fn leads_until(&self) -> Option<Timestamp> {
        self.renewed_at.map(|sent| later(sent, self.settings.renew_deadline))
    }

    /// Leadership ends now, for a reason from outside, such as another holder in the lease.
    pub fn step_down(&mut self) {
        self.renewed_at = None;
    }

    /// What to write so that others need not wait, or `None` where the lease is not ours to release.
    /// Leadership ends with this call.
    pub fn release(&mut self, wall: Timestamp) -> Option<Record> {
        self.renewed_at.take()?;
        let (record, _) = self.observed.as_ref()?;
        (record.holder == self.identity).then(|| Record {
            holder: String::new(),
            duration_seconds: 1,
            acquired: Some(wall),
            renewed: Some(wall),
            ..record.clone()
        })
    }

    fn claim(&self, transitions: i32, acquired: Timestamp, wall: Timestamp) -> Record {
        Record {
            holder: self.identity.clone(),
            duration_seconds: i32::try_from(self.settings.lease_duration.as_secs()).unwrap_or(i32::MAX),
            acquired: Some(acquired),
            renewed: Some(wall),
            transitions,
            resource_version: String::new(),
        }
    }

    /// How long an unchanged lease of somebody else is respected: as long as it asks for; a lease that names a holder
    /// without a duration gets ours.
    fn respected(&self, record: &Record) -> Duration {
        match u64::try_from(record.duration_seconds) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.settings.lease_duration,
        }
    }
}

/// A sign of life of another program, published by renewing a lease: the admission controller's.
///
/// The first state seen is judged by the times in it, as there is nothing else to go by. From then on only changes
/// count, by the own clock, so that a clock that is set wrong on the other side neither hides a living program nor
/// keeps a dead one alive.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// What was last seen, and the time by the own clock of the last beat.
    last: Option<(Option<Timestamp>, Timestamp)>,
}

impl Heartbeat {
    /// A heartbeat not yet looked at.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a lease that was read at `now`: when it was last renewed (or, where it never was, created) by its
    /// writer's clock, and what the own wall clock says. Returns the time since its last beat.
    pub fn observe(&mut self, renewed: Option<Timestamp>, now: Timestamp, wall: Timestamp) -> Duration {
        let beat = match &self.last {
            Some((known, beat)) if *known == renewed => *beat,
            Some(_) => now,
            None => {
                let age = renewed.map_or(SignedDuration::MAX, |renewed| wall.duration_since(renewed));
                now.checked_sub(age.max(SignedDuration::ZERO)).unwrap_or(Timestamp::MIN)
            }
        };
        self.last = Some((renewed, beat));
        now.duration_since(beat).unsigned_abs()
    }

    /// The lease is gone: what comes next is judged anew.
    pub fn gone(&mut self) {
        self.last = None;
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
