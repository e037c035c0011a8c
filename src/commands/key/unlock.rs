//! Reading keys that may be encrypted: passphrases come from a file, or are asked for at a terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use towline_contract::trust::SigningKey;
use towline_server::keys::{self, KeyError};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

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

impl Passphrases {
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

/// The text of a file of passphrases.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).and_then(|it| Ok((it.metadata()?, it)));
    let read = file.and_then(|(about, it)| {
        it.take(PASSPHRASES_BYTES_MAX).read_to_string(&mut text)?;
        Ok(about)
    });
    let about = read
        .with_context(|| format!("cannot read the passphrases in {}", path.display()))
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let mode = about.mode() & 0o777;
    if about.is_file() && mode & 0o077 != 0 {
        let path = path.display();
        let error = anyhow!("the passphrases in {path} have mode {mode:04o}; others may read them");
        return Err(Failure::new(Exit::Usage, error).next(format!("chmod 600 {path}")));
    }
    Ok(text)
}

fn ask(path: &Path) -> Result<Option<SigningKey>, Failure> {
    let prompt = format!(
        "Passphrase of {} (empty: go on without it): ",
        path.display()
    );
    for _ in 0..TRIES {
        let typed = rpassword::prompt_password(&prompt);
        let typed = Zeroizing::new(typed.context("cannot ask for the passphrase")?);
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
