//! The bodies of the boot API: pinned as text, read back, and what becomes of fields that are not theirs.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use towline_contract::api::{ErrorBody, Machine, PlanRequest};
use towline_contract::event::{CheckResult, Event, What};
use towline_contract::plan::HandOver;

/// Checks that `value` is written as `text` and read from it; gives what becomes of `text` with one more field.
fn pinned<T>(value: &T, text: &str) -> Result<T, serde_json::Error>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
    serde_json::from_str(&text.replacen('{', r#"{"unknown":1,"#, 1))
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
        token: None,
        uptime_seconds: 12,
        what,
    };
    let head = r#"{"recovery":"r-1","uptime_seconds":12,"event":"#;
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
fn an_error_body_is_as_documented() {
    let body = ErrorBody {
        message: "no such host".into(),
        next: Some("enrol it".into()),
    };
    let more = pinned(&body, r#"{"message":"no such host","next":"enrol it"}"#);
    assert!(more.is_err());
}
