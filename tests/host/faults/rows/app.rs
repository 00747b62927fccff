//! The release, its database, Caddy.

use super::{ROW, Row};

/// A release that fails is held, and says so.
const BAD: Row = Row { code: &[3], ..ROW };
const MIGRATE: &str = "astra-agent deploy --force --migrate --wait 60s";

pub const ROWS: &[Row] = &[
    Row {
        id: "F35",
        what: "the app exits at once",
        short: true,
        push: "exits",
        says: &["exit code 3", "no good reason to live"],
        ..BAD
    },
    Row { id: "F36", what: "the app never says READY", push: "never-ready", says: &["not READY within"], ..BAD },
    Row {
        id: "F37",
        what: "READY, but its readiness path answers 503",
        push: "not-ready",
        says: &["/readyz answered 503"],
        ..BAD
    },
    Row {
        id: "F38",
        what: "READY, and it dies 2 s later",
        push: "flaps",
        before: "config 's/soak = .*/soak = \"4s\"/'",
        says: &["exited with code 4"],
        repair: "the row's soak is in the timeouts of the units",
        ..BAD
    },
    Row {
        id: "F40",
        what: "the app ignores SIGTERM, and is deployed away",
        push: "ignores-term",
        run: "astra-agent deploy --force --wait 60s && astra-agent rollback",
        seconds: 180,
        ..ROW
    },
    Row {
        id: "F41",
        what: "the app leaves children and zombies behind, and is deployed away",
        before: "config 's/^instances/command = [\"sh\", \"-c\", \"(sleep 4242 \\&); (true \\&); python3 serve.py\"]\\ninstances/'",
        run: "astra-agent deploy --force --wait 60s && cp /root/agent.toml /etc/astra/agent.toml && astra-agent deploy",
        then: "! pgrep -f 'sleep 4242'",
        commits: true,
        seconds: 180,
        ..ROW
    },
    Row {
        id: "F43",
        what: "READY comes from a child of process 1",
        before: "config 's/^instances/command = [\"sh\", \"-c\", \"python3 serve.py; true\"]\\ninstances/'",
        run: "astra-agent deploy --force --wait 60s && cp /root/agent.toml /etc/astra/agent.toml && astra-agent deploy",
        commits: true,
        seconds: 180,
        ..ROW
    },
    Row {
        id: "F44",
        what: "a squatter on the port of instance 2",
        short: true,
        before: "systemctl stop astra-app@2
            systemd-run -q --expand-environment=no --unit=squatter perl -MIO::Socket -e \
                '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1:8002\", ReuseAddr => 1) or die; sleep 600'
            until_ 'ss -tln 2>/dev/null | grep -q 127.0.0.1:8002 || curl -s -m 1 127.0.0.1:8002; [ $? != 7 ]'",
        cure: "systemctl stop squatter",
        repair: "the row stops an instance",
        code: &[1],
        says: &["8002"],
        ..ROW
    },
    Row {
        id: "F45",
        what: "a leftover container has the name of instance 1",
        before: "systemctl stop astra-app@1; podman create -q --name astra-app-1 $(image)",
        commits: true,
        ..ROW
    },
    Row {
        id: "F45b",
        what: "a leftover container that has ended has the name of instance 1",
        before: "systemctl stop astra-app@1; podman run -q --name astra-app-1 --entrypoint true $(image)",
        commits: true,
        ..ROW
    },
    Row {
        id: "F45c",
        what: "a leftover container that is paused has the name of instance 1",
        before: "systemctl stop astra-app@1; podman run -q -d --name astra-app-1 --entrypoint sleep $(image) 600 && kill -STOP $(podman inspect -f '{{.State.Pid}}' astra-app-1)",
        commits: true,
        ..ROW
    },
    Row {
        id: "F46",
        what: "a leftover migration container runs",
        before: "podman run -q -d --name astra-migrate --entrypoint sleep $(image) 600",
        run: MIGRATE,
        commits: true,
        ..ROW
    },
    Row {
        id: "F47",
        what: "the new release needs more memory than there is (OOM killer)",
        short: true,
        before: "newborn $(limit memory memory.limit_in_bytes 24M)",
        says: &["137", "out of memory"],
        ..BAD
    },
    Row {
        id: "F64",
        what: "Caddy stopped, and a deploy",
        before: "systemctl stop astra-caddy",
        may_lose: "Caddy is down",
        commits: true,
        ..ROW
    },
    Row {
        id: "F64b",
        what: "Caddy killed while the first instance is tried",
        short: true,
        beside: "trying 1; kill -9 $(caddy_pid)",
        may_lose: "Caddy is down",
        commits: true,
        ..ROW
    },
    Row {
        id: "F64c",
        what: "Caddy stopped for good while the first instance is tried",
        beside: "trying 1; systemctl stop astra-caddy",
        code: &[0, 1, 4],
        may_lose: "Caddy is down",
        ..ROW
    },
    Row {
        id: "F65",
        what: "Caddy's admin socket answers 403",
        before: "caddy_says '.' '403 Forbidden'",
        cure: "caddy_again",
        code: &[1],
        says: &["Caddy does not answer", "systemctl restart astra-caddy"],
        ..ROW
    },
    Row {
        id: "F66",
        what: "Caddy hung (SIGSTOP) while the first instance is tried",
        beside: "trying 1; kill -STOP $(caddy_pid)",
        cure: "kill -CONT $(caddy_pid)",
        code: &[1, 4],
        says: &["Caddy"],
        may_lose: "Caddy does not answer",
        ..ROW
    },
    Row {
        id: "F66b",
        what: "Caddy hung (SIGSTOP), and a rollback",
        before: "kill -STOP $(caddy_pid)",
        run: "astra-agent rollback",
        cure: "kill -CONT $(caddy_pid)",
        commits: true,
        may_lose: "Caddy does not answer",
        ..ROW
    },
    Row {
        id: "F67",
        what: "Caddy refuses the Caddyfile ([caddy] extra)",
        before: "config 's/^tls = \"off\"/tls = \"off\"\\nextra = \"no_such_directive\"/'",
        code: &[2],
        says: &["no_such_directive"],
        ..ROW
    },
    Row {
        id: "F69",
        what: "another process on port 80",
        before: "systemctl stop astra-caddy
            systemd-run -q --expand-environment=no --unit=squatter perl -MIO::Socket -e \
                '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"0.0.0.0:80\", ReuseAddr => 1) or die; sleep 600'
            until_ \"ss -Hltn 'sport = :80' | grep -q .\"",
        run: "astra-agent reconcile --wait 60s",
        cure: "systemctl stop squatter",
        code: &[1, 4],
        says: &["astra-caddy"],
        may_lose: "another process answers",
        ..ROW
    },
    Row {
        id: "F71",
        what: "PostgreSQL down before a migration",
        before: "systemctl stop postgresql",
        run: MIGRATE,
        cure: "systemctl start postgresql; until_ 'pg_isready -q'; sleep 1",
        says: &["migration"],
        may_lose: "the app is not ready without it",
        ..BAD
    },
    Row {
        id: "F72",
        what: "PostgreSQL dies in mid-migration",
        before: "sql 'DROP TABLE IF EXISTS hold'; systemd-run -q --collect --unit=holder bash -c '. /root/words.sh
            sql \"BEGIN; LOCK TABLE django_migrations; SELECT pg_sleep(60)\"'; locked",
        beside: "migrating; sleep 1; pg_ctlcluster 17 main stop -m immediate",
        run: MIGRATE,
        cure: "systemctl stop holder; systemctl restart postgresql; until_ 'pg_isready -q'; sleep 1",
        says: &["migration"],
        may_lose: "the app is not ready without it",
        ..BAD
    },
    Row {
        id: "F73",
        what: "a migration waits for a LOCK TABLE that never ends",
        before: "systemd-run -q --collect --unit=holder bash -c '. /root/words.sh
            sql \"BEGIN; LOCK TABLE django_migrations; SELECT pg_sleep(300)\"'; locked",
        run: MIGRATE,
        cure: "systemctl stop holder; sql 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ $$^BEGIN; LOCK$$'",
        then: "! podman ps -a --format '{{.Names}}' | grep astra-migrate",
        says: &["migration"],
        ..BAD
    },
    Row {
        id: "F73b",
        what: "a migration that hangs, and Ctrl-C",
        before: "systemd-run -q --collect --unit=holder bash -c '. /root/words.sh
            sql \"BEGIN; LOCK TABLE django_migrations; SELECT pg_sleep(300)\"'; locked",
        beside: "migrating; sleep 1; systemctl kill --kill-whom=main -s INT 'astra-agent-deploy-*'",
        run: MIGRATE,
        cure: "systemctl stop holder; sql 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ $$^BEGIN; LOCK$$'",
        then: "! podman ps -a --format '{{.Names}}' | grep astra-migrate",
        says: &["SIGINT"],
        code: &[1],
        ..ROW
    },
    Row {
        id: "F74",
        what: "a migration that hangs by itself",
        before: "config 's|\"./migrate.sh\"|\"sleep\", \"300\"|'",
        run: MIGRATE,
        then: "! podman ps -a --format '{{.Names}}' | grep astra-migrate",
        says: &["migration"],
        repair: "the unit of the migration follows agent.toml, which the row changes",
        ..BAD
    },
    Row {
        id: "F75b",
        what: "migrations are applied, and the command fails all the same: old code on a new schema",
        before: "config 's|\"./migrate.sh\"|\"sh\", \"-c\", \"./migrate.sh; exit 5\"|'",
        push: "v3",
        run: MIGRATE,
        says: &["the migration ended with code 5"],
        repair: "the unit of the migration follows agent.toml, which the row changes",
        ..BAD
    },
    Row {
        id: "F75",
        what: "a migration fails",
        short: true,
        push: "migrate-fails",
        run: MIGRATE,
        says: &["the migration ended with code 1", "fails on purpose"],
        ..BAD
    },
    Row {
        id: "F76",
        what: "PostgreSQL: too many connections",
        before: "sql 'ALTER ROLE astra CONNECTION LIMIT 0'; sql 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $$astra$$' >/dev/null",
        run: MIGRATE,
        cure: "sql 'ALTER ROLE astra CONNECTION LIMIT -1'; sleep 1",
        says: &["too many connections"],
        may_lose: "the app is not ready without it",
        ..BAD
    },
    Row {
        id: "F77",
        what: "the database password rotated meanwhile",
        before: "sql \"ALTER ROLE astra PASSWORD 'other'\"",
        run: MIGRATE,
        cure: "sql \"ALTER ROLE astra PASSWORD 'canary-db-pw-7f3a'\"; sleep 1",
        says: &["password authentication failed"],
        may_lose: "the app is not ready without it",
        ..BAD
    },
    Row {
        id: "F90",
        what: "the rollback image pruned",
        before: "astra-agent deploy --force; podman rmi -f $(cat /etc/astra/last_app_image)",
        run: "astra-agent rollback",
        ..ROW
    },
    Row {
        id: "F90b",
        what: "the rollback image pruned, and the registry down",
        before: "astra-agent deploy --force; podman rmi -f $(cat /etc/astra/last_app_image)",
        registry: "down",
        commits: true,
        run: "astra-agent rollback",
        code: &[1],
        says: &["pulling"],
        ..ROW
    },
    Row {
        id: "F91",
        what: "the release that a rollback goes to fails too",
        before: "config 's/^SECRET_KEY/APP_FAULT = \"exits\"\\nSECRET_KEY/'",
        run: "astra-agent rollback",
        says: &["no good reason to live"],
        ..BAD
    },
    Row {
        id: "F91b",
        what: "a bad release, and the committed one does not come back either",
        short: true,
        push: "exits",
        beside: "trying 1; echo APP_FAULT=exits >>/etc/astra/astra.env",
        cure: "sed -i /^APP_FAULT=/d /etc/astra/astra.env",
        code: &[4],
        says: &["undo: return astra-app@1", "astra-agent status"],
        ..ROW
    },
];
