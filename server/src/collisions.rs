//! What stage 1 would refuse of a chain when it places the layers one over the other, found before they are signed.
//!
//! A pure decision; `docs/formats/layer.md` states the rules. Layers for the target are judged like the others: their names are made in
//! the rescue system too, and a collision that shows only there shows after the disks are erased.
//! Paths are compared as they are written: a layer brings
//! every directory on the way to its entries, so that a detour through a link shows as a directory over that link.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use serde::Serialize;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::places::Place;

/// A layer and what it puts where.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// What it is.
    pub manifest: &'a Manifest,
    /// Its paths.
    pub places: &'a [Place],
}

/// An entry that cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collision {
    /// Target name of the layer with the entry.
    pub layer: String,
    /// The entry, escaped for people.
    pub path: String,
    /// Target name of the earlier layer that is in its way.
    pub earlier: String,
    /// Target name of the base of that chain.
    pub base: String,
    /// The rule.
    pub rule: Rule,
}

/// What an entry may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A directory over something else, such as a link.
    DirectoryOver,
    /// Something else over a directory.
    OverDirectory,
    /// A file, link or node over another, which the base does not list as replaceable.
    OverFile,
}

/// A file, link or node that a later layer takes the place of, as it may.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hidden {
    /// The path, escaped for people.
    pub path: String,
    /// Target name of the layer that is seen there.
    pub layer: String,
    /// Target name of the one that is not.
    pub earlier: String,
}

/// What comes of placing a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What cannot be placed.
    pub collisions: Vec<Collision>,
    /// What it hides.
    pub hidden: Vec<Hidden>,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layer, path, earlier, base) = (&self.layer, &self.path, &self.earlier, &self.base);
        match self.rule {
            Rule::DirectoryOver => write!(
                f,
                "{layer} has a directory {path} where {earlier} has a link or file"
            )?,
            Rule::OverDirectory => write!(
                f,
                "{layer} has a link or file {path} where {earlier} has a directory"
            )?,
            Rule::OverFile => write!(
                f,
                "{layer} brings {path}, which {earlier} has already and which is not replaceable"
            )?,
        }
        if earlier == base {
            return Ok(());
        }
        write!(f, " (over {base})")
    }
}

/// The collisions over `base`. `kernels` lie below it. Of `above`, those that `together` accepts are placed one over the
/// other, in their order; each of the rest meets kernels and base alone, but a host's layer all of them.
#[must_use]
pub fn collisions(
    base: Placed<'_>,
    kernels: &[Placed<'_>],
    above: &[Placed<'_>],
    together: impl Fn(&Manifest) -> bool,
) -> Vec<Collision> {
    let mut tree = Tree::over(base.manifest);
    let mut found = Vec::new();
    for bottom in kernels.iter().chain([&base]) {
        found.extend(tree.begin(*bottom).collisions);
    }
    let is_host = |layer: &&Placed<'_>| layer.manifest.kind == Kind::Host;
    let others = || above.iter().filter(|layer| !is_host(layer));
    for alone in others().filter(|layer| !together(layer.manifest)) {
        found.extend(tree.judge(*alone).collisions);
    }
    for next in others().filter(|layer| together(layer.manifest)) {
        found.extend(tree.judge(*next).collisions);
        tree.add(*next);
    }
    for host in above.iter().filter(is_host) {
        found.extend(tree.judge(*host).collisions);
    }
    found
}

/// The layers of a chain one over the other, over which any host's can be judged.
#[derive(Debug)]
pub struct Stacked<'a> {
    tree: Tree<'a>,
    /// What came of placing them.
    pub verdict: Verdict,
}

impl<'a> Stacked<'a> {
    /// Kernel and base, and the layers over them, in the chain's order.
    #[must_use]
    pub fn of(kernel: Placed<'a>, base: Placed<'a>, above: &[Placed<'a>]) -> Self {
        let mut tree = Tree::over(base.manifest);
        let mut verdict = Verdict::default();
        let mut take = |it: Verdict| {
            verdict.collisions.extend(it.collisions);
            verdict.hidden.extend(it.hidden);
        };
        for bottom in [kernel, base] {
            take(tree.begin(bottom));
        }
        for next in above {
            take(tree.judge(*next));
            tree.add(*next);
        }
        Self { tree, verdict }
    }

    /// What would come of placing this layer over them.
    #[must_use]
    pub fn judge(&self, layer: Placed<'_>) -> Verdict {
        self.tree.judge(layer)
    }
}

/// What lies at a path: whether it is a directory, and the layer that brought it.
type There<'a> = (bool, &'a Manifest);

/// The tree that the layers so far make.
#[derive(Debug)]
struct Tree<'a> {
    base: &'a Manifest,
    there: BTreeMap<&'a [u8], There<'a>>,
}

