//! A recovery code at the real server: the plan that recovers, for media that name a host and media that do not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use towline_contract::event::What;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::plan::HandOver;
use towline_contract::recovery::{Code, Order};
use towline_contract::session::Session;
use towline_contract::stamp::Settings;
use towline_contract::trust::metadata::TargetFile;
use towline_contract::trust::{SigningKey, host_sessions, next_sessions, sign};
use towline_contract::{Digest, Timestamp};
use towline_harness::certificate::Authority;
use towline_harness::eavesdropper::Eavesdropper;
use towline_harness::layer::{Layer, layer};
use towline_harness::proxy::{Fault, Proxy};
use towline_harness::site::TestSite;
use towline_server::catalogue::{self, HostFile, NewLayer};
use towline_server::hosts;
use towline_server::recoveries::open::{Wanted, chosen};
use towline_server::recoveries::{Options, State};
use towline_stage1::fetch::recovery::with_code;
use towline_stage1::fetch::{Ask, FetchError, Planned};
use towline_stage1::report::Reporter;

use crate::world::{Lines, ask, base, kernel, planned, run};

const HOST: &str = "web1";

fn agent() -> Layer {
    let files: &[_] = &[("usr/bin/restic", 0o755, b"agent".as_slice())];
    let mut agent = layer(Kind::Agent, "restic", Compression::Zstd, files);
    let restore = json!({"restore": ["restic", "restore", "{session}"]});
    agent.manifest.agent = Some(serde_json::from_value(restore).unwrap());
    agent
}

fn session() -> Session {
    let now = Timestamp::now();
    serde_json::from_value(json!({
        "time": now, "captured": now, "hostname": HOST, "rear": "2.7",
        "backup": {"agent": "restic", "version": "0.14.0", "session": "4bba301e"},
        "hardware": {"architecture": "amd64", "uefi": false, "secure_boot": false, "memory_kib": 1 << 20,
            "pci": [], "modules": [], "disks": [], "boot_loaders": []},
    }))
    .unwrap()
}

fn host() -> Layer {
    let files: &[_] = &[("etc/hostname", 0o644, b"web1\n".as_slice())];
    let mut host = layer(Kind::Host, HOST, Compression::Zstd, files);
    host.manifest.session = Some(session());
    host
}

/// Adds the session that the host itself signs.
fn add_signed(site: &TestSite) {
    let (key, now, layer) = (SigningKey::generate([7; 32]), Timestamp::now(), host());
    hosts::approve(&site.site, HOST, &key.public(), now).unwrap();
    let bytes = layer.manifest.to_bytes();
    let mut sessions = next_sessions(None);
    let file = TargetFile::of_layer(&layer.manifest, &bytes);
    sessions.targets.insert(layer.manifest.target_name(), file);
    let signed = sign(&sessions, &[&key]).unwrap();
    let path = site.dir().join("session.layer");
    fs::write(&path, &layer.stored).unwrap();
    let new = NewLayer {
        path,
        manifest: layer.manifest,
        manifest_bytes: bytes,
    };
    let file = HostFile {
        predecessor: None,
        sessions: host_sessions(&signed, HOST, &key.public()).unwrap(),
        bytes: signed,
    };
    let store = &site.site.store;
    let _lock = store.lock().unwrap();
    let view = catalogue::view(store).unwrap();
    catalogue::add_session(&site.site, &view, HOST, &file, &new, now).unwrap();
}

/// Opens a recovery of the host's session.
fn open(site: &TestSite) -> Code {
    let store = &site.site.store;
    let view = catalogue::view(store).unwrap();
    let mut layers = catalogue::layers(store, &view).unwrap();
    layers.extend(catalogue::host_layers(store, &view, HOST).unwrap());
    let session = layers.iter().find(|it| it.target.kind == Kind::Host);
    let wanted = Wanted {
        session: chosen(session.unwrap()).unwrap(),
        host: HOST.into(),
        life: Duration::from_secs(3600),
        options: Options::default(),
        by: "a test".into(),
    };
    let opened = site.site.recoveries().open(wanted, Timestamp::now());
    opened.unwrap().1
}

fn asking(host: Option<&str>) -> Ask {
    let mut ask = ask();
    ask.request.host = host.map(Into::into);
    ask.request.machine.macs = vec!["52:54:00:00:00:01".into()];
    ask
}

/// The plan without a code, then the one for it.
fn exchanged(site: &TestSite, host: Option<&str>, code: &Code) -> Result<Planned, FetchError> {
    let settings = site.settings(&[format!("https://{}", site.https)]);
    let ask = asking(host);
    run(async {
        let first = planned(&settings, &ask, &Lines::default()).await?;
        let order = &first.chain.plan.order;
        assert!(matches!(order, Some(Order::AskCode { seal_to: Some(_) })));
        assert_eq!(first.chain.plan.host.as_deref(), host);
        with_code(&first, &settings, &ask, code).await
    })
}

