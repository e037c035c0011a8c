//! Verifying a plan against a view: the step that makes a [`Chain`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::chain::{self, Chain};
use super::command_line;
use super::envelope::Envelope;
use super::error::TrustError;
use super::target::is_part;
use super::verified::Verified;
use super::view::{SignedView, TIMESTAMP_FILE};
use crate::limits::{MIRRORS_MAX, PLAN_BYTES_MAX, PLAN_SECONDS_MAX};
use crate::plan::{BootPlan, PLAN_FORMAT, PLAN_ROLE, PLAN_TYPE};
use crate::recovery::Order;
use crate::{Digest, Timestamp, base_url, stamp};

const WHAT: &str = "the boot plan";

/// 32 random bytes that one request sends and one answer must echo. Verification takes it by value and it cannot be
/// copied, so that no two plans are accepted for one request.
#[derive(Debug)]
pub struct FreshNonce(Digest);

impl FreshNonce {
    /// A nonce of bytes that the caller has just taken from the kernel's random number generator.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random.into())
    }

    /// What to send in [`crate::api::PlanRequest::nonce`].
    #[must_use]
    pub fn to_send(&self) -> crate::plan::Nonce {
        self.0
    }
}

/// What to do about signed metadata that is past its date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryPolicy {
    /// Refuse with [`TrustError::Expired`]. Once a person has agreed, ask for a new plan with a new nonce, and accept.
    Refuse,
    /// Accept; [`Chain::expired`] says what to warn of.
    Accept,
}

impl From<stamp::Expired> for ExpiryPolicy {
    fn from(setting: stamp::Expired) -> Self {
        match setting {
            stamp::Expired::Refuse => Self::Refuse,
            stamp::Expired::Accept => Self::Accept,
        }
    }
}

/// What a plan must be the answer to.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host that was asked for. When none was, the plan may be for any host, or for none.
    pub host: Option<&'a str>,
    /// Debian's name of the machine's architecture: the only one its layers may have, but for `all`.
    pub architecture: &'a str,
    /// No earlier time is believed.
    pub floor: Timestamp,
    /// No older documents are believed: versions by role, as [`stamp::Settings::versions`].
    pub versions: &'a BTreeMap<String, u64>,
    /// What to do about metadata that is past its date.
    pub expiry: ExpiryPolicy,
}

impl SignedView {
    /// Verifies a plan: signed by the keys of the delegated role [`PLAN_ROLE`], an answer to `nonce` and to what was asked,
    /// made from this very timestamp, asking only for layers of this view; then that no metadata is older than was known
    /// before; then the dates of all metadata against the plan's time, which must not be before the floor.
    ///
    /// # Errors
    /// The first of these that does not hold.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a nonce is used up by its first answer"
    )]
    pub fn plan(
        &self,
        bytes: &[u8],
        nonce: FreshNonce,
        asked: &Asked<'_>,
    ) -> Result<Verified<Chain>, TrustError> {
        let plan = self.signed_plan(bytes)?;
        if plan.nonce != nonce.0 {
            return Err(TrustError::Nonce {
                found: plan.nonce,
                wanted: nonce.0,
            });
        }
        check_times(&plan, asked.floor)?;
        check_texts(&plan)?;
        check_host(&plan, asked.host)?;
        self.check_timestamp(&plan)?;
        let layers = chain::layers(self, &plan, asked.architecture)?;
        self.check_versions(asked.versions)?;
        let policy = self.layer_policy()?;
        let expired = self.check_expiry(plan.time);
        if !expired.is_empty() && asked.expiry == ExpiryPolicy::Refuse {
            return Err(TrustError::Expired(expired));
        }
        Ok(Verified::new(Chain {
            plan,
            layers,
            expired,
            policy,
        }))
    }

    fn signed_plan(&self, bytes: &[u8]) -> Result<BootPlan, TrustError> {
        let envelope = Envelope::parse(bytes, WHAT, PLAN_BYTES_MAX)?;
        envelope.verify(WHAT, &self.delegated_signers(PLAN_ROLE)?)?;
        envelope.require_type(WHAT, PLAN_TYPE)?;
        // Before the fields: a newer plan may have others.
        match envelope.signed.get("format").and_then(Value::as_u64) {
            Some(found) if found == u64::from(PLAN_FORMAT) => envelope.read(WHAT),
            found => Err(malformed(format!(
                "its format is {found:?}, and this program reads {PLAN_FORMAT}"
            ))),
        }
    }

    fn check_versions(&self, known: &BTreeMap<String, u64>) -> Result<(), TrustError> {
        for (role, header) in self.documents() {
            let stored = known.get(role).copied().unwrap_or(0);
            if header.version < stored {
                return Err(TrustError::Rollback {
                    what: format!("{role}.json"),
                    found: header.version,
                    stored,
                });
            }
        }
        Ok(())
    }

    /// The plan must be made from the catalogue that was verified, not from an older or newer one.
    fn check_timestamp(&self, plan: &BootPlan) -> Result<(), TrustError> {
        let (found, wanted) = (self.timestamp_version(), plan.timestamp.version);
        let what = format!("the {TIMESTAMP_FILE} beside the plan");
        if found != wanted {
            return Err(TrustError::Version {
                what,
                found,
                wanted,
            });
        }
        let (found, wanted) = (*self.timestamp_digest(), plan.timestamp.digest);
        if found != wanted {
            return Err(TrustError::Digest {
                what,
                found,
                wanted,
            });
        }
        Ok(())
    }
}

fn check_times(plan: &BootPlan, floor: Timestamp) -> Result<(), TrustError> {
    let life = plan.expires.duration_since(plan.time);
    if !life.is_positive() || life > jiff::SignedDuration::from_secs(PLAN_SECONDS_MAX) {
        return Err(malformed(format!(
            "it is valid from {} to {}, and may be for {PLAN_SECONDS_MAX} seconds",
            plan.time, plan.expires
        )));
    }
    if plan.time < floor {
        return Err(TrustError::Clock {
            time: plan.time,
            floor,
        });
    }
    Ok(())
}

/// Text that goes to a kernel, a URL parser or a terminal holds nothing that surprises them.
fn check_texts(plan: &BootPlan) -> Result<(), TrustError> {
    command_line::check(&plan.command_line)?;
    let malformed_url = |url: &String| base_url::parse(url).is_err_and(|it| it.is_malformed());
    if plan.mirrors.len() > MIRRORS_MAX || plan.mirrors.iter().any(malformed_url) {
        return Err(malformed(
            "its mirrors are too many, or not http or https URLs".into(),
        ));
    }
    if !is_part(&plan.recovery) || !plan.host.iter().all(|host| is_part(host)) {
        return Err(malformed(
            "its recovery or host is not of letters, digits and - . + ~ : _".into(),
        ));
    }
    // A code may be asked for before it is known whose it is.
    if matches!(plan.order, Some(Order::Recover(_))) && plan.host.is_none() {
        return Err(malformed("it orders a recovery and names no host".into()));
    }
    Ok(())
}

/// A machine that is to become one host is not made another, however well the plan is signed.
fn check_host(plan: &BootPlan, asked: Option<&str>) -> Result<(), TrustError> {
    match asked {
        Some(wanted) if plan.host.as_deref() != Some(wanted) => Err(TrustError::AnotherHost {
            found: plan.host.clone(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn malformed(why: String) -> TrustError {
    let what = WHAT.into();
    TrustError::Malformed { what, why }
}
