//! ReaR's own description of the running host, written where it disturbs nothing.
//!
//! `rear savelayout` is run with one more settings file, which sends its output to a folder of ours and adds the few scripts
//! of `mkrescue` that record something of the host (`hooks/rear-capture.conf`). It works with ReaR 2.7 and with the current master.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::error::{CaptureError, file};
use super::home::{Home, replace};

/// The settings file that is added.
const SETTINGS: &str = include_str!("hooks/rear-capture.conf");

/// Its name in the folder of the host's settings.
const SETTINGS_FILE: &str = "rear-capture.conf";

/// Bytes of ReaR's output that an error shows.
const SAID_BYTES_MAX: u64 = 4 << 10;

/// What ReaR says when it runs already; then it is tried again.
const RUNNING: &str = "is already running";

/// Pause before it is tried again.
const RUNNING_PAUSE: Duration = Duration::from_secs(2);

/// Runs `rear savelayout` with `state` in place of `/var/lib/rear`; gives ReaR's version.
///
/// # Errors
/// It is not installed, fails, or takes longer than `timeout`.
pub(super) fn savelayout(
    home: &Home,
    state: &Path,
    timeout: Duration,
) -> Result<String, CaptureError> {
    let settings = home.config_dir().join(SETTINGS_FILE);
    fs::create_dir_all(home.config_dir()).map_err(file("make", home.config_dir()))?;
    replace(&settings, SETTINGS.as_bytes()).map_err(file("write", &settings))?;
    let settings = fs::canonicalize(&settings).map_err(file("find", &settings))?;
    let deadline = Instant::now() + timeout;
    loop {
        fs::create_dir_all(state).map_err(file("make", state))?;
        let ran = run(&settings, state, deadline)?;
        match ran.status {
            Some(status) if status.success() => return version(state),
            Some(_) if ran.said.contains(RUNNING) && Instant::now() < deadline => {
                std::thread::sleep(RUNNING_PAUSE);
            }
            Some(status) => {
                return Err(CaptureError::Rear {
                    status: status.to_string(),
                    said: ran.said,
                });
            }
            None => {
                return Err(CaptureError::Timeout {
                    seconds: timeout.as_secs(),
                    said: ran.said,
                });
            }
        }
    }
}

/// What became of one run.
struct Ran {
    /// None if it was stopped.
    status: Option<ExitStatus>,
    said: String,
}

fn run(settings: &Path, state: &Path, deadline: Instant) -> Result<Ran, CaptureError> {
    let mut output = tempfile::tempfile_in(state).map_err(file("write to", state))?;
    let pipe = || output.try_clone().map_err(file("write to", state));
    let installed = Path::new("/usr/sbin/rear");
    let program = if installed.exists() {
        installed
    } else {
        Path::new("rear")
    };
    let child = Command::new(program)
        .args(["-v", "-C"])
        .arg(settings)
        .arg("savelayout")
        .env("TOWLINE_STATE", state)
        .stdin(Stdio::null())
        .stdout(pipe()?)
        .stderr(pipe()?)
        .process_group(0)
        .spawn();
    let child = child.map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => CaptureError::NoRear(cause),
        _ => file("run", program)(cause),
    })?;
    let status = wait(child, deadline).map_err(file("wait for", program))?;
    let said = end_of(&mut output).map_err(file("read the output in", state))?;
    Ok(Ran { status, said })
}

/// Waits for the child and stops it with all it started when it is too late.
fn wait(mut child: Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(group) = group {
                // It may just have ended.
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end_of(output: &mut File) -> io::Result<String> {
    let bytes = output.metadata()?.len();
    output.seek(io::SeekFrom::Start(bytes.saturating_sub(SAID_BYTES_MAX)))?;
    let mut end = Vec::new();
    output.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).trim().to_owned())
}

fn version(state: &Path) -> Result<String, CaptureError> {
    let path = state.join("version");
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_stopped_with_all_it_started() {
        let mut command = Command::new("sh");
        let child = command
            .args(["-c", "sleep 100 & sleep 100"])
            .process_group(0)
            .spawn();
        let child = child.unwrap();
        let group = i32::try_from(child.id()).unwrap();
        let ended = wait(child, Instant::now() + Duration::from_millis(100)).unwrap();
        assert_eq!(ended, None);
        let left = || rustix::process::test_kill_process_group(Pid::from_raw(group).unwrap());
        let deadline = Instant::now() + Duration::from_secs(5);
        while left().is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(left().is_err());
    }

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let mut output = tempfile::tempfile().unwrap();
        let text = "x".repeat(10_000) + "ERROR: No bootloader\n";
        io::Write::write_all(&mut output, text.as_bytes()).unwrap();
        let said = end_of(&mut output).unwrap();
        assert!(said.len() <= 4096 && said.ends_with("ERROR: No bootloader"));
    }

    /// The shim that is found below a root with these files, by the host that `listed` (`efibootmgr -v`) describes.
    fn shim(files: &[&str], listed: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=debian\n").unwrap();
        fs::write(root.path().join("hook"), SETTINGS).unwrap();
        let script = format!(
            "efibootmgr() {{ cat <<'END'\n{listed}\nEND\n}}; . \"$0/hook\"; towline_shim \"$0\""
        );
        let found = Command::new("bash")
            .args(["-c", &script])
            .arg(root.path())
            .output()
            .unwrap();
        assert!(found.stderr.is_empty(), "{found:?}");
        let found = String::from_utf8(found.stdout).unwrap();
        let found = found.trim().strip_prefix(root.path().to_str().unwrap());
        found.unwrap_or_default().to_owned()
    }

    #[test]
    fn the_firmware_is_to_start_shim_and_not_grub_which_secure_boot_refuses() {
        const ESP: &[&str] = &[
            "boot/efi/EFI/BOOT/BOOTX64.EFI",
            "boot/efi/EFI/BOOT/shimx64.efi",
            "boot/efi/EFI/debian/grubx64.efi",
            "boot/efi/EFI/debian/shimx64.efi",
            "boot/efi/EFI/another/shimx64.efi",
        ];
        let debian = "/boot/efi/EFI/debian/shimx64.efi";
        assert_eq!(shim(ESP, ""), debian);
        let by_fallback =
            "BootCurrent: 0001\nBoot0001* UEFI Misc Device\tPciRoot(0x0)/Pci(0x3,0x0)";
        assert_eq!(shim(ESP, by_fallback), debian);
        // Spelled as the firmware does.
        let other = "BootCurrent: 0002\nBoot0001* debian\tHD(1,GPT,aa)/File(\\EFI\\debian\\shimx64.efi)\n\
                     Boot0002* other\tHD(1,GPT,aa)/File(\\EFI\\ANOTHER\\SHIMX64.EFI)";
        assert_eq!(shim(ESP, other), "/boot/efi/EFI/another/shimx64.efi");
        assert_eq!(shim(&ESP[..3], ""), "", "without shim ReaR looks by itself");
    }
}
