//! Sources that are in the recipe itself, or plain files of this machine.

use std::path::PathBuf;

use crate::content::Content;
use crate::filter::Filter;
use crate::listing;
use crate::recipe::{
    DirectoriesSource, DirectorySource, FileContent, FileSource, Input, LinksSource,
};
use crate::tree::{Meta, Node};

use super::{Assembler, SourceError, directory};

impl Assembler<'_> {
    pub(super) fn directory(&mut self, source: &DirectorySource) -> Result<(), SourceError> {
        let from = self.recipe.beside(&source.path);
        let filter = Filter::new(&source.include, &source.exclude)?;
        let to = source.to.trim_matches('/');
        let listing = match self.listings.remove(&from) {
            Some(listing) => listing,
            None => {
                listing::list(&from).map_err(|(path, cause)| SourceError::Read { path, cause })?
            }
        };
        let newest = directory::add(
            listing,
            &from,
            to,
            &filter,
            source.keep_modes,
            &mut self.assembly.tree,
        )?;
        self.note_time(newest);
        Ok(())
    }

    pub(super) fn file(&mut self, source: &FileSource) -> Result<(), SourceError> {
        let (mut content, permissions) = match &source.content {
            FileContent::Text(text) => (Content::from_bytes(text.as_bytes()), 0o644),
            FileContent::From(input) => self.file_of_machine(input)?,
            FileContent::Copy(path) => self.file_of_layer(path)?,
        };
        if !source.append.is_empty() {
            let read = |cause| SourceError::Read {
                path: PathBuf::from(&source.path),
                cause,
            };
            let mut bytes = content.read().map_err(read)?;
            bytes.extend_from_slice(source.append.as_bytes());
            content = Content::from_bytes(bytes);
        }
        let meta = Meta::root(source.mode.unwrap_or(permissions));
        self.assembly
            .tree
            .file(source.path.as_bytes(), meta, content)?;
        Ok(())
    }

    fn file_of_machine(&mut self, input: &Input) -> Result<(Content, u32), SourceError> {
        let path = self.input(input)?;
        let metadata = path.metadata().map_err(|cause| SourceError::Read {
            path: path.clone(),
            cause,
        })?;
        let mode = directory::plain_mode(&metadata);
        Ok((Content::of_file(path, &metadata), mode))
    }

    fn file_of_layer(&self, path: &str) -> Result<(Content, u32), SourceError> {
        let found = self.assembly.tree.find(path.as_bytes());
        let Some((content, mode)) = found.and_then(|(_, entry)| match &entry.node {
            Node::File(content) => Some((content, entry.meta.mode)),
            _ => None,
        }) else {
            return Err(SourceError::NoFile(path.to_owned()));
        };
        Ok((Content::clone(content), mode))
    }

    pub(super) fn links(&mut self, source: &LinksSource) -> Result<(), SourceError> {
        for (path, target) in &source.links {
            self.assembly
                .tree
                .symlink(path.as_bytes(), Meta::root(0o777), target.as_bytes())?;
        }
        Ok(())
    }

    pub(super) fn directories(&mut self, source: &DirectoriesSource) -> Result<(), SourceError> {
        for path in &source.paths {
            self.assembly
                .tree
                .directory(path.as_bytes(), Meta::root(source.mode.unwrap_or(0o755)))?;
        }
        Ok(())
    }
}
