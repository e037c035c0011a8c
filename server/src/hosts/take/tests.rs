mod revoking;

use super::*;
use crate::hosts::{Request, kept, state};
use crate::{fixture, keys};
use towline_contract::Digest;
use towline_contract::api::{Enrolment, EnrolmentState, Machine};
use towline_contract::trust::metadata::Targets;
use towline_contract::trust::{SigningKey, TIMESTAMP_FILE, next_sessions, sign};

fn now() -> Timestamp {
    "2026-06-30T02:00:00Z".parse().unwrap()
}

fn day(day: u32) -> Timestamp {
    format!("2026-06-{day:02}T02:00:00Z").parse().unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::generate([seed; 32])
}

const FILES: &[(&str, &[u8])] = &[("etc/hostname", b"web1\n")];

struct World {
    _folder: tempfile::TempDir,
    site: Site,
    daily: Daily,
    key: SigningKey,
    /// As the host has it.
    list: Targets,
}

impl World {
    /// A site in which host web1 is approved.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = fixture::site(&folder.path().join("site"), now());
        crate::hosts::approve(&site, "web1", &key(1).public(), now()).unwrap();
        Self {
            _folder: folder,
            site,
            daily: Daily::default(),
            key: key(1),
            list: next_sessions(None),
        }
    }

    /// The request that adds this layer to the host's list.
    fn request(&mut self, (manifest, layer): (Manifest, Vec<u8>)) -> NewSession {
        let bytes = manifest.to_bytes();
        let file = TargetFile::of_layer(&manifest, &bytes);
        self.list.targets.insert(manifest.target_name(), file);
        NewSession {
            sessions: self.signed(),
            manifest: String::from_utf8(bytes).unwrap(),
            layer: BASE64.encode(&layer),
        }
    }

    fn signed(&self) -> String {
        String::from_utf8(sign(&self.list, &[&self.key]).unwrap()).unwrap()
    }

    fn session(&mut self, number: u32) -> NewSession {
        self.request(fixture::host_layer(
            "web1",
            &format!("s{number}"),
            day(number),
            FILES,
        ))
    }

    fn take(&self, sent: &NewSession) -> Result<Taken, HostError> {
        take(&self.site, &self.daily, "web1", sent, now())
    }

    /// Sends the session of a day, and goes on to the next list.
    fn add(&mut self, number: u32) -> NewSession {
        let sent = self.session(number);
        let taken = self.take(&sent).unwrap();
        assert_eq!(taken, Taken::Added(format!("host/web1/s{number}/all")));
        self.list = next_sessions(Some(self.list.clone()));
        sent
    }

    /// Takes nothing and changes nothing.
    #[track_caller]
    fn refuses(&self, sent: &NewSession, says: &[&str]) {
        let before = self.timestamp();
        let error = self.take(sent).unwrap_err();
        let text = crate::log::chain(&error);
        for part in says {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert_eq!(self.timestamp(), before);
        let left = fs::read_dir(self.site.state()).unwrap();
        let mut left = left.map(|it| it.unwrap().file_name().into_string().unwrap());
        assert!(left.all(|it| !it.starts_with(LOOKING)));
    }

    fn timestamp(&self) -> Vec<u8> {
        fs::read(self.site.store.metadata_path(TIMESTAMP_FILE)).unwrap()
    }

    fn versions(&self) -> Vec<String> {
        let store = &self.site.store;
        let own = catalogue::host_layers(store, &catalogue::view(store).unwrap(), "web1");
        own.unwrap()
            .into_iter()
            .map(|it| it.target.version)
            .collect()
    }

    fn state(&self) -> towline_contract::api::HostState {
        let view = catalogue::view(&self.site.store).unwrap();
        state(&self.site, &view, "web1").unwrap()
    }
}

#[test]
fn a_session_is_stored_and_signed_for_without_the_operators_keys() {
    let mut world = World::new();
    for name in ["targets", "root-1", "root-2", "root-3"] {
        fs::remove_file(world.site.key_path(name)).unwrap();
    }
    let first = world.add(1);
    world.add(2);
    assert_eq!(world.versions(), ["s1", "s2"]);
    let layer = BASE64.decode(first.layer.as_bytes()).unwrap();
    let stored = fs::read(world.site.store.layer_path(&Digest::of(&layer))).unwrap();
    assert_eq!(stored, layer);
    assert_eq!(world.state().state, EnrolmentState::Approved);
    assert_eq!(fs::read_dir(world.site.state()).unwrap().count(), 0);
}

