//! The medium of a drill: a copy, stamped for this site, this host and this drill's server. With a code it is a secret.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use towline_contract::Timestamp;
use towline_contract::limits::ROOT_BYTES_MAX;
use towline_contract::recovery::Code;
use towline_contract::stamp::Settings;
use towline_machine::GUEST_SEES;
use towline_media::area::{AreaError, Image};
use towline_media::settings;

use super::Drill;
use crate::exit::{Exit, Failure};

/// Copies and stamps it.
pub(super) fn stamped(
    drill: &Drill<'_>,
    medium: &Path,
    port: u16,
    code: Option<&Code>,
) -> Result<PathBuf, Failure> {
    let path = drill.scratch.join("medium.iso");
    copy(medium, &path).with_context(|| format!("cannot copy {}", medium.display()))?;
    let settings = settings(drill, port, code)?;
    let image = Image::open_to_stamp(&path).map_err(unusable)?;
    image.stamp(&settings).map_err(unusable)?;
    Ok(path)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    io::copy(&mut File::open(from)?, &mut to)?;
    Ok(())
}

/// What an operator would stamp; the first root, as the oldest medium has it.
fn settings(drill: &Drill<'_>, port: u16, code: Option<&Code>) -> Result<Settings, Failure> {
    let store = &drill.site.store;
    let root = store
        .read(&store.metadata_path("1.root.json"), ROOT_BYTES_MAX)
        .context("cannot read the site's first root")?;
    let root =
        settings::root(&root.unwrap_or_default()).context("the site's first root is refused")?;
    let ca = drill.site.authority().join("ca.pem");
    let pem = fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
    Ok(Settings {
        servers: vec![format!("https://{GUEST_SEES}:{port}")],
        root: Some(root),
        ca: settings::ca(&pem).context("the site's authority is refused")?,
        host: Some(settings::host(drill.host).context("the host's name is refused")?),
        token: code.map(|it| it.to_string().into()),
        stamped: Timestamp::from_second(Timestamp::now().as_second()).ok(),
        ..Settings::default()
    })
}

fn unusable(error: AreaError) -> Failure {
    Failure::new(Exit::Usage, error).next("build a medium: towline media build -o towline.iso")
}
