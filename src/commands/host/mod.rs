//! `towline host`: protected hosts and their keys.

mod enrol;

use clap::{Args, Subcommand};

use crate::exit::Outcome;

/// Protected hosts: make them known, approve them, show them
#[derive(Args)]
pub(crate) struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Subcommand)]
enum HostCommand {
    Enrol(enrol::EnrolArgs),
}

/// Runs the command.
pub(crate) fn run(args: &HostArgs) -> Outcome {
    match &args.command {
        HostCommand::Enrol(args) => enrol::run(args),
    }
}