impl<'a> Tree<'a> {
    /// An empty tree.
    fn over(base: &'a Manifest) -> Self {
        Self {
            base,
            there: BTreeMap::new(),
        }
    }

    /// Places a kernel or base: an image is stacked, anything else placed entry by entry.
    fn begin(&mut self, layer: Placed<'a>) -> Verdict {
        if layer.manifest.image.is_some() {
            let hidden = self.stack(layer);
            return Verdict {
                hidden,
                ..Verdict::default()
            };
        }
        let verdict = self.judge(layer);
        self.add(layer);
        verdict
    }

    /// Puts an image over what is there, as overlayfs does: directories join, anything else hides what was below.
    fn stack(&mut self, layer: Placed<'a>) -> Vec<Hidden> {
        let mut hides = Vec::new();
        for place in layer.places {
            if place.directory && self.there.get(&*place.path).is_some_and(|(is, _)| *is) {
                continue;
            }
            let below: Vec<_> = self.below(&place.path).collect();
            for path in below.into_iter().chain([place.path.as_slice()]) {
                if let Some((false, earlier)) = self.there.remove(path) {
                    hides.extend(hidden(path, layer.manifest, earlier));
                }
            }
            let there = (place.directory, layer.manifest);
            self.there.insert(&place.path, there);
        }
        hides
    }

    /// The paths below `path`.
    fn below<'s>(&'s self, path: &'s [u8]) -> impl Iterator<Item = &'a [u8]> + 's {
        let from = (Bound::Excluded(path), Bound::Unbounded);
        self.there
            .range::<[u8], _>(from)
            .map(|(path, _)| *path)
            .take_while(move |found| found.starts_with(path))
            .filter(move |found| found.get(path.len()) == Some(&b'/'))
    }

    /// What of `layer` cannot be placed over what is there, and what it hides.
    fn judge(&self, layer: Placed<'_>) -> Verdict {
        let freely = !matches!(layer.manifest.kind, Kind::Agent | Kind::Extra);
        let may_replace = |place: &Place| {
            let listed = |path: &String| path.as_bytes() == place.path;
            freely || self.base.replaceable.iter().any(listed)
        };
        let mut verdict = Verdict::default();
        for place in layer.places {
            let Some((directory, earlier)) = self.there.get(&*place.path).copied() else {
                continue;
            };
            let rule = match (place.directory, directory) {
                (true, true) => continue,
                (true, false) => Rule::DirectoryOver,
                (false, true) => Rule::OverDirectory,
                (false, false) if may_replace(place) => {
                    let hidden = hidden(&place.path, layer.manifest, earlier);
                    verdict.hidden.extend(hidden);
                    continue;
                }
                (false, false) => Rule::OverFile,
            };
            verdict.collisions.push(Collision {
                layer: layer.manifest.target_name(),
                path: place.path.escape_ascii().to_string(),
                earlier: earlier.target_name(),
                base: self.base.target_name(),
                rule,
            });
        }
        verdict
    }

    /// Adds what was judged. What lies there already stays, so that it is what later layers collide with.
    fn add(&mut self, layer: Placed<'a>) {
        for place in layer.places {
            let there = (place.directory, layer.manifest);
            self.there.entry(&place.path).or_insert(there);
        }
    }
}

