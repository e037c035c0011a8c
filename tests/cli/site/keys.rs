//! `towline key`: keys made, shown, replaced and used elsewhere, as an operator and the officers of a site do it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::trust::TrustedRoot;
use towline_harness::layer::layer;

use super::serving::request;
use super::{Server, World, chain, towline};

/// The passphrases of the root keys that `init`, or `key rotate`, showed, one a line in a file.
pub(super) fn passphrases(world: &World, said: &str) -> String {
    let lines = said.lines().filter_map(|it| it.split_once(": passphrase "));
    let text: Vec<_> = lines.map(|(_, passphrase)| passphrase).collect();
    assert!(!text.is_empty(), "{said}");
    let path = world.folder.path().join("passphrases");
    private(&path, &text.join("\n"));
    path.to_str().expect("UTF-8").to_owned()
}

pub(super) fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// A site, and the file with the passphrases of its root keys.
fn site() -> (World, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = ["--listen", "127.0.0.1:0"];
    let names = ["init", "site", "--server-name", "localhost"];
    let output = towline(folder.path(), &[&names[..], &listen].concat());
    assert!(output.status.success(), "{output:?}");
    let world = World { folder };
    let passphrases = passphrases(&world, &String::from_utf8_lossy(&output.stdout));
    (world, passphrases)
}

/// The roles as `key show --json` prints them.
pub(super) fn shown(world: &World) -> Vec<Value> {
    let text = world.succeeds(&["key", "show", "--json"]);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all["roles"].as_array().expect("roles").clone()
}

pub(super) fn of<'a>(rows: &'a [Value], role: &str) -> &'a Value {
    let row = rows.iter().find(|it| it["role"] == role);
    row.unwrap_or_else(|| panic!("no {role} in {rows:?}"))
}

/// Moves the file to a folder of its own, as an officer carries it away.
pub(super) fn carried(world: &World, file: &str) -> PathBuf {
    let away = world.folder.path().join("away");
    fs::create_dir_all(&away).expect("a folder");
    let from = world.site().join(file);
    let to = away.join(from.file_name().expect("a name"));
    fs::rename(from, &to).expect("it moves");
    to
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn root_keys_are_encrypted_unless_it_is_asked_otherwise() {
    let (world, _) = site();
    let key = |name: &str| fs::read_to_string(world.site().join("keys").join(name)).expect("a key");
    for number in 1..=3 {
        let root = key(&format!("root-{number}.key"));
        assert!(root.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    }
    assert_eq!(key("plan.key").trim().len(), 64);
    let plain = ["init", "plain", "--server-name", "a", "--plain-root-keys"];
    let output = towline(world.folder.path(), &plain);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("passphrase"));
    let root = fs::read_to_string(world.folder.path().join("plain/keys/root-1.key"));
    assert_eq!(root.expect("a key").trim().len(), 64);
}

#[test]
fn passphrases_of_ones_own_are_one_for_each_key_or_one_for_all() {
    let (world, _) = site();
    let init = |lines: &str, to: &str| {
        let file = world.folder.path().join("own");
        private(&file, lines);
        let arguments = [
            "init",
            to,
            "--server-name",
            "a",
            "--passphrase-file",
            text(&file),
        ];
        towline(world.folder.path(), &arguments)
    };
    let two = init("one\ntwo\n", "two");
    assert_eq!(two.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&two.stderr).contains("2 passphrases for 3 offline keys"));
    let all = init("the one\n", "all");
    assert!(all.status.success(), "{all:?}");
    assert!(!String::from_utf8_lossy(&all.stdout).contains("the one"));
    let pkey = std::process::Command::new("openssl")
        .args(["pkey", "-noout", "-passin", "pass:the one", "-in"])
        .arg(world.folder.path().join("all/keys/root-3.key"))
        .output();
    assert!(pkey.expect("openssl runs").status.success());
}

