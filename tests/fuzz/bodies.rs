// The bodies of the cargo-fuzz targets, and of tests/fuzz.rs, which runs them without cargo-fuzz. Each parses
// arbitrary bytes, without side effects, and compares the result with the input.

use astra_agent::host::caddy::{Metrics, read_upstreams};
use astra_agent::host::registry::auth::{Challenge, bearer, credentials_in};
use astra_agent::host::registry::digest_of;
use astra_agent::journal;
use astra_agent::model::cron::CronExpr;
use astra_agent::model::envfile::EnvFile;
use astra_agent::model::history::{History, RunRecord};
use astra_agent::model::image::{DigestArg, PinnedImage, Repository, TrackedImage};
use astra_agent::model::policy::{Policy, Verdict};
use astra_agent::model::release::Release;
use astra_agent::model::secret::Secret;
use astra_agent::model::token;

pub struct Target {
    pub name: &'static str,
    pub body: fn(&[u8]),
    /// The first inputs of the mutator.
    pub corpus: &'static [&'static str],
    /// Words with a meaning in the grammar.
    pub words: &'static [&'static str],
}

const HEX: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub const TARGETS: &[Target] = &[
    Target {
        name: "env_file",
        body: env_file,
        corpus: &[
            "APP_IMAGE=ghcr.io/a/b@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\nASTRA_RELEASE=7\nAPP_ARGS='--x \"a b\"'\nAPP_COMMAND='sh -c \"echo a  b $HOME\"'\n",
            "# c\r\nA=1\r\nX='q'\nA=2\n\n  B = 3\nlast",
            "K=\"a\\\nb\"\n; c\nexport K=v\nK*\n\u{feff}K=1\n",
        ],
        words: &[
            "'",
            "\"",
            "\\",
            "\n",
            "\r",
            "=",
            "#",
            ";",
            " ",
            "\t",
            "APP_IMAGE=",
            "ASTRA_RELEASE=",
            "APP_ARGS=",
            "\0",
            "\u{feff}",
        ],
    },
    Target {
        name: "image",
        body: image,
        corpus: &[
            "ghcr.io/almalinux/astra:latest",
            "127.0.0.1:5000/a@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
            "docker.io/library/x-y_z.w",
        ],
        words: &[
            "@",
            ":",
            "/",
            "sha256:",
            "sha512:",
            HEX,
            "..",
            "-",
            "docker://",
            "[::1]",
            "localhost",
            "\u{443}",
        ],
    },
    Target {
        name: "digest",
        body: digest,
        corpus: &[HEX, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"],
        words: &["sha256:", "@", "A", "g", "\u{e9}", HEX],
    },
    Target {
        name: "cron",
        body: cron,
        corpus: &["*/15\n4\n1,15\n*\nmon-fri", "0\n0\n*\n*\n*", "1-5/2\n23\n31\njan-feb\n0,7"],
        words: &[
            "*",
            "/",
            "-",
            ",",
            "0",
            "7",
            "59",
            "60",
            "99999999999999999999",
            "sun",
            "feb",
            "@reboot",
            "\n",
            "L",
            "#",
        ],
    },
    Target {
        name: "config",
        body: config,
        corpus: &[
            include_str!("../../packaging/agent.toml"),
            "[app]\nimage = \"ghcr.io/a/b:c\"\ninstances = 3\n[env]\nA = \"hunter2\"\nB = { generate = 64 }\n[caddy]\nhosts = [\"a.example\"]\nblock = [\"/.env\"]\n[[cron_jobs]]\nname = \"a\"\nevery = \"10s\"\nrun = [\"x\"]\n[verify]\nrequire_signature = true\n",
        ],
        words: &[
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "\"",
            "'''",
            "\"\"\"",
            "=",
            "\n",
            ".",
            "\\u0000",
            "0x",
            "1e999",
            "nan",
            "\u{feff}",
            "[env]",
            "[app.readiness]",
            "cron_jobs",
        ],
    },
    Target {
        name: "journal",
        body: journal_lines,
        corpus: &[concat!(
            "{\"at\":1,\"entry\":\"opened\",\"verb\":\"deploy\",\"actor\":\"a\",\"agent\":\"0\",\"plan\":[\"x\"],\"old\":null,\"new\":{\"number\":1,\"image\":\"ghcr.io/a/b@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\",\"fingerprint\":\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"},\"pins\":false}\n",
            "{\"at\":2,\"entry\":\"started\",\"step\":0}\n",
            "{\"at\":2,\"entry\":\"failed\",\"step\":0,\"blame\":\"release\",\"error\":\"x\"}\n",
            "{\"at\":3,\"entry\":\"closed\",\"outcome\":{\"undone\":{\"blame\":\"release\"}},\"recovered\":false}\n"
        )],
        words: &[
            "\n",
            "{",
            "}",
            "\"",
            ":",
            ",",
            "null",
            "\"entry\":",
            "\"opened\"",
            "\"closed\"",
            "\"committed\"",
            "18446744073709551615",
            "-1",
            "\\ud800",
        ],
    },
    Target {
        name: "registry",
        body: registry,
        corpus: &[
            "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/x:pull\"\n{\"token\": \"abc\"}",
            "Basic realm=\"x, y\", Bearer realm=https://a/t\n{\"auths\": {\"ghcr.io\": {\"auth\": \"YTpi\"}, \"ghcr.io/a\": {\"identitytoken\": \"x\"}}, \"credHelpers\": {}}",
            "Basic\n{\"schemaVersion\": 2, \"config\": {\"digest\": \"sha256:00\"}, \"layers\": []}",
        ],
        words: &[
            "\"",
            "\\",
            ",",
            "=",
            " ",
            "Bearer",
            "Basic",
            "realm",
            "\n",
            "{",
            "}",
            "[",
            "\"auths\":",
            "\"auth\":",
            "\"token\":",
            "https://",
        ],
    },
    Target {
        name: "caddy",
        body: caddy,
        corpus: &[
            "# TYPE caddy_http_requests_total counter\ncaddy_http_requests_total{handler=\"subroute\",server=\"srv0\"} 17\ncaddy_http_request_duration_seconds_count{code=\"502\",handler=\"subroute\",method=\"GET\",server=\"srv0\"} 3\ncaddy_http_response_duration_seconds_bucket{code=\"200\",handler=\"subroute\",method=\"GET\",server=\"srv0\",le=\"0.005\"} 1e3\n",
            "[{\"address\":\"127.0.1.1:8001\",\"num_requests\":3,\"fails\":0}]",
            "null",
        ],
        words: &[
            "{",
            "}",
            "\"",
            "\\",
            ",",
            "=",
            " ",
            "\n",
            "le=",
            "+Inf",
            "NaN",
            "-1",
            "1e308",
            "server=\"health-1\"",
            "null",
        ],
    },
    Target {
        name: "policy",
        body: policy,
        corpus: &[
            "{\"default\": [{\"type\": \"reject\"}], \"transports\": {\"docker\": {\"ghcr.io/a/b\": [{\"type\": \"sigstoreSigned\", \"keyPath\": \"/k\", \"signedIdentity\": {\"type\": \"matchRepository\"}}], \"\": [{\"type\": \"insecureAcceptAnything\"}]}}}",
            "{\"default\": [{\"type\": \"signedBy\", \"keyType\": \"GPGKeys\", \"keyPaths\": [\"/a\", \"/b\"]}]}",
        ],
        words: &[
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "\"type\":",
            "\"insecureAcceptAnything\"",
            "\"default\":",
            "\"docker\":",
            "null",
            "\\u0000",
        ],
    },
    Target {
        name: "token",
        body: login_token,
        corpus: &["e30.eyJpYXQiOjEwMDAsImV4cCI6MjAwMH0.c2ln", "eyJleHBpcmF0aW9uIjoxMDAwMDB9"],
        words: &[".", "=", "-", "_", "eyJ", "e30"],
    },
];

