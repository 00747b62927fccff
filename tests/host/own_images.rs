//! A site whose front end comes from a repository of its own: one release of both images.

use std::time::Duration;

use crate::harness::{Engine, Host, MANIFEST};
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_on, turn};

const FRONT: &str = r#"
[services.front]
image = "127.0.0.1:5000/front:latest"
instances = 2
port = 3000
env = { PORT = "3000" }
base_port = 8100
readiness.path = "/readyz"
readiness.timeout = "60s"
route = { path = "/front", strip_prefix = true }
"#;

/// It adds a line to a file, and keeps its environment.
const MIGRATE: &str = r#"
secrets = { FRONT_KEY = "SECRET_KEY" }
volumes = ["/var/lib/front:/var/lib/front"]

[services.front.migrate]
command = ["sh", "-c", "cd /var/lib/front; env >env; echo up >>log; test ! -e slow || sleep 60; test ! -e bad || { echo no such column; exit 7; }"]
env_only = ["FRONT_KEY"]
"#;

impl Host {
    /// Moves the tag of the front end's repository to what a version of the app is.
    pub fn push_front(&self, version: &str) {
        let registry = "http://127.0.0.1:5000/v2";
        let script = format!(
            "set -eo pipefail; manifest=$(mktemp)
            curl -sSf -H 'Accept: {MANIFEST}' {registry}/astra/manifests/{version} >$manifest
            for blob in $(jq -r '.config.digest, .layers[].digest' $manifest); do
                curl -sSf -o /dev/null -X POST \"{registry}/front/blobs/uploads/?mount=$blob&from=astra\"
            done
            curl -sSf -X PUT -H 'Content-Type: {MANIFEST}' --data-binary @$manifest {registry}/front/manifests/latest"
        );
        self.sh(&script).ok();
    }

    fn front(&self, version: &str) -> String {
        format!("127.0.0.1:5000/front@{}", self.digest(version))
    }

    /// The app runs one version, the front end another, each of its own repository.
    #[track_caller]
    fn assert_pair(&self, app: &str, front: &str) {
        assert_eq!(self.versions([1, 2]), [app; 2]);
        let answers =
            [8101, 8102].map(|port| self.sh(&format!("curl -sSf -m 5 localhost:{port}/")).ok().stdout);
        assert!(answers.iter().all(|answer| answer.starts_with(front)), "{answers:?}");
        self.agent(["status"]).ok();
        self.assert_tidy();
    }

    /// The containers of a service by their ids.
    fn ids(&self, service: &str) -> String {
        let client = self.engine.client();
        self.sh(&format!(
            "{client} ps --no-trunc --filter name=astra-{service}- --format '{{{{.ID}}}}' | sort"
        ))
        .ok()
        .stdout
    }
}

fn one_release_of_two_images(engine: Engine, name: &str) {
    let hosts = match engine {
        Engine::Podman => "",
        Engine::Docker => "add_hosts.\"host.containers.internal\" = \"host-gateway\"\n",
    };
    let host = installed_on(engine, name, &config_with([QUICK]));
    host.push_front("v1");
    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &format!("{config}{FRONT}{hosts}"));
    host.agent(["deploy"]).ok();
    host.assert_pair("v1", "v1");
    assert_eq!(host.env("FRONT_IMAGE"), host.front("v1"));

    let turn = turn();
    let loads = ["", "/front"].map(|below| host.load(50).websockets(2).below(below).start());
    host.wait("curl -sf --max-time 1 localhost/front/", Duration::from_secs(5));
    // The front end alone: the app keeps its containers.
    let app = host.ids("app");
    host.push_front("v2");
    let deployed = host.agent(["deploy"]).ok();
    assert!(deployed.stdout.contains(&format!("front     {}", host.front("v2"))), "{}", deployed.stdout);
    host.assert_pair("v1", "v2");
    assert_eq!(host.ids("app"), app);
    // One of two images is broken: both stay.
    host.push_front("exits");
    host.tag("latest", "v2");
    let broken = host.agent(["deploy"]);
    assert_eq!(broken.code(), 3, "{}", broken.text());
    host.assert_pair("v1", "v2");
    // One service alone, while the other has something new.
    host.push_front("v1");
    host.agent(["deploy", "app"]).ok();
    host.assert_pair("v2", "v2");
    host.agent(["deploy", "front"]).ok();
    host.assert_pair("v2", "v1");
    let reports = loads.map(|load| load.stop());
    reports.iter().for_each(|report| report.assert_lossless());
    drop(turn);

    // Back to the images of the release before, without a registry.
    let images = ["v2", "v1"].map(|version| host.front(version));
    host.sh("systemctl stop docker-registry").ok();
    let front = host.ids("front");
    let app = host.ids("app");
    host.agent(["rollback"]).ok();
    host.assert_pair("v2", "v2");
    assert_eq!((host.ids("app"), host.env("FRONT_IMAGE")), (app, images[0].clone()));
    assert_ne!(host.ids("front"), front);
    let status = host.status();
    assert_eq!(status["images"]["front"], images[0]);
    let history = host.agent(["history"]).ok().stdout;
    assert!(history.contains("with front sha256:"), "{history}");
    assert_eq!(host.agent(["plan", "--reconcile"]).ok().stdout, "nothing to do\n");
    host.sh("systemctl start docker-registry").ok();
    let doctor = host.agent(["doctor"]);
    assert!(!doctor.text().contains("problem:"), "{}", doctor.text());
    assert!(
        images
            .iter()
            .all(|image| host.sh(&format!("{} image inspect {image}", host.engine.client())).code() == 0)
    );
}

