//! Cron's five fields, translated to systemd's OnCalendar= (systemd.time(7), "Calendar Events"). The grammar
//! is crontab(5)'s, with its rule for days: if day and weekday are both restricted, either one matches. A
//! field that begins with `*` counts as unrestricted. Called by config/.

use std::fmt;

/// The schedule of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpr {
    minute: Set,
    hour: Set,
    day: Set,
    month: Set,
    weekday: Set,
}

/// Why a field is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a cron {}: {reason}", field.name())]
pub struct BadCron {
    /// The field with the error.
    pub field: Field,
    /// The field's text, at most its first 100 characters.
    pub text: String,
    /// One clause for a message, without a capital or a period.
    pub reason: String,
}

/// One of the five fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Day of the month, 1 to 31.
    Day,
    /// 1 to 12, or `jan` to `dec`.
    Month,
    /// 0 to 7, both 0 and 7 for Sunday, or `sun` to `sat`.
    Weekday,
}

impl Field {
    /// In the order of a crontab.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Weekday];

    /// Its key under `[[cron_jobs]]`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Weekday => "weekday",
        }
    }

    fn range(self) -> (u8, u8) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::Weekday => &WEEKDAYS,
            _ => &[],
        }
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The values of one field as bits, and whether it began with `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    bits: u64,
    star: bool,
}

impl Set {
    fn has(self, value: u8) -> bool {
        self.bits & (1 << value) != 0
    }
}

impl CronExpr {
    /// Parses the five fields from a job's keys, not from a crontab line.
    ///
    /// # Errors
    ///
    /// A field is not valid, or no month has such a day; the error names the first one.
    pub fn parse(minute: &str, hour: &str, day: &str, month: &str, weekday: &str) -> Result<Self, BadCron> {
        let expr = Self {
            minute: field(Field::Minute, minute)?,
            hour: field(Field::Hour, hour)?,
            day: field(Field::Day, day)?,
            month: field(Field::Month, month)?,
            weekday: field(Field::Weekday, weekday)?,
        };
        if !expr.some_day_comes() && (expr.weekday.star || expr.day.star) {
            let reason = format!("no month in `{month}` has that day, so it would never run");
            return Err(BadCron { field: Field::Day, text: day.to_owned(), reason });
        }
        Ok(expr)
    }

    /// OnCalendar= expressions in local time. Two if day and weekday are both restricted: cron matches
    /// either, while one expression of systemd would require both.
    pub fn on_calendar(&self) -> Vec<String> {
        let time = format!("{}:{}:00", values(self.hour, Field::Hour), values(self.minute, Field::Minute));
        let month = values(self.month, Field::Month);
        let day = values(self.day, Field::Day);
        let weekday = match self.weekday.bits {
            0b111_1111 => String::new(),
            _ => format!("{} ", weekdays(self.weekday)),
        };
        if self.day.star || self.weekday.star {
            return vec![format!("{weekday}*-{month}-{day} {time}")];
        }
        let by_day = self.some_day_comes().then(|| format!("*-{month}-{day} {time}"));
        by_day.into_iter().chain([format!("{weekday}*-{month}-* {time}")]).collect()
    }

    fn some_day_comes(&self) -> bool {
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (1..=12).any(|month| self.month.has(month) && (1..=longest(month)).any(|day| self.day.has(day)))
    }
}

/// The OnCalendar= expressions, one a line.
impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.on_calendar().join("\n"))
    }
}

fn field(field: Field, text: &str) -> Result<Set, BadCron> {
    let bad = |reason| BadCron { field, text: text.chars().take(100).collect(), reason };
    if text.starts_with('@') {
        return Err(bad("`@` nicknames stand for all five fields; write the fields, or `every`".to_owned()));
    }
    if text.contains(char::is_whitespace) {
        return Err(bad("a space separates fields in a crontab; here each field has its own key".to_owned()));
    }
    let mut bits = 0;
    for item in text.split(',') {
        bits |= range(field, item).map_err(bad)?;
    }
    if field == Field::Weekday && bits & 1 << 7 != 0 {
        bits = (bits | 1) & !(1 << 7);
    }
    Ok(Set { bits, star: text.starts_with('*') })
}

/// `*`, `a` or `a-b`; `*` and `a-b` may have a `/step`.
fn range(field: Field, item: &str) -> Result<u64, String> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (least, most) = field.range();
    let (from, to) = match (range, range.split_once('-')) {
        // 7 is Sunday as well: a step would count that day twice.
        ("*", _) => (least, if field == Field::Weekday { 6 } else { most }),
        (_, Some((from, to))) => (value(field, from)?, value(field, to)?),
        (one, None) => {
            let from = value(field, one)?;
            if step.is_some() {
                return Err(format!("a step needs a range, such as `{one}-{most}/N` or `*/N`"));
            }
            (from, from)
        }
    };
    if from > to {
        let hint = if field == Field::Weekday { "; at the end of a range, Sunday is 7" } else { "" };
        return Err(format!("the range `{range}` runs backwards{hint}"));
    }
    let step = match step {
        None => 1,
        Some(text) => number(text)
            .filter(|step| (1..=most).contains(step))
            .ok_or_else(|| format!("its step must be a number from 1 to {most}"))?,
    };
    Ok((from..=to).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
}

fn value(field: Field, text: &str) -> Result<u8, String> {
    let (least, most) = field.range();
    let named = || {
        let at = field.names().iter().position(|name| name.eq_ignore_ascii_case(text))?;
        u8::try_from(at).ok().map(|at| at + if field == Field::Month { 1 } else { 0 })
    };
    number(text).filter(|n| (least..=most).contains(n)).or_else(named).ok_or_else(|| {
        let names = match field.names() {
            [first, .., last] => format!(", or a name such as `{first}` or `{last}`"),
            _ => String::new(),
        };
        match text {
            "" => format!("a number from {least} to {most} is missing{names}"),
            _ => format!("`{text}` is not a number from {least} to {most}{names}"),
        }
    })
}

/// Digits only: `u8::from_str` accepts a `+`.
fn number(text: &str) -> Option<u8> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `*`, or a list of numbers and ranges.
fn values(set: Set, field: Field) -> String {
    let (least, most) = field.range();
    if (least..=most).all(|value| set.has(value)) {
        return "*".to_owned();
    }
    runs(set, least, most, |value| format!("{value:02}"))
}

/// systemd's week begins on Monday, and its ranges must not wrap.
fn weekdays(set: Set) -> String {
    let sunday = Set { bits: set.bits | (set.bits & 1) << 7, ..set };
    let name = |value: u8| match value {
        1 => "Mon",
        2 => "Tue",
        3 => "Wed",
        4 => "Thu",
        5 => "Fri",
        6 => "Sat",
        _ => "Sun",
    };
    runs(sunday, 1, 7, |value| name(value).to_owned())
}

fn runs(set: Set, least: u8, most: u8, show: impl Fn(u8) -> String) -> String {
    let mut parts = Vec::new();
    let mut from = least;
    while from <= most {
        if !set.has(from) {
            from += 1;
            continue;
        }
        let to = (from..=most).take_while(|value| set.has(*value)).last().unwrap_or(from);
        match to - from {
            0 => parts.push(show(from)),
            1 => parts.extend([show(from), show(to)]),
            _ => parts.push(format!("{}..{}", show(from), show(to))),
        }
        from = to + 1;
    }
    parts.join(",")
}

#[cfg(test)]
mod tests;
