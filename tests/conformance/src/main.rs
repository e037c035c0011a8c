//! A TUF client for tests: the command line that theupdateframework/tuf-conformance drives, over the client in
//! `boot/contract` that stage 1 and the server use, here with RSA keys.
//!
//! Here is what that client leaves to its callers: fetching, keeping files, the clock, and the order of the steps. What is
//! trusted is decided there.
//! Unlike a medium it has a memory: the files in its folder, byte for byte as they came.

mod fetch;
mod files;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use towline_contract::Timestamp;
use towline_contract::trust::TrustedRoot;

use crate::fetch::Repository;
use crate::files::Folder;
use crate::update::Client;

/// A TUF client that speaks tuf-conformance's protocol
#[derive(Parser)]
struct Arguments {
    /// Where trusted metadata is kept
    #[arg(long)]
    metadata_dir: PathBuf,
    /// The repository's metadata
    #[arg(long)]
    metadata_url: Option<String>,
    /// A target to download; may be repeated
    #[arg(long)]
    target_name: Vec<String>,
    /// The repository's targets
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where targets are put
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trust this root
    Init {
        /// The root document
        root: PathBuf,
    },
    /// Bring the metadata up to date
    Refresh,
    /// Bring the metadata up to date, and download targets
    Download,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("towline-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let metadata = Folder::new(&arguments.metadata_dir);
    if let Command::Init { root } = &arguments.command {
        let bytes = std::fs::read(root).with_context(|| format!("reading {}", root.display()))?;
        TrustedRoot::from_stamp(&bytes)?;
        return metadata.put("root.json", &bytes);
    }
    let url = arguments.metadata_url.as_deref();
    let repository = Repository::new(url.context("--metadata-url is missing")?);
    let client = Client::new(metadata, repository, Timestamp::now());
    let view = client.refresh()?;
    if matches!(arguments.command, Command::Refresh) {
        return Ok(());
    }
    let url = arguments.target_base_url.as_deref();
    let targets = Repository::new(url.context("--target-base-url is missing")?);
    let folder = arguments.target_dir.as_deref();
    let folder = Folder::new(folder.context("--target-dir is missing")?);
    for name in &arguments.target_name {
        client.download(&view, name, &targets, &folder)?;
    }
    Ok(())
}
