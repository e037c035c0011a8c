use super::*;
use crate::config::PlanConfig;
use crate::fixture::{published, session};
use towline_contract::Digest;
use towline_contract::api::Machine;

mod recoveries;

const RELEASE: &str = "6.1.0-1-amd64";

fn config() -> Config {
    toml::from_str("listen = \"127.0.0.1:0\"\nserver_names = [\"localhost\"]").unwrap()
}

fn config_with(edit: impl FnOnce(&mut PlanConfig)) -> Config {
    let mut config = config();
    edit(&mut config.plan);
    config
}

fn moment() -> Moment {
    Moment {
        now: "2026-11-23T22:00:00Z".parse().unwrap(),
        timestamp: TimestampRef {
            version: 3,
            digest: Digest::of(b"timestamp"),
        },
        random: [7; 8],
    }
}

fn request(host: Option<&str>) -> PlanRequest {
    PlanRequest {
        nonce: Digest::of(b"nonce"),
        architecture: "amd64".into(),
        kernel_release: RELEASE.into(),
        host: host.map(Into::into),
        hand_over: None,
        machine: Machine::default(),
    }
}

fn catalogue() -> Vec<Published> {
    vec![
        published(Kind::Agent, "restic", "0.14"),
        published(Kind::Base, "debian", "12"),
        published(Kind::Host, "example", "s1"),
        published(Kind::Host, "other", "s1"),
        published(Kind::Kernel, "debian", "6.1"),
    ]
}

fn targets(plan: &BootPlan) -> Vec<&str> {
    plan.chain.iter().map(|l| l.target.as_str()).collect()
}

/// Publishes a newer version of a layer.
fn newer(catalogue: &mut Vec<Published>, kind: Kind, name: &str, version: &str) {
    let mut layer = published(kind, name, version);
    layer.manifest.created = "2026-01-01T00:00:00Z".parse().unwrap();
    catalogue.push(layer);
}

#[test]
fn a_machine_with_a_host_gets_kernel_base_agent_and_its_own_host_layer_in_this_order() {
    let found = plan(
        &request(Some("example")),
        &catalogue(),
        &config(),
        &moment(),
    )
    .unwrap();
    let expected = [
        "kernel/debian/6.1/amd64",
        "base/debian/12/amd64",
        "agent/restic/0.14/amd64",
        "host/example/s1/amd64",
    ];
    assert_eq!(targets(&found), expected);
    assert_eq!(found.host.as_deref(), Some("example"));
    assert_eq!(found.nonce, Digest::of(b"nonce"));
    assert_eq!(found.recovery, "r-0707070707070707");
    assert_eq!(found.expires.to_string(), "2026-11-23T22:05:00Z");
}

#[test]
fn a_machine_without_a_host_gets_no_host_layer() {
    let found = plan(&request(None), &catalogue(), &config(), &moment()).unwrap();
    assert_eq!(found.chain.len(), 3);
    assert_eq!(found.host, None);
}

#[test]
fn an_unknown_host_is_refused_with_its_name_and_a_next_step() {
    let refusal = plan(
        &request(Some("exmaple")),
        &catalogue(),
        &config(),
        &moment(),
    )
    .unwrap_err();
    assert!(refusal.message.contains("exmaple"));
    assert!(refusal.next.unwrap().contains("towline media show"));
}

#[test]
fn the_newest_layer_of_each_name_is_taken() {
    let mut layers = catalogue();
    newer(&mut layers, Kind::Base, "debian", "13");
    newer(&mut layers, Kind::Host, "example", "s2");
    let found = plan(&request(Some("example")), &layers, &config(), &moment()).unwrap();
    assert!(targets(&found).contains(&"base/debian/13/amd64"));
    assert!(targets(&found).contains(&"host/example/s2/amd64"));
}

#[test]
fn of_a_hosts_sessions_the_newest_point_in_time_is_taken() {
    let mut layers = catalogue();
    for (version, time) in [
        ("s2", "2026-06-02T02:00:00Z"),
        ("s3", "2026-06-01T02:00:00Z"),
    ] {
        newer(&mut layers, Kind::Host, "example", version);
        let time = time.parse().unwrap();
        layers.last_mut().unwrap().manifest.session = Some(session(time, time));
    }
    let found = plan(&request(Some("example")), &layers, &config(), &moment()).unwrap();
    assert_eq!(targets(&found)[3], "host/example/s2/amd64");
}

