use super::*;
use crate::recoveries::fixture::{NOW, machine, opened, signer};

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn report(event: What) -> Happened {
    Happened::Reported {
        address: [192, 0, 2, 1].into(),
        uptime_seconds: 1,
        number: 1,
        event,
    }
}

fn code_used() -> Happened {
    Happened::CodeUsed {
        machine: machine(&["52:54:00:00:00:01"], "a"),
        address: [192, 0, 2, 1].into(),
        report_key: Some(signer(5).public()),
        chain: vec![],
    }
}

/// The state after all of these.
fn after(events: &[Happened]) -> Recovery {
    let start = opened("web1");
    events
        .iter()
        .fold(start, |it, what| apply(&it, what, now()))
}

fn placed(bytes: u64) -> Happened {
    report(What::LayerPlaced {
        target: "base/debian/12/amd64".into(),
        bytes,
        milliseconds: 1,
    })
}

fn restoring(bytes: u64) -> Happened {
    let total = Some(100);
    report(What::Restoring { bytes, total })
}

fn failed() -> Happened {
    let message = "no disk\nbecause: none".into();
    report(What::Failed { message })
}

fn recovered() -> Happened {
    report(What::Recovered {
        seconds: 9,
        checks: vec![],
    })
}

fn started_again() -> Happened {
    let session = "s1".into();
    report(What::RecoveryStarted { session })
}

fn first_boot() -> Happened {
    report(What::FirstBoot {
        hostname: "web1".into(),
        kernel_release: "6.1".into(),
        key: None,
    })
}

#[test]
fn a_recovery_goes_from_step_to_step_and_is_closed_by_the_first_boot() {
    let layout = report(What::LayoutRecreated { seconds: 3 });
    let restored = report(What::Restored {
        bytes: 99,
        seconds: 5,
    });
    let all = [
        (code_used(), State::Started),
        (report(What::PlanVerified), State::Started),
        (
            placed(5),
            State::Layers {
                placed: 1,
                bytes: 5,
            },
        ),
        (
            placed(7),
            State::Layers {
                placed: 2,
                bytes: 12,
            },
        ),
        (started_again(), State::Recovering),
        (layout, State::Recreated),
        (
            restoring(50),
            State::Restoring {
                bytes: 50,
                total: Some(100),
            },
        ),
        (restored, State::Restored { bytes: 99 }),
        (recovered(), State::Recovered { seconds: 9 }),
    ];
    let mut recovery = opened("web1");
    for (what, state) in all {
        recovery = apply(&recovery, &what, now());
        assert_eq!(recovery.state, state, "{what:?}");
    }
    let closed = apply(&recovery, &first_boot(), now());
    assert!(matches!(
        closed.state,
        State::Closed {
            recovered: true,
            ..
        }
    ));
    assert_eq!(apply(&closed, &failed(), now()), closed, "nothing follows");
}

#[test]
fn an_event_that_was_overtaken_does_not_lead_back() {
    let recovery = after(&[code_used(), restoring(50), placed(5)]);
    assert!(matches!(recovery.state, State::Restoring { bytes: 50, .. }));
    let recovery = after(&[
        code_used(),
        recovered(),
        failed(),
        restoring(5),
        started_again(),
    ]);
    assert_eq!(recovery.state, State::Recovered { seconds: 9 });
    let recovery = after(&[code_used(), failed(), restoring(5)]);
    assert!(matches!(recovery.state, State::Failed { .. }));
}

#[test]
fn a_failed_recovery_goes_on_with_another_attempt_or_by_its_operators_hand() {
    let again = after(&[code_used(), restoring(50), failed(), started_again()]);
    assert_eq!(again.state, State::Recovering);
    let by_hand = after(&[code_used(), failed(), recovered()]);
    assert_eq!(by_hand.state, State::Recovered { seconds: 9 });
    let State::Failed { message } = after(&[code_used(), failed()]).state else {
        panic!("it failed");
    };
    assert_eq!(message, "no disk");
}

#[test]
fn a_machine_that_comes_again_starts_anew_with_another_key_and_counts_anew() {
    let recovery = after(&[code_used(), restoring(50)]);
    assert_eq!(recovery.last_event, Some(1));
    let recovery = after(&[code_used(), restoring(50), code_used()]);
    assert_eq!(
        (&recovery.state, recovery.last_event),
        (&State::Started, None)
    );
    assert_eq!(recovery.machine.map(|it| it.times), Some(2));
}

#[test]
fn a_code_is_bound_to_the_first_machine_before_that_is_given_anything() {
    let bound = |mac| Happened::CodeBound {
        machine: machine(&[mac], "a"),
        address: [192, 0, 2, 1].into(),
    };
    let recovery = after(&[bound("52:54:00:00:00:01"), bound("52:54:00:00:00:02")]);
    assert_eq!(
        (&recovery.state, recovery.report_key.as_ref()),
        (&State::Opened, None)
    );
    let used_by = recovery.machine.unwrap();
    assert_eq!(used_by.machine.macs, ["52:54:00:00:00:01"]);
    assert_eq!(used_by.times, 0);
    let recovery = after(&[bound("52:54:00:00:00:01"), code_used()]);
    assert_eq!(recovery.machine.map(|it| it.times), Some(1));
}

#[test]
fn closed_before_it_recovered_is_no_success_and_after_it_is() {
    let why = || Happened::Closed {
        why: "by hand".into(),
    };
    for (events, success) in [
        (vec![why()], false),
        (vec![code_used(), restoring(5), why()], false),
        (vec![code_used(), recovered(), why()], true),
    ] {
        let State::Closed { recovered, .. } = after(&events).state else {
            panic!("it is closed");
        };
        assert_eq!(recovered, success);
    }
}

#[test]
fn wrong_codes_are_counted_and_others_are_not() {
    let refused = |wrong| Happened::CodeRefused {
        address: [192, 0, 2, 1].into(),
        why: "wrong".into(),
        wrong,
    };
    let recovery = after(&[refused(true), refused(false), refused(true)]);
    assert_eq!((recovery.wrong_codes, recovery.state), (2, State::Opened));
}