#[track_caller]
fn recovers(planned: &Planned) {
    let plan = &planned.chain.plan;
    assert_eq!(plan.host.as_deref(), Some(HOST));
    assert_eq!(plan.chain.last().unwrap().target, "host/web1/1/amd64");
    assert!(planned.credentials.is_some());
    let came = planned.host_layer.as_ref().unwrap();
    assert_eq!(**came, host().stored, "the host's layer came with the plan");
    let Some(Order::Recover(order)) = &plan.order else {
        panic!("{:?}", plan.order);
    };
    let token = planned.report_token.as_ref().unwrap();
    assert_eq!(order.report_token, Digest::of(token.as_bytes()));
}

#[test]
fn a_medium_that_names_no_host_recovers_the_one_whose_code_is_typed() {
    let site = TestSite::serving(&[kernel(), base(), agent()]);
    add_signed(&site);
    let code = open(&site);
    recovers(&exchanged(&site, None, &code).unwrap());
    let all = site.site.recoveries().all(Timestamp::now()).unwrap();
    assert_eq!(all[0].state, State::Started);
}

#[test]
fn a_medium_that_names_the_host_recovers_it_and_another_does_not() {
    let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&site);
    recovers(&exchanged(&site, Some(HOST), &code).unwrap());
    let other = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&other);
    let settings = other.settings(&[format!("https://{}", other.https)]);
    let refused = run(async {
        let first = planned(&settings, &asking(Some(HOST)), &Lines::default()).await?;
        with_code(&first, &settings, &asking(Some("web2")), &code).await
    });
    let error = refused.err().unwrap();
    assert!(
        matches!(error, FetchError::Status { status: 403, .. }),
        "{error:?}"
    );
}

#[test]
fn a_wrong_code_is_refused_and_the_right_one_still_good() {
    let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&site);
    let wrong: Code = "2222-2222-2222".parse().unwrap();
    let error = exchanged(&site, None, &wrong).err().unwrap();
    assert!(
        matches!(error, FetchError::Status { status: 403, .. }),
        "{error:?}"
    );
    recovers(&exchanged(&site, None, &code).unwrap());
}

#[test]
fn a_code_is_never_sent_in_clear() {
    let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&site);
    let settings = site.settings(&[format!("http://{}", site.http)]);
    let refused = run(async {
        let first = planned(&settings, &asking(None), &Lines::default()).await?;
        with_code(&first, &settings, &asking(None), &code).await
    });
    assert!(matches!(refused.err().unwrap(), FetchError::CodeInClear(_)));
}

#[test]
fn a_code_is_never_sent_to_who_has_a_stolen_key_and_a_certificate_outside_its_dates() {
    let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&site);
    let authority = Authority::new("ours");
    for years in [2001..2002, 2098..2099] {
        // Whoever has it reads all that is sent: the proxy ends TLS.
        let tls = Some(authority.server(&["127.0.0.1"], years));
        let any = ([127, 0, 0, 1], 0).into();
        let thief = Proxy::start_on(any, site.http, Box::new(|_, _| Fault::None), tls);
        let mut settings = site.settings(&[thief.url()]);
        settings.ca = vec![authority.pem()];
        let (refused, asked_before) = run(async {
            let first = planned(&settings, &asking(None), &Lines::default()).await?;
            assert!(matches!(
                first.chain.plan.order,
                Some(Order::AskCode { .. })
            ));
            let asked_before = thief.requests();
            let refused = with_code(&first, &settings, &asking(None), &code).await;
            Ok::<_, FetchError>((refused.err(), asked_before))
        })
        .unwrap();
        assert!(
            matches!(refused, Some(FetchError::Tls { .. })),
            "{refused:?}"
        );
        assert_eq!(thief.requests(), asked_before, "nothing reaches the thief");
    }
}
/// A site's recovery by way of somebody who ends the machine's TLS, with a certificate that the machine accepts.
struct Overheard {
    site: TestSite,
    code: Code,
    eavesdropper: Eavesdropper,
    settings: Settings,
}

impl Overheard {
    fn new() -> Self {
        let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
        let code = open(&site);
        let (authority, ca) = (
            Authority::new("ours"),
            fs::read_to_string(site.dir().join("ca/ca.pem")).unwrap(),
        );
        let tls = authority.server(&["127.0.0.1"], 2001..2099);
        let eavesdropper = Eavesdropper::start(site.https, &ca, tls);
        let mut settings = site.settings(&[eavesdropper.url()]);
        settings.ca = vec![authority.pem()];
        Self {
            site,
            code,
            eavesdropper,
            settings,
        }
    }

