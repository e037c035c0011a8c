use super::super::Level;
use super::*;
use crate::config::HandOverChoice;
use crate::fixture::published;
use towline_contract::manifest::{Compression, PLACES_ON_TARGET, Package, Placement};
use towline_contract::session::{Backup, Hardware};
use towline_initramfs::kernel::Drives;
use towline_initramfs::places::Place;

pub(in super::super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(in super::super) fn now() -> Timestamp {
    time("2026-11-24T03:00:00Z")
}

/// Kernel, base, agent, and the host's session of this night.
fn layers() -> Vec<Published> {
    let mut kernel = published(Kind::Kernel, "debian", "6.1");
    kernel.manifest.provides.modules = vec!["ahci".into(), "ext4".into()];
    let base = published(Kind::Base, "debian", "12");
    let mut agent = published(Kind::Agent, "restic", "0.18");
    agent.manifest.created = time("2026-10-01T00:00:00Z");
    let restic = r#"{"restore": ["restic"], "current": ["restic"]}"#;
    agent.manifest.agent = Some(serde_json::from_str(restic).unwrap());
    agent.manifest.provides.programs = vec!["/usr/bin/restic".into()];
    agent.manifest.packages = vec![Package {
        name: "restic".into(),
        version: "0.18.0-1".into(),
        architecture: "amd64".into(),
    }];
    let mut host = published(Kind::Host, "web1", "20261124t020000z");
    host.manifest.session = Some(Session {
        time: time("2026-11-24T02:00:00Z"),
        captured: time("2026-11-24T02:01:00Z"),
        hostname: "web1".into(),
        backup: Backup {
            agent: "restic".into(),
            version: "0.14.0".into(),
            session: "4f6a".into(),
            bytes: None,
        },
        rear: "2.7".into(),
        hardware: Hardware {
            architecture: "amd64".into(),
            uefi: false,
            secure_boot: false,
            memory_kib: 1 << 20,
            pci: vec![],
            modules: vec!["ahci".into(), "ext4".into()],
            disks: vec![],
            boot_loaders: vec![],
        },
    });
    host.manifest.requires.modules = vec!["ahci".into(), "ext4".into()];
    vec![kernel, base, agent, host]
}

fn config() -> Config {
    toml::from_str("listen = \"127.0.0.1:0\"\nserver_names = [\"localhost\"]").unwrap()
}

/// The chain of the newest session after `change`.
pub(in super::super) fn checked(change: impl FnOnce(&mut Vec<Published>)) -> Chain {
    checked_with(change, &config(), &[])
}

fn checked_with(
    change: impl FnOnce(&mut Vec<Published>),
    config: &Config,
    absent: &[Digest],
) -> Chain {
    let mut layers = layers();
    change(&mut layers);
    holding(&layers, config, absent, |_| Ok(Holds::default()))
}

/// The chain of the newest session of layers that hold this.
fn holding(
    layers: &[Published],
    config: &Config,
    absent: &[Digest],
    read: impl Fn(&Manifest) -> Result<Holds, String>,
) -> Chain {
    let holdings = Holdings::new(layers, read);
    let question = Question {
        host: "web1",
        choice: &Choice::Newest,
        layers,
        absent: &absent.iter().copied().collect(),
        config,
        known: &Known::of(layers, &holdings),
    };
    check(&question, now())
}

#[track_caller]
fn only(chain: &Chain, level: Level, words: &[&str]) {
    let findings = &chain.findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].level, level, "{findings:?}");
    for word in words {
        assert!(findings[0].what.contains(word), "{findings:?}");
    }
    assert_eq!(chain.is_whole(), level == Level::Warning);
}

