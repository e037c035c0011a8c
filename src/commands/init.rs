//! `towline init`: a new site.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use towline_contract::Timestamp;
use towline_server::catalogue::CatalogueError;
use towline_server::config::{
    Config, CredentialsConfig, DoctorConfig, DrillConfig, PlanConfig, SessionsConfig, TrackConfig,
    ValidDays,
};
use towline_server::hosts::retention::Retention;
use towline_server::keys::Passphrase;
use towline_server::site::{NewKeys, NewSite, Site, SiteError};
use zeroize::Zeroizing;

use super::key::rotate::public;
use super::key::unlock;
use super::site::catalogue_failure;
use crate::exit::{Exit, Failure, Outcome};

/// Make a site: keys, certificate authority, configuration, store
#[derive(Args)]
pub(crate) struct InitArgs {
    /// Folder of the site; it must be new or empty
    dir: PathBuf,
    /// Name of the site [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// Host name or IP address that machines reach the server by (repeat for
    /// more) [default: this machine's name]
    #[arg(long = "server-name", value_name = "NAME")]
    server_names: Vec<String>,
    /// Address to serve HTTPS on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Number of root keys
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    root_keys: u8,
    /// How many root keys must sign
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    root_threshold: u8,
    /// Public half of a root key that was made elsewhere, by key new,
    /// ssh-keygen or openssl (repeat for each) [default: made here]
    #[arg(
        long = "root-key",
        value_name = "FILE.pub",
        conflicts_with = "root_keys"
    )]
    root_elsewhere: Vec<PathBuf>,
    /// Number of targets keys; several are offline keys, like those of the root
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    targets_keys: u8,
    /// How many targets keys must sign
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    targets_threshold: u8,
    /// Public half of a targets key that was made elsewhere (repeat for each)
    #[arg(
        long = "targets-key",
        value_name = "FILE.pub",
        conflicts_with = "targets_keys"
    )]
    targets_elsewhere: Vec<PathBuf>,
    /// Public half of the base key, if it was made elsewhere
    #[arg(long, value_name = "FILE.pub")]
    base_key: Option<PathBuf>,
    /// File with a passphrase for each root key, and for each of several targets
    /// keys, one a line; one line is for all [default: made and shown once]
    #[arg(long, value_name = "FILE", conflicts_with = "plain_root_keys")]
    passphrase_file: Option<PathBuf>,
    /// Do not encrypt the keys of the root, nor those of targets with several
    #[arg(long)]
    plain_root_keys: bool,
}

/// Makes the site; `quiet` leaves out what to do next.
pub(crate) fn run(args: &InitArgs, quiet: bool) -> Outcome {
    let server_names = match args.server_names.as_slice() {
        [] => vec![host_name()?],
        names => names.to_vec(),
    };
    if let Some(bad) = server_names.iter().find(|name| !is_server_name(name)) {
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("{bad:?} is no host name or IP address"),
        )
        .next("give the name alone, without https:// and port"));
    }
    let [root, targets] = offline_keys(args)?;
    let named = args
        .dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let new = NewSite {
        name: args
            .name
            .clone()
            .or(named)
            .unwrap_or_else(|| "towline".into()),
        config: Config {
            listen: args.listen,
            http_listen: None,
            server_names: server_names.clone(),
            store: "store".into(),
            mirrors: Vec::new(),
            plan: PlanConfig::default(),
            valid_days: ValidDays::default(),
            sessions: SessionsConfig::default(),
            retention: Retention::default(),
            credentials: CredentialsConfig::default(),
            doctor: DoctorConfig::default(),
            drill: DrillConfig::default(),
            track: TrackConfig::default(),
            trial: None,
        },
        base_key: args.base_key.as_deref().map(public).transpose()?,
        root,
        targets,
        recipes: towline_initramfs::ready_recipes()
            .map(|(name, bytes)| (name.into(), bytes.into()))
            .collect(),
    };
    // Before there is a site whose keys nobody could open.
    let is_free = fs::read_dir(&args.dir).is_ok_and(|mut it| it.next().is_none());
    let shows = args.passphrase_file.is_none() && (is_free || !args.dir.exists());
    let encrypted = [("root", &new.root), ("targets", &new.targets)].map(|(role, keys)| {
        let all = (1..).zip(&keys.passphrases);
        all.map(move |(number, it)| (format!("keys/{role}-{number}.key"), it))
    });
    let encrypted: Vec<_> = encrypted.into_iter().flatten().collect();
    for (file, passphrase) in encrypted.iter().filter(|_| shows) {
        println!("{file}: passphrase {}", passphrase.text());
    }
    Site::create(&args.dir, &new, Timestamp::now()).map_err(failure)?;
    let dir = args.dir.display();
    println!("site made in {dir}");
    if quiet {
        return Ok(());
    }
    println!(
        "  the server's certificate will be for {}",
        server_names.join(", ")
    );
    for (role, keys) in [("root", &new.root), ("targets", &new.targets)] {
        let (threshold, all) = (keys.threshold, keys.count());
        let next = match (all, keys.elsewhere.as_slice()) {
            (_, [_, ..]) => "",
            (1, _) if role == "targets" => continue,
            _ => &format!(": take keys/{role}-*.key off this machine (keys/README)"),
        };
        println!("  {threshold} of {all} {role} keys must sign{next}");
    }
    if shows && !encrypted.is_empty() {
        println!(
            "  write down their passphrases above: they are shown this once, and kept nowhere"
        );
    }
    println!("next: cd {dir}, build layers from recipes/, towline publish LAYER…, towline serve");
    Ok(())
}