pub fn env_file(bytes: &[u8]) {
    let file = EnvFile::parse(bytes);
    assert_eq!(file.render(), bytes, "an untouched file comes back byte for byte");
    let (problems, keys) = (file.check(), file.keys());
    let lines = bytes.split(|b| *b == b'\n').count();
    assert!(problems.iter().all(|p| (1..=lines).contains(&p.line)));
    for key in &keys {
        assert!(file.get(key).is_some(), "a name that is listed has a value");
    }
    if let Ok(Some(managed)) = file.managed()
        && let Ok(same) = file.with_managed(&managed)
    {
        assert_eq!(same.managed(), Ok(Some(managed)));
    }
    let mut edited = file.clone();
    if edited.set("FUZZ", &Secret::new("a b")).is_ok() {
        let again = EnvFile::parse(edited.render());
        assert_eq!(again.get("FUZZ"), Some(Secret::new("a b")));
        for key in keys.iter().filter(|k| *k != "FUZZ") {
            assert_eq!(again.get(key), file.get(key), "another line changed");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn image(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(image) = text.parse::<TrackedImage>() {
        assert_eq!(image.to_string().parse::<TrackedImage>().as_ref(), Ok(&image));
    }
    if let Ok(image) = text.parse::<PinnedImage>() {
        assert_eq!(image.to_string(), text);
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.to_string(), text);
        assert!(!text.contains([' ', '\n', '"', '\'', '$', '\\', '@']), "it stands in units, files and URLs");
    }
}

pub fn digest(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(arg) = text.parse::<DigestArg>() {
        let hex = arg.digest.hex();
        assert!(hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(arg.digest.to_string().parse::<DigestArg>().unwrap().digest, arg.digest);
        assert!(text.ends_with(hex));
    }
}

pub fn cron(bytes: &[u8]) {
    let text = text(bytes);
    let fields: Vec<_> = text.split('\n').collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or("*");
    if let Ok(expr) = CronExpr::parse(field(0), field(1), field(2), field(3), field(4)) {
        let calendar = expr.on_calendar();
        assert!((1..=2).contains(&calendar.len()), "{calendar:?}");
        assert!(calendar.iter().all(|line| !line.contains(['\n', '%'])), "{calendar:?}");
    }
}

pub fn config(bytes: &[u8]) {
    // Files that are not UTF-8 are refused earlier.
    if let Err(errors) = astra_agent::config::parse(&[("agent.toml".into(), text(bytes))]) {
        assert!(!errors.to_string().is_empty());
    }
}

pub fn journal_lines(bytes: &[u8]) {
    let Ok(entries) = journal::parse(bytes) else { return };
    let mut again = Vec::new();
    for entry in &entries {
        again.extend(serde_json::to_vec(entry).unwrap());
        again.push(b'\n');
    }
    assert_eq!(journal::parse(&again).unwrap(), entries, "what was read can be written");
    let runs = [1, 2, 3].map(|id| RunRecord { id, entries: entries.clone() });
    let history = History::of(runs.into());
    if let Some(target) = history.rollback_target() {
        let held = history.held_images(target).is_some();
        assert_eq!(history.way_back_held().is_some(), held, "a held rollback target is reported");
    }
    let own = |release: &Release| release.images.len();
    let most = history.releases.iter().map(own).max().unwrap_or_default();
    assert!(history.newest_digests(3).len() <= 3 * (1 + most));
    let _ = history.open_runs().count();
}

pub fn registry(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (head, body) = (text(&bytes[..end]), &bytes[(end + 1).min(bytes.len())..]);
    let _ = Challenge::best([head.as_str(), "Basic"].into_iter());
    let _ = Challenge::best(std::iter::once(head.as_str()));
    let _ = bearer(body);
    for repository in ["ghcr.io/a/b", "docker.io/library/x"] {
        let _ = credentials_in(body, &repository.parse().unwrap());
    }
    if let Some(digest) = digest_of(body) {
        assert_eq!(digest.hex().len(), 64);
    }
}

pub fn caddy(bytes: &[u8]) {
    let metrics = Metrics::parse(&text(bytes));
    let _ = (metrics.proxy_errors(), metrics.requests_total());
    let bounds = metrics.durations();
    assert!(bounds.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{bounds:?}");
    let _ = metrics.clone().without(&["srv0"]).requests_total();
    let _ = read_upstreams(bytes);
}

pub fn policy(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(bytes) else { return };
    // Accepted text must be valid JSON for other readers, too.
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let image: PinnedImage = format!("ghcr.io/a/b@{HEX}").parse().unwrap();
    if let Verdict::Signed { .. } = policy.verdict(&image) {
        let text = value.to_string();
        assert!(text.contains("signedBy") || text.contains("sigstoreSigned"));
    }
}

pub fn login_token(bytes: &[u8]) {
    let _ = token::expiry(&text(bytes));
}
