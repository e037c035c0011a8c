//! `towline catalogue list | retire | refresh | policy`: what is published, and what may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;
use towline_contract::lanes::{Bounds, LayerPolicy, POLICY_FORMAT};
use towline_contract::manifest::Kind;
use towline_contract::{Digest, Timestamp};
use towline_server::Site;
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
    /// Build layers again whose packages have changed, or that have a new
    /// release, publish them in place of old ones: recipes with [track]. Exit
    /// status 0 when all are current
    Refresh(super::refresh::RefreshArgs),
    /// Show what the site keeps layers to beside the rules of their kinds, or sign another such policy
    Policy {
        /// The policy to sign: TOML, with a table for each kind
        file: Option<PathBuf>,
        /// Sign that there is none
        #[arg(long, conflicts_with = "file")]
        clear: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const POLICY_NEXT: &str =
    "write tables such as [agent] with lists within and never: docs/guide/site.md has an example";

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
        What::Refresh(args) => super::refresh::run(&site, args, quiet)?,
        What::Policy { file, clear, json } => policy(&site, file.as_deref(), *clear, *json)?,
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

/// Signs a policy if one is named, and shows what is signed.
fn policy(site: &Site, file: Option<&Path>, clear: bool, json: bool) -> Outcome {
    let wanted = file.map(policy_in).transpose()?;
    if clear || wanted.is_some() {
        let done = catalogue::set_policy(site, wanted.as_ref(), Timestamp::now());
        match done.map_err(catalogue_failure)? {
            true => eprintln!("towline: signed; machines keep layers to this from now on"),
            false => eprintln!("towline: this is signed already"),
        }
    }
    let policy = catalogue::view(&site.store)
        .and_then(|view| Ok(view.layer_policy()?))
        .map_err(catalogue_failure)?;
    if json {
        let text = serde_json::to_string_pretty(&policy.kinds).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    if policy.kinds.is_empty() {
        println!("no policy of the site's own: layers are kept to the rules of their kinds");
    }
    for (kind, bounds) in &policy.kinds {
        for (word, paths) in [("within", &bounds.within), ("never", &bounds.never)] {
            for path in paths {
                println!("{kind:<8} {word:<7} {}", path.escape_debug());
            }
        }
    }
    Ok(())
}

/// The policy in a file.
fn policy_in(path: &Path) -> Result<LayerPolicy, Failure> {
    let usage = |error| Failure::new(Exit::Usage, error);
    let named = || format!("{} is no layer policy", path.display());
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()));
    let kinds: BTreeMap<Kind, Bounds> = toml::from_str(&text.map_err(usage)?)
        .with_context(named)
        .map_err(|error| usage(error).next(POLICY_NEXT))?;
    if kinds.is_empty() {
        let why = anyhow!("{} names no kind of layers", path.display());
        return Err(
            usage(why).next("towline catalogue policy --clear signs that there is no policy")
        );
    }
    let policy = LayerPolicy {
        format: POLICY_FORMAT,
        kinds,
    };
    match policy.mistake() {
        Some(why) => Err(usage(anyhow!(why).context(named())).next(POLICY_NEXT)),
        None => Ok(policy),
    }
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
