//! Variables from AWS Secrets Manager and the SSM Parameter Store, and logins of Amazon ECR: moto (aws.py), which checks signatures and permissions.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::auto::tick;
use crate::facts::Instance;
use crate::harness::{Engine, Host};
use crate::recovery::QUICK;
use crate::site::{ENV_FILE, PASSWORD, config_with, fresh_on, turn};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host");
const SOURCES: &str = r#"
[aws]
endpoint = "http://127.0.0.1:5055"
refresh = "1s"

[env]
DATABASE_PASSWORD = { secret = "prod/astra/db", key = "password" }
MAIL_KEY = { secret = "prod/astra/mail" }
DSN = { parameter = "/astra/dsn" }
"#;
const ALL: &str = "allow ssm:GetParameter secretsmanager:GetSecretValue";

/// The services of AWS on the loopback of a host, until dropped.
struct Aws {
    process: Child,
    says: ChildStdin,
    hears: BufReader<ChildStdout>,
    /// The credentials of the role, as the metadata service gives them.
    role: String,
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Aws {
    fn on(host: &Host) -> Self {
        let python = Command::new(Path::new(HERE).join("moto")).output().expect("tests/host/moto");
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
        let python = String::from_utf8(python.stdout).unwrap();
        let network = format!("--net=/proc/{}/ns/net", host.leader());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", &network, "--", python.trim()]);
        command.arg(Path::new(HERE).join("aws.py")).stderr(Stdio::null());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starting moto");
        let (says, mut hears) =
            (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut role = String::new();
        hears.read_line(&mut role).unwrap();
        assert!(role.contains("AccessKeyId"), "moto did not start: {role}");
        Self { process, says, hears, role: role.trim().to_owned() }
    }

    #[track_caller]
    fn tell(&mut self, line: &str) {
        writeln!(self.says, "{line}").unwrap();
        let mut answer = String::new();
        self.hears.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{line}");
    }

    /// The instance that has the role.
    fn instance(&self, host: &Host) -> Instance {
        let of_roles = "iam/security-credentials/";
        let (name, role) = (format!("{of_roles}=web"), format!("{of_roles}web={}", self.role));
        host.instance(&["placement/region=eu-central-1", &name, &role])
    }

    fn password(&mut self, text: &str) {
        self.tell(&format!("secret prod/astra/db {{\"username\": \"astra\", \"password\": \"{text}\"}}"));
    }
}

fn inside(host: &Host, key: &str) -> String {
    host.sh(&format!("podman exec astra-app-1 printenv {key}")).ok().stdout.trim().to_owned()
}

/// moto's token, by bcrypt of the lowest cost: the registry checks it for every request.
const ECR_LOGIN: &str = "$2a$04$T6zYUVNkjF.ZGaiyePeJIuFIbR6/vQfG7t3eR3a6tytQXhMQLWE6O";
/// The host's registry as a private one of Amazon ECR: TLS by its own authority, and a login.
const ECR: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";

impl Host {
    fn serve_ecr(&self) {
        let caddy = "127.0.0.1:5000/caddy:2";
        let front = format!(
            "{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\nhttps://{ECR} {{\n\tbind 127.0.0.9\n\t\
             tls internal\n\tbasic_auth {{\n\t\tAWS {}\n\t}}\n\treverse_proxy 127.0.0.1:5000\n}}\n",
            ECR_LOGIN
        );
        self.write("/root/front/Caddyfile", &front);
        self.sh(&format!(
            "echo 127.0.0.9 {ECR} >>/etc/hosts; \
             podman run -q -d --name front --network host -v /root/front:/front -e XDG_DATA_HOME=/front/data \
                 --entrypoint caddy {caddy} run --config /front/Caddyfile --adapter caddyfile"
        ))
        .ok();
        self.wait(&format!("curl -sk https://{ECR}/v2/ -o /dev/null"), Duration::from_secs(30));
        self.sh(&format!(
            "install -D -m 0644 /root/front/data/caddy/pki/authorities/local/root.crt /etc/containers/certs.d/{ECR}/ca.crt"
        ))
        .ok();
    }
}

#[test]
fn a_private_registry_of_ecr_is_read_as_the_role() {
    let config = config_with([QUICK, ("127.0.0.1:5000/astra", &format!("{ECR}/astra"))]);
    let host = fresh_on(Engine::Podman, "ecr", &config);
    host.write("/etc/astra/agent.d/aws.toml", "[aws]\nendpoint = \"http://127.0.0.1:5055\"\n");
    host.serve_ecr();
    // No role yet. (`install` would try again for a minute.)
    let found = host.agent(["doctor"]).text();
    assert!(found.contains(&format!("logging in to {ECR} as the role")), "{found}");
    host.plug_in();
    let mut aws = Aws::on(&host);
    let _instance = aws.instance(&host);
    aws.tell("allow ecr:DescribeImages");
    let found = host.agent(["doctor"]).text();
    assert!(found.contains("allow the role ecr:GetAuthorizationToken on *"), "{found}");
    aws.tell("allow ecr:GetAuthorizationToken");
    host.agent(["install"]).ok();
    host.deploy("v2").ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    // The login is gone with the run; a rollback needs none.
    drop(aws);
    host.agent(["rollback", "--no-soak"]).ok();
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
    let found = host.sh("grep -rl 123456789012-auth-token /var/lib/astra-agent /run/astra /etc/astra /etc/systemd /run/containers");
    assert_eq!(found.stdout.trim(), "");
    host.sh("podman rm -ft 0 front").ok();
    host.assert_tidy();
}

#[test]
fn secrets_reach_the_app_and_rotate_without_a_lost_request() {
    let host = fresh_on(
        Engine::Podman,
        "secrets",
        &config_with([QUICK, ("timeout = \"60s\"", "timeout = \"10s\"")]),
    );
    host.write("/etc/astra/agent.d/aws.toml", SOURCES);
    host.plug_in();
    let mut aws = Aws::on(&host);
    let _instance = aws.instance(&host);
    aws.password(PASSWORD);
    aws.tell("secret prod/astra/mail canary-mail-1");
    aws.tell("parameter /astra/dsn https://canary-dsn@sentry.example/1");
    aws.tell("allow ssm:GetParameter");

    // A role without the permission: said before any container of the app is started.
    let refused = host.agent(["install"]);
    let permission =
        "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:*:secret:prod/astra/db-??????";
    assert!(refused.code() == 2 && refused.text().contains(permission), "{}", refused.text());
    aws.tell(ALL);
    host.agent(["install"]).ok();
    assert_eq!(inside(&host, "MAIL_KEY"), "canary-mail-1");
    assert_eq!(inside(&host, "DSN"), "https://canary-dsn@sentry.example/1");
    host.sh("systemctl stop astra-agent-reconcile.timer").ok();

    // Rotated in AWS: the timer brings it, under traffic.
    aws.tell("secret prod/astra/mail canary-mail-2");
    std::thread::sleep(Duration::from_secs(1));
    let turn = turn();
    let load = host.load(50).start();
    assert_eq!(tick(&host).0, 0);
    let report = load.stop();
    drop(turn);
    assert!(report.total > 20 && report.failed == 0, "{report:?}");
    assert_eq!(inside(&host, "MAIL_KEY"), "canary-mail-2");
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);

    // A wrong password: undone, and not tried twice.
    aws.password("canary-wrong");
    std::thread::sleep(Duration::from_secs(1));
    let (code, said) = tick(&host);
    assert_eq!(code, 3, "{said}");
    let before = (host.invocations(), host.history().len());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(tick(&host).0, 0);
    assert_eq!((host.invocations(), host.history().len()), before);
    assert_eq!(host.env("DATABASE_PASSWORD"), PASSWORD);
    aws.password(PASSWORD);

    // AWS is away: nothing is blanked, and a release keeps the values.
    drop(aws);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(tick(&host).0, 0);
    let deploy = host.deploy("v2").ok();
    assert!(deploy.text().contains("MAIL_KEY keeps its committed value"), "{}", deploy.text());
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    assert_eq!(inside(&host, "MAIL_KEY"), "canary-mail-2");

    // Neither a value nor a key of the role is anywhere but in the env file.
    let found = host.sh(
        "grep -rlE 'canary-(mail|dsn|wrong)|SecretAccessKey' /var/lib/astra-agent /run/astra /etc/systemd /etc/astra; \
         journalctl -o json --all --no-pager | grep -E 'canary-(mail|dsn|wrong)'",
    );
    assert_eq!(found.stdout.trim().replace(ENV_FILE, ""), "");
    host.assert_tidy();
}
