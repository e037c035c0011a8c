//! Two network namespaces joined by a cable, so that a process can have the network of a machine of its own.
//!
//! Needs root and `ip`: tests that use it are `#[ignore = "needs root and ip netns"]`, and fail where it does not work.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Address of the server's end.
pub const SERVER: &str = "10.213.0.1";
/// Address of the machine's end.
pub const MACHINE: &str = "10.213.0.2";

/// A pair of namespaces; they go when dropped.
pub struct Namespaces {
    server: String,
    machine: String,
}

impl Namespaces {
    /// Two namespaces whose only way anywhere is to each other.
    ///
    /// # Panics
    /// Not root, or no `ip`.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("tl{}-{number}{end}", std::process::id());
        let pair = Self {
            server: name("s"),
            machine: name("m"),
        };
        let (server, machine) = (&pair.server, &pair.machine);
        ip(&["netns", "add", server]);
        ip(&["netns", "add", machine]);
        ip(&[
            "-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns",
            machine,
        ]);
        for (end, address) in [(server, SERVER), (machine, MACHINE)] {
            ip(&[
                "-n",
                end,
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                "cable",
            ]);
            ip(&["-n", end, "link", "set", "lo", "up"]);
            ip(&["-n", end, "link", "set", "cable", "up"]);
        }
        pair
    }

    /// Does `work` in a thread that is in the server's namespace: sockets made there stay there.
    ///
    /// # Panics
    /// As `work`, or the namespace cannot be entered.
    pub fn as_server<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let path = format!("/run/netns/{}", self.server);
                let file = std::fs::File::open(&path).expect("the server's namespace");
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind)
                    .expect("the server's namespace can be entered");
                work()
            });
            match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a program in the machine's namespace to its end.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run_as_machine(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.machine, program])
            .args(arguments);
        command
            .stdin(Stdio::null())
            .output()
            .expect("ip netns exec")
    }

    /// Pulls the cable, or plugs it in again.
    ///
    /// # Panics
    /// It does not work.
    pub fn plug(&self, connected: bool) {
        let state = if connected { "up" } else { "down" };
        ip(&["-n", &self.server, "link", "set", "cable", state]);
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for end in [&self.server, &self.machine] {
            let _ = Command::new("ip").args(["netns", "delete", end]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {said}");
}
