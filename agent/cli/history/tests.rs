use super::*;
use crate::model::fingerprint::HostKey;

const NOW: u64 = 1_800_000_000_000;

fn ran(run: u64, minutes: u64, verb: Verb, release: u64, outcome: Option<Outcome>) -> Row {
    let image = format!("ghcr.io/you/shop@sha256:{}", format!("{release:02x}").repeat(32)).parse().unwrap();
    let fingerprint = HostKey::new([0; 32]).fingerprint([b"env".as_slice()]);
    Row {
        run,
        at: out::time(NOW - minutes * 60_000),
        verb,
        accessory: None,
        changed: BTreeMap::new(),
        actor: "root".to_owned(),
        release: (release > 0).then_some(Release {
            number: release,
            image,
            images: BTreeMap::new(),
            fingerprint,
        }),
        outcome,
        reason: None,
        seconds: outcome.map(|_| 15.62),
        recovered: false,
        plan: Vec::new(),
    }
}

fn rows() -> Vec<Row> {
    let failed = Outcome::Undone { blame: Blame::Release };
    let reason = format!(
        "wait until astra-app@1 is ready: not ready within 60s: /readyz answered 500 with sha256:{}",
        "ab".repeat(32)
    );
    vec![
        ran(14, 2, Verb::CaddyUpgrade, 0, None),
        Row { reason: Some(reason), recovered: true, ..ran(13, 130, Verb::DeploySha, 6, Some(failed)) },
        ran(10, 14_399, Verb::Rollback, 0, Some(Outcome::Converged)),
        ran(9, 14_400, Verb::Deploy, 5, Some(Outcome::Converged)),
    ]
}

#[test]
fn eighty_columns_hold_every_run_with_whole_words() {
    let text = table(&rows(), NOW, Some(80), false);
    let expected = "\
RUN  AGE        VERB                   RELEASE  DIGEST        OUTCOME         TOOK    BY
14   2 min ago  caddy-upgrade          -        -             not ended       -       root
13   2 h ago    deploy-sha             6        060606060606  release failed  15.6 s  root
      closed by recover
      wait until astra-app@1 is ready: not ready within 60s: /readyz answered
      500 with sha256:abababababab…
10   9 d ago    rollback (no release)  -        -             converged       15.6 s  root
9    10 d ago   deploy                 5        050505050505  converged       15.6 s  root";
    assert_eq!(text, expected);
}

#[test]
fn a_wide_terminal_and_a_pipe_show_the_start_time() {
    for columns in [Some(200), None] {
        let text = table(&rows(), NOW, columns, false);
        assert!(text.contains("2027-01-15 07:58:00Z"), "{text}");
    }
}
