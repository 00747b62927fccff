//! Caddy's metrics, parsed from the Prometheus text format
//! (prometheus.io/docs/instrumenting/exposition_formats).

use std::collections::BTreeMap;

/// Finished requests, by server, handler and code. From 2.8 on this includes requests that failed in a
/// handler, with the code that Caddy makes of the error.
const ENDED: &str = "caddy_http_request_duration_seconds_count";
/// Answers whose head came from a handler: an upstream's answer, or a `respond`. Codes that Caddy makes of an
/// error (no upstream to dial, an upstream that hung up) are not included.
const ANSWERED: &str = "caddy_http_response_duration_seconds";
/// Requests that failed in a handler; without a code.
const FAILED: &str = "caddy_http_request_errors_total";
const BEGUN: &str = "caddy_http_requests_total";
/// The handlers that end a request: all of a site with host names is one `subroute`; one without has others beside each
/// other.
const ENDS: [&str; 5] = ["subroute", "reverse_proxy", "static_response", "file_server", "error"];
/// The server of the site in the agent's Caddyfile.
const SITE: &str = "app";
/// Prefix of the servers of Caddy's own health routes: they serve no visitors.
const HEALTH: &str = "health-";

/// All samples at one moment. Counters only grow while Caddy runs, so only differences are meaningful.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Lines that are not samples are ignored.
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(sample).collect() }
    }

    /// Without the samples of `servers`: below 2.7 health routes have no name, and are found by their address
    /// (`CaddyAdmin::servers`).
    pub fn without(mut self, servers: &[&str]) -> Self {
        self.samples.retain(|sample| !servers.contains(&sample.label("server")));
        self
    }

    /// Errors that Caddy itself made: 502, 503 and 504 that no upstream sent. Below Caddy 2.8, whose metrics
    /// have no code for them: all requests that failed in a handler. Excludes health routes.
    pub fn proxy_errors(&self) -> u64 {
        let made = |code: &str| {
            let ended = self.count(ENDED, |s| s.has("code", code));
            ended.saturating_sub(self.count(&format!("{ANSWERED}_count"), |s| s.has("code", code)))
        };
        match (400..600).map(|code| made(&code.to_string())).sum() {
            0u64 => self.count(FAILED, |_| true),
            _ => ["502", "503", "504"].into_iter().map(made).sum(),
        }
    }

    /// Only the samples of the site itself, without redirects to HTTPS and answers to strange hosts.
    pub fn of_site(mut self) -> Self {
        self.samples.retain(|sample| sample.label("server") == SITE);
        self
    }

    /// Answers whose head came from a handler; errors that Caddy itself made are not among them.
    pub fn answers(&self) -> u64 {
        self.count(&format!("{ANSWERED}_count"), |_| true)
    }

    /// Those of them with a status of 500 to 599.
    pub fn server_errors(&self) -> u64 {
        self.count(&format!("{ANSWERED}_count"), |sample| sample.label("code").starts_with('5'))
    }

    /// Those of them that took no longer than `seconds`, one of Caddy's bounds or infinity, until their first byte.
    pub fn within(&self, seconds: f64) -> u64 {
        let same = |sample: &Sample| {
            number(sample.label("le")).is_some_and(|bound| {
                bound.total_cmp(&seconds).is_eq() || (bound - seconds).abs() < f64::EPSILON
            })
        };
        self.count(&format!("{ANSWERED}_bucket"), same)
    }

    /// Requests that Caddy received, excluding health routes.
    pub fn requests_total(&self) -> u64 {
        self.count(BEGUN, |_| true)
    }

    /// Answers by the time to their first byte: the upper bound in seconds (the last is infinite), and the
    /// number that took no longer. Differences of two samples give quantiles. Excludes health routes.
    pub fn durations(&self) -> Vec<(f64, u64)> {
        let mut all: Vec<(f64, u64)> = Vec::new();
        for sample in self.serving(&format!("{ANSWERED}_bucket")) {
            let Some(bound) = number(sample.label("le")) else { continue };
            match all.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, count)) => *count += whole(sample.value),
                None => all.push((bound, whole(sample.value))),
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    /// Sum of all samples of `name` that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name).filter(|s| labels.iter().all(|(key, value)| s.has(key, value))).map(|s| s.value).sum()
    }

    fn count(&self, name: &str, wanted: impl Fn(&Sample) -> bool) -> u64 {
        self.serving(name).filter(|s| wanted(s)).map(|s| whole(s.value)).sum()
    }

    /// Samples of the servers for visitors, with each request counted once: Caddy counts it in every outermost handler
    /// that it passes (`headers`, `encode`, `reverse_proxy`), and it ends in one of [`ENDS`]. One case is counted twice:
    /// on a site without host names, requests to a service without a drained instance while another service has one.
    fn serving(&self, name: &str) -> impl Iterator<Item = &Sample> {
        let ends = |sample: &Sample| ENDS.contains(&sample.label("handler"));
        self.of(name).filter(move |sample| !sample.label("server").starts_with(HEALTH) && ends(sample))
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

impl Sample {
    fn label(&self, label: &str) -> &str {
        self.labels.get(label).map_or("", String::as_str)
    }

    fn has(&self, label: &str, value: &str) -> bool {
        self.labels.get(label).is_some_and(|seen| seen == value)
    }
}

/// Counters are whole numbers below 2^53, written as floats.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; as saturates anyway")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

/// `name{label="value",…} value [timestamp]`
fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = number(rest.split_whitespace().next()?)?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels, and what follows their `}`. A value is quoted, with `\\`, `\"` and `\n`.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut all = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((all, rest));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, letter) in quoted.char_indices() {
            match letter {
                'n' if escaped => value.push('\n'),
                _ if escaped => value.push(letter),
                '\\' => {
                    escaped = true;
                    continue;
                }
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                _ => value.push(letter),
            }
            escaped = false;
        }
        all.insert(key.trim().to_owned(), value);
        rest = quoted.get(end?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 2.11.2, a site without host names: on the way past a drained instance two requests without an upstream to
    /// dial, one with an upstream's own 503, five good ones and one that is not found; one good one on the usual way; a
    /// handler that all of them pass; and a health route.
    const NEW: &str = r#"# HELP caddy_http_requests_total Counter of HTTP(S) requests made.
caddy_http_requests_total{handler="headers",server="srv0"} 10
caddy_http_requests_total{handler="subroute",server="srv0"} 9
caddy_http_requests_total{handler="reverse_proxy",server="srv0"} 1
caddy_http_requests_total{handler="subroute",server="health-1"} 4
caddy_http_request_errors_total{handler="subroute",server="srv0"} 3
caddy_http_request_duration_seconds_count{code="404",handler="subroute",method="GET",server="srv0"} 1
caddy_http_request_duration_seconds_count{code="502",handler="subroute",method="GET",server="srv0"} 2
caddy_http_request_duration_seconds_count{code="503",handler="subroute",method="GET",server="srv0"} 1
caddy_http_request_duration_seconds_count{code="200",handler="subroute",method="GET",server="srv0"} 5e+00
caddy_http_request_duration_seconds_count{code="200",handler="reverse_proxy",method="GET",server="srv0"} 1
caddy_http_request_duration_seconds_count{code="502",handler="headers",method="GET",server="srv0"} 2
caddy_http_response_duration_seconds_count{code="503",handler="subroute",method="GET",server="srv0"} 1
caddy_http_response_duration_seconds_count{code="200",handler="subroute",method="GET",server="srv0"} 5
caddy_http_response_duration_seconds_count{code="200",handler="reverse_proxy",method="GET",server="srv0"} 1
caddy_http_response_duration_seconds_bucket{code="200",handler="subroute",server="srv0",le="+Inf"} 5
caddy_http_response_duration_seconds_bucket{code="200",handler="subroute",server="srv0",le="0.005"} 4
caddy_http_response_duration_seconds_bucket{code="503",handler="subroute",server="srv0",le="+Inf"} 1
caddy_http_response_duration_seconds_bucket{code="200",handler="reverse_proxy",server="srv0",le="0.005"} 1
caddy_http_response_duration_seconds_bucket{code="200",handler="reverse_proxy",server="srv0",le="+Inf"} 1
caddy_http_response_duration_seconds_count{code="503",handler="subroute",method="GET",server="health-1"} 4
caddy_http_request_duration_seconds_count{code="503",handler="subroute",method="GET",server="health-1"} 4
caddy_http_requests_in_flight{handler="reverse_proxy",server="srv0"} 0
caddy_http_requests_in_flight{handler="subroute",server="health-1"} 8
"#;

    #[test]
    fn caddys_own_errors_are_told_apart_from_the_apps() {
        let seen = Metrics::parse(NEW);
        assert_eq!((seen.proxy_errors(), seen.requests_total()), (2, 10));
        assert_eq!((seen.answers(), seen.server_errors()), (7, 1));
        assert_eq!(seen.durations(), [(0.005, 5), (f64::INFINITY, 7)]);
        assert_eq!((seen.within(f64::INFINITY), seen.within(0.005)), (7, 5));
        assert_eq!(seen.clone().of_site().answers(), 0);
        assert_eq!(seen.without(&["srv0"]).requests_total(), 0);
    }

    #[test]
    fn below_2_8_failed_requests_have_no_code() {
        let old: Vec<&str> =
            NEW.lines().filter(|l| !l.contains("\"502\"") && !l.contains("\"404\"")).collect();
        assert_eq!(Metrics::parse(&old.join("\n")).proxy_errors(), 3);
    }

    #[test]
    fn malformed_lines_are_ignored() {
        let seen = Metrics::parse(
            "weird{path=\"a \\\"quoted\\\\ }thing\\n\",empty=\"\"} 1.5 1700000000\nbroken{x=\"\nno x",
        );
        assert_eq!(seen.sum("weird", &[("path", "a \"quoted\\ }thing\n"), ("empty", "")]), 1.5);
        assert_eq!(Metrics::parse("\0\u{1}{}{{\"").samples, []);
    }
}