    fn close(&self) {
        let all = self.site.site.recoveries();
        let recovery = all.all(Timestamp::now()).unwrap().remove(0);
        all.close(&recovery.id, "a test", Timestamp::now()).unwrap();
    }

    async fn first(&self) -> Result<Planned, FetchError> {
        planned(&self.settings, &asking(None), &Lines::default()).await
    }

    async fn with_code(&self, first: &Planned) -> Result<Planned, FetchError> {
        with_code(first, &self.settings, &asking(None), &self.code).await
    }
}

#[test]
fn whoever_ends_the_tls_reads_neither_code_nor_credentials_nor_the_hosts_layer() {
    let overheard = Overheard::new();
    let recovery = run(async { overheard.with_code(&overheard.first().await?).await }).unwrap();
    recovers(&recovery);

    let heard = |bytes: &[u8]| overheard.eavesdropper.heard(bytes);
    for public in [&b"POST /v1/recovery"[..], b"towline-plan", b"TOWSEAL1"] {
        assert!(heard(public), "it hears what is not sealed");
    }
    let code = overheard.code.to_string();
    let token = recovery.report_token.as_ref().unwrap();
    let credentials = &recovery.credentials.as_ref().unwrap().chunk;
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let pieces = [credentials.as_slice(), &host().stored].map(|it| it[..96].to_vec());
    let encoded = pieces.clone().map(|it| base64(&it).into_bytes());
    let texts = [
        code.as_bytes(),
        token.as_bytes(),
        b"PRIVATE KEY",
        b"run/towline/credentials",
    ];
    for secret in texts
        .into_iter()
        .map(<[u8]>::to_vec)
        .chain(pieces)
        .chain(encoded)
    {
        assert!(!heard(&secret), "{}", secret.escape_ascii());
    }
}

/// The last event in what was heard: a request, head and body.
fn last_event(heard: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(heard);
    let start = text.rfind("POST /v1/events").unwrap();
    let end = text[start..].find("}HTTP/1.1").map(|it| it + 1);
    let request = end.map_or(&text[start..], |end| &text[start..start + end]);
    request.as_bytes().to_vec()
}

/// Sends these bytes, and gives the status.
fn send_raw(to: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(request).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn whoever_ends_the_tls_reads_a_machines_reports_and_can_neither_forge_nor_repeat_them() {
    let overheard = Overheard::new();
    let recovery = run(async { overheard.with_code(&overheard.first().await?).await }).unwrap();
    let (recoveries, to) = (overheard.site.site.recoveries(), overheard.site.http);
    let id = &recovery.chain.plan.recovery;
    let state = || recoveries.get(id, Timestamp::now()).unwrap().unwrap().state;
    let journal = || recoveries.journal(id).unwrap().len();
    let report = |what: What| run(async { Reporter::of(&recovery).send(what).await });
    let session = "1".to_owned();
    report(What::RecoveryStarted { session }).unwrap();
    assert_eq!(state(), State::Recovering);
    let token = recovery.report_token.as_ref().unwrap();
    assert!(!overheard.eavesdropper.heard(token.as_bytes()));

    let heard = last_event(&overheard.eavesdropper.all());
    let before = journal();
    assert_eq!(send_raw(to, &heard), 204, "nothing happens by it");
    assert_eq!((state(), journal()), (State::Recovering, before));
    let text = String::from_utf8(heard.clone()).unwrap();
    let forged = text.replace("\"session\":\"1\"", "\"session\":\"2\"");
    assert_ne!(forged, text);
    assert_eq!(send_raw(to, forged.as_bytes()), 403);
    let header = text.lines().find(|it| it.starts_with("towline-signature"));
    let unsigned = text.replace(&format!("{}\r\n", header.unwrap()), "");
    assert_ne!(unsigned, text);
    assert_eq!(send_raw(to, unsigned.as_bytes()), 403);

    let message = "no disk".to_owned();
    report(What::Failed { message }).unwrap();
    assert_eq!(send_raw(to, &heard), 409, "it began before it failed");
    assert!(matches!(state(), State::Failed { .. }));
    assert_eq!(journal(), before + 1);
}

#[test]
fn reports_that_are_sent_at_once_all_arrive_in_the_order_of_their_numbers() {
    let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&site);
    let recovery = exchanged(&site, None, &code).unwrap();
    let recoveries = site.site.recoveries();
    let id = &recovery.chain.plan.recovery;
    let before = recoveries.journal(id).unwrap().len();
    run(async {
        let reporter = Reporter::of(&recovery);
        for bytes in 0..8 {
            let target = "base/debian/1/amd64".to_owned();
            reporter.send_meanwhile(What::LayerPlaced {
                target,
                bytes,
                milliseconds: 1,
            });
        }
        tokio::task::yield_now().await;
        let how = HandOver::InPlace;
        reporter.send(What::HandOver { how }).await
    })
    .unwrap();
    assert_eq!(recoveries.journal(id).unwrap().len(), before + 9);
}

