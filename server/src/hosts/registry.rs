//! Hosts that asked to be known: one file each in the site's `state/hosts`.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use towline_contract::Timestamp;
use towline_contract::api::{ENROLMENT_BYTES_MAX, Enrolment, EnrolmentState};
use towline_contract::trust::{PublicKey, SignedView, is_host_id};

use super::{HostError, Request, revoked};
use crate::private::{self, PrivateError};
use crate::site::Site;

/// Most hosts that wait for an operator. Anyone may ask, and what they leave must not fill the disk or the operator's list.
pub const WAITING_MAX: usize = 256;

/// Largest record, in bytes: an enrolment, printed wider.
const RECORD_BYTES_MAX: u64 = 4 * ENROLMENT_BYTES_MAX as u64;

/// One enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When the host first asked.
    pub requested: Timestamp,
    /// From where.
    pub peer: IpAddr,
    /// What it said. Only its key counts, and only once an operator has compared the fingerprint.
    pub enrolment: Enrolment,
}

/// The enrolments of a site.
pub struct Registry<'a> {
    site: &'a Site,
    folder: PathBuf,
}

impl<'a> Registry<'a> {
    /// Those of this site.
    #[must_use]
    pub fn of(site: &'a Site) -> Self {
        Self {
            site,
            folder: site.state().join("hosts"),
        }
    }

    /// Takes an enrolment. The same one again changes nothing.
    ///
    /// # Errors
    /// The name is another key's, too many wait, or it is no enrolment.
    pub fn enrol(
        &self,
        view: &SignedView,
        enrolment: Enrolment,
        request: Request,
    ) -> Result<EnrolmentState, HostError> {
        let host = enrolment.host.clone();
        check(&enrolment)?;
        match &revoked::read(self.site, &host)? {
            Some(revoked) if revoked.key == enrolment.key.id() => {
                let time = revoked.time;
                return Err(HostError::Revoked { host, time });
            }
            // Another key may follow.
            Some(_) => {}
            None => {
                if let Some(known) = view.host_key(&host) {
                    return same(&host, known, &enrolment.key).map(|()| EnrolmentState::Approved);
                }
            }
        }
        let folder = private::lock(&self.folder)?;
        if let Some(known) = self.read(&host)? {
            return same(&host, &known.enrolment.key, &enrolment.key)
                .map(|()| EnrolmentState::Waiting);
        }
        let waiting = self.names()?;
        let waiting = waiting.iter().filter(|it| view.host_key(it).is_none());
        if waiting.count() >= WAITING_MAX {
            return Err(HostError::Full);
        }
        let record = Record {
            requested: request.now,
            peer: request.peer,
            enrolment,
        };
        folder.write(&name(&host), &record, RECORD_BYTES_MAX)?;
        Ok(EnrolmentState::Waiting)
    }

    /// The enrolment of `host`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, host: &str) -> Result<Option<Record>, PrivateError> {
        match is_host_id(host) {
            true => private::read(&self.path(host), RECORD_BYTES_MAX),
            // No path of the file system comes from outside.
            false => Ok(None),
        }
    }

    /// Forgets an enrolment; says whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, host: &str) -> Result<bool, PrivateError> {
        let folder = private::lock(&self.folder)?;
        match is_host_id(host) {
            true => folder.remove(&name(host)),
            false => Ok(false),
        }
    }

    /// Names of all who asked.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, PrivateError> {
        let mut names = private::names(&self.folder)?;
        names.retain(|name| is_host_id(name));
        Ok(names)
    }

    fn path(&self, host: &str) -> PathBuf {
        self.folder.join(name(host))
    }
}

fn name(host: &str) -> String {
    format!("{host}.json")
}

fn check(enrolment: &Enrolment) -> Result<(), HostError> {
    if is_host_id(&enrolment.host) {
        return check_key(&enrolment.key);
    }
    Err(HostError::NotAHost(
        "a host's name is of 1 to 128 small letters, digits and - . +, and begins with no dot",
    ))
}

/// Whether a host can have this key.
pub(super) fn check_key(key: &PublicKey) -> Result<(), HostError> {
    let why = if !key.can_verify() {
        "its key is no Ed25519 or ECDSA P-256 key"
    } else if !(key.unknown.is_empty() && key.keyval.unknown.is_empty()) {
        "its key has fields that are unknown here"
    } else {
        return Ok(());
    };
    Err(HostError::NotAHost(why))
}

