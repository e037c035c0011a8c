//! `towline key new`: a key that is made where it stays; only its public half goes to the site.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use towline_server::keys::{self, Passphrase};
use zeroize::Zeroizing;

use super::unlock;
use crate::exit::{Exit, Failure, Outcome};

/// What `key new` is told.
#[derive(Args)]
pub(super) struct NewArgs {
    /// The new file, NAME.key; its public half is NAME.pub beside it
    file: PathBuf,
    /// File with the passphrase in its first line [default: made, and shown
    /// once]
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    passphrase_file: Option<PathBuf>,
    /// Do not encrypt the key
    #[arg(long)]
    plain: bool,
}

pub(super) fn run(args: &NewArgs, quiet: bool) -> Outcome {
    let file = args.file.display();
    let refused = |error| Err(Failure::new(Exit::Usage, error));
    if args.file.extension().is_none_or(|it| it != "key") {
        return refused(anyhow!(
            "{file} is no name for a key: it should end in .key"
        ));
    }
    let public = keys::public_path(&args.file);
    for taken in [&args.file, &public] {
        if taken.exists() {
            let taken = taken.display();
            return refused(anyhow!(
                "{taken} exists, and no key is written over another"
            ));
        }
    }
    let passphrase = passphrase(args)?;
    let key = keys::create_offline(&args.file, passphrase.as_ref());
    let key = key.map_err(|error| Failure::new(Exit::Usage, error))?;
    if let (Some(made), None) = (&passphrase, &args.passphrase_file) {
        println!("{file}: passphrase {}", made.text());
    }
    let (public, fingerprint) = (public.display(), key.public().id().fingerprint());
    println!("{public}: the public half of key {fingerprint}");
    if !quiet {
        eprintln!(
            "next: take {public} to the site, and there: towline key rotate ROLE --new-key {public}"
        );
    }
    Ok(())
}

fn passphrase(args: &NewArgs) -> Result<Option<Passphrase>, Failure> {
    if args.plain {
        return Ok(None);
    }
    let Some(file) = &args.passphrase_file else {
        let made = Passphrase::generate();
        return made
            .map(Some)
            .map_err(|error| Failure::new(Exit::Internal, error));
    };
    let text = unlock::read(file)?;
    match text.lines().next().filter(|it| !it.is_empty()) {
        Some(line) => Ok(Some(Passphrase::new(Zeroizing::new(line.to_owned())))),
        None => {
            let file = file.display();
            let error = anyhow!("{file} has no passphrase in its first line");
            Err(Failure::new(Exit::Usage, error))
        }
    }
}
