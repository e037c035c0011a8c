//! Keys that sign: in files that may be encrypted, whose passphrases come from a file or are asked for at a terminal; or in an
//! ssh-agent.

use std::env;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use towline_contract::trust::SigningKey;
use towline_server::keys::{self, AgentError, AgentKey, KeyError, Signer};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::secret_file::secret_file;

/// Largest file of passphrases, in bytes.
const PASSPHRASES_BYTES_MAX: u64 = 64 << 10;

/// How often a passphrase is asked for.
const TRIES: usize = 3;

/// Where passphrases come from.
#[derive(clap::Args)]
pub(super) struct Passphrases {
    /// File with the passphrases of encrypted keys, one a line [default: asked
    /// for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What names a key in an ssh-agent, before its name there.
const AGENT: &str = "ssh-agent:";

/// How a key that signs is named.
pub(super) const SIGNER: &str = "FILE|ssh-agent:NAME";

impl Passphrases {
    /// The key in this file, or of this name in the running ssh-agent; none if it is encrypted and nobody gives its passphrase.
    pub(super) fn signer(&self, named: &Path) -> Result<Option<Signer>, Failure> {
        let in_agent = named.to_str().and_then(|it| it.strip_prefix(AGENT));
        let Some(name) = in_agent else {
            return Ok(self.open(named)?.map(Signer::Here));
        };
        let Some(socket) = env::var_os("SSH_AUTH_SOCK").filter(|it| !it.is_empty()) else {
            let error = anyhow!("no ssh-agent runs for this session: SSH_AUTH_SOCK is not set");
            return Err(
                Failure::new(Exit::Usage, error).next("eval $(ssh-agent), and ssh-add the key")
            );
        };
        AgentKey::find(Path::new(&socket), name)
            .map(|it| Some(Signer::Agent(it)))
            .map_err(agent_failure)
    }

    /// The key in `path`; none if it is encrypted and nobody gives its passphrase.
    pub(super) fn open(&self, path: &Path) -> Result<Option<SigningKey>, Failure> {
        match keys::read(path) {
            Err(KeyError::Encrypted(_)) => {}
            Err(error) => {
                return Err(Failure::new(Exit::Usage, error).next(
                    "name the file of an Ed25519 key, readable by its owner alone (chmod 600)",
                ));
            }
            Ok(key) => return Ok(Some(key)),
        }
        for line in self.lines()?.iter().flat_map(|it| it.lines()) {
            match keys::unlock(path, line) {
                Err(KeyError::Passphrase(_)) => {}
                found => return found.map(Some).map_err(|it| Failure::new(Exit::Usage, it)),
            }
        }
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        ask(path)
    }

    fn lines(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(path) = &self.passphrase_file else {
            return Ok(None);
        };
        read(path).map(Some)
    }
}

/// An agent's error with its exit code and next step.
pub(super) fn agent_failure(error: AgentError) -> Failure {
    let (exit, next) = match &error {
        AgentError::Socket { .. } | AgentError::Answer { .. } => (
            Exit::NotReachable,
            "see whether ssh-add -l can speak with it",
        ),
        AgentError::Unknown { .. } | AgentError::Several { .. } => (
            Exit::Usage,
            "ssh-add the key, and name it as ssh-add -l does: ssh-agent:SHA256:…",
        ),
        AgentError::TooLarge { .. } => (Exit::Usage, "sign it with a key in a file"),
        AgentError::Refused(_) => (
            Exit::No,
            "confirm it where the agent asks, unlock the agent (ssh-add -X), or plug the token in",
        ),
        AgentError::Trust(_) => (Exit::NotTrusted, "see what kind of agent this is"),
    };
    Failure::new(exit, error).next(next)
}

/// The text of a file of passphrases.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    secret_file(path, "passphrases", PASSPHRASES_BYTES_MAX)
}

fn ask(path: &Path) -> Result<Option<SigningKey>, Failure> {
    let prompt = format!(
        "Passphrase of {} (empty: go on without it): ",
        path.display()
    );
    for _ in 0..TRIES {
        let typed = hidden(&prompt).map_err(|error| unasked(path, error))?;
        if typed.is_empty() {
            return Ok(None);
        }
        match keys::unlock(path, &typed) {
            Err(KeyError::Passphrase(_)) => eprintln!("towline: that does not open it"),
            found => return found.map(Some).map_err(|it| Failure::new(Exit::Usage, it)),
        }
    }
    let path = path.display();
    Err(Failure::new(
        Exit::No,
        anyhow!("{TRIES} passphrases did not open the key {path}"),
    ))
}

/// The answer to `prompt`, which the terminal does not show. Ctrl-C is an error of its own kind: rpassword reads it as a letter,
/// and raises the signal before it gives the terminal back, which would stay as it is.
#[expect(unsafe_code, reason = "libc has no safe way to set a signal's action")]
fn hidden(prompt: &str) -> io::Result<Zeroizing<String>> {
    // SAFETY: SIG_IGN is no handler, so no code of ours runs in signal context.
    let before = unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let typed = rpassword::prompt_password(prompt);
    // SAFETY: it is what was set before.
    unsafe { libc::signal(libc::SIGINT, before) };
    typed.map(Zeroizing::new)
}

/// Why there is no answer.
fn unasked(path: &Path, error: io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        ErrorKind::Interrupted => Failure::new(
            Exit::No,
            anyhow!("stopped at the passphrase of {path}: nothing is signed by that key"),
        ),
        _ => anyhow!(error)
            .context(format!("cannot ask for the passphrase of {path}"))
            .into(),
    }
}
