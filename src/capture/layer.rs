//! The host layer, built into the spool.

use std::path::Path;

use towline_contract::manifest::{Compression, Kind, Manifest, Placement};
use towline_contract::session::Session;
use towline_initramfs::build::{self, Options};
use towline_initramfs::kernel::{INITRAMFS, Reads};
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
        compression: Some(own_kernels_best(Path::new("/"), &release())),
        for_kernel: None,
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

/// The release of the running kernel.
fn release() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// What the host's own kernel unpacks best, by its configuration below `root`: a host that is recovered by a kernel of its own has
/// this one, which is started by kexec and unpacks the layer. zstd when nobody knows, and for one that takes no initramfs: another
/// kernel recovers this host then.
fn own_kernels_best(root: &Path, release: &str) -> Compression {
    let places = [
        format!("boot/config-{release}"),
        format!("lib/modules/{release}/config"),
        "proc/config.gz".to_owned(),
    ];
    let mut found = places
        .iter()
        .filter_map(|it| Reads::of_file(&root.join(it)).ok());
    let found = found.next().filter(|it| it.has(INITRAMFS));
    found.map_or(Compression::Zstd, |it| it.best())
}

/// A session's name: when it was captured, as `20260601t020000z`.
fn version(session: &Session) -> String {
    let letters = session.captured.to_string();
    let letters = letters.chars().filter(|it| !"-:".contains(*it));
    letters.map(|it| it.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_session_is_compressed_by_what_the_hosts_own_kernel_unpacks() {
        let root = tempfile::tempdir().unwrap();
        let best = || own_kernels_best(root.path(), "4.18.0-el8");
        assert_eq!(best(), Compression::Zstd, "nobody knows");
        let old = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n";
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/config.gz"), old).unwrap();
        assert_eq!(best(), Compression::Gzip, "the kernel says it itself");
        fs::remove_file(root.path().join("proc/config.gz")).unwrap();
        let modules = root.path().join("lib/modules/4.18.0-el8");
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        fs::write(modules.join("config"), old).unwrap();
        assert_eq!(best(), Compression::Gzip);
        let config = root.path().join("boot/config-4.18.0-el8");
        fs::write(&config, b"no configuration").unwrap();
        assert_eq!(best(), Compression::Gzip, "the other file counts then");
        fs::write(&config, format!("{old}CONFIG_RD_ZSTD=y\n")).unwrap();
        assert_eq!(best(), Compression::Zstd);
        fs::write(&config, "# CONFIG_BLK_DEV_INITRD is not set\n").unwrap();
        assert_eq!(best(), Compression::Zstd, "never the one that recovers");
        fs::write(&config, "CONFIG_BLK_DEV_INITRD=y\n").unwrap();
        assert_eq!(best(), Compression::None);
    }
}
