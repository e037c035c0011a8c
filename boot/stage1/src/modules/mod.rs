//! Drivers: finds the modules for this machine's devices and loads them.
//!
//! Cold-plug by walking `/sys/devices` for `modalias` files, again and again until nothing is new, because a bus driver
//! brings new devices. No kept crate does this for a PID 1 without kmod.

mod devices;
mod index;
mod pattern;

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::command_line::CommandLine;
use crate::progress::Progress;
pub use devices::{Driverless, driverless_network_devices, missing_firmware};
pub use index::{Index, Texts};

/// `MODULE_INIT_COMPRESSED_FILE` (linux/module.h): the kernel unpacks `.ko.xz`, `.ko.gz` and `.ko.zst` itself.
const COMPRESSED_FILE: i32 = 4;

/// Where modules lie, one directory for each kernel release.
const DIRECTORIES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Most rounds of one cold-plug. A dock behind a hub behind a controller needs four.
const ROUNDS_MAX: u32 = 20;

/// Time for new devices to appear after drivers were loaded, before the next round.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

/// Longest directory depth in `/sys/devices` that is walked.
const DEPTH_MAX: u32 = 40;

/// Loads modules and remembers which.
#[derive(Debug)]
pub struct Loader {
    index: Index,
    command_line: CommandLine,
    /// Modules that were tried, whether or not they could be loaded.
    tried: HashSet<String>,
    /// Aliases of devices that were dealt with.
    seen: HashSet<String>,
}

/// A module that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The medium has no such module, and the kernel has it not built in.
    #[error("this kernel has no module {0}")]
    Unknown(String),
    /// The kernel refused it.
    #[error("cannot load the module {module}")]
    Refused {
        /// Its name.
        module: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl Loader {
    /// A loader for the running kernel's modules.
    ///
    /// # Errors
    /// There is no index for this kernel.
    pub fn open(command_line: &CommandLine) -> io::Result<Self> {
        let release = crate::machine::kernel_release();
        // An initramfs need not have the link from one to the other.
        let of = |directory: &str| Index::read(&Path::new(directory).join(&release));
        let index = of(DIRECTORIES[0]).or_else(|error| of(DIRECTORIES[1]).map_err(|_| error))?;
        Ok(Self {
            index,
            command_line: command_line.clone(),
            tried: HashSet::new(),
            seen: HashSet::new(),
        })
    }

    /// Loads a module by name, and what it needs.
    ///
    /// # Errors
    /// It does not exist, or the kernel refused it or one that it needs.
    pub fn load(&mut self, module: &str) -> Result<(), ModuleError> {
        let order = self.index.load_order(module);
        if order.is_empty() && !self.index.is_builtin(module) {
            return Err(ModuleError::Unknown(module.to_owned()));
        }
        let order: Vec<_> = order
            .into_iter()
            .map(|(name, path)| (name.to_owned(), path))
            .collect();
        for (name, path) in order {
            if !self.tried.contains(&name) {
                self.load_file(&name, &path)?;
                self.tried.insert(name);
            }
        }
        Ok(())
    }

    /// Loads the drivers of all devices, until no new device appears. Gives the number of modules that were loaded;
    /// whatever cannot be loaded is reported and left.
    pub fn cold_plug(&mut self, progress: &dyn Progress) -> usize {
        let before = self.tried.len();
        for _ in 0..ROUNDS_MAX {
            let aliases = self.new_aliases();
            if aliases.is_empty() {
                break;
            }
            let tried = self.tried.len();
            for alias in aliases {
                self.load_for(&alias, progress);
            }
            if self.tried.len() > tried {
                std::thread::sleep(BETWEEN_ROUNDS);
            }
        }
        self.tried.len() - before
    }

    fn load_for(&mut self, alias: &str, progress: &dyn Progress) {
        let modules: Vec<_> = self
            .index
            .resolve(alias)
            .into_iter()
            .map(str::to_owned)
            .collect();
        for module in modules {
            let Err(error) = self.load(&module) else {
                continue;
            };
            self.tried.insert(module);
            // The module looked and found nothing of its own: common, and no fault.
            if !is_absent_device(&error) {
                progress.warn(format_args!("{}", crate::failure::joined(&error)));
            }
        }
    }

    fn load_file(&self, module: &str, path: &Path) -> Result<(), ModuleError> {
        let refused = |cause| ModuleError::Refused {
            module: module.to_owned(),
            cause,
        };
        let file = File::open(path).map_err(refused)?;
        // A NUL cannot be on a command line.
        let parameters = self.command_line.module_parameters(module);
        let parameters = CString::new(parameters).unwrap_or_default();
        let plain = path.extension().is_some_and(|extension| extension == "ko");
        let flags = if plain { 0 } else { COMPRESSED_FILE };
        match rustix::system::finit_module(&file, &parameters, flags) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(refused(e.into())),
        }
    }

    fn new_aliases(&mut self) -> Vec<String> {
        let mut aliases = Vec::new();
        walk(Path::new("/sys/devices"), DEPTH_MAX, &mut |alias| {
            if self.seen.insert(alias.to_owned()) {
                aliases.push(alias.to_owned());
            }
        });
        aliases
    }
}

/// Reads every `modalias` below `directory`, without following links.
fn walk(directory: &Path, depth: u32, found: &mut dyn FnMut(&str)) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            walk(&entry.path(), depth, found);
        } else if entry.file_name() == "modalias" {
            let alias = fs::read_to_string(entry.path()).unwrap_or_default();
            if !alias.trim().is_empty() {
                found(alias.trim());
            }
        }
    }
}

fn is_absent_device(error: &ModuleError) -> bool {
    let ModuleError::Refused { cause, .. } = error else {
        return false;
    };
    let absent = [Errno::NODEV, Errno::NXIO, Errno::OPNOTSUPP, Errno::PERM];
    Errno::from_io_error(cause).is_some_and(|errno| absent.contains(&errno))
}

/// Deletes the modules of this medium, which lie in memory. Call when every driver that this boot needs is loaded.
pub fn release_memory() -> u64 {
    let before = crate::machine::memory_kib("MemAvailable").unwrap_or(0);
    for directory in DIRECTORIES.iter().chain(&["/lib/firmware"]) {
        // What cannot be deleted stays in memory; there may be enough.
        let _ = fs::remove_dir_all(directory);
    }
    let after = crate::machine::memory_kib("MemAvailable").unwrap_or(0);
    after.saturating_sub(before)
}

/// Waits for a file or directory to appear.
pub async fn wait_for(path: &Path, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while !path.exists() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}
