//! ReaR as it is told to recover without asking: its settings, its mapping of disks, and its own files as they came.
//!
//! ReaR reads `rescue.conf` last, so what is added there wins over the host's own settings, which stay as they are.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use towline_contract::session::Session;

use super::commands;
use super::disks::Disk;
use super::error::{RecoverError, file};
use super::mapping::{self, Assignment};
use super::state::State;

/// Where a host layer may bring its host's own ReaR (the tree that ReaR's `OUTPUT=PORTABLE` makes).
pub(super) const PORTABLE: &str = "/usr/lib/towline/rear";

/// Name under which ReaR starts this program to restore.
pub(crate) const RESTORE: &str = "towline-restore";

/// The line before what is added to `rescue.conf`.
const MARK: &str = "# Added for this recovery; it wins over the settings of the host.";

/// ReaR moves GRUB's memory away after the restore, because nothing it remembers could matter. With the boot loaders of some
/// distributions it names the kernel, and it belongs to the session. What a host has put on that list itself stays there.
const KEEP_GRUBENV: &str = "\
if test \"${BACKUP_RESTORE_MOVE_AWAY_FILES[*]}\" = '/boot/grub/grubenv /boot/grub2/grubenv' ; then
    BACKUP_RESTORE_MOVE_AWAY_FILES=()
fi
";

/// A tree with ReaR in it.
#[derive(Clone, Debug)]
pub(super) struct Rear {
    prefix: PathBuf,
}

impl Rear {
    /// The host's own, if its layer brought one, or the base's.
    pub(super) fn find() -> Self {
        let portable = Path::new(PORTABLE);
        let prefix = match portable.join("usr/sbin/rear").exists() {
            true => portable,
            false => Path::new("/"),
        };
        Self {
            prefix: prefix.to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) fn at(prefix: &Path) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Whether it is one that can run from any folder, and is told so by `-p`.
    pub(super) fn is_portable(&self) -> bool {
        self.prefix != Path::new("/")
    }

    /// The program.
    pub(super) fn program(&self) -> PathBuf {
        self.prefix.join("usr/sbin/rear")
    }

    /// The settings.
    pub(super) fn settings(&self) -> PathBuf {
        self.prefix.join("etc/rear")
    }

    /// The description of the host.
    pub(super) fn description(&self) -> PathBuf {
        self.prefix.join("var/lib/rear")
    }

    /// The layout.
    pub(super) fn layout(&self) -> PathBuf {
        self.description().join("layout/disklayout.conf")
    }

    /// Where mappings are looked for. ReaR 2.7 looks in the current folder instead, so it is started there.
    pub(super) fn mappings(&self) -> PathBuf {
        self.settings().join("mappings")
    }

    /// Keeps description and settings as they came, or puts them back: ReaR writes mapped names into them.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub(super) async fn as_it_came(&self, state: &State) -> Result<(), RecoverError> {
        fs::create_dir_all(state.path()).map_err(file("make", state.path()))?;
        for (here, name) in [(self.description(), "rear"), (self.settings(), "settings")] {
            let kept = state.path().join(name);
            if kept.exists() {
                fs::remove_dir_all(&here).map_err(file("remove", &here))?;
                copy(&kept, &here).await?;
            } else {
                copy(&here, &kept).await?;
            }
        }
        Ok(())
    }

