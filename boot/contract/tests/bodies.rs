//! The bodies of the boot API: pinned as text, read back, and what becomes of fields that are not theirs.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use towline_contract::api::{
    Enrolled, Enrolment, EnrolmentState, ErrorBody, HostState, Machine, NewSession, PlanRequest,
    RecoveryAnswer, RecoveryRequest,
};
use towline_contract::event::{CheckResult, Event, What};
use towline_contract::plan::HandOver;
use towline_contract::recovery::{CredentialsRef, Order, Recover, Then};
use towline_contract::seal::SealTo;
use towline_contract::trust::{PublicKey, SigningKey};

/// Checks that `value` is written as `text` and read from it; gives what becomes of `text` with one more field.
fn pinned<T>(value: &T, text: &str) -> Result<T, serde_json::Error>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
    serde_json::from_str(&text.replacen('{', r#"{"unknown":1,"#, 1))
}

fn seal_to() -> SealTo {
    serde_json::from_str(&format!("\"{}\"", "02".repeat(32))).unwrap()
}

#[test]
fn a_plan_request_is_as_documented() {
    let request = PlanRequest {
        nonce: [7; 32].into(),
        architecture: "amd64".into(),
        kernel_release: "6.1.0-41-amd64".into(),
        host: Some("web1".into()),
        hand_over: Some(HandOver::Kexec),
        machine: Machine {
            macs: vec!["52:54:00:12:34:56".into()],
            uuid: None,
            serial: None,
            model: Some("QEMU".into()),
            memory_kib: 1_048_576,
            uefi: true,
        },
    };
    let more = pinned(
        &request,
        r#"{"nonce":"0707070707070707070707070707070707070707070707070707070707070707","architecture":"amd64","kernel_release":"6.1.0-41-amd64","host":"web1","hand_over":"kexec","machine":{"macs":["52:54:00:12:34:56"],"model":"QEMU","memory_kib":1048576,"uefi":true}}"#,
    );
    assert!(more.is_err());
}

#[test]
fn events_are_as_documented() {
    let event = |what| Event {
        recovery: "r-1".into(),
        number: 7,
        uptime_seconds: 12,
        what,
    };
    let head = r#"{"recovery":"r-1","number":7,"uptime_seconds":12,"event":"#;
    let check = CheckResult {
        layer: "agent/restic/1/amd64".into(),
        name: "restic".into(),
        passed: true,
        output: "restic 0.14.0".into(),
    };
    let rows = [
        (What::PlanVerified, r#""plan-verified"}"#),
        (
            What::LayerPlaced {
                target: "base/debian/1/amd64".into(),
                bytes: 5,
                milliseconds: 7,
            },
            r#""layer-placed","target":"base/debian/1/amd64","bytes":5,"milliseconds":7}"#,
        ),
        (
            What::HandOver {
                how: HandOver::InPlace,
            },
            r#""hand-over","how":"in-place"}"#,
        ),
        (
            What::RescueReady {
                checks: vec![check],
                memory_used_kib: 9,
            },
            r#""rescue-ready","checks":[{"layer":"agent/restic/1/amd64","name":"restic","passed":true,"output":"restic 0.14.0"}],"memory_used_kib":9}"#,
        ),
        (
            What::Failed {
                message: "no".into(),
            },
            r#""failed","message":"no"}"#,
        ),
    ];
    for (what, rest) in rows {
        let event = event(what);
        assert_eq!(pinned(&event, &format!("{head}{rest}")).unwrap(), event);
    }
}

#[test]
fn the_events_of_a_recovery_are_as_documented() {
    let rows = [
        (
            What::RecoveryStarted {
                session: "20261101-1".into(),
            },
            r#""recovery-started","session":"20261101-1"}"#,
        ),
        (
            What::LayoutRecreated { seconds: 3 },
            r#""layout-recreated","seconds":3}"#,
        ),
        (
            What::Restoring {
                bytes: 5,
                total: None,
            },
            r#""restoring","bytes":5,"total":null}"#,
        ),
        (
            What::Restored {
                bytes: 5,
                seconds: 7,
            },
            r#""restored","bytes":5,"seconds":7}"#,
        ),
        (
            What::Recovered {
                seconds: 9,
                checks: vec![],
            },
            r#""recovered","seconds":9,"checks":[]}"#,
        ),
        (
            What::FirstBoot {
                hostname: "web1".into(),
                kernel_release: "6.1.0".into(),
                key: None,
            },
            r#""first-boot","hostname":"web1","kernel_release":"6.1.0"}"#,
        ),
    ];
    for (what, rest) in rows {
        let event = Event {
            recovery: "r-1".into(),
            number: 7,
            uptime_seconds: 12,
            what,
        };
        let head = r#"{"recovery":"r-1","number":7,"uptime_seconds":12,"event":"#;
        assert_eq!(pinned(&event, &format!("{head}{rest}")).unwrap(), event);
    }
}

#[test]
fn an_event_of_a_medium_from_before_they_were_signed_is_still_read_and_its_token_is_not_kept() {
    let text = r#"{"recovery":"r-1","token":"t0ken","uptime_seconds":12,"event":"plan-verified"}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    assert_eq!((event.number, &event.what), (0, &What::PlanVerified));
    assert!(!serde_json::to_string(&event).unwrap().contains("t0ken"));
}

#[test]
fn a_request_with_a_code_and_its_answer_are_as_documented() {
    let request = RecoveryRequest {
        code: "K7QF-2M9X-TR4P".to_owned().into(),
        seal_to: seal_to(),
        request: PlanRequest {
            nonce: [7; 32].into(),
            architecture: "amd64".into(),
            kernel_release: "6.1.0".into(),
            host: None,
            hand_over: None,
            machine: Machine::default(),
        },
    };
    let text = r#"{"code":"K7QF-2M9X-TR4P","seal_to":"0202020202020202020202020202020202020202020202020202020202020202","request":{"nonce":"0707070707070707070707070707070707070707070707070707070707070707","architecture":"amd64","kernel_release":"6.1.0","machine":{"macs":[],"memory_kib":0,"uefi":false}}}"#;
    assert!(pinned(&request, text).is_err());
    let answer = RecoveryAnswer {
        plan: "{}".into(),
        credentials: Some("AAAA".to_owned().into()),
        host: Some("web1".into()),
        host_layer: Some("BBBB".to_owned().into()),
    };
    let text = r#"{"plan":"{}","credentials":"AAAA","host":"web1","host_layer":"BBBB"}"#;
    assert!(pinned(&answer, text).is_err());
}

#[test]
fn the_orders_of_a_plan_are_as_documented() {
    let ask = |seal_to| Order::AskCode { seal_to };
    assert!(pinned(&ask(None), r#"{"do":"ask-code"}"#).is_err());
    let text = r#"{"do":"ask-code","seal_to":"0202020202020202020202020202020202020202020202020202020202020202"}"#;
    assert!(pinned(&ask(Some(seal_to())), text).is_err());
    let order = Order::Recover(Recover {
        unattended: true,
        overwrite: false,
        then: Then::PowerOff,
        credentials: Some(CredentialsRef {
            digest: [1; 32].into(),
            bytes: 5,
            entries: 2,
        }),
        report_token: [2; 32].into(),
    });
    let text = r#"{"do":"recover","unattended":true,"overwrite":false,"then":"power-off","credentials":{"digest":"0101010101010101010101010101010101010101010101010101010101010101","bytes":5,"entries":2},"report_token":"0202020202020202020202020202020202020202020202020202020202020202"}"#;
    assert!(pinned(&order, text).is_err());
}

#[test]
fn what_hosts_send_and_are_told_is_as_documented() {
    let key: PublicKey = SigningKey::generate([9; 32]).public();
    let public = key.keyval.public.clone().unwrap();
    let enrolment = Enrolment {
        host: "web1".into(),
        hostname: "web1.example".into(),
        key: key.clone(),
        machine: Machine::default(),
    };
    let text = format!(
        r#"{{"host":"web1","hostname":"web1.example","key":{{"keytype":"ed25519","scheme":"ed25519","keyval":{{"public":"{public}"}}}},"machine":{{"macs":[],"memory_kib":0,"uefi":false}}}}"#
    );
    assert!(pinned(&enrolment, &text).is_err());
    let enrolled = Enrolled {
        state: EnrolmentState::Waiting,
    };
    assert!(pinned(&enrolled, r#"{"state":"waiting"}"#).is_err());
    let state = HostState {
        predecessor: None,
        key: key.id(),
        state: EnrolmentState::Approved,
        sessions: Some("{}".into()),
        retired: vec!["20261101-1".into()],
    };
    let text = format!(
        r#"{{"key":"{}","state":"approved","sessions":"{{}}","retired":["20261101-1"]}}"#,
        key.id()
    );
    assert!(pinned(&state, &text).is_err());
    let session = NewSession {
        sessions: "{}".into(),
        manifest: "{}".into(),
        layer: "AAAA".into(),
    };
    let text = r#"{"sessions":"{}","manifest":"{}","layer":"AAAA"}"#;
    assert!(pinned(&session, text).is_err());
}

#[test]
fn an_error_body_is_as_documented() {
    let body = ErrorBody {
        message: "no such host".into(),
        next: Some("enrol it".into()),
    };
    let more = pinned(&body, r#"{"message":"no such host","next":"enrol it"}"#);
    assert!(more.is_err());
}
