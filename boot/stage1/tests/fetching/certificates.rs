//! TLS on a machine whose clock is not believed: chain and name count from the first byte, dates once a plan brought the time.

use towline_contract::Timestamp;
use towline_harness::certificate::{Authority, Years};
use towline_harness::proxy::{Fault, Proxy};
use towline_harness::site::TestSite;
use towline_stage1::fetch::{Client, FetchError, Mirrors, Planned, Server, TlsTime};
use towline_stage1::progress::Silent;

use crate::world::{Lines, ask, chain, patience, planned, run};

/// The names that our server has.
const OURS: &[&str] = &["127.0.0.1"];
/// Valid whenever these tests run.
const NOW: Years = 2001..2099;
const PAST: Years = 2001..2002;
const FUTURE: Years = 2098..2099;

struct Front {
    site: TestSite,
    authority: Authority,
}

impl Front {
    fn new() -> Self {
        let (site, authority) = (TestSite::serving(&chain()), Authority::new("ours"));
        Self { site, authority }
    }

    /// The site behind this certificate.
    fn with(&self, issuer: &Authority, names: &[&str], valid: Years) -> Proxy {
        let tls = Some(issuer.server(names, valid));
        let any = ([127, 0, 0, 1], 0).into();
        Proxy::start_on(any, self.site.http, Box::new(|_, _| Fault::None), tls)
    }

    fn plan(&self, proxy: &Proxy) -> Result<Planned, FetchError> {
        let mut settings = self.site.settings(&[proxy.url()]);
        settings.ca = vec![self.authority.pem()];
        run(planned(&settings, &ask(), &Lines::default()))
    }
}

/// Asks for the first manifest, as stage 1 does once it has the plan.
fn go_on(planned: &Planned) -> Result<(), FetchError> {
    let mirrors = Mirrors::of(planned, &Silent);
    run(mirrors.manifest(&planned.chain, 0, &Silent)).map(drop)
}

#[track_caller]
fn assert_refused<T>(found: Result<T, FetchError>, words: &str) {
    let Err(FetchError::Tls { cause, .. }) = found else {
        panic!("not refused: {:?}", found.err());
    };
    assert!(cause.to_string().contains(words), "{cause}");
}

#[test]
fn a_valid_certificate_is_accepted_before_and_after_the_plan() {
    let front = Front::new();
    let proxy = front.with(&front.authority, OURS, NOW);
    go_on(&front.plan(&proxy).unwrap()).unwrap();
}

#[test]
fn a_certificate_outside_its_dates_brings_a_plan_and_nothing_after_it() {
    let front = Front::new();
    for (valid, words) in [(PAST, "expired"), (FUTURE, "not valid yet")] {
        let proxy = front.with(&front.authority, OURS, valid);
        let planned = front.plan(&proxy).unwrap();
        let before = proxy.requests();
        assert_refused(go_on(&planned), words);
        assert_eq!(
            proxy.requests(),
            before,
            "nothing travels over a connection that is refused"
        );
    }
}

#[test]
fn the_chain_counts_before_the_time_is_known() {
    let front = Front::new();
    let stranger = Authority::new("ours");
    for valid in [NOW, PAST, FUTURE] {
        assert_refused(front.plan(&front.with(&stranger, OURS, valid)), "");
    }
}

#[test]
fn the_name_counts_before_the_time_is_known() {
    let front = Front::new();
    for valid in [NOW, PAST, FUTURE] {
        let proxy = front.with(&front.authority, &["elsewhere.example"], valid);
        assert_refused(front.plan(&proxy), "not valid for");
        assert_eq!(proxy.requests(), 0);
    }
}

#[test]
fn an_intermediate_outside_its_dates_is_as_bad_as_the_servers_own() {
    let front = Front::new();
    for (valid, words) in [(PAST, "expired"), (FUTURE, "not valid yet")] {
        let between = front.authority.intermediate("between", valid);
        let planned = front.plan(&front.with(&between, OURS, NOW)).unwrap();
        // The proxy is gone; another one with the same certificates answers the same.
        let proxy = front.with(&between, OURS, NOW);
        let client = planned.client.clone();
        let connected = run(client.connect(&Server::parse(&proxy.url()).unwrap()));
        assert_refused(connected, words);
    }
}

#[test]
fn certificates_that_were_never_valid_together_are_refused_at_any_time() {
    let front = Front::new();
    let between = front.authority.intermediate("between", 2010..2011);
    let proxy = front.with(&between, OURS, 2020..2021);
    assert_refused(front.plan(&proxy), "expired");
}

#[test]
fn the_plans_time_counts_and_not_this_machines_clock() {
    let front = Front::new();
    let proxy = front.with(&front.authority, OURS, PAST);
    let server = Server::parse(&proxy.url()).unwrap();
    for (time, fits) in [
        ("2001-06-01T00:00:00Z", true),
        ("2003-01-01T00:00:00Z", false),
    ] {
        let time: Timestamp = time.parse().unwrap();
        let since = std::time::Instant::now();
        let time = TlsTime::Proven { time, since };
        let client = Client::new(&[front.authority.pem()], time).unwrap();
        let connected = run(client.with_patience(patience()).connect(&server));
        assert_eq!(connected.is_ok(), fits);
    }
}

#[test]
fn without_an_authority_on_the_medium_no_tls_is_spoken() {
    let front = Front::new();
    let proxy = front.with(&front.authority, OURS, NOW);
    let mut settings = front.site.settings(&[proxy.url()]);
    settings.ca = vec![];
    let found = run(planned(&settings, &ask(), &Lines::default()));
    assert_refused(found, "no certificate authority");
}
