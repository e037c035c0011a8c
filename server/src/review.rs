//! The chain check before publishing: would what machines boot afterwards still have all it needs?

use std::collections::{BTreeMap, BTreeSet};

use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::chain::{self, Unread};

use crate::config::PlanConfig;
use crate::doctor::Level;
use crate::order::order;
use crate::unread::unread;

/// A need that no layer meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// Target name of the layer that has the need.
    pub layer: String,
    /// A library or program, or an option of the kernel that has to read the layer.
    pub need: String,
    /// Target name of the base of that chain.
    pub base: String,
    /// What to do, if that is more than adding it to a layer.
    pub next: Option<&'static str>,
}

/// What the check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Review {
    /// There is no base yet, and so no chain to check.
    NoBase,
    /// Needs that would be unmet and are not so already, sorted.
    Checked(Vec<Unmet>),
}

/// Checks the chains that `published` and `new` make together. Of each name the newest layer counts, and a new one before
/// any that is published. The chains of those bases are checked that hosts without one of their own may boot by `plan`.
#[must_use]
pub fn review(published: &[Manifest], new: &[Manifest], plan: &PlanConfig) -> Review {
    let before = newest(published.iter());
    let after = together(published, new);
    if !after.keys().any(|(kind, ..)| *kind == Kind::Base) {
        return Review::NoBase;
    }
    let known = unmet(&before, plan);
    let fresh: BTreeSet<_> = new.iter().map(Manifest::target_name).collect();
    let is_known = |row: &Unmet| {
        let same = |other: &Unmet| other.layer == row.layer && other.need == row.need;
        !fresh.contains(&row.layer) && known.iter().any(same)
    };
    let rows = unmet(&after, plan);
    Review::Checked(rows.into_iter().filter(|row| !is_known(row)).collect())
}

/// Layers by what a chain has one of each, in the chain's order.
pub(crate) type Newest<'a> = BTreeMap<(Kind, &'a str, &'a str), &'a Manifest>;

/// What machines would boot of `published` and `new`.
pub(crate) fn together<'a>(published: &'a [Manifest], new: &'a [Manifest]) -> Newest<'a> {
    let mut together = newest(published.iter());
    together.extend(newest(new.iter()));
    together
}

fn newest<'a>(layers: impl Iterator<Item = &'a Manifest>) -> Newest<'a> {
    let mut newest = Newest::new();
    for layer in layers {
        let key = (layer.kind, &*layer.name, &*layer.architecture);
        let other = newest.entry(key).or_insert(layer);
        if order(layer, other).is_gt() {
            *other = layer;
        }
    }
    newest
}

/// What would be missing in the chain of each base, and in those that it makes with an agent or extra which machines do not boot
/// by themselves: that may come in a recovery, and nothing else has its libraries and programs.
fn unmet(layers: &Newest<'_>, plan: &PlanConfig) -> Vec<Unmet> {
    let is_base = |layer: &&Manifest| layer.kind == Kind::Base;
    let mut rows = BTreeSet::new();
    for bottom in layers.values().copied().filter(is_base) {
        if !plan.wants(Kind::Base, None, &bottom.name) {
            continue;
        }
        let fits = |layer: &&Manifest| {
            !is_base(layer)
                && (layer.architecture == "all" || layer.architecture == bottom.architecture)
        };
        let is_booted = |layer: &&Manifest| plan.boots(layer.kind, &layer.name);
        let above = layers.values().copied().filter(fits);
        let (booted, others): (Vec<_>, Vec<_>) = above.partition(is_booted);
        let chain = || std::iter::once(bottom).chain(booted.iter().copied());
        let mut found = chain::check(chain()).unresolved;
        for other in &others {
            let own = chain::check(chain().chain([*other])).unresolved.into_iter();
            let target = other.target_name();
            found.extend(own.filter(|(layer, _)| *layer == target));
        }
        let base = bottom.target_name();
        rows.extend(found.into_iter().map(|(layer, need)| Unmet {
            layer,
            need,
            base: base.clone(),
            next: None,
        }));
        let all: Vec<_> = chain().chain(others).collect();
        rows.extend(unread_of(&all, plan).into_iter().map(|it| Unmet {
            layer: it.layer.target_name(),
            need: format!(
                "{} in kernel {}, which has to read it",
                it.lacks(),
                it.kernel.name
            ),
            base: base.clone(),
            next: Some(it.next()),
        }));
    }
    rows.into_iter().collect()
}

