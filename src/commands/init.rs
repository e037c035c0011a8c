//! `towline init`: a new site.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use towline_contract::Timestamp;
use towline_server::config::{
    Config, CredentialsConfig, DoctorConfig, DrillConfig, PlanConfig, SessionsConfig, ValidDays,
};
use towline_server::hosts::retention::Retention;
use towline_server::keys::Passphrase;
use towline_server::site::{NewSite, Site, SiteError};
use zeroize::Zeroizing;

use super::key::unlock;
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
    /// File with a passphrase for each root key, one a line; one line is for
    /// all [default: made and shown once]
    #[arg(long, value_name = "FILE", conflicts_with = "plain_root_keys")]
    passphrase_file: Option<PathBuf>,
    /// Do not encrypt the root keys
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
    let root_passphrases = passphrases(args)?;
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
            trial: None,
        },
        root_keys: args.root_keys,
        root_threshold: args.root_threshold,
        root_passphrases: root_passphrases.clone(),
        recipes: towline_initramfs::ready_recipes()
            .map(|(name, bytes)| (name.into(), bytes.into()))
            .collect(),
    };
    // Before there is a site whose keys nobody could open.
    let is_free = fs::read_dir(&args.dir).is_ok_and(|mut it| it.next().is_none());
    if args.passphrase_file.is_none() && (is_free || !args.dir.exists()) {
        for (number, passphrase) in (1..).zip(&root_passphrases) {
            println!("keys/root-{number}.key: passphrase {}", passphrase.text());
        }
    }
    Site::create(&args.dir, &new, Timestamp::now()).map_err(|error| match error {
        SiteError::Exists(_) => {
            Failure::new(Exit::Usage, error).next("choose another folder, or remove this one")
        }
        SiteError::Busy(_) => Failure::new(Exit::Usage, error).next("wait for it to end"),
        SiteError::Threshold { .. } => {
            Failure::new(Exit::Usage, error).next("ask for fewer with --root-threshold")
        }
        _ => Failure::new(Exit::Internal, error),
    })?;
    let dir = args.dir.display();
    println!("site made in {dir}");
    if quiet {
        return Ok(());
    }
    println!(
        "  the server's certificate will be for {}",
        server_names.join(", ")
    );
    println!(
        "  {} of {} root keys must sign: take keys/root-*.key off this machine (keys/README)",
        args.root_threshold, args.root_keys
    );
    if args.passphrase_file.is_none() && !args.plain_root_keys {
        println!(
            "  write down their passphrases above: they are shown this once, and kept nowhere"
        );
    }
    println!("next: cd {dir}, build layers from recipes/, towline publish LAYER…, towline serve");
    Ok(())
}

/// A passphrase for each root key.
fn passphrases(args: &InitArgs) -> Result<Vec<Passphrase>, Failure> {
    if args.plain_root_keys {
        return Ok(Vec::new());
    }
    let keys = usize::from(args.root_keys);
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
            let error = anyhow!("{file} has {found} passphrases for {keys} root keys");
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
