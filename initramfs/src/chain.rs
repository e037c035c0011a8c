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
    let libraries: BTreeSet<&str> = chain
        .iter()
        .flat_map(|layer| &layer.provides.libraries)
        .map(String::as_str)
        .collect();
    let programs: BTreeSet<&str> = chain
        .iter()
        .flat_map(|layer| &layer.provides.programs)
        .map(String::as_str)
        .collect();
    let names: BTreeSet<&str> = programs
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    // Without a kernel layer, the medium's kernel is what there is, and nothing is known of it here.
    let has_kernel = chain.iter().any(|layer| layer.kind == Kind::Kernel);
    let modules: BTreeSet<&str> = chain
        .iter()
        .flat_map(|layer| &layer.provides.modules)
        .map(String::as_str)
        .collect();
    let mut report = Report::default();
    if let Some(layer) = unplaceable(chain.iter()) {
        let need =
            format!("{PLACES_ON_TARGET} (of a base that puts layers onto the recreated disk)");
        report.unresolved.push((layer.target_name(), need));
    }
    for layer in chain {
        let missing_libraries = layer
            .requires
            .libraries
            .iter()
            .filter(|name| !libraries.contains(name.as_str()));
        let has_program = |program: &str| {
            if program.starts_with('/') {
                programs.contains(program)
            } else {
                names.contains(program)
            }
        };
        let missing_programs = layer
            .requires
            .programs
            .iter()
            .filter(|program| !has_program(program));
        let missing_modules = layer
            .requires
            .modules
            .iter()
            .filter(|name| has_kernel && !modules.contains(name.as_str()));
        for need in missing_libraries
            .chain(missing_programs)
            .chain(missing_modules)
        {
            report.unresolved.push((layer.target_name(), need.clone()));
        }
        report.stored_bytes += layer.stored_bytes;
        if layer.placement == Placement::Ram {
            report.memory_bytes += layer.unpacked_bytes;
        }
    }
    report
}
