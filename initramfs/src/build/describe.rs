//! What a finished layer's manifest says.

use towline_contract::Timestamp;
use towline_contract::lanes::Bounds;
use towline_contract::manifest::{Kind, MANIFEST_FORMAT, Manifest, Needs, Package};

use super::BuildError;
use super::pack::Packed;
use crate::assemble::Assembly;
use crate::kernel::Reads;
use crate::libraries::Findings;
use crate::recipe::{Recipe, unfilled};
use crate::release;
use crate::write::Stored;

/// The manifest of a layer that was written.
pub(super) fn manifest(
    recipe: &Recipe,
    packed: Packed,
    findings: Findings,
    stored: &Stored,
    time: u32,
) -> Result<Manifest, BuildError> {
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        kind: recipe.kind,
        name: recipe.name.clone(),
        version: version(recipe, &packed.assembly, time)?,
        architecture: recipe.architecture.clone(),
        created: Timestamp::from_second(time.into()).unwrap_or(Timestamp::UNIX_EPOCH),
        digest: stored.digest,
        stored_bytes: stored.stored_bytes,
        unpacked_bytes: stored.unpacked_bytes,
        entries: stored.entries,
        compression: packed.compression,
        chunks: stored.chunks.clone(),
        placement: recipe.placement,
        image: packed.image,
        kernel_release: packed.assembly.kernel_release,
        provides: Needs {
            modules: provided_modules(recipe, packed.assembly.modules, packed.assembly.reads),
            ..findings.provides
        },
        requires: Needs {
            modules: needed_modules(recipe),
            programs: needed_programs(recipe, findings.requires.programs),
            ..findings.requires
        },
        replaceable: recipe.replaceable.clone(),
        packages: packages(recipe, packed.assembly.packages.into_keys()),
        checks: recipe.checks.clone(),
        agent: recipe.agent.clone(),
        session: recipe.session.clone(),
        bounds: Bounds::default(),
    };
    // What is written must be what every reader takes.
    Ok(Manifest::parse(&manifest.to_bytes())?)
}

/// The kernel's modules, and the options that say what it can read of layers, sorted.
fn provided_modules(
    recipe: &Recipe,
    mut modules: Vec<String>,
    reads: Option<Reads>,
) -> Vec<String> {
    if let Some(reads) = reads.filter(|_| recipe.kind == Kind::Kernel) {
        modules.extend(reads.options().map(str::to_owned));
        modules.sort();
    }
    modules
}

/// What the files come from, sorted.
fn packages(recipe: &Recipe, packages: impl Iterator<Item = Package>) -> Vec<Package> {
    let mut packages: Vec<_> = packages.chain(release::package(recipe)).collect();
    packages.sort();
    packages
}

/// A host layer needs a kernel that drives the host.
fn needed_modules(recipe: &Recipe) -> Vec<String> {
    let session = recipe.session.as_ref();
    session.map_or_else(Vec::new, |it| it.hardware.modules.clone())
}

/// What the files need, and what the recipe says, sorted.
fn needed_programs(recipe: &Recipe, mut programs: Vec<String>) -> Vec<String> {
    programs.extend(recipe.programs.iter().cloned());
    programs.sort();
    programs.dedup();
    programs
}

/// The recipe's version with its placeholders filled.
fn version(recipe: &Recipe, assembly: &Assembly, time: u32) -> Result<String, BuildError> {
    let date = Timestamp::from_second(time.into())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string();
    let mut version = recipe
        .version
        .replace("${date}", &date[..10].replace('-', ""));
    for package in assembly.packages.keys() {
        version = version.replace(&format!("${{package.{}}}", package.name), &package.version);
    }
    for (name, value) in &assembly.placeholders {
        version = version.replace(&format!("${{{name}}}"), value);
    }
    match unfilled(&version) {
        None => Ok(version),
        Some(name) => Err(BuildError::Recipe {
            recipe: recipe.path.clone(),
            what: format!("the version uses ${{{name}}}, which has no value"),
        }),
    }
}
