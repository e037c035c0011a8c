//! The agent of a session: its commands with everything filled in.

use std::path::{Component, Path, PathBuf};

use towline_contract::agent::Agent;
use towline_contract::handover::{HandOverLayer, HandOverNote};
use towline_contract::session::Session;

use super::credentials::Credentials;
use super::error::RecoverError;
use super::on_target;

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
    /// Folder of the agent's layer on the target; empty if it is in memory, where its files are those of the root.
    layer: String,
    /// Folders of all layers on the target.
    pub(super) on_target: Vec<PathBuf>,
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
        let on_target = |(index, it): (usize, &HandOverLayer)| {
            let is_there = it.on_target.is_some();
            is_there.then(|| on_target::folder(index, &it.target))
        };
        let mut agents = note
            .layers
            .iter()
            .enumerate()
            .filter(|(_, it)| it.target.starts_with(&wanted));
        let with_agent = |(index, it): (usize, &'a HandOverLayer)| {
            let agent = it.agent.as_ref()?;
            Some((agent, on_target((index, it))))
        };
        let (agent, own_folder) = agents.find_map(with_agent).ok_or_else(|| {
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
            layer: own_folder.map_or_else(String::new, |it| it.to_string_lossy().into_owned()),
            on_target: note
                .layers
                .iter()
                .enumerate()
                .filter_map(on_target)
                .collect(),
        })
    }

    /// Whether the agent's programs are there only after the file systems are recreated.
    pub(super) fn is_on_target(&self) -> bool {
        !self.layer.is_empty()
    }

    /// `text` with the session, host, target, credentials and the agent's layer in their places.
    pub(super) fn fill(&self, text: &str, credentials: &Credentials) -> String {
        text.replace("{session}", &self.session.backup.session)
            .replace("{host}", &self.host)
            .replace("{target}", TARGET)
            .replace("{layer}", &self.layer)
            .replace("{credentials}", &credentials.directory.to_string_lossy())
    }

    /// A command of the agent, filled.
    pub(super) fn command(&self, command: &[String], credentials: &Credentials) -> Vec<String> {
        command
            .iter()
            .map(|it| self.fill(it, credentials))
            .collect()
    }

    /// Where the programs and libraries of layers on the target are found: after the rescue system's own programs, which no
    /// agent replaces in memory either.
    fn search_paths(&self) -> Vec<(String, String)> {
        if self.on_target.is_empty() {
            return Vec::new();
        }
        let (mut programs, mut libraries) = (vec![crate::roles::PATH.to_owned()], Vec::new());
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        for folder in &self.on_target {
            let folder = folder.display();
            for below in [
                "usr/local/sbin",
                "usr/local/bin",
                "usr/sbin",
                "usr/bin",
                "sbin",
                "bin",
            ] {
                programs.push(format!("{folder}/{below}"));
            }
            for below in ["usr/lib", "lib"] {
                libraries.push(format!("{folder}/{below}/{multiarch}"));
                libraries.push(format!("{folder}/{below}"));
            }
        }
        vec![
            ("PATH".into(), programs.join(":")),
            ("LD_LIBRARY_PATH".into(), libraries.join(":")),
        ]
    }

    /// The variables of the agent and of the credentials; the latter win.
    pub(super) fn environment(&self, credentials: &Credentials) -> Vec<(String, String)> {
        let fixed = self.agent.environment.iter();
        let fixed = fixed.map(|(name, value)| (name.clone(), self.fill(value, credentials)));
        self.search_paths()
            .into_iter()
            .chain(fixed)
            .chain(credentials.environment.iter().cloned())
            .collect()
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
            token: "t".into(),
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
    fn an_agent_on_the_target_is_found_in_its_folder_and_one_in_memory_in_the_root() {
        let mut note = note();
        note.layers[1].agent.as_mut().unwrap().restore[0] = "{layer}/usr/bin/restic".into();
        let program = |note: &HandOverNote| {
            let it = Recovering::of(note).unwrap();
            let command = it.command(&it.agent.restore, &credentials());
            (
                command[0].clone(),
                it.environment(&credentials())[0].clone(),
            )
        };
        assert_eq!(program(&note).0, "/usr/bin/restic");
        let base = include_str!("../../../../contract/tests/golden/v1/base.manifest.json");
        note.layers[1].on_target = Some(serde_json::from_str(base).unwrap());
        let (program, (name, path)) = program(&note);
        let folder = "/mnt/local/.towline/layers/01-restic";
        assert_eq!(program, format!("{folder}/usr/bin/restic"));
        assert_eq!(name, "PATH");
        let own = path.find(&format!("{folder}/usr/bin")).unwrap();
        assert!(path.find("/usr/bin").unwrap() < own, "{path}");
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