#[test]
fn a_kernel_layer_for_the_running_kernel_is_preferred_to_a_newer_one() {
    let mut layers = catalogue();
    newer(&mut layers, Kind::Kernel, "debian", "6.12");
    layers.last_mut().unwrap().manifest.kernel_release = Some("6.12.1-amd64".into());
    let found = plan(&request(None), &layers, &config(), &moment()).unwrap();
    assert_eq!(targets(&found)[0], "kernel/debian/6.1/amd64");
    assert_eq!(found.hand_over, HandOver::InPlace);

    let mut other = request(None);
    other.kernel_release = "5.10.0-1-amd64".into();
    let found = plan(&other, &layers, &config(), &moment()).unwrap();
    assert_eq!(targets(&found)[0], "kernel/debian/6.12/amd64");
    assert_eq!(found.hand_over, HandOver::Kexec);
}

#[test]
fn the_operator_at_the_machine_decides_how_it_is_started() {
    let mut asked = request(None);
    asked.hand_over = Some(HandOver::Kexec);
    let found = plan(&asked, &catalogue(), &config(), &moment()).unwrap();
    assert_eq!(found.hand_over, HandOver::Kexec);

    let always = config_with(|plan| plan.hand_over = HandOverChoice::Kexec);
    asked.hand_over = Some(HandOver::InPlace);
    let found = plan(&asked, &catalogue(), &always, &moment()).unwrap();
    assert_eq!(found.hand_over, HandOver::InPlace);
}

#[test]
fn in_place_with_another_kernel_is_refused_and_names_both() {
    let mut asked = request(None);
    asked.kernel_release = "5.10.0-1-amd64".into();
    asked.hand_over = Some(HandOver::InPlace);
    let refusal = plan(&asked, &catalogue(), &config(), &moment()).unwrap_err();
    assert!(refusal.message.contains("5.10.0-1-amd64") && refusal.message.contains(RELEASE));
}

#[test]
fn without_a_base_or_kernel_nothing_boots() {
    for missing in [Kind::Base, Kind::Kernel] {
        let mut layers = catalogue();
        layers.retain(|layer| layer.target.kind != missing);
        let refusal = plan(&request(None), &layers, &config(), &moment()).unwrap_err();
        let expected = format!("no {missing} layer is published here");
        assert_eq!(refusal.message, expected);
    }
}

#[test]
fn without_an_agent_the_rescue_system_still_boots() {
    let mut layers = catalogue();
    layers.retain(|layer| layer.target.kind != Kind::Agent);
    let found = plan(&request(None), &layers, &config(), &moment()).unwrap();
    assert_eq!(found.chain.len(), 2);
}

#[test]
fn an_agent_that_the_configuration_names_must_be_there() {
    let named = config_with(|plan| plan.agents = Some(vec!["cove".into()]));
    let refusal = plan(&request(None), &catalogue(), &named, &moment()).unwrap_err();
    assert!(refusal.message.contains("cove"));
    let none = config_with(|plan| plan.agents = Some(vec![]));
    let found = plan(&request(None), &catalogue(), &none, &moment()).unwrap();
    assert_eq!(found.chain.len(), 2);
}

#[test]
fn extras_come_after_the_agents_all_that_there_are_or_those_that_are_named() {
    let mut layers = catalogue();
    layers.push(published(Kind::Extra, "tools", "1"));
    layers.push(published(Kind::Extra, "ca", "1"));
    newer(&mut layers, Kind::Extra, "ca", "2");
    let found = |config: Config| plan(&request(None), &layers, &config, &moment()).unwrap();
    let all = found(config());
    assert_eq!(
        targets(&all)[2..],
        [
            "agent/restic/0.14/amd64",
            "extra/ca/2/amd64",
            "extra/tools/1/amd64"
        ]
    );
    let one = found(config_with(|plan| plan.extras = Some(vec!["tools".into()])));
    assert_eq!(targets(&one)[3..], ["extra/tools/1/amd64"]);
    assert_eq!(
        found(config_with(|plan| plan.extras = Some(vec![])))
            .chain
            .len(),
        3
    );
    let gone = config_with(|plan| plan.extras = Some(vec!["gone".into()]));
    let refusal = plan(&request(None), &layers, &gone, &moment()).unwrap_err();
    assert_eq!(
        refusal.message,
        "no extra layer called \"gone\" is published here"
    );
    assert!(refusal.next.unwrap().contains("plan.extras"));
}

#[test]
fn two_bases_of_different_names_need_a_choice() {
    let mut layers = catalogue();
    layers.push(published(Kind::Base, "alma", "9"));
    let refusal = plan(&request(None), &layers, &config(), &moment()).unwrap_err();
    assert!(refusal.message.contains("alma, debian"));
    assert!(refusal.next.unwrap().contains("plan.base"));
    let chosen = config_with(|plan| plan.base = Some("alma".into()));
    let found = plan(&request(None), &layers, &chosen, &moment()).unwrap();
    assert_eq!(targets(&found)[1], "base/alma/9/amd64");
}

