//! What the tree resolves and refuses.

use std::sync::Arc;

use towline_initramfs::content::Content;
use towline_initramfs::tree::{Entry, Meta, Node, Tree, TreeError};

fn file(tree: &mut Tree, path: &str) -> Result<Vec<u8>, TreeError> {
    tree.file(
        path.as_bytes(),
        Meta::root(0o644),
        Content::from_bytes(*b"x"),
    )
}

fn directory(tree: &mut Tree, path: &str) -> Result<Vec<u8>, TreeError> {
    let node = Node::Directory { implied: false };
    tree.insert(
        path.as_bytes(),
        Entry {
            meta: Meta::root(0o755),
            node,
        },
    )
}

fn link(tree: &mut Tree, path: &str, target: &str) {
    tree.symlink(path.as_bytes(), Meta::root(0o777), target.as_bytes())
        .unwrap();
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.iter()
        .map(|(path, _)| String::from_utf8(path.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_packages_directory_does_not_replace_the_link_of_a_merged_usr() {
    let mut tree = Tree::new();
    link(&mut tree, "lib", "usr/lib");
    directory(&mut tree, "./lib/").unwrap();
    assert_eq!(
        file(&mut tree, "./lib/udev/rules.d/62-rear.rules").unwrap(),
        b"usr/lib/udev/rules.d/62-rear.rules"
    );
    assert!(matches!(tree.get(b"lib").unwrap().node, Node::Symlink(_)));
    assert_eq!(
        paths(&tree),
        [
            "lib",
            "usr",
            "usr/lib",
            "usr/lib/udev",
            "usr/lib/udev/rules.d",
            "usr/lib/udev/rules.d/62-rear.rules"
        ]
    );
}

#[test]
fn every_parent_comes_before_what_lies_in_it_whatever_the_names() {
    let mut tree = Tree::new();
    for path in ["a/b/c", "a-b/c", "a.b/c", "a/b-c", "a/b.c/d"] {
        file(&mut tree, path).unwrap();
    }
    let paths = paths(&tree);
    for path in &paths {
        if let Some((parent, _)) = path.rsplit_once('/') {
            let place = |wanted: &str| paths.iter().position(|path| path == wanted).unwrap();
            assert!(
                place(parent) < place(path),
                "{parent} must come before {path}"
            );
        }
    }
}

#[test]
fn a_link_cannot_lead_out_of_the_root() {
    let mut tree = Tree::new();
    link(&mut tree, "out", "../../../etc");
    link(&mut tree, "absolute", "/etc");
    assert_eq!(file(&mut tree, "out/passwd").unwrap(), b"etc/passwd");
    assert_eq!(file(&mut tree, "absolute/group").unwrap(), b"etc/group");
}

#[test]
fn a_path_with_dot_dot_is_refused() {
    let refused = file(&mut Tree::new(), "etc/../../passwd");
    assert!(matches!(refused, Err(TreeError::Path(_))));
}

#[test]
fn a_circle_of_links_is_refused() {
    let mut tree = Tree::new();
    link(&mut tree, "a", "b");
    link(&mut tree, "b", "a");
    assert!(matches!(
        file(&mut tree, "a/file"),
        Err(TreeError::Links(_))
    ));
}

#[test]
fn a_file_cannot_take_the_place_of_a_directory_nor_be_a_parent() {
    let mut tree = Tree::new();
    file(&mut tree, "etc/rear/local.conf").unwrap();
    assert!(matches!(
        file(&mut tree, "etc/rear"),
        Err(TreeError::Clash { .. })
    ));
    assert!(matches!(
        directory(&mut tree, "etc/rear/local.conf"),
        Err(TreeError::Clash { .. })
    ));
    assert!(matches!(
        file(&mut tree, "etc/rear/local.conf/x"),
        Err(TreeError::Parent { .. })
    ));
}

#[test]
fn a_hard_link_to_nothing_is_refused_and_one_to_a_file_shares_it() {
    let mut tree = Tree::new();
    file(&mut tree, "usr/bin/bzip2").unwrap();
    tree.hardlink(b"usr/bin/bunzip2", b"./usr/bin/bzip2")
        .unwrap();
    let content = |path: &[u8]| match &tree.get(path).unwrap().node {
        Node::File(content) => Arc::as_ptr(content),
        _ => panic!("a file"),
    };
    assert_eq!(content(b"usr/bin/bzip2"), content(b"usr/bin/bunzip2"));
    assert!(matches!(
        tree.hardlink(b"x", b"nowhere"),
        Err(TreeError::Hardlink { .. })
    ));
}

#[test]
fn a_directory_stays_while_something_that_is_kept_lies_in_it() {
    let mut tree = Tree::new();
    for path in [
        "usr/share/doc/rear/copyright",
        "usr/share/doc/rear/README",
        "usr/share/doc-base/x",
        "usr/share/man/y",
    ] {
        file(&mut tree, path).unwrap();
    }
    tree.retain(|path, _| path.ends_with(b"copyright"));
    assert_eq!(
        paths(&tree),
        [
            "usr",
            "usr/share",
            "usr/share/doc",
            "usr/share/doc/rear",
            "usr/share/doc/rear/copyright"
        ]
    );
}

#[test]
fn a_directory_that_was_only_implied_takes_the_owner_it_is_given_later() {
    let mut tree = Tree::new();
    file(&mut tree, "root/.ssh/config").unwrap();
    let node = Node::Directory { implied: false };
    tree.insert(
        b"root",
        Entry {
            meta: Meta::root(0o700),
            node: node.clone(),
        },
    )
    .unwrap();
    tree.insert(
        b"root",
        Entry {
            meta: Meta::root(0o777),
            node,
        },
    )
    .unwrap();
    assert_eq!(tree.get(b"root").unwrap().meta.mode, 0o700);
}

#[test]
fn a_link_to_its_own_name_in_the_other_half_of_a_merged_usr_leads_to_itself() {
    let mut tree = Tree::new();
    tree.symlink(b"lib", Meta::root(0o777), b"usr/lib").unwrap();
    for target in ["../../../lib/systemd/udevd", "/lib/systemd/udevd", "udevd"] {
        let circle = tree.leads_to_itself(b"usr/lib/systemd/udevd", target.as_bytes());
        assert!(circle, "{target}");
    }
    assert!(!tree.leads_to_itself(b"lib/systemd/udevd", b"/bin/udevadm"));
    assert!(!tree.leads_to_itself(b"lib/udevd", b"systemd/udevd"));
}

#[test]
fn what_lies_in_a_directory_that_is_split_off_goes_with_it() {
    let mut tree = Tree::new();
    for path in ["lib/modules/one.ko", "lib/modules-load.d/one.conf"] {
        file(&mut tree, path).unwrap();
    }
    // As `lib/modules**` matches: names in one directory.
    let taken = tree.split(|path| path == b"lib/modules");
    assert_eq!(paths(&taken), ["lib", "lib/modules", "lib/modules/one.ko"]);
    assert_eq!(
        paths(&tree),
        ["lib", "lib/modules-load.d", "lib/modules-load.d/one.conf"]
    );
}
