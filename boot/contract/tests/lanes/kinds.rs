//! Rules of each kind.

use towline_contract::lanes::{LaneError, LayerItem, LayerReader, Rule};
use towline_contract::manifest::{Kind, Manifest};
use towline_contract::newc::mode;

use crate::archive::{
    Record, bytes, dir, file, image, judge, link, manifest, read, record, with_parents,
};

const ALL: [Kind; 6] = [
    Kind::Kernel,
    Kind::Base,
    Kind::Agent,
    Kind::Host,
    Kind::Credentials,
    Kind::Extra,
];

fn verdict(kind: Kind, record: Record) -> Result<Vec<String>, LaneError> {
    judge(kind, &with_parents(record))
}

fn with_mode(name: &str, mode: u32) -> Record {
    record(name, mode, b"")
}

/// Somewhere each kind may write.
fn home(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel => "lib/modules/x",
        Kind::Base | Kind::Agent | Kind::Extra => "usr/bin/x",
        Kind::Host => "etc/rear/x",
        Kind::Credentials => "run/towline/credentials/x",
    }
}

#[test]
fn a_host_layer_holds_its_rear_state_and_name_only() {
    for name in [
        "etc/hostname",
        "etc/rear/local.conf",
        "var/lib/rear/layout/disklayout.conf",
        "usr/share/rear/lib/a.sh",
        "usr/sbin/rear",
    ] {
        verdict(Kind::Host, file(name)).unwrap();
    }
    for name in [
        "usr/bin/bash",
        "etc/passwd",
        "etc/rearx",
        "etc/rear.conf",
        "var/lib/rearx/a",
        "init",
        "usr/sbin/rearx",
        "bin/sh",
        "towline/images/x",
        "run/towline/credentials/key",
        "etc/hostnames",
        "usr",
    ] {
        let refused = verdict(Kind::Host, file(name)).unwrap_err();
        assert_eq!(refused.rule, Rule::Outside(Kind::Host), "{name}");
    }
}

#[test]
fn a_hosts_links_stay_within_its_own_directories() {
    for (name, target) in [
        ("etc/rear/a", "local.conf"),
        ("etc/rear/a", "/var/lib/rear/layout"),
        ("var/lib/rear/a", "../../../etc/rear/b"),
        ("usr/share/rear/a", "./lib"),
    ] {
        verdict(Kind::Host, link(name, target)).unwrap();
    }
    for (name, target) in [
        ("etc/rear/a", "/etc/shadow"),
        ("etc/rear/a", "../shadow"),
        ("etc/rear/a", "b/../../shadow"),
        ("etc/rear/a", "x/.."), // x may be a link itself
        ("etc/rear/a", "../../../../../etc/rear/x"),
        ("etc/rear/a", "/"),
        ("etc/rear/a", "/etc/rear/../shadow"),
        ("etc/rear", "/etc"),
        ("etc/hostname", "passwd"),
    ] {
        let refused = verdict(Kind::Host, link(name, target)).unwrap_err();
        assert_eq!(
            refused.rule,
            Rule::LinkLeaves(Kind::Host),
            "{name} -> {target}"
        );
    }
}

#[test]
fn only_a_base_layer_has_devices_fifos_sockets_and_set_id_programs() {
    for kind in ALL {
        for file_type in [mode::S_IFBLK, mode::S_IFCHR, mode::S_IFIFO, mode::S_IFSOCK] {
            let found = verdict(kind, with_mode(home(kind), file_type | 0o600));
            assert_eq!(found.is_ok(), kind == Kind::Base, "{kind} {file_type:o}");
        }
        for bit in [mode::S_ISUID, mode::S_ISGID] {
            for file_type in [mode::S_IFREG, mode::S_IFDIR] {
                let found = verdict(kind, with_mode(home(kind), file_type | bit | 0o600));
                assert_eq!(found.is_ok(), kind == Kind::Base, "{kind} {bit:o}");
            }
        }
    }
}

