//! A server that dies in the middle of a layer and comes back costs the bytes in flight, not the boot.

use std::time::Duration;

use crate::world::{RESCUE, Site, built, expect_rescue};

#[test]
#[ignore = "boots QEMU: make test"]
fn a_download_resumes_after_the_server_was_killed_and_started_again() {
    let site = Site::serving(&built().layers);
    let mut running = site
        .machine("resume", site.https_medium())
        .start()
        .expect("QEMU");
    let progress =
        |line: &str| line.contains("base/") && line.contains('%') && !line.contains(" 0 %");
    running
        .wait_until("progress of the base layer", RESCUE, progress)
        .expect("the base layer is on its way");
    site.kill();
    running
        .wait_for("stopped after", Duration::from_secs(120))
        .expect("it says where the download stopped");
    site.start();
    running
        .wait_for("resum", Duration::from_secs(120))
        .expect("it resumes");
    expect_rescue(&mut running, &site);
}