#[test]
fn a_chain_says_each_layer_and_the_agent_then_and_now() {
    let chain = checked(|_| {});
    assert_eq!(chain.findings, []);
    let targets: Vec<_> = chain.layers.iter().map(|it| it.target.as_str()).collect();
    let expected = [
        "kernel/debian/6.1/amd64",
        "base/debian/12/amd64",
        "agent/restic/0.18/amd64",
        "host/web1/20261124t020000z/amd64",
    ];
    assert_eq!(targets, expected);
    let agent = chain.agent.unwrap();
    assert_eq!(
        (agent.then.as_str(), agent.now.as_str()),
        ("0.14.0", "0.18")
    );
    assert_eq!(
        (agent.age_days, agent.current),
        (54, vec!["restic 0.18.0-1".to_owned()])
    );
}

#[test]
fn a_layout_from_another_day_than_its_backup_is_a_problem_as_its_recovery_would_be_refused() {
    let change = |layers: &mut Vec<Published>| {
        let session = layers[3].manifest.session.as_mut().unwrap();
        session.time = time("2026-11-22T20:00:00Z");
    };
    only(&checked(change), Level::Problem, &["30 hours after"]);
    let mut config = config();
    config.sessions.capture_lag_hours = 48;
    assert_eq!(checked_with(change, &config, &[]).findings, []);
}

#[test]
fn a_missing_agent_and_one_that_cannot_restore_are_problems() {
    only(
        &checked(|layers| drop(layers.remove(2))),
        Level::Problem,
        &["agent \"restic\"", "no layer"],
    );
    only(
        &checked(|layers| layers[2].manifest.agent = None),
        Level::Problem,
        &["how a session is restored"],
    );
}

#[test]
fn an_agent_without_a_package_that_must_be_current_is_a_warning() {
    let chain = checked(|layers| layers[2].manifest.packages.clear());
    only(&chain, Level::Warning, &["newest restic, and has none"]);
}

#[test]
fn drivers_that_the_kernel_does_not_have_are_named_together() {
    let chain = checked(|layers| layers[0].manifest.provides.modules.clear());
    only(
        &chain,
        Level::Problem,
        &["ahci, ext4", "kernel/debian/6.1/amd64"],
    );
    assert_eq!(chain.drivers.missing, ["ahci", "ext4"]);
}

#[test]
fn a_library_that_no_layer_has_is_named_with_the_layer_that_needs_it() {
    let chain = checked(|layers| {
        layers[2].manifest.requires.libraries = vec!["libfuse.so.3".into()];
    });
    only(
        &chain,
        Level::Problem,
        &["agent/restic/0.18/amd64", "libfuse.so.3"],
    );
}

#[test]
fn an_agent_for_the_target_is_said_to_go_there_and_needs_a_base_that_puts_it_there() {
    let for_target = |layers: &mut Vec<Published>| {
        layers[2].manifest.placement = Placement::Target;
        layers[2].manifest.unpacked_bytes = 900 << 20;
    };
    let older = checked(for_target);
    only(
        &older,
        Level::Problem,
        &["agent/restic/0.18/amd64", PLACES_ON_TARGET],
    );
    let chain = checked(|layers| {
        for_target(layers);
        layers[1].manifest.provides.programs = vec![PLACES_ON_TARGET.into()];
    });
    assert_eq!(chain.findings, []);
    assert_eq!(chain.layers[2].placement, Placement::Target);
    assert_eq!(chain.layers[2].memory_bytes, 0);
}

#[test]
fn a_layer_whose_bytes_are_gone_from_the_store_is_a_problem() {
    let base = layers()[1].manifest.digest;
    let chain = checked_with(|_| {}, &config(), &[base]);
    only(&chain, Level::Problem, &["base/debian/12/amd64", "store"]);
}

#[test]
fn a_chain_larger_than_the_hosts_memory_is_a_problem() {
    let chain = checked(|layers| layers[1].manifest.unpacked_bytes = 900 << 20);
    only(&chain, Level::Problem, &["1200 MiB", "has 1024"]);
}

#[test]
fn memory_for_kexec_counts_where_kexec_would_be_used() {
    let change = |layers: &mut Vec<Published>| layers[1].manifest.stored_bytes = 300 << 20;
    only(
        &checked(change),
        Level::Warning,
        &["another kernel", "1200 MiB"],
    );
    let mut config = config();
    config.plan.hand_over = HandOverChoice::Kexec;
    only(
        &checked_with(change, &config, &[]),
        Level::Problem,
        &["1200 MiB"],
    );
    config.plan.hand_over = HandOverChoice::InPlace;
    assert_eq!(checked_with(change, &config, &[]).findings, []);
}

