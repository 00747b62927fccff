//! Variables from the metadata of the EC2 instance, on a host that reaches it as an instance does.

use std::process::{Child, Command};
use std::time::Duration;

use crate::harness::{Engine, Host, example};
use crate::recovery::QUICK;
use crate::site::{config_with, fresh_on};

const SOURCE: (&str, &str) = (
    "ALLOWED_HOSTS = \"*\"",
    "ALLOWED_HOSTS = { host = [\"public-hostname\", \"public-ipv4\"], also = [\"localhost\", \"127.0.0.1\"] }",
);

/// The metadata service, until dropped.
pub struct Instance(Child);

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    /// The address of the metadata service, at the other end of a cable.
    pub fn plug_in(&self) {
        self.sh("ip netns add ec2 && ip link add ec2 type veth peer name eth0 netns ec2 && \
             ip addr add 169.254.0.1/16 dev ec2 && ip link set ec2 up && \
             ip -n ec2 addr add 169.254.169.254/16 dev eth0 && ip -n ec2 link set eth0 up")
            .ok();
    }

    /// An instance with these facts, `NAME=TEXT`.
    pub fn instance(&self, facts: &[&str]) -> Instance {
        let network = format!("--net=/proc/{}/root/run/netns/ec2", self.leader());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", &network, "--"]).arg(example("imds")).args(facts);
        let instance = Instance(command.spawn().expect("starting the metadata service"));
        self.wait("curl -s -o /dev/null -m 1 169.254.169.254", Duration::from_secs(10));
        instance
    }

    fn hosts(&self) -> String {
        self.sh("podman exec astra-app-1 printenv ALLOWED_HOSTS").ok().stdout.trim().to_owned()
    }
}

#[test]
fn an_instance_gives_its_names_to_the_app() {
    let host = fresh_on(Engine::Podman, "facts", &config_with([QUICK, SOURCE]));
    // No instance yet: said before any container of the app is started.
    let refused = host.agent(["install"]);
    assert_eq!(refused.code(), 2, "{}", refused.text());
    assert!(refused.text().contains("is this host an EC2 instance"), "{}", refused.text());
    host.plug_in();
    let instance = host.instance(&["public-ipv4=203.0.113.7"]);
    host.agent(["install"]).ok();
    assert_eq!(host.hosts(), "203.0.113.7,localhost,127.0.0.1");
    let answer = host.sh("curl -s -o /dev/null -w '%{http_code}' -H 'Host: 203.0.113.7' localhost/").stdout;
    assert_eq!(answer, "200");
    drop(instance);

    // Another address, as after a stop and a start of the instance: the next release has it.
    let instance = host.instance(&["public-ipv4=203.0.113.8", "public-hostname=ec2-203-0-113-8.example"]);
    let plan = host.agent(["plan"]).ok().stdout;
    assert!(plan.contains("ALLOWED_HOSTS"), "{plan}");
    host.agent(["deploy", "--keep-image"]).ok();
    assert_eq!(host.hosts(), "ec2-203-0-113-8.example,203.0.113.8,localhost,127.0.0.1");
    drop(instance);

    // Without an answer, a release keeps what was committed.
    let deploy = host.deploy("v2").ok();
    assert!(deploy.text().contains("ALLOWED_HOSTS keeps its committed value"), "{}", deploy.text());
    assert_eq!(host.hosts(), "ec2-203-0-113-8.example,203.0.113.8,localhost,127.0.0.1");
    host.agent(["check"]).ok();
    host.agent(["status"]).ok();
    host.assert_tidy();
}
