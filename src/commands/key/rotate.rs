//! `towline key rotate`: a new key for a role, or a new date for its documents.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use towline_contract::Timestamp;
use towline_contract::trust::{KeyId, PublicKey, SigningKey};
use towline_server::Site;
use towline_server::catalogue::{self, Change, Rotation, Size};
use towline_server::keys::{self, KeyError, OfflineKey, Passphrase, Signer};

use super::unlock::{Passphrases, SIGNER};
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
    /// Of root or targets: replace this key alone, by its name (root-1) or
    /// fingerprint (repeat for more) [default: all of them]
    #[arg(long, value_name = "KEY", conflicts_with = "renew")]
    replace: Vec<String>,
    /// Public half of the new key, which was made elsewhere by key new,
    /// ssh-keygen or openssl (repeat for more) [default: made here]
    #[arg(long = "new-key", value_name = "FILE.pub", conflicts_with = "renew")]
    new_keys: Vec<PathBuf>,
    /// Of root or targets: how many keys must sign from now on
    #[arg(long, value_name = "K", conflicts_with = "renew", value_parser = clap::value_parser!(u8).range(1..=16))]
    threshold: Option<u8>,
    /// Of root or targets: how many keys there are to be [default: as before, or
    /// as many as --new-key gives]
    #[arg(long, value_name = "N", requires = "threshold", conflicts_with = "new_keys", value_parser = clap::value_parser!(u8).range(1..=16))]
    count: Option<u8>,
    /// A root key that is not in keys/: its file, or its comment or SHA256:… in
    /// the running ssh-agent (repeat for more)
    #[arg(long = "key", value_name = SIGNER)]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    passphrases: Passphrases,
    /// Do not encrypt new keys of the root, nor those of targets with several
    #[arg(long)]
    plain_root_keys: bool,
}

/// Roles whose keys the root names.
const TOP: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// Roles whose keys the server needs, and takes up by itself.
const ONLINE: [&str; 4] = ["snapshot", "timestamp", "hosts", "plan"];

pub(super) fn run(site: &Site, args: &RotateArgs, quiet: bool) -> Outcome {
    let roles: Vec<_> = args.roles.iter().map(String::as_str).collect();
    if !matches!(roles.as_slice(), ["root"] | ["targets"]) && !args.replace.is_empty() {
        let roles = roles.join(", ");
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("--replace is for the keys of root or of targets alone, not for {roles}"),
        ));
    }
    let known = keys::offline_keys(&site.keys(), "root");
    let change = match args.renew {
        true => Change::Renew,
        false => Change::Rotate(replaced(site, roles[0], &args.replace)?),
    };
    let new_keys = args.new_keys.iter().map(|it| public(it));
    let new_keys = new_keys.collect::<Result<Vec<_>, _>>()?;
    let is_by_root = |role: &&str| *role == "root" || (TOP.contains(role) && !args.renew);
    let by_root = roles.iter().any(is_by_root);
    let root_keys = match by_root {
        true => root_keys(site, args, &known)?,
        false => Vec::new(),
    };
    let mut make_key = |path: &Path| make_key(path, args.plain_root_keys);
    let rotation = Rotation {
        roles: &roles,
        change,
        new_keys: new_keys.clone(),
        size: args.threshold.map(|threshold| Size {
            keys: args.count.map(usize::from),
            threshold: threshold.into(),
        }),
        root_keys,
        make_key: &mut make_key,
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
    for key in &new_keys {
        println!("  {} is elsewhere", key.id().fingerprint());
    }
    let is_offline = |role: &&str| !ONLINE.contains(role);
    if !quiet && !done.keys.is_empty() && roles.iter().any(is_offline) {
        eprintln!("next: take keys that the server does not need off this machine (keys/README)");
    }
    Ok(())
}

/// The keys that can sign a root: those in `keys/`, and those that were named.
fn root_keys(site: &Site, args: &RotateArgs, known: &[OfflineKey]) -> Result<Vec<Signer>, Failure> {
    let view = catalogue::view(&site.store).ok();
    let named = |key: &OfflineKey| match (&view, &key.public) {
        (Some(view), Some(public)) => view.root().keys.values().any(|it| it == public),
        _ => true,
    };
    let here = known.iter().filter(|it| named(it)).map(|it| &it.path);
    let here = here.filter(|it| it.exists());
    let mut found = Vec::new();
    for path in here.chain(&args.keys) {
        match args.passphrases.signer(path)? {
            Some(key) => found.push(key),
            None => eprintln!(
                "towline: {} is encrypted, and signs nothing without its passphrase (--passphrase-file FILE)",
                path.display()
            ),
        }
    }
    Ok(found)
}

/// As many letters of a fingerprint name a key as messages about documents show.
const FINGERPRINT_LETTERS_MIN: usize = 12;

/// The keys of the role to replace, by name or fingerprint.
fn replaced(site: &Site, role: &str, named: &[String]) -> Result<Vec<KeyId>, Failure> {
    let view = catalogue::view(&site.store).map_err(catalogue_failure);
    let known = keys::offline_keys(&site.keys(), role);
    let mut ids = Vec::new();
    for name in named {
        let by_name = known.iter().find(|it| it.name == *name);
        let by_name = by_name.and_then(|it| Some(it.public.as_ref()?.id()));
        let by_print = || {
            let root = view.as_ref().ok()?.root();
            let role = root.roles.get(role)?;
            let letters = name.replace('-', "");
            let is_long_enough = letters.len() >= FINGERPRINT_LETTERS_MIN;
            let begins = |print: &str| print.replace('-', "").starts_with(&letters);
            let same =
                |id: &&KeyId| id.as_str() == name || (is_long_enough && begins(&id.fingerprint()));
            role.keyids.iter().find(same).cloned()
        };
        let id = by_name.or_else(by_print).ok_or_else(|| {
            Failure::new(Exit::Usage, anyhow!("there is no key {name} of {role}"))
                .next("towline key show names them")
        })?;
        ids.push(id);
    }
    Ok(ids)
}

/// The public half in a file.
pub(crate) fn public(path: &Path) -> Result<PublicKey, Failure> {
    keys::read_public(path).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .next("name the file that key new, ssh-keygen or openssl pkey -pubout wrote")
    })
}

/// Makes a key that belongs elsewhere, and shows its passphrase, this once.
fn make_key(path: &Path, plain: bool) -> Result<SigningKey, KeyError> {
    if plain {
        return keys::create_offline(path, None);
    }
    let passphrase = Passphrase::generate()?;
    let key = keys::create_offline(path, Some(&passphrase))?;
    println!("{}: passphrase {}", path.display(), passphrase.text());
    Ok(key)
}