fn same(host: &str, known: &PublicKey, found: &PublicKey) -> Result<(), HostError> {
    if known == found {
        return Ok(());
    }
    Err(HostError::OtherKey {
        host: host.into(),
        known: known.id(),
        found: found.id(),
    })
}

#[cfg(test)]
mod tests {
    use towline_contract::api::Machine;
    use towline_contract::trust::SigningKey;

    use super::*;
    use crate::{catalogue, fixture};

    fn enrolment(host: &str, seed: u8) -> Enrolment {
        Enrolment {
            host: host.into(),
            hostname: host.into(),
            key: SigningKey::generate([seed; 32]).public(),
            machine: Machine::default(),
        }
    }

    struct World {
        _folder: tempfile::TempDir,
        site: Site,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let site = fixture::site(&folder.path().join("site"), Timestamp::UNIX_EPOCH);
            Self {
                _folder: folder,
                site,
            }
        }

        fn enrol(&self, enrolment: &Enrolment) -> Result<EnrolmentState, HostError> {
            let view = catalogue::view(&self.site.store).unwrap();
            let request = Request {
                now: Timestamp::UNIX_EPOCH,
                peer: [127, 0, 0, 1].into(),
            };
            Registry::of(&self.site).enrol(&view, enrolment.clone(), request)
        }
    }

    #[test]
    fn a_host_that_enrols_again_with_its_key_changes_nothing() {
        let world = World::new();
        let web1 = enrolment("web1", 1);
        assert_eq!(world.enrol(&web1).unwrap(), EnrolmentState::Waiting);
        assert_eq!(world.enrol(&web1).unwrap(), EnrolmentState::Waiting);
        let kept = Registry::of(&world.site).read("web1").unwrap().unwrap();
        assert_eq!(kept.enrolment, web1);
        let now = Timestamp::UNIX_EPOCH;
        crate::hosts::approve(&world.site, "web1", &web1.key, now).unwrap();
        assert_eq!(world.enrol(&web1).unwrap(), EnrolmentState::Approved);
    }

    #[test]
    fn another_key_for_a_known_name_is_refused_with_both_fingerprints() {
        let world = World::new();
        world.enrol(&enrolment("web1", 1)).unwrap();
        let approve = || {
            let now = Timestamp::UNIX_EPOCH;
            let key = enrolment("web1", 1).key;
            crate::hosts::approve(&world.site, "web1", &key, now).unwrap();
            Registry::of(&world.site).forget("web1").unwrap();
        };
        for step in [&|| (), &approve as &dyn Fn()] {
            step();
            let text = world.enrol(&enrolment("web1", 2)).unwrap_err().to_string();
            for seed in [1, 2] {
                let print = enrolment("web1", seed).key.id().fingerprint();
                assert!(text.contains(&print), "{text}");
            }
        }
    }

    #[test]
    fn strangers_who_enrol_hosts_without_end_fill_a_bounded_list() {
        let world = World::new();
        for number in 0..WAITING_MAX {
            world.enrol(&enrolment(&format!("h{number}"), 1)).unwrap();
        }
        let full = world.enrol(&enrolment("web1", 1));
        assert!(matches!(full, Err(HostError::Full)));
        assert!(world.enrol(&enrolment("h0", 1)).is_ok());
        assert!(Registry::of(&world.site).forget("h7").unwrap());
        world.enrol(&enrolment("web1", 1)).unwrap();
    }

    #[test]
    fn names_that_are_paths_and_keys_that_verify_nothing_are_not_enrolled() {
        let world = World::new();
        for name in ["", ".x", "../x", "a/b", "Web1", "a b", &"a".repeat(129)] {
            let found = world.enrol(&enrolment(name, 1));
            assert!(matches!(found, Err(HostError::NotAHost(_))), "{name:?}");
        }
        let mut unknown = enrolment("web1", 1);
        unknown.key.scheme = "rot13".into();
        let mut more = enrolment("web1", 1);
        more.key.unknown.insert("x".into(), "y".into());
        for enrolment in [unknown, more] {
            let found = world.enrol(&enrolment);
            assert!(matches!(found, Err(HostError::NotAHost(_))), "{found:?}");
        }
        assert!(Registry::of(&world.site).names().unwrap().is_empty());
    }
}
