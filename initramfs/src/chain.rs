//! The chain check: whether layers together have all that each of them needs.
//!
//! A pure function of manifests. Libraries, interpreters, programs and kernel modules count; they are looked for in the whole
//! chain. Programs are those that a layer's files need, that its agent's commands and its checks start, and that ReaR asks for.
//! A layer for the target needs a base that puts it there. What the chain's kernel cannot read is told apart ([`unread`]).

mod by_kernel;

use std::collections::HashSet;

use towline_contract::manifest::{Kind, Manifest, PLACES_ON_TARGET, Placement, unplaceable};

use crate::libraries::{PROGRAM_DIRS, canonical};
pub use by_kernel::{Unread, Why, unread};

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
pub fn check<'a>(chain: impl IntoIterator<Item = &'a Manifest>) -> Report {
    let chain: Vec<_> = chain.into_iter().collect();
    let stack = Stack::of(&chain);
    let in_memory = |it: &&&Manifest| it.placement == Placement::Ram;
    Report {
        unresolved: stack.unresolved(),
        memory_bytes: chain
            .iter()
            .filter(in_memory)
            .map(|it| it.unpacked_bytes)
            .sum(),
        stored_bytes: chain.iter().map(|it| it.stored_bytes).sum(),
    }
}

/// Layers of a chain with what they bring looked up once, however many others are checked over them.
#[derive(Debug)]
pub struct Stack<'a> {
    layers: Vec<&'a Manifest>,
    in_memory: Provided<'a>,
    everything: Provided<'a>,
}

impl<'a> Stack<'a> {
    /// These layers.
    #[must_use]
    pub fn of(layers: &[&'a Manifest]) -> Self {
        let layers = layers.to_vec();
        // What is in memory is there before the disks are: it cannot lean on what goes onto them.
        let in_memory = layers.iter().filter(|it| it.placement == Placement::Ram);
        Self {
            in_memory: Provided::by(in_memory.copied()),
            everything: Provided::by(layers.iter().copied()),
            layers,
        }
    }

    /// Needs of the layers themselves that none of them meets: target name of the layer, and what it needs.
    #[must_use]
    pub fn unresolved(&self) -> Vec<(String, String)> {
        let mut unresolved = Vec::new();
        if let Some(layer) = unplaceable(self.layers.iter().copied()) {
            let need =
                format!("{PLACES_ON_TARGET} (of a base that puts layers onto the recreated disk)");
            unresolved.push((layer.target_name(), need));
        }
        let nothing = Provided::default();
        for layer in &self.layers {
            let missing = self.missing(layer, &nothing).into_iter();
            unresolved.extend(missing.map(|need| (layer.target_name(), need)));
        }
        unresolved
    }

    /// Whether there is a layer of this kind among them.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.layers.iter().any(|it| it.kind == kind)
    }

    /// Whether a kernel among them has this module, built in or not.
    #[must_use]
    pub fn has_module(&self, name: &str) -> bool {
        self.everything.modules.contains(name)
    }

    /// What a layer over these needs that neither they have nor itself.
    #[must_use]
    pub fn unresolved_of(&self, layer: &Manifest) -> Vec<String> {
        self.missing(layer, &Provided::by([layer].into_iter()))
    }

    fn missing(&self, layer: &Manifest, own: &Provided<'_>) -> Vec<String> {
        let below = match layer.placement {
            Placement::Ram => &self.in_memory,
            Placement::Target => &self.everything,
        };
        let has_kernel = below.has_kernel || own.has_kernel;
        let needs = &layer.requires;
        let libraries = needs.libraries.iter().map(String::as_str);
        let libraries = libraries
            .filter(|it| !below.libraries.contains(it) && !own.libraries.contains(it))
            .map(str::to_owned);
        let named = needs.programs.iter().map(|it| (it.as_str(), None));
        let programs = named.chain(commands(layer));
        let programs = programs
            .map(|(name, path)| match name.starts_with('/') {
                true => (canonical(name), path),
                false => (name.to_owned(), path),
            })
            .filter(|(name, path)| !below.has_program(name, *path) && !own.has_program(name, *path))
            .map(|(name, _)| name);
        let modules = needs.modules.iter().map(String::as_str);
        let modules = modules
            .filter(|it| has_kernel && !below.modules.contains(it) && !own.modules.contains(it))
            .map(str::to_owned);
        let mut seen = HashSet::new();
        let all = libraries.chain(programs).chain(modules);
        all.filter(|it| seen.insert(it.clone())).collect()
    }
}

/// Programs that the commands of a layer start, and the `PATH` in which they are looked for by name, if it is the layer's own.
/// What has a brace is known in the recovery only.
fn commands(layer: &Manifest) -> impl Iterator<Item = (&str, Option<&str>)> {
    let of_agent = layer.agent.iter().flat_map(|it| {
        let path = it.environment.get("PATH").map(String::as_str);
        let install = it.install.iter().map(|it| &it.command);
        let commands = [&it.check, &it.sessions, &it.restore].into_iter();
        let programs = commands.chain(install).filter_map(|it| it.first());
        programs.map(move |it| (it.as_str(), path))
    });
    let checks = layer.checks.iter().filter_map(|it| it.command.first());
    let all = of_agent.chain(checks.map(|it| (it.as_str(), None)));
    all.filter(|(name, path)| {
        let in_path = path.filter(|_| !name.contains('/'));
        !name.contains('{') && !in_path.is_some_and(|it| it.contains('{'))
    })
}

/// What layers bring for each other.
#[derive(Debug, Default)]
struct Provided<'a> {
    libraries: HashSet<&'a str>,
    /// Paths; and of those in folders of programs the names, by which commands find them.
    programs: HashSet<&'a str>,
    modules: HashSet<&'a str>,
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
                let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
                let is_found = PROGRAM_DIRS.contains(&dir.trim_start_matches('/'));
                all.programs.extend(is_found.then_some(name));
            }
            all.modules
                .extend(provides.modules.iter().map(String::as_str));
            all.has_kernel |= layer.kind == Kind::Kernel;
        }
        all
    }

    /// Whether a program is there by its path; or by its name, in the folders of `path` if that is given.
    fn has_program(&self, name: &str, path: Option<&str>) -> bool {
        match path.filter(|_| !name.contains('/')) {
            Some(path) => path.split(':').any(|dir| {
                let file = canonical(&format!("{}/{name}", dir.trim_end_matches('/')));
                self.programs.contains(file.as_str())
            }),
            None => self.programs.contains(name),
        }
    }
}