#[test]
fn two_images_are_one_release_and_lose_nothing() {
    one_release_of_two_images(Engine::Podman, "images");
}

#[test]
fn two_images_are_one_release_on_docker() {
    one_release_of_two_images(Engine::Docker, "images-docker");
}

#[test]
fn a_service_with_an_image_of_its_own_migrates_once_for_each() {
    let host = installed_on(Engine::Podman, "migrates", &config_with([QUICK]));
    host.sh("mkdir /var/lib/front").ok();
    host.push_front("v1");
    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &format!("{config}{FRONT}{MIGRATE}"));
    let ran = || host.sh("wc -l </var/lib/front/log").ok().stdout.trim().to_owned();
    let deploy = host.agent(["deploy"]).ok();
    assert!(deploy.stderr.contains("migrate front for release 2"), "{}", deploy.text());
    assert!(!deploy.stderr.contains("migrate for release"), "{}", deploy.text());
    assert_eq!(ran(), "1");
    let env = host.read("/var/lib/front/env");
    let key = format!("FRONT_KEY={}\n", host.env("SECRET_KEY"));
    assert!(env.contains(&key) && env.contains("PORT=3000\n"), "{env}");
    assert!(!env.contains("DATABASE_PASSWORD") && !env.contains("FRONT_IMAGE"), "{env}");
    host.sh("test ! -e /run/astra/migrate-front.only").ok();

    let before = host.invocations();
    host.sh("touch /var/lib/front/bad").ok();
    host.push_front("v2");
    let failed = host.agent(["deploy"]);
    assert_eq!(failed.code(), 3, "{}", failed.text());
    for words in ["migrating front: the migration ended with code 7", "no such column"] {
        assert!(failed.text().contains(words), "{}", failed.text());
    }
    assert!(host.agent(["deploy"]).text().contains("is held"));
    let reason = host.history()[0]["reason"].to_string();
    assert!(reason.contains("migrating front"), "{reason}");
    assert_eq!(host.invocations(), before);
    host.assert_pair("v1", "v1");

    // A killed run leaves its migration to systemd; the next one waits for its end.
    host.sh("cd /var/lib/front; rm bad; touch slow; astra-agent deploy --force >/dev/null 2>&1 &").ok();
    host.wait(
        "systemctl show -P ActiveState astra-front-migrate | grep -q activating",
        Duration::from_secs(20),
    );
    host.sh("systemctl kill --signal=SIGKILL 'astra-agent-deploy-*'").ok();
    host.wait(
        "systemctl show -P ActiveState astra-agent-recover | grep -q inactive",
        Duration::from_secs(20),
    );
    host.sh("rm /var/lib/front/slow; (sleep 1; systemctl stop astra-front-migrate) >/dev/null 2>&1 &").ok();
    let next = host.agent(["deploy", "--force"]).ok();
    assert!(next.stderr.contains("migrate front for release"), "{}", next.text());
    assert_eq!(ran(), "4");
    host.assert_pair("v1", "v2");

    host.agent(["rollback"]).ok();
    host.agent(["deploy", "--force"]).ok();
    assert_eq!(ran(), "4", "both were committed here");
    host.assert_pair("v1", "v2");
    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &config[..config.find("[services.front.migrate]").unwrap()]);
    host.agent(["reconcile"]).ok();
    host.sh("test ! -e /etc/systemd/system/astra-front-migrate.service").ok();
    host.assert_pair("v1", "v2");
}
