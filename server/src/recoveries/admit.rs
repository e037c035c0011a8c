//! Whether a code is taken: a decision without I/O or clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use jiff::SignedDuration;
use subtle::ConstantTimeEq;
use towline_contract::api::Machine;
use towline_contract::{Digest, Timestamp};

use super::record::{Recovery, State};

/// Wrong codes that one address may send within [`TRIES_MINUTES`]. Enough for a tired person, of no use for guessing.
pub const TRIES_MAX: usize = 5;
/// How long a wrong code is remembered of an address.
pub const TRIES_MINUTES: i64 = 15;
/// Most addresses that are remembered; the one that was wrong the longest time ago is forgotten first. One takes 200 bytes.
const ADDRESSES_MAX: usize = 4096;

/// Why a code is not taken. The messages go to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No recovery has it.
    #[error("this is no code of an open recovery")]
    Unknown,
    /// The address must wait.
    #[error("too many wrong codes came from this address; it may try again at {0}")]
    Wait(Timestamp),
    /// Too many wrong codes were sent for the host.
    #[error("too many wrong codes were sent for {host}: its recovery is locked")]
    Locked {
        /// The host.
        host: String,
    },
    /// Past its deadline.
    #[error("the code was good until {deadline}, and it is {now}")]
    Expired {
        /// Until when it was good.
        deadline: Timestamp,
        /// The server's time.
        now: Timestamp,
    },
    /// Its recovery is over.
    #[error("the recovery of this code is closed")]
    Closed,
    /// The host is recovered already.
    #[error("{host} is recovered already: another code would be needed to recover it again")]
    Recovered {
        /// The host.
        host: String,
    },
    /// Another machine has it.
    #[error("the code was used on another machine at {first}, and it is for one")]
    OtherMachine {
        /// When it was first used.
        first: Timestamp,
    },
    /// The medium or its operator named another host.
    #[error("the code is for another host than {named}")]
    OtherHost {
        /// The host that the machine named.
        named: String,
    },
}

impl Refused {
    /// What the person at the machine can do.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Unknown => "look at what towline recovery open printed, and type it again",
            Self::Wait(_) => "wait, and make sure of the code (towline recovery list)",
            Self::Locked { .. } | Self::Expired { .. } | Self::Closed | Self::Recovered { .. } => {
                "open another recovery on the server: towline recovery open HOST"
            }
            Self::OtherMachine { .. } => {
                "open another recovery for this machine on the server: towline recovery open HOST"
            }
            Self::OtherHost { .. } => {
                "name the right host (towline.host= at the boot loader), or none on the medium"
            }
        }
    }
}

/// The recovery that this code opens to this machine, which named `host` or none.
///
/// # Errors
/// See [`Refused`].
pub fn admit<'a>(
    code: &Digest,
    host: Option<&str>,
    machine: &Machine,
    recoveries: &'a [Recovery],
    now: Timestamp,
) -> Result<&'a Recovery, Refused> {
    let Some(found) = by_code(code, recoveries) else {
        let open = |it: &&Recovery| Some(&*it.host) == host && !it.is_over();
        let mut open = recoveries.iter().filter(open).peekable();
        let locked = open.peek().is_some() && open.all(Recovery::is_locked);
        return Err(match host {
            Some(host) if locked => Refused::Locked { host: host.into() },
            _ => Refused::Unknown,
        });
    };
    if let Some(named) = host.filter(|host| *host != found.host) {
        return Err(Refused::OtherHost {
            named: named.into(),
        });
    }
    let host = found.host.clone();
    match (&found.state, &found.machine) {
        (State::Closed { .. }, _) => Err(Refused::Closed),
        _ if now >= found.deadline => Err(Refused::Expired {
            deadline: found.deadline,
            now,
        }),
        _ if found.is_locked() => Err(Refused::Locked { host }),
        (_, Some(used)) if !used.is(machine) => Err(Refused::OtherMachine { first: used.first }),
        (State::Recovered { .. }, _) => Err(Refused::Recovered { host }),
        _ => Ok(found),
    }
}

/// Every recovery is compared, each in the same time, so that the time tells nothing.
fn by_code<'a>(code: &Digest, recoveries: &'a [Recovery]) -> Option<&'a Recovery> {
    let mut found = None;
    for recovery in recoveries {
        if bool::from(recovery.code.as_bytes().ct_eq(code.as_bytes())) {
            found = Some(recovery);
        }
    }
    found
}

/// The wrong codes of the last minutes, by address. They are lost when the server ends; the count of each host is not.
#[derive(Debug, Default)]
pub struct Tries(BTreeMap<IpAddr, VecDeque<Timestamp>>);

impl Tries {
    /// Whether `address` may send a code.
    ///
    /// # Errors
    /// [`Refused::Wait`]: it must wait.
    pub fn may_try(&mut self, address: IpAddr, now: Timestamp) -> Result<(), Refused> {
        let age = SignedDuration::from_mins(TRIES_MINUTES);
        let until = |at: Timestamp| at.saturating_add(age).unwrap_or(Timestamp::MAX);
        self.0.retain(|_, times| {
            times.retain(|at| until(*at) > now);
            !times.is_empty()
        });
        match self.0.get(&network(address)) {
            Some(times) if times.len() >= TRIES_MAX => {
                let oldest = times.front().copied().unwrap_or(now);
                Err(Refused::Wait(until(oldest)))
            }
            _ => Ok(()),
        }
    }

    /// Remembers a wrong code.
    pub fn wrong(&mut self, address: IpAddr, now: Timestamp) {
        let address = network(address);
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&address) {
            let oldest = self.0.iter().min_by_key(|(_, times)| times.back());
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.0.remove(&oldest);
            }
        }
        let times = self.0.entry(address).or_default();
        times.push_back(now);
        if times.len() > TRIES_MAX {
            times.pop_front();
        }
    }
}

/// Who has one IPv6 address has its /64 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits() & !u128::from(u64::MAX)).into(),
        it => it,
    }
}

#[cfg(test)]
mod tests;