#[test]
fn what_the_other_kernel_unpacks_beside_its_own_copy_is_counted_as_the_machine_does() {
    // Neither 4 bytes three times over nor 700 MiB alone: both layers are there at once, with their copies.
    let chain = checked(|layers| {
        layers[1].manifest.stored_bytes = 100 << 20;
        layers[1].manifest.unpacked_bytes = 500 << 20;
        layers[2].manifest.stored_bytes = 50 << 20;
        layers[2].manifest.unpacked_bytes = 60 << 20;
    });
    // 600 and 150 MiB, 300 to work in, and a few bytes of the others.
    assert_eq!(chain.memory.kexec_kib >> 10, 1050);
    assert_eq!(chain.memory.in_place_kib >> 10, 860);
}

#[test]
fn a_host_that_did_not_say_its_memory_is_not_compared() {
    let chain = checked(|layers| {
        layers[1].manifest.unpacked_bytes = 900 << 20;
        let session = layers[3].manifest.session.as_mut().unwrap();
        session.hardware.memory_kib = 0;
    });
    assert_eq!(chain.findings, []);
    assert_eq!(chain.memory.host_kib, None);
}

#[test]
fn two_bases_of_which_none_is_chosen_are_a_problem_as_machines_would_be_refused() {
    let chain = checked(|layers| layers.push(published(Kind::Base, "suse", "15")));
    only(&chain, Level::Problem, &["several names", "debian, suse"]);
}

#[test]
fn a_session_that_is_not_there_is_not_replaced_by_another_one() {
    let layers = layers();
    let holdings = Holdings::new(&layers, |_| Ok(Holds::default()));
    let question = Question {
        host: "web1",
        choice: &Choice::At(time("2026-11-01T00:00:00Z")),
        layers: &layers,
        absent: &BTreeSet::new(),
        config: &config(),
        known: &Known::of(&layers, &holdings),
    };
    let chain = check(&question, now());
    only(&chain, Level::Problem, &["no session at or before"]);
    assert!(chain.session.is_none() && chain.layers.is_empty());
}

#[test]
fn a_program_that_the_agents_commands_start_and_no_layer_has_is_named() {
    let chain = checked(|layers| {
        let agent = r#"{"restore": ["restic"], "check": ["/usr/lib/x/check", "-q"], "sessions": ["{directory}/list"], "current": ["restic"]}"#;
        layers[2].manifest.agent = Some(serde_json::from_str(agent).unwrap());
    });
    let words = ["agent/restic/0.18/amd64", "/usr/lib/x/check", "no layer"];
    only(&chain, Level::Problem, &words);
}

#[test]
fn a_program_that_the_hosts_layout_needs_and_no_layer_has_is_named() {
    let chain = checked(|layers| {
        layers[1].manifest.provides.programs = vec!["/usr/sbin/mkfs.ext4".into()];
        layers[3].manifest.requires.programs = vec!["mkfs.ext4".into(), "mdadm".into()];
    });
    only(&chain, Level::Problem, &["host/web1/", "needs mdadm"]);
}

fn place(path: &str) -> Place {
    match path.strip_suffix('/') {
        Some(path) => Place::new(path.as_bytes(), true),
        None => Place::new(path.as_bytes(), false),
    }
}

/// A base with these paths, and layers over it with those.
fn with_places<'p>(
    base: &'p [&'p str],
    above: &'p [(Kind, &'p [&'p str])],
) -> impl Fn(&Manifest) -> Result<Holds, String> + 'p {
    move |manifest| {
        let own = above.iter().find(|it| it.0 == manifest.kind);
        let paths = match manifest.kind {
            Kind::Base => base,
            _ => own.map_or(&[][..], |it| it.1),
        };
        Ok(Holds {
            places: paths.iter().map(|it| place(it)).collect(),
            drives: None,
        })
    }
}

