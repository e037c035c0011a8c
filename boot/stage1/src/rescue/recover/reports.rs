//! Tells the servers how the recovery goes. A recovery never waits long for them, and never fails by them.
//!
//! What nobody hears is kept, in memory, and told in its order as soon as a server is back, so the report of a recovery is
//! whole. The runner and the restore helper share the file; they tell in turns, never at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use towline_contract::event::{Event, Part, What};
use towline_contract::handover::HandOverNote;

use super::state::DIRECTORY;
use crate::clock;
use crate::console::uptime;
use crate::fetch::{Client, FetchError, Server, TlsTime};
use crate::report::Reporter;

/// Tries of an event that the recovery's report needs, and the pause between them: as long as a server takes to restart.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(5);

/// File of what nobody has heard, in the recovery's own folder: a line of JSON each.
const UNHEARD: &str = "unheard";

/// Most events that are kept; the oldest are forgotten first. A recovery that fails five times has about thirty.
const UNHEARD_MAX: usize = 100;

/// The servers of a recovery.
#[derive(Clone)]
pub(super) struct Reports {
    recovery: String,
    servers: Vec<Reporter>,
    unheard: PathBuf,
    /// Held by whoever tells: each event once, and in the order of their numbers.
    turn: Arc<Mutex<()>>,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Heard {
    Yes,
    /// Every server understood it and does not want it, now or later; what the last of them said.
    Refused(FetchError),
    Nobody,
}

impl Reports {
    /// The servers of the note; reports are signed by `token`. Nobody, if the note has none that can be used.
    pub(super) fn new(note: &HandOverNote, token: &str) -> Self {
        Self::to(&note.servers, &note.ca, &note.recovery, token)
    }

    /// The same from its parts.
    pub(super) fn to(servers: &[String], ca: &[String], recovery: &str, token: &str) -> Self {
        let time = TlsTime::Proven {
            time: clock::now(),
            since: Instant::now(),
        };
        let client = Client::new(ca, time).ok();
        let reporter = |server| {
            let reporter = Reporter::new(client.clone()?, server, recovery);
            Some(reporter.with_token(token))
        };
        let servers = servers.iter().filter_map(|it| Server::parse(it).ok());
        Self {
            recovery: recovery.to_owned(),
            servers: servers.filter_map(reporter).collect(),
            unheard: Path::new(DIRECTORY).join(UNHEARD),
            turn: Arc::default(),
        }
    }

    /// What happens now. Once made it is sent as it is, however often: a server that has heard it says so, and keeps it once.
    fn event(&self, what: What) -> Event {
        Event::new(&self.recovery, Part::Rescue, uptime(), what)
    }

    /// Tells one of the servers, more than once if need be, after all that nobody has heard before.
    pub(super) async fn tell(&self, what: What) -> bool {
        let _turn = self.turn.lock().await;
        let mut waiting = read(&self.unheard);
        waiting.push(self.event(what));
        let tries = if self.servers.is_empty() { 0 } else { TRIES };
        let mut last = Heard::Nobody;
        for attempt in 0..tries {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            last = self.send_all(&mut waiting).await;
            if waiting.is_empty() {
                break;
            }
        }
        write(&self.unheard, &waiting);
        matches!(last, Heard::Yes)
    }

    /// Tells one of the servers while the work goes on. It is told again soon: nothing is kept.
    pub(super) fn tell_meanwhile(&self, what: What) {
        let reports = self.clone();
        tokio::spawn(async move {
            // Whoever has the turn knows better.
            let Ok(_turn) = reports.turn.try_lock() else {
                return;
            };
            let mut waiting = read(&reports.unheard);
            if !waiting.is_empty() {
                reports.send_all(&mut waiting).await;
                write(&reports.unheard, &waiting);
            }
            if waiting.is_empty() {
                reports.send(&reports.event(what)).await;
            }
        });
    }

    /// Sends them in order until nobody hears; takes out those that were answered. What became of the last that was sent.
    async fn send_all(&self, waiting: &mut Vec<Event>) -> Heard {
        let (mut answered, mut last) = (0, Heard::Nobody);
        for event in &*waiting {
            last = self.send(event).await;
            if matches!(last, Heard::Nobody) {
                break;
            }
            answered += 1;
        }
        waiting.drain(..answered);
        last
    }

