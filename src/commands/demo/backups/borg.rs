//! BorgBackup: `borg serve` behind an sshd of the demonstration's own, on a port of the loopback. Each key may do that and
//! nothing else, for this repository alone: one is the host's for its backups, the other is for the recovery.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};

use super::{Backups, PASSWORD};
use crate::commands::demo::served::Process;
use crate::exit::{Exit, Failure};

/// What the host does.
const SCRIPT: &str = include_str!("borg.sh");

/// sshd asks for its own whole path, to start itself again.
const SSHD: &str = "/usr/sbin/sshd";

/// Where an sshd of root locks up the part of it that speaks to strangers.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// Starts a server for a repository in `folder`.
pub(super) fn start(folder: &Path, name: &str) -> Result<Backups, Failure> {
    let repository = folder.join("repository");
    let keys = ["sshd-key", "host-key", "recovery-key"].map(|it| folder.join(it));
    for key in &keys {
        make_key(key)?;
    }
    let [server_key, host_key, recovery_key] = keys;
    let port = free_port().context("no port is free")?;
    let allowed = allowed(folder, &repository, &[&host_key, &recovery_key])?;
    let config = settings(port, &server_key, &allowed);
    let config_file = folder.join("sshd_config");
    fs::write(&config_file, config)
        .with_context(|| format!("cannot write {}", config_file.display()))?;
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all(PRIVILEGE_SEPARATION)
            .with_context(|| format!("cannot make {PRIVILEGE_SEPARATION}"))?;
    }
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(&config_file);
    let what = "sshd (Debian package openssh-server)";
    let (server, port) = Process::start(command, what, &folder.join("sshd.log"), listening)?;
    let known = format!("[{name}]:{port} {}", public(&server_key)?);
    Ok(Backups {
        servers: vec![server],
        variables: format!(
            "BORG_REPO=ssh://{}@{name}:{port}{}\nBORG_PASSPHRASE={PASSWORD}\n",
            user()?,
            repository.display()
        ),
        script: SCRIPT,
        host: vec![
            ("ssh-key", 0o600, read(&host_key)?.into()),
            ("known_hosts", 0o644, known.clone().into()),
        ],
        credentials: vec![("ssh-key", read(&recovery_key)?), ("known_hosts", known)],
        recipe: None,
    })
}

/// The file with the keys that may come in, and what for.
fn allowed(folder: &Path, repository: &Path, keys: &[&Path]) -> Result<PathBuf, Failure> {
    let mut lines = String::new();
    for key in keys {
        let path = repository.display();
        lines += &format!(
            "restrict,command=\"borg serve --restrict-to-repository '{path}'\" {}",
            public(key)?
        );
    }
    let file = folder.join("authorized_keys");
    fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn settings(port: u16, key: &Path, allowed: &Path) -> String {
    format!(
        "# Written by towline demo.\nListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\n\
         # The folder may be one that others can write to, as a temporary one.\nStrictModes no\nPidFile none\nUsePAM no\n\
         PermitRootLogin forced-commands-only\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         DisableForwarding yes\nPermitTTY no\nSetEnv BORG_BASE_DIR={}\n",
        key.display(),
        allowed.display(),
        key.with_file_name("borg").display(),
    )
}

/// The port of `Server listening on 127.0.0.1 port 2222.`
fn listening(line: &str) -> Option<u16> {
    let (_, port) = line.split_once("Server listening on 127.0.0.1 port ")?;
    port.trim_end_matches(['.', '\r']).parse().ok()
}

/// sshd cannot be told to take any free port.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

fn make_key(path: &Path) -> Result<(), Failure> {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "towline-demo", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .context("cannot run ssh-keygen (Debian package openssh-client)")?;
    match made.success() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Internal,
            anyhow!("ssh-keygen cannot make {}", path.display()),
        )),
    }
}

/// The public half of a key: a line.
fn public(key: &Path) -> Result<String, Failure> {
    read(&key.with_extension("pub"))
}

fn read(path: &Path) -> Result<String, Failure> {
    Ok(fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
}

/// The name of whoever runs the demonstration: the server's users come in by it.
fn user() -> Result<String, Failure> {
    let output = Command::new("id").arg("-un").output();
    let output = output.context("cannot run id")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_serves_one_repository_and_opens_no_shell() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        fs::write(key.with_extension("pub"), "ssh-ed25519 AAAA it\n").unwrap();
        let file = allowed(dir.path(), Path::new("/srv/a repo"), &[&key, &key]).unwrap();
        let text = fs::read_to_string(file).unwrap();
        let line = "restrict,command=\"borg serve --restrict-to-repository '/srv/a repo'\" ssh-ed25519 AAAA it\n";
        assert_eq!(text, line.repeat(2));
    }

    #[test]
    fn the_port_is_found_in_sshds_line() {
        let line = "Server listening on 127.0.0.1 port 40000.";
        assert_eq!(listening(line), Some(40000));
        assert_eq!(listening("Server listening on :: port 22."), None);
    }
}
