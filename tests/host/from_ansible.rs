//! Runs the commands of docs/using/from-ansible.md on a host made by the old playbook.

use std::time::Duration;

use crate::harness::Host;
use crate::site::{CONFIG, CONFIG_FILE, ENV_FILE, PASSWORD};

const PAGE: &str = include_str!("../../docs/using/from-ansible.md");

/// The playbook's files: attached podman clients, a tag, quotes, a placeholder, jobs that enter an instance.
const APP: &str = "\
[Unit]
Description=astra app %i
After=network-online.target

[Service]
Type=notify
NotifyAccess=all
EnvironmentFile=/etc/astra/astra.env
ExecStartPre=-/usr/bin/podman rm -f astra-app-%i
ExecStart=/usr/bin/podman run --rm --name astra-app-%i --sdnotify=container -p 127.0.0.1:800%i:8000 \\
    --env-file /etc/astra/astra.env ${APP_IMAGE}
ExecStop=/usr/bin/podman stop -t 10 astra-app-%i
Restart=always
RestartSec=5
TimeoutStartSec=600
StandardOutput=null
StandardError=null

[Install]
WantedBy=multi-user.target
";
const CADDY: &str = "\
[Unit]
Requires=astra-app@1.service astra-app@2.service
After=astra-app@1.service astra-app@2.service

[Service]
EnvironmentFile=/etc/astra/caddy.env
ExecStartPre=-/usr/bin/podman rm -f astra-caddy
ExecStart=/usr/bin/podman run --rm --name astra-caddy --network host -v /etc/astra/Caddyfile:/etc/caddy/Caddyfile:ro \\
    -v /var/lib/caddy:/data ${CADDY_IMAGE} caddy run --config /etc/caddy/Caddyfile
ExecStop=/usr/bin/podman stop -t 10 astra-caddy
Restart=always

[Install]
WantedBy=multi-user.target
";
const CADDYFILE: &str = "http:// {\n\treverse_proxy 127.0.0.1:8001 127.0.0.1:8002\n}\n";
const MAIL: &str = "\
[Unit]
Requires=astra-app@1.service

[Service]
Type=oneshot
ExecStart=/usr/bin/podman exec astra-app-1 python3 manage.py tick
";
const MAIL_TIMER: &str =
    "[Timer]\nOnActiveSec=10s\nOnUnitActiveSec=10s\n\n[Install]\nWantedBy=timers.target\n";
const CRONTAB: &str =
    "#Ansible: operations-hourly\n0 0 * * * podman exec astra-app-1 python manage.py operations_hourly\n";
/// From a package that the hosts lack.
const CRONTAB_COMMAND: &str = "\
#!/bin/sh
file=/var/spool/cron/crontabs/root
case $1 in -l) cat $file ;; -r) rm $file ;; *) cp $1 $file ;; esac
";
const ENV: &str = "\
APP_IMAGE=127.0.0.1:5000/astra:latest
DATABASE_HOST=host.containers.internal
DATABASE_NAME=astra
DATABASE_USER=astra
ALLOWED_HOSTS=*
SECRET_KEY=kept-from-the-playbook
DJANGO_AUTO_MIGRATE=1
MEMBERSHIP_EMBARGOED_COUNTRY_CODES='CU,VE'
AWS_SECRET_ACCESS_KEY=....
";
const JOBS: &str = r#"
[[cron_jobs]]
name = "operations-hourly"
run = ["python3", "manage.py", "tick"]

[[cron_jobs]]
name = "send-queued-mail"
every = "10s"
run = ["python3", "manage.py", "tick"]
"#;

/// The commands of one section, for this host's registry.
fn commands(section: &str) -> Vec<String> {
    let (_, after) = PAGE.split_once(&format!("\n## {section}\n")).unwrap();
    let text = after.split("\n## ").next().unwrap();
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("# "));
    let here = [("ghcr.io/almalinux/", "127.0.0.1:5000/"), ("docker.io/library/", "127.0.0.1:5000/")];
    lines.map(|line| here.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to))).collect()
}

fn made_by_the_playbook() -> Host {
    let host = Host::boot("from-ansible");
    for (file, text) in [
        ("/etc/systemd/system/astra-app@.service", APP),
        ("/etc/systemd/system/astra-caddy.service", CADDY),
        ("/etc/systemd/system/astra-send-queued-mail.service", MAIL),
        ("/etc/systemd/system/astra-send-queued-mail.timer", MAIL_TIMER),
        ("/etc/astra/Caddyfile", CADDYFILE),
        ("/etc/astra/caddy.env", "CADDY_IMAGE=127.0.0.1:5000/caddy:2\n"),
        ("/var/spool/cron/crontabs/root", CRONTAB),
        ("/usr/local/bin/crontab", CRONTAB_COMMAND),
        (ENV_FILE, &format!("{ENV}DATABASE_PASSWORD={PASSWORD}\n")),
    ] {
        host.write(file, text);
    }
    host.sh("chmod 0755 /usr/local/bin/crontab; mkdir -p /var/lib/caddy && chown 1000:1000 /var/lib/caddy")
        .ok();
    host.sh("podman run --rm --env-file /etc/astra/astra.env 127.0.0.1:5000/astra:latest ./migrate.sh").ok();
    let units = "astra-app@1 astra-app@2 astra-caddy astra-send-queued-mail.timer";
    host.sh(&format!("systemctl daemon-reload && systemctl enable -q --now {units}")).ok();
    serves(&host);
    host
}