#[test]
fn files_that_are_hidden_are_listed_and_are_no_fault() {
    let mut layers = layers();
    layers[1].manifest.replaceable = vec!["etc/ca".into()];
    let base = ["etc/", "etc/ca", "etc/rear/", "etc/rear/local.conf"];
    let above = [
        (Kind::Agent, &["etc/", "etc/ca"][..]),
        (
            Kind::Host,
            &["etc/", "etc/rear/", "etc/rear/local.conf", "etc/hostname"],
        ),
    ];
    let chain = holding(&layers, &config(), &[], with_places(&base, &above));
    assert_eq!(chain.findings, []);
    let hidden: Vec<_> = chain
        .hidden
        .iter()
        .map(|it| (it.path.as_str(), it.layer.split('/').next().unwrap()))
        .collect();
    assert_eq!(
        hidden,
        [("etc/ca", "agent"), ("etc/rear/local.conf", "host")]
    );
    assert_eq!(chain.hidden[0].earlier, "base/debian/12/amd64");
}

#[test]
fn layers_that_a_machine_would_refuse_over_one_another_are_a_problem() {
    let base = ["bin", "usr/", "usr/bin/"];
    for (kind, path, words) in [
        (Kind::Agent, "bin/", "has a directory bin"),
        (Kind::Host, "usr/bin", "has a link or file usr/bin"),
    ] {
        let above = [(kind, &[path][..])];
        let chain = holding(&layers(), &config(), &[], with_places(&base, &above));
        only(&chain, Level::Problem, &["would refuse", words]);
    }
}

#[test]
fn a_layer_that_cannot_be_read_is_a_problem_unless_it_is_not_there_at_all() {
    let read = |manifest: &Manifest| match manifest.kind {
        Kind::Base => Err("no squashfs".to_owned()),
        _ => Ok(Holds::default()),
    };
    let layers = layers();
    let chain = holding(&layers, &config(), &[], read);
    only(
        &chain,
        Level::Problem,
        &["base/debian/12/amd64", "no squashfs"],
    );
    let chain = holding(&layers, &config(), &[layers[1].manifest.digest], read);
    only(&chain, Level::Problem, &["base/debian/12/amd64", "store"]);
}

/// A kernel that drives Intel's network devices and asks for firmware for one module.
fn driving(manifest: &Manifest) -> Result<Holds, String> {
    let mut drives = Drives::default();
    let folder = "usr/lib/modules/6.1";
    let aliases = "alias pci:v00008086d*sv*sd*bc*sc*i* igb\n";
    drives.file(&format!("{folder}/modules.alias"), Some(aliases.into()));
    let built_in = "ahci.firmware=ahci/a.bin\0ahci.firmware=ahci/b.bin\0".into();
    drives.file(&format!("{folder}/modules.builtin.modinfo"), Some(built_in));
    drives.file("usr/lib/firmware/ahci/b.bin.xz", None);
    Ok(Holds {
        places: Vec::new(),
        drives: (manifest.kind == Kind::Kernel).then_some(drives),
    })
}

#[test]
fn storage_and_network_devices_without_a_driver_are_a_warning_and_others_are_not() {
    let mut layers = layers();
    let session = layers[3].manifest.session.as_mut().unwrap();
    session.hardware.modules.clear();
    session.hardware.pci = [
        "pci:v00008086d00001533sv00008086sd00000001bc02sc00i00",
        "pci:v000014E4d0000165Fsv00001028sd00000639bc02sc00i00",
        "pci:v00001000d00000072sv00001000sd00003020bc01sc07i00",
        "pci:v000010DEd00001EB1sv000010DEsd0000129Fbc03sc00i00",
        "pci:v000010ECd00008821sv000010ECsd00008821bc02sc80i00",
    ]
    .map(str::to_owned)
    .to_vec();
    let chain = holding(&layers, &config(), &[], driving);
    let words = [
        "kernel/debian/6.1/amd64 has no driver for network device 14e4:165f, storage device 1000:0072 of",
    ];
    only(&chain, Level::Warning, &words);
}

