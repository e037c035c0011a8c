//! Plans of recoveries.

use super::*;
use crate::recoveries::fixture::opened;
use towline_contract::agent::Agent;
use towline_contract::recovery::{CredentialsRef, Order};

fn agent(name: &str, version: &str) -> Published {
    let mut layer = published(Kind::Agent, name, version);
    let agent = serde_json::from_str::<Agent>(r#"{"restore": ["restore"]}"#);
    layer.manifest.agent = Some(agent.unwrap());
    layer
}

/// A catalogue with two agents and two sessions of `web1`, of which `s1` is the older.
fn catalogue() -> Vec<Published> {
    let mut layers = super::catalogue();
    layers.retain(|it| it.target.kind != Kind::Agent);
    layers.extend([agent("restic", "0.14"), agent("borg", "1.2")]);
    layers.push(published(Kind::Host, "web1", "s1"));
    newer(&mut layers, Kind::Host, "web1", "s2");
    layers
}

fn secrets() -> Secrets {
    Secrets {
        credentials: CredentialsRef {
            digest: Digest::of(b"secret"),
            bytes: 6,
            entries: 1,
        },
        report_token: Digest::of(b"token"),
    }
}

fn planned(layers: &[Published]) -> Result<BootPlan, Refusal> {
    let (request, it) = (request(None), opened("web1"));
    recovery(&request, layers, &config(), &moment(), &it, secrets())
}

#[test]
fn a_recovery_has_its_sessions_agent_and_the_very_session_that_was_chosen() {
    let found = planned(&catalogue()).unwrap();
    let expected = [
        "kernel/debian/6.1/amd64",
        "base/debian/12/amd64",
        "agent/restic/0.14/amd64",
        "host/web1/s1/amd64",
    ];
    assert_eq!(targets(&found), expected);
    assert_eq!(found.host.as_deref(), Some("web1"));
    assert_eq!(found.recovery, opened("web1").id);
    let Some(Order::Recover(order)) = found.order else {
        panic!("it orders a recovery");
    };
    assert_eq!(order.credentials, Some(secrets().credentials));
    assert_eq!(order.report_token, secrets().report_token);
}

#[test]
fn a_recovery_has_the_extras_between_its_agent_and_its_session() {
    let mut layers = catalogue();
    layers.push(published(Kind::Extra, "ca", "1"));
    let found = planned(&layers).unwrap();
    let expected = [
        "agent/restic/0.14/amd64",
        "extra/ca/1/amd64",
        "host/web1/s1/amd64",
    ];
    assert_eq!(targets(&found)[2..], expected);
}

#[test]
fn a_recovery_does_not_wait_for_an_extra_that_is_not_there_and_says_so() {
    let named = config_with(|plan| plan.extras = Some(vec!["ca".into(), "gone".into()]));
    let mut layers = catalogue();
    layers.push(published(Kind::Extra, "ca", "1"));
    let (request, it) = (request(None), opened("web1"));
    let found = recovery(&request, &layers, &named, &moment(), &it, secrets()).unwrap();
    assert_eq!(targets(&found)[3], "extra/ca/1/amd64");
    let gone = missing_extras(&request, &layers, &named, &it.session);
    assert_eq!(gone.len(), 1);
    assert!(gone[0].message.contains("\"gone\""), "{gone:?}");
    assert_eq!(
        missing_extras(&request, &layers, &config(), &it.session),
        []
    );
}

#[test]
fn a_session_that_vanished_or_changed_is_refused_and_never_replaced() {
    let mut layers = catalogue();
    layers.retain(|it| it.target.version != "s1" || it.target.name != "web1");
    let refusal = planned(&layers).unwrap_err();
    assert!(
        refusal.message.contains("host/web1/s1/amd64"),
        "{refusal:?}"
    );
    let mut other = published(Kind::Host, "web1", "s1");
    other.manifest.digest = Digest::of(b"other bytes");
    layers.push(other);
    assert!(planned(&layers).is_err());
}

#[test]
fn what_the_layers_of_a_recovery_lack_is_told_and_the_plan_is_made_all_the_same() {
    let mut layers = catalogue();
    let session = opened("web1").session;
    let lacks = |layers: &[Published]| lacking(&request(None), layers, &config(), &session);
    let restore = ("agent/restic/0.14/amd64".to_owned(), "restore".to_owned());
    assert_eq!(lacks(&layers), [restore]);
    planned(&layers).unwrap();
    let base = layers.iter_mut().find(|it| it.target.kind == Kind::Base);
    base.unwrap().manifest.provides.programs = vec!["/usr/bin/restore".into()];
    assert_eq!(lacks(&layers), []);
    assert_eq!(lacks(&[]), [], "no chain, nothing to lack");
}

#[test]
fn what_the_kernel_of_a_recovery_cannot_read_is_told_when_it_is_started_by_kexec() {
    let mut layers = catalogue();
    let session = opened("web1").session;
    let kernel = layers.iter_mut().find(|it| it.target.kind == Kind::Kernel);
    let kernel = &mut kernel.unwrap().manifest;
    kernel.provides.modules = vec!["CONFIG_BLK_DEV_INITRD".into(), "CONFIG_RD_GZIP".into()];
    let (request, config) = (request(None), config());
    let told = |how| unread(&request, &layers, &config, &session, how).len();
    assert_eq!(told(HandOver::Kexec), 4, "all of the chain are zstd");
    assert_eq!(told(HandOver::InPlace), 0);
}

#[test]
fn the_newest_layer_of_the_agent_is_taken() {
    let mut layers = catalogue();
    let mut newest = agent("restic", "0.17");
    newest.manifest.created = "2026-01-01T00:00:00Z".parse().unwrap();
    layers.push(newest);
    let found = planned(&layers).unwrap();
    assert!(targets(&found).contains(&"agent/restic/0.17/amd64"));
}

#[test]
fn of_two_agents_with_files_of_one_day_the_greater_version_is_taken() {
    let mut layers = catalogue();
    layers.retain(|it| it.target.name != "restic");
    layers.extend(["0.9", "0.10"].map(|version| agent("restic", version)));
    let found = planned(&layers).unwrap();
    assert!(targets(&found).contains(&"agent/restic/0.10/amd64"));
}

#[test]
fn without_the_agent_that_made_the_backup_there_is_no_recovery() {
    let mut layers = catalogue();
    layers.retain(|it| it.target.name != "restic");
    assert!(planned(&layers).unwrap_err().message.contains("\"restic\""));
    layers.push(published(Kind::Agent, "restic", "0.14"));
    let refusal = planned(&layers).unwrap_err();
    assert!(refusal.message.contains("how a session is restored"));
}
