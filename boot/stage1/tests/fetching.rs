//! Stage 1's fetching and placing against the real server, straight and through a proxy that stalls, lies and cuts off.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use towline_contract::api::{Machine, PlanRequest};
use towline_contract::limits::CHUNK_BYTES;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::plan::HandOver;
use towline_contract::stamp::Settings;
use towline_contract::trust::{ChunkError, ExpiryPolicy, TrustError};
use towline_contract::{Digest, Timestamp};
use towline_harness::layer::{Layer, layer, noise};
use towline_harness::proxy::{Fault, Proxy};
use towline_harness::site::{TestSite, add};
use towline_stage1::fetch::{Ask, FetchError, Mirrors, Planned, plan};
use towline_stage1::place::{Mounting, PlaceError, Root};
use towline_stage1::progress::Progress;

/// Remembers every line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn add(&self, text: std::fmt::Arguments<'_>) {
        self.0.lock().unwrap().push(text.to_string());
    }

    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Progress for Lines {
    fn step(&self, text: std::fmt::Arguments<'_>) {
        self.add(text);
    }
    fn transfer(&self, _: &str, _: u64, _: u64) {}
    fn note(&self, text: std::fmt::Arguments<'_>) {
        self.add(text);
    }
    fn warn(&self, text: std::fmt::Arguments<'_>) {
        self.add(text);
    }
}

/// Content of the base layer's large file: three chunks and a bit.
fn large() -> Vec<u8> {
    noise(7, 3 * (1 << 20) + 12_345)
}

fn chain() -> Vec<Layer> {
    vec![
        layer(
            Kind::Kernel,
            "linux",
            Compression::Zstd,
            &[("boot/vmlinuz-6.1.0-test", 0o644, b"kernel")],
        ),
        layer(
            Kind::Base,
            "debian",
            Compression::None,
            &[
                ("sbin/init", 0o755, b"init"),
                ("usr/large", 0o644, &large()),
            ],
        ),
        layer(
            Kind::Agent,
            "restic",
            Compression::Zstd,
            &[("usr/bin/restic", 0o755, b"agent")],
        ),
        layer(
            Kind::Host,
            "example",
            Compression::Zstd,
            &[("etc/hostname", 0o644, b"example\n")],
        ),
    ]
}

