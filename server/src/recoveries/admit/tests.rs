use super::*;
use crate::recoveries::fixture::{CODE, NOW, machine, opened};
use crate::recoveries::record::{UsedBy, WRONG_CODES_MAX};

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn after_minutes(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn here() -> Machine {
    machine(&["52:54:00:00:00:01"], "a")
}

fn code() -> Digest {
    CODE.parse::<towline_contract::recovery::Code>()
        .unwrap()
        .digest()
}

fn started() -> Recovery {
    Recovery {
        state: State::Started,
        machine: Some(UsedBy {
            machine: here(),
            address: [192, 0, 2, 1].into(),
            first: now(),
            times: 1,
        }),
        ..opened("web1")
    }
}

#[track_caller]
fn refused(recovery: &Recovery, host: Option<&str>, machine: &Machine) -> Refused {
    let all = [opened("web0"), recovery.clone()].map(|mut it| {
        if it.host == "web0" {
            it.code = Digest::of(b"another");
        }
        it
    });
    admit(&code(), host, machine, &all, now()).unwrap_err()
}

#[test]
fn the_right_code_is_taken_with_the_hosts_name_and_without() {
    for host in [None, Some("web1")] {
        let all = [opened("web1")];
        let found = admit(&code(), host, &here(), &all, now()).unwrap();
        assert_eq!(found.host, "web1");
    }
}

#[test]
fn a_code_of_no_recovery_is_refused() {
    let all = [opened("web1")];
    let found = admit(&Digest::of(b"x"), Some("web1"), &here(), &all, now());
    assert_eq!(found, Err(Refused::Unknown));
    assert_eq!(
        admit(&code(), None, &here(), &[], now()),
        Err(Refused::Unknown)
    );
}

#[test]
fn a_code_that_was_used_on_another_machine_is_refused_and_the_same_machine_may_come_again() {
    let other = machine(&["52:54:00:00:00:02"], "b");
    let found = refused(&started(), None, &other);
    assert_eq!(found, Refused::OtherMachine { first: now() });
    let all = [started()];
    assert!(admit(&code(), None, &here(), &all, now()).is_ok());
}

#[test]
fn a_code_past_its_deadline_is_refused_even_on_the_machine_that_used_it() {
    for recovery in [opened("web1"), started()] {
        let late = recovery.deadline;
        let all = [recovery.at(late)];
        let found = admit(&code(), None, &here(), &all, late);
        assert!(matches!(found, Err(Refused::Expired { .. })), "{found:?}");
    }
}

#[test]
fn a_code_whose_recovery_is_closed_is_refused() {
    let state = State::Closed {
        recovered: false,
        why: String::new(),
    };
    let closed = Recovery { state, ..started() };
    assert_eq!(refused(&closed, None, &here()), Refused::Closed);
}

#[test]
fn a_host_that_is_recovered_is_not_recovered_again_by_the_same_code() {
    let state = State::Recovered { seconds: 1 };
    let recovered = Recovery { state, ..started() };
    let found = refused(&recovered, None, &here());
    assert_eq!(
        found,
        Refused::Recovered {
            host: "web1".into()
        }
    );
}

#[test]
fn a_locked_recovery_takes_no_code_until_another_is_opened() {
    let locked = Recovery {
        wrong_codes: WRONG_CODES_MAX,
        ..opened("web1")
    };
    let wanted = Refused::Locked {
        host: "web1".into(),
    };
    assert_eq!(refused(&locked, Some("web1"), &here()), wanted);
    let mut all = vec![locked];
    let wrong = Digest::of(b"wrong");
    let found = admit(&wrong, Some("web1"), &here(), &all, now());
    assert_eq!(found, Err(wanted));
    all.push(Recovery {
        code: Digest::of(b"new"),
        ..opened("web1")
    });
    assert!(admit(&Digest::of(b"new"), None, &here(), &all, now()).is_ok());
}

#[test]
fn a_code_of_another_host_than_the_machine_named_is_refused() {
    let found = refused(&opened("web1"), Some("web2"), &here());
    let named = "web2".into();
    assert_eq!(found, Refused::OtherHost { named });
}

#[test]
fn an_address_waits_after_five_wrong_codes_until_they_are_old() {
    let mut tries = Tries::default();
    let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    for minute in 0..5 {
        assert_eq!(tries.may_try(one, after_minutes(minute)), Ok(()));
        tries.wrong(one, after_minutes(minute));
    }
    let found = tries.may_try(one, after_minutes(5));
    assert_eq!(found, Err(Refused::Wait(after_minutes(15))));
    assert_eq!(tries.may_try(other, after_minutes(5)), Ok(()));
    assert_eq!(tries.may_try(one, after_minutes(15)), Ok(()));
}

#[test]
fn the_addresses_of_one_ipv6_network_are_one() {
    let mut tries = Tries::default();
    for host in 0..5 {
        tries.wrong(format!("2001:db8::{host}").parse().unwrap(), now());
    }
    assert!(
        tries
            .may_try("2001:db8::99".parse().unwrap(), now())
            .is_err()
    );
    assert!(
        tries
            .may_try("2001:db8:0:1::1".parse().unwrap(), now())
            .is_ok()
    );
    let mut tries = Tries::default();
    for _ in 0..5 {
        tries.wrong("::ffff:192.0.2.1".parse().unwrap(), now());
    }
    assert!(tries.may_try([192, 0, 2, 1].into(), now()).is_err());
}

#[test]
fn a_flood_of_addresses_takes_bounded_memory() {
    let mut tries = Tries::default();
    for number in 0..10_000_u32 {
        tries.wrong(IpAddr::V4(number.into()), now());
    }
    assert_eq!(tries.0.len(), ADDRESSES_MAX);
}
