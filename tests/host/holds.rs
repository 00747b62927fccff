//! Holds: for which runs, and how an environment can be changed meanwhile.

use crate::site::{CONFIG_FILE, config_with, installed_with};

const QUICK: [(&str, &str); 2] =
    [("soak = \"1s\"", "soak = \"0s\""), ("timeout = \"60s\"", "timeout = \"15s\"")];

#[test]
fn a_changed_variable_does_not_redeploy_an_image_rolled_back_from() {
    let token = ("[env]\n", "[env]\nTOKEN = { file = \"/etc/astra/token\" }\n");
    let config = config_with(QUICK);
    let host = installed_with("holds", &config);
    host.write("/etc/astra/token", "committed\n");
    host.write(CONFIG_FILE, &config.replace(token.0, token.1));
    host.deploy("v2").ok();
    host.deploy("v3").ok();
    // A rollback needs no source.
    host.sh("rm /etc/astra/token").ok();
    assert_eq!(host.agent(["deploy", "--force"]).code(), 2);
    let back = host.agent(["rollback"]).ok();
    assert!(back.stderr.contains("TOKEN keeps its committed value"), "{}{}", back.stdout, back.stderr);
    assert_eq!(
        (host.versions([1, 2]), host.env("TOKEN").as_str()),
        (["v2".into(), "v2".into()], "committed")
    );
    host.write("/etc/astra/token", "committed\n");

    host.sh_with("astra-agent env set FOO", "bar").ok();
    let refused = host.agent(["deploy"]);
    assert!(refused.code() == 1 && refused.stderr.contains("deploy --keep-image"), "{}", refused.stderr);
    let status = host.agent(["status"]).stdout;
    assert!(status.contains("the image is pinned: `astra-agent deploy --keep-image`"), "{status}");
    host.agent(["deploy", "--keep-image"]).ok();
    assert_eq!((host.versions([1, 2]), host.env("FOO").as_str()), (["v2".into(), "v2".into()], "bar"));
    assert_eq!(host.status()["pinned"], true);

    // Forward to the newer one by its digest: the release left behind is not held.
    host.agent(["rollback", "--to", &host.digest("v3")]).ok();
    assert_eq!(host.versions([1, 2]), ["v3", "v3"]);
    assert_eq!(host.status()["held"].as_array().unwrap().len(), 0);

    // The database is down for a moment.
    host.sh("systemctl stop postgresql").ok();
    assert_ne!(host.agent(["rollback"]).code(), 0);
    host.sh("systemctl start postgresql").ok();
    host.wait("curl -sSf -m 5 localhost/readyz", std::time::Duration::from_secs(60));
    host.agent(["reconcile"]).ok();
    let again = host.agent(["rollback"]);
    assert!(again.code() == 1 && again.stderr.contains("is held since run"), "{}", again.stderr);
    assert!(
        again.stderr.contains("rollback --force") && again.stderr.contains("rollback --to 1"),
        "{}",
        again.stderr
    );
    assert_eq!(host.versions([1, 2]), ["v3", "v3"]);
    host.agent(["rollback", "--force"]).ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
}

#[test]
fn a_scale_up_starts_only_the_new_instance() {
    let config = config_with(QUICK);
    let host = installed_with("scale", &config);
    let before = host.invocations();
    host.write(CONFIG_FILE, &config.replace("instances = 2", "instances = 3"));
    let plan = host.agent(["plan"]).ok().stdout;
    assert!(plan.contains("return astra-app@3") && !plan.contains("try release"), "{plan}");
    host.agent(["deploy"]).ok();
    assert_eq!((host.invocations(), host.versions([3])), (before.clone(), ["v1".into()]));
    assert_eq!(host.agent(["plan"]).ok().stdout, "nothing to do\n");
    // Slower than the snapshot waits: nothing is restarted for that.
    let app = "$(podman inspect -f '{{.State.Pid}}' astra-app-1)";
    host.sh(&format!("kill -STOP {app}")).ok();
    host.agent(["deploy"]).ok();
    host.sh(&format!("kill -CONT {app}")).ok();
    assert_eq!(host.invocations(), before);
    // Moves are part of the plan.
    let moved = config.replace("instances = 2", "instances = 3\nbase_port = 8100");
    host.write(CONFIG_FILE, &moved);
    let plan = host.agent(["plan"]).ok().stdout;
    assert!(plan.contains("return astra-app@1") && plan.contains("into Caddy"), "{plan}");
}
