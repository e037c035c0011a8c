//! What stage 1 leaves for the rescue system, in `run/towline/handover.json` of its root.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::lanes::Bounds;
use crate::manifest::{Check, Manifest};
use crate::stamp::Network;

/// Where the document lies in the rescue system, without the leading slash.
pub const HANDOVER_PATH: &str = "run/towline/handover.json";

/// Directory of the images in the initramfs, without the leading slash.
pub const IMAGES_DIR: &str = "towline/images";

/// The document. Nothing in it is secret.
///
/// Rescue systems refuse fields that they do not know. Those for the target are written only if the chain has such a
/// layer, and such a chain is started only with a base that knows them ([`crate::manifest::unplaceable`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOverNote {
    /// Identifies this boot in events.
    pub recovery: String,
    /// The host that is recovered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// The corrected time when this was written.
    pub time: Timestamp,
    /// Servers to report to, in order of preference.
    pub servers: Vec<String>,
    /// PEM certificates of the authorities that the servers' certificates are checked against.
    pub ca: Vec<String>,
    /// Where layers for the target are fetched, in order of preference; empty if the chain has none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mirrors: Vec<String>,
    /// The base's files that layers for the target may replace; empty if the chain has none of those.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub replaceable: Vec<String>,
    /// The network settings that worked.
    pub network: Network,
    /// Whether the console may offer a shell.
    pub shell: bool,
    /// The layers in order.
    pub layers: Vec<HandOverLayer>,
    /// What the rescue system is to do, but to wait for its operator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order: Option<crate::recovery::Order>,
}

/// One layer of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOverLayer {
    /// Target name.
    pub target: String,
    /// Name of its image entry, when it is of the `image` form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// Commands that show it works.
    pub checks: Vec<Check>,
    /// How its agent is used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<crate::agent::Agent>,
    /// The session it describes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<crate::session::Session>,
    /// The manifest of a layer that is still to be fetched and placed on the target; none of one that is in memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_target: Option<Manifest>,
    /// What the site's policy keeps that layer to.
    #[serde(skip_serializing_if = "Bounds::is_empty", default)]
    pub bounds: Bounds,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_layers_for_the_target_older_rescue_systems_know_every_field() {
        let layer = HandOverLayer {
            target: "host/web1/1/all".into(),
            image: None,
            checks: vec![],
            agent: None,
            session: None,
            on_target: None,
            bounds: Bounds::default(),
        };
        let note = HandOverNote {
            recovery: "r-1".into(),
            host: Some("web1".into()),
            time: Timestamp::UNIX_EPOCH,
            servers: vec![],
            ca: vec![],
            mirrors: vec![],
            replaceable: vec![],
            network: Network::default(),
            shell: false,
            layers: vec![layer],
            order: None,
        };
        let written = serde_json::to_value(&note).unwrap();
        let names = |value: &serde_json::Value| {
            let object = value.as_object().unwrap();
            object.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&written),
            "ca host layers network recovery servers shell time"
        );
        assert_eq!(names(&written["layers"][0]), "checks target");
    }
}
