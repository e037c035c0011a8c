//! A server that dies in the middle of a layer and comes back costs the bytes in flight, not the boot.

use std::net::SocketAddr;
use std::time::Duration;

use towline_harness::relay::slow_line;

use crate::world::{RESCUE, Site, built, expect_rescue};

/// Slow enough that the base layer (48 MiB) takes far longer than it takes to see its progress and to kill the server.
const BYTES_PER_SECOND: u32 = 4 << 20;

#[test]
#[ignore = "boots QEMU: make test"]
fn a_download_resumes_after_the_server_was_killed_and_started_again() {
    let site = Site::serving(&built().layers);
    let line = slow_line(
        SocketAddr::from(([127, 0, 0, 1], site.https)),
        BYTES_PER_SECOND,
    );
    let medium = site.medium(&[format!("https://10.0.2.2:{}", line.port())], &[]);
    let mut running = site.machine("resume", medium).start().expect("QEMU");
    let progress =
        |line: &str| line.contains("base/") && line.contains('%') && !line.contains(" 0 %");
    running
        .wait_until("progress of the base layer", RESCUE, progress)
        .expect("the base layer is on its way");
    site.kill();
    let stopped = |line: &str| line.contains("base/") && line.contains("stopped after");
    running
        .wait_until("the interruption", Duration::from_secs(120), stopped)
        .expect("it says where the download stopped");
    site.start();
    running
        .wait_for("resum", Duration::from_secs(120))
        .expect("it resumes");
    expect_rescue(&mut running, &site);
}
