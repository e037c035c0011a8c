//! What the protected host is to do: a script on the disk after its own, which it runs at its start; results come back on the
//! one after that.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use towline_machine::{Disk, Machine, Start, Writes};

use crate::commands::demo::Firmware;
use crate::commands::demo::machine::processors;
use crate::exit::{Exit, Failure};

/// What the host's script begins each line with that is for us.
pub(in crate::commands::demo) const SAYS: &str = "errand: ";

/// Room for results.
const RESULTS_BYTES: u64 = 64 << 20;

/// Longest from power-on to the end of the script.
const ERRAND_MAX: Duration = Duration::from_secs(1500);

/// One start of the host.
pub(in crate::commands::demo) struct Errand<'a> {
    /// Its firmware.
    pub(in crate::commands::demo) firmware: Firmware,
    /// Where that keeps its variables.
    pub(in crate::commands::demo) efi_variables: &'a Path,
    /// Its own disks.
    pub(in crate::commands::demo) disks: &'a [PathBuf],
    /// What happens to what it writes there.
    pub(in crate::commands::demo) writes: Writes,
    /// Memory, in MiB.
    pub(in crate::commands::demo) memory_mib: u32,
    /// The files that the script finds in its folder, with modes; `run` is the script.
    pub(in crate::commands::demo) files: Vec<(&'static str, u32, Vec<u8>)>,
    /// Folder for what is needed and what comes back.
    pub(in crate::commands::demo) folder: &'a Path,
    /// What this start is called, in file names.
    pub(in crate::commands::demo) name: &'static str,
}

impl Errand<'_> {
    /// Starts the host, lets `hears` have every line of the script, and waits until the host is off. Gives the archive
    /// that the script wrote.
    pub(in crate::commands::demo) fn run(
        &self,
        mut hears: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let file = |what: &str| self.folder.join(format!("{}{what}", self.name));
        let (archive, results, log) = (file(".tar"), file("-results.tar"), file("-console.log"));
        self.pack(&archive)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        File::create(&results)
            .and_then(|file| file.set_len(RESULTS_BYTES))
            .with_context(|| format!("cannot make {}", results.display()))?;
        let disk = |file: &Path, writes| Disk {
            file: file.to_owned(),
            writes,
        };
        let own = self.disks.iter().map(|it| disk(it, self.writes));
        let machine = Machine {
            firmware: self.firmware.into(),
            efi_variables: Some(self.efi_variables.to_owned()),
            disk_gib: None,
            memory_mib: self.memory_mib,
            processors: processors(),
            disks: own
                .chain([
                    disk(&archive, Writes::Refused),
                    disk(&results, Writes::Kept),
                ])
                .collect(),
            ..Machine::new(Start::Disk, log.clone())
        };
        let failed = |error: anyhow::Error| {
            Failure::new(Exit::No, error)
                .next(format!("read the whole console in {}", log.display()))
        };
        let mut running = machine.start().map_err(|error| failed(error.into()))?;
        let deadline = std::time::Instant::now() + ERRAND_MAX;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let line = running
                .wait_for(SAYS, left)
                .map_err(|error| failed(error.into()))?;
            let said = line.split_once(SAYS).map_or("", |(_, said)| said);
            match said.strip_prefix("ended with status ") {
                Some("0") => break,
                Some(status) => {
                    return Err(failed(anyhow!(
                        "the host's script ended with status {status}"
                    )));
                }
                None => hears(said)?,
            }
        }
        running
            .wait_until_off(Duration::from_secs(120))
            .map_err(|error| failed(error.into()))?;
        Ok(results)
    }

    fn pack(&self, archive: &Path) -> std::io::Result<()> {
        let mut tar = tar::Builder::new(File::create(archive)?);
        let results = ("results", 0o644, results_device(self.disks.len()).into());
        for (name, mode, bytes) in self.files.iter().chain([&results]) {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append_data(&mut header, name, bytes.as_slice())?;
        }
        let file = tar.into_inner()?;
        // A disk has whole sectors.
        file.set_len(file.metadata()?.len().next_multiple_of(4096))
    }
}

/// Where a host with so many disks of its own finds the one for results: after them and the script's.
fn results_device(own: usize) -> String {
    let letter = ('a'..='z').nth(own + 1).unwrap_or('z');
    format!("/dev/vd{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_lie_after_the_hosts_own_disks_and_the_script() {
        assert_eq!(results_device(1), "/dev/vdc");
        assert_eq!(results_device(2), "/dev/vdd");
    }
}
