//! What the protected host is to do: a script on its second disk, which it runs at its start; results come back on its third.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use towline_machine::{Disk, Start, Writes};

use crate::protected::Scene;

/// Longest from power-on to the end of most errands.
pub const ERRAND: Duration = Duration::from_secs(1500);

/// Longest that the host may take to switch itself off.
const OFF: Duration = Duration::from_secs(300);

/// One start of the host.
pub struct Errand<'a> {
    /// Its own disk; what it writes there stays.
    pub disk: &'a Path,
    /// The files that the script finds in its folder: name, mode, bytes; `run` is the script.
    pub files: &'a [(&'a str, u32, &'a [u8])],
    /// Room for what it writes to `/dev/vdc`, in MiB.
    pub results_mib: u64,
    /// Longest from power-on to the end of the script.
    pub limit: Duration,
}

impl Errand<'_> {
    /// Does it. Gives what came back on the third disk, and all that the console showed.
    ///
    /// # Panics
    /// The script fails, or the host does not start or end.
    #[must_use]
    pub fn run(&self, scene: &Scene) -> (PathBuf, Vec<String>) {
        let (archive, results) = (
            scene.folder().join("errand.tar"),
            scene.folder().join("results.tar"),
        );
        pack(&archive, self.files).expect("an archive");
        File::create(&results)
            .and_then(|file| file.set_len(self.results_mib << 20))
            .expect("a disk for results");
        let mut machine = scene.machine(self.disk);
        let more = |file: &Path, writes| Disk {
            file: file.to_owned(),
            writes,
        };
        machine.start = Start::Disk;
        machine.disks.push(more(&archive, Writes::Refused));
        machine.disks.push(more(&results, Writes::Kept));
        let mut running = machine.start().expect("QEMU");
        let ended = running.wait_for("errand: ended with status", self.limit);
        let ended = ended.expect("the host starts from its disk and does its errand");
        assert!(ended.contains("with status 0"), "{ended}");
        let off = running.wait_until_off(OFF);
        off.expect("the host switches itself off");
        (results, running.seen().to_vec())
    }
}

fn pack(archive: &Path, files: &[(&str, u32, &[u8])]) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(File::create(archive)?);
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes)?;
    }
    let file = tar.into_inner()?;
    // A disk has whole sectors.
    file.set_len(file.metadata()?.len().next_multiple_of(4096))
}
