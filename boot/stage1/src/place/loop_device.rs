//! Loop devices: a file as a block device (loop(4)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Block size of squashfs's device, in bytes.
const BLOCK_BYTES: u32 = 512;
/// Tries to get a free device before another process does.
const TRIES: usize = 16;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of linux/loop.h, the `loop_info64` in it spelled out as far as it is used.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// `lo_device`, `lo_inode`, `lo_rdevice`, `lo_offset`, `lo_sizelimit`.
    info_start: [u64; 5],
    /// `lo_number`, `lo_encrypt_type`, `lo_encrypt_key_size`.
    info_numbers: [u32; 3],
    lo_flags: u32,
    /// `lo_file_name`, `lo_crypt_name`, `lo_encrypt_key`, `lo_init`.
    info_rest: [u64; 22],
    reserved: [u64; 8],
}

/// An attached device. It detaches itself when it is neither open nor mounted.
pub(super) struct Device {
    path: PathBuf,
    _open: File,
}

impl Device {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Attaches `file`, read-only, to a free device.
pub(super) fn attach(file: &Path) -> io::Result<Device> {
    let backing = File::open(file)?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    for _ in 0..TRIES {
        let number = free_number(&control)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::open(&path)?;
        match configure(&device, &backing) {
            Ok(()) => {
                return Ok(Device {
                    path,
                    _open: device,
                });
            }
            // Another process was quicker.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no loop device stays free"))
}

#[expect(unsafe_code, reason = "rustix has no loop ioctls")]
fn free_number(control: &File) -> io::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and writes to no memory of ours.
    match unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) } {
        number @ 0.. => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "rustix has no loop ioctls")]
fn configure(device: &File, backing: &File) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?,
        block_size: BLOCK_BYTES,
        info_start: [0; 5],
        info_numbers: [0; 3],
        lo_flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        info_rest: [0; 22],
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `LoopConfig` has, and keeps no pointer to it.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::LoopConfig;

    #[test]
    fn the_structure_has_the_kernels_size() {
        // 4 + 4 + sizeof(struct loop_info64) = 232 + 8 * 8
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(std::mem::offset_of!(LoopConfig, lo_flags), 8 + 52);
    }
}
