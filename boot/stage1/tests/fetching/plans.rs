//! Plans that are forged, old, late or expired, and servers that do not give one.

use std::time::Duration;

use towline_contract::Timestamp;
use towline_contract::trust::{ExpiryPolicy, TrustError};
use towline_harness::proxy::{Fault, Proxy};
use towline_harness::site::{TestSite, add, add_with};
use towline_stage1::fetch::{FetchError, Server};

use crate::world::{Lines, ask, chain, plain, planned, run};

const PLAN: &str = "/v1/plan";

/// A plan of this site for a nonce that nobody will send again.
fn plan_of(site: &TestSite) -> Vec<u8> {
    let request = serde_json::to_vec(&ask().request).unwrap();
    run(async {
        let server = Server::parse(&format!("http://{}", site.http))?;
        plain()
            .connect(&server)
            .await?
            .post(PLAN, request, 1 << 20)
            .await
    })
    .unwrap()
}

/// The timestamp that this site gives now.
fn timestamp_of(site: &TestSite) -> Vec<u8> {
    run(async {
        let server = Server::parse(&format!("http://{}", site.http))?;
        let path = "/v1/view/example/timestamp.json";
        plain().connect(&server).await?.get(path, 1 << 20).await
    })
    .unwrap()
}

/// What becomes of a plan request when the answer to `path` is treated like this.
fn answered(site: &TestSite, path: &'static str, fault: Fault) -> (FetchError, Lines) {
    let script = move |asked: &str, _| {
        if asked == path {
            fault.clone()
        } else {
            Fault::None
        }
    };
    let proxy = Proxy::start(site.http, Box::new(script));
    let lines = Lines::default();
    let found = run(planned(&site.settings(&[proxy.url()]), &ask(), &lines));
    (found.err().expect("no plan"), lines)
}

