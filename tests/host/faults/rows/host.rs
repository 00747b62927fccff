//! systemd, the bus, the engine, the agent's own process.

use super::{GOOD, ROW, Row};

const GOES_ON: Row = Row { push: GOOD, commits: true, ..ROW };

pub const ROWS: &[Row] = &[
    Row {
        id: "F20",
        what: "dbus killed while the first instance is tried",
        short: true,
        beside: "trying 1; systemctl kill -s KILL dbus.service",
        ..GOES_ON
    },
    Row {
        id: "F21",
        what: "dbus hung for 8 s while the first instance is tried",
        beside: "trying 1; pkill -STOP -x 'dbus-(daemon|broker)'; sleep 8; pkill -CONT -x 'dbus-(daemon|broker)'",
        ..GOES_ON
    },
    Row {
        id: "F21b",
        what: "dbus hung for good before a deploy",
        before: "pkill -STOP -x 'dbus-(daemon|broker)'",
        cure: "pkill -CONT -x 'dbus-(daemon|broker)'",
        code: &[1],
        says: &["D-Bus"],
        seconds: 60,
        ..ROW
    },
    Row {
        id: "F21c",
        what: "dbus hung for good while the first instance is tried",
        beside: "trying 1; pkill -STOP -x 'dbus-(daemon|broker)'",
        cure: "pkill -CONT -x 'dbus-(daemon|broker)'; sleep 1; until_ 'flock -n /run/astra/run.lock true'",
        code: &[4],
        says: &["lost contact with the run", "systemctl status dbus"],
        seconds: 240,
        ..ROW
    },
    Row {
        id: "F22",
        what: "daemon-reload in a loop",
        beside: "trying 1; for _ in $(seq 30); do systemctl daemon-reload; done",
        ..GOES_ON
    },
    Row {
        id: "F23",
        what: "daemon-reexec while the first instance is tried",
        beside: "trying 1; systemctl daemon-reexec",
        ..GOES_ON
    },
    Row {
        id: "F24",
        what: "astra-app@1.service masked",
        short: true,
        before: "systemctl mask -q --runtime astra-app@1.service",
        cure: "systemctl unmask -q --runtime astra-app@1.service",
        code: &[1],
        says: &["masked"],
        ..ROW
    },
    Row {
        id: "F25",
        what: "a drop-in for the unit added while the first instance is tried",
        beside: "trying 1; mkdir -p /etc/systemd/system/astra-app@.service.d
            printf '[Service]\\nTimeoutStopSec=33\\n' >/etc/systemd/system/astra-app@.service.d/50-mine.conf",
        cure: "rm -r /etc/systemd/system/astra-app@.service.d; systemctl daemon-reload",
        ..GOES_ON
    },
    Row {
        id: "F25b",
        what: "the unit file replaced while the first instance is tried",
        beside:
            "trying 1; sed -i 's/^Description=.*/Description=edited/' /etc/systemd/system/astra-app@.service
            systemctl daemon-reload",
        ..GOES_ON
    },
    Row {
        id: "F26",
        what: "`systemctl stop` of the instance that is being started",
        short: true,
        push: "never-ready",
        beside: "trying 1; until_ '[ $(systemctl show -P SubState astra-app@1) = start ]'; systemctl stop astra-app@1",
        code: &[1],
        says: &["astra-app@1"],
        ..ROW
    },
    Row {
        id: "F27",
        what: "podman's service hung, and a deploy",
        before: "systemctl start podman.service; systemctl kill -s STOP podman.service",
        cure: "systemctl kill -s CONT podman.service",
        code: &[1],
        says: &["engine"],
        push: "v3",
        ..ROW
    },
    Row {
        id: "F27b",
        what: "podman's service hung, and a rollback",
        before: "astra-agent deploy --force; systemctl start podman.service; systemctl kill -s STOP podman.service",
        run: "astra-agent rollback",
        cure: "systemctl kill -s CONT podman.service",
        ..ROW
    },
    Row {
        id: "F62",
        what: "podman: a ruined container of ours, as a power cut in a migration leaves it",
        short: true,
        before: "podman create -q --name astra-migrate --label astra.release=9 $(image) true
            layer=$(podman inspect -f '{{.GraphDriver.Data.UpperDir}}' astra-migrate); : >${layer%/diff}/link
            systemctl show -P InvocationID astra-app@1 astra-app@2 >/root/runs; rm -f /run/astra/seen.json",
        run: "astra-agent reconcile",
        says: &["up to date: release"],
        repair: "the ruined container goes with the next run that does something",
        then: "systemctl show -P InvocationID astra-app@1 astra-app@2 | cmp - /root/runs && astra-agent status",
        ..ROW
    },
    Row {
        id: "F28",
        what: "podman's socket gone",
        short: true,
        before: "systemctl stop podman.socket podman.service; rm -f /run/podman/podman.sock",
        cure: "systemctl start podman.socket",
        code: &[1],
        says: &["engine does not answer", "podman.socket"],
        push: "v3",
        ..ROW
    },
    Row {
        id: "F28b",
        what: "podman's socket gone, and a rollback",
        before: "astra-agent deploy --force; systemctl stop podman.socket podman.service; rm -f /run/podman/podman.sock",
        run: "astra-agent rollback",
        cure: "systemctl start podman.socket",
        ..ROW
    },
    Row {
        id: "F28c",
        what: "podman's socket may not be opened (mode 0)",
        before: "systemctl start podman.socket; chmod 0 /run/podman/podman.sock",
        cure: "chmod 0660 /run/podman/podman.sock",
        code: &[0, 1],
        push: "v3",
        ..ROW
    },
    Row {
        id: "F29",
        what: "kill -9 of the podman that starts the first instance",
        beside: "trying 1; until_ 'pkill -9 -f \"podman run .*astra-app-1\"'",
        // If it is killed after conmon took over, nothing is wrong.
        run: "astra-agent deploy --force --wait 60s >/root/said; c=$?; cat /root/said
            [ $c = 0 ] || grep -q 'podman was killed (signal 9) while it started astra-app@1' /root/said || exit 99
            exit $c",
        code: &[0, 1],
        then: "[ $(image | wc -l) = 1 ]",
        ..ROW
    },
    Row {
        id: "F30",
        what: "kill -9 of the conmon of an instance that serves, and reconcile",
        beside: "kill -9 $(systemctl show -P MainPID astra-app@1)",
        run: "sleep 0.3; astra-agent reconcile --wait 60s",
        then: "until_ 'astra-agent status >/dev/null'",
        may_lose: "what that instance was answering",
        ..ROW
    },
    Row {
        id: "F32",
        what: "another process holds podman's storage lock for 5 s",
        beside: "trying 1; perl -MFcntl -e 'open(my $f, q(+<), $ARGV[0]) or die $!;
            my $lock = pack(q(ssx4qqlx4), F_WRLCK, 0, 0, 0, 0); fcntl($f, F_SETLKW, $lock) or die $!; sleep 5' /var/lib/containers/storage/storage.lock",
        ..GOES_ON
    },
    Row {
        id: "F33",
        what: "the image removed between pull and start",
        push: "v3",
        beside: "until_ '[ -e /run/astra/drain/1 ]'; podman rmi -f $(sed -n s/^APP_IMAGE=//p /run/astra/trial.env)",
        code: &[1],
        says: &["astra-app@1"],
        ..ROW
    },
    Row {
        id: "F34",
        what: "podman's database damaged, and a deploy",
        before: "systemctl stop podman.socket podman.service; cd /var/lib/containers/storage; cp -a db.sql /root/db.sql
            dd if=/dev/urandom of=db.sql bs=4k count=4 conv=notrunc status=none; systemctl start podman.socket",
        cure: "systemctl stop podman.socket podman.service; rm -f /var/lib/containers/storage/db.sql-*
            cp -a /root/db.sql /var/lib/containers/storage/db.sql
            systemctl reset-failed podman.socket podman.service; systemctl start podman.socket",
        code: &[1],
        says: &["engine", "journalctl -u podman"],
        push: "v3",
        ..ROW
    },
    Row {
        id: "F48",
        what: "the agent killed for want of memory (OOM) while the first instance is tried",
        short: true,
        beside: "group=$(limit memory memory.limit_in_bytes 16K); trying 1; echo $(main) >$group/cgroup.procs",
        code: &[4],
        says: &["was killed (signal 9)"],
        then: "until_ 'astra-agent status >/dev/null'",
        ..ROW
    },
    Row {
        id: "F49",
        what: "the agent may start no thread or process from the first instance on",
        beside: "group=$(limit pids pids.max 1); trying 1; echo $(main) >$group/cgroup.procs",
        ..GOES_ON
    },
    Row {
        id: "F51",
        what: "the agent gets 1% of a processor from the first instance on",
        beside: "group=$(limit cpu cpu.cfs_quota_us 1000); trying 1; echo $(main) >$group/cgroup.procs",
        seconds: 240,
        ..GOES_ON
    },
    Row {
        id: "F50",
        what: "an instance may open 16 files (LimitNOFILE=)",
        before: "mkdir -p /run/systemd/system/astra-app@1.service.d
            printf '[Service]\\nLimitNOFILE=16\\n' >/run/systemd/system/astra-app@1.service.d/50-few.conf
            systemctl daemon-reload",
        code: &[4],
        says: &["astra-app@1"],
        cure: "rm -r /run/systemd/system/astra-app@1.service.d; systemctl daemon-reload",
        ..ROW
    },
    Row {
        id: "F54",
        what: "two deploys at once",
        short: true,
        run: "astra-agent deploy --force --wait 60s & until_ '! flock -n /run/astra/run.lock true'
            astra-agent deploy; second=$?; wait $! || exit 99; exit $second",
        code: &[75],
        says: &["another run holds the lock", "astra-agent deploy", "--wait"],
        ..GOES_ON
    },
    Row {
        id: "F55",
        what: "a deploy, and a rollback that waits for it",
        run: "astra-agent deploy --force --wait 60s & until_ '! flock -n /run/astra/run.lock true'
            astra-agent rollback --wait 90s; second=$?; wait $! || exit 99; exit $second",
        ..ROW
    },
    Row {
        id: "F56",
        what: "`systemctl restart` of the other instance while the first is tried",
        // Canceled if the agent's own job for that instance comes in between.
        beside: "trying 1; systemctl restart astra-app@2 || true",
        may_lose: "the first is drained, the other is restarted",
        ..GOES_ON
    },
    Row {
        id: "F57",
        what: "astra.env edited by hand while the first instance is tried",
        short: true,
        beside: "trying 1; echo EXTRA=1 >>/etc/astra/astra.env",
        then: "grep -qx EXTRA=1 /etc/astra/astra.env",
        cure: "sed -i /^EXTRA=/d /etc/astra/astra.env",
        ..GOES_ON
    },
    Row {
        id: "F60",
        what: "the agent stopped for 60 s (SIGSTOP) while the first instance is tried",
        beside: "trying 1; systemctl kill -s STOP 'astra-agent-deploy-*'; sleep 60
            systemctl kill -s CONT 'astra-agent-deploy-*'",
        ..GOES_ON
    },
    Row {
        id: "F61",
        what: "SIGTERM while the first instance is tried",
        short: true,
        beside: "trying 1; systemctl kill --kill-whom=main -s TERM 'astra-agent-deploy-*'",
        code: &[1],
        says: &["SIGTERM"],
        ..ROW
    },
    Row {
        id: "F61b",
        what: "the terminal goes away (SIGKILL of the user's process): the run continues",
        short: true,
        beside: "trying 1; pkill -9 -f '^astra-agent deploy'",
        code: &[137],
        then: "until_ 'flock -n /run/astra/run.lock true'",
        ..GOES_ON
    },
    Row {
        id: "F61c",
        what: "SIGHUP to the user's process, as from a dropped SSH session: the run continues",
        beside: "trying 1; pkill -HUP -f '^astra-agent deploy'",
        code: &[0],
        then: "until_ 'flock -n /run/astra/run.lock true'",
        ..GOES_ON
    },
    Row {
        id: "F83",
        what: "not root",
        short: true,
        run: "setpriv --reuid 65534 --regid 65534 --clear-groups astra-agent deploy",
        code: &[1],
        says: &["needs root", "sudo"],
        seconds: 10,
        ..ROW
    },
    Row {
        id: "F84",
        what: "root without any capability",
        run: "setpriv --bounding-set=-all --inh-caps=-all astra-agent deploy --force --wait 60s",
        ..GOES_ON
    },
    Row {
        id: "F85",
        what: "typed where podman's socket cannot be seen (another mount namespace)",
        run: "unshare -m sh -c 'mount -t tmpfs tmpfs /run/podman && astra-agent deploy --force --wait 60s'",
        ..GOES_ON
    },
    Row {
        id: "F86",
        what: "standard output and error closed",
        run: "astra-agent deploy --force --wait 60s >&- 2>&-",
        ..GOES_ON
    },
    Row {
        id: "F86b",
        what: "standard output is a pipe without a reader",
        run: "set -o pipefail; astra-agent deploy --force --wait 60s | true; exit ${PIPESTATUS[0]}",
        ..GOES_ON
    },
    Row {
        id: "F86c",
        what: "standard output is a full pipe (a terminal under Ctrl-S)",
        short: true,
        run: "mkfifo /run/full 2>/dev/null; exec 9<>/run/full
            timeout 1 dd if=/dev/zero of=/run/full bs=64k count=2 oflag=nonblock 2>/dev/null
            astra-agent deploy --force --wait 60s >/run/full; c=$?; rm /run/full; exit $c",
        ..GOES_ON
    },
    Row {
        id: "F87",
        what: "systemd-journald stopped",
        before:
            "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service
            ! systemctl -q is-active systemd-journald",
        cure: "systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service",
        ..GOES_ON
    },
    Row {
        id: "F88",
        what: "an instance writes 100,000 log lines while it is tried",
        beside: "trying 1; until_ \"podman exec astra-app-2 sh -c 'seq 100000 >/proc/1/fd/1'\"",
        ..GOES_ON
    },
];