/// What a layer hides at a path; what lies in its image and beside it hides nothing.
fn hidden(path: &[u8], layer: &Manifest, earlier: &Manifest) -> Option<Hidden> {
    (layer.digest != earlier.digest).then(|| Hidden {
        path: path.escape_ascii().to_string(),
        layer: layer.target_name(),
        earlier: earlier.target_name(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::manifest;

    /// A layer of these paths; directories end with a slash.
    struct Layer(Manifest, Vec<Place>);

    impl Layer {
        fn new(kind: Kind, name: &str, paths: &[&str]) -> Self {
            let place = |path: &&str| match path.strip_suffix('/') {
                Some(path) => Place::new(path.as_bytes(), true),
                None => Place::new(path.as_bytes(), false),
            };
            Self(manifest(kind, name, "1"), paths.iter().map(place).collect())
        }

        fn placed(&self) -> Placed<'_> {
            Placed {
                manifest: &self.0,
                places: &self.1,
            }
        }
    }

    fn base() -> Layer {
        let paths = ["usr/", "usr/bin/", "usr/bin/bash", "bin", "etc/", "etc/ca"];
        let mut base = Layer::new(Kind::Base, "debian", &paths);
        base.0.replaceable = vec!["etc/ca".into()];
        base
    }

    /// The rules that `above` break over the base, with the paths.
    fn rules(above: &[Layer]) -> Vec<(Rule, String)> {
        let above: Vec<_> = above.iter().map(Layer::placed).collect();
        let found = collisions(base().placed(), &[], &above, |_| true);
        found.into_iter().map(|it| (it.rule, it.path)).collect()
    }

    fn agent(name: &str, paths: &[&str]) -> Layer {
        Layer::new(Kind::Agent, name, paths)
    }

    #[test]
    fn an_agent_over_a_program_of_the_base_collides_and_beside_it_does_not() {
        let bash = agent("evil", &["usr/", "usr/bin/", "usr/bin/bash"]);
        assert_eq!(rules(&[bash]), [(Rule::OverFile, "usr/bin/bash".into())]);
        let beside = agent(
            "good",
            &["usr/", "usr/bin/", "usr/bin/good", "etc/", "etc/ca"],
        );
        assert_eq!(rules(&[beside]), []);
    }

    #[test]
    fn an_agent_for_the_target_collides_as_one_in_memory_does() {
        let mut bash = agent("evil", &["usr/", "usr/bin/", "usr/bin/bash"]);
        bash.0.placement = towline_contract::manifest::Placement::Target;
        assert_eq!(rules(&[bash]), [(Rule::OverFile, "usr/bin/bash".into())]);
    }

    #[test]
    fn a_directory_over_a_link_and_a_link_over_a_directory_collide() {
        let detour = agent("detour", &["bin/", "bin/agent"]);
        assert_eq!(rules(&[detour]), [(Rule::DirectoryOver, "bin".into())]);
        let link = Layer::new(Kind::Host, "db1", &["etc"]);
        assert_eq!(rules(&[link]), [(Rule::OverDirectory, "etc".into())]);
    }

    #[test]
    fn two_agents_with_one_file_collide_unless_the_base_lets_it_be_replaced() {
        let two = [
            agent("a", &["opt/", "opt/x", "etc/", "etc/ca"]),
            agent("b", &["opt/", "opt/x", "etc/", "etc/ca"]),
        ];
        let placed: Vec<_> = two.iter().map(Layer::placed).collect();
        let found = collisions(base().placed(), &[], &placed, |_| true);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "agent/b/1/amd64 brings opt/x, which agent/a/1/amd64 has already and which is not replaceable \
             (over base/debian/1/amd64)"
        );
        let apart = collisions(base().placed(), &[], &placed, |_| false);
        assert_eq!(apart, [], "machines never boot the two together");
    }

    #[test]
    fn a_host_replaces_files_but_no_directories() {
        let host = Layer::new(Kind::Host, "db1", &["etc/", "etc/ca", "usr/", "usr/bin"]);
        assert_eq!(rules(&[host]), [(Rule::OverDirectory, "usr/bin".into())]);
    }

    #[test]
    fn an_image_hides_what_lies_below_it_and_joins_directories() {
        let image = |mut layer: Layer| {
            layer.0.image = Some(towline_contract::manifest::Image {
                path: "towline/images/20-base.squashfs".into(),
                bytes: 1,
                content_bytes: 1,
            });
            layer
        };
        let paths = ["lib/", "lib/modules/", "usr/", "usr/lib/", "usr/lib/x.ko"];
        let kernel = image(Layer::new(Kind::Kernel, "debian", &paths));
        let base = image(Layer::new(
            Kind::Base,
            "debian",
            &["lib", "usr/", "usr/lib/"],
        ));
        let over = agent("a", &["usr/", "usr/lib/", "usr/lib/x.ko", "lib-new"]);
        let found = collisions(base.placed(), &[kernel.placed()], &[over.placed()], |_| {
            true
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].earlier, "kernel/debian/1/amd64");
        let gone = agent("b", &["lib/", "lib/modules/"]);
        let found = collisions(base.placed(), &[kernel.placed()], &[gone.placed()], |_| {
            true
        });
        assert_eq!(found[0].rule, Rule::DirectoryOver);
        assert_eq!(found.len(), 1, "what the base's link hides is not there");
    }
}
