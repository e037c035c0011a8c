//! `towline host enrol`: makes this host's key and asks the site's server to know it.

use std::fs;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use towline_contract::api::{Enrolment, EnrolmentState};
use towline_contract::trust::{SigningKey, is_host_id};

use crate::capture::client::Client;
use crate::capture::error::{CaptureError, file};
use crate::capture::home::{Home, HostConfig, replace};
use crate::capture::identity;
use crate::commands::capture::failure;
use crate::exit::{Exit, Failure, Outcome};

/// Make this host's key and ask the site's server to know it
///
/// Run on the host that is to be protected. The key stays there. It can be run again: it then shows where the enrolment
/// stands.
#[derive(Args)]
pub(crate) struct EnrolArgs {
    /// The site's server, such as https://recovery.example:8443 [default: the one of the last time]
    url: Option<String>,
    /// Name of this host in the catalogue [default: its hostname]
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// The site's authority (ca/ca.pem of the site) [default: the system's authorities]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    home: Home,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Enrols, or shows where the enrolment stands.
pub(crate) fn run(args: &EnrolArgs) -> Outcome {
    let key = args.home.key_or_new().map_err(failure)?;
    let config = settings(args)?;
    let client = Client::new(&config).map_err(|error| failure(error.into()))?;
    let enrolment = Enrolment {
        host: config.id.clone(),
        hostname: hostname(),
        key: key.public(),
        machine: identity(),
    };
    let enrolled = client
        .enrol(&enrolment)
        .map_err(|error| failure(error.into()))?;
    args.home.write_config(&config).map_err(failure)?;
    print(args, &config, &key, enrolled.state);
    Ok(())
}

/// The settings as they will be; the authority's certificate is copied beside them.
fn settings(args: &EnrolArgs) -> Result<HostConfig, Failure> {
    let earlier = match args.home.read_config() {
        Ok(config) => Some(config),
        Err(CaptureError::NotEnrolled(_)) => None,
        Err(error) => return Err(failure(error)),
    };
    let server = args
        .url
        .clone()
        .or_else(|| earlier.as_ref().map(|it| it.server.clone()));
    let Some(server) = server else {
        let error = anyhow!("this host is not enrolled yet, so the server must be named");
        return Err(Failure::new(Exit::Usage, error).next("towline host enrol URL --ca ca.pem"));
    };
    let id = args
        .host
        .clone()
        .or_else(|| earlier.as_ref().map(|it| it.id.clone()));
    let id = id.unwrap_or_else(|| as_id(&hostname()));
    if !is_host_id(&id) {
        let error = anyhow!("{id:?} cannot name a host: it takes small letters, digits and - . +");
        return Err(Failure::new(Exit::Usage, error).next("choose one with --host ID"));
    }
    let ca = match &args.ca {
        Some(from) => Some(copy_authority(args, from).map_err(failure)?),
        // The authority of another server says nothing of this one.
        None => earlier
            .filter(|it| it.server == server)
            .and_then(|it| it.ca),
    };
    Ok(HostConfig { server, id, ca })
}

fn copy_authority(args: &EnrolArgs, from: &PathBuf) -> Result<PathBuf, CaptureError> {
    let bytes = fs::read(from).map_err(file("read", from))?;
    let path = args.home.config_dir().join("ca.pem");
    replace(&path, &bytes).map_err(file("write", &path))?;
    fs::canonicalize(&path).map_err(file("find", &path))
}

fn hostname() -> String {
    let text = fs::read_to_string("/etc/hostname").unwrap_or_default();
    match text.trim() {
        "" => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        name => name.to_owned(),
    }
}

/// A hostname as it can name a host.
fn as_id(hostname: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || c == '.' => c,
        _ => '-',
    };
    hostname.chars().map(letter).collect()
}

fn print(args: &EnrolArgs, config: &HostConfig, key: &SigningKey, state: EnrolmentState) {
    let print = key.public().id().fingerprint();
    if args.json {
        let result = json!({
            "host": config.id, "server": config.server, "fingerprint": print, "state": state,
        });
        println!("{result}");
        return;
    }
    println!("host         {}", config.id);
    println!("server       {}", config.server);
    println!("fingerprint  {print}");
    match state {
        EnrolmentState::Approved => println!("state        approved"),
        EnrolmentState::Waiting => {
            println!("state        waiting for an operator");
            eprintln!(
                "towline: next: an operator of the site runs: towline host approve {} --fingerprint {print}",
                config.id
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_become_names_of_hosts() {
        assert_eq!(as_id("Web1.Example.com"), "web1.example.com");
        assert_eq!(as_id("a_b c"), "a-b-c");
        for id in ["", ".a", "a/b", "A", "a_b"] {
            assert!(!is_host_id(id), "{id}");
        }
        assert!(is_host_id("web1.example.com"));
    }
}