    /// Writes settings and mappings.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(
        &self,
        session: &Session,
        assignments: &[Assignment],
        disks: &[Disk],
        restore: &Path,
    ) -> Result<(), RecoverError> {
        let path = self.settings().join("rescue.conf");
        // Not every host has one.
        let earlier = fs::read_to_string(&path).unwrap_or_default();
        let rebuild = needs_initramfs(session, disks);
        let text = rescue_conf(&earlier, session, assignments, rebuild, restore);
        write(&path, &text)?;
        let mappings = self.mappings();
        fs::create_dir_all(&mappings).map_err(file("make", &mappings))?;
        for name in ["disk_mappings", "disk_devices"] {
            let path = mappings.join(name);
            // A host whose disks changed before may have brought one, for other disks.
            let _ = fs::remove_file(&path);
            if mapping::needs_mapping(assignments) {
                write(&path, &mapping::mapping_file(assignments))?;
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), RecoverError> {
    fs::write(path, text).map_err(file("write", path))
}

async fn copy(from: &Path, to: &Path) -> Result<(), RecoverError> {
    let words = [
        "cp",
        "-a",
        "-T",
        &from.to_string_lossy(),
        &to.to_string_lossy(),
    ];
    let copied = commands::run_words(&words, Duration::from_secs(60)).await;
    match copied {
        Ok(ran) if ran.success => Ok(()),
        Ok(ran) => Err(file("copy", from)(std::io::Error::other(ran.said()))),
        Err(cause) => Err(file("copy", from)(cause)),
    }
}

/// The same as the mapping file, as variables that answer ReaR's questions, for versions that do not find the file.
pub(super) fn answers(assignments: &[Assignment]) -> Vec<(String, String)> {
    let answer = |it: &Assignment| {
        let name = it.from.rsplit('/').next().unwrap_or_default();
        let name = name.chars().filter(char::is_ascii_alphanumeric);
        let name = name.collect::<String>().to_ascii_uppercase();
        let name = format!("USER_INPUT_LAYOUT_MIGRATION_REPLACEMENT_{name}");
        (name, it.to.clone())
    };
    assignments.iter().map(answer).collect()
}

/// Whether the host's initramfs may lack the drivers of these disks. Making it again takes minutes, so it is done only then;
/// ReaR's own comparison also counts the drive of the boot medium.
pub(super) fn needs_initramfs(session: &Session, disks: &[Disk]) -> bool {
    let had = &session.hardware.modules;
    let mut wanted = disks.iter().flat_map(|it| &it.drivers);
    wanted.any(|it| !had.contains(it))
}

/// `rescue.conf` with what this recovery needs. What an earlier attempt added is replaced.
fn rescue_conf(
    earlier: &str,
    session: &Session,
    assignments: &[Assignment],
    rebuild: bool,
    restore: &Path,
) -> String {
    let hosts = earlier.split(MARK).next().unwrap_or_default().trim_end();
    let mut text = format!("{hosts}\n\n{MARK}\n");
    let migrate = mapping::needs_mapping(assignments);
    // Writing to a string does not fail.
    let _ = writeln!(text, "BACKUP=EXTERNAL");
    let _ = writeln!(text, "EXTERNAL_RESTORE=\"{}\"", restore.display());
    text.push_str("EXTERNAL_IGNORE_ERRORS=()\nPING=\n");
    text.push_str(KEEP_GRUBENV);
    // Version 2.7 has no --non-interactive: questions get their default answers after a moment.
    text.push_str("USER_INPUT_TIMEOUT=5\nUSER_INPUT_INTERRUPT_TIMEOUT=3\nWAIT_SECS=5\n");
    let rebuild = if rebuild { "yes" } else { "no" };
    let _ = writeln!(
        text,
        "REBUILD_INITRAMFS={rebuild}\nBACKUP_SELINUX_DISABLE=0"
    );
    let _ = writeln!(text, "MIGRATION_MODE={migrate}");
    if session.hardware.uefi
        && !hosts
            .lines()
            .any(|it| it.starts_with("USING_UEFI_BOOTLOADER="))
    {
        text.push_str("USING_UEFI_BOOTLOADER=1\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::agent::tests::note;
    use super::*;

    fn session() -> Session {
        note().layers.last().unwrap().session.clone().unwrap()
    }

    fn assignment(to: &str) -> Assignment {
        Assignment {
            from: "/dev/sda".into(),
            to: to.into(),
            shrinks: false,
        }
    }

    #[test]
    fn the_hosts_own_settings_stay_and_ours_come_last_and_once() {
        let restore = Path::new("/run/towline/bin/towline-restore");
        let same = [assignment("/dev/sda")];
        let once = rescue_conf("BACKUP=NETFS\n", &session(), &same, false, restore);
        assert!(once.starts_with("BACKUP=NETFS\n"), "{once}");
        let ours = once.find("BACKUP=EXTERNAL\n").unwrap();
        assert!(ours > once.find("BACKUP=NETFS").unwrap());
        assert!(once.contains("MIGRATION_MODE=false\n") && !once.contains("REPLACEMENT"));
        assert_eq!(rescue_conf(&once, &session(), &same, false, restore), once);
    }

    #[test]
    fn other_disks_turn_on_migration_and_are_named_in_the_mapping_file_alone() {
        // ReaR applies the mapping to this file too, and fails at names that are no longer the host's.
        let text = rescue_conf(
            "",
            &session(),
            &[assignment("/dev/vda")],
            false,
            Path::new("/r"),
        );
        assert!(text.contains("MIGRATION_MODE=true\n") && !text.contains("/dev/vda"));
        let answers = answers(&[assignment("/dev/vda")]);
        let name = "USER_INPUT_LAYOUT_MIGRATION_REPLACEMENT_SDA";
        assert_eq!(answers, [(name.to_owned(), "/dev/vda".to_owned())]);
    }

    /// What ReaR has on its list after it has read `before` and then the settings of this recovery.
    fn moved_away(before: &str) -> String {
        let text = rescue_conf("", &session(), &[], false, Path::new("/r"));
        let script = format!("{before}\n{text}\necho \"${{BACKUP_RESTORE_MOVE_AWAY_FILES[*]}}\"");
        let output = std::process::Command::new("bash")
            .args(["-ec", &script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn nothing_of_the_session_is_moved_away_but_what_the_host_says() {
        let default = "BACKUP_RESTORE_MOVE_AWAY_FILES=( /boot/grub/grubenv /boot/grub2/grubenv )";
        assert_eq!(moved_away(default), "");
        let own = "BACKUP_RESTORE_MOVE_AWAY_FILES=( /boot/grub/grubenv /etc/machine-id )";
        assert_eq!(moved_away(own), "/boot/grub/grubenv /etc/machine-id");
        assert_eq!(moved_away(""), "");
    }

    #[test]
    fn a_uefi_host_is_one_even_if_its_capture_did_not_say_how() {
        let mut session = session();
        session.hardware.uefi = true;
        let text = rescue_conf("", &session, &[], false, Path::new("/r"));
        assert!(text.contains("USING_UEFI_BOOTLOADER=1\n"));
        let text = rescue_conf(
            "USING_UEFI_BOOTLOADER=1\n",
            &session,
            &[],
            false,
            Path::new("/r"),
        );
        assert_eq!(text.matches("USING_UEFI_BOOTLOADER").count(), 1);
    }

    #[test]
    fn the_initramfs_is_made_again_for_disks_on_drivers_that_the_host_did_not_use() {
        let mut session = session();
        session.hardware.modules = vec!["ahci".into(), "ext4".into()];
        let disk = |driver: &str| Disk {
            drivers: vec![driver.into()],
            ..Disk::default()
        };
        assert!(!needs_initramfs(&session, &[disk("ahci")]));
        assert!(needs_initramfs(&session, &[disk("ahci"), disk("nvme")]));
        let text = rescue_conf("", &session, &[], true, Path::new("/r"));
        assert!(text.contains("REBUILD_INITRAMFS=yes\n"));
    }
}
