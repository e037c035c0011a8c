//! `towline layer build` with files that must be fetched: by TLS, and the exit codes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};
use tempfile::TempDir;
use towline_contract::Digest;
use towline_harness::certificate::Authority;

const CONTENT: &[u8] = b"the agent";

/// A folder with an authority's certificate, and a server that has a certificate by it and sends [`CONTENT`].
fn server() -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new("a private authority");
    fs::write(dir.path().join("ca.pem"), authority.pem()).expect("a file");
    let config = authority.server(&["localhost"], 2020..2090);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("TLS");
            // A client that does not trust it leaves.
            let _ = answer(StreamOwned::new(connection, stream.expect("a client")));
        }
    });
    (dir, format!("https://localhost:{port}/agent"))
}

fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let length = CONTENT.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(CONTENT)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Builds a layer of the file at `url`, which should have the digest; `ca` is the file of authorities.
fn build(dir: &TempDir, url: &str, digest: Digest, ca: &str) -> Output {
    let recipe = format!(
        "kind = \"extra\"\nname = \"x\"\nversion = \"1\"\ntime = \"2025-01-01T00:00:00Z\"\n[[source]]\ntype = \"file\"\n\
         path = \"opt/agent\"\nfrom = {{ url = \"{url}\", sha256 = \"{digest}\" }}\n"
    );
    fs::write(dir.path().join("x.toml"), recipe).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_towline"))
        .args(["layer", "build", "x.toml", "--cache", "cache"])
        .current_dir(dir.path())
        .env("SSL_CERT_FILE", ca)
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .output()
        .expect("towline runs")
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_file_is_fetched_from_a_server_of_a_private_authority_that_the_environment_names() {
    let (dir, url) = server();
    let built = build(&dir, &url, Digest::of(CONTENT), "ca.pem");
    assert!(built.status.success(), "{}", talk(&built));
    assert!(talk(&built).contains(&format!("fetching {url}")));
}

#[test]
fn a_server_that_no_authority_vouches_for_ends_build_with_4() {
    let (dir, url) = server();
    let other = Authority::new("another authority").pem();
    fs::write(dir.path().join("other.pem"), other).expect("a file");
    let refused = build(&dir, &url, Digest::of(CONTENT), "other.pem");
    assert_eq!(refused.status.code(), Some(4), "{}", talk(&refused));
    let text = talk(&refused);
    assert!(
        text.contains("cannot be reached") && text.contains("UnknownIssuer"),
        "{text}"
    );
    let none = build(&dir, &url, Digest::of(CONTENT), "gone.pem");
    assert_eq!(none.status.code(), Some(2), "{}", talk(&none));
    assert!(talk(&none).contains("SSL_CERT_FILE"), "{}", talk(&none));
}

#[test]
fn a_fetched_file_with_another_digest_ends_build_with_3_and_what_to_do() {
    let (dir, url) = server();
    let refused = build(&dir, &url, Digest::of(b"another"), "ca.pem");
    assert_eq!(refused.status.code(), Some(3), "{}", talk(&refused));
    let text = talk(&refused);
    assert!(text.contains("x.toml, line 5: source 1 (file)"), "{text}");
    assert!(text.contains("next: compare the digest"), "{text}");
}
