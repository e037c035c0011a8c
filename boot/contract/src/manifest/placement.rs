//! Where a layer goes, and which chains can put it there. Pure decisions.

use serde::{Deserialize, Serialize};

use super::{Kind, Manifest};

/// Path of the name by which a base layer says that its rescue system puts layers onto the target; a link to that program.
/// It is among the programs that the base provides, so that older media, servers and base layers need no new field to
/// read, and a chain with an older base is told from one with a newer before anything is downloaded.
pub const PLACES_ON_TARGET: &str = "/usr/lib/towline/places-on-target";

/// Where a layer goes. An agent that is too large for memory goes onto the recreated file systems, as a layer or by an
/// installer of its own ([`crate::agent::Agent::install`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Into the rescue system, in memory.
    Ram,
    /// Its names into the rescue system, and what its files hold into a folder on the recreated file systems, from before
    /// the restore until after it. The rescue system fetches it then; agent and extra layers only.
    Target,
}

impl Placement {
    /// Why a layer of this kind may not go there; `None` when it may.
    #[must_use]
    pub fn refusal(self, kind: Kind) -> Option<String> {
        if self == Self::Ram || matches!(kind, Kind::Agent | Kind::Extra) {
            return None;
        }
        let why =
            "its placement is \"target\", which only layers of these kinds may have: agent, extra";
        Some(why.into())
    }
}

/// The first layer of `chain` for the target, if no base of the chain puts layers there.
#[must_use]
pub fn unplaceable<'a>(chain: impl Iterator<Item = &'a Manifest> + Clone) -> Option<&'a Manifest> {
    let places = |it: &Manifest| {
        let provided = &it.provides.programs;
        it.kind == Kind::Base && provided.iter().any(|it| it == PLACES_ON_TARGET)
    };
    let first = chain.clone().find(|it| it.placement == Placement::Target)?;
    let mut chain = chain;
    (!chain.any(places)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> [Manifest; 2] {
        let golden = include_str!("../../tests/golden/v1/base.manifest.json");
        let base = Manifest::parse(golden.as_bytes()).unwrap();
        let mut agent = base.clone();
        (agent.kind, agent.placement) = (Kind::Agent, Placement::Target);
        [base, agent]
    }

    #[test]
    fn only_a_base_that_says_so_puts_layers_onto_the_target() {
        let [mut base, mut agent] = chain();
        let found = |chain: &[Manifest; 2]| unplaceable(chain.iter()).map(|it| it.kind);
        assert_eq!(found(&[base.clone(), agent.clone()]), Some(Kind::Agent));
        // What an agent says of itself does not count.
        agent.provides.programs = vec![PLACES_ON_TARGET.into()];
        assert_eq!(found(&[base.clone(), agent.clone()]), Some(Kind::Agent));
        base.provides.programs.push(PLACES_ON_TARGET.into());
        assert_eq!(found(&[base, agent]), None);
        let [base, mut agent] = chain();
        agent.placement = Placement::Ram;
        assert_eq!(found(&[base, agent]), None, "nothing is for the target");
    }
}