#[test]
fn a_running_server_takes_up_new_keys_and_a_medium_of_the_first_day_follows() {
    let (world, passphrases) = site();
    let [kernel, base, host] = chain();
    let layers = [("kernel", &kernel), ("base", &base), ("host", &host)];
    let paths = layers.map(|(name, layer)| world.written(name, layer));
    let [kernel, base, host] = paths.each_ref().map(String::as_str);
    world.succeeds(&["publish", kernel, base, host, "--accept-missing"]);
    let server = Server::start(&world);
    let stamped = server.curl("/v1/metadata/1.root.json", &[]).body;
    for role in [
        "timestamp",
        "snapshot",
        "targets",
        "base",
        "hosts",
        "plan",
        "root",
    ] {
        let before = of(&shown(&world), role)["keys"].clone();
        let with = ["--passphrase-file", &passphrases];
        world.succeeds(&[&["key", "rotate", role], &with[..]].concat());
        assert_ne!(of(&shown(&world), role)["keys"], before, "{role}");
        let mut root = TrustedRoot::from_stamp(&stamped).expect("the first root");
        loop {
            let next = server.curl(&format!("/v1/metadata/{}", root.next_file()), &[]);
            if next.status == 404 {
                break;
            }
            root = root.rotate(&next.body).expect("the next root");
        }
        let view = |name: &str| server.curl(&format!("/v1/view/example/{name}"), &[]).body;
        let timestamp = root.timestamp(&view("timestamp.json")).expect(role);
        let snapshot = timestamp.next_file();
        let snapshot = timestamp.snapshot(&view(&snapshot)).expect(role);
        let targets = snapshot.next_file();
        let mut all = snapshot.targets(&view(&targets)).expect(role);
        for file in all.role_files() {
            let bytes = view(&file.file());
            all = all.with_role(&file.role, &bytes).expect(role);
        }
        assert_eq!(all.layers().len(), 3, "{role}");
    }
    let plan = server.post("/v1/plan", &request("example"));
    let plan: Value = serde_json::from_slice(&plan.body).expect("a plan");
    let signer = plan["signatures"][0]["keyid"].as_str().expect("a key");
    let rows = shown(&world);
    let named = of(&rows, "plan")["keys"][0]["fingerprint"].as_str();
    assert!(signer.starts_with(&named.expect("a key").replace('-', "")));
}

#[test]
fn a_stolen_root_key_is_replaced_with_the_other_keys_elsewhere() {
    let (world, passphrases) = site();
    let keys = ["keys/root-2.key", "keys/root-3.key"].map(|it| carried(&world, it));
    let rows = shown(&world);
    let stolen = of(&rows, "root")["keys"][0]["fingerprint"].as_str();
    let stolen = stolen.expect("a fingerprint").replace('-', "");
    let too_short = ["key", "rotate", "root", "--replace", &stolen[..11]];
    world.refuses(&too_short, 2, &["there is no key", "towline key show"]);
    let rotate = ["key", "rotate", "root", "--replace", &stolen[..12]];
    let output = world.run(&rotate);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("2.root.json has 0 of 2 signatures"), "{talk}");
    assert!(
        talk.contains("next: where the keys are: towline key sign"),
        "{talk}"
    );

    let document = carried(&world, "to-sign/2.root.json");
    for key in &keys {
        let sign = ["key", "sign", text(&document), "--key", text(key)];
        let unasked = towline(world.folder.path(), &sign);
        assert!(
            String::from_utf8_lossy(&unasked.stderr).contains("next: to sign without a question")
        );
        let sign = [&sign[..], &["--yes"]].concat();
        let without = towline(world.folder.path(), &sign);
        assert_eq!(without.status.code(), Some(2), "it is encrypted");
        let with = [&sign[..], &["--passphrase-file", &passphrases]].concat();
        let signed = towline(world.folder.path(), &with);
        assert!(signed.status.success(), "{signed:?}");
        let said = String::from_utf8_lossy(&signed.stderr);
        assert!(said.contains("this is version 2 of the root"), "{said}");
    }
    fs::rename(&document, world.site().join("to-sign/2.root.json")).expect("it comes back");
    let said = world.succeeds(&rotate);
    assert!(said.contains("the root is version 2 now"), "{said}");
    let rows = shown(&world);
    let keys = of(&rows, "root")["keys"].as_array().expect("keys");
    let files: Vec<_> = keys
        .iter()
        .map(|it| it["file"].as_str().expect("a file"))
        .collect();
    assert_eq!(files, ["root-2.key", "root-3.key", "root-4.key"]);
    assert_eq!(keys[0]["here"], false);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_changes() {
    let (world, _) = site();
    let before = world.timestamp();
    world.refuses(
        &["key", "rotate", "nonsense"],
        2,
        &["no role \"nonsense\"", "key show"],
    );
    world.refuses(
        &["key", "rotate", "plan", "--renew"],
        2,
        &["no date of its own"],
    );
    world.refuses(
        &["key", "rotate", "base", "--replace", "root-1"],
        2,
        &["--replace is for the keys of root or of targets alone"],
    );
    world.refuses(
        &["key", "rotate", "root", "--replace", "root-9"],
        2,
        &["no key root-9 of root"],
    );
    world.refuses(
        &["key", "sign", "towline.toml", "--key", "keys/plan.key"],
        2,
        &["towline.toml"],
    );
    assert_eq!(world.timestamp(), before);
    assert!(!world.site().join("to-sign").exists());
}