#[test]
fn firmware_that_a_driver_may_ask_for_and_that_is_not_there_is_a_warning() {
    let chain = holding(&layers(), &config(), &[], driving);
    only(&chain, Level::Warning, &["ahci for ahci/a.bin", "firmware"]);
    let firmware = &chain.drivers.firmware;
    assert_eq!(
        (firmware.len(), firmware[0].missing.as_slice()),
        (1, &["ahci/a.bin".to_owned()][..])
    );
}

#[test]
fn layers_that_hosts_share_are_looked_into_once() {
    let mut layers = layers();
    let mut other = layers[3].clone();
    other.target = "host/web2/20261124t020000z/amd64".parse().unwrap();
    other.manifest.name = "web2".into();
    layers.push(other);
    let reads = std::cell::RefCell::new(Vec::new());
    let shared = &layers[..3];
    let holdings = Holdings::new(shared, |it: &Manifest| {
        reads.borrow_mut().push(it.kind);
        Ok(Holds::default())
    });
    let known = Known::of(shared, &holdings);
    for host in ["web1", "web2"] {
        let question = Question {
            host,
            choice: &Choice::Newest,
            layers: &layers,
            absent: &BTreeSet::new(),
            config: &config(),
            known: &known,
        };
        assert_eq!(check(&question, now()).findings, []);
    }
    use Kind::{Agent, Base, Host, Kernel};
    assert_eq!(*reads.borrow(), [Kernel, Base, Agent, Host, Host]);
}

/// Kernel, base and agent of a kernel from before Linux 5.9; the host's layer is zstd.
fn of_an_old_kernel(layers: &mut [Published]) {
    let provides = &mut layers[0].manifest.provides;
    let options = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_GZIP"];
    provides.modules.extend(options.map(str::to_owned));
    for layer in &mut layers[..3] {
        layer.manifest.compression = Compression::Gzip;
    }
}

#[test]
fn a_layer_that_the_chains_kernel_has_to_unpack_and_cannot_is_a_problem() {
    let agent_too = |layers: &mut Vec<Published>| {
        of_an_old_kernel(layers);
        layers[3].manifest.compression = Compression::Gzip;
        layers[2].manifest.compression = Compression::Zstd;
    };
    let chain = checked(agent_too);
    let words = [
        "kernel/debian/6.1/amd64 cannot unpack agent/restic/0.18/amd64",
        "compressed by zstd",
        "no CONFIG_RD_ZSTD",
    ];
    only(&chain, Level::Problem, &words);
    assert!(chain.findings[0].next.contains("--for-kernel"));
    let hosts = checked(|layers| of_an_old_kernel(layers));
    only(&hosts, Level::Problem, &["cannot unpack host/web1/"]);
    assert!(hosts.findings[0].next.contains("towline capture"));
    let all_gzip = checked(|layers| {
        of_an_old_kernel(layers);
        layers[3].manifest.compression = Compression::Gzip;
    });
    assert_eq!(all_gzip.findings, []);
    let mut config = config();
    config.plan.hand_over = HandOverChoice::InPlace;
    assert_eq!(checked_with(agent_too, &config, &[]).findings, []);
    // What Debian's kernel reads, and what nobody knows of a kernel.
    let new = checked(|layers| {
        let provides = &mut layers[0].manifest.provides;
        let options = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_GZIP", "CONFIG_RD_ZSTD"];
        provides.modules.extend(options.map(str::to_owned));
    });
    assert_eq!(new.findings, []);
}

#[test]
fn what_matters_with_some_media_only_is_a_warning() {
    let chain = checked(|layers| {
        let provides = &mut layers[0].manifest.provides;
        let options = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_ZSTD"];
        provides.modules.extend(options.map(str::to_owned));
        layers[2].manifest.compression = Compression::Gzip;
    });
    only(
        &chain,
        Level::Warning,
        &["from a medium with another kernel", "CONFIG_RD_GZIP"],
    );
}
