use super::*;

/// The words of systemd 252 (`systemctl --state=help`), and `refreshing` of 256.
const ACTIVE: [&str; 8] =
    ["active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance", "refreshing"];
const LOAD: [&str; 7] = ["stub", "loaded", "not-found", "bad-setting", "error", "merged", "masked"];
const ENABLED: [&str; 13] = [
    "enabled",
    "enabled-runtime",
    "linked",
    "linked-runtime",
    "alias",
    "masked",
    "masked-runtime",
    "static",
    "disabled",
    "indirect",
    "generated",
    "transient",
    "bad",
];
const RESULT: [&str; 11] = [
    "success",
    "resources",
    "protocol",
    "timeout",
    "exit-code",
    "signal",
    "core-dump",
    "watchdog",
    "exec-condition",
    "oom-kill",
    "start-limit-hit",
];
const SUB: [&str; 3] = ["stop-sigterm", "auto-restart", "auto-restart-queued"];
/// The empty word, and one that no version has.
const ODD: [&str; 2] = ["", "a-new-word"];

macro_rules! reads {
    ($name:ident, $words:expr) => {
        for word in $words {
            let state = $name::parse(word);
            assert!(!matches!(state, $name::Missing | $name::Other(_)), "{word}");
            assert_eq!((state.to_string(), state.word()), (word.to_owned(), word));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{word}\""));
        }
        assert_eq!($name::parse(""), $name::default());
        assert_eq!($name::default(), $name::Missing);
        let unknown = $name::parse("Enabled ");
        assert_eq!(unknown, $name::Other("Enabled ".to_owned()));
        assert_eq!((unknown.to_string(), $name::Missing.to_string()), ("Enabled ".to_owned(), String::new()));
    };
}

#[test]
fn every_word_of_systemd_is_read_and_written_back() {
    reads!(LoadState, LOAD);
    reads!(ActiveState, ACTIVE);
    reads!(SubState, SUB);
    reads!(UnitFileState, ENABLED);
    reads!(ServiceResult, RESULT);
}

/// The words of `all`, besides the odd ones, for which `holds`.
fn those<'w>(all: &[&'w str], holds: impl Fn(&str) -> bool) -> Vec<&'w str> {
    all.iter().chain(&ODD).copied().filter(|word| holds(word)).collect()
}

fn active(word: &str) -> UnitSeen {
    UnitSeen { active: ActiveState::parse(word), ..UnitSeen::default() }
}

#[test]
fn each_active_state_answers_each_question() {
    assert_eq!(those(&ACTIVE, |word| active(word).is_active()), ["active", "reloading", "refreshing"]);
    let up = ["active", "reloading", "activating", "deactivating", "maintenance", "refreshing", "a-new-word"];
    assert_eq!(those(&ACTIVE, |word| active(word).is_up()), up);
    let down = ["inactive", "failed", "deactivating"];
    assert_eq!(those(&ACTIVE, |word| active(word).is_down()), down);
    assert_eq!(those(&ACTIVE, |word| active(word).has_ended()), down);
    let queued = |word: &str| UnitSeen { job: true, ..active(word) };
    assert!(those(&ACTIVE, |word| queued(word).is_down() || queued(word).has_ended()).is_empty());
}

#[test]
fn only_a_restart_by_systemd_ends_a_unit_that_has_a_job() {
    let unit = |word: &str| UnitSeen {
        active: ActiveState::Activating,
        sub: SubState::parse(word),
        job: true,
        ..UnitSeen::default()
    };
    assert_eq!(those(&SUB, |word| unit(word).has_ended()), ["auto-restart", "auto-restart-queued"]);
    assert!(those(&SUB, |word| unit(word).is_down()).is_empty());
}

#[test]
fn a_unit_is_enabled_or_masked_by_its_file() {
    let unit = |word: &str| UnitSeen { enabled: UnitFileState::parse(word), ..UnitSeen::default() };
    assert_eq!(those(&ENABLED, |word| unit(word).is_enabled()), ["enabled"]);
    assert_eq!(those(&ENABLED, |word| unit(word).is_masked()), ["masked", "masked-runtime"]);
    let unit = |word: &str| UnitSeen { load: LoadState::parse(word), ..UnitSeen::default() };
    assert_eq!(those(&LOAD, |word| unit(word).is_masked()), ["masked"]);
}

#[test]
fn every_result_but_success_is_a_failure() {
    let failures = those(&RESULT, |word| ServiceResult::parse(word).is_failure());
    assert_eq!(failures, [&RESULT[1..], &["a-new-word"]].concat());
}

#[test]
fn a_killed_process_is_told_apart_from_one_that_ended() {
    let unit =
        |word: &str, signal| UnitSeen { result: ServiceResult::parse(word), signal, ..UnitSeen::default() };
    // After READY, SIGTERM is a clean end to systemd; before it is a failure: `protocol`.
    let killed = those(&RESULT, |word| unit(word, Some(9)).killed_by() == Some(9));
    assert_eq!(killed, ["protocol", "signal", "core-dump"]);
    assert!(those(&RESULT, |word| unit(word, None).killed_by().is_some()).is_empty());
}

#[test]
fn only_a_unit_at_rest_without_a_job_was_stopped() {
    let seen = |sub: &str, job| UnitSeen { sub: SubState::parse(sub), job, ..UnitSeen::default() };
    let words = ["dead", "failed", "auto-restart", "auto-restart-queued", "stop-sigterm", "running", ""];
    let stopped: Vec<_> = words.into_iter().filter(|sub| seen(sub, false).was_stopped()).collect();
    assert_eq!(stopped, ["dead", "failed"]);
    assert!(!seen("dead", true).was_stopped(), "its start is queued");
}
