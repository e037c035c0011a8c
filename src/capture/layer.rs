//! The host layer, built into the spool.

use std::path::Path;

use towline_contract::manifest::{Compression, Kind, Manifest, Placement};
use towline_contract::session::Session;
use towline_initramfs::build::{self, Options};
use towline_initramfs::recipe::{DirectorySource, Form, NumberedSource, Recipe, Source};
use towline_initramfs::stored;

use super::error::CaptureError;
use super::home::Home;

/// Level of zstd: kilobytes, on a host that has other work.
const LEVEL: i32 = 9;

/// Builds the layer of `session` from the tree in `root`; `programs` are those that its layout needs.
///
/// # Errors
/// It cannot be built, or breaks the rules for host layers.
pub(super) fn build(
    home: &Home,
    host: &str,
    root: &Path,
    session: Session,
    programs: Vec<String>,
) -> Result<Manifest, CaptureError> {
    let recipe = Recipe {
        path: root.join("capture"),
        kind: Kind::Host,
        name: host.to_owned(),
        version: version(&session),
        architecture: "all".to_owned(),
        form: Form::Files,
        compression: Compression::Zstd,
        placement: Placement::Ram,
        level: LEVEL,
        time: Some(session.captured),
        exclude: Vec::new(),
        include: Vec::new(),
        strip: Vec::new(),
        plain: Vec::new(),
        from_earlier_layers: Vec::new(),
        programs,
        replaceable: Vec::new(),
        agent: None,
        session: Some(session),
        sources: vec![NumberedSource {
            number: 1,
            line: 1,
            source: Source::Directory(DirectorySource {
                path: root.to_string_lossy().into_owned(),
                to: String::new(),
                exclude: Vec::new(),
                include: Vec::new(),
                keep_modes: false,
            }),
        }],
        permissions: Vec::new(),
        checks: Vec::new(),
        track: None,
        release: None,
    };
    let options = Options {
        out: home.spool_path(),
        cache: home.spool_path(),
        fetch_wait: None,
    };
    let built = build::build(&recipe, &options, &mut |_| {})?;
    if let Err(error) = stored::verify(&built.layer, &built.manifest, &[]) {
        for path in [&built.manifest_file, &built.layer] {
            // What breaks the rules would be refused for ever.
            let _ = std::fs::remove_file(path);
        }
        return Err(error.into());
    }
    Ok(built.manifest)
}

/// A session's name: when it was captured, as `20260601t020000z`.
fn version(session: &Session) -> String {
    let letters = session.captured.to_string();
    let letters = letters.chars().filter(|it| !"-:".contains(*it));
    letters.map(|it| it.to_ascii_lowercase()).collect()
}
