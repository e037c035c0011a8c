//! A plan that a stranger signed, or that answered another machine's question, starts nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use towline_harness::proxy::{Fault, Proxy};

use crate::world::{RESCUE, Site, built};

/// What a machine asks, with a nonce of its own.
const REQUEST: &str = r#"{"nonce":"00000000000000000000000000000000000000000000000000000000000000aa",
    "architecture":"amd64","kernel_release":"6.1.0","machine":{"macs":[],"memory_kib":1048576,"uefi":false}}"#;

/// A plan of the server at `port`, signed for [`REQUEST`].
fn plan_of(port: u16) -> Vec<u8> {
    let mut stream =
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("the server");
    let length = REQUEST.len();
    write!(
        stream,
        "POST /v1/plan HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{REQUEST}"
    )
    .expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let body = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a body");
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    answer.split_off(body + 4)
}

/// Boots a machine whose server's plan is replaced by `plan` on the way, and waits for `said`.
fn refuses(name: &str, site: &Site, plan: Vec<u8>, said: &str) {
    let upstream = SocketAddr::from(([127, 0, 0, 1], site.http));
    let proxy = Proxy::start(
        upstream,
        Box::new(move |path, _| {
            if path == "/v1/plan" {
                Fault::Replace(plan.clone())
            } else {
                Fault::None
            }
        }),
    );
    let image = site.medium(&[format!("http://10.0.2.2:{}", proxy.address.port())], &[]);
    let mut running = site.machine(name, image).start().expect("QEMU");
    running
        .wait_for(said, RESCUE)
        .expect("it says why the plan is refused");
    running
        .wait_for("What next?", RESCUE)
        .expect("the person is asked what to do");
    assert!(
        !running
            .seen()
            .iter()
            .any(|line| line.contains("rescue system ready"))
    );
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_plan_with_a_strangers_signature_is_refused() {
    let (site, stranger) = (
        Site::serving(&built().layers),
        Site::serving(&built().layers),
    );
    refuses("stranger", &site, plan_of(stranger.http), "signature");
}

#[test]
#[ignore = "boots QEMU: make test"]
fn a_replayed_plan_is_refused() {
    let site = Site::serving(&built().layers);
    refuses("replay", &site, plan_of(site.http), "nonce");
}
