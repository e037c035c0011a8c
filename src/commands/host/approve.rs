//! `towline host approve | forget`: the operator's answer to an enrolment.

use std::io::{self, IsTerminal};

use anyhow::anyhow;
use clap::Args;
use towline_contract::Timestamp;
use towline_contract::api::EnrolmentState;
use towline_contract::trust::KeyId;
use towline_server::hosts::{self, Known};

use super::show::lines;
use crate::commands::site::{SiteArgs, host_failure};
use crate::exit::{Exit, Failure, Outcome};

/// Longest line that is read as a fingerprint, in bytes.
const LINE_BYTES_MAX: usize = 256;

/// Let a host sign its own sessions, once its fingerprint is compared
///
/// Needs keys/hosts.key. The server may run meanwhile.
#[derive(Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Name of the host
    host: String,
    /// The fingerprint as `towline host enrol` shows it on the host [default: asks on a terminal]
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
}

/// Forget a host that waits to be approved
#[derive(Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Name of the host
    host: String,
}

/// Revoke a host's key: it was stolen, or the host is gone
///
/// The host adds no session from then on. It can enrol again with a new key.
#[derive(Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Name of the host
    host: String,
    /// What becomes of the sessions it signed: they can be recovered, or are gone
    #[arg(long, value_enum, default_value_t = Sessions::Keep)]
    sessions: Sessions,
}

/// What becomes of the sessions.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Sessions {
    Keep,
    Drop,
}

/// Approves the host.
pub(crate) fn run(args: &ApproveArgs) -> Outcome {
    let site = args.site.open()?;
    let known = hosts::show(&site, &args.host).map_err(host_failure)?;
    let said = match &args.fingerprint {
        Some(text) => text.clone(),
        None => ask(&known)?,
    };
    compare(&known, &said)?;
    if known.state == EnrolmentState::Approved && known.revoked.is_none() {
        println!("unchanged {}", known.host);
        return Ok(());
    }
    let Some(record) = &known.record else {
        return Err(anyhow!("the enrolment of {} is gone", known.host).into());
    };
    // The key that was compared, whatever the file holds by now.
    let key = &record.enrolment.key;
    hosts::approve(&site, &known.host, key, Timestamp::now()).map_err(host_failure)?;
    println!("approved {}", known.host);
    Ok(())
}

/// Forgets the host.
pub(crate) fn forget(args: &ForgetArgs) -> Outcome {
    let site = args.site.open()?;
    let forgotten = hosts::forget(&site, &args.host).map_err(host_failure)?;
    println!("forgot {forgotten}");
    Ok(())
}

/// Revokes the host's key.
pub(crate) fn revoke(args: &RevokeArgs) -> Outcome {
    let site = args.site.open()?;
    let (host, now) = (args.host.as_str(), Timestamp::now());
    let sessions = match args.sessions {
        Sessions::Keep => hosts::Sessions::Keep,
        Sessions::Drop => hosts::Sessions::Drop,
    };
    hosts::revoke(&site, host, sessions, now).map_err(host_failure)?;
    match args.sessions {
        Sessions::Keep => println!("revoked the key of {host}; its sessions can be recovered"),
        Sessions::Drop => println!("revoked the key of {host}; its sessions are gone"),
    }
    Ok(())
}

/// Asks what the host shows. The one that is known here is not shown before: who sees it says yes to it.
fn ask(known: &Known) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let error = anyhow!("the fingerprint of {} must be compared", known.host);
        return Err(Failure::new(Exit::Usage, error).next(format!(
            "read it on the host itself (towline host enrol): towline host approve {} --fingerprint FINGERPRINT",
            known.host
        )));
    }
    for line in lines(known) {
        eprintln!("{line}");
    }
    eprint!("fingerprint, as towline host enrol shows it on that host: ");
    let mut line = String::new();
    let mut input = io::Read::take(io::stdin().lock(), LINE_BYTES_MAX as u64);
    io::BufRead::read_line(&mut input, &mut line).map_err(anyhow::Error::from)?;
    Ok(line)
}

fn compare(known: &Known, said: &str) -> Result<(), Failure> {
    if is_fingerprint(&known.key, said) {
        return Ok(());
    }
    let error = anyhow!(
        "the fingerprint of host {} is {} here, and {:?} was given",
        known.host,
        known.key.fingerprint(),
        said.trim()
    );
    Err(Failure::new(Exit::NotTrusted, error).next(format!(
        "another machine may have enrolled under this name; if so: towline host forget {}",
        known.host
    )))
}

/// Dashes, blanks and capitals do not matter; all the letters do.
fn is_fingerprint(key: &KeyId, said: &str) -> bool {
    let letters = |text: &str| -> String {
        let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
        kept.map(|c| c.to_ascii_lowercase()).collect()
    };
    letters(&key.fingerprint()) == letters(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use towline_contract::trust::SigningKey;

    #[test]
    fn a_fingerprint_is_compared_as_people_type_it_and_as_a_whole() {
        let key = SigningKey::generate([1; 32]).public().id();
        let print = key.fingerprint();
        for said in [
            &print,
            &print.to_uppercase(),
            &print.replace('-', " "),
            &format!("{print}\n"),
        ] {
            assert!(is_fingerprint(&key, said), "{said}");
        }
        for said in ["", &print[..18], &print[..4], "-"] {
            assert!(!is_fingerprint(&key, said), "{said}");
        }
    }
}
