//! The one system call that rustix lacks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `kexec_file_load` with an initramfs: kexec_file_load(2).
///
/// # Errors
/// As the kernel says; see [`super::kexec`] for what it means.
#[expect(unsafe_code, reason = "rustix has no kexec_file_load")]
pub(super) fn kexec_file_load(
    kernel: impl AsFd,
    initrd: impl AsFd,
    command_line: &CStr,
) -> io::Result<()> {
    let (kernel, initrd) = (kernel.as_fd().as_raw_fd(), initrd.as_fd().as_raw_fd());
    let bytes = command_line.to_bytes_with_nul();
    // SAFETY: the two descriptors are open during the call, and the kernel reads `bytes.len()` bytes at `bytes`, with the
    // NUL that it asks for; it keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            libc::c_long::from(kernel),
            libc::c_long::from(initrd),
            bytes.len(),
            bytes.as_ptr(),
            0 as libc::c_ulong,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
