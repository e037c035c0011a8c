//! The agent of a session: its commands with everything filled in.

use std::path::{Component, Path, PathBuf};

use towline_contract::agent::Agent;
use towline_contract::handover::HandOverNote;
use towline_contract::session::Session;

use super::credentials::Credentials;
use super::error::RecoverError;

/// Where ReaR mounts the recreated file systems.
pub(super) const TARGET: &str = "/mnt/local";

/// What is recovered, and by which agent.
pub(super) struct Recovering<'a> {
    /// The host.
    pub(super) host: String,
    /// Version of the host layer.
    pub(super) version: String,
    /// The session.
    pub(super) session: &'a Session,
    /// How the agent is used.
    pub(super) agent: &'a Agent,
    /// Whether its programs are there only after the file systems are recreated.
    pub(super) is_on_target: bool,
}

impl<'a> Recovering<'a> {
    /// Finds the session and its agent among the layers.
    ///
    /// # Errors
    /// No layer has a session, or none the agent it names.
    pub(super) fn of(note: &'a HandOverNote) -> Result<Self, RecoverError> {
        const NEXT: &str = "check the plan: `towline recovery show`";
        let with_session = |it: &'a towline_contract::handover::HandOverLayer| {
            it.session.as_ref().map(|session| (it, session))
        };
        let found = note.layers.iter().rev().find_map(with_session);
        let (layer, session) = found
            .ok_or_else(|| RecoverError::refused("no layer of the chain has a session", NEXT))?;
        let wanted = format!("agent/{}/", session.backup.agent);
        let mut agents = note
            .layers
            .iter()
            .filter(|it| it.target.starts_with(&wanted));
        let with_agent = |it: &'a towline_contract::handover::HandOverLayer| {
            it.agent.as_ref().map(|agent| (it, agent))
        };
        let (own, agent) = agents.find_map(with_agent).ok_or_else(|| {
            let name = &session.backup.agent;
            let what = format!("no layer of the chain says how the agent {name} restores");
            RecoverError::refused(what, NEXT)
        })?;
        let mut parts = layer.target.split('/').skip(1).map(str::to_owned);
        Ok(Self {
            host: note.host.clone().or(parts.next()).unwrap_or_default(),
            version: layer
                .target
                .split('/')
                .nth(2)
                .unwrap_or_default()
                .to_owned(),
            session,
            agent,
            is_on_target: own.on_target.is_some(),
        })
    }

    /// `text` with the session, host, target and credentials in their places.
    pub(super) fn fill(&self, text: &str, credentials: &Credentials) -> String {
        text.replace("{session}", &self.session.backup.session)
            .replace("{host}", &self.host)
            .replace("{target}", TARGET)
            .replace("{credentials}", &credentials.directory.to_string_lossy())
    }

    /// A command of the agent, filled.
    pub(super) fn command(&self, command: &[String], credentials: &Credentials) -> Vec<String> {
        command
            .iter()
            .map(|it| self.fill(it, credentials))
            .collect()
    }

    /// The variables of the agent and of the credentials; the latter win.
    pub(super) fn environment(&self, credentials: &Credentials) -> Vec<(String, String)> {
        let fixed = self.agent.environment.iter();
        let fixed = fixed.map(|(name, value)| (name.clone(), self.fill(value, credentials)));
        fixed
            .chain(credentials.environment.iter().cloned())
            .collect()
    }

    /// The agent's folders on the recreated file systems that are not to stay there.
    ///
    /// # Errors
    /// One is elsewhere.
    pub(super) fn temporary(
        &self,
        credentials: &Credentials,
    ) -> Result<Vec<PathBuf>, RecoverError> {
        let install = self.agent.install.as_ref().filter(|it| !it.keep);
        let database = self.agent.database.as_ref();
        let database = database.filter(|_| !self.agent.keep_database);
        let folders = install.map(|it| &it.directory).into_iter().chain(database);
        folders.map(|it| self.folder(it, credentials)).collect()
    }

    /// A folder on the recreated file systems. Never the target itself, nor anything outside of it: it may be removed later.
    ///
    /// # Errors
    /// It is elsewhere.
    pub(super) fn folder(
        &self,
        text: &str,
        credentials: &Credentials,
    ) -> Result<PathBuf, RecoverError> {
        let path = PathBuf::from(self.fill(text, credentials));
        let below = path.strip_prefix(TARGET).ok();
        let plain = |it: &Path| {
            let mut parts = it.components();
            it.components().next().is_some() && parts.all(|it| matches!(it, Component::Normal(_)))
        };
        if below.is_some_and(plain) {
            return Ok(path);
        }
        let what = format!("{text:?} of the agent's layer is no folder below {{target}}");
        Err(RecoverError::refused(what, "correct the agent's recipe"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A note as stage 1 writes it, with one session and its agent.
    pub(in super::super) fn note() -> HandOverNote {
        let note = serde_json::json!({
            "recovery": "r1", "host": "web-1", "time": "2026-03-01T12:00:00Z", "servers": [], "ca": [],
            "network": towline_contract::stamp::Network::default(), "shell": false,
            "layers": [
                { "target": "agent/other/1/amd64", "checks": [], "agent": { "restore": ["false"] } },
                { "target": "agent/restic/0.14/amd64", "checks": [], "agent": {
                    "restore": ["restic", "restore", "{session}", "--target", "{target}", "{other}"],
                    "environment": { "CACHE": "{target}/.cache", "NAME": "fixed" },
                    "database": "{target}/.towline/cache" } },
                { "target": "host/web-1/20260301t020000z/all", "checks": [], "session": {
                    "time": "2026-03-01T02:00:00Z", "captured": "2026-03-01T02:01:00Z", "hostname": "web-1", "rear": "2.7",
                    "backup": { "agent": "restic", "version": "0.14", "session": "4af3" },
                    "hardware": { "architecture": "amd64", "uefi": false, "secure_boot": false, "memory_kib": 1024,
                        "pci": [], "modules": [], "disks": [], "boot_loaders": [] } } }
            ]
        });
        serde_json::from_value(note).unwrap()
    }

    fn credentials() -> Credentials {
        Credentials {
            token: "t".to_owned().into(),
            environment: vec![("NAME".into(), "secret".into())],
            directory: "/run/towline/credentials".into(),
        }
    }

    #[test]
    fn the_agent_is_the_one_that_the_session_names() {
        let note = note();
        let it = Recovering::of(&note).unwrap();
        assert_eq!(
            (it.host.as_str(), it.version.as_str()),
            ("web-1", "20260301t020000z")
        );
        let command = it.command(&it.agent.restore, &credentials());
        assert_eq!(
            command,
            [
                "restic",
                "restore",
                "4af3",
                "--target",
                "/mnt/local",
                "{other}"
            ]
        );
        let environment = it.environment(&credentials());
        assert_eq!(environment[0], ("CACHE".into(), "/mnt/local/.cache".into()));
        assert_eq!(environment.last(), Some(&("NAME".into(), "secret".into())));
    }

    #[test]
    fn whether_the_agent_is_there_before_the_disks_is_said_by_its_own_layer() {
        let base = include_str!("../../../../contract/tests/golden/v1/base.manifest.json");
        let (mut other, mut own) = (note(), note());
        assert!(!Recovering::of(&note()).unwrap().is_on_target);
        other.layers[0].on_target = Some(serde_json::from_str(base).unwrap());
        assert!(!Recovering::of(&other).unwrap().is_on_target);
        own.layers[1].on_target = Some(serde_json::from_str(base).unwrap());
        assert!(Recovering::of(&own).unwrap().is_on_target);
    }

    #[test]
    fn a_chain_without_the_sessions_agent_is_refused() {
        let mut note = note();
        note.layers.remove(1);
        let error = Recovering::of(&note).err().unwrap();
        assert!(error.to_string().contains("restic"), "{error}");
    }

    #[test]
    fn folders_are_below_the_target_or_refused() {
        let note = note();
        let it = Recovering::of(&note).unwrap();
        let folder = it
            .folder("{target}/.towline/cache", &credentials())
            .unwrap();
        assert_eq!(folder, Path::new("/mnt/local/.towline/cache"));
        for bad in [
            "{target}",
            "{target}/",
            "/var/lib",
            "{target}/../etc",
            "cache",
        ] {
            assert!(it.folder(bad, &credentials()).is_err(), "{bad}");
        }
    }
}
