//! The chain check of ten thousand hosts: `towline doctor` on a site whose catalogue has a session of each, over the ready recipes'
//! kernel, base and agent.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use towline_contract::Timestamp;
use towline_contract::manifest::{Compression, Kind};
use towline_harness::layer::layer;

use crate::measure::{Cost, median, run};
use crate::prepare::Workshop;

/// Hosts of the site, and a smaller number, by which it is seen what each host costs.
const HOSTS: [usize; 2] = [1_000, 10_000];

/// Runs of each; medians count.
const RUNS: usize = 3;

/// Measures and prints a table.
pub(crate) fn bench(workshop: &Workshop) -> Result<()> {
    println!(
        "\n## The chain check of every host (`towline doctor --json`), medians of {RUNS} runs\n"
    );
    println!("| hosts | wall, s | CPU, s | peak memory, MiB | wanted |");
    println!("|---|---|---|---|---|");
    for hosts in HOSTS {
        let cost = measured(workshop, hosts)?;
        let wanted = if hosts == 10_000 { "≤ 60 s" } else { "" };
        println!(
            "| {hosts} | {:.2} | {:.2} | {:.0} | {wanted} |",
            cost.wall_seconds, cost.cpu_seconds, cost.peak_mib
        );
    }
    Ok(())
}

fn measured(workshop: &Workshop, hosts: usize) -> Result<Cost> {
    let site = site(workshop, hosts)?;
    let doctor = ["doctor", "--json"];
    let costs: Vec<_> = (0..RUNS)
        .map(|_| run(&workshop.towline, &doctor, &site))
        .collect::<Result<_>>()?;
    let said = std::process::Command::new(&workshop.towline)
        .args(doctor)
        .current_dir(&site)
        .output()?;
    let report: Value = serde_json::from_slice(&said.stdout).context("the doctor's report")?;
    let all = report["hosts"].as_array().context("hosts")?;
    let is_checked = |it: &&Value| {
        it["recoverable"] == true
            && it["chain"]["layers"]
                .as_array()
                .is_some_and(|it| it.len() == 4)
    };
    let checked = all.iter().filter(is_checked).count();
    ensure!(
        checked == hosts,
        "{checked} of {hosts} hosts were checked with a whole chain"
    );
    Ok(median(&costs))
}

/// A site with a session of each host.
fn site(workshop: &Workshop, hosts: usize) -> Result<PathBuf> {
    let folder = workshop.dir.join("chain");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let site = folder.join("site");
    workshop.towline([
        "init".as_ref(),
        site.as_os_str(),
        "--server-name".as_ref(),
        "localhost".as_ref(),
    ])?;
    let shared = ["kernel-debian", "base-debian", "agent-restic"].map(|it| workshop.layer(it));
    let mut layers = shared.into_iter().collect::<Result<Vec<_>>>()?;
    for number in 0..hosts {
        layers.push(host(&folder, number)?);
    }
    let config = site.join("towline.toml");
    let arguments = ["publish".as_ref(), "--config".as_ref(), config.as_os_str()];
    let layers = layers.iter().map(|it| it.as_os_str());
    workshop.towline(arguments.into_iter().chain(layers))?;
    Ok(site)
}

/// The layer of one host's session of now.
fn host(folder: &Path, number: usize) -> Result<PathBuf> {
    let name = format!("h{number}");
    let hostname = format!("{name}\n");
    let layout = format!("disk /dev/sda {number} gpt\nfs /dev/sda1 / ext4 uuid=abcdef\n");
    let files = [
        ("etc/hostname", 0o644, hostname.as_bytes()),
        ("etc/rear/local.conf", 0o644, b"BACKUP=EXTERNAL\n"),
        (
            "var/lib/rear/layout/disklayout.conf",
            0o644,
            layout.as_bytes(),
        ),
    ];
    let mut layer = layer(Kind::Host, &name, Compression::Zstd, &files);
    let now = Timestamp::now();
    let session = json!({
        "time": now, "captured": now, "hostname": name, "rear": "2.7",
        "backup": {"agent": "restic", "version": "0.14.0", "session": format!("{number:08x}")},
        "hardware": {"architecture": "amd64", "uefi": false, "secure_boot": false, "memory_kib": 4 << 20,
            "pci": ["pci:v00008086d00001533sv00008086sd00000001bc02sc00i00", "pci:v00008086d0000A282sv00001028sd00000001bc01sc06i01"],
            "modules": ["ahci", "ext4", "igb", "sd_mod"], "disks": [], "boot_loaders": []},
    });
    layer.manifest.session = Some(serde_json::from_value(session)?);
    layer.manifest.requires.modules = ["ahci", "ext4", "igb", "sd_mod"].map(str::to_owned).into();
    layer.manifest.requires.programs = ["mkfs.ext4", "parted"].map(str::to_owned).into();
    let path = folder.join(format!("{name}.layer"));
    fs::write(&path, &layer.stored)?;
    fs::write(
        path.with_extension("manifest.json"),
        layer.manifest.to_bytes(),
    )?;
    Ok(path)
}
