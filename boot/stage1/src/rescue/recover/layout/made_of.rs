//! What lies on what: partitions on disks, arrays and volume groups on them, volumes on these, file systems on all.

use std::collections::{BTreeMap, BTreeSet};

use super::Partition;

/// Everything with what it lies on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct MadeOf {
    below: BTreeMap<String, BTreeSet<String>>,
    /// Where those lie that are partitions.
    places: BTreeMap<String, Partition>,
}

/// Where the parts of a disk lie, and what is made of each. The disk itself is a part without a place.
type Role<'a> = Vec<(Option<Partition>, BTreeSet<&'a str>)>;

impl MadeOf {
    /// `upper` lies on `lower`, perhaps among others.
    pub(super) fn add(&mut self, upper: &str, lower: &str) {
        let below = self.below.entry(upper.to_owned()).or_default();
        below.insert(lower.to_owned());
    }

    /// `device` is a partition of `disk`, at this place.
    pub(super) fn partition(&mut self, device: &str, disk: &str, place: Partition) {
        self.add(device, disk);
        self.places.insert(device.to_owned(), place);
    }

    /// Whether it is known what `upper` lies on.
    pub(super) fn has(&self, upper: &str) -> bool {
        self.below.contains_key(upper)
    }

    /// All that `upper` lies on, however many things are between.
    pub(super) fn all_below<'a>(&'a self, upper: &'a str) -> BTreeSet<&'a str> {
        let (mut all, mut todo) = (BTreeSet::new(), vec![upper]);
        while let Some(device) = todo.pop() {
            for lower in self.below.get(device).into_iter().flatten() {
                if all.insert(lower.as_str()) {
                    todo.push(lower);
                }
            }
        }
        all
    }

    /// Whether something is made of two disks, and the same of the same parts of both.
    pub(super) fn are_equals(&self, one: &str, other: &str) -> bool {
        let role = self.role(one);
        role.iter().any(|(_, makes)| !makes.is_empty()) && role == self.role(other)
    }

    fn role<'a>(&'a self, disk: &'a str) -> Role<'a> {
        let partitions = self.directly_above(disk, true);
        let mut role: Role<'_> = partitions
            .chain([disk])
            .map(|part| {
                let makes = self.directly_above(part, false).collect();
                (self.places.get(part).copied(), makes)
            })
            .collect();
        role.sort();
        role
    }

    /// Those that lie on `lower` with nothing between: its partitions, or all others.
    fn directly_above<'a>(
        &'a self,
        lower: &'a str,
        partitions: bool,
    ) -> impl Iterator<Item = &'a str> {
        let above = self.below.iter().filter(move |(upper, below)| {
            below.contains(lower) && self.places.contains_key(*upper) == partitions
        });
        above.map(|(upper, _)| upper.as_str())
    }
}
