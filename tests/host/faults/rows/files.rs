//! Damaged, missing and malicious files.

use super::{ROW, Row};

/// Keeps the newest journal file aside, and restores it.
const JOURNAL: Row = Row { cure: "mv /root/run.jsonl $(cat /root/run.name)", code: &[4], ..ROW };

pub const ROWS: &[Row] = &[
    Row {
        id: "F79",
        what: "journal: a torn last line",
        short: true,
        before: "printf '{\"at\":1,\"entr' >>$(journal)",
        commits: true,
        ..ROW
    },
    Row {
        id: "F79b",
        what: "journal: a damaged line, and a deploy",
        short: true,
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl; sed -i '2s/^{/[/' $(journal)",
        says: &["journal is damaged", "rollback", "moved away"],
        ..JOURNAL
    },
    Row {
        id: "F79c",
        what: "journal: a FIFO in place of a run",
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl; rm $(journal); mkfifo $(cat /root/run.name)",
        cure: "rm $(cat /root/run.name); mv /root/run.jsonl $(cat /root/run.name)",
        says: &["journal is damaged", "moved away"],
        ..JOURNAL
    },
    Row {
        id: "F79d",
        what: "journal: a symlink to /etc/shadow in place of a run",
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl; ln -sf /etc/shadow $(journal)",
        cure: "rm $(cat /root/run.name); mv /root/run.jsonl $(cat /root/run.name)",
        says: &["journal is damaged", "moved away"],
        ..JOURNAL
    },
    Row {
        id: "F79e",
        what: "journal: a run of 5 GiB",
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl; truncate -s 5G $(journal)",
        says: &["journal is damaged", "moved away"],
        ..JOURNAL
    },
    Row {
        id: "F79f",
        what: "journal: a directory in place of a run",
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl; rm $(journal); mkdir $(cat /root/run.name)",
        cure: "rmdir $(cat /root/run.name); mv /root/run.jsonl $(cat /root/run.name)",
        says: &["journal is damaged", "moved away"],
        ..JOURNAL
    },
    Row {
        id: "F79g",
        what: "journal: an empty file for the newest run",
        before: "touch $(printf '/var/lib/astra-agent/journal/%06d.jsonl' 999)",
        cure: "rm -f /var/lib/astra-agent/journal/000999.jsonl",
        commits: true,
        ..ROW
    },
    Row {
        id: "F79h",
        what: "journal: an older run damaged, and a rollback by hand",
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl; sed -i '2s/^{/[/' $(journal)
            astra-agent history >/dev/null || true",
        run: "astra-agent rollback",
        code: &[0, 1],
        says: &["journal is damaged"],
        then: "[ $(image | wc -l) = 1 ]",
        ..JOURNAL
    },
    Row {
        id: "F79i",
        what: "journal: a directory that others can write",
        before: "chmod 0777 /var/lib/astra-agent/journal",
        cure: "chmod 0700 /var/lib/astra-agent/journal",
        commits: true,
        then: "[ $(stat -c %a /var/lib/astra-agent/journal) = 700 ]",
        ..ROW
    },
    Row {
        id: "F79j",
        what: "journal: a line of an agent from the future",
        before: "journal >/root/run.name; cp -a $(journal) /root/run.jsonl
            printf '{\"at\":1,\"entry\":\"teleported\",\"to\":\"mars\"}\n' >>$(journal)",
        says: &["journal is damaged", "moved away"],
        ..JOURNAL
    },
    Row {
        id: "F79k",
        what: "journal: a run that belongs to uid 1000",
        before: "chown 1000 $(journal)",
        cure: "chown 0 /var/lib/astra-agent/journal/*.jsonl",
        code: &[0, 1, 4],
        ..ROW
    },
    Row {
        id: "F80",
        what: "astra.env: a symlink",
        short: true,
        before: "mv /etc/astra/astra.env /etc/astra/real; ln -s real /etc/astra/astra.env",
        cure: "mv /etc/astra/real /etc/astra/astra.env",
        code: &[1, 2],
        says: &["astra.env", "symlink"],
        ..ROW
    },
    Row {
        id: "F80b",
        what: "agent.toml: a FIFO",
        before: "rm /etc/astra/agent.toml; mkfifo /etc/astra/agent.toml",
        cure: "rm /etc/astra/agent.toml",
        code: &[1, 2],
        says: &["agent.toml"],
        seconds: 15,
        ..ROW
    },
    Row {
        id: "F80c",
        what: "agent.toml: a directory",
        before: "rm /etc/astra/agent.toml; mkdir /etc/astra/agent.toml",
        cure: "rmdir /etc/astra/agent.toml",
        code: &[1, 2],
        says: &["agent.toml"],
        seconds: 15,
        ..ROW
    },
    Row {
        id: "F80d",
        what: "agent.toml: 5 GiB of nothing",
        before: "truncate -s 5G /etc/astra/agent.toml",
        code: &[1, 2],
        says: &["agent.toml"],
        seconds: 15,
        ..ROW
    },
    Row {
        id: "F80e",
        what: "agent.toml: gone",
        before: "rm /etc/astra/agent.toml",
        code: &[2],
        says: &["agent.toml"],
        seconds: 15,
        ..ROW
    },
    Row {
        id: "F80f",
        what: "Caddyfile: a symlink to /etc/shadow",
        before: "ln -sf /etc/shadow /etc/astra/Caddyfile",
        run: "astra-agent reconcile --wait 60s",
        then: "[ -f /etc/astra/Caddyfile ] && [ ! -L /etc/astra/Caddyfile ]",
        ..ROW
    },
    Row {
        id: "F80g",
        what: "symlinks to /etc/shadow planted for trial files and markers",
        short: true,
        before: "ln -s /etc/shadow /run/astra/trial.env; ln -s /etc/shadow /run/astra/trial-1.env
            ln -s /etc/shadow /run/astra/drain/1",
        commits: true,
        ..ROW
    },
    Row {
        id: "F80h",
        what: "run.lock: a symlink to /etc/shadow",
        before: "rm -f /run/astra/run.lock; ln -s /etc/shadow /run/astra/run.lock",
        cure: "rm /run/astra/run.lock",
        code: &[1],
        says: &["run.lock"],
        ..ROW
    },
    Row {
        id: "F80i",
        what: "/run/astra/drain: a symlink to /etc",
        before: "rmdir /run/astra/drain; ln -s /etc /run/astra/drain",
        cure: "rm /run/astra/drain; mkdir -m 0755 /run/astra/drain; systemctl restart astra-caddy; sleep 2",
        code: &[1],
        says: &["/run/astra/drain"],
        may_lose: "the cure restarts Caddy",
        ..ROW
    },
    Row {
        id: "F80j",
        what: "/etc/astra: writable by all users",
        before: "chmod 0777 /etc/astra",
        cure: "chmod 0700 /etc/astra",
        code: &[1],
        says: &["chmod go-w /etc/astra"],
        ..ROW
    },
    Row {
        id: "F80k",
        what: "/etc/astra: owned by uid 1000",
        before: "chown 1000 /etc/astra",
        cure: "chown 0 /etc/astra",
        code: &[1],
        says: &["/etc/astra"],
        ..ROW
    },
    Row {
        id: "F81",
        what: "astra.env: a second hard link",
        before: "ln /etc/astra/astra.env /etc/astra/second",
        cure: "rm /etc/astra/second",
        commits: true,
        ..ROW
    },
    Row {
        id: "F82",
        what: "Caddyfile and a symlink to /etc/shadow exchanged in a loop, under eight reconciles",
        before: "ln -s /etc/shadow /etc/astra/trap
            systemd-run -q --expand-environment=no --unit=swapper perl -e 'my ($one, $two) = (q(/etc/astra/Caddyfile), q(/etc/astra/trap));
                for (;;) { syscall(316, -100, $one, -100, $two, 2); select(undef, undef, undef, 0.001) }'
            until_ '[ -L /etc/astra/Caddyfile ]'",
        run: "for _ in 1 2 3 4 5 6 7 8; do astra-agent reconcile --wait 60s; done",
        cure: "systemctl stop swapper; rm -f /etc/astra/trap /etc/astra/Caddyfile",
        code: &[0, 1, 4],
        repair: "the file is gone with the fault",
        ..ROW
    },
];