    /// Tells one of the servers, once. One that was not reached might have taken what another refuses.
    pub(super) async fn send(&self, event: &Event) -> Heard {
        let (mut refusal, mut is_final) = (None, true);
        for server in &self.servers {
            match server.send_event(event).await {
                Ok(()) => return Heard::Yes,
                Err(error) if error.is_refusal() => refusal = Some(error),
                Err(_) => is_final = false,
            }
        }
        match refusal.filter(|_| is_final) {
            Some(error) => Heard::Refused(error),
            None => Heard::Nobody,
        }
    }
}

/// What nobody has heard; nothing, if the file cannot be read.
fn read(path: &Path) -> Vec<Event> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let events = text.lines().map(serde_json::from_str);
    events.filter_map(Result::ok).collect()
}

/// Keeps it. Without the file a part of the report is lost, and nothing else.
fn write(path: &Path, waiting: &[Event]) {
    let kept = &waiting[waiting.len().saturating_sub(UNHEARD_MAX)..];
    let written = lines(kept).and_then(|text| match text.is_empty() {
        true => fs::remove_file(path),
        false => fs::write(path, text),
    });
    let _ = written;
}

fn lines(events: &[Event]) -> io::Result<String> {
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event)?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rescue::answering::{Answering, BARE};

    fn nobody(folder: &Path) -> Reports {
        Reports {
            recovery: "r-1".into(),
            servers: Vec::new(),
            unheard: folder.join(UNHEARD),
            turn: Arc::default(),
        }
    }

    fn recreated(seconds: u64) -> What {
        What::LayoutRecreated { seconds }
    }

    #[tokio::test]
    async fn what_nobody_hears_is_kept_in_order_for_whoever_tells_next() {
        let dir = tempfile::tempdir().unwrap();
        for seconds in [1, 2] {
            assert!(!nobody(dir.path()).tell(recreated(seconds)).await);
        }
        let message = "two\nlines".to_owned();
        let failed = What::Failed { message };
        nobody(dir.path()).tell(failed.clone()).await;
        let kept = read(&dir.path().join(UNHEARD));
        assert!(kept.is_sorted_by(|one, next| one.number < next.number));
        let kept: Vec<_> = kept.into_iter().map(|it| it.what).collect();
        assert_eq!(kept, [recreated(1), recreated(2), failed]);
    }

    #[tokio::test]
    async fn a_refusal_is_final_only_in_a_servers_own_words_and_when_no_other_server_was_unreached()
    {
        let answers: [(&[&[u16]], _); 9] = [
            (&[&[409]], "refused"),
            (&[&[409], &[403]], "refused"),
            (&[&[409], &[503]], "nobody"),
            (&[&[503], &[409]], "nobody"),
            (&[&[409], &[204]], "yes"),
            (&[&[404]], "nobody"),
            (&[&[302]], "nobody"),
            (&[&[BARE + 403]], "nobody"),
            (&[&[409], &[BARE + 404]], "nobody"),
        ];
        for (answers, expected) in answers {
            let servers: Vec<_> = answers.iter().map(|it| Answering::start(it)).collect();
            let urls: Vec<_> = servers.iter().map(|it| it.url.clone()).collect();
            let reports = Reports::to(&urls, &[], "r-1", &"05".repeat(32));
            let heard = match reports.send(&reports.event(recreated(1))).await {
                Heard::Yes => "yes",
                Heard::Refused(_) => "refused",
                Heard::Nobody => "nobody",
            };
            assert_eq!(heard, expected, "{answers:?}");
        }
        let none = Reports::to(&[], &[], "r-1", &"05".repeat(32));
        let event = none.event(recreated(1));
        assert!(matches!(none.send(&event).await, Heard::Nobody));
    }

    #[test]
    fn the_oldest_are_forgotten_when_nobody_ever_hears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(UNHEARD);
        let event = |seconds| nobody(dir.path()).event(recreated(seconds));
        let events: Vec<_> = (0..=UNHEARD_MAX as u64).map(event).collect();
        write(&path, &events);
        assert_eq!(read(&path), events[1..]);
        write(&path, &[]);
        assert!(!path.exists());
    }
}
