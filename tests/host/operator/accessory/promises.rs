//! The promises about the accessory: it runs its pin, only its own verbs change it, and the agent says so.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{RESTART, UNIT, UPGRADE};
use crate::operator::act::{Done, Known};
use crate::operator::draw::Accessory;
use crate::operator::judge::{Lacks, tail};
use crate::operator::look::{Look, Redis};
use crate::operator::ops::Op;

/// The exit codes that a verb on the accessory may have.
pub fn codes(words: &str, lacks: Lacks, known: &Known) -> Vec<i32> {
    let unready = known.site.accessory.is_some_and(|own| own.unready);
    match words {
        _ if lacks.config => vec![2],
        RESTART if lacks.source => vec![2],
        // The repairs after it have no database.
        RESTART if lacks.database => vec![0, 1, 3, 4],
        RESTART if unready => vec![3],
        RESTART => vec![0],
        _ if lacks.registry => vec![1],
        _ if lacks.source => vec![0, 2],
        _ if lacks.database => vec![0, 1, 3, 4],
        _ if known.redis_tag == "broken" => vec![3],
        _ => vec![0],
    }
}

/// Checks the container and the pin after an operation.
pub fn after(
    op: &Op,
    (before, after): (&Look, &Look),
    done: &Done,
    lacks: Lacks,
    known: &Known,
) -> Vec<String> {
    let (was, is) = (&before.redis, &after.redis);
    let mut broken = Vec::new();
    let mut check = |holds: bool, what: &dyn Fn() -> String| {
        if !holds {
            broken.push(what());
        }
    };
    if !op.reaches_accessory(known.engine) {
        check(was == is, &|| format!("the accessory has changed: {}, then {}", was.words(), is.words()));
    }
    // A killed one may come back between the parts of a look.
    let stopped = matches!(op, Op::Systemctl("stop", UNIT)) && !is.running;
    check(!stopped || after.status["accessories"][0]["up"] != true, &|| {
        format!("the accessory is down, status: {}", after.status["accessories"])
    });
    let Some((words, code)) = done.verb.as_ref().filter(|(words, _)| words.starts_with("accessory ")) else {
        let by_hand = !matches!(op, Op::Disturbed { .. } | Op::Both(..));
        check(!by_hand || was.pin == is.pin, &|| format!("the pin has changed: {}", is.words()));
        return broken;
    };
    let told =
        || format!("`{words}` ends with {code}: {}, then {}: {}", was.words(), is.words(), tail(&done.said));
    let setting = known.site.accessory.map_or(0, |own| own.setting);
    let wanted = known.redis.get(known.redis_tag).cloned().unwrap_or_default();
    let up_to_date = was.image().ends_with(&wanted) && was.setting() == Some(setting);
    match (words.as_str(), code) {
        (UPGRADE, 0) if up_to_date => check(was == is, &told),
        (_, 0) => {
            let image =
                if words == UPGRADE { is.image().ends_with(&wanted) } else { is.image() == was.image() };
            check(image && is.setting() == Some(setting) && is.id != was.id, &told);
        }
        // It was refused.
        (_, 2) => check(was == is, &told),
        // The repairs after it may have failed.
        _ => check(was.pin == is.pin || lacks.database, &told),
    }
    broken
}

/// Checks that a tick of the timer leaves the accessory as its verb left it.
pub fn ticked((before, after): (&Look, &Look), done: &Done) -> Option<String> {
    let own = done.verb.as_ref().is_some_and(|(words, _)| words.starts_with("accessory "));
    let (was, is) = (&before.redis, &after.redis);
    (own && was != is)
        .then(|| format!("the timer has changed the accessory: {}, then {}", was.words(), is.words()))
}

/// The accessory runs its pin, and `status` says so, and whether a change waits.
pub fn missing(look: &Look, lacks: Lacks, known: &Known, check: &mut impl FnMut(bool, &dyn Fn() -> String)) {
    let Some(Accessory { setting, .. }) = known.site.accessory else { return };
    let redis = &look.redis;
    check(redis.runs_pin(), &|| format!("the accessory does not run its pin: {}", redis.words()));
    let version =
        known.redis.iter().find(|(_, digest)| redis.image().ends_with(*digest)).map(|(tag, _)| *tag);
    check(version.is_some_and(|tag| tag != "broken"), &|| format!("the pin is {}", redis.words()));
    check((version == Some("8")) == redis.env.contains_key("NEWER"), &|| {
        format!("{} runs another version", redis.words())
    });
    let secret = |of: &BTreeMap<String, String>| of.get("CACHE_KEY").cloned();
    let same = secret(&redis.pin) == secret(&redis.env);
    check(same && secret(&redis.pin) == look.env.get("SECRET_KEY").cloned(), &|| {
        "the accessory has another CACHE_KEY than the SECRET_KEY of the application".into()
    });
    let told = &look.status["accessories"];
    let right = told.as_array().is_some_and(|all| all.len() == 1)
        && told[0]["name"] == "redis"
        && told[0]["image"] == redis.image()
        && told[0]["up"] == true
        && told[0]["unreadable"].is_null();
    check(right, &|| format!("status: {told}, the accessory is {}", redis.words()));
    let waits = |list: &str, word: &str| {
        let lines = look.status[list].as_array().map_or(&[][..], Vec::as_slice);
        lines.iter().filter_map(Value::as_str).any(|line| line.contains(word))
    };
    let differs = redis.setting() != Some(setting);
    check(waits("pending", RESTART) == differs, &|| {
        format!(
            "the setting is {setting}, status: {}, the accessory is {}",
            look.status["pending"],
            redis.words()
        )
    });
    let reached = known.site.network != "site" || lacks.database || look.visits.parse::<u64>().is_ok();
    check(reached, &|| format!("the application does not reach the accessory: {:?}", look.visits));
    check(!waits("drift", "redis"), &|| format!("status: {}", look.status["drift"]));
}

impl Redis {
    pub fn image(&self) -> &str {
        self.pin.get("APP_IMAGE").map_or("", String::as_str)
    }

    /// The setting of the pin.
    fn setting(&self) -> Option<u16> {
        let args = self.pin.get("APP_ARGS")?;
        args.split([' ', '\'']).find_map(|arg| arg.strip_prefix("--env=SETTING=")?.parse().ok())
    }

    fn runs_pin(&self) -> bool {
        let setting = self.env.get("SETTING").and_then(|text| text.parse().ok());
        self.running
            && self.image == self.image()
            && Some(&self.release) == self.pin.get("ASTRA_RELEASE")
            && setting == self.setting()
    }

    /// In one line, without secrets.
    fn words(&self) -> String {
        let number = self.pin.get("ASTRA_RELEASE").map_or("", String::as_str);
        format!(
            "pin {number} {} SETTING={:?}; container {:.12} running {}, release {} {} SETTING={:?}",
            self.image(),
            self.setting(),
            self.id,
            self.running,
            self.release,
            self.image,
            self.env.get("SETTING")
        )
    }
}
