//! packaging/user-data: cloud-init runs it on a booting host, again at every boot until an install has succeeded.

use std::time::Duration;

use crate::harness::Host;
use crate::site::{CONFIG, PASSWORD};

const SEED: &str = "/var/lib/cloud/seed/nocloud";
const SCRIPT: &str = include_str!("../../packaging/user-data/script.sh");
const CLOUD_CONFIG: &str = include_str!("../../packaging/user-data/cloud-config.yaml");
/// From this line on, both forms are the same.
const COMMON: &str = "# From here on, both forms are the same.";
/// The parts of cloud-init that run user data, and none that change the network, users or disks.
const CLOUD: &str = "\
datasource_list: [ NoCloud ]
network: { config: disabled }
cloud_init_modules: [ write_files ]
cloud_config_modules: []
cloud_final_modules: [ scripts_per_boot, scripts_per_instance, scripts_user ]
";
/// The file server of the test.
const FILES: &str = "\
[Service]
ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /srv/files 8080
[Install]
WantedBy=multi-user.target
";
/// A package with the binary alone.
const CONTROL: &str = "\
Package: astra-agent
Version: 0.1.0
Architecture: amd64
Maintainer: a test <test@example.com>
Description: the agent
";
const GIVES_UP: &str = "astra-agent is not installed (exit code ";

/// The agent.toml of the example.
const EXAMPLE: [&str; 5] =
    ["[app]", r#"image = "ghcr.io/you/shop:latest""#, "", "[caddy]", r#"hosts = ["shop.example.com"]"#];

/// User data with another URL, checksum and agent.toml than those of the example.
fn filled(user_data: &str, file: &str, sha256: &str) -> String {
    let indent = if user_data.starts_with("#cloud-config") { "      " } else { "" };
    let block = |lines: &mut dyn Iterator<Item = &str>| {
        lines.map(|line| format!("{indent}{line}").trim_end().to_owned() + "\n").collect::<String>()
    };
    let changes = [
        ("https://example.com/astra-agent_amd64.deb", &format!("http://127.0.0.1:8080/{file}")),
        (&"0".repeat(64), &sha256.to_owned()),
        (&block(&mut EXAMPLE.into_iter()), &block(&mut CONFIG.lines())),
    ];
    changes.iter().fold(user_data.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old} in {text}");
        text.replace(old, new)
    })
}

/// A host without the agent, with a file server that has it, and with user data for the next boot.
fn prepared(name: &str, user_data: &str, file: &str) -> Host {
    let host = Host::boot(name);
    host.sh("mkdir -p /srv/files /srv/deb/DEBIAN /srv/deb/usr/bin && mv /usr/local/bin/astra-agent /srv/deb/usr/bin").ok();
    let pack = match file.ends_with(".deb") {
        true => format!("dpkg-deb --build -Znone /srv/deb /srv/files/{file}"),
        false => format!("mv /srv/deb/usr/bin/astra-agent /srv/files/{file}"),
    };
    host.write("/srv/deb/DEBIAN/control", CONTROL);
    host.sh(&pack).ok();
    host.write("/etc/systemd/system/files.service", FILES);
    host.sh("systemctl enable --now files").ok();
    let sha256 = host.sh(&format!("sha256sum </srv/files/{file}")).ok().stdout;
    let sha256 = sha256.split(' ').next().unwrap();
    host.write("/etc/cloud/cloud.cfg.d/99-test.cfg", CLOUD);
    host.write(&format!("{SEED}/meta-data"), "instance-id: i-1\n");
    host.write(&format!("{SEED}/user-data"), &filled(user_data, file, sha256));
    host.sh("rm /etc/cloud/cloud-init.disabled").ok();
    host
}

impl Host {
    /// The state of cloud-init at this boot, once it has ended: `done` or `error`, and its exit code.
    fn cloud_init(&self) -> (String, i32) {
        let said = self.sh_within("60", "cloud-init status --wait", "");
        let state = said.stdout.lines().find_map(|line| line.strip_prefix("status: "));
        (state.unwrap_or_default().to_owned(), said.code())
    }

