//! What a layer holds is told alike in both forms, and what is not told by its manifest is refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use towline_initramfs::contents::{Held, Part, What, contents};
use towline_initramfs::diff::{Side, diff};
use towline_initramfs::stored::StoredError;

use crate::support::{Workshop, directory_recipe, noise};

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let large = workshop.write("tree/var/large", noise(600_000));
    fs::hard_link(large, workshop.path("tree/var/same")).unwrap();
    let program = workshop.write("tree/usr/bin/program", "#!/bin/sh\n");
    fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    workshop.write("tree/bin/sh", "");
    symlink("program", workshop.path("tree/usr/bin/link")).unwrap();
    workshop
}

/// Paths and entries, without what the two forms cannot tell alike: parts, and which names are one file's.
fn plainly(held: BTreeMap<(Vec<u8>, Part), Held>) -> BTreeMap<Vec<u8>, Held> {
    let plain = |mut held: Held| {
        if let What::File { same_as, .. } = &mut held.what {
            *same_as = None;
        }
        held
    };
    let rows = held.into_iter();
    rows.map(|((path, _), held)| (path, plain(held))).collect()
}

#[test]
fn an_archive_and_an_image_of_one_tree_hold_the_same() {
    let workshop = workshop();
    let files = workshop.build_into("files", &directory_recipe("")).unwrap();
    let image = directory_recipe("").replace("form = \"files\"", "form = \"image\"");
    let image = workshop.build_into("image", &image).unwrap();
    let [archive, squashfs] = [&files, &image].map(|it| contents(&it.layer, &it.manifest).unwrap());
    let same = (b"var/same".to_vec(), Part::Archive);
    let What::File { same_as, .. } = &archive[&same].what else {
        panic!("{archive:?}")
    };
    assert_eq!(same_as.as_deref(), Some(&b"var/large"[..]));
    assert!(squashfs.keys().all(|(_, part)| *part == Part::Image));
    assert_eq!(plainly(archive), plainly(squashfs));
}

#[test]
fn a_layer_differs_from_itself_in_nothing() {
    let workshop = workshop();
    let built = workshop.build(&directory_recipe("")).unwrap();
    let held = contents(&built.layer, &built.manifest).unwrap();
    let side = Side {
        manifest: &built.manifest,
        contents: &held,
    };
    let found = diff(side, side);
    assert!(found.is_none(), "{found:?}");
    assert_eq!(found.files, []);
}

#[test]
fn an_image_with_more_in_it_than_its_manifest_says_is_refused() {
    let workshop = workshop();
    let recipe = directory_recipe("").replace("form = \"files\"", "form = \"image\"");
    let built = workshop.build(&recipe).unwrap();
    let mut manifest = built.manifest.clone();
    manifest.image.as_mut().unwrap().content_bytes = 500_000;
    match contents(&built.layer, &manifest) {
        Err(StoredError::Image { cause, .. }) => {
            assert!(cause.to_string().contains("500000"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}
