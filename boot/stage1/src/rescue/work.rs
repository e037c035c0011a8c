//! The worker: from an empty rescue system to one that a person or a recovery can use.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use towline_contract::event::{CheckResult, Event, Part, What};
use towline_contract::handover::HandOverNote;
use towline_contract::recovery::Order;
use towline_contract::stamp;

use super::{Never, checks, recover, services};
use crate::command_line::CommandLine;
use crate::console::{Answer, Console, uptime};
use crate::failure::joined;
use crate::fetch::{Client, FetchError, Server, TlsTime};
use crate::modules::Loader;
use crate::network::{self, Network};
use crate::progress::Progress as _;
use crate::report::Reporter;
use crate::{clock, handover, machine, power, shell};

/// Where the log goes.
pub(super) const LOG: &str = "/var/log/towline.log";

/// How the target names of host layers begin.
const HOST_TARGETS: &str = "host/";

/// How often, and with what pause, the server is told that the rescue system is ready.
const REPORT_TRIES: u32 = 6;
const REPORT_PAUSE: Duration = Duration::from_secs(5);

/// Brings the rescue system up, and stays.
pub async fn work(console: Arc<Console>) -> Never {
    open_log(&console);
    let note = read_note(&console);
    correct_clock(&console, note.as_ref());
    services::set_host_name(&console);
    load_drivers(&console);
    services::start_udev(&console).await;
    let _network = bring_up_network(&console, note.as_ref()).await;
    recover::let_in(&console);
    services::start_sshd(&console).await;
    let results = run_checks(&console, note.as_ref()).await;
    report(&console, note.as_ref(), results).await;
    console.step(format_args!("rescue system ready"));
    if let Some((note, Order::Recover(order))) =
        note.as_ref().and_then(|it| Some((it, it.order.as_ref()?)))
    {
        recover::run(&console, note, order).await;
    }
    loop {
        menu(&console, note.as_ref()).await;
    }
}

fn open_log(console: &Console) {
    let opened = fs::create_dir_all("/var/log").and_then(|()| {
        if let Ok(earlier) = fs::read(Path::new("/").join(handover::LOG_PATH)) {
            fs::write(LOG, earlier)?;
        }
        console.log_to(Path::new(LOG))
    });
    if let Err(error) = opened {
        console.warn(format_args!("no log: {LOG}: {error}"));
    }
}

fn read_note(console: &Console) -> Option<HandOverNote> {
    console.step(format_args!(
        "rescue system, kernel {}",
        machine::kernel_release()
    ));
    match handover::read_note() {
        Ok(None) => {
            console.note(format_args!(
                "started by a boot loader: no server to report to, no checks to run"
            ));
            None
        }
        Ok(note) => note,
        Err(error) => {
            console.warn(format_args!("what stage 1 left cannot be read: {error}"));
            None
        }
    }
}

/// Another kernel has read the hardware clock again.
fn correct_clock(console: &Console, note: Option<&HandOverNote>) {
    let Some(note) = note else { return };
    let now = clock::now();
    let right = clock::after_kexec(now, note.time, uptime());
    if right != now {
        console.note(format_args!(
            "the clock is corrected from {} to {}",
            clock::to_second(now),
            clock::to_second(right)
        ));
        if let Err(error) = clock::set(right) {
            console.warn(format_args!("the clock cannot be set: {error}"));
        }
    }
}

/// The kernel layer's drivers: stage 1 had those for the network only.
fn load_drivers(console: &Console) {
    // The command line was read by the kernel; a mistyped word is no reason to be without drivers.
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let command_line = CommandLine::parse(&command_line).unwrap_or_default();
    match Loader::open(&command_line) {
        Ok(mut loader) => {
            console.step(format_args!("loading drivers"));
            let count = loader.cold_plug(console);
            console.note(format_args!("{count} modules loaded"));
        }
        Err(error) => console.note(format_args!(
            "the chain has no drivers for this kernel: {error}"
        )),
    }
}

async fn bring_up_network(console: &Arc<Console>, note: Option<&HandOverNote>) -> Option<Network> {
    console.step(format_args!("bringing up the network"));
    let settings = note.map_or_else(stamp::Network::default, |it| it.network.clone());
    if let Err(error) = network::loopback_up() {
        console.warn(format_args!("loopback: {}", joined(&error)));
    }
    match network::bring_up(&settings, console.clone(), &mut || {}).await {
        Ok(network) => Some(network),
        Err(error) => {
            console.warn(format_args!("{}; next: {}", joined(&error), error.next()));
            None
        }
    }
}

