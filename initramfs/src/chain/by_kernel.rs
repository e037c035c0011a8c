//! What the chain's own kernel could not read of the chain. A kernel that is started by kexec gets the layers as they are
//! stored, and boots on silently without one that it cannot unpack; images it has to mount, however it is started.
//!
//! Nothing is said of a kernel whose configuration is not known, nor of layers for the target, which stage 1 alone unpacks.

use std::fmt;

use towline_contract::manifest::{Compression, Kind, Manifest, Placement};

use crate::kernel::{Reads, SQUASHFS_ZSTD};

/// Modules that mount images.
const IMAGE_MODULES: [&str; 3] = ["loop", "overlay", "squashfs"];

/// A layer that a kernel cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread<'a> {
    /// The layer.
    pub layer: &'a Manifest,
    /// The kernel's.
    pub kernel: &'a Manifest,
    /// Why.
    pub why: Why,
}

/// Why a kernel cannot read a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not unpack zstd. Nor can it be a medium's kernel, whose own initramfs is zstd: it is always started by kexec.
    Zstd(&'static str),
    /// It does not unpack gzip.
    Gzip(&'static str),
    /// It does not read the blocks of images.
    Blocks,
    /// Its layer has no module to mount images with.
    Module(&'static str),
}

impl Unread<'_> {
    /// The option or module that the kernel lacks.
    #[must_use]
    pub fn lacks(&self) -> &'static str {
        match self.why {
            Why::Zstd(lacks) | Why::Gzip(lacks) | Why::Module(lacks) => lacks,
            Why::Blocks => SQUASHFS_ZSTD,
        }
    }

    /// What to do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match (self.why, self.layer.kind) {
            (Why::Zstd(_) | Why::Gzip(_), Kind::Host) => {
                "run towline capture on the host again, which goes by the host's own kernel, or have it boot another one (plan.hosts in towline.toml)"
            }
            (Why::Zstd(_) | Why::Gzip(_), _) => {
                "build the layer for that kernel and publish it: towline layer build RECIPE --for-kernel KERNEL.layer"
            }
            (Why::Blocks, _) => {
                "say form = \"files\" in the recipe, and no `plain`; build and publish it"
            }
            (Why::Module(_), _) => {
                "add the module to `modules` and `plain` of the kernel's recipe, build and publish it"
            }
        }
    }
}

impl fmt::Display for Unread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layer, kernel) = (self.layer.target_name(), self.kernel.target_name());
        let lacks = self.lacks();
        match self.why {
            Why::Zstd(_) => write!(
                f,
                "{kernel} cannot unpack {layer}, which is compressed by zstd: its kernel has no {lacks}"
            ),
            Why::Gzip(_) => write!(
                f,
                "{kernel} cannot unpack {layer}, which is compressed by gzip: its kernel has no {lacks}"
            ),
            Why::Blocks => write!(
                f,
                "{kernel} cannot mount the image of {layer}, whose blocks are zstd: its kernel has no {lacks}"
            ),
            Why::Module(_) => write!(
                f,
                "{kernel} cannot mount the image of {layer}: it has no module {lacks}"
            ),
        }
    }
}

/// What the kernel of a chain cannot read of its layers.
#[must_use]
pub fn unread<'a>(chain: &[&'a Manifest]) -> Vec<Unread<'a>> {
    let mut found = Vec::new();
    for kernel in chain.iter().filter(|it| it.kind == Kind::Kernel) {
        let Some(reads) = Reads::of_manifest(kernel) else {
            continue;
        };
        for layer in chain.iter().filter(|it| it.placement == Placement::Ram) {
            let why = of_layer(layer, kernel, &reads).into_iter();
            found.extend(why.map(|why| Unread { layer, kernel, why }));
        }
    }
    found
}

fn of_layer(layer: &Manifest, kernel: &Manifest, reads: &Reads) -> Vec<Why> {
    let mut why = Vec::new();
    why.extend(
        reads
            .lacks(layer.compression)
            .map(|lacks| match layer.compression {
                Compression::Zstd => Why::Zstd(lacks),
                Compression::Gzip | Compression::None => Why::Gzip(lacks),
            }),
    );
    if layer.image.is_some() {
        why.extend((!reads.has(SQUASHFS_ZSTD)).then_some(Why::Blocks));
        let has = |name: &str| kernel.provides.modules.iter().any(|it| it == name);
        why.extend(
            IMAGE_MODULES
                .into_iter()
                .filter(|it| !has(it))
                .map(Why::Module),
        );
    }
    why
}
