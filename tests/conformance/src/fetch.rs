//! Fetching from a repository, within bounds of bytes and time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ureq::Agent;

/// Longest that one file may take: the attacker who drips bytes gets no longer.
const FILE_SECONDS_MAX: u64 = 60;

/// A folder on a server.
pub(crate) struct Repository {
    agent: Agent,
    base: String,
}

impl Repository {
    /// The repository at this URL.
    pub(crate) fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(FILE_SECONDS_MAX)))
            .build();
        Self {
            agent: config.into(),
            base: format!("{}/", base.trim_end_matches('/')),
        }
    }

    /// A file of at most `max` bytes, if the server has one of this name, which is escaped already.
    pub(crate) fn find(&self, file: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let url = format!("{}{file}", self.base);
        let mut answer = match self.agent.get(&url).call() {
            Ok(answer) => answer,
            Err(ureq::Error::StatusCode(404)) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("fetching {url}")),
        };
        // One byte more shows that there are too many.
        let body = answer.body_mut().with_config().limit(max.saturating_add(1));
        let bytes = body.read_to_vec();
        bytes.map(Some).with_context(|| format!("reading {url}"))
    }

    /// The same; the server must have it.
    pub(crate) fn get(&self, file: &str, max: u64) -> Result<Vec<u8>> {
        let found = self.find(file, max)?;
        found.with_context(|| format!("{}{file} is not there", self.base))
    }
}

/// A path as it stands in a URL: all but letters, digits, `-._~` and `/` escaped.
pub(crate) fn escaped(path: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(escaped).collect()
}
