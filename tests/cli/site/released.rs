//! Recipes that follow releases: a page names a new one, and machines get the new agent. The makers' server speaks HTTPS by a
//! private authority; `minisign` signs what is there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;
use towline_contract::manifest::Manifest;
use towline_contract::{Digest, Timestamp};
use towline_harness::certificate::Authority;

use super::tracked::Followed;
use super::{Server, World};

/// The day on which the files of version 1 were made, in seconds since 1970.
const DAY_1: u64 = 1_760_000_000;
const DAY: u64 = 86_400;

/// Bodies by path.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A site, and the makers of an agent.
struct Makers {
    world: World,
    url: String,
    key: String,
    files: Files,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Makers {
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
        let (its_files, its_asked) = (Arc::clone(&files), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).expect("TLS");
                let stream = StreamOwned::new(connection, stream.expect("a client"));
                // A client that was killed asks nothing.
                let _ = answer(stream, &its_files, &its_asked);
            }
        });
        let key = new_key(folder, "ours");
        let makers = Self {
            url: format!("https://localhost:{port}"),
            world,
            key,
            files,
            asked,
        };
        makers.release("1", DAY_1);
        makers.write("recipes/tool.toml", &makers.recipe(""));
        makers
    }

    /// With version 1 published.
    fn published() -> Self {
        let makers = Self::new();
        let said = makers.succeeds(&["recipes/tool.toml"]);
        assert_eq!(said, "published agent/tool/1/amd64\n");
        makers
    }

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

    fn write(&self, name: &str, text: &str) {
        fs::write(self.world.site().join(name), text).expect("a file");
    }

    fn sends(&self, path: &str, body: impl Into<Vec<u8>>) {
        let mut files = self.files.lock().expect("no panic");
        files.insert(path.to_owned(), body.into());
    }

    fn is_gone(&self, path: &str) {
        self.files.lock().expect("no panic").remove(path);
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

    fn authority(&self) -> std::path::PathBuf {
        self.world.folder.path().join("makers-ca.pem")
    }

    fn refresh(&self, more: &[&str]) -> Output {
        let arguments = [&["-q", "catalogue", "refresh"], more].concat();
        self.towline(&arguments).output().expect("towline runs")
    }

    #[track_caller]
    fn succeeds(&self, more: &[&str]) -> String {
        let output = self.refresh(more);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The look ends so, says this, and leaves what is published as it is; that it failed is known.
    #[track_caller]
    fn fails(&self, exit: i32, says: &[&str]) {
        let before = self.world.timestamp();
        let output = self.refresh(&[]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{talk}");
        for part in says {
            assert!(talk.contains(part), "{part:?} is not in: {talk}");
        }
        assert!(self.world.timestamp() == before, "nothing was signed");
        assert_eq!(self.record()["state"], "failed");
    }

    fn record(&self) -> Value {
        let path = self.world.site().join("state/tracked/tool.json");
        serde_json::from_slice(&fs::read(path).expect("a record")).expect("JSON")
    }

    fn agents(&self) -> Vec<String> {
        let list = self.world.succeeds(&["catalogue", "list", "--json"]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let targets = list.as_array().expect("a list").iter();
        let targets = targets.filter_map(|it| it["target"].as_str());
        targets.map(str::to_owned).collect()
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
    let (status, body) = match found {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
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

#[test]
fn machines_get_a_new_release_when_the_page_names_one_and_old_ones_go() {
    let makers = Makers::published();
    makers.release("1.9", DAY_1 + DAY);
    let said = makers.succeeds(&[]);
    assert_eq!(said, "published agent/tool/1.9/amd64 (tool 1 is 1.9 now)\n");
    // Newer than 1.9 as Debian has it.
    makers.release("1.10", DAY_1 + 2 * DAY);
    let said = makers.succeeds(&[]);
    let wanted =
        "published agent/tool/1.10/amd64 (tool 1.9 is 1.10 now)\nretired agent/tool/1/amd64\n";
    assert_eq!(said, wanted);
    assert_eq!(
        makers.agents(),
        ["agent/tool/1.10/amd64", "agent/tool/1.9/amd64"]
    );

    // As new as the look is: it is known, and told.
    let seen: Timestamp = makers.record()["current"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert!(
        Timestamp::now().duration_since(seen).as_secs() < 600,
        "{seen}"
    );
    let server = Server::start(&makers.world);
    let metrics = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
    for line in [
        "towline_agent_info{agent=\"tool\",architecture=\"amd64\",version=\"1.10\"} 1\n",
        "towline_recipe_failures{recipe=\"tool\"} 0\n",
        &format!(
            "towline_recipe_current_timestamp_seconds{{recipe=\"tool\"}} {}\n",
            seen.as_second()
        ),
    ] {
        assert!(metrics.contains(line), "{line:?} is not in: {metrics}");
    }
}

#[test]
fn when_the_page_names_nothing_new_nothing_else_is_asked_for_or_built() {
    let makers = Makers::new();
    // What a digest in the recipe names is always the same.
    makers.sends("/motto", &b"one\n"[..]);
    let motto = format!(
        "[[source]]\ntype = \"file\"\npath = \"opt/motto\"\nfrom = {{ url = \"{}/motto\", sha256 = \"{}\" }}\n",
        makers.url,
        Digest::of(b"one\n")
    );
    makers.write("recipes/tool.toml", &(makers.recipe("") + &motto));
    makers.succeeds(&["recipes/tool.toml"]);
    let before = makers.world.timestamp();
    makers.asked();
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert_eq!(makers.asked(), ["/tool/"]);
    assert!(makers.world.timestamp() == before);
    let built = makers.world.site().join("state/tracked/layers/tool");
    assert!(!built.exists());
}

#[test]
fn a_page_that_has_gone_back_does_not_take_machines_back() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    makers.succeeds(&[]);
    makers.sends("/tool/", "tool-1.tar.gz");
    makers.asked();
    makers.fails(
        1,
        &[
            "/tool/ names 1 as the newest version, but agent/tool/2/amd64, which is published, is of 2",
            "next: see whether the page",
            "towline catalogue retire agent/tool 2",
        ],
    );
    assert_eq!(makers.asked(), ["/tool/"], "nothing was fetched");
    // Somebody decides to go back.
    makers
        .world
        .succeeds(&["catalogue", "retire", "agent/tool", "2"]);
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
}

#[test]
fn a_page_that_is_gone_or_names_no_version_changes_nothing() {
    let makers = Makers::published();
    makers.sends("/tool/", "we have moved");
    makers.fails(
        2,
        &[
            "tool.toml, line 9: track.page",
            "names no version",
            "compare track.version",
        ],
    );
    makers.sends("/tool/", "tool-1.tar.gz tool-1..2.tar.gz");
    makers.fails(2, &["\"1..2\" is none: versions begin with"]);
    makers.sends("/tool/", vec![b'x'; (4 << 20) + 1]);
    makers.fails(
        2,
        &[
            "/tool/ has more than 4194304 bytes",
            "a page that lists fewer",
        ],
    );
    makers.is_gone("/tool/");
    makers.fails(
        4,
        &[
            "tool.toml, line 9: track.page",
            "the server's answer is 404",
            "next: see where",
        ],
    );
    assert_eq!(makers.record()["failures"], 4);
    assert_eq!(makers.record()["target"], "agent/tool/1/amd64");
    makers.sends("/tool/", "tool-1.tar.gz");
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/1/amd64\n");
    assert_eq!(makers.record()["failures"], 0);
}

#[test]
fn a_release_that_its_makers_have_not_signed_as_this_one_is_refused() {
    let makers = Makers::published();
    let path = "/tool/tool-2.tar.gz";
    makers.release("2", DAY_1 + DAY);
    let good = makers.files.lock().expect("no panic")[path].clone();
    // The page names it, and nothing is there yet.
    makers.is_gone(&format!("{path}.minisig"));
    makers.fails(
        4,
        &[
            "tool-2.tar.gz.minisig cannot be fetched: the server's answer is 404",
            "whether its makers have put it there already",
        ],
    );
    new_key(makers.world.folder.path(), "theirs");
    let signature = makers.signature("tool-2.tar.gz", "theirs", &[]);
    makers.sends(&format!("{path}.minisig"), signature);
    makers.fails(3, &["is not signed by the recipe's minisign-key"]);
    let signature = makers.signature("tool-2.tar.gz", "ours", &[]);
    makers.sends(&format!("{path}.minisig"), signature);
    makers.sends(path, &b"something else"[..]);
    makers.fails(
        3,
        &["tool-2.tar.gz is not signed by the recipe's minisign-key"],
    );
    // What they have signed, but as another one.
    let files = |path: &str| makers.files.lock().expect("no panic")[path].clone();
    makers.sends(path, files("/tool/tool-1.tar.gz"));
    makers.sends(
        &format!("{path}.minisig"),
        files("/tool/tool-1.tar.gz.minisig"),
    );
    makers.fails(
        3,
        &[
            "does not say that it is for tool-2.tar.gz of version 2",
            "file:tool-1.tar.gz",
            "signed-name = false",
        ],
    );
    let renamed = String::from_utf8(files("/tool/tool-1.tar.gz.minisig")).expect("text");
    let renamed = renamed.replace("file:tool-1.tar.gz", "file:tool-2.tar.gz");
    makers.sends(&format!("{path}.minisig"), renamed);
    makers.fails(
        3,
        &["tool-2.tar.gz is not signed by the recipe's minisign-key"],
    );
    let signature = makers.signature("tool-2.tar.gz", "ours", &["-t", "by its makers"]);
    makers.sends(path, good);
    makers.sends(&format!("{path}.minisig"), signature);
    makers.fails(3, &["its trusted comment is \"by its makers\""]);
    assert_eq!(makers.agents(), ["agent/tool/1/amd64"]);
    // Somebody takes that risk.
    makers.write("recipes/tool.toml", &makers.recipe(", signed-name = false"));
    let said = makers.succeeds(&[]);
    assert!(
        said.starts_with("published agent/tool/2/amd64 (tool 1 is 2 now"),
        "{said}"
    );
}

#[test]
fn a_signature_may_lie_elsewhere() {
    let makers = Makers::new();
    let place = format!(
        ", signature-url = \"{}/signatures/${{version}}.sig\"",
        makers.url
    );
    makers.write("recipes/tool.toml", &makers.recipe(&place));
    let signature = makers.signature("tool-1.tar.gz", "ours", &["-t", "tool 1"]);
    makers.sends("/signatures/1.sig", signature);
    makers.is_gone("/tool/tool-1.tar.gz.minisig");
    let said = makers.succeeds(&["recipes/tool.toml"]);
    assert_eq!(said, "published agent/tool/1/amd64\n");
}

#[test]
fn a_release_that_was_built_and_not_published_is_published_by_the_next_look() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    let key = makers.world.site().join("keys/snapshot.key");
    let away = makers.world.folder.path().join("snapshot.key");
    fs::rename(&key, &away).expect("it goes");
    makers.fails(2, &["snapshot.key"]);
    fs::rename(&away, &key).expect("it comes back");
    makers.is_gone("/tool/tool-2.tar.gz");
    let said = makers.succeeds(&[]);
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/2/amd64\n");
}

#[test]
fn a_look_at_a_page_that_is_killed_anywhere_is_run_again_and_publishes_once() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    for wait in 0..12 {
        let mut command = makers.towline(&["-q", "catalogue", "refresh"]);
        let child = command.process_group(0).stdout(Stdio::null()).spawn();
        let mut child = child.expect("towline runs");
        std::thread::sleep(Duration::from_millis(wait * 25));
        let group = i32::try_from(child.id()).expect("a number");
        // It may have ended by itself.
        let _ = kill_process_group(Pid::from_raw(group).expect("a group"), Signal::KILL);
        child.wait().expect("it has ended");
    }
    makers.succeeds(&[]);
    assert_eq!(makers.succeeds(&[]), "unchanged agent/tool/2/amd64\n");
    assert_eq!(
        makers.agents(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
}

#[test]
fn a_build_by_hand_takes_the_newest_release_or_the_one_that_is_set() {
    let makers = Makers::new();
    makers.release("2", DAY_1 + DAY);
    let newest = makers.built(&[]);
    assert_eq!(newest.target_name(), "agent/tool/2/amd64");
    let package = &newest.packages[0];
    assert_eq!((&*package.name, &*package.version), ("tool", "2"));
    makers.asked();
    // A folder of that name makes no path of it.
    fs::create_dir(makers.world.site().join("1")).expect("a folder");
    let older = makers.built(&["--set", "version=1"]);
    assert_eq!(older.target_name(), "agent/tool/1/amd64");
    assert!(!makers.asked().contains(&"/tool/".to_owned()));
    let build = [
        "layer",
        "build",
        "recipes/tool.toml",
        "-o",
        "by-hand",
        "--cache",
        "cache",
    ];
    let output = makers.towline(&build).output().expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("/tool/ names is 2\n"), "{talk}");
    let output = makers
        .towline(&[&build[..], &["--set", "version=../1"]].concat())
        .output();
    let output = output.expect("towline runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && talk.contains("\"../1\" is none"),
        "{talk}"
    );
}

#[test]
fn a_release_whose_key_is_elsewhere_is_published_when_it_is_signed_and_only_then_the_next_one() {
    let makers = Makers::published();
    let site = makers.world.site();
    let officer = makers.world.folder.path().join("agent-tool.key");
    fs::rename(site.join("keys/agent-tool.key"), &officer).expect("it goes");
    makers.release("2", DAY_1 + DAY);
    let waits = |target: &str| {
        let output = makers.refresh(&[]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{talk}");
        let says = format!("{target} is built and waits for the key");
        assert!(talk.contains(&says), "{talk}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    waits("agent/tool/2/amd64");
    let mut documents = fs::read_dir(site.join("to-sign")).expect("a folder");
    let document = documents.find_map(|it| {
        let path = it.expect("a file").path();
        path.extension()
            .is_some_and(|it| it == "json")
            .then_some(path)
    });
    let document = document.expect("a document");
    makers.release("3", DAY_1 + 2 * DAY);
    waits("agent/tool/2/amd64");
    let [document, key] = [&document, &officer].map(|it| it.to_str().expect("UTF-8"));
    let sign = ["key", "sign", document, "--key", key, "--yes"];
    makers.world.succeeds(&sign);
    let said = waits("agent/tool/3/amd64");
    assert_eq!(said, "published agent/tool/2/amd64 (tool 1 is 2 now)\n");
}

#[test]
fn a_recipe_may_follow_a_page_and_an_archive() {
    let makers = Makers::new();
    let archive = Followed::new();
    let apt = "[[source]]\ntype = \"apt\"\npackages = [\"library\"]\n";
    makers.write("recipes/tool.toml", &(makers.recipe("") + apt));
    let look = || {
        let mut command = makers.towline(&["-q", "catalogue", "refresh", "recipes/tool.toml"]);
        let output = command.env("APT_CONFIG", &archive.config).output();
        let output = output.expect("towline runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(look(), "published agent/tool/1/amd64\n");
    assert_eq!(look(), "unchanged agent/tool/1/amd64\n");
    // As new as the older of both.
    assert_eq!(makers.record()["current"], "2025-11-01T00:00:00Z");
    archive.package("library", "2", DAY_1 + DAY);
    assert_eq!(
        look(),
        "published agent/tool/1again2/amd64 (library 1 is 2 now)\n"
    );
    makers.release("2", DAY_1 + 2 * DAY);
    let said = look();
    assert!(
        said.starts_with("published agent/tool/2/amd64 (tool 1 is 2 now)\n"),
        "{said}"
    );
}

#[test]
fn a_newer_release_by_hand_stays() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    makers.built(&[]);
    makers
        .world
        .succeeds(&["publish", "by-hand/agent-tool-2-amd64.layer"]);
    makers.sends("/tool/", "tool-1.tar.gz");
    let said = makers.succeeds(&[]);
    assert_eq!(
        said,
        "stays agent/tool/2/amd64 (published by hand, and newer than what the recipe makes)\n"
    );
}

#[test]
fn the_server_looks_at_pages_by_its_timer() {
    let makers = Makers::published();
    makers.release("2", DAY_1 + DAY);
    let path = makers.world.site().join("state/tracked/tool.json");
    let mut record = makers.record();
    record["looked"] = "2025-01-01T00:00:00Z".into();
    fs::write(&path, record.to_string()).expect("a record");
    let config = makers.world.site().join("towline.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text + "\n[track]\nhours = 24\n").expect("a configuration");
    let authority = makers.authority();
    let authority = authority.to_str().expect("UTF-8");
    let variables = [("SSL_CERT_FILE", authority), ("NO_PROXY", "localhost")];
    let server = Server::start_with(&makers.world, &variables);
    server.line_within(Duration::from_secs(120), "published agent/tool/2/amd64");
    assert_eq!(
        makers.agents(),
        ["agent/tool/1/amd64", "agent/tool/2/amd64"]
    );
}
