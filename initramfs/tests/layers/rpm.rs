//! rpm packages, made by rpmbuild in each form that distributions use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use towline_initramfs::build::{self, Options};
use towline_initramfs::content::Spool;
use towline_initramfs::filter::Filter;
use towline_initramfs::rpm::{self, Names, RpmError};
use towline_initramfs::stored;
use towline_initramfs::tree::{Node, Tree};

use crate::support::{Workshop, messages, output};

const SPEC: &str = r#"
%global __os_install_post %{nil}
%global debug_package %{nil}
Name: agent
Epoch: 2
Version: 1.5
Release: 3.el9
Summary: An agent
License: MIT
AutoReqProv: no
%description
An agent.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/agent %{buildroot}/usr/share/agent %{buildroot}/var/lib/agent %{buildroot}/usr/share/man/man1
printf '#!/bin/sh\n' >%{buildroot}/usr/bin/agent
printf '#!/bin/sh\n' >%{buildroot}/usr/bin/pinger
printf 'of the daemon\n' >%{buildroot}/etc/agent/conf
printf 'one and the same\n' >%{buildroot}/usr/share/agent/one
ln %{buildroot}/usr/share/agent/one %{buildroot}/usr/share/agent/two
ln -s ../share/agent/one %{buildroot}/usr/bin/link
printf 'a manual\n' >%{buildroot}/usr/share/man/man1/agent.1
%post
touch MARKER
%files
%attr(4755,root,root) /usr/bin/agent
%caps(cap_net_raw=ep) %attr(0755,root,root) /usr/bin/pinger
%attr(0640,daemon,adm) /etc/agent/conf
%attr(-,stranger,root) /usr/bin/link
/usr/share/agent
%dir %attr(0700,root,root) /var/lib/agent
%ghost /var/log/agent.log
/usr/share/man/man1/agent.1
"#;

/// What rpmbuild makes of the specification: the only package below the folder of this kind.
fn package(workshop: &Workshop, kind: &str, spec: &str, payload: &str) -> PathBuf {
    let spec = spec.replace("MARKER", workshop.path("ran").to_str().unwrap());
    workshop.write("agent.spec", spec);
    let top = workshop.path("rpmbuild");
    let _ = fs::remove_dir_all(&top);
    output(
        Command::new("rpmbuild")
            .args([kind, "--quiet", "--target", "x86_64-linux", "--define"])
            .arg(format!("_topdir {}", top.display()))
            .args([
                "--define",
                &format!("_binary_payload {payload}"),
                "agent.spec",
            ])
            .current_dir(workshop.dir.path()),
    );
    let folder = match kind {
        "-bs" => top.join("SRPMS"),
        _ => top.join("RPMS/x86_64"),
    };
    let found = fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let place = workshop.path("agent.rpm");
    fs::copy(found, &place).unwrap();
    place
}

fn recipe(more: &str) -> String {
    format!(
        "kind = \"base\"\nname = \"test\"\nversion = \"${{package.agent}}\"\nform = \"files\"\nlevel = 1\n\
         from-earlier-layers = [\"/**\"]\n\
         [[source]]\ntype = \"file\"\npath = \"etc/passwd\"\ncontent = \"root:x:0:0:::\\ndaemon:x:1:1:::\\n\"\n\
         [[source]]\ntype = \"file\"\npath = \"etc/group\"\ncontent = \"root:x:0:\\nadm:x:4:\\n\"\n\
         [[source]]\ntype = \"rpm\"\nfiles = [\"agent.rpm\"]\n{more}"
    )
}

/// Names, modes, owners and groups of a layer's entries, and where links point.
fn entries(layer: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    stored::list(layer, |entry, target| {
        rows.push(format!(
            "{} {:o} {}:{} {}{}",
            entry.display_name(),
            entry.mode,
            entry.uid,
            entry.gid,
            entry.links,
            String::from_utf8_lossy(target)
        ));
    })
    .unwrap();
    rows
}

fn refusal(workshop: &Workshop) -> String {
    messages(&workshop.build(&recipe("")).unwrap_err())
}

