//! `towline catalogue list | retire`: what is published.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;
use towline_contract::manifest::Kind;
use towline_contract::{Digest, Timestamp};
use towline_server::catalogue::{self, Published};

use super::site::{SiteArgs, catalogue_failure};
use crate::exit::{Exit, Failure, Outcome};

/// Show what is published, or take it out
#[derive(Args)]
pub(crate) struct CatalogueArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the published layers
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a layer out of the catalogue; its bytes stay in the store
    Retire {
        /// Name of the layer, or KIND/NAME
        name: String,
        /// Its version
        version: String,
    },
}

/// One published layer.
#[derive(Serialize)]
struct Row<'a> {
    target: String,
    digest: Digest,
    stored_bytes: u64,
    unpacked_bytes: u64,
    created: Timestamp,
    packages: usize,
    kernel_release: Option<&'a str>,
}

/// Runs the subcommand; `quiet` leaves out that there is nothing.
pub(crate) fn run(args: &CatalogueArgs, quiet: bool) -> Outcome {
    let site = args.site.open()?;
    match &args.what {
        What::List { json } => {
            let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
            let layers = catalogue::layers(&site.store, &view).map_err(catalogue_failure)?;
            for expired in view.check_expiry(Timestamp::now()) {
                eprintln!("towline: {expired}; towline serve signs snapshot and timestamp again");
            }
            let rows: Vec<_> = layers.iter().map(row).collect();
            if *json {
                println!(
                    "{}",
                    serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?
                );
            } else if !rows.is_empty() {
                print(&rows);
            } else if !quiet {
                eprintln!("towline: nothing is published yet");
            }
        }
        What::Retire { name, version } => {
            let (kind, name) = kind_and_name(name)?;
            let now = Timestamp::now();
            let gone =
                catalogue::retire(&site, kind, name, version, now).map_err(catalogue_failure)?;
            for target in gone {
                println!("retired {target}");
            }
        }
    }
    Ok(())
}

/// `NAME`, or `KIND/NAME` where a name occurs in several kinds.
fn kind_and_name(text: &str) -> Result<(Option<Kind>, &str), Failure> {
    let Some((kind, name)) = text.split_once('/') else {
        return Ok((None, text));
    };
    let kind = serde_json::from_value(kind.into())
        .map_err(|_| Failure::new(Exit::Usage, anyhow!("{kind:?} is no kind of layer")))
        .map_err(|failure| {
            failure
                .next("towline catalogue list shows the layers as KIND/NAME/VERSION/ARCHITECTURE")
        })?;
    Ok((Some(kind), name))
}

fn row(layer: &Published) -> Row<'_> {
    let manifest = &layer.manifest;
    Row {
        target: layer.target.to_string(),
        digest: manifest.digest,
        stored_bytes: manifest.stored_bytes,
        unpacked_bytes: manifest.unpacked_bytes,
        created: manifest.created,
        packages: manifest.packages.len(),
        kernel_release: manifest.kernel_release.as_deref(),
    }
}

fn print(rows: &[Row<'_>]) {
    println!(
        "{:<48} {:>9} {:>8}  {:<12} sources of",
        "layer", "KiB", "packages", "digest"
    );
    for row in rows {
        println!(
            "{:<48} {:>9} {:>8}  {} {}",
            row.target,
            row.stored_bytes.div_ceil(1024),
            row.packages,
            row.digest.short(),
            row.created.strftime("%Y-%m-%d")
        );
    }
}
