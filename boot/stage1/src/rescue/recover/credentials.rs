//! The credentials of a recovery: what the server made for this boot alone. They lie in memory only.

use std::fs;
use std::path::{Path, PathBuf};

use towline_contract::Secret;
use towline_contract::agent::{ENVIRONMENT_FILE, variables};
use towline_contract::recovery::{AUTHORIZED_KEYS_FILE, REPORT_TOKEN_FILE};

use zeroize::Zeroizing;

use super::error::{RecoverError, file};

/// Where a public key lets root in.
const AUTHORIZED_KEYS: &str = "/root/.ssh/authorized_keys";

/// The credentials.
pub(super) struct Credentials {
    /// Token for reports.
    pub(super) token: Secret,
    /// Variables for the agent's commands.
    pub(super) environment: Vec<(String, String)>,
    /// Where they lie.
    pub(super) directory: PathBuf,
}

impl Credentials {
    /// Reads the credentials in `directory`.
    ///
    /// # Errors
    /// There is no token for reports, or the variables cannot be read.
    pub(super) fn read(directory: &Path) -> Result<Self, RecoverError> {
        let token = report_token(directory)?;
        let path = directory.join(ENVIRONMENT_FILE);
        let environment = match fs::read_to_string(&path) {
            Ok(text) => variables(&text).map_err(|line| {
                let what = format!("line {line} of {} is no NAME=value", path.display());
                RecoverError::refused(what, "correct the host's credentials on the server")
            })?,
            // An agent may need none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(file("read", &path)(error)),
        };
        Ok(Self {
            token,
            environment,
            directory: directory.to_owned(),
        })
    }
}

/// The token for reports in `directory`, whatever else is there: what is wrong with other files can be reported by it.
///
/// # Errors
/// There is none.
pub(super) fn report_token(directory: &Path) -> Result<Secret, RecoverError> {
    let path = directory.join(REPORT_TOKEN_FILE);
    let token = Zeroizing::new(fs::read_to_string(&path).map_err(file("read", &path))?);
    Ok(token.trim().to_owned().into())
}

/// Lets those in by ssh whose public keys are in the credentials; true if there are any.
pub(crate) fn let_in(directory: &Path) -> std::io::Result<bool> {
    let keys = match fs::read_to_string(directory.join(AUTHORIZED_KEYS_FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        keys => keys?,
    };
    if keys.trim().is_empty() {
        return Ok(false);
    }
    write_keys(Path::new(AUTHORIZED_KEYS), &keys)?;
    Ok(true)
}

/// sshd takes keys only from a file that nobody else can write, below a folder of which the same holds.
fn write_keys(path: &Path, keys: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(parent) = path.parent() {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent);
        made?;
    }
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", keys.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_without_a_token_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Credentials::read(dir.path()).is_err());
        fs::write(dir.path().join(REPORT_TOKEN_FILE), "t0ken\n").unwrap();
        let credentials = Credentials::read(dir.path()).unwrap();
        assert_eq!(&*credentials.token, "t0ken");
        assert!(credentials.environment.is_empty());
        // What is wrong with another file is for the server to hear.
        fs::write(dir.path().join(ENVIRONMENT_FILE), "no variable\n").unwrap();
        assert!(Credentials::read(dir.path()).is_err());
        assert_eq!(report_token(dir.path()).unwrap(), credentials.token);
    }

    #[test]
    fn keys_are_added_where_only_root_can_write() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh/authorized_keys");
        write_keys(&path, "ssh-ed25519 AAAA one\n").unwrap();
        write_keys(&path, "ssh-ed25519 AAAA two").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "ssh-ed25519 AAAA one\nssh-ed25519 AAAA two\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
