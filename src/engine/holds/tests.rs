//! Each rule of who stands still, by itself.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TOKEN: Token = Token(1);
const BEGAN: Timestamp = Timestamp::from_micros(1);

fn event() -> Event {
    Event {
        key: "7.0.pre".parse().unwrap(),
        received: BEGAN,
        op_count: 2,
        op_code: "OP_TEST_DELAY".to_owned(),
        status: None,
        executed: true,
        late: false,
        time: BEGAN,
        about: Default::default(),
    }
}

fn key() -> EventKey {
    event().key
}

fn held(landing: Landing) -> Holds {
    let mut holds = Holds::default();
    let _ = holds.stop(&event(), TOKEN, SECOND, SECOND * 60, BEGAN, true);
    let _ = holds.stands(TOKEN, SECOND, landing);
    holds
}

#[test]
fn nobody_stands_still_for_hooks_that_do_not_begin() {
    let mut holds = held(Landing::Early);
    assert_eq!(holds.next_deadline(), Some(SECOND + VAIN_LIMIT));
    assert!(holds.end_in_time(SECOND * 3).is_empty());
    let ended = holds.end_in_time(SECOND + VAIN_LIMIT);
    assert_eq!((ended[0].0.key, ended[0].1), (key(), TimeUp::InVain));
    assert_eq!(holds.jobs().count(), 0);
}

#[test]
fn who_is_armed_is_so_until_it_stands_still_or_is_let_be() {
    let mut holds = Holds::default();
    assert!(holds.arm(key().job, TOKEN).is_empty(), "the kernel does not");
    holds.exactness_is(Exactness::Exact("fentry".to_owned()));
    assert!(holds.arm(key().job, TOKEN).is_empty(), "nobody would let it go should we die");
    let _ = holds.want_guard(SECOND);
    holds.guard_is(true, SECOND);
    let job = key().job;
    assert_eq!(holds.arm(job, TOKEN), [Effect::Arm { token: TOKEN, job }]);
    assert_eq!(holds.arm(job, TOKEN), [Effect::Arm { token: TOKEN, job }], "it goes on");
    let other = Token(9);
    let both = [Effect::Disarm { token: TOKEN, job }, Effect::Arm { token: other, job }];
    assert_eq!(holds.arm(job, other), both);
    let _ = holds.arm(job, TOKEN);
    let _ = holds.stop(&event(), TOKEN, SECOND, SECOND, BEGAN, true);
    assert!(!holds.is_armed(job) && holds.arm(job, TOKEN).is_empty());
    let _ = holds.let_go(job);
    let _ = holds.arm(job, TOKEN);
    assert_eq!(holds.let_all_go(), [Effect::Disarm { token: TOKEN, job }]);
    assert_eq!(holds.disarm(job), None);
}

#[test]
fn a_hold_lasts_as_long_as_it_may() {
    let mut holds = held(Landing::Early);
    holds.begins(&event());
    assert_eq!(holds.next_deadline(), Some(SECOND * 61));
    assert_eq!(holds.end_in_time(SECOND * 61)[0].1, TimeUp::Limit);
    let mut holds = held(Landing::Late);
    holds.begins(&event());
    assert_eq!(holds.next_deadline(), Some(SECOND + LATE_LIMIT));
}

#[test]
fn in_time_is_who_stands_still_where_it_published_its_opcode() {
    let mut holds = Holds::default();
    let _ = holds.stop(&event(), TOKEN, SECOND, SECOND, BEGAN, true);
    assert_eq!(holds.in_time(&event()), None, "it was only told to");
    assert_eq!(held(Landing::Late).in_time(&event()), None);
    let mut holds = held(Landing::Early);
    let next = Event { key: "7.1.pre".parse().unwrap(), ..event() };
    let of_an_older_job = Event { received: Timestamp::default(), ..event() };
    for other in [&next, &of_an_older_job] {
        assert_eq!((holds.in_time(other), holds.let_go_for(other)), (None, None));
        holds.begins(other);
    }
    assert_eq!(holds.next_deadline(), Some(SECOND + VAIN_LIMIT), "no hook of it has begun");
    assert_eq!(holds.in_time(&event()), Some(TOKEN));
    assert!(holds.let_go_for(&event()).is_some() && holds.in_time(&event()).is_none());
}

#[test]
fn a_guard_that_does_not_live_is_not_started_at_once() {
    let mut holds = Holds::default();
    assert_eq!(holds.want_guard(SECOND), Some(Effect::StartGuard));
    assert_eq!(holds.want_guard(SECOND), None);
    holds.guard_is(true, SECOND);
    holds.guard_ended(SECOND);
    assert!(holds.want_guard(SECOND).is_some(), "the first that is lost is replaced at once");
    holds.guard_is(true, SECOND);
    holds.guard_ended(SECOND);
    assert_eq!((holds.want_guard(SECOND), holds.next_guard()), (None, Some(SECOND * 2)));
    assert!(holds.want_guard(SECOND * 2).is_some());
    holds.guard_is(true, SECOND * 2);
    holds.guard_ended(SECOND * 9);
    assert!(holds.want_guard(SECOND * 9).is_some());
}

#[test]
fn another_process_of_the_job_is_not_left_armed() {
    let mut holds = Holds::default();
    holds.exactness_is(Exactness::Exact("fentry".to_owned()));
    holds.guard_is(true, SECOND);
    let _ = holds.arm(key().job, Token(1));
    let stop =
        Effect::Stop { token: Token(2), job: key().job, limit: SECOND, executed: BEGAN, by_signal: true };
    assert_eq!(
        holds.stop(&event(), Token(2), SECOND, SECOND, BEGAN, true),
        [Effect::Disarm { token: Token(1), job: key().job }, stop]
    );
}
