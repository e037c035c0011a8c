//! `towline-stage1 fetch` as a process: exit status, lines, mounts, and a network of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use towline_contract::limits::CHUNK_BYTES;
use towline_contract::manifest::{Compression, Kind, Placement};
use towline_contract::stamp::{self, Settings};
use towline_harness::layer::{Item, Layer, image_layer, layer, of_items, squashfs, with_parents};
use towline_harness::netns::{Namespaces, SERVER};
use towline_harness::proxy::{Fault, Proxy};
use towline_harness::site::TestSite;

use crate::world::{CHUNK, assert_placed, base_path, chain};

const PROGRAM: &str = env!("CARGO_BIN_EXE_towline-stage1");

/// A folder with a stamp in it, and a place for a root.
struct Medium {
    dir: tempfile::TempDir,
}

impl Medium {
    fn stamped(site: &TestSite, servers: &[String]) -> Self {
        let settings = Settings {
            host: Some("example".into()),
            ..site.settings(servers)
        };
        Self::of(&stamp::encode(&settings).unwrap())
    }

    fn of(stamp: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stamp"), stamp).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let mut all = vec![
            "fetch".to_owned(),
            "--stamp".into(),
            path("stamp"),
            "--root".into(),
            path("root"),
        ];
        all.extend(["--kernel-release", "6.1.0-test"].map(str::to_owned));
        all.extend(more.iter().map(|it| (*it).to_owned()));
        all
    }

    fn fetch(&self, more: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(self.arguments(more))
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_status(output: &Output, status: i32, words: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(words), "{words:?} is not in\n{said}");
}

fn https(site: &TestSite) -> Vec<String> {
    vec![format!("https://{}", site.https)]
}

#[test]
fn a_process_fetches_and_places_the_chain() {
    let site = TestSite::serving(&chain());
    let medium = Medium::stamped(&site, &https(&site));
    let output = medium.fetch(&["--no-mounts"]);
    assert_status(&output, 0, "every layer is placed in");
    let said = said(&output);
    for target in [
        "kernel/linux",
        "base/debian",
        "agent/restic",
        "host/example",
    ] {
        assert!(
            said.contains(&format!("fetching {target}/1/amd64")),
            "{said}"
        );
    }
    assert_placed(&medium.root());
}

#[test]
fn a_process_keeps_the_chain_for_kexec() {
    let site = TestSite::serving(&chain());
    let medium = Medium::stamped(&site, &https(&site));
    let output = medium.fetch(&["--no-mounts", "--kexec"]);
    assert_status(&output, 0, "4 layers are ready");
    assert_eq!(fs::read(medium.root().join("vmlinuz")).unwrap(), b"kernel");
}

#[test]
fn a_layer_for_the_target_is_left_to_the_rescue_system_whichever_way_it_starts() {
    let mut layers = chain();
    layers[2].manifest.placement = Placement::Target;
    let site = TestSite::serving(&layers);
    for (more, words) in [
        (&["--no-mounts"][..], "every layer is placed in"),
        (&["--no-mounts", "--kexec"], "3 layers are ready"),
    ] {
        let medium = Medium::stamped(&site, &https(&site));
        let output = medium.fetch(more);
        assert_status(&output, 0, words);
        let said = said(&output);
        assert!(
            said.contains("agent/restic/1/amd64 is for the target"),
            "{said}"
        );
        assert!(!said.contains("fetching agent/"), "{said}");
        assert!(!medium.root().join("upper/usr/bin/restic").exists());
    }
}

#[test]
fn the_exit_status_says_what_kind_of_failure_it_was() {
    let (site, other) = (TestSite::serving(&chain()), TestSite::serving(&chain()));
    let gone = ["https://127.0.0.1:1".to_owned()];
    let cleared = Medium::of(&stamp::cleared());
    assert_status(&cleared.fetch(&[]), 2, "the stamp is empty");
    assert_status(&cleared.fetch(&["--unknown"]), 2, "usage:");
    let stranger = Medium::stamped(&other, &https(&site));
    assert_status(
        &stranger.fetch(&["--no-mounts"]),
        3,
        "invalid peer certificate",
    );
    let forged = Medium::stamped(&other, &[format!("http://{}", site.http)]);
    assert_status(&forged.fetch(&["--no-mounts"]), 3, "is not trusted");
    let lost = Medium::stamped(&site, &gone);
    assert_status(&lost.fetch(&["--no-mounts"]), 4, "cannot be reached");
    let settings = Settings {
        host: Some("unknown".into()),
        ..site.settings(&https(&site))
    };
    let unknown = Medium::of(&stamp::encode(&settings).unwrap());
    assert_status(&unknown.fetch(&["--no-mounts"]), 5, "no host called");
}

#[test]
fn words_of_a_server_cannot_write_to_the_terminal() {
    let site = TestSite::serving(&chain());
    let words = br#"{"message": "\u001b[2J\nforged line"}"#.to_vec();
    let script = move |_: &str, _| Fault::Replace(words.clone());
    let replaced = Proxy::start(site.http, Box::new(script));
    let refusing = Proxy::start(replaced.address, Box::new(|_, _| Fault::Status(403)));
    let medium = Medium::stamped(&site, &[refusing.url()]);
    let output = medium.fetch(&["--no-mounts"]);
    assert_status(&output, 5, r"\u{1b}[2J\nforged line");
    assert!(!output.stderr.contains(&0x1b));
}

