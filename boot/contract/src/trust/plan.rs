//! Verifying a plan against a view: the step that makes a [`Chain`].

use serde_json::Value;

use super::chain::{self, Chain};
use super::command_line;
use super::envelope::Envelope;
use super::error::TrustError;
use super::target::is_part;
use super::verified::Verified;
use super::view::{SignedView, TIMESTAMP_FILE};
use crate::limits::{MIRRORS_MAX, PLAN_BYTES_MAX, PLAN_SECONDS_MAX, URL_BYTES_MAX};
use crate::plan::{BootPlan, PLAN_FORMAT, PLAN_ROLE, PLAN_TYPE};
use crate::recovery::Order;
use crate::{Digest, Timestamp, stamp};

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

impl SignedView {
    /// Verifies a plan: signed by the keys of the delegated role [`PLAN_ROLE`], an answer to `nonce`, made from this very
    /// timestamp, asking only for layers of this view; then the dates of all metadata against the plan's time, which must
    /// not be before `floor`.
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
        floor: Timestamp,
        expiry: ExpiryPolicy,
    ) -> Result<Verified<Chain>, TrustError> {
        let plan = self.signed_plan(bytes)?;
        if plan.nonce != nonce.0 {
            return Err(TrustError::Nonce {
                found: plan.nonce,
                wanted: nonce.0,
            });
        }
        check_times(&plan, floor)?;
        check_texts(&plan)?;
        self.check_timestamp(&plan)?;
        let layers = chain::layers(self, &plan)?;
        let expired = self.check_expiry(plan.time);
        if !expired.is_empty() && expiry == ExpiryPolicy::Refuse {
            return Err(TrustError::Expired(expired));
        }
        Ok(Verified::new(Chain {
            plan,
            layers,
            expired,
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
    let printable = |text: &str| text.bytes().all(|b| (b' '..=b'~').contains(&b));
    command_line::check(&plan.command_line)?;
    let url = |url: &String| {
        let known = url.starts_with("https://") || url.starts_with("http://");
        known && url.len() <= URL_BYTES_MAX && printable(url) && !url.contains(' ')
    };
    if plan.mirrors.len() > MIRRORS_MAX || !plan.mirrors.iter().all(url) {
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

fn malformed(why: String) -> TrustError {
    let what = WHAT.into();
    TrustError::Malformed { what, why }
}