#[test]
fn monitoring_reads_until_when_things_are_good() {
    let world = World::new();
    let server = Server::start(&world);
    let answer = server.curl("/metrics", &[]);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(answer.body).expect("UTF-8");
    for what in [
        "root",
        "timestamp",
        "snapshot",
        "targets",
        "base",
        "hosts",
        "authority of this server",
    ] {
        let line = format!("towline_expiry_timestamp_seconds{{what=\"{what}\"}} ");
        let line = text.lines().find_map(|it| it.strip_prefix(line.as_str()));
        let seconds: i64 = line.expect(what).parse().expect("seconds");
        assert!(seconds > 1_790_000_000, "{what}: {seconds}");
    }
    assert_eq!(server.post("/metrics", "").status, 405);
}

#[test]
fn monitoring_sees_a_renewed_root_at_once() {
    let (world, passphrases) = site();
    let server = Server::start(&world);
    let root = || {
        let text = String::from_utf8(server.curl("/metrics", &[]).body).expect("UTF-8");
        let line = "towline_expiry_timestamp_seconds{what=\"root\"} ";
        let line = text.lines().find_map(|it| it.strip_prefix(line));
        line.expect("the root").parse::<i64>().expect("seconds")
    };
    let before = root();
    // Dates have whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let renew = ["key", "rotate", "root", "--renew"];
    world.succeeds(&[&renew[..], &["--passphrase-file", &passphrases]].concat());
    assert!(root() > before);
}

#[test]
fn an_officer_sees_what_differs_from_the_document_before() {
    let (world, _) = site();
    let base = |version: &str, bytes: &[u8]| {
        let mut layer = layer(
            Kind::Base,
            "debian",
            Compression::Zstd,
            &[("etc/it", 0o644, bytes)],
        );
        layer.manifest.version = version.into();
        layer
    };
    let one = base("1", b"one");
    world.succeeds(&["publish", &world.written("one", &one)]);
    let before = world.site().join("store/metadata/2.base.json");
    let key = carried(&world, "keys/base.key");
    let two = base("2", b"two");
    let output = world.run(&["publish", &world.written("two", &two)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let waiting = world.site().join("to-sign/3.base.json");
    let sign = ["key", "sign", text(&waiting), "--key", text(&key), "--yes"];
    let signed = towline(
        world.folder.path(),
        &[&sign[..], &["--before", text(&before)]].concat(),
    );
    let said = String::from_utf8_lossy(&signed.stderr).into_owned();
    let digest = two.manifest.digest.to_string();
    let new = format!("+ layer base/debian/2/amd64: SHA-256 {digest}, manifest ");
    assert!(said.contains(&new), "{said}");
    assert!(!said.contains("base/debian/1"), "{said}");
    // A file that is no earlier version says so: an empty difference would look like consent.
    let root = world.site().join("store/metadata/1.root.json");
    for (wrong, words) in [(&waiting, "says what"), (&root, "no earlier version")] {
        let refused = [&sign[..], &["--before", text(wrong)]].concat();
        let refused = towline(world.folder.path(), &refused);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let talk = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(talk.contains(words), "{talk}");
    }
    world.succeeds(&["publish", &world.written("two", &two)]);
    assert!(world.succeeds(&["catalogue", "list"]).contains("debian"));
}
