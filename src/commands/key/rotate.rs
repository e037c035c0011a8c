//! `towline key rotate`: a new key for a role, or a new date for its documents.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use towline_contract::Timestamp;
use towline_contract::trust::{KeyId, SigningKey};
use towline_server::Site;
use towline_server::catalogue::{self, Change, Rotation};
use towline_server::keys::{self, KeyError, Passphrase, RootKey};

use super::unlock::Passphrases;
use crate::commands::site::catalogue_failure;
use crate::exit::{Exit, Failure, Outcome};

/// What `key rotate` is told.
#[derive(Args)]
pub(super) struct RotateArgs {
    /// root, targets, snapshot, timestamp, base, hosts, plan, or agent-NAME;
    /// those that the root names are changed in one root
    #[arg(required = true, value_name = "ROLE")]
    roles: Vec<String>,
    /// Keep the keys, and give the role's documents a new date
    #[arg(long)]
    renew: bool,
    /// Of the root: replace this key alone, by its name (root-1) or
    /// fingerprint (repeat for more) [default: all of them]
    #[arg(long, value_name = "KEY", conflicts_with = "renew")]
    replace: Vec<String>,
    /// A root key that is not in keys/ (repeat for more)
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    passphrases: Passphrases,
    /// Do not encrypt new root keys
    #[arg(long)]
    plain_root_keys: bool,
}

/// Roles whose keys the root names.
const TOP: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// Roles whose keys the server needs, and takes up by itself.
const ONLINE: [&str; 4] = ["snapshot", "timestamp", "hosts", "plan"];

pub(super) fn run(site: &Site, args: &RotateArgs, quiet: bool) -> Outcome {
    let roles: Vec<_> = args.roles.iter().map(String::as_str).collect();
    if roles != ["root"] && !args.replace.is_empty() {
        let roles = roles.join(", ");
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("--replace is for the root's keys alone, not for {roles}"),
        ));
    }
    let known = keys::root_keys(&site.keys());
    let change = match args.renew {
        true => Change::Renew,
        false => Change::Rotate(replaced(site, &known, &args.replace)?),
    };
    let is_by_root = |role: &&str| *role == "root" || (TOP.contains(role) && !args.renew);
    let by_root = roles.iter().any(is_by_root);
    let root_keys = match by_root {
        true => root_keys(site, args, &known)?,
        false => Vec::new(),
    };
    let mut new_root_key = |path: &Path| new_root_key(path, args.plain_root_keys);
    let rotation = Rotation {
        roles: &roles,
        change,
        root_keys,
        new_root_key: &mut new_root_key,
    };
    let done = catalogue::rotate(site, rotation, Timestamp::now()).map_err(catalogue_failure)?;
    for role in &roles {
        match args.renew {
            true => println!("{role} is signed again"),
            false => println!("{role} has a new key"),
        }
    }
    if by_root {
        println!("  the root is version {} now", done.root);
    }
    for key in &done.keys {
        println!("  {}", key.display());
    }
    let is_offline = |role: &&str| !ONLINE.contains(role);
    if !quiet && !args.renew && roles.iter().any(is_offline) {
        eprintln!("next: take keys that the server does not need off this machine (keys/README)");
    }
    Ok(())
}

/// The keys that can sign a root: those in `keys/`, and those that were named.
fn root_keys(
    site: &Site,
    args: &RotateArgs,
    known: &[RootKey],
) -> Result<Vec<SigningKey>, Failure> {
    let view = catalogue::view(&site.store).ok();
    let named = |key: &RootKey| match (&view, &key.public) {
        (Some(view), Some(public)) => view.root().keys.values().any(|it| it == public),
        _ => true,
    };
    let here = known.iter().filter(|it| named(it)).map(|it| &it.path);
    let here = here.filter(|it| it.exists());
    let mut found = Vec::new();
    for path in here.chain(&args.keys) {
        match args.passphrases.open(path)? {
            Some(key) => found.push(key),
            None => eprintln!(
                "towline: {} is encrypted, and signs nothing without its passphrase (--passphrase-file FILE)",
                path.display()
            ),
        }
    }
    Ok(found)
}

/// The keys to replace, by name or fingerprint.
fn replaced(site: &Site, known: &[RootKey], named: &[String]) -> Result<Vec<KeyId>, Failure> {
    let view = catalogue::view(&site.store).map_err(catalogue_failure);
    let mut ids = Vec::new();
    for name in named {
        let by_name = known.iter().find(|it| it.name == *name);
        let by_name = by_name.and_then(|it| Some(it.public.as_ref()?.id()));
        let by_print = || {
            let root = view.as_ref().ok()?.root();
            let role = root.roles.get("root")?;
            let same = |id: &&KeyId| id.fingerprint() == *name || id.as_str() == name;
            role.keyids.iter().find(same).cloned()
        };
        let id = by_name.or_else(by_print).ok_or_else(|| {
            Failure::new(Exit::Usage, anyhow!("the root has no key {name}"))
                .next("towline key show names them")
        })?;
        ids.push(id);
    }
    Ok(ids)
}

/// Makes a root key, and shows its passphrase, this once.
fn new_root_key(path: &Path, plain: bool) -> Result<SigningKey, KeyError> {
    if plain {
        return keys::create_root(path, None);
    }
    let passphrase = Passphrase::generate()?;
    let key = keys::create_root(path, Some(&passphrase))?;
    println!("{}: passphrase {}", path.display(), passphrase.text());
    Ok(key)
}