    /// The lines of user data on the console of this boot, which is a plain file on a test host.
    fn on_console(&self) -> String {
        self.read("/dev/console")
    }

    fn has_agent_toml(&self) {
        assert_eq!(self.read("/etc/astra/agent.toml"), CONFIG);
        assert_eq!(self.sh("stat -c %a /etc/astra/agent.toml").ok().stdout, "600\n");
    }
}

#[test]
fn both_forms_are_one_script() {
    let common = |text: &str, indent: usize| {
        let lines = text.lines().skip_while(|line| !line.trim_start().starts_with(COMMON));
        lines.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect::<String>()
    };
    assert_eq!(common(CLOUD_CONFIG, 6), common(SCRIPT, 0));
}

#[test]
fn each_boot_tries_again_until_the_host_serves() {
    let host = prepared("user-data", SCRIPT, "astra-agent-x86_64");

    // A required variable is missing: it gives up, and says so.
    host.reboot();
    let (state, code) = host.cloud_init();
    let output = host.read("/var/log/cloud-init-output.log");
    assert!(state == "error" && code != 0, "{state} {code}: {output}");
    host.has_agent_toml();
    let told = |text: &str, what: &str| {
        let line = text.lines().find(|line| line.contains(GIVES_UP)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(what), "{line}");
    };
    told(&output, "DATABASE_PASSWORD");
    told(&host.on_console(), "DATABASE_PASSWORD");

    // The registry is down: the log has each attempt.
    host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
    host.sh("systemctl disable --now docker-registry; systemctl reboot").ok();
    let attempt = "attempt 1 of 4 failed: ";
    host.wait(&format!("grep '{attempt}.*5000.*' /var/log/cloud-init-output.log"), Duration::from_secs(60));
    assert_eq!(host.agent(["wait", "--timeout", "0s"]).code(), 1);

    // A power cut meanwhile; the next boot installs by itself.
    host.sh("systemctl enable docker-registry; sync").ok();
    host.reboot();
    host.agent(["wait", "--timeout", "60s"]).ok();
    assert_eq!(host.get("/readyz").status, 200);
    assert_eq!(host.cloud_init(), ("done".to_owned(), 0));

    // A host that serves is left alone.
    let seen = |host: &Host| (host.history().len(), host.sh("stat -c %y /run/astra-user-data.log").code());
    let runs = host.history().len();
    host.reboot();
    host.agent(["wait", "--timeout", "60s"]).ok();
    assert_eq!(host.cloud_init(), ("done".to_owned(), 0));
    assert_eq!(seen(&host), (runs, 1), "user data did something");
}

#[test]
fn the_cloud_config_installs_at_the_first_boot() {
    let host = prepared("cloud-config", CLOUD_CONFIG, "astra-agent_amd64.deb");
    let env = format!("DATABASE_PASSWORD={PASSWORD}\n");
    host.write("/etc/astra/astra.env", &env);
    host.sh("chmod 0600 /etc/astra/astra.env").ok();
    // Another file under the URL is not run.
    host.sh("cp /srv/files/astra-agent_amd64.deb /srv/agent && echo >>/srv/files/astra-agent_amd64.deb").ok();
    host.reboot();
    assert_eq!(host.cloud_init().0, "error");
    assert!(
        host.on_console()
            .contains(": error: http://127.0.0.1:8080/astra-agent_amd64.deb has another checksum")
    );
    host.has_agent_toml();
    host.sh("! ls /usr/bin/astra-agent && mv /srv/agent /srv/files/astra-agent_amd64.deb").ok();
    host.reboot();
    assert_eq!(host.cloud_init(), ("done".to_owned(), 0), "{}", host.read("/var/log/cloud-init-output.log"));
    host.agent(["wait", "--timeout", "10s"]).ok();
    assert_eq!(host.get("/readyz").status, 200);
    assert_eq!(host.sh("command -v astra-agent").ok().stdout, "/usr/bin/astra-agent\n");
}
