//! The host's side of the API: enrolment, state, new sessions.
//!
//! TLS only, by the site's own authority when the settings name one. Answers and waits are bounded: a server that is slow
//! or lies must not keep a backup from ending.

use std::time::Duration;

use serde::de::DeserializeOwned;
use towline_contract::api::{
    Enrolled, Enrolment, ErrorBody, HOSTS_PATH, HostState, NewSession, sessions_path,
};
use towline_initramfs::fetch::{NoAuthorities, authorities, tls};

use super::home::HostConfig;

/// Longest that a connection may take to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Longest that one request may take with its answer.
const REQUEST_WAIT: Duration = Duration::from_secs(60);

/// Largest answer that is read: a list of sessions ([`towline_contract::limits::METADATA_BYTES_MAX`]) as JSON text.
const ANSWER_BYTES_MAX: u64 = 12 << 20;

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers, or not by TLS that is trusted.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        #[source]
        cause: Box<ureq::Error>,
    },
    /// It says no.
    #[error("{server} refuses ({status}): {message}")]
    Refused {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
        /// What it says can be done.
        next: Option<String>,
    },
    /// An answer that this program does not understand.
    #[error("the answer of {server} cannot be understood")]
    Answer {
        /// The server.
        server: String,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// No authorities to trust.
    #[error(transparent)]
    Authorities(#[from] NoAuthorities),
    /// Not a URL of a server.
    #[error("{0:?} is no server: it should look like https://recovery.example:8443")]
    Server(String),
}

impl ClientError {
    /// Whether it may go better later without anyone doing something.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || [408, 409, 429].contains(status),
            Self::Answer { .. } | Self::Authorities(_) | Self::Server(_) => false,
        }
    }
}

/// A connection to the site's server.
pub(crate) struct Client {
    agent: ureq::Agent,
    server: String,
}

impl Client {
    /// The client for the server in the settings.
    ///
    /// # Errors
    /// The server's name is none, or there are no authorities.
    pub(crate) fn new(config: &HostConfig) -> Result<Self, ClientError> {
        let server = config.server.trim_end_matches('/');
        let is_server = server
            .strip_prefix("https://")
            .is_some_and(|it| !it.is_empty());
        if !is_server {
            return Err(ClientError::Server(config.server.clone()));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls(authorities(config.ca.as_deref())?))
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WAIT))
            .timeout_global(Some(REQUEST_WAIT))
            .user_agent(concat!("towline/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            server: server.to_owned(),
        })
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Asks to be known.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, ClientError> {
        let answer = self.post(
            HOSTS_PATH,
            &serde_json::to_vec(enrolment).unwrap_or_default(),
        )?;
        self.read(&answer)
    }

    /// What the server knows of the host; none when it knows nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn state(&self, host: &str) -> Result<Option<HostState>, ClientError> {
        let url = format!("{}{HOSTS_PATH}/{host}", self.server);
        match self.finish(self.agent.get(&url).call()) {
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Ok(answer) => self.read(&answer).map(Some),
            Err(error) => Err(error),
        }
    }

    /// Adds a session.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn add(&self, host: &str, session: &NewSession) -> Result<(), ClientError> {
        let body = serde_json::to_vec(session).unwrap_or_default();
        self.post(&sessions_path(host), &body).map(drop)
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        let request = self.agent.post(format!("{}{path}", self.server));
        self.finish(request.content_type("application/json").send(body))
    }

    fn finish(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Vec<u8>, ClientError> {
        let failed = |cause| ClientError::Unreachable {
            server: self.server.clone(),
            cause: Box::new(cause),
        };
        let mut answer = answer.map_err(failed)?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let body = body.read_to_vec().map_err(failed)?;
        if answer.status().is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<ErrorBody>(&body).ok();
        let (message, next) = said.map_or_else(Default::default, |it| (it.message, it.next));
        Err(ClientError::Refused {
            server: self.server.clone(),
            status: answer.status().as_u16(),
            message: match message.is_empty() {
                true => "it does not say why".to_owned(),
                false => message,
            },
            next,
        })
    }

    fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(answer).map_err(|cause| ClientError::Answer {
            server: self.server.clone(),
            cause,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_https_and_a_file_with_certificates_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("ca.pem");
        fs::write(&empty, "nothing\n").unwrap();
        let mut config = HostConfig {
            server: "http://recovery.example".into(),
            id: "web1".into(),
            ca: Some(empty),
        };
        assert!(matches!(Client::new(&config), Err(ClientError::Server(_))));
        config.server = "https://recovery.example:8443/".into();
        let found = Client::new(&config);
        assert!(matches!(
            found,
            Err(ClientError::Authorities(NoAuthorities { cause: None, .. }))
        ));
    }
}
