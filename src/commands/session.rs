//! `towline session list | show | retain`: the points in time that a host can be recovered to.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use towline_contract::manifest::Kind;
use towline_contract::session::Session;
use towline_server::Site;
use towline_server::catalogue::{self, Published};
use towline_server::hosts::{self, kept};
use towline_server::sessions;

use super::site::{SiteArgs, catalogue_failure, host_failure};
use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;

/// The points in time that a host can be recovered to
#[derive(Args)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show a host's sessions, newest first
    List {
        /// Name of the host
        host: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one session: its backup, its layout's time, its machine
    Show {
        /// Name of the host
        host: String,
        /// Version of the session
        version: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep a session whatever the retention rules say
    Retain {
        /// Name of the host
        host: String,
        /// Version of the session
        version: String,
        /// Let the rules decide again
        #[arg(long)]
        release: bool,
    },
}

/// A session with what the rules say of it.
struct Row {
    layer: Published,
    /// Signed by the host itself, or by the operators.
    own: bool,
    kept: bool,
    /// The host leaves it out of its next list.
    retired: bool,
}

/// Runs the subcommand.
pub(crate) fn run(args: &SessionArgs) -> Outcome {
    let site = args.site.open()?;
    match &args.what {
        What::List { host, json } => list(&rows(&site, host)?, host, *json),
        What::Show {
            host,
            version,
            json,
        } => {
            let rows = rows(&site, host)?;
            show(find(&rows, host, version)?, *json)
        }
        What::Retain {
            host,
            version,
            release,
        } => retain(&site, host, version, !release),
    }
}

/// The host's sessions, newest first.
fn rows(site: &Site, host: &str) -> Result<Vec<Row>, Failure> {
    let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
    let own = catalogue::host_layers(&site.store, &view, host).map_err(catalogue_failure)?;
    let retired = hosts::retired(site, host, &own).map_err(host_failure)?;
    let kept = kept::read(site, host).map_err(|error| host_failure(error.into()))?;
    let mut all = own.clone();
    let operators = catalogue::layers(&site.store, &view).map_err(catalogue_failure)?;
    all.extend(sessions::of_host(host, &operators).cloned());
    if all.is_empty() && view.host_key(host).is_none() {
        // Says whether it waits, or is unknown.
        hosts::show(site, host).map_err(host_failure)?;
    }
    sessions::newest_first(&mut all);
    let row = |layer: Published| Row {
        own: own.iter().any(|it| it.target == layer.target),
        kept: kept.contains(&layer.target.version),
        retired: retired.contains(&layer.target.version),
        layer,
    };
    Ok(all.into_iter().map(row).collect())
}

fn find<'a>(rows: &'a [Row], host: &str, version: &str) -> Result<&'a Row, Failure> {
    let found = rows.iter().find(|it| it.layer.target.version == version);
    found.ok_or_else(|| {
        let error = anyhow!("host {host} has no session {version:?}");
        Failure::new(Exit::No, error).next(format!("towline session list {host} shows them"))
    })
}

fn list(rows: &[Row], host: &str, as_json: bool) -> Outcome {
    if as_json {
        let rows: Vec<_> = rows.iter().map(in_json).collect();
        let text = serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    if rows.is_empty() {
        eprintln!("towline: host {host} has no session yet; on the host: towline capture");
        return Ok(());
    }
    println!(
        "{:<20} {:<20} {:<12} {:<9} backup",
        "session", "time", "agent", ""
    );
    for row in rows {
        let session = row.layer.manifest.session.as_ref();
        let text = |of: &dyn Fn(&Session) -> String| session.map_or("-".into(), of);
        println!(
            "{:<20} {:<20} {:<12} {:<9} {}",
            row.layer.target.version,
            text(&|it| it.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            text(&|it| one_line(&it.backup.agent)),
            word(row),
            text(&|it| one_line(&it.backup.session)),
        );
    }
    Ok(())
}

/// What is special about a session.
fn word(row: &Row) -> &'static str {
    match row {
        Row { kept: true, .. } => "kept",
        Row { retired: true, .. } => "goes",
        Row { own: false, .. } => "operators",
        _ => "",
    }
}

fn show(row: &Row, as_json: bool) -> Outcome {
    if as_json {
        let text = serde_json::to_string_pretty(&in_json(row)).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    let manifest = &row.layer.manifest;
    println!("session      {}", row.layer.target);
    println!("digest       {}", manifest.digest);
    println!("stored       {} bytes", manifest.stored_bytes);
    let signed_by = if row.own {
        "the host itself"
    } else {
        "the operators"
    };
    println!("signed by    {signed_by}");
    let retention = match (row.kept, row.retired) {
        (true, _) => "kept by hand",
        (_, true) => "goes with the host's next session",
        _ => "kept by the rules",
    };
    println!("retention    {retention}");
    match &manifest.session {
        Some(session) => print(session),
        None => println!("backup       it does not say which"),
    }
    Ok(())
}

fn print(session: &Session) {
    let Session {
        backup, hardware, ..
    } = session;
    println!("time         {}", session.time);
    println!("layout of    {}", session.captured);
    println!("hostname     {}", one_line(&session.hostname));
    println!(
        "backup       {} {}, session {}",
        one_line(&backup.agent),
        one_line(&backup.version),
        one_line(&backup.session)
    );
    if let Some(bytes) = backup.bytes {
        println!("bytes        {bytes}");
    }
    println!("ReaR         {}", one_line(&session.rear));
    let firmware = match (hardware.uefi, hardware.secure_boot) {
        (true, true) => "UEFI with Secure Boot",
        (true, false) => "UEFI",
        _ => "BIOS",
    };
    println!(
        "machine      {}, {} MiB, {firmware}",
        one_line(&hardware.architecture),
        hardware.memory_kib / 1024
    );
    for disk in &hardware.disks {
        let model = disk.model.as_deref().unwrap_or("model unknown");
        println!(
            "disk         {}, {} bytes, {}",
            one_line(&disk.device),
            disk.bytes,
            one_line(model)
        );
    }
}

fn in_json(row: &Row) -> Value {
    let manifest = &row.layer.manifest;
    json!({
        "version": row.layer.target.version,
        "target": row.layer.target.to_string(),
        "digest": manifest.digest,
        "stored_bytes": manifest.stored_bytes,
        "signed_by": if row.own { "host" } else { "operators" },
        "kept": row.kept,
        "retired": row.retired,
        "session": manifest.session,
    })
}

fn retain(site: &Site, host: &str, version: &str, keep: bool) -> Outcome {
    let rows = rows(site, host)?;
    if keep {
        let row = find(&rows, host, version)?;
        if !row.own {
            let error = anyhow!("{} is signed by the operators", row.layer.target);
            return Err(Failure::new(Exit::Usage, error).next(format!(
                "it stays until it is taken out: towline catalogue retire {}/{host} {version}",
                Kind::Host
            )));
        }
    }
    let set = kept::set(site, host, version, keep);
    let word = match set.map_err(|error| host_failure(error.into()))? {
        None => {
            let most = kept::KEPT_MAX;
            let error =
                anyhow!("{most} sessions of host {host} are kept by hand, which is the most");
            return Err(Failure::new(Exit::Usage, error)
                .next(format!("towline session retain {host} VERSION --release")));
        }
        Some(false) => "unchanged",
        Some(true) if keep => "kept",
        Some(true) => "released",
    };
    println!("{word} {version}");
    Ok(())
}
