//! Stage 1's fetching and placing against the real server, straight and through a proxy that stalls, lies and cuts off.

#![expect(clippy::unwrap_used, reason = "a test that lacks something fails")]

mod certificates;
mod lanes;
mod mirrors;
mod on_target;
mod placing;
mod plans;
mod process;
mod recoveries;
mod world;

use towline_contract::limits::CHUNK_BYTES;
use towline_contract::trust::ChunkError;
use towline_harness::proxy::{Fault, Proxy};
use towline_harness::site::{TestSite, add};
use towline_stage1::fetch::FetchError;

use crate::world::{Lines, assert_placed, base_path, boot, chain};

#[test]
fn a_chain_is_fetched_over_tls_and_placed() {
    let site = TestSite::serving(&chain());
    let (into, lines) = (tempfile::tempdir().unwrap(), Lines::default());
    let settings = site.settings(&[format!("https://{}", site.https)]);
    boot(&settings, into.path(), &lines).unwrap();
    assert_placed(into.path());
}

#[test]
fn a_flipped_bit_is_named_and_the_other_mirror_goes_on() {
    let lying = base_path();
    let site = TestSite::serving(&chain());
    let script = move |path: &str, _| match path == lying {
        true => Fault::Flip(CHUNK_BYTES + 99),
        false => Fault::None,
    };
    let liar = Proxy::start(site.http, Box::new(script));
    let (into, lines) = (tempfile::tempdir().unwrap(), Lines::default());
    let honest = TestSite::with(&[], |config| config.mirrors = vec![liar.url()]);
    add(&honest.dir(), &chain());
    let settings = honest.settings(&[format!("http://{}", honest.http)]);
    boot(&settings, into.path(), &lines).unwrap();
    assert_placed(into.path());
    let named = format!(
        "{} is not trusted for layer base/debian/1/amd64: chunk 1",
        liar.url()
    );
    lines.expect(&named);
    let chunk = chain()[1].manifest.chunks[1];
    lines.expect(&format!("but {} is signed", chunk.short()));
    lines.expect(&format!("going on with http://{}", honest.http));
}

#[test]
fn a_layer_that_every_mirror_falsifies_is_refused() {
    let lying = base_path();
    let site = TestSite::serving(&chain());
    let script = move |path: &str, _| match path == lying {
        true => Fault::Flip(5),
        false => Fault::None,
    };
    let liar = Proxy::start(site.http, Box::new(script));
    let into = tempfile::tempdir().unwrap();
    let found = boot(
        &site.settings(&[liar.url()]),
        into.path(),
        &Lines::default(),
    );
    let Err(FetchError::EveryMirrorLies { cause, .. }) = found else {
        panic!("{found:?}")
    };
    assert!(matches!(*cause, ChunkError::Digest { index: 0, .. }));
    let used = into.path().join("upper/sbin/init").exists();
    assert!(!used, "nothing of a chunk is used before it is verified");
}
