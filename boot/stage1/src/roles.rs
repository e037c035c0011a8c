//! Which of its roles this program has, by how and where it was started.

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::console::Console;
use crate::progress::Progress as _;
use crate::{assemble, boot, cores, fetch, power, rescue, shell};

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a message stays on the screen before a machine that cannot go on restarts.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(60);

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// PID 1 of the medium.
    Medium,
    /// PID 1 of a chain that a boot loader or kexec put into the initramfs.
    Assemble,
    /// PID 1 of the rescue system.
    Rescue,
    /// What the rescue system's PID 1 starts to do the work.
    RescueWorker,
    /// What ReaR starts to restore the host's files.
    Restore,
    /// On a recovered host: reports its first start.
    FirstBoot,
    /// Gives a console to a shell.
    Terminal,
    /// `reboot`, `poweroff` or `halt`.
    Power(power::Command),
    /// Started by somebody on an ordinary machine: `fetch` is all it does there.
    None,
}

/// Does what this program was started for. For PID 1 it never ends.
#[must_use]
pub fn run() -> ExitCode {
    // Every kernel does so, and one that did not would be no reason to leave a machine dead.
    let _ = cores::off();
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let medium = Path::new("/towline/stamp").exists();
    match role(&name, std::process::id() == 1, medium) {
        Role::Medium => {
            last_words();
            asynchronous(|console| async move { boot::run(console).await })
        }
        Role::Assemble => {
            last_words();
            asynchronous(|console| async move { assemble::run(&console).await })
        }
        Role::Rescue => {
            last_words();
            rescue::reap_for_ever()
        }
        Role::RescueWorker => asynchronous(|console| async move { rescue::work(console).await }),
        Role::Restore => {
            let console = Arc::new(Console::open());
            to_end(rescue::recover::restore::run(console))
        }
        Role::FirstBoot => to_end(rescue::recover::first_boot::run()),
        Role::Terminal => shell::become_shell(arguments),
        Role::Power(command) => power::run(command),
        Role::None => {
            let arguments: Vec<_> = arguments.collect();
            if let Some(("fetch", rest)) = arguments.split_first().map(|(a, b)| (a.as_str(), b)) {
                return ExitCode::from(fetch::cli::run(rest));
            }
            eprintln!(
                "towline-stage1 is the first program of a boot medium or a rescue system; start it as /init or /sbin/init"
            );
            ExitCode::from(2)
        }
    }
}

fn role(name: &str, first: bool, medium: bool) -> Role {
    let base = name.rsplit('/').next().unwrap_or(name);
    match (base, first) {
        (rescue::WORKER, false) => Role::RescueWorker,
        (rescue::recover::RESTORE, false) => Role::Restore,
        (rescue::recover::first_boot::FIRST_BOOT, false) => Role::FirstBoot,
        (shell::TERMINAL, _) => Role::Terminal,
        (_, false) => power::Command::named(base).map_or(Role::None, Role::Power),
        (_, true) if name != "/init" => Role::Rescue,
        (_, true) if medium => Role::Medium,
        (_, true) => Role::Assemble,
    }
}

/// Runs `work`, which does not end.
fn asynchronous<Work: Future<Output = Infallible>>(
    work: impl FnOnce(Arc<Console>) -> Work,
) -> ExitCode {
    let console = Arc::new(Console::open());
    let Err(error) = runtime().map(|runtime| runtime.block_on(work(console.clone())));
    console.warn(format_args!("cannot start: {error}"));
    std::thread::sleep(LAST_WORDS);
    power::run(power::Command::Reboot)
}

/// Runs `work`, which ends.
fn to_end(work: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("towline: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// When PID 1 panics, the kernel does too, and its message hides ours: shows ours, and restarts the machine.
fn last_words() {
    std::panic::set_hook(Box::new(|panic| {
        let console = Console::open();
        console.failure(&format!(
            "FAILED: a mistake in this program: {panic}\n  next: report it; the machine restarts in {} s",
            LAST_WORDS.as_secs()
        ));
        std::thread::sleep(LAST_WORDS);
        let _ = power::run(power::Command::Reboot);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_follows_from_name_process_and_place() {
        for (name, first, medium, wanted) in [
            ("/init", true, true, Role::Medium),
            ("/init", true, false, Role::Assemble),
            ("/sbin/init", true, false, Role::Rescue),
            // A stamp left in a rescue system changes nothing.
            ("/sbin/init", true, true, Role::Rescue),
            (rescue::WORKER, false, false, Role::RescueWorker),
            (shell::TERMINAL, false, false, Role::Terminal),
            (
                "/run/towline/bin/towline-restore",
                false,
                false,
                Role::Restore,
            ),
            (
                "/var/lib/towline-first-boot/towline-first-boot",
                false,
                false,
                Role::FirstBoot,
            ),
            (
                "/usr/sbin/reboot",
                false,
                false,
                Role::Power(power::Command::Reboot),
            ),
            ("target/debug/towline-stage1", false, true, Role::None),
            ("/init", false, true, Role::None),
        ] {
            assert_eq!(role(name, first, medium), wanted, "{name} {first} {medium}");
        }
    }
}
