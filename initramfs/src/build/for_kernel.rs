//! How a layer is packed so that its kernel can read it: the one that the recipe names, or the layer's own.
//!
//! Stage 1 unpacks anything; a kernel that is started by kexec, or by a boot loader with these layers, unpacks them itself, and
//! boots on silently without one that it cannot read. Where no kernel is known, it is taken for one that reads all.

use towline_contract::manifest::{Compression, Placement};

use super::BuildError;
use crate::assemble::Assembly;
use crate::kernel::{INITRAMFS, Reads, SQUASHFS_ZSTD};
use crate::recipe::{Form, Recipe};

/// A kernel that is to read the layer.
#[derive(Debug)]
pub(super) struct ForKernel {
    /// For messages.
    name: String,
    pub(super) reads: Reads,
}

impl ForKernel {
    /// The kernel that the recipe names.
    pub(super) fn named(recipe: &Recipe) -> Result<Option<Self>, BuildError> {
        let Some(file) = &recipe.for_kernel else {
            return Ok(None);
        };
        let path = recipe.beside(file);
        let reads = Reads::of_file(&path)?;
        let name = format!("the kernel of {}", path.display());
        Ok(Some(Self { name, reads }))
    }

    /// The kernel in the layer.
    pub(super) fn own(assembly: &Assembly) -> Option<Self> {
        let release = assembly.kernel_release.as_deref().unwrap_or_default();
        let name = format!("its own kernel {release}");
        let reads = assembly.reads.clone()?;
        Some(Self { name, reads })
    }
}

/// How the layer's archive is compressed if it is not around an image; refused when the kernel could not read the layer.
pub(super) fn compression(
    recipe: &Recipe,
    kernel: Option<&ForKernel>,
) -> Result<Compression, BuildError> {
    let wanted = recipe.compression;
    let Some(ForKernel { name, reads }) = kernel else {
        return Ok(wanted.unwrap_or(Compression::Zstd));
    };
    // Only ever unpacked by stage 1.
    if recipe.placement == Placement::Target {
        return Ok(wanted.unwrap_or(Compression::Zstd));
    }
    let refused = |what: &str, option, instead: &str| BuildError::Unread {
        recipe: recipe.path.clone(),
        what: what.to_owned(),
        kernel: name.clone(),
        option,
        instead: instead.to_owned(),
    };
    if !reads.has(INITRAMFS) {
        let instead = "no layer can be for that kernel: take another one";
        return Err(refused("a layer", INITRAMFS, instead));
    }
    if recipe.form == Form::Image {
        return match reads.has(SQUASHFS_ZSTD) {
            true => Ok(Compression::None),
            false => Err(refused(
                "form = \"image\"",
                SQUASHFS_ZSTD,
                "say form = \"files\" in the recipe, and no `plain`: the rescue system then takes more memory",
            )),
        };
    }
    let best = reads.best();
    match wanted.map(|it| (it, reads.lacks(it))) {
        Some((wanted, Some(option))) => Err(refused(
            &format!("compression = \"{}\"", name_of(wanted)),
            option,
            &format!(
                "leave out `compression` in the recipe, and the best that this kernel reads is taken: {}",
                name_of(best)
            ),
        )),
        Some((wanted, None)) => Ok(wanted),
        None => Ok(best),
    }
}

/// As recipes and manifests spell it.
pub(super) fn name_of(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}
