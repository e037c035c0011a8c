//! A drill boots a captured host's real plan from the generic medium, beside the site's server, and the doctor knows how it
//! went.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::world::{Site, built, run, towline};

const LAYOUT: &str = include_str!("../../initramfs/recipes/host-example/disklayout.conf");

/// Runs `towline` in a folder, whatever comes of it.
fn tried(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(towline());
    let output = command.args(arguments).current_dir(dir).output();
    output.expect("towline runs")
}

/// What it printed; it must be JSON.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

/// Enrols a host, in a folder of its name, and captures one session, of what ReaR wrote.
pub(crate) fn capture(site: &Site, name: &str) {
    let host = site.dir().join(name);
    for (file, text) in [
        ("etc/rear/os.conf", "OS_VENDOR=Debian\n"),
        ("etc/rear/local.conf", "OUTPUT=ISO\n"),
        ("var/lib/rear/layout/disklayout.conf", LAYOUT),
        ("var/lib/rear/layout/lvm/vg0.cfg", "vg0 {}\n"),
        ("var/lib/rear/layout/xfs/vg0-data.xfs", "meta-data=\n"),
        ("var/lib/rear/recovery/bootloader", "GRUB\n"),
    ] {
        let path = host.join("rear").join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let homes = ["--config-dir", "etc", "--state-dir", "state"];
    let url = format!("https://127.0.0.1:{}", site.https);
    let enrol = [
        "host",
        "enrol",
        &url,
        "--host",
        name,
        "--ca",
        "../ca/ca.pem",
    ];
    run(&host, &[&enrol[..], &homes].concat());
    let known = run(&site.dir(), &["host", "show", name, "--json"]);
    let known: Value = serde_json::from_str(&known).expect("JSON");
    let print = known["fingerprint"].as_str().expect("a fingerprint");
    run(
        &site.dir(),
        &["host", "approve", name, "--fingerprint", print],
    );
    let capture = ["capture", "--session", "4bba301e", "--from", "rear"];
    let agent = ["--agent", "restic", "--agent-version", "0.14.0"];
    run(&host, &[&capture[..], &agent, &homes].concat());
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_drill_boots_the_real_plan_of_a_captured_host_and_the_doctor_knows_how_it_went() {
    let site = Site::serving(&built().layers);
    // The machine of a drill calls the server by a name that this one does not have.
    site.configure(|text| text.replace("\"10.0.2.2\"", "\"127.0.0.1\""));
    capture(&site, "web1");
    let medium = built().medium.to_str().expect("UTF-8");
    let drill = [
        "drill", "web1", "--memory", "1024", "--limit", "15", "--medium", medium, "--json",
    ];
    let output = tried(&site.dir(), &drill);
    let report = document(&output);
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["passed"], true);
    assert_eq!(report["session"]["agent_session"], "4bba301e");
    assert_eq!(
        report["machine"]["disks"],
        serde_json::json!([10_737_418_240_u64])
    );
    let checks = report["checks"].as_array().expect("checks");
    let checked = |layer: &str| {
        let of_layer = |it: &&Value| it["layer"].as_str().is_some_and(|it| it.starts_with(layer));
        checks.iter().any(|it| of_layer(&it))
    };
    assert!(
        checked("base/debian/") && checked("agent/restic/"),
        "{report:#}"
    );

    let file = site.dir().join(report["report"].as_str().expect("a file"));
    let console = site.dir().join(report["console"].as_str().expect("a file"));
    for path in [&file, &console] {
        let mode = fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let console = fs::read_to_string(&console).expect("a console");
    let placed = console.lines().any(|it| it.contains("fetching host/web1/"));
    assert!(
        placed && console.contains("towline: rescue system ready"),
        "{console}"
    );
    let medium: PathBuf = medium.into();
    let shown = run(
        &site.dir(),
        &["media", "show", medium.to_str().expect("UTF-8")],
    );
    assert!(
        shown.contains("not stamped"),
        "the medium itself is as it was: {shown}"
    );
    assert_eq!(site.events(), "", "the site's server knows nothing of it");

    let doctor = document(&tried(&site.dir(), &["doctor", "web1", "--json"]));
    let web1 = &doctor["hosts"][0];
    assert_eq!(
        (&web1["recoverable"], &web1["drills"][0]["passed"]),
        (&true.into(), &true.into())
    );
    let told = web1["findings"].to_string();
    assert!(!told.contains("tried"), "{told}");
}