fn ask() -> Ask {
    Ask {
        request: PlanRequest {
            nonce: Digest::from([0; 32]),
            architecture: "amd64".into(),
            kernel_release: "6.1.0-test".into(),
            host: Some("example".into()),
            hand_over: Some(HandOver::InPlace),
            machine: Machine::default(),
        },
        floor: Timestamp::UNIX_EPOCH,
        expiry: ExpiryPolicy::Refuse,
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

async fn planned(settings: &Settings, lines: &Lines) -> Result<Planned, FetchError> {
    plan::plan(settings, &ask(), lines).await
}

/// Everything from the plan to the placed root.
fn boot(settings: &Settings, into: &Path, lines: &Lines) -> Result<(), FetchError> {
    run(async {
        let planned = planned(settings, lines).await?;
        let mirrors = Mirrors::of(&planned)?;
        let mut root = Root::create(into, Mounting::None)?;
        for index in 0..planned.chain.layers.len() {
            let manifest = mirrors.manifest(&planned.chain, index, lines).await?;
            let mut sink = root.layer(&manifest)?;
            mirrors
                .layer(&manifest, &mut |chunk| sink.chunk(chunk), lines)
                .await?;
            sink.finish()?;
        }
        root.finish()?;
        Ok(())
    })
}

fn assert_placed(into: &Path) {
    let read = |name: &str| {
        fs::read(into.join("upper").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    assert_eq!(read("sbin/init"), b"init");
    assert!(
        read("usr/large") == large(),
        "the large file has other bytes"
    );
    assert_eq!(read("usr/bin/restic"), b"agent");
    assert_eq!(read("etc/hostname"), b"example\n");
}

fn base_path() -> String {
    format!("/v1/layers/{}", chain()[1].manifest.digest)
}

#[test]
fn a_chain_is_fetched_over_tls_and_placed() {
    let site = TestSite::serving(&chain());
    let (into, lines) = (tempfile::tempdir().unwrap(), Lines::default());
    let settings = site.settings(&[format!("https://{}", site.https)]);
    boot(&settings, into.path(), &lines).unwrap();
    assert_placed(into.path());
}

#[test]
fn a_server_that_is_gone_is_passed_over_for_the_next() {
    let site = TestSite::serving(&chain());
    let (into, lines) = (tempfile::tempdir().unwrap(), Lines::default());
    let settings = site.settings(&[
        "https://127.0.0.1:1".into(),
        format!("https://{}", site.https),
    ]);
    boot(&settings, into.path(), &lines).unwrap();
    assert_placed(into.path());
    assert!(
        lines
            .all()
            .contains("https://127.0.0.1:1 cannot be reached"),
        "{}",
        lines.all()
    );
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (site, other) = (TestSite::serving(&chain()), TestSite::serving(&[]));
    let mut settings = site.settings(&[format!("https://{}", site.https)]);
    settings.ca = other.settings(&[]).ca;
    let found = run(planned(&settings, &Lines::default()));
    assert!(matches!(found, Err(FetchError::Tls { .. })));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let site = TestSite::with(&chain(), |config| {
        config.server_names = vec!["backup.example".into()]
    });
    let settings = site.settings(&[format!("https://{}", site.https)]);
    let found = run(planned(&settings, &Lines::default()));
    assert!(matches!(found, Err(FetchError::Tls { .. })));
}

#[test]
fn the_catalogue_of_another_site_is_refused() {
    let (site, other) = (TestSite::serving(&chain()), TestSite::serving(&chain()));
    let mut settings = site.settings(&[format!("http://{}", site.http)]);
    settings.root = other.settings(&[]).root;
    let found = run(planned(&settings, &Lines::default()));
    assert!(matches!(found, Err(FetchError::Trust { .. })));
}

#[test]
fn a_plan_signed_with_a_strangers_key_is_refused() {
    let (site, stranger) = (TestSite::serving(&chain()), TestSite::serving(&chain()));
    let lines = Lines::default();
    let request = serde_json::to_vec(&ask().request).unwrap();
    let forged = run(async {
        let client =
            towline_stage1::fetch::Client::new(&[], towline_stage1::fetch::TlsTime::Unproven)?;
        let server = towline_stage1::fetch::Server::parse(&format!("http://{}", stranger.http))?;
        client
            .connect(&server)
            .await?
            .post("/v1/plan", request, 1 << 20)
            .await
    });
    let forged = forged.unwrap();
    let proxy = Proxy::start(
        site.http,
        Box::new(move |path, _| {
            if path == "/v1/plan" {
                Fault::Replace(forged.clone())
            } else {
                Fault::None
            }
        }),
    );
    let found = run(planned(&site.settings(&[proxy.url()]), &lines));
    let Err(FetchError::Trust { cause, .. }) = found else {
        panic!("a forged plan was taken")
    };
    assert!(matches!(*cause, TrustError::Signatures { .. }), "{cause:?}");
}

#[test]
fn a_replayed_plan_is_refused() {
    let site = TestSite::serving(&chain());
    let request = serde_json::to_vec(&ask().request).unwrap();
    let old = run(async {
        let client =
            towline_stage1::fetch::Client::new(&[], towline_stage1::fetch::TlsTime::Unproven)?;
        let server = towline_stage1::fetch::Server::parse(&format!("http://{}", site.http))?;
        client
            .connect(&server)
            .await?
            .post("/v1/plan", request, 1 << 20)
            .await
    });
    let old = old.unwrap();
    let proxy = Proxy::start(
        site.http,
        Box::new(move |path, _| {
            if path == "/v1/plan" {
                Fault::Replace(old.clone())
            } else {
                Fault::None
            }
        }),
    );
    let found = run(planned(&site.settings(&[proxy.url()]), &Lines::default()));
    let Err(FetchError::Trust { cause, .. }) = found else {
        panic!("a replayed plan was taken")
    };
    assert!(matches!(*cause, TrustError::Nonce { .. }), "{cause:?}");
}

#[test]
fn an_endless_answer_is_cut_at_its_bound() {
    let site = TestSite::serving(&chain());
    for path in ["/v1/plan", "/v1/metadata/timestamp.json"] {
        let proxy = Proxy::start(
            site.http,
            Box::new(move |asked, _| {
                if asked == path {
                    Fault::Endless(8 << 20)
                } else {
                    Fault::None
                }
            }),
        );
        let found = run(planned(&site.settings(&[proxy.url()]), &Lines::default()));
        assert!(matches!(found, Err(FetchError::TooLarge { .. })), "{path}");
    }
}

#[test]
fn a_flipped_bit_is_named_and_the_other_mirror_goes_on() {
    let lying = base_path();
    let site = TestSite::serving(&chain());
    let proxy = Proxy::start(
        site.http,
        Box::new(move |path, _| {
            if path == lying {
                Fault::Flip(CHUNK_BYTES + 99)
            } else {
                Fault::None
            }
        }),
    );
    let (into, lines) = (tempfile::tempdir().unwrap(), Lines::default());
    // The plan comes through the liar as well; then layers come from the mirror first, and from the liar not at all.
    let honest = TestSite::with(&[], |config| config.mirrors = vec![proxy.url()]);
    add(&honest.dir(), &chain());
    let settings = honest.settings(&[format!("http://{}", honest.http)]);
    boot(&settings, into.path(), &lines).unwrap();
    assert_placed(into.path());
    let said = lines.all();
    assert!(
        said.contains("is not trusted for layer base/debian/1/amd64: chunk 1"),
        "{said}"
    );
    assert!(said.contains("going on with"), "{said}");
}

#[test]
fn a_layer_that_every_mirror_falsifies_is_refused() {
    let lying = base_path();
    let site = TestSite::serving(&chain());
    let proxy = Proxy::start(
        site.http,
        Box::new(move |path, _| {
            if path == lying {
                Fault::Flip(5)
            } else {
                Fault::None
            }
        }),
    );
    let into = tempfile::tempdir().unwrap();
    let found = boot(
        &site.settings(&[proxy.url()]),
        into.path(),
        &Lines::default(),
    );
    let Err(FetchError::EveryMirrorLies { cause, .. }) = found else {
        panic!("{found:?}")
    };
    assert!(matches!(*cause, ChunkError::Digest { index: 0, .. }));
    assert!(
        !into.path().join("upper/sbin/init").exists(),
        "nothing of a chunk is used before it is verified"
    );
}

#[test]
fn a_broken_download_resumes_at_the_first_byte_that_is_not_verified() {
    let (broken, tries) = (base_path(), AtomicUsize::new(0));
    let site = TestSite::serving(&chain());
    let proxy = Proxy::start(
        site.http,
        Box::new(move |path, _| {
            match (
                path == broken,
                tries.fetch_add(usize::from(path == broken), Ordering::SeqCst),
            ) {
                (true, 0) => Fault::CutAfter(usize::try_from(CHUNK_BYTES).unwrap() + 5000),
                _ => Fault::None,
            }
        }),
    );
    let (into, lines) = (tempfile::tempdir().unwrap(), Lines::default());
    boot(&site.settings(&[proxy.url()]), into.path(), &lines).unwrap();
    assert_placed(into.path());
    let said = lines.all();
    assert!(
        said.contains(&format!("stopped after {CHUNK_BYTES} of")),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "resuming layer base/debian/1/amd64 at byte {CHUNK_BYTES}"
        )),
        "{said}"
    );
}

#[test]
fn a_host_layer_that_carries_a_program_is_refused() {
    let mut layers = chain();
    layers[3] = layer(
        Kind::Host,
        "example",
        Compression::Zstd,
        &[("usr/bin/bash", 0o755, b"#!/bin/evil")],
    );
    let site = TestSite::serving(&layers);
    let into = tempfile::tempdir().unwrap();
    let found = boot(
        &site.settings(&[format!("http://{}", site.http)]),
        into.path(),
        &Lines::default(),
    );
    let Err(FetchError::Place(error)) = found else {
        panic!("{found:?}")
    };
    let PlaceError::Lane(error) = *error else {
        panic!("{error:?}")
    };
    // Its folder comes before it, and is refused already.
    assert_eq!(error.entry.as_deref(), Some("usr/bin"), "{error}");
    assert!(!into.path().join("upper/usr/bin/bash").exists());
}

#[test]
fn an_agent_that_replaces_a_program_of_the_base_is_refused() {
    let mut layers = chain();
    layers[2] = layer(
        Kind::Agent,
        "restic",
        Compression::Zstd,
        &[("sbin/init", 0o755, b"evil")],
    );
    let site = TestSite::serving(&layers);
    let into = tempfile::tempdir().unwrap();
    let found = boot(
        &site.settings(&[format!("http://{}", site.http)]),
        into.path(),
        &Lines::default(),
    );
    let Err(FetchError::Place(error)) = found else {
        panic!("{found:?}")
    };
    assert!(
        matches!(&*error, PlaceError::Over { path, .. } if path == "sbin/init"),
        "{error:?}"
    );
    assert_eq!(
        fs::read(into.path().join("upper/sbin/init")).unwrap(),
        b"init"
    );
}

/// Faults of a mirror that end by themselves, so that a boot through it must succeed.
fn passing_fault() -> impl Strategy<Value = Fault> {
    let bytes = 0..3_500_000_usize;
    prop_oneof![
        Just(Fault::None),
        Just(Fault::WholeFile),
        Just(Fault::Status(503)),
        bytes.prop_map(Fault::CutAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn whatever_a_mirror_does_the_bytes_are_right_or_there_are_none(
        faults in prop::collection::vec(passing_fault(), 0..3),
        flip in prop::option::of(0..3_000_000_u64),
    ) {
        let (broken, tries) = (base_path(), AtomicUsize::new(0));
        let site = TestSite::serving(&chain());
        let proxy = Proxy::start(site.http, Box::new(move |path, _| {
            if path != broken {
                return Fault::None;
            }
            let fault = faults.get(tries.fetch_add(1, Ordering::SeqCst)).cloned();
            fault.unwrap_or_else(|| flip.map_or(Fault::None, Fault::Flip))
        }));
        let into = tempfile::tempdir().unwrap();
        match boot(&site.settings(&[proxy.url()]), into.path(), &Lines::default()) {
            Ok(()) => assert_placed(into.path()),
            Err(FetchError::EveryMirrorLies { .. }) => prop_assert!(flip.is_some()),
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}