/// Why there is no site, or not the whole of it yet.
fn failure(error: SiteError) -> Failure {
    match error {
        SiteError::Exists(_) => {
            Failure::new(Exit::Usage, error).next("choose another folder, or remove this one")
        }
        SiteError::Busy(_) => Failure::new(Exit::Usage, error).next("wait for it to end"),
        SiteError::Threshold { role, .. } => {
            Failure::new(Exit::Usage, error).next(format!("ask for fewer with --{role}-threshold"))
        }
        SiteError::Twice { .. } => {
            Failure::new(Exit::Usage, error).next("give the public half of each key once")
        }
        SiteError::Catalogue(error @ CatalogueError::ToSign(_)) => {
            let what = "the site is made, and of no use before its first documents are signed";
            Failure::new(Exit::No, anyhow!(error).context(what)).next(
                "where the keys are: towline key sign FILE --key KEY; bring the files back, and run this command again",
            )
        }
        SiteError::Catalogue(error @ CatalogueError::Waits(_)) => catalogue_failure(error),
        _ => Failure::new(Exit::Internal, error),
    }
}

/// The keys of root and targets: public halves that were given, or as many as are to be made, with their passphrases.
fn offline_keys(args: &InitArgs) -> Result<[NewKeys; 2], Failure> {
    let keys = |here, threshold, elsewhere: &[PathBuf]| {
        let elsewhere = elsewhere.iter().map(|it| public(it));
        Ok::<_, Failure>(NewKeys {
            elsewhere: elsewhere.collect::<Result<_, _>>()?,
            ..NewKeys::plain(here, threshold)
        })
    };
    let mut root = keys(args.root_keys, args.root_threshold, &args.root_elsewhere)?;
    let mut targets = keys(
        args.targets_keys,
        args.targets_threshold,
        &args.targets_elsewhere,
    )?;
    let made = |keys: &NewKeys| match keys.elsewhere.is_empty() {
        true => keys.count(),
        false => 0,
    };
    // One key of the targets is in daily use.
    let several = Some(made(&targets)).filter(|it| *it > 1).unwrap_or(0);
    let mut all = passphrases(args, made(&root) + several)?;
    targets.passphrases = all.split_off(all.len().min(made(&root)));
    root.passphrases = all;
    Ok([root, targets])
}

/// A passphrase for each of so many keys.
fn passphrases(args: &InitArgs, keys: usize) -> Result<Vec<Passphrase>, Failure> {
    if args.plain_root_keys || keys == 0 {
        return Ok(Vec::new());
    }
    let Some(file) = &args.passphrase_file else {
        let new = (0..keys).map(|_| Passphrase::generate());
        return new
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(Exit::Internal, error));
    };
    let text = unlock::read(file)?;
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let lines = match lines.as_slice() {
        [one] => vec![*one; keys],
        _ if lines.len() == keys => lines,
        _ => {
            let (file, found) = (file.display(), lines.len());
            let error = anyhow!("{file} has {found} passphrases for {keys} offline keys");
            return Err(Failure::new(Exit::Usage, error).next("write one a line, or one for all"));
        }
    };
    let own = |line: &str| Passphrase::new(Zeroizing::new(line.to_owned()));
    Ok(lines.into_iter().map(own).collect())
}

/// This machine's name, for a site whose machines know the server by it.
fn host_name() -> Result<String, Failure> {
    let name = rustix::system::uname();
    match name.nodename().to_str() {
        Ok(name) if is_server_name(name) => Ok(name.to_owned()),
        _ => Err(
            Failure::new(Exit::Usage, anyhow!("this machine has no usable host name"))
                .next("say how machines reach the server: --server-name NAME"),
        ),
    }
}

/// An IP address, or a DNS name (RFC 1123: letters, digits, hyphens and dots).
fn is_server_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::is_server_name;

    #[test]
    fn a_url_is_no_server_name() {
        for good in ["backup.example.org", "10.0.2.2", "::1", "backup"] {
            assert!(is_server_name(good), "{good}");
        }
        for bad in [
            "https://backup.example.org",
            "backup.example.org:8443",
            "",
            "a..b",
            "-a",
        ] {
            assert!(!is_server_name(bad), "{bad}");
        }
    }
}
