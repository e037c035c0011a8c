//! What this boot was told: the medium's own description, its stamp, and the kernel command line, in this order of weight.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use towline_contract::Timestamp;
use towline_contract::plan::HandOver;
use towline_contract::stamp::{self, STAMP_PATH, StampError};

use crate::command_line::{CommandLine, CommandLineError};

/// Where the medium says what it is, without the leading slash.
const BUILD_PATH: &str = "towline/build.json";

/// What the builder of the medium wrote into it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Build {
    /// When its newest part was made: no earlier time is believed.
    pub built: Timestamp,
    /// Towline's version.
    pub version: String,
    /// `uname -r` of its kernel.
    pub kernel_release: String,
}

/// Validated settings of this boot.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the medium says of itself.
    pub build: Build,
    /// The stamp, with what the command line says instead; it has a root. A server may be missing: a person can type one.
    pub site: stamp::Settings,
    /// How to start the rescue system, if anybody chose.
    pub hand_over: Option<HandOver>,
    /// No time before this is believed.
    pub floor: Timestamp,
    /// The command line, for module parameters.
    pub command_line: CommandLine,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file of the medium cannot be read.
    #[error("cannot read /{path} of this medium")]
    Read {
        /// Its path, without the leading slash.
        path: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// `build.json` is not of the shape that stage 1 knows.
    #[error("/{BUILD_PATH} of this medium is damaged")]
    Build(#[source] serde_json::Error),
    /// The stamp is damaged.
    #[error("the stamp of this medium cannot be used")]
    Stamp(#[from] StampError),
    /// The stamp was cleared, or never written.
    #[error("this medium is not stamped: it knows no server and trusts no keys")]
    NotStamped,
    /// The stamp has no root, so nothing could be trusted.
    #[error("the stamp has no root keys, so no layer could be trusted")]
    NoRoot,
    /// Neither stamp nor command line name a server.
    #[error("neither the stamp nor the kernel command line names a server")]
    NoServer,
    /// A word on the command line that is not understood.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
}

impl SettingsError {
    /// What the person at the machine can do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Build(_) => "write the medium again",
            Self::Stamp(_) => "stamp the medium again with `towline media stamp`",
            Self::NotStamped | Self::NoRoot => {
                "stamp the medium with `towline media stamp IMAGE --server URL --root root.json --ca ca.pem`; keys cannot be typed here"
            }
            Self::NoServer => {
                "type n and the server, add towline.server=URL at the boot loader, or stamp the medium with --server"
            }
            Self::CommandLine(_) => "restart and correct the word at the boot loader",
        }
    }
}

