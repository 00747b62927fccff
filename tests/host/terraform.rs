//! packaging/terraform, read by a parser of Terraform's language: the properties on which the security of the instances
//! depends, and the places of the user data that it fills in. No provider is asked, and nothing is applied.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host");
const SCRIPT: &str = include_str!("../../packaging/user-data/script.sh");
const POLICY_PAGE: &str = include_str!("../../docs/using/aws.md");

/// The blocks of the module: `resource`, `variable`, …, by their names.
fn module() -> Value {
    let parsed = Command::new(Path::new(HERE).join("hcl")).output().expect("tests/host/hcl");
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    serde_json::from_slice(&parsed.stdout).unwrap()
}

#[test]
fn instances_have_imdsv2_for_one_hop_no_ssh_and_a_health_check() {
    let module = module();
    let resource = |name: &str| {
        let found = &module["resource"][name];
        assert!(found.is_object(), "no {name}");
        found
    };
    let template = resource("aws_launch_template.this");
    let metadata = &template["metadata_options"][0];
    assert_eq!(metadata["http_tokens"], "required");
    assert_eq!(metadata["http_put_response_hop_limit"], 1);
    assert_eq!(template["vpc_security_group_ids"], serde_json::json!(["${aws_security_group.this.id}"]));
    assert_eq!(template["block_device_mappings"][0]["ebs"][0]["encrypted"], true);
    assert!(template["key_name"].is_null(), "no key for SSH");

    // Every way in: one port each, and only these.
    let mut ports = BTreeSet::new();
    for (name, rule) in module["resource"].as_object().unwrap() {
        let inline = &rule["ingress"];
        assert!(inline.is_null() && !name.starts_with("aws_security_group_rule"), "{name}");
        if name.starts_with("aws_vpc_security_group_ingress_rule.") {
            assert_eq!(
                (&rule["ip_protocol"], &rule["from_port"]),
                (&"tcp".into(), &rule["to_port"]),
                "{name}"
            );
            ports.insert(format!("{} {}", rule["from_port"], rule["for_each"]));
        }
    }
    let world =
        r#""${tonumber(each.value)}" "${local.from_balancer ? toset([]) : toset([\"80\", \"443\"])}""#;
    assert_eq!(ports.iter().collect::<Vec<_>>(), [world, "80 null"]);

    let health = &resource("aws_lb_target_group.this")["health_check"][0];
    assert_eq!((&health["path"], &health["matcher"]), (&"${var.health_path}".into(), &"200".into()));
    assert_eq!(resource("aws_autoscaling_group.this")["min_size"], "${var.instances}");
    assert_eq!(module["variable"]["instances"]["validation"][0]["condition"], "${var.instances >= 1}");
    let managed = resource("aws_iam_role_policy_attachment.ssm")["policy_arn"].as_str().unwrap();
    assert!(managed.ends_with(":policy/AmazonSSMManagedInstanceCore"), "{managed}");
}

/// The actions in a text: `ssm:GetParameter`.
fn actions(text: &str) -> BTreeSet<&str> {
    let separate = |c: char| !c.is_ascii_alphanumeric() && c != ':';
    let is_action = |word: &&str| {
        let (service, action) = word.split_once(':').unwrap_or_default();
        ["secretsmanager", "ssm", "ecr"].contains(&service) && action.starts_with("Get")
            || word.starts_with("ecr:Batch")
    };
    text.split(separate).filter(is_action).collect()
}

#[test]
fn the_role_has_the_documented_actions_and_the_user_data_is_filled_in() {
    let module = module();
    let policy = module["resource"]["aws_iam_role_policy.sources"]["policy"].as_str().unwrap();
    assert_eq!(actions(policy), actions(POLICY_PAGE));
    assert!(actions(policy).len() > 4, "{policy}");

    let locals = &module["locals"][""];
    let filled = locals["user_data"].as_str().unwrap();
    for example in ["example_url", "example_sha", "example_toml"] {
        let text = locals[example].as_str().unwrap();
        assert_eq!(SCRIPT.matches(text).count(), 1, "{text} in script.sh");
        assert!(filled.contains(&format!("local.{example}, ")), "{filled}");
    }
    for kind in ["variable", "output"] {
        for (name, block) in module[kind].as_object().unwrap() {
            assert!(block["description"].as_str().is_some_and(|text| text.len() > 10), "{kind} {name}");
        }
    }
}
