//! Layers that stage 1 verified and left to the rescue system to fetch.
//!
//! The note that names them ([`HandOverLayer`]) was written by stage 1 into memory, from manifests that it had verified, or came
//! with the other layers by kexec: it is as trustworthy as the program that reads it. What it says is still held to the rules.

use super::error::TrustError;
use super::verified::Verified;
use crate::handover::HandOverLayer;
use crate::manifest::{Manifest, Placement};

impl HandOverLayer {
    /// The manifest of the layer, if it is still to be placed on the target.
    ///
    /// # Errors
    /// It is no usable manifest, one of another layer, or of one that belongs into memory.
    pub fn for_target(&self) -> Result<Option<Verified<Manifest>>, TrustError> {
        let Some(manifest) = &self.on_target else {
            return Ok(None);
        };
        let mut manifest =
            Manifest::parse(&manifest.to_bytes()).map_err(|source| TrustError::Manifest {
                layer: self.target.clone(),
                source,
            })?;
        let found = manifest.target_name();
        if found != self.target {
            return Err(TrustError::ManifestDisagrees {
                layer: self.target.clone(),
                field: "name",
                found,
                wanted: self.target.clone(),
            });
        }
        if manifest.placement != Placement::Target {
            return Err(TrustError::ManifestDisagrees {
                layer: self.target.clone(),
                field: "placement",
                found: "ram".into(),
                wanted: "target".into(),
            });
        }
        manifest.bounds = self.bounds.clone();
        Ok(Some(Verified::new(manifest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Bounds;
    use crate::manifest::Kind;

    fn layer() -> HandOverLayer {
        let base = include_str!("../../tests/golden/v1/base.manifest.json");
        let mut manifest = Manifest::parse(base.as_bytes()).unwrap();
        (manifest.kind, manifest.placement) = (Kind::Agent, Placement::Target);
        (manifest.image, manifest.replaceable) = (None, vec![]);
        HandOverLayer {
            target: manifest.target_name(),
            image: None,
            checks: vec![],
            agent: None,
            session: None,
            on_target: Some(manifest),
            bounds: Bounds::default(),
        }
    }

    #[test]
    fn a_note_that_names_another_layer_than_its_manifest_is_refused() {
        assert!(layer().for_target().unwrap().is_some());
        let mut other = layer();
        other.target = "agent/borg/1/amd64".into();
        let error = other.for_target().unwrap_err();
        assert!(
            matches!(error, TrustError::ManifestDisagrees { field: "name", .. }),
            "{error}"
        );
    }

    #[test]
    fn only_what_is_meant_for_the_target_is_placed_there_from_a_note() {
        let mut in_memory = layer();
        if let Some(manifest) = &mut in_memory.on_target {
            manifest.placement = Placement::Ram;
        }
        assert!(in_memory.for_target().is_err());
        in_memory.on_target = None;
        assert!(in_memory.for_target().unwrap().is_none());
    }
}
