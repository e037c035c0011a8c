//! Files that recipes fetch, from a server that lies, breaks off, or sends elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use towline_contract::Digest;
use towline_initramfs::build::{self, BuildError, Built, Options};
use towline_initramfs::stored;

use crate::deb::{package, tarball};
use crate::support::{Workshop, messages, output};

/// Answers by path, as they go over the wire.
type Answers = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A server on this machine, with a workshop and a cache of its own.
struct World {
    workshop: Workshop,
    url: String,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Answers::default();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (its_answers, its_asked) = (Arc::clone(&answers), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &its_answers, &its_asked);
            }
        });
        Self {
            workshop: Workshop::new(),
            url,
            answers,
            asked,
        }
    }

    /// What the server sends for `path`.
    fn sends(&self, path: &str, answer: impl Into<Vec<u8>>) {
        let mut answers = self.answers.lock().unwrap();
        answers.insert(path.to_owned(), answer.into());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn build(&self, source: &str) -> Result<Built, BuildError> {
        self.build_while(source, &mut |_| {})
    }

    /// Builds; `talk` hears what the build says, while it waits.
    fn build_while(&self, source: &str, talk: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
        self.build_within(None, source, talk)
    }

    /// The same; what is fetched may take so long.
    fn build_within(
        &self,
        fetch_wait: Option<Duration>,
        source: &str,
        talk: &mut dyn FnMut(&str),
    ) -> Result<Built, BuildError> {
        let recipe = format!(
            "kind = \"extra\"\nname = \"test\"\nversion = \"1\"\nlevel = 1\ntime = \"2025-01-01T00:00:00Z\"\n[[source]]\n{source}"
        );
        let recipe = self.workshop.parse(&recipe).expect("the recipe is valid");
        let options = Options {
            out: self.workshop.path("out"),
            cache: self.workshop.path("cache"),
            fetch_wait,
        };
        build::build(&recipe, &options, talk)
    }

    /// Builds a layer of one file, and gives the file.
    fn file(&self, path: &str, proof: &str) -> Result<Vec<u8>, BuildError> {
        let from = format!("from = {{ url = \"{}{path}\", {proof} }}", self.url);
        let built = self.build(&format!("type = \"file\"\npath = \"opt/it\"\n{from}\n"))?;
        Ok(crate::support::unpacked(&built.layer))
    }

    /// Files of the cache.
    fn kept(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.workshop.path("cache/fetched")) else {
            return Vec::new();
        };
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

fn answer(mut stream: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let found = answers.lock().unwrap().get(&path).cloned();
    let nothing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    asked.lock().unwrap().push(path);
    // Whoever has enough leaves.
    let _ = stream.write_all(&found.unwrap_or_else(|| nothing.to_vec()));
}

/// An answer with this body.
fn ok(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// An answer that does not say how long it is.
fn unannounced(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat()
}

fn elsewhere(place: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256 = \"{}\"", Digest::of(bytes))
}

fn contains(archive: &[u8], text: &[u8]) -> bool {
    archive.windows(text.len()).any(|it| it == text)
}

#[test]
fn a_fetched_file_is_kept_and_not_fetched_again() {
    let world = World::new();
    world.sends("/agent", ok(b"the agent"));
    let first = world.file("/agent", &sha256(b"the agent")).unwrap();
    assert!(contains(&first, b"the agent"));
    world.sends("/agent", ok(b"another agent"));
    let second = world.file("/agent", &sha256(b"the agent")).unwrap();
    assert!(first == second, "the same bytes");
    assert_eq!(world.asked(), ["/agent"]);
    assert_eq!(world.kept(), [Digest::of(b"the agent").to_string()]);
    let kept = world.workshop.path("cache/fetched").join(&world.kept()[0]);
    let mode = fs::metadata(kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "for all who share the cache");
}

#[test]
fn what_a_recipe_fetches_may_take_so_long_together() {
    let world = World::new();
    world.sends("/quick", ok(b"quick"));
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/slow", slow.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = slow.accept().unwrap();
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while sent.is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            sent = stream.write_all(b"x");
        }
    });
    let quick = format!("{}/quick", world.url);
    let file = |path: &str, url: &str, content: &[u8]| {
        let proof = sha256(content);
        format!("type = \"file\"\npath = \"{path}\"\nfrom = {{ url = \"{url}\", {proof} }}\n")
    };
    let sources = format!(
        "{}[[source]]\n{}",
        file("opt/quick", &quick, b"quick"),
        file("opt/slow", &url, b"slow")
    );
    let start = Instant::now();
    let wait = Duration::from_secs(2);
    let built = world.build_within(Some(wait), &sources, &mut |_| {});
    let text = messages(&built.unwrap_err());
    assert!(
        text.contains(&format!(
            "{url} did not come in time: what the recipe fetches may take"
        )),
        "{text}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(world.asked(), ["/quick"]);
    // What is in the cache takes no time.
    let quick = file("opt/quick", &quick, b"quick");
    world
        .build_within(Some(Duration::ZERO), &quick, &mut |_| {})
        .unwrap();
}

