//! Layers that a kernel can read, by its configuration.

use std::fs;
use std::io::Write as _;

use towline_contract::manifest::{Compression, Manifest};
use towline_initramfs::build::{BuildError, Built};
use towline_initramfs::content::Spool;
use towline_initramfs::kernel::{Kernel, Reads};
use towline_initramfs::stored;

use crate::kernel::kernel_package;
use crate::support::{Workshop, directory_recipe, messages};

/// The options of a kernel from before Linux 5.9, without zstd.
const OLD: &str = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\nCONFIG_RD_XZ=y\nCONFIG_SQUASHFS=m\n";
const NEW: &str =
    "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\nCONFIG_SQUASHFS_ZSTD=y\n";
const NONE: &str = "CONFIG_BLK_DEV_INITRD=y\n# CONFIG_RD_GZIP is not set\n";

/// Builds a layer of one file for the kernel of this configuration.
fn built(config: &str, more: &str) -> Result<Built, BuildError> {
    let workshop = Workshop::new();
    workshop.write("tree/etc/motd", "hello\n".repeat(100));
    workshop.write("config", config);
    let built = workshop.build(&directory_recipe(&format!(
        "for-kernel = \"config\"\n{more}"
    )));
    if let Ok(built) = &built {
        stored::verify(&built.layer, &built.manifest, &[]).unwrap();
    }
    built
}

fn refusal(config: &str, more: &str) -> String {
    let refused = built(config, more).unwrap_err();
    let next = match &refused {
        BuildError::Unread { instead, .. } => instead.clone(),
        _ => String::new(),
    };
    format!("{}; {next}", messages(&refused))
}

#[test]
fn the_best_compression_that_the_kernel_reads_is_taken() {
    for (config, best) in [
        (NEW, Compression::Zstd),
        (OLD, Compression::Gzip),
        (NONE, Compression::None),
    ] {
        let manifest = built(config, "").unwrap().manifest;
        assert_eq!(manifest.compression, best, "{config}");
        assert!(manifest.provides.modules.is_empty(), "a base has no kernel");
    }
    // One that it reads may be named, and a level that gzip does not have is its highest.
    let manifest = built(NEW, "compression = \"gzip\"").unwrap().manifest;
    assert_eq!(manifest.compression, Compression::Gzip);
    let recipe = directory_recipe("for-kernel = \"config\"").replace("level = 3", "level = 19");
    let workshop = Workshop::new();
    workshop.write("tree/etc/motd", "hello\n");
    workshop.write("config", OLD);
    let manifest = workshop.build(&recipe).unwrap().manifest;
    assert_eq!(manifest.compression, Compression::Gzip);
}

