//! The server's own looks, by its timer.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::Followed;
use crate::site::Server;
use crate::site::follows::{DAY, DAY_1, Follows as _};

#[test]
fn the_server_does_not_look_before_it_is_time() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    followed.has_timer();
    let before = followed.record();
    let apt = followed.config.to_str().expect("UTF-8");
    let server = Server::start_with(&followed.world, &[("APT_CONFIG", apt)]);
    // Longer than a server waits that has to look.
    std::thread::sleep(Duration::from_secs(10));
    drop(server);
    assert_eq!(followed.record(), before);
}

/// The first connection, when somebody makes one.
fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a socket");
    for _ in 0..1200 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("a socket");
            return stream;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("nobody has asked");
}

#[test]
fn a_server_that_is_killed_ends_its_look_with_all_that_it_has_started() {
    let followed = Followed::published();
    followed.is_due();
    // An archive that takes what is asked, and answers nothing.
    let archive = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = archive.local_addr().expect("an address");
    let sources = followed.world.folder.path().join("sources.list");
    fs::write(sources, format!("deb [trusted=yes] http://{address}/ ./\n")).expect("a file");
    let config = fs::read_to_string(&followed.config).expect("a configuration");
    let direct = "Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\nAcquire::http::Timeout \"600\";\n";
    fs::write(&followed.config, config + direct).expect("a configuration");
    let apt = followed.config.to_str().expect("UTF-8");
    let server = Server::start_with(&followed.world, &[("APT_CONFIG", apt)]);
    let mut asked = accepted(&archive);
    drop(server); // by a signal that it cannot handle
    asked
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    let end = asked.read_to_end(&mut Vec::new());
    end.expect("apt has ended, and with it its connection");
}

#[test]
fn the_server_looks_by_its_timer() {
    let followed = Followed::published();
    followed.package("tool", "2", DAY_1 + DAY);
    followed.is_due();
    let apt = followed.config.to_str().expect("UTF-8");
    let server = Server::start_with(&followed.world, &[("APT_CONFIG", apt)]);
    // apt, a build, and signatures, on a machine that may be busy.
    server.line_within(Duration::from_secs(120), "published agent/tool/2/amd64");
    assert_eq!(server.curl("/metrics", &[]).status, 200);
    assert_eq!(
        followed.agents(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
}
