//! Archives of files as sources.

use std::fs::File;
use std::io::BufReader;

use crate::compressed::all_members;
use crate::filter::Filter;
use crate::initrd;
use crate::recipe::{InitrdSource, TarSource};
use crate::tarball::Unpacker;

use super::{Assembler, SourceError};

impl Assembler<'_> {
    pub(super) fn tar(&mut self, source: &TarSource) -> Result<(), SourceError> {
        let path = self.input(&source.file)?;
        let filter = Filter::new(&source.include, &source.exclude)?;
        let failed = |cause| SourceError::Tar {
            path: path.clone(),
            cause,
        };
        let read = |cause: std::io::Error| failed(cause.into());
        let file = BufReader::new(File::open(&path).map_err(read)?);
        let reader = all_members(file).map_err(read)?;
        let mut unpacker = Unpacker {
            filter: &filter,
            spool: &mut self.spool,
            tree: &mut self.assembly.tree,
            added: &mut |_| {},
            place: &|name| place(name, source),
            owners: source.keep_owners,
        };
        let newest = unpacker.run(reader).map_err(failed)?;
        self.note_time(newest);
        Ok(())
    }

    pub(super) fn initrd(&mut self, source: &InitrdSource) -> Result<(), SourceError> {
        let path = self.input(&source.file)?;
        let filter = Filter::new(&source.include, &source.exclude)?;
        let newest = initrd::unpack(&path, &filter, &mut self.spool, &mut self.assembly.tree)?;
        self.note_time(newest);
        Ok(())
    }
}

/// The path in the layer of an archive's entry.
fn place(name: &[u8], source: &TarSource) -> Option<Vec<u8>> {
    let parts = name.split(|byte| *byte == b'/');
    let mut parts = parts.filter(|part| !part.is_empty() && *part != b".");
    let rest: Vec<_> = parts.by_ref().skip(source.strip).collect();
    if rest.is_empty() {
        return None;
    }
    let mut path = source.to.trim_matches('/').as_bytes().to_vec();
    for part in rest {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Some(path)
}
