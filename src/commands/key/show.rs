//! `towline key show`: each role's keys, how many must sign, and until when what they signed is good.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use towline_contract::Timestamp;
use towline_contract::trust::metadata::Role;
use towline_contract::trust::{KeyId, PublicKey, SignedView};
use towline_server::Site;
use towline_server::catalogue;
use towline_server::keys;

use crate::commands::site::catalogue_failure;
use crate::exit::Outcome;

/// A role with its keys.
struct Row {
    role: String,
    threshold: u32,
    keys: Vec<Key>,
    /// Version of its document, and until when it is good; none for roles that have no document of their own.
    document: Option<(u64, Timestamp)>,
}

/// A key of a role.
struct Key {
    fingerprint: String,
    /// Its file, without the folder; none when none is known.
    file: Option<String>,
    /// Whether the secret half is on this machine.
    here: bool,
}

pub(super) fn run(site: &Site, json: bool) -> Outcome {
    let view = catalogue::view(&site.store).map_err(catalogue_failure)?;
    let rows = rows(site, &view);
    let waiting = waiting(site);
    if json {
        let rows: Vec<_> = rows.iter().map(to_json).collect();
        let all = json!({ "roles": rows, "waiting": waiting });
        let text = serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?;
        println!("{text}");
        return Ok(());
    }
    for row in &rows {
        let good = row.document.map_or_else(String::new, |(version, expires)| {
            format!(", version {version} is good until {expires}")
        });
        let (role, all) = (&row.role, row.keys.len());
        println!("{role}: {} of {all} must sign{good}", row.threshold);
        for key in &row.keys {
            let place = match (&key.file, key.here) {
                (Some(file), true) => format!("keys/{file}"),
                (Some(file), false) => format!("keys/{file}, which is elsewhere"),
                (None, _) => "not on this machine".into(),
            };
            println!("  {}  {place}", key.fingerprint);
        }
    }
    for file in &waiting {
        println!("{} waits", file.display());
    }
    Ok(())
}

/// Documents that wait for a signature, and keys that wait to be named.
fn waiting(site: &Site) -> Vec<PathBuf> {
    let files = [(site.to_sign(), "json"), (site.keys(), "next")];
    let files = files.into_iter().flat_map(|(folder, ending)| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|it| it.path());
        paths.filter(move |it| it.extension().is_some_and(|it| it == ending))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

fn rows(site: &Site, view: &SignedView) -> Vec<Row> {
    let documents = view.documents();
    let document = |name: &str| {
        let header = documents.iter().find(|(role, _)| *role == name)?.1;
        Some((header.version, header.expires))
    };
    let root = view.root();
    let top = ["root", "targets", "snapshot", "timestamp"].map(|name| {
        let role = root.roles.get(name)?;
        Some(row(site, name, role, &root.keys, document(name)))
    });
    let delegated = view.targets().delegations.iter().flat_map(|all| {
        let is_host = |name: &str| name.starts_with("host-");
        let roles = all.roles.iter().filter(move |it| !is_host(&it.name));
        roles.map(|it| row(site, &it.name, &it.role, &all.keys, document(&it.name)))
    });
    top.into_iter().flatten().chain(delegated).collect()
}

fn row(
    site: &Site,
    name: &str,
    role: &Role,
    all: &std::collections::BTreeMap<KeyId, PublicKey>,
    document: Option<(u64, Timestamp)>,
) -> Row {
    let files = keys::offline_keys(&site.keys(), name);
    let key = |id: &KeyId| {
        let public = all.get(id);
        let file = files.iter().find(|it| it.public.as_ref() == public);
        Key {
            fingerprint: public.map_or_else(|| id.fingerprint(), |it| it.id().fingerprint()),
            file: file.map(|it| format!("{}.key", it.name)),
            here: file.is_some_and(|it| it.path.exists()),
        }
    };
    Row {
        role: name.into(),
        threshold: role.threshold,
        keys: role.keyids.iter().map(key).collect(),
        document,
    }
}

fn to_json(row: &Row) -> serde_json::Value {
    let keys = row
        .keys
        .iter()
        .map(|key| json!({ "fingerprint": key.fingerprint, "file": key.file, "here": key.here }));
    json!({
        "role": row.role,
        "threshold": row.threshold,
        "keys": keys.collect::<Vec<_>>(),
        "version": row.document.map(|it| it.0),
        "expires": row.document.map(|it| it.1),
    })
}
