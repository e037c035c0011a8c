//! A site whose machines boot the payload.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::prepare::Workshop;

/// A site with its running server.
pub(crate) struct BenchSite {
    dir: PathBuf,
    server: Child,
    /// Ports of HTTPS and plain HTTP.
    pub(crate) https: u16,
    pub(crate) http: u16,
}

impl BenchSite {
    /// Makes the site, publishes `layers` and serves them.
    pub(crate) fn serving(workshop: &Workshop, layers: &[PathBuf]) -> Result<Self> {
        let dir = workshop.dir.join("site");
        let _ = fs::remove_dir_all(&dir);
        let (https, http) = (free_port()?, free_port()?);
        workshop.towline([
            "init",
            "site",
            "--server-name",
            "10.0.2.2",
            "--listen",
            &format!("127.0.0.1:{https}"),
        ])?;
        let config = dir.join("towline.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(
            &config,
            format!("http_listen = \"127.0.0.1:{http}\"\n{text}"),
        )?;
        let mut publish = vec![
            "publish".into(),
            "--config".into(),
            config.clone().into_os_string(),
        ];
        publish.extend(layers.iter().map(|layer| layer.clone().into_os_string()));
        workshop.towline(publish)?;
        let mut server = Command::new(&workshop.towline)
            .arg("serve")
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(server.stderr.take().context("a log")?).lines();
        let listening = log
            .by_ref()
            .map_while(std::result::Result::ok)
            .any(|line| line.contains("listening on http://"));
        anyhow::ensure!(listening, "the server ended before it listened");
        std::thread::spawn(move || log.for_each(drop));
        Ok(Self {
            dir,
            server,
            https,
            http,
        })
    }

    /// Stamps `image` for this site and one server URL.
    pub(crate) fn stamp(&self, workshop: &Workshop, image: &Path, url: &str) -> Result<()> {
        let (root, ca) = (
            self.dir.join("store/metadata/1.root.json"),
            self.dir.join("ca/ca.pem"),
        );
        let words = [
            "media".as_ref(),
            "stamp".as_ref(),
            image.as_os_str(),
            "--server".as_ref(),
            url.as_ref(),
        ];
        let files = [
            "--root".as_ref(),
            root.as_os_str(),
            "--ca".as_ref(),
            ca.as_os_str(),
        ];
        workshop.towline(words.into_iter().chain(files))
    }
}

impl Drop for BenchSite {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
