//! `towline host`: protected hosts and their keys.

mod agent;
mod approve;
mod enrol;
mod show;

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
    Approve(approve::ApproveArgs),
    List(show::ListArgs),
    Show(show::ShowArgs),
    Agent(agent::AgentArgs),
    Forget(approve::ForgetArgs),
    Revoke(approve::RevokeArgs),
}

/// Runs the command.
pub(crate) fn run(args: &HostArgs) -> Outcome {
    match &args.command {
        HostCommand::Enrol(args) => enrol::run(args),
        HostCommand::Approve(args) => approve::run(args),
        HostCommand::List(args) => show::list(args),
        HostCommand::Show(args) => show::show(args),
        HostCommand::Agent(args) => agent::run(args),
        HostCommand::Forget(args) => approve::forget(args),
        HostCommand::Revoke(args) => approve::revoke(args),
    }
}
