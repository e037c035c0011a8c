//! Kernel packages: made here with a C compiler's object files as modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use towline_initramfs::content::Spool;
use towline_initramfs::kernel::{Kernel, KernelError, ModulesIn, Selection};
use towline_initramfs::tree::{Node, Tree};

use crate::deb::{package, tarball};
use crate::support::{Workshop, filter, output};

/// An object file with a `.modinfo` section, as a module has it.
fn module(workshop: &Workshop, name: &str, info: &[&str]) -> Vec<u8> {
    let fields = info
        .iter()
        .map(|field| format!("{field}\\0"))
        .collect::<String>();
    let code = format!(
        "__attribute__((section(\".modinfo\"), used)) static const char info[] = \"license=GPL\\0name={name}\\0{fields}\";\n"
    );
    let source = workshop.write(&format!("{name}.c"), code);
    let object = workshop.path(&format!("{name}.ko"));
    output(
        Command::new("cc")
            .arg("-c")
            .arg("-o")
            .arg(&object)
            .arg(source),
    );
    fs::read(object).unwrap()
}

fn kernel() -> Kernel {
    let workshop = Workshop::new();
    Kernel::open(&kernel_package(&workshop, &[]), &mut Spool::new().unwrap()).unwrap()
}

/// The package of a kernel with a few modules and these files.
pub(crate) fn kernel_package(workshop: &Workshop, more: &[(&str, &[u8])]) -> PathBuf {
    let modules: Vec<(String, Vec<u8>)> = [
        (
            "kernel/drivers/net/ethernet/acme/acme.ko",
            vec!["depends=dca,i2c-algo-bit", "alias=pci:v00001af4d*"],
        ),
        ("kernel/drivers/net/wireless/other.ko", vec!["depends=dca"]),
        ("kernel/drivers/dca/dca.ko", vec!["depends="]),
        ("kernel/drivers/i2c/algos/i2c-algo-bit.ko", vec!["depends="]),
        (
            "kernel/fs/btrfs/btrfs.ko",
            vec!["depends=", "softdep=pre: crypto-crc32c"],
        ),
        (
            "kernel/crypto/crc32c_generic.ko",
            vec!["depends=", "alias=crypto-crc32c"],
        ),
    ]
    .into_iter()
    .map(|(path, info)| {
        let name = path
            .rsplit('/')
            .next()
            .unwrap()
            .trim_end_matches(".ko")
            .replace('-', "_");
        (
            format!("./lib/modules/6.1.0-9-amd64/{path}"),
            module(workshop, &name, &info),
        )
    })
    .collect();
    let builtin = b"kernel/fs/ext9/ext9.ko\n".as_slice();
    let mut files: Vec<(&str, &[u8])> = vec![
        ("./boot/vmlinuz-6.1.0-9-amd64", b"MZ kernel"),
        ("./lib/modules/6.1.0-9-amd64/modules.builtin", builtin),
        ("./lib/modules/6.1.0-9-amd64/modules.order", b""),
        ("./usr/share/doc/linux/copyright", b"GPL"),
    ];
    files.extend(
        modules
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice())),
    );
    files.extend(more);
    workshop.write(
        "linux.deb",
        package(".xz", "linux-image-6.1.0-9-amd64", &tarball(&files)),
    )
}