fn serves(host: &Host) {
    host.wait("curl -sf -m 5 -o /dev/null http://localhost/", Duration::from_secs(60));
}

#[test]
fn the_commands_of_the_page_work_on_a_host_of_the_playbook() {
    let host = made_by_the_playbook();
    let config = CONFIG
        .replace(
            "SECRET_KEY = { generate = 64 }",
            "SECRET_KEY = { generate = 64 }\nDJANGO_AUTO_MIGRATE = \"0\"",
        )
        .replace("\"SECRET_KEY\"]", "\"SECRET_KEY\", \"AWS_SECRET_ACCESS_KEY\"]");
    host.write(CONFIG_FILE, &(config + JOBS));

    // Before the window: each fault of astra.env is named with its remedy, and fixed without changing the
    // serving app.
    let check = host.agent(["check"]);
    assert_eq!(check.code(), 2, "{}", check.stderr);
    for said in [
        "without `hour` this job runs once a day",
        "MEMBERSHIP_EMBARGOED_COUNTRY_CODES: ",
        "astra-agent env set MEMBERSHIP_EMBARGOED_COUNTRY_CODES",
        "AWS_SECRET_ACCESS_KEY is required",
        "127.0.0.1:5000/astra:latest` is not an image reference: it must be pinned",
        "delete the line APP_IMAGE",
    ] {
        assert!(check.stderr.contains(said), "no {said:?} in:\n{}", check.stderr);
    }
    host.sh_with("astra-agent env set MEMBERSHIP_EMBARGOED_COUNTRY_CODES", "CU,VE").ok();
    host.sh_with("astra-agent env set AWS_SECRET_ACCESS_KEY", "aws-secret").ok();
    let check = host.agent(["check"]).stderr;
    assert!(
        check.contains("APP_IMAGE") && !check.contains("COUNTRY_CODES") && !check.contains("AWS_"),
        "{check}"
    );
    let doctor = host.agent(["doctor"]).stdout;
    for said in ["astra-send-queued-mail.timer runs", "/var/spool/cron/crontabs/root:2"] {
        assert!(doctor.contains(said), "no {said:?} in:\n{doctor}");
    }
    assert!(!doctor.contains("begins with a quote"), "{doctor}");
    for command in
        commands("Before the window").iter().filter(|c| !c.contains("check") && !c.contains("doctor"))
    {
        let done = host.sh(command).ok();
        if command.contains("plan") {
            assert!(done.stdout.contains("as /etc/astra/Caddyfile.before-astra"), "{}", done.stdout);
            assert!(done.stderr.contains("APP_IMAGE"), "{}", done.stderr);
        }
    }
    serves(&host);

    // The window.
    host.sh("crontab -r").ok();
    let down = "sh -c 'while :; do curl -sf -m 2 -o /dev/null http://localhost/ && echo up || echo down; sleep 0.2; done'";
    host.sh(&format!("systemd-run -q --unit probe -p StandardOutput=file:/root/probe {down}")).ok();
    for command in commands("The window") {
        host.sh(&command).ok();
    }
    serves(&host);
    host.sh("systemctl stop probe").ok();
    println!("probes without an answer, 5/s: {}", host.sh("grep -c down /root/probe").stdout.trim());
    let image = host.env("APP_IMAGE");
    assert!(
        image.contains("@sha256:")
            && host.read("/root/digest.before").trim().ends_with(&image[image.len() - 64..])
    );
    assert_eq!(host.env("DJANGO_AUTO_MIGRATE"), "0");
    assert_eq!(host.env("MEMBERSHIP_EMBARGOED_COUNTRY_CODES"), "CU,VE");
    assert_eq!(host.env("SECRET_KEY"), "kept-from-the-playbook");
    host.agent(["cron", "run", "send-queued-mail"]).ok();

    // Back: the old units run again, and systemd has nothing left of the agent.
    for command in commands("Back") {
        host.sh(&command).ok();
    }
    serves(&host);
    assert_eq!(host.env("APP_IMAGE"), "127.0.0.1:5000/astra:latest");
    assert!(host.read("/var/spool/cron/crontabs/root").contains("operations_hourly"));
    let failed = host.sh("systemctl list-units --failed --no-legend --plain 'astra-*'").ok().stdout;
    assert_eq!(failed, "");
    let dangling = host.sh("find /etc/systemd/system -xtype l -name 'astra-*'").ok().stdout;
    assert_eq!(dangling, "");
    let left =
        host.sh("systemctl list-units --all --no-legend --plain 'astra-cron-*' 'astra-agent-*'").ok().stdout;
    assert_eq!(left, "");
}
