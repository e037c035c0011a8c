//! Recipes that follow releases: a page names a new one, and machines get the new agent. The makers' server speaks HTTPS by a
//! private authority; `minisign` signs what is there.

mod looks;
mod refused;
mod turns;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;
use towline_contract::manifest::Manifest;
use towline_harness::certificate::Authority;

use super::World;
use super::follows::{DAY_1, Follows};

/// Bodies by path.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A site, and the makers of an agent.
struct Makers {
    world: World,
    url: String,
    key: String,
    files: Files,
    asked: Arc<Mutex<Vec<String>>>,
    /// What is answered in place of all that, if it is.
    refuses: Arc<Mutex<Option<&'static str>>>,
}

impl Follows for Makers {
    /// With version 1 on their page, and the recipe in the site.
    fn new() -> Self {
        let world = World::new();
        let folder = world.folder.path();
        let authority = Authority::new("a private authority");
        fs::write(folder.join("makers-ca.pem"), authority.pem()).expect("a file");
        let config = authority.server(&["localhost"], 2020..2090);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let files = Files::default();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let refuses = Arc::default();
        let (its_files, its_asked) = (Arc::clone(&files), Arc::clone(&asked));
        let its_refuses = Arc::clone(&refuses);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).expect("TLS");
                let stream = StreamOwned::new(connection, stream.expect("a client"));
                // A client that was killed asks nothing.
                let _ = answer(stream, &its_files, &its_asked, &its_refuses);
            }
        });
        let key = new_key(folder, "ours");
        let makers = Self {
            url: format!("https://localhost:{port}"),
            world,
            key,
            files,
            asked,
            refuses,
        };
        makers.release("1", DAY_1);
        makers.write("recipes/tool.toml", &makers.recipe(""));
        makers
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn towline(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
        command
            .args(arguments)
            .env("SSL_CERT_FILE", self.authority())
            .env("NO_PROXY", "localhost")
            // No list of packages is needed.
            .env("APT_CONFIG", "/nowhere")
            .current_dir(self.world.site());
        command
    }
}

impl Makers {
    /// The recipe; `more` is of the file that it fetches.
    fn recipe(&self, more: &str) -> String {
        let Self { url, key, .. } = self;
        format!(
            "kind = \"agent\"\nname = \"tool\"\nversion = \"${{version}}\"\n[agent]\nrestore = [\"/opt/tool/tool\"]\n\
             current = [\"tool\"]\n[track]\nkeep = 2\n\
             page = \"{url}/tool/\"\nversion = 'tool-([0-9][0-9.]*)\\.tar\\.gz'\n[[source]]\ntype = \"tar\"\nto = \"opt/tool\"\n\
             file = {{ url = \"{url}/tool/tool-${{version}}.tar.gz\", minisign-key = \"{key}\"{more} }}\n"
        )
    }

    fn sends(&self, path: &str, body: impl Into<Vec<u8>>) {
        let mut files = self.files.lock().expect("no panic");
        files.insert(path.to_owned(), body.into());
    }

    fn is_gone(&self, path: &str) {
        self.files.lock().expect("no panic").remove(path);
    }

    /// From now on each answer is this one; none for the files again.
    fn refuses(&self, status: impl Into<Option<&'static str>>) {
        *self.refuses.lock().expect("no panic") = status.into();
    }

    /// What was asked for since this was last called.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }

    /// A new version on the page and behind it, signed as minisign does.
    fn release(&self, version: &str, time: u64) {
        let name = format!("tool-{version}.tar.gz");
        let archive = self.archive(version, time);
        self.sends(&format!("/tool/{name}"), archive);
        let signature = self.signature(&name, "ours", &[]);
        self.sends(&format!("/tool/{name}.minisig"), signature);
        self.lists(version);
    }

    /// One more line on the page.
    fn lists(&self, version: &str) {
        let mut files = self.files.lock().expect("no panic");
        let page = files.entry("/tool/".into()).or_default();
        let name = format!("tool-{version}.tar.gz");
        let line = format!("<a href=\"{name}\">{name}</a> <a href=\"{name}.minisig\">sig</a>\n");
        page.splice(..0, line.into_bytes());
    }

    /// The archive of a version, in the makers' folder and as bytes.
    fn archive(&self, version: &str, time: u64) -> Vec<u8> {
        let folder = self.world.folder.path();
        fs::write(folder.join("tool"), format!("tool {version}\n")).expect("a file");
        let name = format!("tool-{version}.tar.gz");
        let made = Command::new("tar")
            .args([
                "--create",
                "--gzip",
                "--owner=0",
                "--group=0",
                "--file",
                &name,
            ])
            .arg(format!("--mtime=@{time}"))
            .arg("tool")
            .current_dir(folder)
            .status();
        assert!(made.expect("tar runs").success());
        fs::read(folder.join(name)).expect("an archive")
    }

    /// A signature of a file in the makers' folder.
    fn signature(&self, name: &str, key: &str, options: &[&str]) -> Vec<u8> {
        let folder = self.world.folder.path();
        let signed = Command::new("minisign")
            .args(["-S", "-q", "-s", &format!("{key}.key"), "-m", name])
            .args(options)
            .current_dir(folder)
            .output()
            .expect("minisign runs");
        assert!(signed.status.success(), "{signed:?}");
        fs::read(folder.join(format!("{name}.minisig"))).expect("a signature")
    }

    fn authority(&self) -> std::path::PathBuf {
        self.world.folder.path().join("makers-ca.pem")
    }

    /// The look ends so, says this, and leaves what is published as it is; that it failed is known.
    #[track_caller]
    fn fails(&self, exit: i32, says: &[&str]) {
        self.changes_nothing(exit, says);
        assert_eq!(self.record()["state"], "failed");
    }

    /// Builds by hand; gives the manifest.
    fn built(&self, more: &[&str]) -> Manifest {
        let arguments = ["layer", "build", "recipes/tool.toml", "-o", "by-hand"];
        let arguments = [&arguments[..], &["--cache", "cache", "--json"], more].concat();
        let output = self.towline(&arguments).output().expect("towline runs");
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let path = self
            .world
            .site()
            .join(said["manifest"].as_str().expect("a path"));
        Manifest::parse(&fs::read(path).expect("a manifest")).expect("a manifest")
    }
}

/// A key pair in the folder; gives the public half.
fn new_key(folder: &Path, name: &str) -> String {
    let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
    let made = Command::new("minisign")
        .args(["-G", "-W", "-p", &public, "-s", &secret])
        .current_dir(folder)
        .output()
        .expect("minisign runs");
    assert!(made.status.success(), "{made:?}");
    let text = fs::read_to_string(folder.join(public)).expect("a key");
    text.lines().nth(1).expect("a second line").to_owned()
}

fn answer(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    files: &Files,
    asked: &Mutex<Vec<String>>,
    refuses: &Mutex<Option<&'static str>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let found = files.lock().expect("no panic").get(&path).cloned();
    asked.lock().expect("no panic").push(path);
    let refused = *refuses.lock().expect("no panic");
    let (status, body) = match (refused, found) {
        (Some(status), _) => (status, Vec::new()),
        (None, Some(body)) => ("200 OK", body),
        (None, None) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()
}
