//! One build at a time in a folder of packages.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use super::{Apt, AptError};

/// How long another build may have the folder: as long as it takes to get a rescue system's packages over a slow line.
pub(super) const PATIENCE: Duration = Duration::from_secs(30 * 60);

impl Apt {
    /// Keeps other builds out of the folder: apt's own locks are for root. One that hangs does not make all others hang.
    pub(super) fn lock(&self) -> Result<File, AptError> {
        let path = self.cache.join("lock");
        let started = Instant::now();
        let cause = match File::create(&path) {
            Ok(file) => loop {
                match file.try_lock() {
                    Ok(()) => return Ok(file),
                    Err(TryLockError::WouldBlock) if started.elapsed() < self.patience => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    Err(TryLockError::WouldBlock) => {
                        let seconds = self.patience.as_secs();
                        return Err(AptError::Busy { path, seconds });
                    }
                    Err(TryLockError::Error(cause)) => break cause,
                }
            },
            Err(cause) => cause,
        };
        Err(AptError::File { path, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_build_has_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut apt = Apt::new(dir.path()).unwrap();
        apt.patience = Duration::from_millis(300);
        let held = apt.lock().unwrap();
        let error = apt.listed(&["tool".into()], &[]).unwrap_err();
        let lock = apt.cache.join("lock");
        assert!(
            matches!(&error, AptError::Busy { path, .. } if *path == lock),
            "{error}"
        );
        apt.patience = Duration::from_secs(60);
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(held);
        });
        drop(apt.lock().unwrap());
        ends.join().unwrap();
    }
}