#[test]
fn sessions_outlive_what_operators_publish_and_what_the_server_signs_again() {
    let mut world = World::new();
    world.add(1);
    let other = key(2).public();
    assert!(crate::hosts::approve(&world.site, "web2", &other, now()).unwrap());
    assert!(!crate::hosts::approve(&world.site, "web2", &other, now()).unwrap());
    let later = now() + SignedDuration::from_hours(24 * 5);
    assert!(catalogue::refresh(&world.site, later).unwrap());
    assert_eq!(world.versions(), ["s1"]);
}

#[test]
fn another_key_for_an_approved_host_is_refused_with_both_fingerprints() {
    let world = World::new();
    let found = crate::hosts::approve(&world.site, "web1", &key(2).public(), now());
    let text = found.unwrap_err().to_string();
    for seed in [1, 2] {
        assert!(
            text.contains(&key(seed).public().id().fingerprint()),
            "{text}"
        );
    }
}

#[test]
fn the_same_request_again_succeeds_and_changes_nothing() {
    let mut world = World::new();
    let sent = world.add(1);
    let before = world.timestamp();
    assert_eq!(world.take(&sent).unwrap(), Taken::Already);
    assert_eq!(world.timestamp(), before);
}

#[test]
fn an_upload_that_was_interrupted_can_be_sent_again_even_with_another_list() {
    let mut world = World::new();
    world.add(1);
    let path = world.site.store.metadata_path("2.host-web1.json");
    // The server ended after the list was stored, and before the snapshot named it.
    fs::write(&path, b"the list of a session that came to nothing").unwrap();
    assert_eq!(world.versions(), ["s1"]);
    world.add(2);
    assert_eq!(world.versions(), ["s1", "s2"]);
}

#[test]
fn a_host_that_no_operator_approved_adds_nothing() {
    let mut world = World::new();
    let sent = world.session(1);
    let send = |host: &str| {
        let taken = take(&world.site, &world.daily, host, &sent, now());
        taken.unwrap_err()
    };
    assert!(matches!(send("web2"), HostError::Unknown(_)));
    let view = catalogue::view(&world.site.store).unwrap();
    let enrolment = Enrolment {
        host: "web2".into(),
        hostname: "web2".into(),
        key: key(2).public(),
        machine: Machine::default(),
    };
    let request = Request {
        now: now(),
        peer: [127, 0, 0, 1].into(),
    };
    let registry = Registry::of(&world.site);
    registry.enrol(&view, enrolment, request).unwrap();
    assert!(matches!(send("web2"), HostError::Waiting { .. }));
}

#[test]
fn a_session_signed_by_another_hosts_key_is_refused() {
    let mut world = World::new();
    crate::hosts::approve(&world.site, "web2", &key(2).public(), now()).unwrap();
    world.key = key(2);
    let sent = world.session(1);
    world.refuses(&sent, &["not taken", "0 of 1 required signatures"]);
    // The server's own keys speak for no host either.
    for name in ["snapshot", "timestamp", "plan", "targets"] {
        world.key = keys::read(&world.site.key_path(name)).unwrap();
        let sent = NewSession {
            sessions: world.signed(),
            ..sent.clone()
        };
        world.refuses(&sent, &["0 of 1 required signatures"]);
    }
}

#[test]
fn a_host_signs_no_session_of_another_host() {
    let mut world = World::new();
    let sent = world.request(fixture::host_layer("web2", "s1", day(1), FILES));
    world.refuses(&sent, &["host/web2/s1/all", "host layers of its own only"]);
}

#[test]
fn a_replayed_older_list_is_refused_with_both_versions() {
    let mut world = World::new();
    let first = world.add(1);
    world.add(2);
    world.refuses(&first, &["is version 1, but 3 is required"]);
}

#[test]
fn a_layer_with_a_program_is_refused_by_its_name() {
    let mut world = World::new();
    let files: &[(&str, &[u8])] = &[("usr/bin/bash", b"#!")];
    let sent = world.request(fixture::host_layer("web1", "s1", day(1), files));
    world.refuses(&sent, &["usr", "host layers may not have anything there"]);
}

#[test]
fn a_layer_with_a_flipped_bit_is_refused_and_names_no_path_of_the_server() {
    let mut world = World::new();
    let mut sent = world.session(1);
    let mut layer = BASE64.decode(sent.layer.as_bytes()).unwrap();
    layer[200] ^= 1;
    sent.layer = BASE64.encode(&layer);
    world.refuses(
        &sent,
        &["the layer has SHA-256", "chunks of 1 MiB number 0"],
    );
    let text = crate::log::chain(&world.take(&sent).unwrap_err());
    assert!(!text.contains(LOOKING), "{text}");
    sent.layer = "not base64!".into();
    world.refuses(&sent, &["base64"]);
}

