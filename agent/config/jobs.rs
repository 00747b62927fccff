//! `[[cron_jobs]]`: schedules and commands. Called by load.rs.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::app::no_empty_program;
use super::container::entrypoint;
use super::env::public_env;
use super::error::{Problems, Show, Span, ValueError};
use super::keys::{self, JOBS};
use super::read::Reader;
use super::tree::{Node, Tree};
use super::{CronCommand, CronJob, OneOff, Schedule, value, words};
use crate::model::cron::{CronExpr, Field};
use crate::model::name::CronName;

/// More jobs than this are taken for a mistake of a generator.
const MOST: usize = 256;

pub(super) fn jobs(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Vec<CronJob> {
    let mut jobs = Vec::new();
    let mut seen: BTreeMap<CronName, Span> = BTreeMap::new();
    for (nth, table) in tree.jobs.iter().enumerate() {
        let mut r = Reader { table, problems };
        if let Some(span) = table.given.as_ref().filter(|_| nth == MOST) {
            r.problems.add(span, Show::Line, ValueError::new(format!("more than {MOST} cron jobs")));
        }
        r.require("name");
        let name = r.text("name", str::parse::<CronName>);
        if let (Some(name), Some(node)) = (&name, r.node("name")) {
            match seen.get(name) {
                Some(first) => {
                    let fault = ValueError::new(format!("cron job `{name}` is defined twice"));
                    let fault = fault.help(format!("the other one is at {}", r.problems.locate(first)));
                    r.problems.add(&node.span, Show::Line, fault);
                }
                None => {
                    seen.insert(name.clone(), node.span);
                }
            }
        }
        let when = when(&mut r);
        if matches!(when, Some(Schedule::Calendar(_))) {
            notice_midnight(&mut r);
        }
        let what = what(&mut r);
        let timeout = match r.node("timeout") {
            Some(_) => r.time("timeout"),
            None => value::duration(keys::default_text(JOBS, "timeout")).ok(),
        };
        if let (Some(name), Some(when), Some(what), Some(timeout)) = (name, when, what, timeout) {
            jobs.push(CronJob { name, when, what, timeout });
        }
    }
    jobs
}

/// A field that is not empty: the former Terraform variable used an empty string for "default".
fn filled<'a>(r: &Reader<'_, 'a, '_>, field: Field) -> Option<Node<'a>> {
    r.node(field.name()).filter(|n| !matches!(n.value, DeValue::String(text) if text.is_empty()))
}

/// Users of crontab, where every field is written, may expect an absent `hour` to mean every hour.
fn notice_midnight(r: &mut Reader<'_, '_, '_>) {
    if filled(r, Field::Hour).is_some() {
        return;
    }
    let minute = filled(r, Field::Minute);
    let text = |node: &Node<'_>| node.value.as_str().unwrap_or_default().to_owned();
    let often = minute.filter(|node| text(node).contains(['*', '/', ',', '-']));
    let named = r.node("name").filter(|node| ["hourly", "minutely"].iter().any(|w| text(node).contains(w)));
    let (node, message) = match (often, named) {
        (Some(node), _) => (node, "without `hour` this job runs in the hour after midnight alone"),
        (None, Some(node)) => (node, "without `hour` this job runs once a day, in the hour after midnight"),
        (None, None) => return,
    };
    let fault =
        ValueError::new(message).help("write hour = \"*\" for every hour, or hour = \"0\" for midnight");
    r.problems.notice(&node.span, Show::Line, fault);
}

