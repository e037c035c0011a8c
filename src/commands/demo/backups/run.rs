//! An agent that comes as a `.run` installer, made by makeself: its layer names where the installer is fetched and its SHA-256, and
//! it is installed on the recreated disk. Sessions are archives on a server that wants a token.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use towline_contract::Digest;

use super::Backups;
use crate::commands::demo::HOST;
use crate::commands::demo::served::Rclone;
use crate::exit::{Exit, Failure};

/// What the host does.
const SCRIPT: &str = include_str!("run/back-up.sh");
/// The agent itself.
const AGENT: &str = include_str!("run/agent.sh");
/// What its package starts.
const INSTALLER: &str = include_str!("run/installer.sh");

/// The ready recipe that is filled in.
const RECIPE: &str = "agent-run.toml";

/// The package's name on the server.
const PACKAGE: &str = "agent-1.run";

/// Token of the account. It protects a demonstration.
const TOKEN: &str = "only-a-demonstration";

/// Starts the servers of sessions and of installers in `folder`.
pub(super) fn start(folder: &Path, ca: &Path, name: &str) -> Result<Backups, Failure> {
    let downloads = folder.join("downloads");
    let digest = package(folder, &downloads.join("repository"))?;
    let sessions = Rclone {
        protocol: "webdav",
        words: &[],
        // Not in the list of processes.
        environment: &[("RCLONE_USER", HOST), ("RCLONE_PASS", TOKEN)],
    };
    let (sessions, port) = sessions.serve(folder, ca, name)?;
    let installers = Rclone {
        protocol: "webdav",
        words: &["--read-only".into()],
        environment: &[],
    };
    let (installers, installers_port) = installers.serve(&downloads, ca, name)?;
    let url = format!("https://{name}:{installers_port}/{PACKAGE}");
    Ok(Backups {
        servers: vec![sessions, installers],
        variables: format!(
            "AGENT_SERVER=https://{name}:{port}\nAGENT_ACCOUNT={HOST}\nAGENT_TOKEN={TOKEN}\n"
        ),
        script: SCRIPT,
        host: Vec::new(),
        credentials: Vec::new(),
        recipe: Some(recipe(&url, digest)?),
    })
}

/// Makes the package in `downloads`; its digest.
fn package(folder: &Path, downloads: &Path) -> Result<Digest, Failure> {
    let content = folder.join("package");
    for folder in [&content, downloads] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for (name, text) in [("agent", AGENT), ("installer.sh", INSTALLER)] {
        let path = content.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let package = downloads.join(PACKAGE);
    let made = Command::new("makeself")
        .args(["--quiet", "--nox11", "--nomd5", "--sha256"])
        .args([&content, &package])
        .args(["The agent of the demonstration", "sh", "./installer.sh"])
        .stdin(Stdio::null())
        .output()
        .context("cannot run makeself (Debian package makeself)")?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(Failure::new(
            Exit::Internal,
            anyhow!("makeself cannot make {}: {said}", package.display()),
        ));
    }
    let bytes = fs::read(&package).with_context(|| format!("cannot read {}", package.display()))?;
    Ok(Digest::of(&bytes))
}

/// The ready recipe, with what an operator would fill in. Its server's authority is the site's.
fn recipe(url: &str, digest: Digest) -> Result<String, Failure> {
    let ready = towline_initramfs::ready_recipes();
    let bytes = ready.into_iter().find(|(name, _)| *name == RECIPE);
    let (_, bytes) = bytes.with_context(|| format!("there is no ready recipe {RECIPE}"))?;
    let mut recipe: toml::Table = String::from_utf8_lossy(bytes)
        .parse()
        .with_context(|| format!("the ready recipe {RECIPE}"))?;
    let set = |table: Option<&mut toml::Value>, name: &str, value: toml::Value| {
        let table = table.and_then(toml::Value::as_table_mut);
        table.map(|table| table.insert(name.to_owned(), value))
    };
    let authority =
        toml::Table::from_iter([("CURL_CA_BUNDLE".to_owned(), "{credentials}/ca.pem".into())]);
    let agent = recipe.get_mut("agent");
    set(agent, "environment", authority.into()).context("the ready recipe has no agent")?;
    for (name, value) in [("url", url.to_owned()), ("sha256", digest.to_string())] {
        let install = recipe.get_mut("agent").and_then(|it| it.get_mut("install"));
        set(install, name, value.into()).context("the ready recipe has no installer")?;
    }
    Ok(recipe.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_recipe_is_filled_in_as_an_operator_would() {
        let digest = Digest::of(b"package");
        let text = recipe("https://cdn.example/agent-1.run", digest).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let install = &table["agent"]["install"];
        assert_eq!(
            install["url"].as_str(),
            Some("https://cdn.example/agent-1.run")
        );
        assert_eq!(install["sha256"].as_str(), Some(&*digest.to_string()));
        assert!(table["agent"]["environment"]["CURL_CA_BUNDLE"].is_str());
        assert!(table.contains_key("source"));
    }
}
