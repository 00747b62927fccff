//! `[deploy]`, `[caddy]`, `[verify]` and `[aws]`: parses each key, then checks rules across keys. Called by
//! load.rs.

use std::time::Duration;

use super::error::{Problems, ValueError};
use super::read::Reader;
use super::tree::Tree;
use super::value;
use super::{Aws, Caddy, Deploy, OwnImage, Tls, Verify};
use crate::model::answers::{AnswerLimits, Share};
use crate::model::name::HEALTH_PORT;

pub(super) fn deploy(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Deploy> {
    let mut r = Reader { table: &tree.table("deploy"), problems };
    let soak = r.time("soak");
    let answers = answers(&mut r, soak);
    let drain_timeout = r.time("drain_timeout");
    let websocket_timeout = r.time("websocket_timeout");
    let auto = r.boolean("auto");
    let keep = r.integer("keep", 2..=100);
    let min_free = r.size("min_free");
    Some(Deploy {
        soak: soak?,
        answers: answers?,
        drain_timeout: drain_timeout?,
        websocket_timeout: websocket_timeout?,
        auto: auto?,
        keep: keep?,
        min_free: min_free?,
    })
}

/// The bounds of Caddy's histogram in milliseconds: it cannot tell on which side of another time an answer was.
const BOUNDS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

fn answers(r: &mut Reader<'_, '_, '_>, soak: Option<Duration>) -> Option<AnswerLimits> {
    let errors = r.optional("max_5xx", |r, key| r.text(key, |text| text.parse::<Share>()))?;
    let p99 = r.optional("max_p99", Reader::time)?;
    let key = if errors.is_some() { "max_5xx" } else { "max_p99" };
    if p99.is_some_and(|time| !BOUNDS.contains(&u64::try_from(time.as_millis()).unwrap_or_default())) {
        let fault = ValueError::new("`max_p99` must be a time that Caddy counts by");
        r.fault(
            "max_p99",
            fault.help("write 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2500ms, 5s or 10s"),
        );
        return None;
    }
    if (errors.is_some() || p99.is_some()) && soak.is_some_and(|soak| soak.is_zero()) {
        r.fault(key, ValueError::new(format!("`{key}` is judged during the soak, and `soak` is 0s")));
        return None;
    }
    if p99.zip(soak).is_some_and(|(p99, soak)| p99 >= soak) {
        let fault = ValueError::new("`max_p99` must be shorter than `soak`");
        r.fault("max_p99", fault.help("no answer of the release could be slower before the soak ends"));
        return None;
    }
    Some(AnswerLimits { errors, p99 })
}

/// `image` of `[caddy]` or of a service: a tag or a digest.
pub(super) fn own_image(r: &mut Reader<'_, '_, '_>) -> Option<OwnImage> {
    r.text("image", str::parse)
}

pub(super) fn caddy(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Caddy> {
    let mut r = Reader { table: &tree.table("caddy"), problems };
    let image = own_image(&mut r);
    let hosts = r.distinct("hosts", value::host);
    let tls = r.choice("tls", &[("acme", Tls::Acme), ("internal", Tls::Internal), ("off", Tls::Off)]);
    let block = r.distinct("block", |text| value::url_path(text, true));
    let trusted_proxies = r.distinct("trusted_proxies", value::cidr);
    let extra = r.text("extra", value::caddyfile);
    let http_port = r.integer("http_port", 1..=65535);
    let https_port = r.integer("https_port", 1..=65535);
    if let (Some(http), Some(https)) = (http_port, https_port)
        && (http == https || [http, https].contains(&HEALTH_PORT))
    {
        let key =
            if https == HEALTH_PORT || r.node("http_port").is_none() { "https_port" } else { "http_port" };
        let message =
            "`http_port`, `https_port` and 9080, where Caddy checks the instances, must be three ports";
        r.fault(key, ValueError::new(message));
    }
    let health = r.optional("health", |r, key| r.text(key, |text| value::url_path(text, false)));
    let headers_up = r.pairs("headers_up", value::header);
    let sticky = r.boolean("sticky");
    if let (Some(hosts), Some(Tls::Acme)) = (&hosts, tls) {
        let public = |h: &String| {
            !h.contains('.') || h.ends_with(".localhost") || h.parse::<std::net::Ipv4Addr>().is_ok()
        };
        if let Some(host) = hosts.iter().find(|h| public(h)) {
            let fault = ValueError::new(format!("no public CA gives `{host}` a certificate"));
            r.fault("hosts", fault.help("write `tls = \"internal\"` or `tls = \"off\"`"));
        }
    }
    Some(Caddy {
        image: image?,
        hosts: hosts?,
        tls: tls?,
        block: block?,
        http_port: http_port?,
        https_port: https_port?,
        health: health?,
        trusted_proxies: trusted_proxies?,
        headers_up: headers_up?,
        sticky: sticky?,
        extra: extra?,
    })
}

pub(super) fn verify(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Verify> {
    let mut r = Reader { table: &tree.table("verify"), problems };
    let require_signature = r.boolean("require_signature");
    Some(Verify { require_signature: require_signature? })
}

pub(super) fn aws(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Aws> {
    let mut r = Reader { table: &tree.table("aws"), problems };
    let region = r.optional("region", |r, key| r.text(key, region));
    let endpoint = r.optional("endpoint", |r, key| r.text(key, endpoint));
    let refresh = r.optional("refresh", Reader::time);
    Some(Aws { region: region?, endpoint: endpoint?, refresh: refresh? })
}

/// `eu-central-1`: a part of host names.
pub(super) fn region(text: &str) -> Result<String, ValueError> {
    let part =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    match text.len() <= 32 && text.split('-').count() >= 3 && text.split('-').all(part) {
        true => Ok(text.to_owned()),
        false => {
            let message = format!("`{}` is not a region of AWS", value::clip(text));
            Err(ValueError::new(message).help("e.g. \"eu-central-1\""))
        }
    }
}

/// Scheme and address. Secrets are sent over TLS, or do not leave this host.
fn endpoint(text: &str) -> Result<String, ValueError> {
    let wrong =
        |why: &str| ValueError::new(format!("`endpoint` {why}")).help("e.g. \"http://127.0.0.1:5000\"");
    let text = text.strip_suffix('/').unwrap_or(text);
    let (scheme, address) = text.split_once("://").unwrap_or_default();
    let host = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => address.split(':').next().unwrap_or(address),
    };
    match scheme {
        "https" => {}
        "http" if ["127.0.0.1", "localhost", "::1"].contains(&host) => {}
        _ => return Err(wrong("must begin with https:// (http:// to this host alone)")),
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    match !host.is_empty() && address.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(wrong("must be a scheme and an address, without a path")),
    }
}
