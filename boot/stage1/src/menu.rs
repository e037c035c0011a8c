//! What the person at the machine can do after a failure; what happens when nobody is there.

use std::time::Duration;

use towline_contract::{base_url, stamp};

use crate::command_line;
use crate::console::{Answer, Console};
use crate::shell;

/// First and longest wait before a machine tries again by itself.
const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(480);

/// Longest wait for an answer of somebody who has begun to answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(600);

/// What the menu offers beyond trying again and restarting.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offer {
    /// Network settings and a server, for a medium that can be used but for these.
    pub(crate) network: bool,
    /// A shell, because the stamp allows one.
    pub(crate) shell: bool,
    /// To go on with metadata that is past its date.
    pub(crate) accept_expired: bool,
    /// To start in place instead of by kexec.
    pub(crate) in_place: bool,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Retry,
    Network {
        network: stamp::Network,
        servers: Vec<String>,
    },
    Shell {
        console: String,
    },
    AcceptExpired,
    InPlace,
    Reboot,
}

/// How long an unattended machine waits after its `failures`th failure in a row.
pub(crate) fn wait(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(8));
    WAIT.saturating_mul(doubled).min(WAIT_MAX)
}

/// Asks what to do; tries again by itself after `patience` unless somebody begins to answer.
pub(crate) async fn ask(console: &Console, offer: Offer, patience: Duration) -> Choice {
    let seconds = patience.as_secs();
    console.plain(format_args!(
        "What next? It tries again by itself in {seconds} s."
    ));
    let mut patience = patience;
    loop {
        let Some(answer) = console.ask(&prompt(offer), Some(patience)).await else {
            return Choice::Retry;
        };
        patience = ANSWER_WAIT;
        match chosen(&answer, offer) {
            Some(Choice::Network { .. }) => {
                if let Some(choice) = ask_network(console).await {
                    return choice;
                }
            }
            Some(choice) => return choice,
            None => console.plain(format_args!("{:?} is none of them.", answer.text)),
        }
    }
}

fn prompt(offer: Offer) -> String {
    let mut words = vec!["r = try again"];
    if offer.network {
        words.push("n = network settings");
    }
    if offer.accept_expired {
        words.push("accept = go on although it has expired");
    }
    if offer.in_place {
        words.push("p = start in place, without kexec");
    }
    if offers_shell(offer) {
        words.push("s = shell");
    }
    words.push("b = reboot");
    format!("Type a letter and Enter: {}", words.join(", "))
}

fn offers_shell(offer: Offer) -> bool {
    offer.shell && shell::available().is_some()
}

fn chosen(answer: &Answer, offer: Offer) -> Option<Choice> {
    match answer.text.as_str() {
        "r" => Some(Choice::Retry),
        "n" if offer.network => Some(Choice::Network {
            network: stamp::Network::default(),
            servers: vec![],
        }),
        "accept" if offer.accept_expired => Some(Choice::AcceptExpired),
        "p" if offer.in_place => Some(Choice::InPlace),
        "s" if offers_shell(offer) => Some(Choice::Shell {
            console: answer.console.clone(),
        }),
        "b" => Some(Choice::Reboot),
        _ => None,
    }
}

/// Asks for an address and a server; `None` when what was typed cannot be used.
async fn ask_network(console: &Console) -> Option<Choice> {
    let question = "Address: dhcp, or ADDRESS/LENGTH,gw=GATEWAY,dns=SERVER,if=INTERFACE (the last three may be left out)";
    let network = match command_line::network(&console.ask(question, Some(ANSWER_WAIT)).await?.text)
    {
        Ok(network) => network,
        Err(why) => {
            console.plain(format_args!("That cannot be used: {why}."));
            return None;
        }
    };
    let question = "Server: https://NAME:PORT, or nothing to keep the one there is";
    let server = console.ask(question, Some(ANSWER_WAIT)).await?.text;
    if server.is_empty() {
        let servers = vec![];
        return Some(Choice::Network { network, servers });
    }
    if let Err(why) = base_url::parse(&server) {
        console.plain(format_args!("That cannot be used: {why}."));
        return None;
    }
    let servers = vec![server];
    Some(Choice::Network { network, servers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Answer {
        Answer {
            text: text.into(),
            console: "ttyS0".into(),
        }
    }

    #[test]
    fn what_is_not_offered_cannot_be_chosen() {
        let none = Offer::default();
        for text in ["n", "s", "accept", "p", "", "x"] {
            assert_eq!(chosen(&typed(text), none), None, "{text}");
        }
        let prompt = prompt(none);
        assert!(
            !prompt.contains("shell") && !prompt.contains("expired") && !prompt.contains("kexec")
        );
        assert!(
            !prompt.contains("network"),
            "a medium without keys offers it: {prompt}"
        );
    }

    #[test]
    fn expired_metadata_takes_a_whole_word_to_accept() {
        let offer = Offer {
            accept_expired: true,
            ..Offer::default()
        };
        assert_eq!(chosen(&typed("a"), offer), None);
        assert_eq!(chosen(&typed("accept"), offer), Some(Choice::AcceptExpired));
    }

    #[test]
    fn a_machine_alone_waits_longer_each_time_and_never_gives_up() {
        let waits: Vec<_> = (1..8).map(|failures| wait(failures).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 480, 480]);
        assert_eq!(wait(u32::MAX), WAIT_MAX);
    }
}