#[test]
fn a_manifest_that_is_not_the_signed_one_is_refused() {
    let mut world = World::new();
    let sent = world.session(1);
    let other = fixture::host_layer("web1", "s1", day(2), FILES).0;
    let mut changed = sent.clone();
    changed.manifest = String::from_utf8(other.to_bytes()).unwrap();
    world.refuses(
        &changed,
        &["not the one that is signed for host/web1/s1/all"],
    );
    changed.manifest = "{}".into();
    world.refuses(&changed, &["is no usable manifest"]);
}

#[test]
fn a_session_without_a_backup_or_with_impossible_times_is_refused() {
    for (time, captured, says) in [
        (None, day(1), "which backup"),
        (Some(day(2)), day(1), "before the session's time"),
        (
            Some(day(1)),
            now() + SignedDuration::from_mins(6),
            "one of the clocks is wrong",
        ),
    ] {
        let mut world = World::new();
        let (mut manifest, layer) = fixture::host_layer("web1", "s1", day(1), FILES);
        manifest.session = time.map(|time| fixture::session(time, captured));
        let sent = world.request((manifest, layer));
        world.refuses(&sent, &[says]);
    }
}

#[test]
fn a_host_cannot_push_its_older_sessions_out_by_new_ones_of_their_days() {
    let mut world = World::new();
    for number in [10, 20] {
        world.add(number);
    }
    let evening = SignedDuration::from_hours(10);
    for (time, captured, says) in [
        (day(10) + evening, now(), "more than 24 hours after"),
        (
            day(10) + evening,
            day(10) + evening,
            "before the newest that is here",
        ),
    ] {
        let (mut manifest, layer) = fixture::host_layer("web1", "s11", day(10), FILES);
        manifest.session = Some(fixture::session(time, captured));
        let kept = world.list.clone();
        let sent = world.request((manifest, layer));
        world.refuses(&sent, &[says]);
        world.list = kept;
    }
}

#[test]
fn a_small_layer_that_says_it_unpacks_to_gigabytes_is_refused_unread() {
    let mut world = World::new();
    let (mut manifest, layer) = fixture::host_layer("web1", "s1", day(1), FILES);
    manifest.unpacked_bytes = HOST_UNPACKED_BYTES_MAX + 1;
    let sent = world.request((manifest, layer));
    world.refuses(&sent, &["unpacks to 268435457 bytes"]);
}

#[test]
fn a_host_drops_the_sessions_that_the_rules_let_go_and_no_others() {
    let mut world = World::new();
    world.site.config.retention.keep_last = 2;
    world.site.config.retention.daily = 0;
    world.site.config.retention.weekly = 0;
    world.site.config.retention.monthly = 0;
    world.site.config.retention.yearly = 0;
    for number in 1..=4 {
        world.add(number);
    }
    assert_eq!(world.state().retired, ["s1", "s2"]);
    assert_eq!(
        kept::set(&world.site, "web1", "s1", true).unwrap(),
        Some(true)
    );
    assert_eq!(world.state().retired, ["s2"]);

    let whole = world.list.clone();
    world.list.targets.remove("host/web1/s1/all");
    let sent = world.session(5);
    world.refuses(&sent, &["drops host/web1/s1/all, which is kept"]);
    world.list = whole;
    world.list.targets.remove("host/web1/s2/all");
    world.add(5);
    assert_eq!(world.versions(), ["s1", "s3", "s4", "s5"]);
}

#[test]
fn a_host_sends_no_more_than_its_bound_a_day() {
    let mut world = World::new();
    let sent = world.session(1);
    while world.daily.has_room("web1", now()) {
        world.daily.count("web1", now());
    }
    world.refuses(&sent, &["which is the most"]);
}

#[test]
fn sessions_that_are_refused_take_nothing_of_the_hosts_day() {
    let mut world = World::new();
    for _ in 1..crate::hosts::daily::SESSIONS_MAX {
        world.daily.count("web1", now());
    }
    let mut sent = world.session(1);
    sent.layer = "not base64!".into();
    for _ in 0..3 {
        world.refuses(&sent, &["base64"]);
    }
    world.add(1);
    let sent = world.session(2);
    world.refuses(&sent, &["which is the most"]);
}

#[test]
fn what_a_killed_server_left_is_removed() {
    let world = World::new();
    let left = folder(&world.site).unwrap().keep();
    clean(&world.site);
    assert!(!left.exists());
}
