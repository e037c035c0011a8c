//! `towline key new | rotate | sign | show`: the keys that decide what machines boot.

mod new;
pub(super) mod rotate;
mod show;
mod sign;
pub(super) mod unlock;

use clap::{Args, Subcommand};

use super::site::SiteArgs;
use crate::exit::Outcome;

/// The keys that decide what machines boot
#[derive(Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a key where it belongs, away from the site: no site is needed
    New(new::NewArgs),
    /// Give a role a new key, or its documents a new date
    Rotate(rotate::RotateArgs),
    /// Sign a document that waits in to-sign/, anywhere: no site is needed
    Sign(sign::SignArgs),
    /// Show each role's keys, how many must sign, and until when
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub(crate) fn run(args: &KeyArgs, quiet: bool) -> Outcome {
    match &args.what {
        What::New(new) => new::run(new, quiet),
        What::Rotate(rotate) => rotate::run(&args.site.open()?, rotate, quiet),
        What::Sign(sign) => sign::run(sign),
        What::Show { json } => show::run(&args.site.open()?, *json),
    }
}
