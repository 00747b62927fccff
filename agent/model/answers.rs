//! Limits for the answers to visitors during a soak, and whether counted answers keep them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Fewer bad answers than this are an accident, however few there are in all.
const LEAST: u64 = 3;

/// A share in hundredths of a per cent: 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u16);

/// The text is not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a share in per cent: write more than 0% and less than 100%, e.g. \"1%\" or \"0.5%\"")]
pub struct BadShare;

impl FromStr for Share {
    type Err = BadShare;

    fn from_str(text: &str) -> Result<Self, BadShare> {
        let number = text.strip_suffix('%').ok_or(BadShare)?;
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && (1..=2).contains(&text.len());
        if !digits(whole) || !digits(rest) {
            return Err(BadShare);
        }
        let hundredths = format!("{rest:0<2}").parse::<u16>().map_err(|_| BadShare)?;
        let all = whole.parse::<u16>().map_err(|_| BadShare)? * 100 + hundredths;
        if all == 0 { Err(BadShare) } else { Ok(Self(all)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

/// Limits for the answers to visitors; the default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Most answers with a status of 500 to 599.
    pub errors: Option<Share>,
    /// Most time of 99 % of the answers until their first byte.
    pub p99: Option<Duration>,
}

/// Answers to visitors in some span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// All of them, with the errors that Caddy made.
    pub all: u64,
    /// Those with a status of 500 to 599.
    pub errors: u64,
    /// Those whose head came from the site.
    pub timed: u64,
    /// Those of `timed` that took longer than [`AnswerLimits::p99`] until their first byte.
    pub slow: u64,
}

impl AnswerLimits {
    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.errors.is_some() || self.p99.is_some()
    }

    /// The limit that `answers` break, in words.
    pub fn broken_by(&self, answers: &Answers) -> Option<String> {
        let Answers { all, errors, timed, slow } = *answers;
        let exceeds =
            |bad: u64, all: u64, share: Share| bad >= LEAST && bad * 10_000 > all * u64::from(share.0);
        if let Some(share) = self.errors.filter(|share| exceeds(errors, all, *share)) {
            return Some(format!("{errors} of {all} answers to visitors had a status of 5xx, limit {share}"));
        }
        let p99 = self.p99.filter(|_| exceeds(slow, timed, Share(100)))?;
        Some(format!("{slow} of {timed} answers to visitors took longer than {p99:?}, limit 1 %"))
    }

    /// The answers that were judged, in words.
    pub fn told(&self, answers: &Answers) -> String {
        if answers.all == 0 {
            return "no visitor came, no answer was judged".to_owned();
        }
        let errors = self.errors.map(|_| format!(", {} of them 5xx", answers.errors));
        let slow = self.p99.map(|p99| format!(", {} slower than {p99:?}", answers.slow));
        format!("{} answers{}{}", answers.all, errors.unwrap_or_default(), slow.unwrap_or_default())
    }
}

/// In parentheses behind a space, for the text of a step; nothing without a limit.
impl fmt::Display for AnswerLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors.map(|share| format!("at most {share} 5xx"));
        let p99 = self.p99.map(|time| format!("p99 at most {time:?}"));
        match errors.into_iter().chain(p99).collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            limits => write!(f, " ({})", limits.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_shown() {
        for (text, shown) in [("1%", "1 %"), ("0.5%", "0.5 %"), ("0.01%", "0.01 %"), ("12.5%", "12.5 %")] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for bad in ["", "1", "%", "0%", "0.00%", "100%", "1.234%", "-1%", "1 %", "1.%", ".5%", "+1%"] {
            assert_eq!(bad.parse::<Share>(), Err(BadShare), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_broken_by_more_than_a_few_bad_answers() {
        let limits = AnswerLimits { errors: Some("2%".parse().unwrap()), p99: Some(Duration::from_secs(1)) };
        let answers = |all, errors, slow| Answers { all, errors, timed: all, slow };
        let broken = |all, errors, slow| limits.broken_by(&answers(all, errors, slow));
        assert_eq!(broken(0, 0, 0), None);
        assert_eq!(broken(2, 2, 2), None, "an accident");
        assert_eq!(broken(150, 3, 1), None, "exactly the limit");
        assert!(broken(149, 3, 0).unwrap().starts_with("3 of 149 answers to visitors had a status of 5xx"));
        assert!(broken(1000, 20, 11).unwrap().contains("took longer than 1s"));
        assert_eq!(AnswerLimits::default().broken_by(&answers(9, 9, 9)), None);
        assert_eq!(limits.told(&answers(9, 1, 2)), "9 answers, 1 of them 5xx, 2 slower than 1s");
        assert_eq!(limits.told(&answers(0, 0, 0)), "no visitor came, no answer was judged");
        assert_eq!(limits.to_string(), " (at most 2 % 5xx, p99 at most 1s)");
        assert_eq!(AnswerLimits::default().to_string(), "");
    }
}