/// The demonstration's layers, and a kernel and a base that are one host's own.
fn with_a_hosts_own() -> (Vec<Published>, Config) {
    let mut layers = catalogue();
    newer(&mut layers, Kind::Base, "example", "1");
    newer(&mut layers, Kind::Kernel, "example", "1");
    let config = config_with(|plan| {
        let own = crate::config::HostPlan {
            kernel: Some("example".into()),
            base: Some("example".into()),
        };
        plan.hosts.insert("example".into(), own);
    });
    (layers, config)
}

#[test]
fn a_host_with_a_kernel_and_a_base_of_its_own_gets_them_and_no_other_host_does() {
    let (layers, config) = with_a_hosts_own();
    let bases = |host| {
        let found = plan(&request(host), &layers, &config, &moment()).unwrap();
        found.chain[..2]
            .iter()
            .map(|it| it.target.clone())
            .collect::<Vec<_>>()
    };
    let own = ["kernel/example/1/amd64", "base/example/1/amd64"];
    let of_all = ["kernel/debian/6.1/amd64", "base/debian/12/amd64"];
    assert_eq!(bases(Some("example")), own);
    assert_eq!(bases(Some("other")), of_all);
    assert_eq!(bases(None), of_all);
}

#[test]
fn a_recovery_boots_the_hosts_own_base_although_the_machine_does_not_say_which_host_it_is() {
    let (layers, config) = with_a_hosts_own();
    let chosen = |host: &str| Chosen {
        target: format!("host/{host}/s1/all"),
        digest: Digest::of(b""),
        time: moment().now,
        captured: moment().now,
        agent: "restic".into(),
        agent_session: "4bba301e".into(),
    };
    let base = |host| {
        let (request, chosen) = (request(None), chosen(host));
        let parts = recovery_parts(&request, &layers, &config, &chosen);
        parts[1].as_ref().unwrap().target.to_string()
    };
    assert_eq!(base("example"), "base/example/1/amd64");
    assert_eq!(base("other"), "base/debian/12/amd64");
}

#[test]
fn a_host_whose_own_base_is_not_published_gets_no_other() {
    let (mut layers, config) = with_a_hosts_own();
    layers.retain(|it| it.target.kind != Kind::Base || it.target.name != "example");
    let refused = plan(&request(Some("example")), &layers, &config, &moment()).unwrap_err();
    assert_eq!(
        refused.message,
        "no base layer called \"example\" is published here"
    );
}

#[test]
fn layers_of_another_architecture_are_not_taken() {
    let mut asked = request(None);
    asked.architecture = "arm64".into();
    assert!(plan(&asked, &catalogue(), &config(), &moment()).is_err());
}

#[test]
fn more_layers_than_a_chain_may_have_are_refused_here_already() {
    let mut layers = catalogue();
    for number in 0..CHAIN_LAYERS_MAX {
        layers.push(published(Kind::Agent, &format!("agent-{number}"), "1"));
    }
    let refusal = plan(&request(None), &layers, &config(), &moment()).unwrap_err();
    assert!(refusal.next.unwrap().contains("plan.agents"));
}

#[test]
fn the_machine_of_a_drill_is_given_the_sessions_own_chain_and_no_order() {
    let mut catalogue = catalogue();
    newer(&mut catalogue, Kind::Host, "example", "s2");
    catalogue.push(published(Kind::Agent, "borg", "1"));
    let restore = r#"{"restore": ["restic"]}"#;
    catalogue[0].manifest.agent = Some(serde_json::from_str(restore).unwrap());
    let time = moment().now;
    catalogue[2].manifest.session = Some(session(time, time));
    let mut config = config();
    config.trial = Some(Trial {
        id: "d-07".into(),
        host: "example".into(),
        session: crate::recoveries::open::chosen(&catalogue[2]),
        events: "events.jsonl".into(),
    });
    let found = plan(&request(Some("example")), &catalogue, &config, &moment()).unwrap();
    let expected = [
        "kernel/debian/6.1/amd64",
        "base/debian/12/amd64",
        "agent/restic/0.14/amd64",
        "host/example/s1/amd64",
    ];
    assert_eq!(
        targets(&found),
        expected,
        "not the newest session, and its agent alone"
    );
    assert_eq!((found.recovery.as_str(), found.order), ("d-07", None));
    // What it is not for is answered as ever.
    let other = plan(&request(Some("other")), &catalogue, &config, &moment()).unwrap();
    assert_ne!(other.recovery, "d-07");
}
