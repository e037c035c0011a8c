//! Archives of files as sources.

use std::fs::File;
use std::io::BufReader;

use crate::compressed::all_members;
use crate::filter::Filter;
use crate::initrd;
use crate::makeself;
use crate::recipe::{InitrdSource, TarSource};
use crate::tarball::Unpacker;
use crate::tree::Tree;

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
        let mut added = |_| {};
        let mut unpacker = self.unpacker(source, &filter, &mut added);
        let newest = unpacker.run(reader).map_err(failed)?;
        self.note_time(newest);
        Ok(())
    }

    pub(super) fn run(&mut self, source: &TarSource) -> Result<(), SourceError> {
        let path = self.input(&source.file)?;
        let filter = Filter::new(&source.include, &source.exclude)?;
        let mut added = |_| {};
        let unpacked = makeself::unpack(&path, &mut self.unpacker(source, &filter, &mut added))?;
        if !unpacked.script.is_empty() {
            let script = unpacked.script;
            (self.talk)(&format!(
                "unpacked, but not run: {script} of {}",
                path.display()
            ));
        }
        self.note_time(unpacked.newest);
        Ok(())
    }

    fn unpacker<'s>(
        &'s mut self,
        source: &'s TarSource,
        filter: &'s Filter,
        added: &'s mut dyn FnMut(Vec<u8>),
    ) -> Unpacker<'s> {
        Unpacker {
            filter,
            spool: &mut self.spool,
            tree: &mut self.assembly.tree,
            added,
            to: &source.to,
            strip: source.strip,
            owners: source.keep_owners,
        }
    }

    pub(super) fn initrd(&mut self, source: &InitrdSource) -> Result<(), SourceError> {
        let path = self.input(&source.file)?;
        let filter = Filter::new(&source.include, &source.exclude)?;
        let newest = if source.to.is_empty() {
            initrd::unpack(&path, &filter, &mut self.spool, &mut self.assembly.tree)?
        } else {
            let (mut tree, all) = (Tree::new(), Filter::default());
            let newest = initrd::unpack(&path, &all, &mut self.spool, &mut tree)?;
            self.graft(&tree, &source.to, &filter)?;
            newest
        };
        self.note_time(newest);
        Ok(())
    }
}