#[test]
fn every_source_that_has_a_file_takes_one_that_must_be_fetched() {
    let world = World::new();
    let data = tarball(&[("./etc/x", b"of the package\n")]);
    let deb = package(".xz", "test", &data);
    world.sends("/a.tar", ok(&data));
    world.sends("/a.deb", unannounced(&deb));
    let url = &world.url;
    let tar = format!(
        "type = \"tar\"\nfile = {{ url = \"{url}/a.tar\", {} }}\n",
        sha256(&data)
    );
    let deb = format!(
        "type = \"deb\"\n[[source.files]]\nurl = \"{url}/a.deb\"\n{}\n",
        sha256(&deb)
    );
    for source in [tar, deb] {
        let built = world.build(&source).unwrap();
        stored::verify(&built.layer, &built.manifest, &[]).unwrap();
        let archive = crate::support::unpacked(&built.layer);
        assert!(contains(&archive, b"of the package"), "{source}");
    }
}

#[test]
fn a_fetched_file_with_another_digest_is_refused_with_both_and_not_kept() {
    let world = World::new();
    world.sends("/agent", ok(b"an evil agent"));
    let error = world.file("/agent", &sha256(b"the agent")).unwrap_err();
    let text = messages(&error);
    for part in [
        "line 6: source 1 (file)".to_owned(),
        format!(
            "{}/agent has SHA-256 {}",
            world.url,
            Digest::of(b"an evil agent")
        ),
        format!("the recipe says {}", Digest::of(b"the agent")),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    assert_eq!(world.kept(), [""; 0]);
    assert_eq!(
        fs::read_dir(world.workshop.path("out")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_file_that_changed_in_the_cache_is_fetched_again() {
    let world = World::new();
    world.sends("/agent", ok(b"the agent"));
    let proof = sha256(b"the agent");
    world.file("/agent", &proof).unwrap();
    let kept = world.workshop.path("cache/fetched").join(&world.kept()[0]);
    fs::write(&kept, "the a").unwrap();
    assert!(contains(
        &world.file("/agent", &proof).unwrap(),
        b"the agent"
    ));
    assert_eq!(world.asked().len(), 2);
    assert_eq!(fs::read(&kept).unwrap(), b"the agent");
}

#[test]
fn a_fetched_file_beyond_its_bound_is_refused_whether_it_says_so_or_not() {
    let world = World::new();
    let body = vec![b'x'; 200_000];
    world.sends("/announced", ok(&body));
    world.sends("/unannounced", unannounced(&body));
    for path in ["/announced", "/unannounced"] {
        let proof = format!("bytes-max = 100000, {}", sha256(&body));
        let text = messages(&world.file(path, &proof).unwrap_err());
        assert!(
            text.contains(&format!("{path} has more than 100000 bytes")),
            "{text}"
        );
        let proof = format!("bytes-max = 200000, {}", sha256(&body));
        world.file(path, &proof).unwrap();
        fs::remove_dir_all(world.workshop.path("cache")).unwrap();
    }
}

#[test]
fn a_fetched_file_that_is_cut_off_is_refused_with_both_sizes() {
    let world = World::new();
    let whole = ok(&[b'x'; 100_000]);
    world.sends("/agent", &whole[..whole.len() - 40_000]);
    let proof = sha256(&[b'x'; 100_000]);
    let text = messages(&world.file("/agent", &proof).unwrap_err());
    assert!(
        text.contains("/agent stopped after 60000 bytes of 100000"),
        "{text}"
    );
    assert_eq!(world.kept(), [""; 0]);
    world.sends("/agent", whole);
    world.file("/agent", &proof).unwrap();
}

#[test]
fn a_redirection_is_followed_and_one_in_a_circle_is_not() {
    let world = World::new();
    world.sends(
        "/latest",
        elsewhere(&format!("{}/files/agent-1", world.url)),
    );
    world.sends("/files/agent-1", elsewhere("agent-2"));
    world.sends("/files/agent-2", ok(b"the agent"));
    world.file("/latest", &sha256(b"the agent")).unwrap();
    assert_eq!(
        world.asked(),
        ["/latest", "/files/agent-1", "/files/agent-2"]
    );
    world.sends("/circle", elsewhere("/circle"));
    let text = messages(&world.file("/circle", &sha256(b"x")).unwrap_err());
    assert!(text.contains("/circle cannot be reached"), "{text}");
    assert!(world.asked().len() < 12, "{:?}", world.asked());
}

#[test]
fn what_is_not_there_is_told_by_the_servers_status() {
    let world = World::new();
    let text = messages(&world.file("/gone", &sha256(b"x")).unwrap_err());
    assert!(
        text.contains("/gone cannot be fetched: the server's answer is 404"),
        "{text}"
    );
}

/// A key of minisign in the workshop; gives its public half.
fn minisign_key(world: &World, name: &str) -> String {
    let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
    output(
        Command::new("minisign")
            .args(["-G", "-W", "-f", "-p", &public, "-s", &secret])
            .current_dir(world.workshop.dir.path()),
    );
    let text = fs::read_to_string(world.workshop.path(&public)).unwrap();
    text.lines().nth(1).unwrap().to_owned()
}

/// The signature of `content` by the key `name`.
fn minisign(world: &World, name: &str, content: &[u8], options: &[&str]) -> Vec<u8> {
    world.workshop.write("content", content);
    output(
        Command::new("minisign")
            .args(["-S", "-s", &format!("{name}.key"), "-m", "content"])
            .args(options)
            .current_dir(world.workshop.dir.path()),
    );
    fs::read(world.workshop.path("content.minisig")).unwrap()
}

#[test]
fn a_signed_file_is_taken_and_fetched_again_when_there_is_a_newer_one() {
    let world = World::new();
    let key = minisign_key(&world, "ours");
    let proof = format!("minisign-key = \"{key}\"");
    for version in [b"version 1", b"version 2"] {
        world.sends("/agent", ok(version));
        world.sends(
            "/agent.minisig",
            ok(&minisign(&world, "ours", version, &[])),
        );
        for _ in 0..2 {
            assert!(contains(&world.file("/agent", &proof).unwrap(), version));
        }
    }
    let fetched = world
        .asked()
        .iter()
        .filter(|path| *path == "/agent")
        .count();
    assert_eq!(fetched, 2, "once a version");
}

/// Sources of one file each, at `opt/N`.
fn files(world: &World, files: &[(&str, &str)]) -> String {
    let source = |(n, (path, proof)): (usize, &(&str, &str))| {
        let url = &world.url;
        format!(
            "type = \"file\"\npath = \"opt/{n}\"\nfrom = {{ url = \"{url}{path}\", {proof} }}\n"
        )
    };
    let sources: Vec<_> = files.iter().enumerate().map(source).collect();
    sources.join("[[source]]\n")
}

#[test]
fn what_was_verified_is_what_goes_into_the_layer_whatever_becomes_of_the_cache() {
    let world = World::new();
    world.sends("/agent", ok(b"the agent"));
    world.sends("/other", ok(b"another file"));
    let (agent, other) = (sha256(b"the agent"), sha256(b"another file"));
    let source = files(&world, &[("/agent", &agent), ("/other", &other)]);
    let kept = world.workshop.path("cache/fetched");
    let kept = kept.join(Digest::of(b"the agent").to_string());
    let mut changed = 0;
    let mut change = |said: &str| {
        if said.ends_with("/other") {
            changed += 1;
            fs::write(&kept, "the agenT").unwrap();
        }
    };
    let built = world.build_while(&source, &mut change).unwrap();
    assert_eq!(changed, 1);
    let archive = crate::support::unpacked(&built.layer);
    assert!(contains(&archive, b"the agent") && !contains(&archive, b"the agenT"));
    stored::verify(&built.layer, &built.manifest, &[]).unwrap();
    let left = world.kept();
    assert!(left.iter().all(|name| name.len() == 64), "{left:?}");
}

#[test]
fn two_versions_of_one_signed_file_are_each_whole_in_the_layer() {
    let world = World::new();
    let proof = format!("minisign-key = \"{}\"", minisign_key(&world, "ours"));
    let (short, long) = (
        b"<version 1>".as_slice(),
        b"<a longer version 2>".as_slice(),
    );
    let signed = |version: &[u8]| {
        let signature = minisign(&world, "ours", version, &[]);
        world.sends("/agent", ok(version));
        world.sends("/agent.minisig", ok(&signature));
    };
    signed(short);
    world.sends("/other", ok(b"another file"));
    let other = sha256(b"another file");
    let source = files(
        &world,
        &[("/agent", &proof), ("/other", &other), ("/agent", &proof)],
    );
    let mut publish = |said: &str| {
        if said.ends_with("/other") {
            signed(long);
        }
    };
    let built = world.build_while(&source, &mut publish).unwrap();
    let archive = crate::support::unpacked(&built.layer);
    assert!(contains(&archive, short) && contains(&archive, long));
}

#[test]
fn what_one_key_vouched_for_is_not_kept_as_what_another_vouches_for() {
    let world = World::new();
    world.sends("/agent", ok(b"the agent"));
    for name in ["ours", "theirs"] {
        let proof = format!("minisign-key = \"{}\"", minisign_key(&world, name));
        let signature = minisign(&world, name, b"the agent", &[]);
        world.sends("/agent.minisig", ok(&signature));
        world.file("/agent", &proof).unwrap();
    }
    assert_eq!(world.kept().len(), 2, "one for each key");
}

#[test]
fn a_file_that_the_recipes_key_did_not_sign_is_refused() {
    let world = World::new();
    let ours = format!("minisign-key = \"{}\"", minisign_key(&world, "ours"));
    minisign_key(&world, "theirs");
    world.sends("/agent", ok(b"an evil agent"));
    for (signature, says) in [
        (
            minisign(&world, "ours", b"the agent", &[]),
            "/agent is not signed",
        ),
        (
            minisign(&world, "theirs", b"an evil agent", &[]),
            "/agent.minisig is not signed",
        ),
        (
            minisign(&world, "ours", b"an evil agent", &["-l"]),
            "minisign's old way",
        ),
        (b"signed, honestly".to_vec(), "its signature cannot be read"),
        (vec![0xFF; 64], "its signature cannot be read"),
        (vec![b'x'; 1 << 20], "has more than 16384 bytes"),
    ] {
        world.sends("/agent.minisig", ok(&signature));
        let text = messages(&world.file("/agent", &ours).unwrap_err());
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(world.kept(), [""; 0], "{says}");
    }
}

#[test]
fn a_file_to_fetch_that_nothing_vouches_for_is_refused_with_its_line() {
    let world = World::new();
    let digest = Digest::of(b"x");
    let key = minisign_key(&world, "ours");
    for (table, says) in [
        (
            "url = \"https://a/b\"".to_owned(),
            "nothing vouches for https://a/b",
        ),
        (
            format!("url = \"https://a/b\", sha256 = \"{digest}\", minisign-key = \"{key}\""),
            "not both",
        ),
        (
            "url = \"https://a/b\", sha256 = \"abc\"".into(),
            "64 lower-case hex digits",
        ),
        (
            "url = \"https://a/b\", minisign-key = \"abc\"".into(),
            "no public key of minisign",
        ),
        (
            format!("url = \"ftp://a/b\", sha256 = \"{digest}\""),
            "does not begin with https://",
        ),
        (
            format!("url = \"https:///b\", sha256 = \"{digest}\""),
            "names no host",
        ),
        (
            format!("url = \"https://a:b@c/d\", sha256 = \"{digest}\""),
            "no place for passwords",
        ),
        (
            format!("url = \"https://a/b#c\", sha256 = \"{digest}\""),
            "has a fragment",
        ),
        (
            format!("url = \"https://a/b c\", sha256 = \"{digest}\""),
            "cannot have",
        ),
        (
            format!("url = \"https://a/b\", bytes-max = 0, sha256 = \"{digest}\""),
            "`bytes-max` is 0",
        ),
        (
            format!("url = \"https://a/b\", sha255 = \"{digest}\""),
            "unknown field `sha255`",
        ),
        (format!("sha256 = \"{digest}\""), "missing field `url`"),
    ] {
        let recipe = format!(
            "kind = \"extra\"\nname = \"x\"\nversion = \"1\"\n[[source]]\ntype = \"tar\"\nfile = {{ {table} }}\n"
        );
        let error = world.workshop.parse(&recipe).unwrap_err().to_string();
        assert!(error.contains("line 4: source 1"), "{error}");
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn variables_are_filled_into_what_is_fetched() {
    let world = World::new();
    let recipe = "kind = \"extra\"\nname = \"x\"\nversion = \"${version}\"\n[[source]]\ntype = \"tar\"\n\
                  file = { url = \"https://a/${version}.tar\", sha256 = \"${digest}\" }\n";
    let path = world.workshop.write("recipe.toml", recipe);
    let used = towline_initramfs::recipe::Recipe::variables(&path).unwrap();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["digest", "version"]);
    let error = world.workshop.parse(recipe).unwrap_err().to_string();
    assert!(error.contains("--set version=VALUE"), "{error}");
}
