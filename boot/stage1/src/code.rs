//! The recovery code: from the stamp or from the person at the console, exchanged for the plan that recovers.

use towline_contract::plan::BootPlan;
use towline_contract::recovery::{Code, Order};
use towline_contract::stamp::Settings;
use zeroize::Zeroizing;

use crate::console::Console;
use crate::fetch::recovery::with_code;
use crate::fetch::{Ask, FetchError, Planned};
use crate::menu::ANSWER_WAIT;
use crate::progress::Progress as _;

/// What is to be done about a plan's order.
pub(crate) enum Answered {
    /// This plan recovers the host.
    Recover(Box<Planned>),
    /// Nobody has a code: the rescue system starts and waits.
    RescueOnly,
}

/// Whether the plan says that a code is wanted.
pub(crate) fn is_wanted(plan: &BootPlan) -> bool {
    matches!(plan.order, Some(Order::AskCode { .. }))
}

/// Exchanges the stamp's code, or one that is typed, for the plan that recovers. A code that the server refuses is asked for
/// again; the stamp's is not.
///
/// # Errors
/// The server cannot be reached, its answer is not trusted, or it refuses the stamp's code.
pub(crate) async fn answer(
    console: &Console,
    settings: &Settings,
    ask: &Ask,
    planned: &Planned,
) -> Result<Answered, FetchError> {
    if let Some(code) = settings.token.as_deref().and_then(|text| text.parse().ok()) {
        console.step(format_args!("sending the recovery code of this medium"));
        let recovery = with_code(planned, settings, ask, &code).await?;
        return Ok(Answered::Recover(Box::new(recovery)));
    }
    match &planned.chain.plan.host {
        Some(host) => console.step(format_args!("a recovery of {host} is open")),
        // The medium is any host's: the code says which.
        None => console.step(format_args!("a recovery is open")),
    }
    loop {
        let Some(code) = typed(console).await else {
            console.note(format_args!(
                "no code: the rescue system starts without a recovery"
            ));
            return Ok(Answered::RescueOnly);
        };
        match with_code(planned, settings, ask, &code).await {
            Ok(recovery) => return Ok(Answered::Recover(Box::new(recovery))),
            Err(error) if is_refusal(&error) => console.warn(format_args!("{error}")),
            Err(error) => return Err(error),
        }
    }
}

/// A code that has the right letters; none after an empty line, or when nobody answers.
async fn typed(console: &Console) -> Option<Code> {
    const QUESTION: &str =
        "Recovery code (three groups of four; nothing = only the rescue system):";
    loop {
        let text = Zeroizing::new(console.ask(QUESTION, Some(ANSWER_WAIT)).await?.text);
        if text.is_empty() {
            return None;
        }
        match text.parse() {
            Ok(code) => return Some(code),
            Err(error) => console.plain(format_args!("{error}")),
        }
    }
}

/// The server understood and said no: another code may do.
fn is_refusal(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Status {
            status: 403 | 429,
            ..
        }
    )
}
