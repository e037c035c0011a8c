//! What the commands that work on a site share: finding and opening it.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use towline_initramfs::stored::StoredError;
use towline_server::Site;
use towline_server::catalogue::CatalogueError;
use towline_server::hosts::HostError;
use towline_server::site::SiteError;

use crate::exit::{Exit, Failure};

/// Which site a command works on.
#[derive(clap::Args)]
pub(crate) struct SiteArgs {
    /// The site's configuration
    #[arg(
        long,
        value_name = "FILE",
        default_value = "towline.toml",
        global = true
    )]
    config: PathBuf,
}

impl SiteArgs {
    /// The file that says which.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Opens the site.
    pub(crate) fn open(&self) -> Result<Site, Failure> {
        let site = Site::with_config(&self.config).map_err(failure)?;
        match site.is_unfinished() {
            false => Ok(site),
            true => {
                let waits = site.to_sign();
                let error = anyhow!(
                    "the site's first catalogue waits for signatures in {}",
                    waits.display()
                );
                Err(Failure::new(Exit::No, error).next(
                    "towline key sign FILE --key KEY, where the keys are; bring the files back, and run towline init again with the same options",
                ))
            }
        }
    }
}

/// A site's error with its exit code and next step.
pub(crate) fn failure(error: SiteError) -> Failure {
    match error {
        SiteError::NotASite(_) => Failure::new(Exit::Usage, error)
            .next("go to the site's folder, name it with --config, or make one: towline init DIR"),
        SiteError::Config(_) => {
            Failure::new(Exit::Usage, error).next("correct the line and run the command again")
        }
        SiteError::Catalogue(error) => catalogue_failure(error),
        SiteError::Key(error) => catalogue_failure(error.into()),
        _ => Failure::new(Exit::Internal, error),
    }
}

/// A catalogue's error with its exit code and next step.
pub(crate) fn catalogue_failure(error: CatalogueError) -> Failure {
    match &error {
        CatalogueError::Trust(_) => Failure::new(Exit::NotTrusted, error).next(
            "restore store/metadata from a copy; nothing there should have been changed by hand",
        ),
        CatalogueError::Taken { .. } | CatalogueError::OtherManifest { .. } => {
            Failure::new(Exit::Usage, error)
                .next("give the layer a new version in its recipe and build it again")
        }
        CatalogueError::Policy(_) => Failure::new(Exit::No, error).next(
            "nothing was signed; allow what they need, or publish other layers and retire these first",
        ),
        CatalogueError::Unmet(rows) => {
            let next = rows.iter().find_map(|it| it.next);
            let next = next.unwrap_or("add what is missing to a layer");
            let next = format!("{next}, or publish all the same with --accept-missing");
            Failure::new(Exit::No, error).next(next)
        }
        CatalogueError::Collisions(_) => Failure::new(Exit::NotTrusted, error).next(
            "nothing was published; leave these files out of the layer (exclude in its recipe, or private), \
             or let the base list them as replaceable",
        ),
        CatalogueError::Layer(StoredError::Temporary { .. }) => Failure::new(Exit::Internal, error)
            .next("make room there, or name another folder in TMPDIR"),
        CatalogueError::Layer(_) => Failure::new(Exit::NotTrusted, error).next(
            "build that layer again; one in the store can be restored from a copy of the store",
        ),
        CatalogueError::Missing(_) | CatalogueError::Manifest { .. } => {
            Failure::new(Exit::Internal, error).next(
                "restore it from a copy of the store; without one, move what is left of the store away and publish anew",
            )
        }
        CatalogueError::NoNumber(_) => Failure::new(Exit::Internal, error)
            .next("remove the numbered files in store/metadata that are newer than timestamp.json names"),
        CatalogueError::Unknown { .. } => {
            Failure::new(Exit::No, error).next("towline catalogue list shows what is published")
        }
        CatalogueError::OtherKey { .. } => Failure::new(Exit::NotTrusted, error)
            .next("for a host that lost its key: towline host revoke HOST, and it enrols again"),
        CatalogueError::ToSign(_) => Failure::new(Exit::No, error).next(
            "where the keys are: towline key sign FILE --key KEY; bring the file back, and run this command again",
        ),
        CatalogueError::Waits(_) => Failure::new(Exit::Usage, error)
            .next("finish that change first by its own command, or remove the file to give it up"),
        CatalogueError::Role(_) => {
            Failure::new(Exit::Usage, error).next("towline key show names roles and keys")
        }
        CatalogueError::Agent(_) => {
            Failure::new(Exit::Usage, error).next("see whether ssh-add -l can speak with it")
        }
        CatalogueError::Key(_) => Failure::new(Exit::Usage, error)
            .next("keys belong in keys/ of the site, readable by their owner alone (chmod 600)"),
        _ => Failure::new(Exit::Internal, error),
    }
}

/// A host's error with its exit code and next step.
pub(crate) fn host_failure(error: HostError) -> Failure {
    match error {
        HostError::Unknown(_) => {
            Failure::new(Exit::No, error).next("towline host list shows those that are known")
        }
        HostError::Catalogue(error) => catalogue_failure(error),
        HostError::Approved(ref host) => {
            let next = format!(
                "only hosts that wait can be forgotten; to stop its key: towline host revoke {host}"
            );
            Failure::new(Exit::Usage, error).next(next)
        }
        HostError::Revoked { .. } => Failure::new(Exit::NotTrusted, error)
            .next("on the host: remove /etc/towline/host.key, and enrol again"),
        _ => Failure::new(Exit::Internal, error),
    }
}
