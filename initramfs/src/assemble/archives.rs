//! Archives of files as sources.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::compressed::all_members;
use crate::content::Spool;
use crate::filter::Filter;
use crate::initrd;
use crate::makeself;
use crate::recipe::{ImageSource, TarSource};
use crate::squashfs;
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

    pub(super) fn initrd(&mut self, source: &ImageSource) -> Result<(), SourceError> {
        let newest = self.image(source, initrd::unpack)?;
        self.note_time(newest);
        Ok(())
    }

    pub(super) fn live_image(&mut self, source: &ImageSource) -> Result<(), SourceError> {
        let unpacked = self.image(source, squashfs::unpack)?;
        self.note_time(unpacked.newest);
        if unpacked.with_attributes > 0 {
            let entries = unpacked.with_attributes;
            (self.talk)(&format!(
                "{entries} entries of the live image have extended attributes, such as file capabilities; these are left out, for layers have none"
            ));
        }
        Ok(())
    }

    /// Adds what `unpack` finds in the image.
    fn image<T, E>(
        &mut self,
        source: &ImageSource,
        unpack: impl FnOnce(&Path, &Filter, &mut Spool, &mut Tree) -> Result<T, E>,
    ) -> Result<T, SourceError>
    where
        SourceError: From<E>,
    {
        let path = self.input(&source.file)?;
        let filter = Filter::new(&source.include, &source.exclude)?;
        if source.to.is_empty() {
            let tree = &mut self.assembly.tree;
            return Ok(unpack(&path, &filter, &mut self.spool, tree)?);
        }
        let (mut tree, all) = (Tree::new(), Filter::default());
        let unpacked = unpack(&path, &all, &mut self.spool, &mut tree)?;
        self.graft(&tree, &source.to, &filter)?;
        Ok(unpacked)
    }
}