/// The sealed requests in what was heard, in the order in which they were sent.
fn sealed_requests(heard: &[u8]) -> Vec<&[u8]> {
    let starts = |bytes: &[u8]| {
        let wanted = b"POST /v1/recovery";
        bytes.windows(wanted.len()).position(|it| it == wanted)
    };
    let (mut rest, mut found) = (heard, Vec::new());
    while let Some(start) = starts(rest) {
        rest = &rest[start..];
        let end = rest.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        found.push(&rest[end..end + length]);
        rest = &rest[end + length..];
    }
    found
}

#[test]
fn each_try_of_a_code_is_sealed_anew() {
    let site = TestSite::serving(&[kernel(), base(), agent(), host()]);
    let code = open(&site);
    let authority = Authority::new("ours");
    let tls = || authority.server(&["127.0.0.1", "localhost"], 2001..2099);
    let tries = AtomicUsize::new(0);
    // Answered by nothing that is of use, in every way: 421 has the fetcher itself try again.
    let script = move |path: &str, _: usize| match path {
        "/v1/recovery" => match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Fault::Status(421),
            1 | 2 => Fault::Status(503),
            3 => Fault::CutAfter(5),
            4 => Fault::Silence,
            _ => Fault::Status(409),
        },
        _ => Fault::None,
    };
    let any = ([127, 0, 0, 1], 0).into();
    let failing = Proxy::start_on(any, site.http, Box::new(script), Some(tls()));
    let eavesdropper = Eavesdropper::start(failing.address, &authority.pem(), tls());
    let mut settings = site.settings(&[eavesdropper.url()]);
    settings.ca = vec![authority.pem()];
    let ask = asking(None);
    run(async {
        let first = planned(&settings, &ask, &Lines::default()).await.unwrap();
        for _ in 0..5 {
            assert!(with_code(&first, &settings, &ask, &code).await.is_err());
        }
    });
    let heard = eavesdropper.all();
    let sealed = sealed_requests(&heard);
    assert_eq!(sealed.len(), 6);
    // Another key each time, and so nothing that is the same but the format.
    let keys: BTreeSet<_> = sealed.iter().map(|it| &it[8..40]).collect();
    assert_eq!(keys.len(), sealed.len(), "a request was sent again");
}

#[test]
fn a_server_that_was_started_again_names_its_new_key_and_takes_the_code() {
    let overheard = Overheard::new();
    let again = overheard.site.served_again();
    let recovery = run(async {
        let first = overheard.first().await?;
        overheard.eavesdropper.turn_to(again.https);
        overheard.with_code(&first).await
    });
    recovers(&recovery.unwrap());
    assert!(overheard.eavesdropper.heard(b"HTTP/1.1 421"));
}

#[test]
fn a_machine_whose_answer_was_lost_has_its_code_taken_again_by_a_new_key() {
    let overheard = Overheard::new();
    let again = run(async {
        let first = overheard.first().await?;
        recovers(&overheard.with_code(&first).await?);
        assert!(!overheard.eavesdropper.heard(b"HTTP/1.1 421"));
        overheard.with_code(&first).await
    });
    let again = again.unwrap();
    recovers(&again);
    assert!(overheard.eavesdropper.heard(b"HTTP/1.1 421"));
    // It is the last answer's key that the machine is heard by.
    run(async { Reporter::of(&again).send(What::PlanVerified).await }).unwrap();
}

#[test]
fn a_recovery_that_was_closed_before_its_code_came_to_another_key_is_told_to_be_open_no_more() {
    let overheard = Overheard::new();
    let again = overheard.site.served_again();
    let refused = run(async {
        let first = overheard.first().await?;
        overheard.close();
        overheard.eavesdropper.turn_to(again.https);
        overheard.with_code(&first).await
    });
    let error = refused.err().unwrap();
    assert!(matches!(error, FetchError::NoRecovery(_)), "{error:?}");
}

#[test]
fn a_code_is_not_sent_to_a_server_whose_plan_names_no_key() {
    let overheard = Overheard::new();
    // As the plans of servers that know nothing of sealing: without a recovery to be open, no plan names a key.
    overheard.close();
    let refused = run(async {
        let first = overheard.first().await?;
        assert_eq!(first.chain.plan.order, None);
        overheard.with_code(&first).await
    });
    assert!(matches!(refused.err().unwrap(), FetchError::NoKey(_)));
    assert!(overheard.eavesdropper.heard(b"POST /v1/plan"));
    assert!(!overheard.eavesdropper.heard(b"POST /v1/recovery"));
}