#[test]
fn packages_of_every_compression_give_the_same_entries_as_the_package_says() {
    let workshop = Workshop::new();
    for payload in ["w9.gzdio", "w2.xzdio", "w3.zstdio", "w9.bzdio"] {
        package(&workshop, "-bb", SPEC, payload);
        let mut said = Vec::new();
        let options = Options {
            out: workshop.path("out"),
            cache: workshop.path("cache"),
            fetch_wait: None,
        };
        let recipe = workshop
            .parse(&recipe("exclude = [\"usr/share/man\"]\n"))
            .unwrap();
        let built = build::build(&recipe, &options, &mut |it| said.push(it.to_owned())).unwrap();
        stored::verify(&built.layer, &built.manifest, &[]).unwrap();
        let rows = entries(&built.layer);
        for row in [
            "usr/bin/agent 104755 0:0 1",
            "usr/bin/pinger 100755 0:0 1",
            "usr/bin/link 120777 0:0 1../share/agent/one",
            "etc/agent/conf 100640 1:4 1",
            "usr/share/agent 40755 0:0 2",
            "usr/share/agent/one 100644 0:0 2",
            "usr/share/agent/two 100644 0:0 2",
            "var/lib/agent 40700 0:0 2",
        ] {
            let found = rows.iter().any(|it| it.starts_with(row));
            assert!(found, "{payload}: {row} is not in {rows:#?}");
        }
        assert!(
            !rows
                .iter()
                .any(|row| row.contains("man1") || row.contains("agent.log"))
        );
        let package = &built.manifest.packages[0];
        assert_eq!(
            (
                package.name.as_str(),
                package.version.as_str(),
                package.architecture.as_str()
            ),
            ("agent", "2:1.5-3.el9", "x86_64")
        );
        assert_eq!(built.manifest.version, "2:1.5-3.el9");
        let said = said.join("\n");
        assert!(
            said.contains("usr/bin/pinger comes without its capabilities (cap_net_raw=ep)"),
            "{said}"
        );
        assert!(
            said.contains("what belongs to stranger becomes root's"),
            "{said}"
        );
    }
    assert!(!workshop.path("ran").exists(), "its script was not run");
}

/// What the package's files hold, by path, without those that `exclude` matches.
fn contents(path: &Path, exclude: &[&str]) -> Result<BTreeMap<String, String>, RpmError> {
    let exclude: Vec<_> = exclude.iter().map(|glob| (*glob).to_owned()).collect();
    let filter = Filter::new(&[], &exclude).unwrap();
    let (mut spool, mut tree) = (Spool::new().unwrap(), Tree::new());
    let (names, notes) = (Names::default(), &mut Vec::new());
    rpm::unpack(
        path,
        &names,
        &filter,
        &mut spool,
        &mut tree,
        &mut |_| {},
        notes,
    )?;
    let files = tree.iter().filter_map(|(path, entry)| match &entry.node {
        Node::File(content) => {
            let text = String::from_utf8(content.read().unwrap()).unwrap();
            Some((String::from_utf8(path.to_vec()).unwrap(), text))
        }
        _ => None,
    });
    Ok(files.collect())
}

#[test]
fn a_packages_files_have_their_contents_whichever_of_their_names_are_left_out() {
    let workshop = Workshop::new();
    let path = package(&workshop, "-bb", SPEC, "w1.gzdio");
    let all = contents(&path, &[]).unwrap();
    let files = [
        ("etc/agent/conf", "of the daemon\n"),
        ("usr/bin/agent", "#!/bin/sh\n"),
        ("usr/bin/pinger", "#!/bin/sh\n"),
        ("usr/share/agent/one", "one and the same\n"),
        ("usr/share/agent/two", "one and the same\n"),
    ];
    for (path, text) in files {
        assert_eq!(all[path], text, "{path}");
    }
    for (gone, stays) in [("one", "two"), ("two", "one")] {
        let gone = format!("usr/share/agent/{gone}");
        let left = contents(&path, &[&gone]).unwrap();
        assert!(!left.contains_key(&gone));
        let stays = &left[&format!("usr/share/agent/{stays}")];
        assert_eq!(stays, "one and the same\n", "without {gone}");
    }
}

#[test]
fn programs_are_taken_out_of_packages_with_their_libraries() {
    let workshop = Workshop::new();
    let spec = SPEC
        .replace("printf '#!/bin/sh\\n' >%{buildroot}/usr/bin/agent", "cp /bin/true %{buildroot}/usr/bin/agent\nmkdir -p %{buildroot}/lib64 %{buildroot}/usr/lib\ncp /lib64/ld-linux-x86-64.so.2 %{buildroot}/lib64\ncp /lib/x86_64-linux-gnu/libc.so.6 %{buildroot}/usr/lib")
        .replace("%ghost", "/lib64/*\n/usr/lib/libc.so.6\n%ghost");
    package(&workshop, "-bb", &spec, "w1.gzdio");
    let built = workshop.build(&recipe(
        "programs = [\"/usr/bin/agent\"]\nprivate = \"usr/lib/agent\"\ninclude = [\"etc/agent\"]\n",
    ));
    let rows = entries(&built.unwrap().layer);
    let names: Vec<_> = rows
        .iter()
        .map(|row| row.split(' ').next().unwrap())
        .collect();
    for name in [
        "usr/bin/agent",
        "usr/lib/agent/agent",
        "usr/lib/agent/lib/libc.so.6",
        "usr/lib/agent/lib/ld-linux-x86-64.so.2",
        "etc/agent/conf",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(!names.contains(&"usr/bin/pinger"), "{names:?}");
}

#[test]
fn a_damaged_or_cut_rpm_package_is_refused() {
    let workshop = Workshop::new();
    let path = package(&workshop, "-bb", SPEC, "w3.zstdio");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, damaged).unwrap();
    let text = refusal(&workshop);
    assert!(
        text.contains("agent.rpm is damaged") && text.contains("its header says"),
        "{text}"
    );
    for length in (0..whole.len()).step_by(251) {
        fs::write(&path, &whole[..length]).unwrap();
        let text = refusal(&workshop);
        assert!(text.contains("agent.rpm"), "{length}: {text}");
    }
}

