//! Files that hold a secret, which their owner alone may read.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// The text of the file `path`, of at most `max` bytes; `what` it holds is for messages. A pipe has no mode that counts.
///
/// # Errors
/// It cannot be read, is larger, or others may read it.
pub(crate) fn secret_file(path: &Path, what: &str, max: u64) -> Result<Zeroizing<String>, Failure> {
    let usage = |error| Failure::new(Exit::Usage, error);
    let shown = path.display();
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).and_then(|it| Ok((it.metadata()?, it)));
    let read = file.and_then(|(about, it)| {
        it.take(max + 1).read_to_string(&mut text)?;
        Ok(about)
    });
    let about = read.with_context(|| format!("cannot read the {what} in {shown}"));
    let about = about.map_err(usage)?;
    let mode = about.mode() & 0o777;
    if about.is_file() && mode & 0o077 != 0 {
        let error = anyhow!("{shown} has mode {mode:04o}: others may read the {what} in it");
        return Err(usage(error).next(format!("chmod 600 {shown}")));
    }
    if text.len() as u64 > max {
        return Err(usage(anyhow!("{shown} has more than {max} bytes")));
    }
    Ok(text)
}
