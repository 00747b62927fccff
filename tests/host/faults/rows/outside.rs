//! Faults outside of the host: the registry, the network, the disk.

use super::{ROW, Row};

/// A deploy that has to pull.
const PULL: Row = Row { push: "v3", ..ROW };
/// One that fails before anything was touched.
const REFUSED: Row = Row { code: &[1], ..PULL };

pub const ROWS: &[Row] = &[
    Row { id: "F01", what: "registry: 500 on a manifest, twice", registry: "500 2", commits: true, ..PULL },
    Row {
        id: "F01b",
        what: "registry: 503 on every manifest",
        registry: "503",
        says: &["gave up after", "503"],
        ..REFUSED
    },
    Row {
        id: "F01c",
        what: "registry: 500 on podman's own question for the manifest, once",
        short: true,
        registry: "get-500 1",
        says: &["pulled at attempt 2", "500"],
        commits: true,
        ..PULL
    },
    Row {
        id: "F02",
        what: "registry: 429 with Retry-After, twice",
        registry: "429 2",
        commits: true,
        ..PULL
    },
    Row {
        id: "F03",
        what: "registry: 401, and its token server is dead",
        registry: "401",
        says: &["127.0.0.1:9/token"],
        ..REFUSED
    },
    Row {
        id: "F04",
        what: "registry: every blob truncated",
        short: true,
        registry: "truncated",
        says: &["pulling"],
        then: "! podman image exists $(pushed)",
        ..REFUSED
    },
    Row {
        id: "F05",
        what: "registry: a flipped bit in every blob",
        registry: "flipped",
        says: &["pulling"],
        then: "! podman image exists $(pushed)",
        ..REFUSED
    },
    Row {
        id: "F06",
        what: "registry: a flipped bit in every manifest",
        registry: "wrong",
        says: &["pulling"],
        then: "! podman image exists $(pushed)",
        ..REFUSED
    },
    Row {
        id: "F07",
        what: "registry: a captive portal answers 200 with HTML",
        registry: "html",
        says: &["a web page answered"],
        ..REFUSED
    },
    Row { id: "F08", what: "registry: redirects to itself", registry: "redirect", says: &["302"], ..REFUSED },
    Row { id: "F09", what: "registry: 500 bytes a second", registry: "slow", commits: true, ..PULL },
    Row {
        id: "F10",
        what: "registry: a blob that never comes",
        registry: "stalled",
        says: &["pulling", "60 s"],
        seconds: 150,
        ..REFUSED
    },
    Row {
        id: "F10b",
        what: "registry: a blob that never comes, and Ctrl-C after 6 s",
        short: true,
        registry: "stalled",
        run: "timeout --foreground -s INT 6 astra-agent deploy --force --wait 60s; c=$?; [ $c = 124 ] || exit $c; exit 1",
        says: &["SIGINT"],
        seconds: 30,
        ..REFUSED
    },
    Row {
        id: "F11",
        what: "registry: hangs up in the middle of every blob",
        registry: "reset",
        says: &["pulling"],
        then: "! podman image exists $(pushed)",
        ..REFUSED
    },
    Row {
        id: "F11b",
        what: "registry: hangs up in the middle of a blob, once",
        registry: "reset 1",
        commits: true,
        ..PULL
    },
    Row {
        id: "F12",
        what: "registry: down, and a deploy",
        registry: "down",
        says: &["gave up after"],
        seconds: 60,
        ..REFUSED
    },
    Row {
        id: "F12b",
        what: "registry: down, and a rollback",
        before: "astra-agent deploy --force",
        registry: "down",
        run: "astra-agent rollback",
        ..ROW
    },
    Row {
        id: "F13",
        what: "registry: accepts, and never answers",
        registry: "silent",
        says: &["gave up after"],
        seconds: 60,
        ..REFUSED
    },
    Row {
        id: "F14",
        what: "DNS dead",
        before: "config 's|127.0.0.1:5001/astra|registry.example.com/astra|'",
        says: &["registry.example.com"],
        seconds: 60,
        ..REFUSED
    },
    Row {
        id: "F15",
        what: "image store: full",
        short: true,
        before: "dd if=/dev/zero of=/var/lib/containers/storage/fill bs=64k 2>/dev/null; true",
        cure: "rm -f /var/lib/containers/storage/fill",
        says: &["image store", "free"],
        ..REFUSED
    },
    Row {
        id: "F15b",
        what: "image store: full, and min_free is too low to see it",
        before: "config 's/min_free = .*/min_free = \"1K\"/'; cd /var/lib/containers/storage
            dd if=/dev/zero of=fill bs=64k 2>/dev/null; truncate -s -16K fill",
        cure: "rm -f /var/lib/containers/storage/fill",
        says: &["no space left"],
        ..REFUSED
    },
    Row {
        id: "F16",
        what: "/etc/astra: full from the first instance on",
        short: true,
        beside: "trying 1; dd if=/dev/zero of=/etc/astra/fill bs=1k 2>/dev/null; true",
        cure: "rm -f /etc/astra/fill",
        code: &[1],
        says: &["No space left"],
        ..ROW
    },
    Row {
        id: "F16b",
        what: "journal's disk: full before a deploy",
        before: "dd if=/dev/zero of=/var/lib/astra-agent/fill bs=1k 2>/dev/null; true",
        cure: "rm -f /var/lib/astra-agent/fill",
        code: &[1],
        says: &["No space left"],
        ..ROW
    },
    Row {
        id: "F16c",
        what: "journal's disk: full from the first instance on",
        // The last page of a run's own file has room left, which empty lines fill.
        beside: "trying 1; f=$(journal); head -c $((4096 - $(stat -c %s $f) % 4096)) /dev/zero | tr '\\0' '\\n' >>$f
            dd if=/dev/zero of=/var/lib/astra-agent/fill bs=1k 2>/dev/null; true",
        cure: "rm -f /var/lib/astra-agent/fill",
        code: &[1],
        says: &["No space left"],
        ..ROW
    },
    Row {
        id: "F16d",
        what: "journal's disk: room for a part of a line, and space again when the run is undone",
        beside: "trying 1; f=$(journal); head -c $((4086 - $(stat -c %s $f) % 4096)) /dev/zero | tr '\\0' '\\n' >>$f
            dd if=/dev/zero of=/var/lib/astra-agent/fill bs=1k 2>/dev/null
            until_ '[ ! -e /run/astra/trial-1.env ]'; rm -f /var/lib/astra-agent/fill",
        code: &[1],
        says: &["No space left"],
        then: "astra-agent history",
        ..ROW
    },
    Row {
        id: "F17",
        what: "/etc/astra: no inodes from the first instance on",
        beside: "trying 1; cd /etc/astra; mkdir fill; n=0; while : 2>/dev/null >fill/$((n += 1)); do :; done; true",
        cure: "rm -rf /etc/astra/fill",
        code: &[1],
        says: &["No space left"],
        ..ROW
    },
    Row {
        id: "F18",
        what: "/etc/astra: read-only from the first instance on",
        short: true,
        // A Caddy that runs since before the last change of its Caddyfile holds a deleted file.
        before: "systemctl restart astra-caddy; sleep 2",
        beside: "trying 1; mount -o remount,ro /etc/astra",
        cure: "mount -o remount,rw /etc/astra",
        code: &[1],
        says: &["Read-only file system"],
        ..ROW
    },
    Row {
        id: "F18b",
        what: "/etc/astra: read-only, and a rollback",
        before: "systemctl restart astra-caddy; sleep 2; mount -o remount,ro /etc/astra",
        run: "astra-agent rollback",
        cure: "mount -o remount,rw /etc/astra",
        code: &[1],
        says: &["Read-only file system"],
        ..ROW
    },
    Row {
        id: "F19",
        what: "the disk below /etc/astra runs out of blocks (thin): only a flush finds out",
        // A loop device over a sparse file whose own file system becomes full: then each new block is an
        // error.
        before: "ls /dev/loop-control >/dev/null 2>&1 || mknod /dev/loop-control c 10 237
            mkdir -p /root/thin /root/on; mount -t tmpfs -o size=3M tmpfs /root/thin; cp --sparse=always /root/disk.ext4 /root/thin/disk
            n=$(losetup -f | tr -dc 0-9)
            [ -b /dev/loop$n ] || mknod /dev/loop$n b 7 $n; losetup /dev/loop$n /root/thin/disk; echo $n >/root/loop
            mount /dev/loop$n /root/on; cp -a /etc/astra/. /root/on; chmod 0700 /root/on; rmdir /root/on/lost+found
            sync; mount --bind /root/on /etc/astra; systemctl restart astra-caddy; sleep 2",
        beside: "trying 1; dd if=/dev/zero of=/root/thin/fill bs=4k 2>/dev/null; true",
        cure: "umount -l /etc/astra; umount -l /root/on; losetup -d /dev/loop$(cat /root/loop); umount -l /root/thin
            systemctl restart astra-caddy; sleep 2",
        code: &[1],
        says: &["/etc/astra/astra.env", "No space left"],
        may_lose: "Caddy is restarted to see the other disk",
        ..ROW
    },
    Row {
        id: "F92",
        what: "network: the instances' bridge down for 2 s while the first is tried",
        beside: "trying 1; ip link set podman0 down; sleep 2; ip link set podman0 up",
        commits: true,
        may_lose: "no instance can be reached",
        ..ROW
    },
];
