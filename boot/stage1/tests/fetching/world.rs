//! What the tests share: a small chain, a client that does not wait long, and every line that was said.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use towline_contract::api::{Machine, PlanRequest};
use towline_contract::lanes::{LayerPolicy, POLICY_TARGET};
use towline_contract::manifest::{Compression, Kind, Manifest};
use towline_contract::plan::HandOver;
use towline_contract::stamp::Settings;
use towline_contract::trust::metadata::TargetFile;
use towline_contract::trust::{ExpiryPolicy, Verified};
use towline_contract::{Digest, Timestamp};
use towline_harness::layer::{Layer, layer, noise};
use towline_harness::site::{TestSite, add_with};
use towline_stage1::fetch::plan::plan_with;
use towline_stage1::fetch::{Ask, Client, FetchError, Mirrors, Patience, Planned, Server, TlsTime};
use towline_stage1::place::{Mounting, Root};
use towline_stage1::progress::{Progress, Silent};

/// Remembers every line.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn add(&self, text: std::fmt::Arguments<'_>) {
        self.0.lock().unwrap().push(text.to_string());
    }

    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    #[track_caller]
    pub(crate) fn expect(&self, words: &str) {
        assert!(
            self.all().contains(words),
            "{words:?} is not in\n{}",
            self.all()
        );
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
pub(crate) fn large() -> Vec<u8> {
    noise(7, 3 * (1 << 20) + 12_345)
}

/// Size of a chunk, as an index.
pub(crate) const CHUNK: usize = 1 << 20;
const _: () = assert!(CHUNK as u64 == towline_contract::limits::CHUNK_BYTES);

/// Target name of the layer with the large file.
pub(crate) const BASE: &str = "base/debian/1/amd64";

pub(crate) fn kernel() -> Layer {
    let files: &[_] = &[("boot/vmlinuz-6.1.0-test", 0o644, b"kernel".as_slice())];
    layer(Kind::Kernel, "linux", Compression::Zstd, files)
}

pub(crate) fn base() -> Layer {
    let files: &[_] = &[
        ("sbin/init", 0o755, b"init".as_slice()),
        ("usr/large", 0o644, &large()),
    ];
    layer(Kind::Base, "debian", Compression::None, files)
}

pub(crate) fn chain() -> Vec<Layer> {
    let agent: &[_] = &[("usr/bin/restic", 0o755, b"agent".as_slice())];
    let host: &[_] = &[("etc/hostname", 0o644, b"example\n".as_slice())];
    vec![
        kernel(),
        base(),
        layer(Kind::Agent, "restic", Compression::Zstd, agent),
        layer(Kind::Host, "example", Compression::Zstd, host),
    ]
}

/// Path of the stored base layer on a server.
pub(crate) fn base_path() -> String {
    format!("/v1/layers/{}", base().manifest.digest)
}

pub(crate) fn assert_placed(into: &Path) {
    let read = |name: &str| {
        fs::read(into.join("upper").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert_eq!(read("sbin/init"), b"init");
    assert!(
        read("usr/large") == large(),
        "the large file has other bytes"
    );
    assert_eq!(read("usr/bin/restic"), b"agent");
    assert_eq!(read("etc/hostname"), b"example\n");
}

pub(crate) fn ask() -> Ask {
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
        versions: BTreeMap::new(),
        expiry: ExpiryPolicy::Refuse,
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

/// Long enough for a busy machine, short enough for a test of what never comes.
pub(crate) fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(10),
        stall: Duration::from_secs(2),
        document: Duration::from_secs(4),
        progress: Duration::from_secs(30),
        least_rate: 64 << 10,
        rate_over: Duration::from_secs(30),
        pause: Duration::from_millis(10),
        pause_max: Duration::from_millis(100),
    }
}

/// A client that speaks plain HTTP.
pub(crate) fn plain() -> Client {
    Client::new(&[], TlsTime::Unproven)
        .unwrap()
        .with_patience(patience())
}

pub(crate) async fn planned(
    settings: &Settings,
    ask: &Ask,
    lines: &Lines,
) -> Result<Planned, FetchError> {
    let client = Client::new(&settings.ca, TlsTime::Unproven)?.with_patience(patience());
    plan_with(&client, settings, ask, lines).await
}

/// Everything from the plan to the placed root.
pub(crate) fn boot(settings: &Settings, into: &Path, lines: &Lines) -> Result<(), FetchError> {
    run(async {
        let planned = planned(settings, &ask(), lines).await?;
        let mirrors = Mirrors::of(&planned, lines);
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

/// A site whose plan and manifests are verified; its layers are not fetched yet.
pub(crate) struct Ready {
    pub(crate) site: TestSite,
    pub(crate) manifests: Vec<Verified<Manifest>>,
}

impl Ready {
    pub(crate) fn serving(layers: &[Layer]) -> Self {
        Self::of(TestSite::serving(layers), layers)
    }

    /// A site that has this policy, and these layers, which need not keep to it.
    pub(crate) fn keeping_to(policy: &LayerPolicy, layers: &[Layer]) -> Self {
        let site = TestSite::serving(layers);
        let target = TargetFile::of_policy(policy).unwrap();
        add_with(&site.dir(), &[], |targets| {
            targets.targets.insert(POLICY_TARGET.into(), target);
        });
        Self::of(site, layers)
    }

    fn of(site: TestSite, layers: &[Layer]) -> Self {
        let settings = site.settings(&[format!("http://{}", site.http)]);
        let mut ask = ask();
        ask.request.host = layers
            .iter()
            .any(|it| it.manifest.kind == Kind::Host)
            .then(|| "example".into());
        let manifests = run(async {
            let planned = planned(&settings, &ask, &Lines::default()).await?;
            let mirrors = Mirrors::of(&planned, &Silent);
            let mut manifests = Vec::new();
            for index in 0..planned.chain.layers.len() {
                manifests.push(mirrors.manifest(&planned.chain, index, &Silent).await?);
            }
            Ok::<_, FetchError>(manifests)
        });
        let manifests = manifests.unwrap();
        Self { site, manifests }
    }

    /// Manifest of the base layer.
    pub(crate) fn base(&self) -> &Verified<Manifest> {
        self.manifests
            .iter()
            .find(|it| it.kind == Kind::Base)
            .unwrap()
    }

    /// Fetches the base layer from these mirrors; gives its stored bytes.
    pub(crate) fn fetch(
        &self,
        mirrors: &[String],
        patience: Patience,
        lines: &Lines,
    ) -> Result<Vec<u8>, FetchError> {
        let servers: Result<Vec<_>, _> = mirrors.iter().map(|url| Server::parse(url)).collect();
        let mirrors = Mirrors::new(plain().with_patience(patience), servers?);
        let mut bytes = Vec::new();
        let mut sink = |chunk: Verified<Vec<u8>>| {
            bytes.extend_from_slice(&chunk);
            Ok(())
        };
        run(mirrors.layer(self.base(), &mut sink, lines))?;
        Ok(bytes)
    }
}
