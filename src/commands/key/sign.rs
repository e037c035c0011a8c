//! `towline key sign`: a signature on a small file, where the key is; says what is signed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use towline_contract::lanes::{LayerPolicy, POLICY_TARGET};
use towline_contract::limits::METADATA_BYTES_MAX;
use towline_contract::trust::metadata::{Delegations, Root, Targets};
use towline_contract::trust::{Envelope, KeyId, PublicKey};

use super::unlock::{Passphrases, SIGNER, agent_failure};
use crate::exit::{Exit, Failure, Outcome};
use crate::one_line;

/// What `key sign` is told.
#[derive(Args)]
pub(super) struct SignArgs {
    /// The document, as it was left in to-sign/
    file: PathBuf,
    /// The key to sign with, by its file, or by its comment or SHA256:… in the
    /// running ssh-agent (repeat for more)
    #[arg(long = "key", value_name = SIGNER, required = true)]
    keys: Vec<PathBuf>,
    /// The signed document before it, from where it was kept safe: shows what
    /// differs, not all of it
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Sign without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    passphrases: Passphrases,
}

/// Signs the file in place, once it was shown what it says.
pub(super) fn run(args: &SignArgs) -> Outcome {
    let mut envelope = read(&args.file)?;
    for line in shown(args, &envelope)? {
        eprintln!("{}", one_line(&line));
    }
    if !args.yes {
        ask()?;
    }
    for path in &args.keys {
        let Some(key) = args.passphrases.signer(path)? else {
            let path = path.display();
            return Err(
                Failure::new(Exit::Usage, anyhow!("the key {path} is encrypted"))
                    .next("give its passphrase in a file: --passphrase-file FILE"),
            );
        };
        key.sign(&mut envelope).map_err(agent_failure)?;
        let fingerprint = key.public().id().fingerprint();
        println!("signed {} with key {fingerprint}", args.file.display());
    }
    replace(&args.file, &envelope.to_bytes())
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    Ok(())
}

