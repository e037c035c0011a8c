//! `towline layer inspect`: what a layer is and holds.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use towline_contract::manifest::Manifest;
use towline_contract::newc::{Entry, mode};
use towline_initramfs::sbom;
use towline_initramfs::stored::{self, StoredError};

use super::verify;
use crate::exit::{Exit, Failure, Outcome};

#[derive(Args)]
pub(super) struct InspectArgs {
    /// The layer
    layer: PathBuf,
    /// Its manifest [default: the file of the same name with .manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// List its entries as the file has them, unverified
    #[arg(long)]
    entries: bool,
    /// Print its packages as a CycloneDX document instead
    #[arg(long, conflicts_with_all = ["entries", "json"])]
    sbom: bool,
    /// The distribution that made its packages, in their URLs [default of
    /// Debian packages: debian]
    #[arg(long, value_name = "NAME", requires = "sbom")]
    vendor: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs) -> Outcome {
    let manifest = verify::manifest(&args.layer, args.manifest.as_deref())?;
    if args.sbom {
        return print_sbom(&manifest, args.vendor.as_deref());
    }
    if args.json {
        let mut document = json!({ "manifest": manifest });
        if args.entries {
            let mut entries = Vec::new();
            list(&args.layer, |entry, target| {
                entries.push(json!({
                    "name": entry.display_name(), "mode": format!("{:o}", entry.mode), "uid": entry.uid, "gid": entry.gid,
                    "mtime": entry.mtime, "bytes": entry.bytes, "links": entry.links,
                    "target": (!target.is_empty()).then(|| target.escape_ascii().to_string()),
                }));
            })?;
            document["entries"] = entries.into();
            document["verified"] = false.into();
        }
        println!("{document:#}");
        return Ok(());
    }
    print(&manifest);
    if args.entries {
        println!("\nentries, not verified (towline layer verify does that):");
        list(&args.layer, |entry, target| {
            println!("{}", line(entry, target));
        })?;
    }
    Ok(())
}

fn print_sbom(manifest: &Manifest, vendor: Option<&str>) -> Outcome {
    if vendor.is_none() && sbom::has_rpm(manifest) {
        let error = anyhow!("it has rpm packages, and which distribution made them is not known");
        return Err(Failure::new(Exit::Usage, error).next("say which: --vendor fedora"));
    }
    let document = sbom::cyclonedx(manifest, vendor.unwrap_or("debian"));
    let text = serde_json::to_string_pretty(&document).map_err(anyhow::Error::from)?;
    println!("{text}");
    Ok(())
}

/// Lists what the file holds, whatever its manifest says of it.
fn list(layer: &Path, each: impl FnMut(&Entry, &[u8])) -> Outcome {
    stored::list(layer, each).map_err(|error| {
        if is_unreadable(&error) {
            return Failure::new(Exit::Usage, error);
        }
        Failure::new(Exit::NotTrusted, error)
            .next("the layer is damaged and its list not complete: build it again from its recipe")
    })
}

/// Whether the file itself cannot be had, rather than what is in it.
fn is_unreadable(error: &StoredError) -> bool {
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::IsADirectory,
    ];
    matches!(error, StoredError::Read { cause, .. } if kinds.contains(&cause.kind()))
}

fn print(manifest: &Manifest) {
    println!("{}", manifest.target_name());
    println!("  digest         {}", manifest.digest);
    println!("  created        {}", manifest.created);
    println!(
        "  stored         {} bytes, {} chunks",
        manifest.stored_bytes,
        manifest.chunks.len()
    );
    println!(
        "  archive        {} bytes, {} entries",
        manifest.unpacked_bytes, manifest.entries
    );
    println!(
        "  compression    {}",
        format!("{:?}", manifest.compression).to_lowercase()
    );
    if let Some(image) = &manifest.image {
        println!(
            "  image          {}: {} bytes, files {} bytes",
            image.path, image.bytes, image.content_bytes
        );
    }
    if let Some(release) = &manifest.kernel_release {
        println!("  kernel         {release}");
    }
    let (provides, requires) = (&manifest.provides, &manifest.requires);
    println!(
        "  provides       {} libraries, {} programs",
        provides.libraries.len(),
        provides.programs.len()
    );
    println!(
        "  requires       {} libraries, {} programs",
        requires.libraries.len(),
        requires.programs.len()
    );
    for path in &manifest.replaceable {
        println!("  replaceable    {path}");
    }
    for check in &manifest.checks {
        println!(
            "  check          {}: {}",
            check.name,
            check.command.join(" ")
        );
    }
    println!("  packages       {}", manifest.packages.len());
    for package in &manifest.packages {
        println!(
            "    {} {} {}",
            package.name, package.version, package.architecture
        );
    }
}

/// One entry, much as `ls -l` shows it.
fn line(entry: &Entry, target: &[u8]) -> String {
    let kind = match entry.file_type() {
        mode::S_IFDIR => 'd',
        mode::S_IFLNK => 'l',
        mode::S_IFBLK => 'b',
        mode::S_IFCHR => 'c',
        mode::S_IFIFO => 'p',
        mode::S_IFSOCK => 's',
        _ => '-',
    };
    let arrow = if target.is_empty() {
        String::new()
    } else {
        format!(" -> {}", target.escape_ascii())
    };
    format!(
        "{kind}{:04o} {:>5} {:>5} {:>10} {}{arrow}",
        entry.mode & 0o7777,
        entry.uid,
        entry.gid,
        entry.bytes,
        entry.display_name()
    )
}
