//! `towline publish`: layers into the signed catalogue.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use towline_contract::Timestamp;
use towline_initramfs::stored::StoredError;
use towline_server::catalogue::{self, Missing};
use towline_server::intake::{self, IntakeError};
use towline_server::review::Review;

use super::site::{SiteArgs, catalogue_failure};
use crate::exit::{Exit, Failure, Outcome};

/// Check layers, store them and sign them into the catalogue
#[derive(Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Layers, as `towline layer build` wrote them, each with its manifest beside it
    #[arg(required = true, value_name = "LAYER")]
    layers: Vec<PathBuf>,
    /// Publish although machines would lack a library or program, or their
    /// kernel could not read a layer
    #[arg(long)]
    accept_missing: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Serialize)]
struct Report<'a> {
    published: &'a [String],
    unchanged: &'a [String],
    /// What the chain lacks; none when there is no base to check it with.
    missing: Option<Vec<String>>,
}

/// Publishes all the layers or none; `quiet` leaves out what is said along the way.
pub(crate) fn run(args: &PublishArgs, quiet: bool) -> Outcome {
    let site = args.site.open()?;
    let policy = catalogue::view(&site.store)
        .and_then(|view| Ok(view.layer_policy()?))
        .map_err(catalogue_failure)?;
    let mut layers = Vec::new();
    for path in &args.layers {
        if !quiet {
            eprintln!("towline: verifying {}", path.display());
        }
        layers.push(intake::take(path, &policy).map_err(intake_failure)?);
    }
    if let Err(error) = site.store.sweep(SystemTime::now()) {
        eprintln!("towline: {:#}", anyhow!(error));
    }
    let missing = if args.accept_missing {
        Missing::Accept
    } else {
        Missing::Refuse
    };
    let done =
        catalogue::publish(&site, &layers, missing, Timestamp::now()).map_err(catalogue_failure)?;
    let missing = match &done.review {
        Review::NoBase => {
            eprintln!(
                "towline: no base layer is published yet, so it was not checked that the machines have all they need"
            );
            None
        }
        Review::Checked(rows) => Some(rows.iter().map(row).collect::<Vec<_>>()),
    };
    for row in missing.iter().flatten() {
        eprintln!("towline: published although {row}");
    }
    if args.json {
        let report = Report {
            published: &done.added,
            unchanged: &done.unchanged,
            missing,
        };
        let text = serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    for target in &done.added {
        println!("published {target}");
    }
    for target in &done.unchanged {
        let is_back = done.stored_again.contains(target);
        let what = if is_back { "stored again" } else { "unchanged" };
        println!("{what} {target}");
    }
    Ok(())
}

fn row(row: &towline_server::review::Unmet) -> String {
    format!("{} lacks {} over {}", row.layer, row.need, row.base)
}

pub(super) fn intake_failure(error: IntakeError) -> Failure {
    match error {
        IntakeError::Layer(StoredError::Read { .. }) => {
            Failure::new(Exit::Usage, error).next("name the .layer files that towline layer build wrote")
        }
        IntakeError::Layer(_) => Failure::new(Exit::NotTrusted, error)
            .next("build the layer again from its recipe; nothing was published"),
        IntakeError::Read { .. } => Failure::new(Exit::Usage, error)
            .next("name the .layer files that towline layer build wrote, with their manifests beside them"),
        IntakeError::Manifest { .. } => Failure::new(
            Exit::NotTrusted,
            anyhow!(error).context("a layer was not published"),
        )
        .next("build the layer again from its recipe"),
    }
}
