//! The chain check: whether layers together have all that each of them needs.
//!
//! A pure function of manifests. Libraries, interpreters and kernel modules count; they are looked for in the whole chain. A
//! layer for the target needs a base that puts it there.

use std::collections::BTreeSet;

use towline_contract::manifest::{Kind, Manifest, PLACES_ON_TARGET, Placement, unplaceable};

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Needs that no layer meets: target name of the layer, and what it needs.
    pub unresolved: Vec<(String, String)>,
    /// Bytes of memory that the layers take in the rescue system: images as stored, other entries unpacked, and
    /// nothing for those that go onto the target.
    pub memory_bytes: u64,
    /// Bytes that are downloaded.
    pub stored_bytes: u64,
}

impl Report {
    /// Whether the chain has all it needs.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.unresolved.is_empty()
    }
}

/// Checks the manifests of one chain, in its order.
#[must_use]
pub fn check(chain: &[Manifest]) -> Report {
    // What is in memory is there before the disks are: it cannot lean on what goes onto them.
    let in_memory = Provided::by(chain.iter().filter(|it| it.placement == Placement::Ram));
    let everything = Provided::by(chain.iter());
    let mut report = Report::default();
    if let Some(layer) = unplaceable(chain.iter()) {
        let need =
            format!("{PLACES_ON_TARGET} (of a base that puts layers onto the recreated disk)");
        report.unresolved.push((layer.target_name(), need));
    }
    for layer in chain {
        let provided = match layer.placement {
            Placement::Ram => &in_memory,
            Placement::Target => &everything,
        };
        let missing = provided.missing(layer);
        let missing = missing.map(|need| (layer.target_name(), need.clone()));
        report.unresolved.extend(missing);
        report.stored_bytes += layer.stored_bytes;
        if layer.placement == Placement::Ram {
            report.memory_bytes += layer.unpacked_bytes;
        }
    }
    report
}

/// What layers bring for each other.
#[derive(Default)]
struct Provided<'a> {
    libraries: BTreeSet<&'a str>,
    /// Paths, and names without their folders.
    programs: BTreeSet<&'a str>,
    modules: BTreeSet<&'a str>,
    /// Without a kernel layer, the medium's kernel is what there is, and nothing is known of it here.
    has_kernel: bool,
}

impl<'a> Provided<'a> {
    fn by(layers: impl Iterator<Item = &'a Manifest>) -> Self {
        let mut all = Self::default();
        for layer in layers {
            let provides = &layer.provides;
            all.libraries
                .extend(provides.libraries.iter().map(String::as_str));
            for path in &provides.programs {
                all.programs.insert(path);
                all.programs.extend(path.rsplit('/').next());
            }
            all.modules
                .extend(provides.modules.iter().map(String::as_str));
            all.has_kernel |= layer.kind == Kind::Kernel;
        }
        all
    }

    /// What `layer` needs and nobody brings.
    fn missing(&self, layer: &'a Manifest) -> impl Iterator<Item = &'a String> {
        let needs = &layer.requires;
        let libraries = needs.libraries.iter();
        let programs = needs.programs.iter();
        let modules = needs.modules.iter();
        libraries
            .filter(|it| !self.libraries.contains(it.as_str()))
            .chain(programs.filter(|it| !self.programs.contains(it.as_str())))
            .chain(modules.filter(|it| self.has_kernel && !self.modules.contains(it.as_str())))
    }
}
