//! Which session of a host a command is about.

use clap::Args;
use towline_contract::Timestamp;
use towline_server::sessions::Choice;

/// Which session.
#[derive(Args)]
pub(crate) struct ChoiceArgs {
    /// The session, by its version or by the agent's own name of it
    /// [default: the newest]
    #[arg(long, value_name = "ID", conflicts_with = "at")]
    session: Option<String>,
    /// The nearest session at or before this time (2026-11-23T22:00:00Z)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

impl ChoiceArgs {
    /// The choice.
    pub(crate) fn choice(&self) -> Choice {
        match (&self.session, self.at) {
            (Some(id), _) => Choice::Id(id.clone()),
            (None, Some(time)) => Choice::At(time),
            (None, None) => Choice::Newest,
        }
    }
}
