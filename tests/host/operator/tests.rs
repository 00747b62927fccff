//! Tests of the checks: an intact host passes, and each damage to it is named.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::accessory::{self, Change};
use super::act::{Done, Known};
use super::draw::{Accessory, Draw, Site};
use super::judge::{self, Lacks};
use super::look::{Container, Look, Redis};
use super::ops::{BAD, Edit, GOOD, Hand, Op};
use super::whole::{Memory, missing};
use crate::harness::Engine;
use crate::report::Report;

fn known() -> Known {
    let drawn = Site::draw(&mut Draw::new(1));
    let site = Site { instances: 2, strategy: "rolling", auto: false, source: false, ..drawn };
    let digests = GOOD.iter().chain(&BAD).map(|tag| ((*tag).to_owned(), format!("sha256:{tag}")));
    Known::new(Engine::Podman, site, digests.collect())
}

type Damage = fn(&mut Look);

fn image(version: &str) -> String {
    format!("127.0.0.1:5000/astra@sha256:{version}")
}

/// v2 serves as release 3, and v1 is the rollback target.
fn whole() -> Look {
    let env: BTreeMap<String, String> = [
        ("APP_IMAGE", image("v2").as_str()),
        ("ASTRA_RELEASE", "3"),
        ("SECRET_KEY", "s"),
        ("FIELD_KEY", "f"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let container = Container { running: true, release: "3".into(), env: env.clone() };
    let instance = |i: u16| json!({"instance": i, "release": 3, "ready": true, "drained": false});
    Look {
        env,
        answers: BTreeSet::from(["v2".to_owned()]),
        status_code: 0,
        status: json!({"release": 3, "instances": [instance(1), instance(2)], "rollback_to": image("v1"), "held": []}),
        history: vec![
            json!({"run": 1, "verb": "deploy", "outcome": "converged", "release": null, "plan": []}),
        ],
        instances: [1, 2].map(|i| (i, container.clone())).into(),
        others: BTreeSet::from(["astra-caddy running".to_owned()]),
        last_image: image("v1"),
        migrations: vec!["0002_mood".into()],
        used_keys: vec!["hash".into()],
        field_key: "hash".into(),
        ..Look::default()
    }
}

#[test]
fn each_damage_to_a_whole_host_is_named() {
    let known = known();
    let lacks = Lacks::of(&known);
    let look = |look: &Look, memory: &mut Memory| missing(look, lacks, &known, memory);
    let mut memory = Memory::default();
    assert_eq!(look(&whole(), &mut memory), [""; 0]);
    let damages: [(&str, Damage); 17] = [
        ("the site gives", |l| l.answers = BTreeSet::from(["v1".into(), "v2".into()])),
        ("the site gives", |l| l.answers = BTreeSet::from(["503".into()])),
        ("astra.env names", |l| _ = l.env.remove("APP_IMAGE")),
        ("release 2, not 3", |l| l.instances.get_mut(&1).unwrap().release = "2".into()),
        ("another", |l| _ = l.instances.get_mut(&2).unwrap().env.insert("SECRET_KEY".into(), "t".into())),
        ("are wanted", |l| _ = l.instances.remove(&2)),
        ("are wanted", |l| _ = l.instances.insert(3, l.instances[&1].clone())),
        ("left:", |l| l.traces.push("/run/astra/trial.env".into())),
        ("containers:", |l| _ = l.others.insert("astra-migrate exited".into())),
        ("failed units", |l| l.failed_units = "astra-app@3.service".into()),
        ("not closed", |l| l.history[0]["outcome"] = Value::Null),
        ("status exits with 4", |l| l.status_code = 4),
        ("status: ", |l| l.status["instances"][0]["drained"] = json!(true)),
        ("last_app_image", |l| l.last_image = image("v3")),
        ("was not migrated", |l| l.migrations.clear()),
        ("SECRET_KEY has another value", |l| {
            for env in l.instances.values_mut().map(|c| &mut c.env).chain([&mut l.env]) {
                env.insert("SECRET_KEY".into(), "fresh".into());
            }
        }),
        ("used another FIELD_KEY", |l| l.field_key = "fresh".into()),
    ];
    for (word, damage) in damages {
        let mut damaged = whole();
        damage(&mut damaged);
        let said = look(&damaged, &mut memory);
        assert!(said.iter().any(|s| s.contains(word)), "no {word:?}: {said:?}");
    }
}

/// The site with an accessory, which runs its second pin.
fn with_accessory() -> (Known, Look) {
    let mut known = known();
    known.site.accessory = Some(Accessory { setting: 1, unready: false });
    known.redis = accessory::TAGS.map(|tag| (tag, format!("sha256:redis-{tag}"))).into();
    let image = "127.0.0.1:5000/redis@sha256:redis-7";
    let pin = [
        ("APP_IMAGE", image),
        ("ASTRA_RELEASE", "2"),
        ("APP_ARGS", "'--network=astra-site --env=SETTING=1'"),
        ("CACHE_KEY", "s"),
    ];
    let env = [("SETTING", "1"), ("CACHE_KEY", "s")];
    let redis = Redis {
        pin: pin.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        running: true,
        id: "one".into(),
        image: image.into(),
        release: "2".into(),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    let mut look = Look { redis, ..whole() };
    look.others.insert("astra-redis-1 running".into());
    look.status["accessories"] = json!([{"name": "redis", "image": image, "up": true}]);
    (known, look)
}

#[test]
fn each_damage_to_an_accessory_is_named() {
    let (known, whole) = with_accessory();
    let look = |look: &Look| missing(look, Lacks::of(&known), &known, &mut Memory::default());
    assert_eq!(look(&whole), [""; 0]);
    let damages: [(&str, Damage); 10] = [
        ("does not run its pin", |l| l.redis.running = false),
        ("does not run its pin", |l| l.redis.release = "1".into()),
        ("does not run its pin", |l| _ = l.redis.env.insert("SETTING".into(), "2".into())),
        ("the pin is", |l| _ = l.redis.pin.insert("APP_IMAGE".into(), "redis@sha256:redis-broken".into())),
        ("another version", |l| _ = l.redis.env.insert("NEWER".into(), "1".into())),
        ("another CACHE_KEY", |l| _ = l.redis.env.remove("CACHE_KEY")),
        ("status: ", |l| l.status["accessories"][0]["up"] = json!(false)),
        ("status: ", |l| l.status["accessories"][0]["image"] = json!("redis@sha256:redis-8")),
        ("the setting is 1, status", |l| l.status["pending"] = json!(["`accessory restart redis` would"])),
        ("status: ", |l| l.status["drift"] = json!(["return astra-redis@1"])),
    ];
    for (word, damage) in damages {
        let mut damaged = whole.clone();
        damage(&mut damaged);
        let said = look(&damaged);
        assert!(said.iter().any(|s| s.contains(word)), "no {word:?}: {said:?}");
    }
}

#[test]
fn only_its_own_verbs_change_an_accessory() {
    let (known, before) = with_accessory();
    let after = |op: &Op, verb: Option<(&str, i32)>, change: Damage| {
        let mut after = before.clone();
        change(&mut after);
        let verb = verb.map(|(words, code)| (words.to_owned(), code));
        let done = Done { verb, ..Done::default() };
        accessory::after(op, (&before, &after), &done, Lacks::of(&known), &known).join(" ")
    };
    let (same, another): (Damage, Damage) = (|_| {}, |l| l.redis.id = "two".into());
    let pinned: Damage = |l| _ = l.redis.pin.insert("ASTRA_RELEASE".into(), "3".into());
    assert_eq!(after(&Op::Rollback, Some(("rollback", 0)), same), "");
    assert!(after(&Op::Rollback, Some(("rollback", 0)), another).contains("the accessory has changed"));
    assert_eq!(after(&Op::Reboot, None, another), "");
    assert!(after(&Op::Reboot, None, pinned).contains("the pin has changed"));
    let stop = Op::Systemctl("stop", accessory::UNIT);
    assert!(after(&stop, None, |l| l.redis.running = false).contains("the accessory is down, status"));
    let (restart, upgrade) = (Op::Accessory(Change::Restart), Op::Accessory(Change::Upgrade("7")));
    assert_eq!(after(&restart, Some((accessory::RESTART, 0)), another), "");
    assert!(after(&restart, Some((accessory::RESTART, 0)), same).contains("ends with 0"));
    assert!(after(&restart, Some((accessory::RESTART, 2)), another).contains("ends with 2"));
    assert_eq!(after(&restart, Some((accessory::RESTART, 3)), another), "");
    assert!(after(&restart, Some((accessory::RESTART, 3)), pinned).contains("ends with 3"));
    assert_eq!(after(&upgrade, Some((accessory::UPGRADE, 0)), same), "");
    assert!(after(&upgrade, Some((accessory::UPGRADE, 0)), another).contains("ends with 0"));
}

/// A deploy of `tag` that ended with `code` and left the host as `after`.
fn deploy(tag: &'static str, code: i32, planned_nothing: Option<bool>, after: &Look) -> Vec<String> {
    let known = Known { tag, ..known() };
    let verb = Some(("deploy".to_owned(), code));
    let done = Done { codes: verb.iter().cloned().collect(), verb, planned_nothing, ..Done::default() };
    let op = Op::Deploy { version: tag, force: false };
    judge::after(&op, (&whole(), after), &done, Lacks::of(&known), &known)
}

#[test]
fn an_exit_code_must_match_the_release_and_the_result() {
    let run = |look: &mut Look, outcome: Value| {
        look.history.insert(0, json!({"run": 2, "verb": "deploy", "outcome": outcome, "plan": []}));
    };
    let mut brought = whole();
    run(&mut brought, json!("converged"));
    assert_eq!(deploy("v2", 0, Some(true), &whole()), [""; 0]);
    assert_eq!(deploy("v2", 0, Some(false), &brought), [""; 0]);
    assert!(deploy("v2", 0, Some(true), &brought)[0].contains("announced nothing"));
    assert!(deploy("v2", 0, Some(false), &whole())[0].contains("announced something"));
    assert!(deploy("v3", 0, Some(false), &brought)[0].contains("was wanted"));
    let mut drained = whole();
    drained.status["instances"][0]["drained"] = json!(true);
    assert!(deploy("v2", 0, None, &drained)[0].contains("status exits with 0"));
    assert!(deploy("v2", 1, None, &whole())[0].contains("ends with 1, not [0]"));

    let mut undone = whole();
    run(&mut undone, json!({"undone": {"blame": "release"}}));
    undone.status["held"] = json!([{"digest": "sha256:exits", "only_environment": false}]);
    assert_eq!(deploy("exits", 3, None, &undone), [""; 0]);
    assert!(deploy("exits", 0, None, &undone).iter().any(|s| s.contains("history says")));
    let mut forgotten = undone.clone();
    forgotten.status["held"] = json!([]);
    assert!(deploy("exits", 3, None, &forgotten)[0].contains("is held"));
    let mut changed = undone.clone();
    changed.env.insert("ASTRA_RELEASE".into(), "4".into());
    assert!(deploy("exits", 3, None, &changed)[0].contains("astra.env changes"));
}

#[test]
fn the_timer_deploys_a_new_release_only_if_it_may() {
    let brought = |auto: bool, before: &Look, tag: &'static str| {
        let mut known = Known { tag, ..known() };
        known.site.auto = auto;
        let mut after = before.clone();
        after.history.insert(0, json!({"run": 9, "verb": "reconcile", "release": {"image": image(tag)}}));
        judge::ticked(&Op::Push(tag), (before, &after), &known).join(" ")
    };
    let (before, mut held, mut pinned) = (whole(), whole(), whole());
    held.status["held"] = json!([{"digest": "sha256:v3", "only_environment": false}]);
    pinned.status["pinned"] = json!(true);
    assert_eq!(brought(true, &before, "v3"), "");
    for (said, why) in [
        (brought(false, &before, "v3"), "not automatic"),
        (brought(true, &held, "v3"), "held"),
        (brought(true, &before, "v2"), "was committed"),
        (brought(true, &pinned, "v3"), "was pinned"),
    ] {
        assert!(said.contains(why), "no {why:?}: {said:?}");
    }
}

#[test]
fn a_lost_request_needs_a_reason() {
    let lost = |op: &Op, failed, instances| {
        let mut known = known();
        known.site.instances = instances;
        let report = Report { total: 100, failed, ..Report::default() };
        judge::lost(op, (&whole(), &whole()), Lacks::of(&known), &known, &report)
    };
    assert_eq!(lost(&Op::Rollback, 0, 2), None);
    assert!(lost(&Op::Rollback, 1, 2).is_some());
    assert!(lost(&Op::Edit(Edit::Instances(2), Some("reconcile")), 1, 2).is_some());
    assert_eq!(lost(&Op::Verb("caddy-upgrade"), 9, 2), None);
    assert!(lost(&Op::Hand(Hand::Marker), 1, 2).is_some());
    assert_eq!(lost(&Op::Hand(Hand::Marker), 1, 1), None);
}