/// Runs the shell script in a mount namespace of its own, with the program and its arguments as `"$@"`.
fn with_mounts(medium: &Medium, script: &str) -> Output {
    with_mounts_and(medium, &[], script)
}

fn with_mounts_and(medium: &Medium, more: &[&str], script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
        PROGRAM,
    ]);
    command
        .args(medium.arguments(more))
        .current_dir(medium.dir.path());
    command.output().expect("unshare is installed")
}

/// Kernel and base as images, the base of these files and with `lib` a link as Debian has it.
fn images(files: &[(&str, &str)]) -> [Layer; 2] {
    let modules = [
        ("usr/lib/modules/6.1.0-test/modules.dep", "modules"),
        ("etc/both", "kernel"),
    ];
    let vmlinuz: &[_] = &[("boot/vmlinuz-6.1.0-test", 0o644, b"kernel".as_slice())];
    let modules = squashfs(&modules, &[]);
    let programs = squashfs(files, &[("lib", "usr/lib")]);
    [
        // A number that would lift it over the base, if numbers counted.
        image_layer(Kind::Kernel, (90, "kernel"), &modules, vmlinuz),
        image_layer(Kind::Base, (20, "base"), &programs, &[]),
    ]
}

const BASE_FILES: &[(&str, &str)] = &[
    ("sbin/init", "init"),
    ("usr/lib/libc.so", "libc"),
    ("etc/both", "base"),
    ("etc/hostname", "generic"),
];

