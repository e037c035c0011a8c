//! `towline layer`: builds layers, looks into them, and checks them.

mod build;
mod diff;
mod failures;
mod inspect;
mod settings;
mod sources;
mod verify;

use clap::{Args, Subcommand};

use crate::exit::Outcome;

pub(super) use build::packages_cache;
pub(super) use failures::{apt_failure, build_failure, recipe_failure, release_failure};
pub(super) use settings::settings;

/// Build layers, look into them, check them
#[derive(Args)]
pub(crate) struct LayerArgs {
    #[command(subcommand)]
    command: LayerCommand,
}

impl LayerArgs {
    /// Whether it may fetch files from servers.
    pub(crate) fn has_peers(&self) -> bool {
        match &self.command {
            LayerCommand::Build(_) => true,
            LayerCommand::Verify(args) => args.builds(),
            LayerCommand::Inspect(_) | LayerCommand::Diff(_) => false,
        }
    }
}

#[derive(Subcommand)]
enum LayerCommand {
    /// Build the layer that a recipe describes
    Build(build::BuildArgs),
    /// Show what a layer is and holds
    Inspect(inspect::InspectArgs),
    /// Check a layer against its manifest, its kind's rules, and its sources
    Verify(verify::VerifyArgs),
    /// Show in which packages and files two layers differ. Exit status 1 when
    /// they do
    Diff(diff::DiffArgs),
}

/// Runs the command; `quiet` leaves out what is said along the way.
pub(crate) fn run(args: &LayerArgs, quiet: bool) -> Outcome {
    match &args.command {
        LayerCommand::Build(args) => build::run(args, quiet),
        LayerCommand::Inspect(args) => inspect::run(args),
        LayerCommand::Verify(args) => verify::run(args, quiet),
        LayerCommand::Diff(args) => diff::run(args),
    }
}
