//! PID 1 of the boot test: says what a medium handed to it, on the console that the kernel opened for it.

use std::ffi::c_int;
use std::fs;

unsafe extern "C" {
    fn klogctl(kind: c_int, buffer: *mut u8, bytes: c_int) -> c_int;
}

/// The kernel's log (syslog(2)); the console shows warnings and worse only.
fn kernel_log() -> String {
    const READ_ALL: c_int = 3;
    let mut buffer = vec![0; 1 << 20];
    // SAFETY: the buffer has the length that is given with it.
    let read = unsafe { klogctl(READ_ALL, buffer.as_mut_ptr(), 1 << 20) };
    buffer.truncate(usize::try_from(read).unwrap_or(0));
    String::from_utf8_lossy(&buffer).into_owned()
}

fn main() {
    let line = |name: &str, value: String| println!("medium-test: {name} {value}");
    line(
        "build",
        fs::read_to_string("/towline/build.json")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    );
    let area = fs::read("/towline/stamp").unwrap_or_default();
    line(
        "stamp",
        format!(
            "{} bytes {}",
            area.len(),
            String::from_utf8_lossy(area.get(106..160).unwrap_or_default())
        ),
    );
    let release = fs::read_dir("/lib/modules")
        .ok()
        .and_then(|mut dir| dir.next()?.ok())
        .map(|entry| entry.path());
    let release = release.unwrap_or_default();
    let dependencies = fs::read_to_string(release.join("modules.dep")).unwrap_or_default();
    let paths = dependencies
        .lines()
        .filter_map(|line| line.split(':').next());
    let there = paths.filter(|path| release.join(path).is_file()).count();
    line(
        "modules",
        format!("{there} of {}", dependencies.lines().count()),
    );
    line(
        "secure-boot",
        kernel_log()
            .contains("Kernel is locked down from EFI Secure Boot")
            .to_string(),
    );
    loop {
        std::thread::park(); // the kernel panics when PID 1 ends
    }
}
