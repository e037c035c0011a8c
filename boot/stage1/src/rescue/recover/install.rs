//! An agent that is too large for memory: its installer is fetched, checked and run on the recreated file systems.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use towline_contract::agent::Install;
use towline_contract::digest::Hasher;

use super::agent::Recovering;
use super::commands;
use super::credentials::Credentials;
use super::error::{RecoverError, file};
use crate::clock;
use crate::console::Console;
use crate::fetch::{Client, FetchError, Server, TlsTime};
use crate::progress::Progress as _;

/// The certificate authorities of the chain; vendors' servers have certificates from public ones.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Tries to fetch, each from the byte where the one before ended.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(10);

/// Longest that an installer may run.
const INSTALL_WAIT: Duration = Duration::from_secs(30 * 60);

/// Fetches and runs the installer.
///
/// # Errors
/// It cannot be fetched, is not the one that the recipe means, or fails.
pub(super) async fn install(
    console: &Console,
    it: &Recovering<'_>,
    install: &Install,
    credentials: &Credentials,
    ca: &[String],
) -> Result<(), RecoverError> {
    let folder = it.folder(&install.directory, credentials)?;
    fs::create_dir_all(&folder).map_err(file("make", &folder))?;
    let installer = folder.join("installer");
    console.step(format_args!(
        "fetching the agent's installer {}",
        install.url
    ));
    fetch(console, install, &installer, ca).await?;
    let runnable = fs::set_permissions(&installer, fs::Permissions::from_mode(0o700));
    runnable.map_err(file("make executable", &installer))?;
    console.step(format_args!("installing the agent in {}", folder.display()));
    let command = it.command(&install.command, credentials);
    let command: Vec<_> = command
        .iter()
        .map(|word| {
            word.replace("{installer}", &installer.to_string_lossy())
                .replace("{directory}", &folder.to_string_lossy())
        })
        .collect();
    let environment = it.environment(credentials);
    let ran = commands::run(&command, &environment, INSTALL_WAIT).await;
    let ran = ran.map_err(|cause| RecoverError::Program {
        program: command.first().cloned().unwrap_or_default(),
        cause,
    })?;
    if !ran.success {
        let said = format!("the agent's installer failed: {}", ran.said());
        return Err(RecoverError::Restore { said });
    }
    let _ = fs::remove_file(&installer);
    Ok(())
}

/// Fetches to `path`, and keeps it only if it has the digest.
async fn fetch(
    console: &Console,
    install: &Install,
    path: &Path,
    ca: &[String],
) -> Result<(), RecoverError> {
    let failed = |cause| RecoverError::Fetch {
        url: install.url.clone(),
        cause: Box::new(cause),
    };
    let (server, rest) = split(&install.url).map_err(failed)?;
    let client = client(ca).map_err(failed)?;
    let mut file_at = File::create(path).map_err(file("make", path))?;
    let mut last = FetchError::NoServer;
    for attempt in 0..TRIES {
        if attempt > 0 {
            console.warn(format_args!("{}", crate::failure::joined(&last)));
            tokio::time::sleep(PAUSE).await;
        }
        match pass(console, install, &client, &server, rest, &mut file_at).await {
            Ok(()) => return check(install, path),
            Err(Pass::Fetch(error)) => last = error,
            Err(Pass::File(cause)) => return Err(file("write", path)(cause)),
        }
    }
    Err(failed(last))
}

/// The authorities of the chain and of the site, at this time.
fn client(ca: &[String]) -> Result<Client, FetchError> {
    let mut authorities = ca.to_vec();
    authorities.extend(fs::read_to_string(AUTHORITIES));
    let time = TlsTime::Proven {
        time: clock::now(),
        since: Instant::now(),
    };
    Client::new(&authorities, time)
}

/// Why one pass ended.
enum Pass {
    Fetch(FetchError),
    File(io::Error),
}

async fn pass(
    console: &Console,
    install: &Install,
    client: &Client,
    server: &Server,
    path: &str,
    file: &mut File,
) -> Result<(), Pass> {
    let mut done = file.metadata().map_err(Pass::File)?.len();
    let connection = client.connect(server).await.map_err(Pass::Fetch)?;
    let mut stream = connection.stream(path, done).await.map_err(Pass::Fetch)?;
    while let Some(piece) = stream.next().await.map_err(Pass::Fetch)? {
        done += piece.len() as u64;
        if done > install.bytes_max {
            return Err(Pass::Fetch(FetchError::TooLarge {
                server: server.to_string(),
                path: path.to_owned(),
                max: install.bytes_max,
            }));
        }
        file.write_all(&piece).map_err(Pass::File)?;
        console.transfer("installer", done, install.bytes_max);
    }
    Ok(())
}

fn check(install: &Install, path: &Path) -> Result<(), RecoverError> {
    let mut hasher = Hasher::default();
    let mut file_at = File::open(path).map_err(file("read", path))?;
    let mut piece = vec![0; 64 << 10];
    loop {
        match file_at.read(&mut piece).map_err(file("read", path))? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    let found = hasher.finish();
    if found == install.sha256 {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    let what = format!(
        "the installer from {} has the digest {found}, and the agent's layer wants {}",
        install.url, install.sha256
    );
    let next = "if the vendor has a new one, publish an agent layer that names it";
    Err(RecoverError::refused(what, next))
}

/// A URL in server and path. Only TLS: the digest protects the content, and TLS who asks for it.
fn split(url: &str) -> Result<(Server, &str), FetchError> {
    let bad = || FetchError::Url {
        url: url.to_owned(),
        cause: None,
    };
    let rest = url.strip_prefix("https://").ok_or_else(bad)?;
    let slash = rest.find('/').ok_or_else(bad)?;
    let base = url.len() - rest.len() + slash;
    Ok((Server::parse(&url[..base])?, &url[base..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installer_comes_by_tls_and_from_a_whole_address() {
        let (server, path) = split("https://cdn.example:8443/agent/x.run?v=2").unwrap();
        assert_eq!(
            (server.to_string().as_str(), path),
            ("https://cdn.example:8443", "/agent/x.run?v=2")
        );
        for bad in [
            "http://cdn.example/x.run",
            "https://cdn.example",
            "cdn.example/x",
            "https:///x",
        ] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_installer_than_the_recipes_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("installer");
        fs::write(&path, "evil").unwrap();
        let mut install = Install {
            url: "https://cdn.example/x.run".into(),
            sha256: towline_contract::Digest::of(b"evil"),
            bytes_max: 10,
            directory: "{target}/x".into(),
            command: vec![],
            keep: false,
        };
        assert!(check(&install, &path).is_ok());
        install.sha256 = towline_contract::Digest::of(b"good");
        assert!(check(&install, &path).is_err() && !path.exists());
    }
}
