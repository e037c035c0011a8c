//! Which thing a path names. Digests and metadata names are parsed, so that no path of the file system comes from outside.

use towline_contract::Digest;
use towline_contract::api::{EVENTS_PATH, HOSTS_PATH, PLAN_PATH, RECOVERY_PATH, VIEW_PATH};
use towline_contract::trust::{TIMESTAMP_FILE, is_host_id, role_paths};

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A plan for one machine.
    Plan,
    /// A plan that recovers, for a code.
    Recovery,
    /// An event of one machine.
    Events,
    /// Enrolments.
    Hosts,
    /// How one host stands.
    Host(String),
    /// New sessions of one host.
    NewSession(String),
    /// A stored layer.
    Layer(Digest),
    /// A manifest.
    Manifest(Digest),
    /// A metadata file that never changes.
    Numbered(String),
    /// The metadata file that does.
    Timestamp,
    /// A metadata file in the view of a host, or of a machine that is none.
    View(Option<String>, String),
}

impl Route {
    /// The route of `path`; `None` when it names nothing.
    pub(super) fn of(path: &str) -> Option<Self> {
        let rest = |prefix| path.strip_prefix(prefix);
        if path == PLAN_PATH {
            Some(Self::Plan)
        } else if path == RECOVERY_PATH {
            Some(Self::Recovery)
        } else if path == EVENTS_PATH {
            Some(Self::Events)
        } else if let Some(below) = rest(HOSTS_PATH) {
            host(below)
        } else if let Some(below) = rest(VIEW_PATH) {
            view(below.strip_prefix('/')?)
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
            Self::Plan | Self::Recovery | Self::Events | Self::Hosts | Self::NewSession(_) => {
                "POST"
            }
            Self::Host(_) => "GET",
            _ => "GET, HEAD",
        }
    }
}

/// What is meant below [`VIEW_PATH`].
fn view(below: &str) -> Option<Route> {
    let (host, file) = match below.split_once('/') {
        Some((host, file)) if is_host_id(host) => (Some(host.to_owned()), file),
        Some(_) => return None,
        None => (None, below),
    };
    let is_there = file == TIMESTAMP_FILE || is_numbered(file);
    is_there.then(|| Route::View(host, file.into()))
}

/// What is meant below [`HOSTS_PATH`].
fn host(below: &str) -> Option<Route> {
    if below.is_empty() {
        return Some(Route::Hosts);
    }
    let rest = below.strip_prefix('/')?;
    let (id, is_session) = match rest.strip_suffix("/sessions") {
        Some(id) => (id, true),
        None => (rest, false),
    };
    let id = is_host_id(id).then(|| id.to_owned())?;
    Some(if is_session {
        Route::NewSession(id)
    } else {
        Route::Host(id)
    })
}

/// `N.ROLE.json` of a role with numbered files.
fn is_numbered(name: &str) -> bool {
    let Some((number, role)) = name.split_once('.') else {
        return false;
    };
    (1..=18).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && (["root.json", "targets.json", "snapshot.json"].contains(&role)
            || role
                .strip_suffix(".json")
                .is_some_and(|it| role_paths(it).is_some())
            || is_hosts(role))
}

/// `host-ID.json`.
fn is_hosts(role: &str) -> bool {
    let id = role
        .strip_prefix("host-")
        .and_then(|it| it.strip_suffix(".json"));
    id.is_some_and(is_host_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contract_names_is_found() {
        use towline_contract::api::{layer_path, manifest_path, metadata_path, sessions_path};
        let digest = Digest::of(b"x");
        assert_eq!(Route::of(PLAN_PATH), Some(Route::Plan));
        assert_eq!(Route::of(RECOVERY_PATH), Some(Route::Recovery));
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
        for host in [None, Some("web1.example")] {
            for file in ["timestamp.json", "3.snapshot.json", "1.root.json"] {
                let path = towline_contract::api::view_path(host, file);
                let view = Route::View(host.map(str::to_owned), file.into());
                assert_eq!(Route::of(&path), Some(view));
            }
        }
        assert_eq!(Route::of(HOSTS_PATH), Some(Route::Hosts));
        assert_eq!(
            Route::of("/v1/hosts/web1.example"),
            Some(Route::Host("web1.example".into()))
        );
        assert_eq!(
            Route::of(&sessions_path("web1")),
            Some(Route::NewSession("web1".into()))
        );
        for name in [
            "1.root.json",
            "12.targets.json",
            "3.snapshot.json",
            "7.host-web1.example.json",
            "2.base.json",
            "3.hosts.json",
            "4.agent-restic.json",
        ] {
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
            "/v1/view",
            "/v1/view/",
            "/v1/view/web1",
            "/v1/view/web1/",
            "/v1/view/../timestamp.json",
            "/v1/view/web1/../../keys/plan.key",
            "/v1/view/web1/web2/timestamp.json",
            "/v1/metadata/root.json",
            "/v1/metadata/../keys/plan.key",
            "/v1/metadata/1.timestamp.json",
            "/v1/metadata/.root.json",
            "/v1/metadata/1.root.json/x",
            "/v1/metadata/+1.root.json",
            "/v1/metadata/1.host-.json",
            "/v1/metadata/1.host-../x.json",
            "/v1/metadata/1.host-.x.json",
            "/v1/hosts/",
            "/v1/hosts/.x",
            "/v1/hosts/../keys",
            "/v1/hosts/web1/",
            "/v1/hosts//sessions",
            "/v1/hosts/a/b/sessions",
            "/v1/hostsx",
            "/v1/manifests/x.json",
            "/keys/plan.key",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