fn read(path: &Path) -> Result<Envelope, Failure> {
    let what = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(METADATA_BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {what}"))
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    Envelope::parse(&bytes, &what, METADATA_BYTES_MAX)
        .map_err(|error| Failure::new(Exit::Usage, error))
}

/// What the document says; or what of it is new, and what is gone.
fn shown(args: &SignArgs, envelope: &Envelope) -> Result<Vec<String>, Failure> {
    let of = |path: &Path, envelope: &Envelope| {
        about(envelope).map_err(|why| {
            let file = path.display();
            Failure::new(Exit::Usage, anyhow!("{file} is nothing to sign: {why}"))
                .next("name a file that was left in to-sign/ of a site")
        })
    };
    let now = of(&args.file, envelope)?;
    let Some(path) = &args.before else {
        return Ok(now);
    };
    let earlier = read(path)?;
    let before = of(path, &earlier)?;
    let kind = |it: &Envelope| it.signed.get("_type").cloned();
    if kind(&earlier) != kind(envelope) {
        let (file, before) = (args.file.display(), path.display());
        let error = anyhow!("{before} is no earlier version of {file}: one is a root, one is not");
        return Err(Failure::new(Exit::Usage, error)
            .next("name the signed document of the version before, or leave --before away"));
    }
    let gone = before.iter().filter(|it| !now.contains(it));
    let new = now.iter().filter(|it| !before.contains(it));
    let gone = gone.map(|it| format!("- {it}"));
    let differs: Vec<_> = gone.chain(new.map(|it| format!("+ {it}"))).collect();
    if differs.is_empty() {
        let (file, before) = (args.file.display(), path.display());
        let error = anyhow!("{file} says what {before} says: the one before it is another file");
        return Err(Failure::new(Exit::Usage, error)
            .next("name the signed document of the version before, or leave --before away"));
    }
    Ok(differs)
}

fn ask() -> Outcome {
    let refused = |why: &str| Failure::new(Exit::Usage, anyhow!("not signed: {why}"));
    if !io::stdin().is_terminal() {
        return Err(refused("nobody can be asked").next("to sign without a question: --yes"));
    }
    eprint!("Sign this? Machines will boot what it says. Type yes: ");
    let mut line = String::new();
    let mut input = io::stdin().lock().take(16);
    input.read_line(&mut line).context("cannot ask")?;
    match line.trim() {
        "yes" => Ok(()),
        _ => Err(refused("the answer was not yes")),
    }
}

/// What the document would have machines believe, a fact a line: everything of it that decides anything.
fn about(envelope: &Envelope) -> Result<Vec<String>, String> {
    let signed = &envelope.signed;
    let kind = signed.get("_type").and_then(|it| it.as_str());
    let bad = |error: serde_json::Error| error.to_string();
    match kind {
        Some("root") => {
            let root: Root = serde_json::from_value(signed.clone()).map_err(bad)?;
            let mut lines = vec![format!(
                "this is version {} of the root, good until {}",
                root.header.version, root.header.expires
            )];
            for (name, role) in &root.roles {
                let keys = role.keyids.iter().map(|id| fingerprint(&root.keys, id));
                let keys: Vec<_> = keys.collect();
                let threshold = role.threshold;
                lines.push(format!("{name}: {threshold} of {}", keys.join(", ")));
            }
            Ok(lines)
        }
        Some("targets") => {
            let targets: Targets = serde_json::from_value(signed.clone()).map_err(bad)?;
            let policy = targets.targets.get(POLICY_TARGET);
            let layers = targets.targets.len() - usize::from(policy.is_some());
            let mut lines = vec![format!(
                "these are {layers} layers in version {}, good until {}",
                targets.header.version, targets.header.expires
            )];
            if let Some(policy) = policy {
                let policy = policy.layer_policy().map_err(|it| it.to_string())?;
                lines.extend(policy_in_words(&policy));
            }
            let layers = targets.targets.iter();
            let layers = layers.filter(|(name, _)| *name != POLICY_TARGET);
            lines.extend(layers.map(|(name, file)| {
                let digest = file.sha256().map_or("none".into(), |it| it.to_string());
                let manifest = file.layer().map(|it| it.manifest.sha256.to_string());
                let manifest = manifest.unwrap_or_else(|| "none".into());
                format!("layer {name}: SHA-256 {digest}, manifest {manifest}")
            }));
            let delegations = targets.delegations.unwrap_or_default();
            lines.extend(delegated(&delegations));
            Ok(lines)
        }
        other => Err(format!("its type is {other:?}")),
    }
}

fn policy_in_words(policy: &LayerPolicy) -> impl Iterator<Item = String> {
    let kinds = policy.kinds.iter().flat_map(|(kind, bounds)| {
        [
            ("nowhere but in", &bounds.within),
            ("never in", &bounds.never),
        ]
        .map(|(word, paths)| {
            (!paths.is_empty())
                .then(|| format!("policy: {kind} layers {word} {}", paths.join(", ")))
        })
    });
    kinds.flatten()
}

fn delegated(delegations: &Delegations) -> impl Iterator<Item = String> + '_ {
    delegations.roles.iter().map(|it| {
        let keys = it.role.keyids.iter();
        let keys: Vec<_> = keys.map(|id| fingerprint(&delegations.keys, id)).collect();
        let ends = if it.terminating {
            ""
        } else {
            ", and others after it"
        };
        let (paths, prefixes) = (&it.paths, &it.path_hash_prefixes);
        let lane = match (paths, prefixes) {
            (Some(paths), None) => paths.join(", "),
            (paths, prefixes) => format!("{paths:?} {prefixes:?}"),
        };
        let (name, threshold, keys) = (&it.name, it.role.threshold, keys.join(", "));
        format!("{name}: {threshold} of {keys}, for {lane}{ends}")
    })
}

/// Of the key itself, whatever the document calls it.
fn fingerprint(keys: &BTreeMap<KeyId, PublicKey>, id: &KeyId) -> String {
    match keys.get(id) {
        Some(key) => key.id().fingerprint(),
        None => format!("{} (no key)", id.fingerprint()),
    }
}

/// The file whole, or as it was.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    let before = fs::metadata(path)?;
    file.as_file().set_permissions(before.permissions())?;
    fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
