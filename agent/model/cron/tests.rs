//! The grammar, and the calendar lines compared with systemd's own calendar and with the croner crate.

use std::process::Command;

use chrono::{DateTime, NaiveDateTime, Utc};
use croner::parser::CronParser;
use proptest::prelude::*;

use super::*;

fn parse(fields: &str) -> Result<CronExpr, BadCron> {
    let f: Vec<_> = fields.split(' ').collect();
    CronExpr::parse(f[0], f[1], f[2], f[3], f[4])
}

#[test]
fn calendar_lines() {
    for (fields, lines) in [
        ("0 0 * * *", &["*-*-* 00:00:00"][..]),
        ("*/15 * * * *", &["*-*-* *:00,15,30,45:00"]),
        ("5 4-6 * * sun", &["Sun *-*-* 04..06:05:00"]),
        ("0 0 * JAN,feb Mon-Fri", &["Mon..Fri *-01,02-* 00:00:00"]),
        ("0 0 * * 0-7", &["*-*-* 00:00:00"]),
        ("0 0 * * 5-7", &["Fri..Sun *-*-* 00:00:00"]),
        ("0 0 * * 7,1", &["Mon,Sun *-*-* 00:00:00"]),
        ("0 0 1,15 * 5", &["*-*-01,15 00:00:00", "Fri *-*-* 00:00:00"]),
        ("0 0 */2 * 1", &["Mon *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 00:00:00"]),
        ("0 0 29 2 *", &["*-02-29 00:00:00"]),
        ("0 0 30 2 1", &["Mon *-02-* 00:00:00"]),
        ("0-59/30 23 31 12 *", &["*-12-31 23:00,30:00"]),
    ] {
        assert_eq!(parse(fields).unwrap().on_calendar(), lines, "{fields}");
    }
}

#[test]
fn impossible_fields_are_refused() {
    for fields in [
        "60 0 * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 32 * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 30 2 */2",
        "*/0 0 * * *",
        "*/999 0 * * *",
        "*/60 0 * * *",
        "5-1 0 * * *",
        "1- 0 * * *",
        "-1 0 * * *",
        ", 0 * * *",
        "1, 0 * * *",
        "@reboot 0 * * *",
        " 0 * * *",
        "+1 0 * * *",
        "1/2 0 * * *",
        "** 0 * * *",
        "*-5 0 * * *",
        "1-2-3 0 * * *",
        "1/ 0 * * *",
        "0 0 * jan2 *",
        "0 0 * * 8",
        "0 0 * * sat-sun",
        "0 0 * 0 *",
        "0 0 * 13 *",
        "0 0 L * *",
        "0 0 ? * *",
        "0 0 * * 1#2",
        "é 0 * * *",
        "0x1 0 * * *",
        "256 0 * * *",
    ] {
        assert!(parse(fields).is_err(), "{fields}");
    }
    assert!(CronExpr::parse("0 5", "0", "*", "*", "*").is_err());
    assert_eq!(
        parse("0 0 * * fri-mon").unwrap_err().to_string(),
        "`fri-mon` is not a cron weekday: the range `fri-mon` runs backwards; at the end of a range, Sunday is 7"
    );
    assert_eq!(
        parse("0 0 * 13 *").unwrap_err().to_string(),
        "`13` is not a cron month: `13` is not a number from 1 to 12, or a name such as `jan` or `dec`"
    );
}

const BASE: &str = "2027-01-31 23:58:30";
const COUNT: usize = 20;

/// The times at which systemd would run `lines`.
fn systemd(lines: &[String]) -> Vec<NaiveDateTime> {
    let out = Command::new("systemd-analyze")
        .args(["calendar", &format!("--iterations={COUNT}"), &format!("--base-time={BASE} UTC")])
        .args(lines)
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .expect("systemd-analyze is missing: install the systemd package, this test compares with it");
    assert!(out.status.success(), "{lines:?}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let time = |line: &str| {
        let (what, time) = line.trim().split_once(": ")?;
        (what == "Next elapse" || what.starts_with("Iter. #")).then_some(())?;
        NaiveDateTime::parse_from_str(time.trim(), "%a %Y-%m-%d %H:%M:%S UTC").ok()
    };
    let mut times: Vec<_> = text.lines().filter_map(time).collect();
    times.sort();
    times.dedup();
    times.truncate(COUNT);
    times
}

fn croner(fields: &str) -> Vec<NaiveDateTime> {
    // croner counts `*/2` as a restriction; crontab(5) does not.
    let days = fields.split(' ').skip(2).step_by(2);
    let half_star = days.into_iter().any(|f| f.starts_with('*') && f != "*");
    let cron = CronParser::builder().dom_and_dow(half_star).build().parse(fields).unwrap();
    let base = NaiveDateTime::parse_from_str(BASE, "%Y-%m-%d %H:%M:%S").unwrap();
    let after: DateTime<Utc> = base.and_utc();
    cron.iter_after(after).take(COUNT).map(|t| t.naive_utc()).collect()
}

fn agree(fields: &str) {
    let lines = parse(fields).unwrap().on_calendar();
    let (ours, theirs) = (systemd(&lines), croner(fields));
    // Rare days: the two calendars stop searching at different years.
    let both = ours.len().min(theirs.len());
    assert!(both > 0, "{fields} {lines:?}: {ours:?} {theirs:?}");
    assert_eq!(ours[..both], theirs[..both], "{fields} {lines:?}");
}

#[test]
fn systemd_and_croner_agree_on_a_list() {
    for fields in [
        "0 0 * * *",
        "* * * * *",
        "*/7 */5 * * *",
        "0 0 1 * *",
        "0 0 29 2 *",
        "0 0 31 * *",
        "30 4 1,15 * 5",
        "0 22 * * 1-5",
        "23 0-20/2 * * *",
        "0 4 8-14 * *",
        "0 0 * * 0",
        "0 0 * * 7",
        "0 0 * * sat,sun",
        "0 0 */2 * 1",
        "0 0 1 * */2",
        "0 0 13 * fri",
        "5,10-20/5 0 * jan,jul *",
        "59 23 31 12 *",
        "0 0 * * 5-7",
    ] {
        agree(fields);
    }
}

fn generated(least: u8, most: u8) -> impl Strategy<Value = String> {
    let range = (least..=most).prop_flat_map(move |a| (Just(a), a..=most));
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (2..=most).prop_map(|step| format!("*/{step}")),
        3 => proptest::collection::vec(least..=most, 1..4)
            .prop_map(|v| v.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        2 => range.clone().prop_map(|(a, b)| format!("{a}-{b}")),
        1 => (range, 1..=most).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn systemd_and_croner_agree_on_generated_fields(
        minute in generated(0, 59),
        hour in generated(0, 23),
        day in generated(1, 28),
        month in generated(1, 12),
        weekday in generated(0, 6),
    ) {
        agree(&format!("{minute} {hour} {day} {month} {weekday}"));
    }

    #[test]
    fn nothing_panics(fields in proptest::collection::vec("[0-9*,/a-z -]{0,6}|\\PC{0,4}", 5)) {
        let _ = CronExpr::parse(&fields[0], &fields[1], &fields[2], &fields[3], &fields[4]);
    }
}