/// What the kernels of hosts without one of their own have to read of these layers and cannot. No kernel reads another one's layer,
/// nor that of a host that boots another one.
fn unread_of<'a>(layers: &[&'a Manifest], plan: &PlanConfig) -> Vec<Unread<'a>> {
    let kernels = layers.iter().filter(|it| it.kind == Kind::Kernel);
    let kernels = kernels.filter(|it| plan.wants(Kind::Kernel, None, &it.name));
    let found = kernels.flat_map(|kernel| {
        let reads = |it: &&&Manifest| match it.kind {
            Kind::Kernel => std::ptr::eq(**it, *kernel),
            Kind::Host => plan.wants(Kind::Kernel, Some(&it.name), &kernel.name),
            _ => true,
        };
        let chain: Vec<_> = layers.iter().filter(reads).copied().collect();
        unread(&chain, plan.hand_over)
    });
    let problems = found.filter(|(level, _)| *level == Level::Problem);
    problems.map(|(_, it)| it).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HandOverChoice, HostPlan};
    use crate::fixture::manifest;
    use towline_contract::manifest::{Compression, PLACES_ON_TARGET, Placement};

    fn needing(kind: Kind, name: &str, need: &str) -> Manifest {
        let mut layer = manifest(kind, name, "1");
        layer.requires.libraries = vec![need.into()];
        layer
    }

    fn offering(version: &str, library: &str) -> Manifest {
        let mut base = manifest(Kind::Base, "debian", version);
        base.provides.libraries = vec![library.into()];
        base
    }

    #[test]
    fn an_agent_whose_library_no_layer_has_is_named() {
        let base = offering("1", "libc.so.6");
        let agent = needing(Kind::Agent, "restic", "libfuse.so.3");
        let Review::Checked(rows) = review(&[base], &[agent], &PlanConfig::default()) else {
            panic!("there is a base");
        };
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].layer, "agent/restic/1/amd64");
        assert_eq!(rows[0].need, "libfuse.so.3");
    }

    #[test]
    fn what_machines_do_not_boot_meets_no_need_of_others_and_its_own_are_looked_at() {
        let base = offering("1", "libc.so.6");
        let needing = needing(Kind::Agent, "restic", "libfuse.so.3");
        let named = |kind: Kind, name: &str| {
            let mut layer = manifest(kind, name, "1");
            layer.provides.libraries = vec!["libfuse.so.3".into()];
            layer
        };
        for kind in [Kind::Agent, Kind::Extra] {
            let published = [base.clone(), named(kind, "fuse")];
            let found = |plan: &PlanConfig| match review(
                &published,
                std::slice::from_ref(&needing),
                plan,
            ) {
                Review::Checked(rows) => rows.into_iter().map(|it| it.need).collect(),
                Review::NoBase => vec!["a base".to_owned()],
            };
            let mut plan = PlanConfig::default();
            assert_eq!(found(&plan), Vec::<String>::new());
            plan.agents = Some(vec!["restic".into()]);
            plan.extras = Some(vec![]);
            assert_eq!(found(&plan), ["libfuse.so.3"], "{kind}");
            // It is not booted by itself either, and may be in a recovery.
            plan.agents = Some(vec![]);
            assert_eq!(found(&plan), ["libfuse.so.3"], "{kind}");
            plan.extras = None;
            let wanted = Vec::from_iter((kind == Kind::Agent).then(|| "libfuse.so.3".to_owned()));
            assert_eq!(found(&plan), wanted, "{kind}");
        }
    }

    #[test]
    fn a_new_base_that_breaks_a_published_agent_is_named() {
        let published = [
            offering("1", "libfuse.so.3"),
            needing(Kind::Agent, "restic", "libfuse.so.3"),
        ];
        let mut newer = offering("2", "libc.so.6");
        newer.created = "2030-01-01T00:00:00Z".parse().unwrap();
        let found = review(&published, &[newer], &PlanConfig::default());
        assert!(matches!(found, Review::Checked(rows) if rows[0].layer == "agent/restic/1/amd64"));
    }

    #[test]
    fn what_was_unmet_before_does_not_stop_another_layer() {
        let published = [
            offering("1", "libc.so.6"),
            needing(Kind::Agent, "old", "libgone.so.1"),
        ];
        let host = manifest(Kind::Host, "example", "1");
        assert_eq!(
            review(&published, &[host], &PlanConfig::default()),
            Review::Checked(vec![])
        );
    }

    #[test]
    fn a_layer_for_the_target_over_a_base_that_does_not_put_it_there_is_named() {
        let mut agent = manifest(Kind::Agent, "large", "1");
        agent.placement = Placement::Target;
        let agent = [agent];
        let mut base = manifest(Kind::Base, "debian", "1");
        let found = review(&[base.clone()], &agent, &PlanConfig::default());
        let Review::Checked(rows) = found else {
            panic!("there is a base");
        };
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].layer, "agent/large/1/amd64");
        base.provides.programs = vec![PLACES_ON_TARGET.into()];
        assert_eq!(
            review(&[base], &agent, &PlanConfig::default()),
            Review::Checked(vec![])
        );
    }

    #[test]
    fn an_agent_that_the_kernel_has_to_unpack_and_cannot_is_named_but_not_for_single_hosts_kernels()
    {
        let mut kernel = manifest(Kind::Kernel, "old", "1");
        kernel.compression = Compression::None;
        kernel.provides.modules = vec!["CONFIG_BLK_DEV_INITRD".into(), "CONFIG_RD_GZIP".into()];
        let mut base = manifest(Kind::Base, "debian", "1");
        base.compression = Compression::Gzip;
        let published = [kernel, base];
        let agent = [manifest(Kind::Agent, "restic", "1")];
        let rows = |plan: &PlanConfig| match review(&published, &agent, plan) {
            Review::Checked(rows) => rows,
            Review::NoBase => panic!("there is a base"),
        };
        let mut plan = PlanConfig::default();
        let found = rows(&plan);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].layer, "agent/restic/1/amd64");
        assert!(
            found[0].need.starts_with("CONFIG_RD_ZSTD in kernel old"),
            "{found:?}"
        );
        assert!(found[0].next.unwrap().contains("--for-kernel"));
        // In a recovery only: it is looked at all the same.
        plan.agents = Some(vec![]);
        assert_eq!(rows(&plan).len(), 1);
        plan.hand_over = HandOverChoice::InPlace;
        assert_eq!(rows(&plan), []);
        plan.hand_over = HandOverChoice::Auto;
        let kernel = Some("old".to_owned());
        plan.hosts
            .insert("web1".into(), HostPlan { kernel, base: None });
        assert_eq!(rows(&plan), [], "that host's chain check says it");
    }

    #[test]
    fn no_kernel_has_to_read_another_ones_layer_nor_that_of_a_host_with_a_kernel_of_its_own() {
        let options = ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_GZIP", "CONFIG_RD_ZSTD"];
        let [old, new] = [("old", &options[..2]), ("web1", &options[..])].map(|(name, options)| {
            let mut kernel = manifest(Kind::Kernel, name, "1");
            kernel.provides.modules = options.iter().map(|it| (*it).to_owned()).collect();
            kernel
        });
        let mut base = manifest(Kind::Base, "debian", "1");
        base.compression = Compression::None;
        let old = Manifest {
            compression: Compression::Gzip,
            ..old
        };
        let mut plan = PlanConfig::default();
        let layers = [old, new, base];
        assert_eq!(review(&[], &layers, &plan), Review::Checked(vec![]));
        let host = [manifest(Kind::Host, "web1", "1")];
        let refused = review(&layers, &host, &plan);
        assert!(matches!(refused, Review::Checked(rows) if rows.len() == 1));
        let kernel = Some("web1".to_owned());
        plan.hosts
            .insert("web1".into(), HostPlan { kernel, base: None });
        assert_eq!(review(&layers, &host, &plan), Review::Checked(vec![]));
    }

    #[test]
    fn without_a_base_there_is_nothing_to_check() {
        let agent = needing(Kind::Agent, "restic", "libfuse.so.3");
        assert_eq!(
            review(&[], &[agent], &PlanConfig::default()),
            Review::NoBase
        );
    }
}