fn select(
    kernel: &Kernel,
    modules: &[&str],
    without: &[&str],
) -> Result<BTreeSet<String>, KernelError> {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    kernel.select(&Selection {
        modules: owned(modules),
        without: owned(without),
    })
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text(tree: &Tree, path: &str) -> String {
    match &tree.get(path.as_bytes()).expect(path).node {
        Node::File(content) => String::from_utf8(content.read().unwrap()).unwrap(),
        _ => panic!("a file"),
    }
}

#[test]
fn modules_come_with_all_they_depend_on() {
    let kernel = kernel();
    assert_eq!(kernel.release, "6.1.0-9-amd64");
    assert_eq!(
        select(&kernel, &["drivers/net/ethernet"], &[]).unwrap(),
        names(&["acme", "dca", "i2c_algo_bit"])
    );
    assert_eq!(
        select(&kernel, &["acme"], &[]).unwrap(),
        names(&["acme", "dca", "i2c_algo_bit"])
    );
}

#[test]
fn soft_dependencies_are_followed_by_alias() {
    assert_eq!(
        select(&kernel(), &["btrfs"], &[]).unwrap(),
        names(&["btrfs", "crc32c_generic"])
    );
}

#[test]
fn what_is_left_out_still_comes_when_something_needs_it() {
    let kernel = kernel();
    let selected = select(
        &kernel,
        &["drivers/net/**", "drivers/dca"],
        &["drivers/net/wireless", "drivers/dca"],
    )
    .unwrap();
    assert_eq!(selected, names(&["acme", "dca", "i2c_algo_bit"]));
}

#[test]
fn a_name_that_the_kernel_does_not_have_is_refused_and_a_built_in_one_is_not() {
    let kernel = kernel();
    assert!(matches!(
        select(&kernel, &["drivers/gpu"], &[]),
        Err(KernelError::Unknown { .. })
    ));
    assert!(matches!(
        select(&kernel, &["acmee"], &[]),
        Err(KernelError::Unknown { .. })
    ));
    assert_eq!(select(&kernel, &["ext9"], &[]).unwrap(), names(&[]));
}

#[test]
fn the_indexes_name_the_selected_modules_and_no_others() {
    let kernel = kernel();
    let tree = kernel
        .modules(&select(&kernel, &["acme"], &[]).unwrap())
        .unwrap();
    let base = "usr/lib/modules/6.1.0-9-amd64";
    let dep = text(&tree, &format!("{base}/modules.dep"));
    let lines: BTreeSet<&str> = dep
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let wanted = [
        "kernel/drivers/dca/dca.ko",
        "kernel/drivers/i2c/algos/i2c-algo-bit.ko",
        "kernel/drivers/net/ethernet/acme/acme.ko",
    ];
    assert_eq!(lines, BTreeSet::from(wanted));
    assert!(text(&tree, &format!("{base}/modules.alias")).contains("alias pci:v00001af4d* acme"));
    assert!(
        tree.get(format!("{base}/kernel/fs/btrfs/btrfs.ko").as_bytes())
            .is_none()
    );
}

#[test]
fn a_package_without_a_kernel_is_refused() {
    let workshop = Workshop::new();
    let deb = workshop.write(
        "x.deb",
        package(".gz", "x", &tarball(&[("./usr/bin/x", b"x")])),
    );
    let refused = Kernel::open(&deb, &mut Spool::new().unwrap());
    assert!(matches!(refused, Err(KernelError::NoKernel { .. })));
}

#[test]
fn what_a_kernel_provides_are_its_built_in_modules_and_those_in_the_layer() {
    let provided = kernel().provided(&BTreeSet::from(["dca".to_owned()]));
    assert!(provided.contains(&"dca".to_owned()), "{provided:?}");
    assert!(!provided.contains(&"acme".to_owned()), "{provided:?}");
    assert!(provided.is_sorted());
}

/// An initramfs with a module of each of these kernels, and a kernel image that says it is of `release`.
pub(crate) fn loose(workshop: &Workshop, release: &str, of_modules: &[&str]) -> (PathBuf, PathBuf) {
    for of in of_modules {
        let module = module(workshop, "dca", &["depends="]);
        workshop.write(
            &format!("rescue/lib/modules/{of}/kernel/drivers/dca/dca.ko"),
            module,
        );
    }
    workshop.write("rescue/bin/rear", "#!/bin/bash\n");
    let mut pack = Command::new("cpio");
    let pack = pack
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(workshop.path("rescue"));
    let mut find = Command::new("find");
    let list = output(find.arg(".").current_dir(workshop.path("rescue")));
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20E..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    let initrd = workshop.write("initrd", filter(pack, &list));
    (workshop.write("vmlinuz", image), initrd)
}

#[test]
fn a_kernel_image_with_an_initramfs_is_a_kernel_with_its_modules() {
    let workshop = Workshop::new();
    let (image, initrd) = loose(&workshop, "5.14.0-el9", &["5.14.0-el9"]);
    let kernel = Kernel::loose(
        &image,
        ModulesIn::Initramfs,
        &initrd,
        &mut Spool::new().unwrap(),
    )
    .unwrap();
    assert_eq!((&*kernel.release, &kernel.package), ("5.14.0-el9", &None));
    let all = select(&kernel, &["**/*"], &[]).unwrap();
    assert_eq!(all, names(&["dca"]));
    let tree = kernel.modules(&all).unwrap();
    let module = "usr/lib/modules/5.14.0-el9/kernel/drivers/dca/dca.ko";
    assert!(tree.get(module.as_bytes()).is_some());
    assert!(
        tree.get(b"usr/bin/rear").is_none(),
        "only modules are taken"
    );
}

#[test]
fn a_kernel_image_with_the_modules_of_another_kernel_or_of_two_is_refused_with_their_releases() {
    let refusal = |of_modules: &[&str]| {
        let workshop = Workshop::new();
        let (image, initrd) = loose(&workshop, "6.1.0-9", of_modules);
        let refused = Kernel::loose(
            &image,
            ModulesIn::Initramfs,
            &initrd,
            &mut Spool::new().unwrap(),
        );
        refused.unwrap_err().to_string()
    };
    let other = refusal(&["6.1.0-8"]);
    assert!(
        other.contains("6.1.0-9") && other.contains("6.1.0-8"),
        "{other}"
    );
    let two = refusal(&["6.1.0-8", "6.1.0-9"]);
    assert!(
        two.contains("has those of [\"6.1.0-8\", \"6.1.0-9\"]"),
        "{two}"
    );
    assert!(refusal(&[]).ends_with("has none"));
}

#[test]
fn a_kernel_image_with_a_live_image_is_a_kernel_with_its_modules() {
    let workshop = Workshop::new();
    let (image, _) = loose(&workshop, "6.12.30-1-lts", &["6.12.30-1-lts"]);
    let squashfs = workshop.path("live.squashfs");
    let mut pack = Command::new("mksquashfs");
    pack.arg(workshop.path("rescue")).arg(&squashfs);
    output(pack.args(["-comp", "xz", "-quiet", "-no-progress"]));
    let spool = &mut Spool::new().unwrap();
    let kernel = Kernel::loose(&image, ModulesIn::Squashfs, &squashfs, spool).unwrap();
    assert_eq!(kernel.release, "6.12.30-1-lts");
    assert_eq!(select(&kernel, &["dca"], &[]).unwrap(), names(&["dca"]));
}