#[test]
fn directories_on_the_way_are_plain_and_nothing_else() {
    for bad in [0o777, 0o700, 0o1755, 0o2755] {
        let records = [with_mode("etc", mode::S_IFDIR | bad)];
        assert_eq!(
            judge(Kind::Host, &records).unwrap_err().rule,
            Rule::Ancestor(Kind::Host)
        );
    }
    let mut owned = dir("etc");
    owned.0.uid = 1000;
    assert_eq!(
        judge(Kind::Host, &[owned]).unwrap_err().rule,
        Rule::Ancestor(Kind::Host)
    );
    assert_eq!(
        judge(Kind::Host, &[link("etc", "var/lib/rear")])
            .unwrap_err()
            .rule,
        Rule::Outside(Kind::Host)
    );
}

#[test]
fn an_agent_layer_keeps_out_of_what_belongs_to_stage_1_the_kernel_and_the_host() {
    for kind in [Kind::Agent, Kind::Extra] {
        for name in [
            "init",
            "dev/null",
            "proc/x",
            "sys/x",
            "etc/rear/site.conf",
            "run/towline/handover.json",
            "towline/stamp",
            "towline/images/10-agent.squashfs",
        ] {
            let refused = verdict(kind, file(name)).unwrap_err();
            assert_eq!(refused.rule, Rule::Outside(kind), "{name}");
        }
        for name in [
            "usr/bin/restic",
            "etc/ssl/certs/ca-certificates.crt",
            "opt/agent/bin",
            "devices",
            "initrd",
        ] {
            verdict(kind, file(name)).unwrap();
        }
    }
}

#[test]
fn an_agent_layer_replaces_only_what_the_base_allows() {
    let allowed = ["etc/ssl/certs/ca-certificates.crt".to_owned()];
    let records = [with_parents(file(&allowed[0])), vec![file("etc/passwd")]].concat();
    for (kind, wanted) in [
        (Kind::Agent, [true, false]),
        (Kind::Extra, [true, false]),
        (Kind::Base, [true, true]),
    ] {
        let archive = bytes(&records);
        let mut reader = LayerReader::new(&manifest(kind, &records), &allowed);
        let mut input = archive.as_slice();
        let mut found = Vec::new();
        while let Some(item) = reader.next(&mut input).unwrap() {
            if let LayerItem::FileStart { path, .. } = item {
                found.push(reader.may_replace(&path));
            }
        }
        assert_eq!(found, wanted, "{kind}");
    }
}

#[test]
fn a_kernel_layer_holds_a_kernel_its_modules_and_its_firmware() {
    for name in [
        "boot/vmlinuz",
        "lib/modules/6.1/x.ko",
        "usr/lib/modules/6.1/x.ko",
        "lib/firmware/x.bin",
        "usr/lib/firmware/x.bin",
    ] {
        verdict(Kind::Kernel, file(name)).unwrap();
    }
    for name in [
        "lib/x",
        "usr/lib/libc.so.6",
        "etc/modprobe.d/x",
        "init",
        "lib/modules-load.d/x",
    ] {
        let refused = verdict(Kind::Kernel, file(name)).unwrap_err();
        assert_eq!(refused.rule, Rule::Outside(Kind::Kernel), "{name}");
    }
}

