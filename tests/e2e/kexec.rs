//! A machine that is told to starts the layers' own kernel by kexec, with the very same layers as its initramfs.

use crate::world::{RESCUE, Site, built, expect_rescue};

#[test]
#[ignore = "boots QEMU: make test"]
fn the_rescue_system_comes_up_by_kexec() {
    let site = Site::serving(&built().layers);
    site.configure(|text| text.replace("hand_over = \"auto\"", "hand_over = \"kexec\""));
    let mut running = site
        .machine("kexec", site.https_medium())
        .start()
        .expect("QEMU");
    running
        .wait_for("kexec", RESCUE)
        .expect("the hand-over by kexec is said");
    running
        .wait_for("Linux version", RESCUE)
        .expect("a second kernel starts");
    expect_rescue(&mut running, &site);
}
