//! The views that were composed of late, so that the files of one are still there when the catalogue has moved on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use towline_contract::Digest;

use crate::catalogue::HostView;

/// Most views that are kept: some kilobytes each. A machine whose view is gone asks again.
const VIEWS_MAX: usize = 256;

/// Views by host, the newest first.
#[derive(Default)]
pub(super) struct Views(Mutex<VecDeque<Kept>>);

struct Kept {
    host: Option<String>,
    /// The catalogue's timestamp that it was composed from.
    of: Digest,
    view: Arc<HostView>,
}

impl Views {
    /// The view of `host` as of that timestamp, composed if it is not kept.
    pub(super) fn get<E>(
        &self,
        host: Option<&str>,
        of: Digest,
        compose: impl FnOnce() -> Result<HostView, E>,
    ) -> Result<Arc<HostView>, E> {
        let is_it = |it: &&Kept| it.host.as_deref() == host && it.of == of;
        if let Some(kept) = self.lock().iter().find(is_it) {
            return Ok(kept.view.clone());
        }
        let view = Arc::new(compose()?);
        let mut all = self.lock();
        all.truncate(VIEWS_MAX - 1);
        all.push_front(Kept {
            host: host.map(str::to_owned),
            of,
            view: view.clone(),
        });
        Ok(view)
    }

    /// A numbered file of any of the host's views.
    pub(super) fn file(&self, host: Option<&str>, name: &str) -> Option<Vec<u8>> {
        let all = self.lock();
        let mut own = all.iter().filter(|it| it.host.as_deref() == host);
        own.find_map(|it| it.view.files.get(name).cloned())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use towline_contract::plan::TimestampRef;

    use super::*;

    fn view(text: &str) -> HostView {
        HostView {
            timestamp: TimestampRef {
                version: 1,
                digest: Digest::of(text.as_bytes()),
            },
            files: BTreeMap::from([(format!("{text}.snapshot.json"), text.as_bytes().to_vec())]),
        }
    }

    #[test]
    fn views_of_before_a_change_are_kept_for_their_host_and_in_a_bounded_number() {
        let views = Views::default();
        let compose = |host: &str, text: &str| {
            let composed = views.get(Some(host), Digest::of(text.as_bytes()), || {
                Ok::<_, ()>(view(text))
            });
            composed.unwrap();
        };
        compose("web1", "1");
        compose("web1", "2");
        assert!(views.file(Some("web1"), "1.snapshot.json").is_some());
        assert!(views.file(Some("web1"), "2.snapshot.json").is_some());
        assert!(views.file(Some("web2"), "1.snapshot.json").is_none());
        assert!(views.file(None, "1.snapshot.json").is_none());
        for number in 0..VIEWS_MAX {
            compose("flood", &format!("f{number}"));
        }
        assert!(views.file(Some("web1"), "2.snapshot.json").is_none());
        assert_eq!(views.lock().len(), VIEWS_MAX);
    }
}