#[track_caller]
fn cause(error: FetchError) -> TrustError {
    match error {
        FetchError::Trust { cause, .. } => *cause,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_plan_signed_with_a_strangers_key_is_refused() {
    let (site, stranger) = (TestSite::serving(&chain()), TestSite::serving(&chain()));
    let (error, _) = answered(&site, PLAN, Fault::Replace(plan_of(&stranger)));
    assert!(matches!(cause(error), TrustError::Signatures { .. }));
}

#[test]
fn a_replayed_plan_is_refused() {
    let site = TestSite::serving(&chain());
    let (error, _) = answered(&site, PLAN, Fault::Replace(plan_of(&site)));
    assert!(matches!(cause(error), TrustError::Nonce { .. }));
}

#[test]
fn a_plan_with_one_bit_changed_is_refused() {
    let site = TestSite::serving(&chain());
    let length = plan_of(&site).len() as u64;
    for at in [0, length / 3, length / 2, length - 40] {
        let (error, _) = answered(&site, PLAN, Fault::Flip(at));
        assert!(
            matches!(error, FetchError::Trust { .. }),
            "bit in byte {at}: {error:?}"
        );
    }
}

#[test]
fn the_catalogue_of_another_site_is_refused() {
    let (site, other) = (TestSite::serving(&chain()), TestSite::serving(&chain()));
    let mut settings = site.settings(&[format!("http://{}", site.http)]);
    settings.root = other.settings(&[]).root;
    let found = run(planned(&settings, &ask(), &Lines::default()));
    assert!(matches!(found, Err(FetchError::Trust { .. })));
}

#[test]
fn every_answer_has_a_bound_on_its_bytes() {
    let site = TestSite::serving(&chain());
    for path in [
        PLAN,
        "/v1/view/example/timestamp.json",
        "/v1/view/example/2.root.json",
    ] {
        // The answer to a root that does not exist is an error with a body, after which the connection is of no use.
        let (error, _) = answered(&site, path, Fault::Flood);
        let cut = matches!(
            error,
            FetchError::TooLarge { .. } | FetchError::Broken { .. }
        );
        assert!(cut, "{path}: {error:?}");
    }
}

#[test]
fn a_server_that_drips_is_left_and_asked_again() {
    let site = TestSite::serving(&chain());
    let slow = Fault::DripAfter(10, Duration::from_millis(100));
    let (error, lines) = answered(&site, PLAN, slow);
    assert!(matches!(error, FetchError::Slow { .. }), "{error:?}");
    assert_eq!(lines.all().matches("asking").count(), 3, "{}", lines.all());
}

#[test]
fn a_server_that_fails_once_is_asked_again() {
    let site = TestSite::serving(&chain());
    let script = |_: &str, number| {
        if number == 0 {
            Fault::Status(503)
        } else {
            Fault::None
        }
    };
    let proxy = Proxy::start(site.http, Box::new(script));
    let lines = Lines::default();
    run(planned(&site.settings(&[proxy.url()]), &ask(), &lines)).unwrap();
    lines.expect("answered 503");
}

#[test]
fn a_servers_refusal_is_shown_in_its_words_and_not_asked_for_again() {
    let site = TestSite::serving(&chain());
    let mut ask = ask();
    ask.request.host = Some("unknown".into());
    let lines = Lines::default();
    let url = format!("http://{}", site.http);
    let found = run(planned(&site.settings(&[url]), &ask, &lines));
    let Err(FetchError::Status {
        body: Some(body), ..
    }) = &found
    else {
        panic!("{:?}", found.err());
    };
    assert!(body.message.contains("unknown"), "{body:?}");
    lines.expect(&body.message);
    assert_eq!(lines.all().matches("asking").count(), 1);
}

#[test]
fn a_server_that_is_gone_is_passed_over_for_the_next() {
    let site = TestSite::serving(&chain());
    let gone = "https://127.0.0.1:1".to_owned();
    let settings = site.settings(&[gone, "no URL".into(), format!("https://{}", site.https)]);
    let lines = Lines::default();
    run(planned(&settings, &ask(), &lines)).unwrap();
    lines.expect("https://127.0.0.1:1 cannot be reached");
    lines.expect("\"no URL\" is no URL of a server");
}

#[test]
fn of_several_failures_the_one_to_decide_about_is_told() {
    let (site, other) = (TestSite::serving(&chain()), TestSite::serving(&chain()));
    let urls = [
        "http://127.0.0.1:1".to_owned(),
        format!("http://{}", other.http),
    ];
    let found = run(planned(&site.settings(&urls), &ask(), &Lines::default()));
    assert!(matches!(found, Err(FetchError::Trust { .. })));
}

#[test]
fn a_plan_from_before_the_medium_was_made_is_refused() {
    let site = TestSite::serving(&chain());
    let mut ask = ask();
    ask.floor = "2090-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
    let url = format!("http://{}", site.http);
    let found = run(planned(&site.settings(&[url]), &ask, &Lines::default()));
    assert!(matches!(
        cause(found.err().unwrap()),
        TrustError::Clock { .. }
    ));
}

#[test]
fn an_expired_catalogue_is_refused_until_a_person_accepts_it() {
    let site = TestSite::serving(&[]);
    add_with(&site.dir(), &chain(), |targets| {
        targets.header.expires = Timestamp::UNIX_EPOCH;
    });
    let settings = site.settings(&[format!("http://{}", site.http)]);
    let mut ask = ask();
    let found = run(planned(&settings, &ask, &Lines::default()));
    assert!(matches!(
        cause(found.err().unwrap()),
        TrustError::Expired(_)
    ));
    ask.expiry = ExpiryPolicy::Accept;
    let lines = Lines::default();
    let planned = run(planned(&settings, &ask, &lines)).unwrap();
    assert_eq!(planned.chain.expired.len(), 1);
    lines.expect("accepted all the same");
}

#[test]
fn a_catalogue_that_changes_between_plan_and_metadata_is_asked_for_again() {
    let site = TestSite::serving(&chain());
    // Somebody has read the view of a moment ago, so that the server still has it.
    let old = timestamp_of(&site);
    add(&site.dir(), &[]);
    // Plan, root, and then the timestamp of a moment ago.
    let script = move |path: &str, number| match (path, number) {
        ("/v1/view/example/timestamp.json", ..=3) => Fault::Replace(old.clone()),
        _ => Fault::None,
    };
    let proxy = Proxy::start(site.http, Box::new(script));
    let lines = Lines::default();
    run(planned(&site.settings(&[proxy.url()]), &ask(), &lines)).unwrap();
    lines.expect("its catalogue may have just changed");
}

#[test]
fn a_medium_without_a_root_asks_nobody() {
    let site = TestSite::serving(&chain());
    let mut settings = site.settings(&[format!("http://{}", site.http)]);
    settings.root = None;
    let lines = Lines::default();
    let found = run(planned(&settings, &ask(), &lines));
    assert!(matches!(found, Err(FetchError::NoRoot)));
    assert_eq!(lines.all(), "");
}