fn host() -> Layer {
    let files: &[_] = &[("etc/hostname", 0o644, b"example".as_slice())];
    layer(Kind::Host, "example", Compression::Zstd, files)
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn images_are_stacked_and_plain_layers_lie_over_them() {
    let [kernel, base] = images(BASE_FILES);
    let site = TestSite::serving(&[kernel, base, host()]);
    let medium = Medium::stamped(&site, &https(&site));
    let script = r#""$@" || exit; cd root/root; cat sbin/init lib/libc.so etc/both etc/hostname \
        usr/lib/modules/6.1.0-test/modules.dep; touch ../mounts/20-base/x || echo " read-only""#;
    let output = with_mounts(&medium, script);
    assert_status(&output, 0, "every layer is placed in");
    let shown = String::from_utf8(output.stdout).unwrap();
    // The base lies over the kernel, whatever their numbers, the host's layer over the base.
    assert_eq!(shown, "initlibcbaseexamplemodules read-only\n");
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn an_agent_behind_a_link_in_an_image_is_refused() {
    let [kernel, base] = images(BASE_FILES);
    let items = with_parents(vec![Item::file("lib/libc.so.7", 0o755, b"agent")]);
    let agent = of_items(Kind::Agent, "restic", Compression::Zstd, &items);
    let site = TestSite::serving(&[kernel, base, agent, host()]);
    let medium = Medium::stamped(&site, &https(&site));
    let output = with_mounts(
        &medium,
        r#""$@"; status=$?; ls root/root/usr/lib; exit $status"#,
    );
    assert_status(
        &output,
        3,
        "layer agent/restic/1/amd64 is refused: lib is a directory where",
    );
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "libc.so\nmodules\n"
    );
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn an_agent_over_a_file_in_an_image_is_refused() {
    let [kernel, base] = images(BASE_FILES);
    let items = with_parents(vec![Item::file("usr/lib/libc.so", 0o755, b"agent")]);
    let agent = of_items(Kind::Agent, "restic", Compression::Zstd, &items);
    let site = TestSite::serving(&[kernel, base, agent, host()]);
    let medium = Medium::stamped(&site, &https(&site));
    let output = with_mounts(
        &medium,
        r#""$@"; status=$?; cat root/root/usr/lib/libc.so; exit $status"#,
    );
    assert_status(&output, 3, "usr/lib/libc.so takes the place of a file");
    assert_eq!(output.stdout, b"libc");
}

/// For kexec: the exit status and lines for a chain of images and this agent.
fn for_kexec(base_files: &[(&str, &str)], agent: &[Item]) -> Output {
    let [kernel, base] = images(base_files);
    let agent = of_items(Kind::Agent, "restic", Compression::Zstd, agent);
    let site = TestSite::serving(&[kernel, base, agent, host()]);
    let medium = Medium::stamped(&site, &https(&site));
    // What was mounted to judge the layers must be given back: the kernel needs the memory.
    let script = r#""$@" || exit; cut -d" " -f2 /proc/self/mounts | grep -c "$PWD/root/"; ls root; losetup -l | grep -c "$PWD"; true"#;
    with_mounts_and(&medium, &["--kexec"], script)
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn for_kexec_an_agent_over_a_file_in_an_image_is_refused() {
    let items = with_parents(vec![Item::file("usr/lib/libc.so", 0o755, b"agent")]);
    let output = for_kexec(BASE_FILES, &items);
    assert_status(
        &output,
        3,
        "layer agent/restic/1/amd64 is refused: usr/lib/libc.so takes the place of a file",
    );
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn for_kexec_an_agent_behind_a_link_in_an_image_is_refused() {
    let items = with_parents(vec![Item::file("lib/libc.so.7", 0o755, b"agent")]);
    let output = for_kexec(BASE_FILES, &items);
    assert_status(
        &output,
        3,
        "layer agent/restic/1/amd64 is refused: lib is a directory where",
    );
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn for_kexec_a_good_chain_leaves_no_mounts_and_no_copies_of_images() {
    let items = with_parents(vec![Item::file("usr/bin/restic", 0o755, b"agent")]);
    let output = for_kexec(BASE_FILES, &items);
    assert_status(&output, 0, "4 layers are ready");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        shown,
        "0\n00.layer\n01.layer\n02.layer\n03.layer\nvmlinuz\n0\n"
    );
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn for_kexec_a_chain_without_an_init_is_not_started() {
    let output = for_kexec(&[("usr/lib/libc.so", "libc")], &[]);
    assert_status(&output, 3, "has no sbin/init to start");
}

#[test]
#[ignore = "needs root, loop devices, squashfs and overlay"]
fn a_chain_without_an_init_is_not_started() {
    let [kernel, base] = images(&[("usr/lib/libc.so", "libc")]);
    let site = TestSite::serving(&[kernel, base, host()]);
    let medium = Medium::stamped(&site, &https(&site));
    let output = with_mounts(&medium, r#""$@""#);
    assert_status(&output, 3, "has no sbin/init to start");
}

fn site_in(namespaces: &Namespaces) -> TestSite {
    let listen = format!("{SERVER}:0").parse().unwrap();
    namespaces.as_server(|| {
        TestSite::with(&chain(), |config| {
            config.listen = listen;
            config.http_listen = Some(listen);
            config.server_names = vec![SERVER.into()];
        })
    })
}

#[test]
#[ignore = "needs root and ip netns"]
fn a_process_with_a_network_of_its_own_fetches_the_chain() {
    let namespaces = Namespaces::new();
    let site = site_in(&namespaces);
    let medium = Medium::stamped(&site, &https(&site));
    let arguments = medium.arguments(&["--no-mounts"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = namespaces.run_as_machine(PROGRAM, &arguments);
    assert_status(&output, 0, "every layer is placed in");
    assert_placed(&medium.root());
    // The same from here reaches nobody: the site is in the other network.
    assert_status(&medium.fetch(&["--no-mounts"]), 4, "");
}

#[test]
#[ignore = "needs root and ip netns"]
fn a_cable_that_is_pulled_in_the_middle_of_a_layer_costs_only_time() {
    let namespaces = Namespaces::new();
    let site = site_in(&namespaces);
    let middle = Arc::new(AtomicBool::new(false));
    let (reached, path) = (middle.clone(), base_path());
    let script = move |asked: &str, _| match asked == path && !reached.swap(true, Ordering::SeqCst)
    {
        true => Fault::DripAfter(CHUNK + 5000, Duration::from_millis(200)),
        false => Fault::None,
    };
    let (address, upstream) = (format!("{SERVER}:0").parse().unwrap(), site.http);
    let proxy = namespaces.as_server(|| Proxy::start_on(address, upstream, Box::new(script), None));
    let medium = Medium::stamped(&site, &[proxy.url()]);
    // The script sees the plan's path too, and only the base layer's counts.
    let arguments = medium.arguments(&["--no-mounts"]);
    let output = std::thread::scope(|scope| {
        let machine = scope.spawn(|| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            namespaces.run_as_machine(PROGRAM, &arguments)
        });
        let started = Instant::now();
        while !middle.load(Ordering::SeqCst) {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "the layer was never asked for"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        namespaces.plug(false);
        std::thread::sleep(Duration::from_secs(33));
        namespaces.plug(true);
        machine.join().unwrap()
    });
    assert_status(&output, 0, "sent nothing for 30 s");
    assert_status(
        &output,
        0,
        &format!("resuming layer base/debian/1/amd64 at byte {CHUNK_BYTES}"),
    );
    assert_placed(&medium.root());
}

#[test]
fn a_crash_of_stage_1_leaves_no_core() {
    use std::os::unix::process::ExitStatusExt as _;
    let site = TestSite::serving(&chain());
    let silent = Proxy::start(site.http, Box::new(|_, _| Fault::Silence));
    let medium = Medium::stamped(&site, &[silent.url()]);
    let mut child = Command::new(PROGRAM)
        .args(medium.arguments(&["--no-mounts"]))
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while silent.requests() == 0 {
        assert!(Instant::now() < until, "it asks for a plan");
        std::thread::sleep(Duration::from_millis(20));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let line = limits
        .lines()
        .find(|it| it.starts_with("Max core file size"));
    let sizes: Vec<&str> = line.unwrap().split_whitespace().skip(4).collect();
    assert_eq!(sizes, ["1", "1", "bytes"]);
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::ABORT).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false));
}