fn when(r: &mut Reader<'_, '_, '_>) -> Option<Schedule> {
    if r.node("every").is_some() {
        let every = r.time("every")?;
        if every < Duration::from_secs(1) {
            r.fault("every", ValueError::new("`every` must be at least \"1s\": timers are no finer"));
            return None;
        }
        if let Some(node) = Field::ALL.into_iter().find_map(|field| filled(r, field)) {
            let message = format!("`every` and `{}` exclude each other", node.name);
            r.problems.add(&node.key, Show::Line, ValueError::new(message).help("leave one of them out"));
            return None;
        }
        return Some(Schedule::Every(every));
    }
    let mut read = |field: Field| match filled(r, field) {
        None => Some(keys::default_text(JOBS, field.name()).to_owned()),
        Some(_) => r.text(field.name(), |text| {
            parse_one(field, text).map(|_| text.to_owned()).map_err(ValueError::from)
        }),
    };
    let fields =
        [read(Field::Minute), read(Field::Hour), read(Field::Day), read(Field::Month), read(Field::Weekday)];
    let [Some(minute), Some(hour), Some(day), Some(month), Some(weekday)] = fields else { return None };
    match CronExpr::parse(&minute, &hour, &day, &month, &weekday) {
        Ok(expr) => Some(Schedule::Calendar(expr.on_calendar())),
        // Each field alone is valid, so the error is about days that do not exist, such as 31 February.
        Err(error) => {
            r.fault(error.field.name(), error);
            None
        }
    }
}

/// Parses one field alone, so that every invalid one is reported.
fn parse_one(field: Field, text: &str) -> Result<CronExpr, crate::model::cron::BadCron> {
    let pick = |this: Field| if this == field { text } else { "*" };
    CronExpr::parse(
        pick(Field::Minute),
        pick(Field::Hour),
        pick(Field::Day),
        pick(Field::Month),
        pick(Field::Weekday),
    )
}

fn what(r: &mut Reader<'_, '_, '_>) -> Option<CronCommand> {
    match (r.node("command"), r.node("run")) {
        (Some(_), Some(run)) => {
            let fault =
                ValueError::new("`command` and `run` exclude each other").help("leave one of them out");
            r.problems.add(&run.key, Show::Line, fault);
            None
        }
        (None, None) => {
            if let Some(span) = &r.table.given {
                let fault =
                    ValueError::new("a cron job needs `command` (on the host) or `run` (in a container)");
                r.problems.add(span, Show::Line, fault);
            }
            None
        }
        (Some(command), None) => {
            let argv = match command.value {
                DeValue::Array(_) => r.list("command", value::argument),
                _ => r.text("command", words::split),
            }?;
            no_empty_program(r, "command", Some(&argv));
            if let Some(node) = ["entrypoint", "env"].into_iter().find_map(|key| r.node(key)) {
                let fault = ValueError::new(format!("`{}` goes with `run`, not with `command`", node.name));
                let fault = fault.help("a command on the host takes variables as `env NAME=VALUE PROGRAM …`");
                r.problems.add(&node.key, Show::Line, fault);
                return None;
            }
            match program(&argv) {
                Ok(()) => Some(CronCommand::Command(argv)),
                Err(fault) => {
                    r.fault("command", fault);
                    None
                }
            }
        }
        (None, Some(_)) => {
            let argv = r.list("run", value::argument)?;
            if argv.is_empty() {
                r.fault("run", ValueError::new("`run` is empty"));
            }
            no_empty_program(r, "run", Some(&argv));
            let entrypoint = entrypoint(r);
            let env = public_env(r);
            Some(CronCommand::Run(OneOff { argv, entrypoint: entrypoint?, env: env? }))
        }
    }
}

/// The program that systemd starts: an absolute path, or a bare name that it looks up itself
/// (systemd.service(5), "COMMAND LINES"); a leading `@`, `-`, `:`, `+` or `!` has a special meaning there.
fn program(argv: &[String]) -> Result<(), ValueError> {
    let Some(program) = argv.first() else { return Err(ValueError::new("`command` is empty")) };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'+');
    let bare = program.bytes().next().is_none_or(|b| b.is_ascii_alphanumeric()) && program.bytes().all(plain);
    if bare {
        return Ok(());
    }
    if program.split_once('=').is_some_and(|(name, _)| name.parse::<crate::model::name::EnvKey>().is_ok()) {
        let fault =
            ValueError::new("a command cannot begin with an assignment, which only a shell understands");
        return Err(fault.help("write `env NAME=VALUE PROGRAM …`"));
    }
    value::absolute(program).map(|_| ()).map_err(|fault| fault.help("or a bare name, which is looked up"))
}
