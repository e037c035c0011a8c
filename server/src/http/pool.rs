//! Buffers for files on their way out, used again and again: neither allocated nor zeroed for each piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one buffer: the largest piece read at a time.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Most buffers kept while nobody uses them (8 MiB).
const KEPT_MAX: usize = 32;

/// Buffers that nobody uses just now.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Vec<u8>>>);

/// A buffer on loan; it goes back when the last `Bytes` of it is gone.
struct Lent {
    buffer: Vec<u8>,
    filled: usize,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// Reads `bytes` (at most [`PIECE_BYTES`]) of `file` from `at`.
///
/// # Errors
/// The file cannot be read, or ends before.
pub(super) fn read(pool: &Arc<Pool>, file: &File, at: u64, bytes: usize) -> io::Result<Bytes> {
    let kept = pool.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut lent = Lent {
        buffer: kept.unwrap_or_else(|| vec![0; PIECE_BYTES]),
        filled: bytes.min(PIECE_BYTES),
        pool: pool.clone(),
    };
    let filled = lent.filled;
    file.read_exact_at(&mut lent.buffer[..filled], at)?;
    Ok(Bytes::from_owner(lent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_buffer_used_again_shows_nothing_of_its_last_user() {
        let pool = Arc::new(Pool::default());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a long first answer, then").unwrap();
        drop(read(&pool, &file, 0, 25).unwrap());
        assert_eq!(pool.0.lock().unwrap().len(), 1);
        assert_eq!(&read(&pool, &file, 2, 4).unwrap()[..], b"long");
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_no_old_bytes() {
        let pool = Arc::new(Pool::default());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        assert!(read(&pool, &file, 0, 6).is_err());
    }
}
