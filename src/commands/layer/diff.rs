//! `towline layer diff`: in which packages and files two layers differ.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use towline_contract::manifest::Manifest;
use towline_initramfs::contents::contents;
use towline_initramfs::diff::{Difference, FileChange, PackageChange, Side, diff};
use towline_initramfs::stored;

use super::verify;
use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;

#[derive(Args)]
pub(super) struct DiffArgs {
    /// The first layer, with its manifest beside it
    from: PathBuf,
    /// The second
    to: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DiffArgs) -> Outcome {
    let from = verify::manifest(&args.from, None)?;
    let to = verify::manifest(&args.to, None)?;
    for (layer, manifest) in [(&args.from, &from), (&args.to, &to)] {
        stored::verify_bytes(layer, manifest).map_err(verify::failure)?;
    }
    let found = compare((&args.from, &from), (&args.to, &to))?;
    if args.json {
        let names = [&from, &to].map(Manifest::target_name);
        println!(
            "{:#}",
            json!({ "from": names[0], "to": names[1], "same": found.is_none(), "difference": found })
        );
    } else {
        println!("{} -> {}", from.target_name(), to.target_name());
        print(&found);
    }
    match found.is_none() {
        true => Ok(()),
        false => Err(Failure::new(Exit::No, anyhow!("the layers differ"))),
    }
}

/// In what two layers differ, each with its manifest.
///
/// # Errors
/// One cannot be read.
pub(super) fn compare(
    from: (&Path, &Manifest),
    to: (&Path, &Manifest),
) -> Result<Difference, Failure> {
    let held =
        |(path, manifest): (&Path, &Manifest)| contents(path, manifest).map_err(verify::failure);
    let side = |(_, manifest), contents| Side { manifest, contents };
    Ok(diff(side(from, &held(from)?), side(to, &held(to)?)))
}

/// One line for each package and file; entries that differ in their times only are counted.
pub(super) fn print(found: &Difference) {
    if found.is_none() {
        println!("  no difference");
        return;
    }
    if !found.fields.is_empty() {
        println!("  manifest       {}", found.fields.join(", "));
    }
    println!(
        "  packages       {}",
        counts(&found.packages, |it| (it.from.is_some(), it.to.is_some()))
    );
    for package in &found.packages {
        println!("    {}", one_line(&package_line(package)));
    }
    println!(
        "  files          {}",
        counts(&found.files, |it| (it.from.is_some(), it.to.is_some()))
    );
    let (times, others): (Vec<_>, Vec<_>) = found.files.iter().partition(|it| it.is_of_time_only());
    for file in others {
        println!("    {}", one_line(&file_line(file)));
    }
    if !times.is_empty() {
        println!(
            "    {} of them differ in their times only (--json lists them)",
            times.len()
        );
    }
    if found.files.is_empty() && !found.same_bytes {
        println!(
            "  Every entry is the same; the stored bytes are not: they were packed in another way."
        );
    }
}

/// How many are in both, in the second and in the first only.
fn counts<T>(changes: &[T], sides: impl Fn(&T) -> (bool, bool)) -> String {
    let count = |wanted| changes.iter().filter(|it| sides(it) == wanted).count();
    format!(
        "{} changed, {} added, {} removed",
        count((true, true)),
        count((false, true)),
        count((true, false))
    )
}

fn package_line(package: &PackageChange) -> String {
    let PackageChange {
        name,
        architecture,
        from,
        to,
    } = package;
    match (from, to) {
        (Some(from), Some(to)) => format!("~ {name} {architecture} {from} -> {to}"),
        (None, Some(to)) => format!("+ {name} {architecture} {to}"),
        (from, None) => format!(
            "- {name} {architecture} {}",
            from.as_deref().unwrap_or_default()
        ),
    }
}

fn file_line(file: &FileChange) -> String {
    let place = if file.in_image { " in the image" } else { "" };
    let path = &file.path;
    match (&file.from, &file.to) {
        (Some(from), Some(to)) => {
            let told = |what: &&'static str| match *what {
                "type" => format!("{} -> {}", from.kind, to.kind),
                "content" => format!(
                    "content, {} -> {} bytes",
                    from.bytes.unwrap_or(0),
                    to.bytes.unwrap_or(0)
                ),
                "target" => format!(
                    "{} -> {}",
                    from.target.as_deref().unwrap_or_default(),
                    to.target.as_deref().unwrap_or_default()
                ),
                "mode" => format!("mode {} -> {}", from.mode, to.mode),
                "owner" => format!("owner {} -> {}", from.owner, to.owner),
                other => other.to_owned(),
            };
            let told: Vec<_> = file.differs.iter().map(told).collect();
            format!("~ {path}{place}: {}", told.join("; "))
        }
        (None, Some(_)) => format!("+ {path}{place}"),
        (_, None) => format!("- {path}{place}"),
    }
}