#[test]
fn a_compression_that_the_kernel_does_not_read_is_refused_with_its_option_and_the_one_to_take() {
    let said = refusal(OLD, "compression = \"zstd\"");
    for word in [
        "compression = \"zstd\"",
        "config, which has no CONFIG_RD_ZSTD",
        "taken: gzip",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = refusal(NONE, "compression = \"gzip\"");
    assert!(
        said.contains("CONFIG_RD_GZIP") && said.contains("taken: none"),
        "{said}"
    );
    let said = refusal("CONFIG_RD_ZSTD=y\n", "");
    assert!(said.contains("no CONFIG_BLK_DEV_INITRD"), "{said}");
    let said = refusal("hello\n", "");
    assert!(said.contains("neither a kernel layer"), "{said}");
}

#[test]
fn an_image_that_the_kernel_cannot_mount_is_refused() {
    let workshop = Workshop::new();
    workshop.write("tree/etc/motd", "hello\n");
    let image = directory_recipe("for-kernel = \"config\"").replace("\"files\"", "\"image\"");
    workshop.write("config", OLD);
    let refused = messages(&workshop.build(&image).unwrap_err());
    assert!(refused.contains("CONFIG_SQUASHFS_ZSTD"), "{refused}");
    workshop.write("config", NEW);
    let manifest = workshop.build(&image).unwrap().manifest;
    assert_eq!(manifest.compression, Compression::None);
}

#[test]
fn what_goes_onto_the_target_is_never_the_kernels_to_unpack() {
    let workshop = Workshop::new();
    workshop.write("tree/opt/agent", "hello\n");
    workshop.write("config", OLD);
    let more = "for-kernel = \"config\"\nplacement = \"target\"";
    let recipe = directory_recipe(more).replace("\"base\"", "\"agent\"");
    let manifest = workshop.build(&recipe).unwrap().manifest;
    assert_eq!(manifest.compression, Compression::Zstd);
}

fn kernel_recipe(more: &str) -> String {
    format!(
        "kind = \"kernel\"\nname = \"own\"\nversion = \"${{kernel.release}}\"\nform = \"files\"\nlevel = 3\n{more}\n\
         [[source]]\ntype = \"kernel\"\nfile = \"linux.deb\"\nmodules = [\"dca\"]\n"
    )
}

/// The manifest of a kernel layer whose package has these files too.
fn kernel_layer(workshop: &Workshop, more: &[(&str, &[u8])]) -> Result<Manifest, BuildError> {
    kernel_package(workshop, more);
    workshop.build(&kernel_recipe("")).map(|it| it.manifest)
}

#[test]
fn a_kernel_layer_says_what_its_kernel_reads_and_is_made_so_that_it_can() {
    for path in [
        "./boot/config-6.1.0-9-amd64",
        "./lib/modules/6.1.0-9-amd64/config",
    ] {
        let workshop = Workshop::new();
        let manifest = kernel_layer(&workshop, &[(path, OLD.as_bytes())]).unwrap();
        assert_eq!(manifest.compression, Compression::Gzip, "{path}");
        let modules = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_GZIP", "dca", "ext9"];
        assert_eq!(manifest.provides.modules, modules);
        assert_eq!(
            Reads::of_manifest(&manifest),
            Reads::of_config(OLD.as_bytes())
        );

        // The layer stands for its kernel.
        workshop.write("tree/etc/motd", "hello\n");
        let layer = "out/kernel-own-6.1.0-9-amd64-amd64.layer";
        let agent = directory_recipe(&format!("for-kernel = \"{layer}\""));
        let agent = workshop.build(&agent).unwrap().manifest;
        assert_eq!(agent.compression, Compression::Gzip);
    }
}

#[test]
fn a_kernel_whose_configuration_is_nowhere_or_another_kernels_says_nothing() {
    for more in [
        &[][..],
        &[("./boot/config-6.1.0-8-amd64", OLD.as_bytes())],
        &[("./boot/config-6.1.0-9-amd64", b"\0\xFF")],
    ] {
        let workshop = Workshop::new();
        let manifest = kernel_layer(&workshop, more).unwrap();
        assert_eq!(manifest.compression, Compression::Zstd);
        assert_eq!(Reads::of_manifest(&manifest), None);
        let layer = "out/kernel-own-6.1.0-9-amd64-amd64.layer";
        workshop.write("tree/etc/motd", "hello\n");
        let agent = workshop.build(&directory_recipe(&format!("for-kernel = \"{layer}\"")));
        let refused = messages(&agent.unwrap_err());
        assert!(
            refused.contains("does not say what its kernel reads"),
            "{refused}"
        );
    }
}

#[test]
fn a_configuration_that_is_given_stands_for_the_kernels_own_where_that_is_nowhere() {
    let own = ("./boot/config-6.1.0-9-amd64", NEW.as_bytes());
    for (with, reads, best) in [
        (&[][..], OLD, Compression::Gzip),
        (&[own], NEW, Compression::Zstd),
    ] {
        let workshop = Workshop::new();
        kernel_package(&workshop, with);
        workshop.write("config", OLD);
        let recipe = kernel_recipe("for-kernel = \"config\"");
        let manifest = workshop.build(&recipe).unwrap().manifest;
        assert_eq!(manifest.compression, best);
        assert_eq!(
            Reads::of_manifest(&manifest),
            Reads::of_config(reads.as_bytes())
        );
    }
}

#[test]
fn a_layer_of_another_kind_is_no_kernel() {
    let workshop = Workshop::new();
    workshop.write("tree/etc/motd", "hello\n");
    let base = workshop.build(&directory_recipe("")).unwrap();
    let base = base.layer.file_name().unwrap().to_str().unwrap();
    let recipe = directory_recipe(&format!("for-kernel = \"out/{base}\""));
    let refused = messages(&workshop.build(&recipe).unwrap_err());
    assert!(refused.contains("of kind base"), "{refused}");
}

#[test]
fn a_kernel_without_its_package_has_its_configuration_from_what_has_its_modules() {
    let workshop = Workshop::new();
    workshop.write("rescue/boot/config-5.3.18-sle", OLD);
    let (image, initrd) = crate::kernel::loose(&workshop, "5.3.18-sle", &["5.3.18-sle"]);
    let kind = towline_initramfs::kernel::ModulesIn::Initramfs;
    let kernel = Kernel::loose(&image, kind, &initrd, &mut Spool::new().unwrap()).unwrap();
    assert_eq!(kernel.reads, Reads::of_config(OLD.as_bytes()));
    fs::remove_file(workshop.path("rescue/boot/config-5.3.18-sle")).unwrap();
    let (image, initrd) = crate::kernel::loose(&workshop, "5.3.18-sle", &["5.3.18-sle"]);
    let open = || Kernel::loose(&image, kind, &initrd, &mut Spool::new().unwrap()).unwrap();
    assert_eq!(open().reads, None);
    // Or it is built into the image.
    let mut built_in = fs::read(&image).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(OLD.as_bytes()).unwrap();
    built_in.extend([b"IKCFG_ST".to_vec(), gzip.finish().unwrap()].concat());
    fs::write(&image, built_in).unwrap();
    assert_eq!(open().reads, Reads::of_config(OLD.as_bytes()));
}
