//! Which parts a manifest of each kind may have: as the lanes bind what a layer holds, this binds what it says of itself.
//!
//! Checks and an agent's table name programs that the rescue system runs as root, some of them before anyone has asked for
//! a recovery. Whoever may sign such a layer may run programs there already; a protected host, whose key signs its own
//! layers, may not.

use super::{Kind, Manifest};

/// A part of a manifest that not every kind may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `agent`: the commands that restore.
    Agent,
    /// `checks`: commands that the rescue system runs once it is up.
    Checks,
    /// `image`: content that no lane can check.
    Image,
    /// `kernel_release`.
    KernelRelease,
    /// `replaceable`: files that agents may take the place of.
    Replaceable,
    /// `session`: what a host consisted of.
    Session,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Agent,
        Self::Checks,
        Self::Image,
        Self::KernelRelease,
        Self::Replaceable,
        Self::Session,
    ];

    /// Its name in manifests and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Checks => "checks",
            Self::Image => "image",
            Self::KernelRelease => "kernel_release",
            Self::Replaceable => "replaceable",
            Self::Session => "session",
        }
    }

    /// The kinds that may have it.
    #[must_use]
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Agent => &[Kind::Agent],
            Self::Checks => &[Kind::Kernel, Kind::Base, Kind::Agent, Kind::Extra],
            Self::Image => &[Kind::Kernel, Kind::Base],
            Self::KernelRelease => &[Kind::Kernel],
            Self::Replaceable => &[Kind::Base],
            Self::Session => &[Kind::Host],
        }
    }

    /// Why a layer of this kind may not have it; `None` when it may.
    #[must_use]
    pub fn refusal(self, kind: Kind) -> Option<String> {
        if self.kinds().contains(&kind) {
            return None;
        }
        let kinds: Vec<_> = self.kinds().iter().map(|it| it.as_str()).collect();
        Some(format!(
            "it has {:?}, which only layers of these kinds may have: {}",
            self.name(),
            kinds.join(", ")
        ))
    }

    fn is_in(self, manifest: &Manifest) -> bool {
        match self {
            Self::Agent => manifest.agent.is_some(),
            Self::Checks => !manifest.checks.is_empty(),
            Self::Image => manifest.image.is_some(),
            Self::KernelRelease => manifest.kernel_release.is_some(),
            Self::Replaceable => !manifest.replaceable.is_empty(),
            Self::Session => manifest.session.is_some(),
        }
    }
}

/// The first part of `manifest` that its kind may not have, as a sentence.
pub(super) fn misplaced(manifest: &Manifest) -> Option<String> {
    let mut parts = Part::ALL.into_iter().filter(|part| part.is_in(manifest));
    parts.find_map(|part| part.refusal(manifest.kind))
}
