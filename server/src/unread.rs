//! Whether it matters that the chain's own kernel cannot read a layer: only where that kernel has to, and not stage 1.

use towline_contract::manifest::Manifest;
use towline_initramfs::chain::{self, Unread, Why};

use crate::config::HandOverChoice;
use crate::doctor::Level;

/// What the chain's kernel cannot read and has to, or may have to, when the rescue system is started `how`.
pub(crate) fn unread<'a>(chain: &[&'a Manifest], how: HandOverChoice) -> Vec<(Level, Unread<'a>)> {
    let found = chain::unread(chain).into_iter();
    let matters = found.filter_map(|it| Some((level(it.why, how)?, it)));
    matters.collect()
}

/// How bad it is.
fn level(why: Why, how: HandOverChoice) -> Option<Level> {
    match (why, how) {
        // The medium's kernel, where it is the same, mounts no such image either.
        (Why::Blocks, _) | (_, HandOverChoice::Kexec) => Some(Level::Problem),
        (_, HandOverChoice::InPlace) => None,
        // A medium's own initramfs is zstd: no medium has that kernel, so it is always started by kexec.
        (Why::Zstd(_), HandOverChoice::Auto) => Some(Level::Problem),
        (Why::Gzip(_) | Why::Module(_), HandOverChoice::Auto) => Some(Level::Warning),
    }
}

#[cfg(test)]
mod tests {
    use towline_contract::manifest::{Compression, Image, Kind, Placement};

    use super::*;
    use crate::fixture::manifest;

    const OLD: [&str; 3] = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_GZIP", "ext4"];

    /// What is found of an agent that is compressed so, over a kernel with these options and modules.
    fn found(provided: &[&str], compression: Compression, how: HandOverChoice) -> Vec<Level> {
        let mut agent = manifest(Kind::Agent, "restic", "1");
        agent.compression = compression;
        levels(provided, &agent, how)
    }

    fn levels(provided: &[&str], layer: &Manifest, how: HandOverChoice) -> Vec<Level> {
        let mut kernel = manifest(Kind::Kernel, "old", "1");
        kernel.compression = Compression::None;
        kernel.provides.modules = provided.iter().map(|it| (*it).to_owned()).collect();
        let found = unread(&[&kernel, layer], how);
        found.into_iter().map(|(level, _)| level).collect()
    }

    #[test]
    fn a_layer_that_the_kernel_has_to_unpack_and_cannot_is_a_problem() {
        for how in [HandOverChoice::Kexec, HandOverChoice::Auto] {
            assert_eq!(found(&OLD, Compression::Zstd, how), [Level::Problem]);
            assert_eq!(found(&OLD, Compression::Gzip, how), []);
            assert_eq!(found(&OLD, Compression::None, how), []);
        }
    }

    #[test]
    fn where_stage_1_unpacks_alone_nothing_is_found() {
        assert_eq!(found(&OLD, Compression::Zstd, HandOverChoice::InPlace), []);
        let mut agent = manifest(Kind::Agent, "large", "1");
        agent.placement = Placement::Target;
        assert_eq!(levels(&OLD, &agent, HandOverChoice::Kexec), []);
    }

    #[test]
    fn a_kernel_that_does_not_say_what_it_reads_is_taken_for_one_that_reads_all() {
        let how = HandOverChoice::Kexec;
        assert_eq!(found(&["ext4"], Compression::Zstd, how), []);
        assert_eq!(found(&[], Compression::Zstd, how), []);
    }

    #[test]
    fn a_kernel_of_a_medium_without_gzip_is_a_warning_unless_it_is_always_started_by_kexec() {
        let new = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_ZSTD"];
        let levels = |how| found(&new, Compression::Gzip, how);
        assert_eq!(levels(HandOverChoice::Auto), [Level::Warning]);
        assert_eq!(levels(HandOverChoice::Kexec), [Level::Problem]);
        assert_eq!(levels(HandOverChoice::InPlace), []);
    }

    #[test]
    fn an_image_needs_zstd_in_squashfs_however_started_and_its_modules_by_kexec() {
        let mut base = manifest(Kind::Base, "debian", "1");
        base.compression = Compression::None;
        base.image = Some(Image {
            path: "towline/images/20-base.squashfs".into(),
            bytes: 1,
            content_bytes: 1,
        });
        let modules = ["loop", "overlay", "squashfs"];
        let options = ["CONFIG_BLK_DEV_INITRD", "CONFIG_SQUASHFS_ZSTD"];
        let all = [&options[..], &modules[..]].concat();
        let without = |name: &str| {
            let mut some = all.clone();
            some.retain(|it| *it != name);
            some
        };
        let blocks = without("CONFIG_SQUASHFS_ZSTD");
        for how in [
            HandOverChoice::InPlace,
            HandOverChoice::Auto,
            HandOverChoice::Kexec,
        ] {
            assert_eq!(levels(&all, &base, how), []);
            assert_eq!(levels(&blocks, &base, how), [Level::Problem]);
        }
        for module in modules {
            let some = without(module);
            assert_eq!(levels(&some, &base, HandOverChoice::InPlace), []);
            assert_eq!(levels(&some, &base, HandOverChoice::Auto), [Level::Warning]);
            assert_eq!(
                levels(&some, &base, HandOverChoice::Kexec),
                [Level::Problem]
            );
        }
    }
}
