//! A relay of TCP connections that lets a bounded number of bytes a second through: a slow line, whatever travels on it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Starts a relay on a free port of loopback in front of `upstream`; it lives as long as the process. Each connection gets
/// `bytes_per_second` from `upstream`; the other direction is not slowed. A connection ends when either side ends it.
///
/// # Panics
/// There is no port.
#[must_use]
pub fn slow_line(upstream: SocketAddr, bytes_per_second: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let pause = Duration::from_secs_f64(PIECE_BYTES as f64 / f64::from(bytes_per_second));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A server that is away is an end of the connection, as behind any load balancer.
            if let Ok(server) = TcpStream::connect(upstream) {
                join(&client, &server, pause);
            }
        }
    });
    address
}

fn join(client: &TcpStream, server: &TcpStream, pause: Duration) {
    let copies = [
        (server.try_clone(), client.try_clone(), pause),
        (client.try_clone(), server.try_clone(), Duration::ZERO),
    ];
    for (from, to, pause) in copies {
        let (from, to) = (from.expect("a socket"), to.expect("a socket"));
        thread::spawn(move || pass(from, to, pause));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, pause: Duration) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
        thread::sleep(pause.mul_f64(length as f64 / PIECE_BYTES as f64));
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