#[test]
fn credentials_are_readable_by_root_only() {
    let all = |last: Record| {
        let way = [dir("run"), dir("run/towline")];
        let own = with_mode("run/towline/credentials", mode::S_IFDIR | 0o700);
        let records = [way.to_vec(), vec![own, last]].concat();
        judge(Kind::Credentials, &records)
    };
    let secret = |bits: u32| with_mode("run/towline/credentials/key", mode::S_IFREG | bits);
    all(secret(0o600)).unwrap();
    all(secret(0o400)).unwrap();
    for bits in [0o640, 0o604, 0o700, 0o644] {
        assert_eq!(
            all(secret(bits)).unwrap_err().rule,
            Rule::Secret(Kind::Credentials),
            "{bits:o}"
        );
    }
    let mut owned = secret(0o600);
    owned.0.uid = 1000;
    assert_eq!(
        all(owned).unwrap_err().rule,
        Rule::Secret(Kind::Credentials)
    );
    assert!(all(link("run/towline/credentials/key", "/etc/shadow")).is_err());
    assert!(
        verdict(Kind::Credentials, secret(0o600)).is_err(),
        "its directory has 0755"
    );
    assert!(all(with_mode("run/towline/x", mode::S_IFREG | 0o600)).is_err());
}

const IMAGE: &str = "towline/images/20-base.squashfs";

fn with_image(kind: Kind, records: &[Record], path: &str, size: u64) -> Manifest {
    Manifest {
        image: image(path, size),
        ..manifest(kind, records)
    }
}

fn judge_image(kind: Kind, records: &[Record], path: &str, size: u64) -> Result<Vec<String>, Rule> {
    let told = with_image(kind, records, path, size);
    read(&told, &bytes(records), usize::MAX).map_err(|refused| refused.rule)
}

#[test]
fn an_image_is_yielded_as_one_for_base_and_kernel_layers() {
    let records = with_parents(file(IMAGE));
    for kind in [Kind::Base, Kind::Kernel] {
        let found = judge_image(kind, &records, IMAGE, 7).unwrap();
        assert_eq!(found.last().unwrap(), &format!("image {IMAGE} content."));
    }
}

#[test]
fn an_image_in_a_layer_whose_content_must_be_checked_is_refused() {
    let records = with_parents(file(IMAGE));
    for kind in [Kind::Agent, Kind::Extra, Kind::Host, Kind::Credentials] {
        let refused = judge_image(kind, &records, IMAGE, 7);
        assert_eq!(refused, Err(Rule::Outside(kind)));
    }
}

#[test]
fn an_image_that_is_not_the_manifests_is_refused() {
    let records = with_parents(file(IMAGE));
    assert_eq!(
        judge_image(Kind::Base, &records, "towline/images/30-base.squashfs", 7),
        Err(Rule::NotTheImage)
    );
    assert_eq!(
        judge_image(Kind::Base, &records, IMAGE, 8),
        Err(Rule::ImageSize {
            found: 7,
            wanted: 8
        })
    );
    assert_eq!(
        judge_image(Kind::Base, &[dir("usr")], IMAGE, 7),
        Err(Rule::NoImage)
    );
    let unannounced = judge(Kind::Base, &records).unwrap_err();
    assert_eq!(unannounced.rule, Rule::NotTheImage);
    let a_link = with_parents(link(IMAGE, "/x"));
    assert!(matches!(
        judge_image(Kind::Base, &a_link, IMAGE, 2),
        Err(Rule::ImageSize { .. })
    ));
}

#[test]
fn a_layer_cannot_bring_a_stamp() {
    for kind in ALL {
        let refused = judge_image(kind, &with_parents(file("towline/stamp")), IMAGE, 7);
        assert!(refused.is_err(), "{kind}");
    }
}

#[test]
fn what_the_sites_policy_keeps_out_is_refused_by_layer_entry_and_rule() {
    let records = with_parents(file("usr/sbin/agent"));
    let mut manifest = manifest(Kind::Agent, &records);
    read(&manifest, &bytes(&records), 64).unwrap();
    manifest.bounds.never = vec!["usr/sbin".into()];
    let refused = read(&manifest, &bytes(&records), 64).unwrap_err();
    assert_eq!(refused.rule, Rule::Policy(Kind::Agent));
    assert_eq!(
        (refused.layer.as_str(), refused.entry.as_deref()),
        (manifest.target_name().as_str(), Some("usr/sbin"))
    );
}