async fn run_checks(console: &Console, note: Option<&HandOverNote>) -> Vec<CheckResult> {
    let Some(note) = note else { return Vec::new() };
    console.step(format_args!("checking {} layers", note.layers.len()));
    let mut results = Vec::new();
    for layer in &note.layers {
        if layer.target.starts_with(HOST_TARGETS) {
            let found = recover::host_checks(&layer.target);
            found
                .iter()
                .for_each(|result| checks::show(console, result));
            results.extend(found);
        }
        // What is not in memory is run by the restore.
        let checks = layer.checks.iter().filter(|_| layer.on_target.is_none());
        for check in checks {
            let result = checks::run(&layer.target, check).await;
            checks::show(console, &result);
            results.push(result);
        }
    }
    results
}

async fn report(console: &Console, note: Option<&HandOverNote>, checks: Vec<CheckResult>) {
    let Some(note) = note else { return };
    let total = machine::memory_kib("MemTotal").unwrap_or(0);
    let available = machine::memory_kib("MemAvailable").unwrap_or(0);
    let memory_used_kib = total.saturating_sub(available);
    let ready = What::RescueReady {
        checks,
        memory_used_kib,
    };
    let ready = Event::new(&note.recovery, Part::Rescue, uptime(), ready);
    console.step(format_args!(
        "reporting in; {} of {} MiB of memory in use",
        memory_used_kib >> 10,
        total >> 10
    ));
    match tell(note, &ready, REPORT_PAUSE).await {
        Ok(server) => console.note(format_args!("{server} knows that this machine is ready")),
        Err(error) => console.warn(format_args!(
            "the server does not know that this machine is ready: {}",
            joined(&error)
        )),
    }
}

/// Tells one of the servers, which it gives; again after a pause, unless all of them refuse.
async fn tell<'a>(
    note: &'a HandOverNote,
    event: &Event,
    pause: Duration,
) -> Result<&'a str, FetchError> {
    let mut last = FetchError::NoServer;
    for attempt in 0..REPORT_TRIES {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
        }
        let mut is_final = true;
        for server in &note.servers {
            match send(note, server, event).await {
                Ok(()) => return Ok(server),
                Err(error) => {
                    is_final &= error.is_refusal();
                    last = error;
                }
            }
        }
        if is_final {
            break;
        }
    }
    Err(last)
}

async fn send(note: &HandOverNote, server: &str, event: &Event) -> Result<(), FetchError> {
    let server = Server::parse(server)?;
    let time = TlsTime::Proven {
        time: clock::now(),
        since: Instant::now(),
    };
    let reporter = Reporter::new(Client::new(&note.ca, time)?, server, &note.recovery);
    match recover::report_token() {
        Some(token) => reporter.with_token(&token).send_event(event).await,
        None => reporter.send_event(event).await,
    }
}

async fn menu(console: &Console, note: Option<&HandOverNote>) {
    let shell = note.is_some_and(|it| it.shell) && shell::available().is_some();
    let offer = if shell { "s = shell, " } else { "" };
    let prompt = format!(
        "Rescue system. Type a letter and Enter: {offer}c = run the checks again, b = reboot"
    );
    let Some(Answer { text, console: at }) = console.ask(&prompt, None).await else {
        return;
    };
    match text.as_str() {
        "s" if shell => {
            if let Err(error) = shell::run(&at).await {
                console.warn(format_args!("no shell: {error}"));
            }
        }
        "c" => {
            let results = run_checks(console, note).await;
            let failed = results.iter().filter(|it| !it.passed).count();
            console.step(format_args!("{} checks, {failed} failed", results.len()));
        }
        "b" => {
            let _ = power::run(power::Command::Reboot);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rescue::answering::Answering;

    /// How often each of the servers that answer so is told of an event, and whether one took it.
    async fn told(answers: &[&[u16]]) -> (bool, Vec<usize>) {
        let servers: Vec<_> = answers.iter().map(|it| Answering::start(it)).collect();
        let note = serde_json::json!({
            "recovery": "r-1", "time": "2026-03-01T00:00:00Z", "ca": [], "network": {}, "shell": false, "layers": [],
            "servers": servers.iter().map(|it| it.url.clone()).collect::<Vec<_>>(),
        });
        let note: HandOverNote = serde_json::from_value(note).unwrap();
        let event = Event::new("r-1", Part::Rescue, uptime(), What::PlanVerified);
        let told = tell(&note, &event, Duration::ZERO).await;
        (told.is_ok(), servers.iter().map(Answering::asked).collect())
    }

    #[tokio::test]
    async fn a_ready_that_is_refused_is_not_told_again_unless_a_server_may_still_take_it() {
        assert_eq!(told(&[&[403, 204]]).await, (false, vec![1]));
        assert_eq!(told(&[&[403], &[409]]).await, (false, vec![1, 1]));
        assert_eq!(told(&[&[503, 204]]).await, (true, vec![2]));
        assert_eq!(told(&[&[403, 403], &[503, 204]]).await, (true, vec![2, 2]));
        assert_eq!(told(&[&[503; 9]]).await, (false, vec![6]));
    }
}
