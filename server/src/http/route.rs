//! Which thing a path names. Digests and metadata names are parsed, so that no path of the file system comes from outside.

use towline_contract::Digest;
use towline_contract::api::{EVENTS_PATH, PLAN_PATH};
use towline_contract::trust::TIMESTAMP_FILE;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A plan for one machine.
    Plan,
    /// An event of one machine.
    Events,
    /// A stored layer.
    Layer(Digest),
    /// A manifest.
    Manifest(Digest),
    /// A metadata file that never changes.
    Numbered(String),
    /// The metadata file that does.
    Timestamp,
}

impl Route {
    /// The route of `path`; `None` when it names nothing.
    pub(super) fn of(path: &str) -> Option<Self> {
        let rest = |prefix| path.strip_prefix(prefix);
        if path == PLAN_PATH {
            Some(Self::Plan)
        } else if path == EVENTS_PATH {
            Some(Self::Events)
        } else if let Some(digest) = rest("/v1/layers/") {
            digest.parse().ok().map(Self::Layer)
        } else if let Some(name) = rest("/v1/manifests/") {
            let digest = name.strip_suffix(".json")?;
            digest.parse().ok().map(Self::Manifest)
        } else {
            match rest("/v1/metadata/")? {
                TIMESTAMP_FILE => Some(Self::Timestamp),
                name => is_numbered(name).then(|| Self::Numbered(name.into())),
            }
        }
    }

    /// The methods it takes, as the `Allow` header lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Plan | Self::Events => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// `N.ROLE.json` of a role with numbered files.
fn is_numbered(name: &str) -> bool {
    let Some((number, role)) = name.split_once('.') else {
        return false;
    };
    (1..=18).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && ["root.json", "targets.json", "snapshot.json"].contains(&role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contract_names_is_found() {
        use towline_contract::api::{layer_path, manifest_path, metadata_path};
        let digest = Digest::of(b"x");
        assert_eq!(Route::of(PLAN_PATH), Some(Route::Plan));
        assert_eq!(Route::of(EVENTS_PATH), Some(Route::Events));
        assert_eq!(Route::of(&layer_path(&digest)), Some(Route::Layer(digest)));
        assert_eq!(
            Route::of(&manifest_path(&digest)),
            Some(Route::Manifest(digest))
        );
        assert_eq!(
            Route::of(&metadata_path("timestamp.json")),
            Some(Route::Timestamp)
        );
        for name in ["1.root.json", "12.targets.json", "3.snapshot.json"] {
            assert_eq!(
                Route::of(&metadata_path(name)),
                Some(Route::Numbered(name.into()))
            );
        }
    }

    #[test]
    fn nothing_else_is_a_path_of_the_store() {
        for path in [
            "/",
            "",
            "/v1/plan/",
            "/v1/layers/",
            "/v1/layers/../../keys/plan.key",
            "/v1/layers/%2e%2e",
            "/v1/metadata/root.json",
            "/v1/metadata/../keys/plan.key",
            "/v1/metadata/1.timestamp.json",
            "/v1/metadata/.root.json",
            "/v1/metadata/1.root.json/x",
            "/v1/metadata/+1.root.json",
            "/v1/manifests/x.json",
            "/keys/plan.key",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