impl Settings {
    /// Reads the settings of the medium whose initramfs is at `root` (`/` but in tests).
    ///
    /// # Errors
    /// See [`SettingsError`]. A damaged stamp is never taken for an empty one.
    pub fn read(root: &Path, command_line: &str) -> Result<Self, SettingsError> {
        let read = |path: &'static str| {
            fs::read(root.join(path)).map_err(|cause| SettingsError::Read { path, cause })
        };
        let build = serde_json::from_slice(&read(BUILD_PATH)?).map_err(SettingsError::Build)?;
        let stamp = stamp::decode(&read(STAMP_PATH)?)?;
        Self::combine(build, stamp, CommandLine::parse(command_line)?)
    }

    /// # Errors
    /// [`SettingsError::NoServer`]: nobody has named one yet.
    pub fn require_server(&self) -> Result<(), SettingsError> {
        match self.site.servers.is_empty() {
            true => Err(SettingsError::NoServer),
            false => Ok(()),
        }
    }

    /// Takes what a person typed; without servers those there are stay. What is trusted cannot be typed.
    pub fn typed(&mut self, network: stamp::Network, servers: Vec<String>) {
        self.site.network = network;
        if !servers.is_empty() {
            self.site.servers = servers;
        }
    }

    fn combine(
        build: Build,
        stamp: Option<stamp::Settings>,
        command_line: CommandLine,
    ) -> Result<Self, SettingsError> {
        let mut site = stamp.ok_or(SettingsError::NotStamped)?;
        let chosen = command_line.clone();
        if !chosen.servers.is_empty() {
            site.servers = chosen.servers;
        }
        site.network = chosen.network.unwrap_or(site.network);
        site.host = chosen.host.or(site.host);
        if site.root.is_none() {
            return Err(SettingsError::NoRoot);
        }
        Ok(Self {
            floor: site
                .stamped
                .map_or(build.built, |stamped| stamped.max(build.built)),
            build,
            site,
            hand_over: command_line.hand_over,
            command_line,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium(stamp: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("towline")).unwrap();
        let build = r#"{"built": "2026-01-01T00:00:00Z", "version": "0.1.0", "kernel_release": "6.1.0-1-amd64"}"#;
        fs::write(root.path().join(BUILD_PATH), build).unwrap();
        fs::write(root.path().join(STAMP_PATH), stamp).unwrap();
        root
    }

    fn stamped(settings: &stamp::Settings) -> tempfile::TempDir {
        medium(&stamp::encode(settings).unwrap())
    }

    fn example() -> stamp::Settings {
        stamp::Settings {
            servers: vec!["https://stamped:8443".into()],
            root: Some("{}".into()),
            host: Some("web-1".into()),
            stamped: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            ..stamp::Settings::default()
        }
    }

    #[test]
    fn the_command_line_outweighs_the_stamp_where_it_may() {
        let medium = stamped(&example());
        let line = "towline.server=https://typed:1 towline.ip=192.0.2.7/24";
        let settings = Settings::read(medium.path(), line).unwrap();
        assert_eq!(settings.site.servers, ["https://typed:1"]);
        assert_eq!(
            settings.site.network.address.as_deref(),
            Some("192.0.2.7/24")
        );
        assert_eq!(settings.site.host.as_deref(), Some("web-1"));
    }

    #[test]
    fn the_floor_is_the_later_of_building_and_stamping() {
        let settings = Settings::read(stamped(&example()).path(), "").unwrap();
        assert_eq!(settings.floor.to_string(), "2026-02-01T00:00:00Z");
        let early = stamp::Settings {
            stamped: Some("2012-01-01T00:00:00Z".parse().unwrap()),
            ..example()
        };
        let settings = Settings::read(stamped(&early).path(), "").unwrap();
        assert_eq!(settings.floor.to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_medium_without_stamp_or_root_is_refused() {
        let read = |root: &tempfile::TempDir| Settings::read(root.path(), "").unwrap_err();
        assert!(matches!(
            read(&medium(&stamp::cleared())),
            SettingsError::NotStamped
        ));
        let settings = stamp::Settings {
            root: None,
            ..example()
        };
        assert!(matches!(read(&stamped(&settings)), SettingsError::NoRoot));
    }

    #[test]
    fn a_medium_without_a_server_lets_a_person_type_one() {
        let medium = stamped(&stamp::Settings {
            servers: vec![],
            ..example()
        });
        let mut settings = Settings::read(medium.path(), "").unwrap();
        let error = settings.require_server().unwrap_err();
        assert!(matches!(error, SettingsError::NoServer));
        assert!(error.next().contains("type n"), "{}", error.next());
        settings.typed(stamp::Network::default(), vec!["https://typed:8443".into()]);
        settings.require_server().unwrap();
        settings.typed(stamp::Network::default(), vec![]);
        assert_eq!(settings.site.servers, ["https://typed:8443"]);
    }

    #[test]
    fn a_damaged_stamp_is_not_taken_for_none() {
        let mut area = stamp::encode(&example()).unwrap();
        area[200] ^= 1;
        let error = Settings::read(medium(&area).path(), "").unwrap_err();
        assert!(matches!(
            error,
            SettingsError::Stamp(StampError::Damaged(_))
        ));
    }
}