/// Changes the number of a tag of one value, by its line in an index.
fn rename(package: &mut [u8], tag: u32, kind: u32, other: u32) {
    let line = [tag.to_be_bytes(), kind.to_be_bytes()].concat();
    let at = package.windows(8).position(|it| it == line).unwrap();
    package[at..at + 4].copy_from_slice(&other.to_be_bytes());
}

/// Numbers of tags and types (rpm's `rpmtag.h`).
const HEADER_DIGEST: u32 = 273;
const PAYLOAD_DIGEST_ALGORITHM: u32 = 5093;
const INT32: u32 = 4;
const STRING: u32 = 6;

#[test]
fn a_header_of_an_rpm_package_that_was_changed_is_refused() {
    let workshop = Workshop::new();
    let path = package(&workshop, "-bb", SPEC, "w1.gzdio");
    let mut changed = fs::read(&path).unwrap();
    let at = changed.windows(8).rposition(|it| it == b"stranger");
    changed[at.unwrap()..][..8].copy_from_slice(b"arranger");
    fs::write(&path, &changed).unwrap();
    let text = refusal(&workshop);
    assert!(text.contains("SHA-256 of its header is"), "{text}");
    // Packages of before rpm 4.14 have no such digest, and are taken.
    rename(&mut changed, HEADER_DIGEST, STRING, HEADER_DIGEST + 500);
    fs::write(&path, &changed).unwrap();
    workshop.build(&recipe("")).unwrap();
}

#[test]
fn a_digest_of_a_packages_files_by_an_unknown_algorithm_is_refused() {
    let workshop = Workshop::new();
    let path = package(&workshop, "-bb", SPEC, "w1.gzdio");
    let mut changed = fs::read(&path).unwrap();
    rename(&mut changed, HEADER_DIGEST, STRING, HEADER_DIGEST + 500);
    rename(&mut changed, PAYLOAD_DIGEST_ALGORITHM, INT32, 5999);
    fs::write(&path, &changed).unwrap();
    let text = refusal(&workshop);
    assert!(
        text.contains("by no algorithm, and known is algorithm 8"),
        "{text}"
    );
}

#[test]
fn any_bytes_in_the_headers_of_an_rpm_package_are_read_or_refused() {
    let workshop = Workshop::new();
    let path = package(&workshop, "-bb", SPEC, "w1.gzdio");
    let mut whole = fs::read(&path).unwrap();
    // Without its digest, so that what was changed is looked at.
    rename(&mut whole, HEADER_DIGEST, STRING, HEADER_DIGEST + 500);
    let payload = whole.windows(2).rposition(|it| it == [0x1F, 0x8B]).unwrap();
    let mut refused = 0;
    for at in (0..payload).step_by(7) {
        for value in [0, 0x7F, 0xFF] {
            let mut changed = whole.clone();
            changed[at..(at + 4).min(payload)].fill(value);
            fs::write(&path, changed).unwrap();
            let (mut spool, mut tree) = (Spool::new().unwrap(), Tree::new());
            let (names, filter) = (Names::default(), Filter::default());
            // Some bytes mean nothing; no byte may end the program.
            let read = rpm::unpack(
                &path,
                &names,
                &filter,
                &mut spool,
                &mut tree,
                &mut |_| {},
                &mut Vec::new(),
            );
            refused += usize::from(read.is_err());
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn what_is_no_rpm_package_with_files_is_refused_with_the_reason() {
    let workshop = Workshop::new();
    package(&workshop, "-bs", SPEC, "w1.gzdio");
    let text = refusal(&workshop);
    assert!(text.contains("it is a source package"), "{text}");
    workshop.write("agent.rpm", [b'x'; 4096]);
    let text = refusal(&workshop);
    assert!(
        text.contains("no usable rpm package: it does not begin as one"),
        "{text}"
    );
    let endless = [
        &[0xED, 0xAB, 0xEE, 0xDB][..],
        &[0; 92],
        &[0x8E, 0xAD, 0xE8, 1],
        &[0xFF; 12],
    ];
    workshop.write("agent.rpm", endless.concat());
    let text = refusal(&workshop);
    assert!(text.contains("4294967295 tags"), "{text}");
}
