//! Services and their instances by name. Unit, container, marker and trial file of an instance follow from its
//! name alone.

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::name::{BadName, DRAIN_DIR, RUN, is_label};

/// Longest name of a service.
const LONGEST: usize = 32;

/// Name of a service: `app` for `[app]`, else that of `[services.NAME]`. `app` is the first in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceName(ArrayString<LONGEST>);

impl ServiceName {
    /// The service of `[app]`.
    pub fn app() -> Self {
        let mut name = ArrayString::new();
        name.push_str("app");
        Self(name)
    }

    /// Whether this is the service of `[app]`.
    pub fn is_app(self) -> bool {
        self == Self::app()
    }

    /// The name without quotes or a suffix.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Prefix of its variables in astra.env: `GP_WORKER` for `gp-worker`.
    pub fn variables(self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }

    /// Prefix of the paths of its health routes: nothing for the app, `/services/api` for another service.
    pub fn health_path(self) -> String {
        if self.is_app() { String::new() } else { format!("/services/{self}") }
    }

    /// The address at which Caddy takes requests of containers that call it: 198.18.x.y, of a range that no network
    /// routes (RFC 2544). It follows from the name alone, so nothing changes it.
    pub fn address(self) -> Ipv4Addr {
        let [a, b, ..]: [u8; 32] = Sha256::digest(self.as_str()).into();
        Ipv4Addr::new(198, 18, a, b)
    }

    /// Nothing for the app; the name of another service behind `before`, as messages add it.
    pub fn named(self, before: &str) -> String {
        if self.is_app() { String::new() } else { format!("{before}{self}") }
    }

    /// Its instances from 1 to `count`.
    pub fn first(self, count: u16) -> impl DoubleEndedIterator<Item = InstanceName> + Clone {
        InstanceId::first(count).map(move |number| InstanceName { service: self, number })
    }

    /// The number of a file named after an instance, in a unit: `%i`, or `worker-%i`.
    pub fn specifier(self) -> String {
        if self.is_app() { "%i".to_owned() } else { format!("{self}-%i") }
    }
}

/// Whether another unit or container of the host has this name: astra-caddy, astra-cron-…, astra-agent-….
fn is_taken(name: &str) -> bool {
    ["caddy", "migrate"].contains(&name)
        || ["agent", "cron"].iter().any(|taken| name.split('-').next() == Some(taken))
}

impl FromStr for ServiceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let name = ArrayString::from(text).ok().filter(|_| is_label(text, LONGEST) && !is_taken(text));
        name.map(Self).ok_or_else(|| BadName {
            text: text.chars().take(100).collect(),
            what: "service name",
            reason: "lower-case letters, digits and `-`, beginning with a letter, at most 32; `caddy`, `migrate`, \
                     `agent` and `cron` (also before a `-`) are taken by the host's own units",
        })
    }
}

impl Ord for ServiceName {
    fn cmp(&self, other: &Self) -> Ordering {
        other.is_app().cmp(&self.is_app()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ServiceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Number of an instance, from 1; its loopback address is 127.0.1.i, so the highest is 254.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId(u8);

impl InstanceId {
    /// `None` outside of 1 to 254.
    pub fn new(number: u16) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=254).contains(n)).map(Self)
    }

    /// The number, 1 to 254.
    pub fn get(self) -> u16 {
        u16::from(self.0)
    }

    /// The instances from 1 to `count`.
    pub fn first(count: u16) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (1..=count).filter_map(Self::new)
    }

    /// 127.0.1.i: the address that Caddy proxies to.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 1, self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a number from 1 to 254.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the number of an instance, 1 to 254")]
pub struct BadInstance;

impl FromStr for InstanceId {
    type Err = BadInstance;

    fn from_str(text: &str) -> Result<Self, BadInstance> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        text.parse().ok().filter(|_| plain).and_then(Self::new).ok_or(BadInstance)
    }
}

/// One instance of a service. Its text is `2` for the app and `worker-2` for another service; JSON has the
/// number or that text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName {
    /// The service.
    pub service: ServiceName,
    /// Its number within the service.
    pub number: InstanceId,
}

impl InstanceName {
    /// The only instance of an accessory.
    pub fn single(service: ServiceName) -> Self {
        Self { service, number: InstanceId(1) }
    }

    /// `/run/astra/drain/2`
    pub fn marker(self) -> PathBuf {
        PathBuf::from(format!("{DRAIN_DIR}/{self}"))
    }

    /// `/run/astra/trial-2.env`
    pub fn trial_file(self) -> PathBuf {
        PathBuf::from(format!("{RUN}/trial-{self}.env"))
    }

    /// 127.0.1.i: the address that Caddy proxies to. Services differ by their ports.
    pub fn address(self) -> std::net::Ipv4Addr {
        self.number.address()
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.service.is_app() {
            return self.number.fmt(f);
        }
        write!(f, "{}-{}", self.service, self.number)
    }
}

impl fmt::Debug for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for InstanceName {
    type Err = BadInstance;

    fn from_str(text: &str) -> Result<Self, BadInstance> {
        let Some((service, number)) = text.rsplit_once('-') else {
            return Ok(Self { service: ServiceName::app(), number: text.parse()? });
        };
        let service: ServiceName = service.parse().map_err(|_| BadInstance)?;
        // The app's instances have one text alone.
        (!service.is_app()).then_some(Self { service, number: number.parse()? }).ok_or(BadInstance)
    }
}

impl Serialize for InstanceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.service.is_app() {
            true => serializer.serialize_u16(self.number.get()),
            false => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for InstanceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = InstanceName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of an instance, or SERVICE-NUMBER")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<InstanceName, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InstanceName, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn instance(text: &str) -> InstanceName {
        text.parse().unwrap()
    }

    #[test]
    fn the_apps_instances_keep_their_numbers_as_names() {
        assert_eq!(instance("2").marker(), PathBuf::from("/run/astra/drain/2"));
        assert_eq!(instance("gp-worker-12").trial_file(), PathBuf::from("/run/astra/trial-gp-worker-12.env"));
        assert_eq!(instance("worker-2").to_string(), "worker-2");
        for bad in
            ["", "0", "02", "255", "app-1", "worker-", "-1", "Worker-1", "cron-1", "agent-x-1", "worker-0"]
        {
            assert_eq!(bad.parse::<InstanceName>(), Err(BadInstance), "{bad}");
        }
    }

    #[test]
    fn the_app_is_first_in_order() {
        let mut all = ["worker-1", "api-2", "10", "api-1", "2"].map(instance);
        all.sort();
        assert_eq!(all.map(|i| i.to_string()), ["2", "10", "api-1", "api-2", "worker-1"]);
    }

    #[test]
    fn json_of_an_older_agent_is_read() {
        let all = BTreeMap::from([(instance("1"), 1), (instance("worker-3"), 2)]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"1":1,"worker-3":2}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<InstanceName, i32>>(&text).unwrap(), all);
        assert_eq!(serde_json::from_str::<InstanceName>("7").unwrap(), instance("7"));
        assert_eq!(serde_json::to_string(&instance("7")).unwrap(), "7");
        assert!(serde_json::from_str::<InstanceName>("0").is_err());
    }

    #[test]
    fn variables_of_a_service_are_upper_case() {
        assert_eq!("gp-worker".parse::<ServiceName>().unwrap().variables(), "GP_WORKER");
        assert_eq!(ServiceName::app().variables(), "APP");
    }
}
