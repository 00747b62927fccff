//! packaging/ssm: verbs through SSM Run Command, by a stand-in that runs the document as the SSM agent does, and
//! packaging/github: the workflow that sends them, whose `aws` is a stand-in as well.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::broken::SHORT;
use crate::harness::Host;
use crate::site::{config_with, installed_with};

const DOCUMENT: &str = include_str!("../../packaging/ssm/astra-agent.yaml");
const WORKFLOW: &str = include_str!("../../packaging/github/deploy.yml");
const CI_POLICY: &str = include_str!("../../packaging/github/ci-policy.json");
/// The command line of AWS: `send-command` runs the document here, at the second instance of two if there are two.
const AWS: &str = r#"#!/bin/bash
shift && echo "$1" >>/root/aws/called
case "$*" in
send-command*)
	printf '%s\n' "$@" >/root/aws/sent
	bash /root/aws/document >/root/aws/output; echo $? >/root/aws/code
	echo c-1 ;;
list-commands*) [[ -e /root/aws/polled ]] && cat /root/aws/state || echo InProgress; touch /root/aws/polled ;;
list-command-invocations*) cat /root/aws/instances ;;
*i-0*ResponseCode*) printf -- '-1\tTerminated\n' ;;
*i-1*ResponseCode*) printf '%s\t%s\n' "$(</root/aws/code)" "$(cat /root/aws/details)" ;;
*i-1*StandardOutputContent*) head -c 24000 /root/aws/output ;;
esac
"#;
/// cloud-init brings PyYAML to the test hosts.
const TO_JSON: &str = "python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'";
/// A pattern as SSM applies it: anywhere in the value, so the pattern has to have its own anchors.
const MATCHES: &str =
    "python3 -c 'import re, sys; sys.exit(re.search(sys.argv[1], sys.stdin.read()) is None)'";
const ORCHESTRATION: &str = "/var/lib/amazon/ssm/i-1/document/orchestration/1/agent";
/// Characters of an output that SSM keeps, from its start.
const KEPT: usize = 24_000;
/// SSM reboots the host for it.
const REBOOTS: i32 = 194;
/// Instead of the agent, for exit codes and outputs that the agent does not have.
const FAKE: &str = "/usr/local/sbin/astra-agent";

/// Run Command for one document.
struct Ssm<'a> {
    host: &'a Host,
    document: Value,
}

impl<'a> Ssm<'a> {
    fn new(host: &'a Host) -> Self {
        let ssm = Self { host, document: parsed(host, DOCUMENT) };
        assert_eq!(ssm.document["schemaVersion"], "2.2");
        let steps = ssm.document["mainSteps"].as_array().unwrap();
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0]["action"], "aws:runShellScript");
        ssm
    }

    /// Every value that a caller may give is of a closed set, also the default.
    fn assert_closed(&self) {
        let parameters = self.document["parameters"].as_object().unwrap();
        assert_eq!(parameters.keys().collect::<Vec<_>>(), ["digest", "verb"]);
        for (name, parameter) in parameters {
            assert_eq!(parameter["type"], "String", "{name}");
            let pattern = parameter["allowedPattern"].as_str();
            assert!(parameter["allowedValues"].is_array() || pattern.is_some(), "{name} is open");
            let anchored = |part: &str| part.starts_with('^') && part.ends_with('$');
            assert!(pattern.is_none_or(|p| p.split('|').all(anchored)), "{name}: {pattern:?}");
            assert!(self.accepts(name, parameter["default"].as_str().unwrap()), "{name}: its default");
        }
    }

    fn accepts(&self, name: &str, value: &str) -> bool {
        let parameter = &self.document["parameters"][name];
        let listed = parameter["allowedValues"].as_array();
        let matches = |pattern: &str| self.host.sh_with(&format!("{MATCHES} '{pattern}'"), value).code() == 0;
        parameter.is_object()
            && listed.is_none_or(|values| values.iter().any(|allowed| allowed == value))
            && parameter["allowedPattern"].as_str().is_none_or(matches)
    }

    /// Writes the script with the values in its text, unless one of them is refused.
    fn script(&self, values: &[(&str, &str)]) -> Result<String, String> {
        if let Some((name, value)) = values.iter().find(|(name, value)| !self.accepts(name, value)) {
            return Err(format!("InvalidParameters: {name}={value}"));
        }
        let step = &self.document["mainSteps"][0]["inputs"]["runCommand"];
        let lines = step.as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let mut script = lines.collect::<Vec<_>>().join("\n");
        for (name, parameter) in self.document["parameters"].as_object().unwrap() {
            let given = values.iter().find(|(given, _)| given == name).map(|(_, value)| *value);
            let value = given.or(parameter["default"].as_str()).unwrap();
            script = script.replace(&format!("{{{{ {name} }}}}"), value);
        }
        assert!(!script.contains("{{"), "{script}");
        let file = format!("{ORCHESTRATION}/_script.sh");
        self.host.write(&file, &script);
        self.host.sh(&format!("chmod 700 {file}")).ok();
        // A group of its own without a terminal, and the little environment of a system service.
        Ok(format!("cd / && env -i PATH=/usr/bin:/bin AWS_SSM_INSTANCE_ID=i-1 setsid -w sh -c {file}"))
    }

    /// The exit code, and the part of the output that SSM keeps.
    fn send(&self, values: &[(&str, &str)]) -> Result<(i32, String), String> {
        let ran = self.host.sh(&format!("{} </dev/null", self.script(values)?));
        assert_ne!(ran.code(), REBOOTS, "it would reboot the host");
        assert_eq!(ran.stderr, "", "only 8,000 characters of it are kept");
        Ok((ran.code(), ran.stdout.chars().take(KEPT).collect()))
    }
}

fn parsed(host: &Host, yaml: &str) -> Value {
    serde_json::from_str(&host.sh_with(TO_JSON, yaml).ok().stdout).unwrap()
}

#[test]
fn a_verb_reaches_the_agent_and_its_exit_code_and_reason_come_back() {
    let host = installed_with("ssm", &config_with(SHORT));
    let ssm = Ssm::new(&host);
    ssm.assert_closed();

    let (code, output) = ssm.send(&[]).unwrap();
    assert!(code == 0 && output.contains("release     1"), "{code}: {output}");
    assert!(output.ends_with("astra-agent status: exit code 0\n"), "{output}");

    let v2 = host.digest("v2");
    let (code, output) = ssm.send(&[("verb", "plan"), ("digest", &v2)]).unwrap();
    assert!(code == 0 && output.contains(&v2[..19]), "{code}: {output}");
    a_job_ends_with_the_exit_code(&host, &ssm, &v2);

    // A release that fails its trial.
    let (code, output) = ssm.send(&[("verb", "deploy-sha"), ("digest", &host.digest("exits"))]).unwrap();
    assert_eq!(code, 3, "{output}");
    for said in ["APP_FAULT=exits", "failed and was taken back", "astra-agent deploy-sha: exit code 3"] {
        assert!(output.contains(said), "no {said:?} in {output}");
    }
    assert_eq!(host.missing(), Ok("v2".to_owned()), "{output}");

    refused(&host, &ssm, &v2);
    never_reboots(&host, &ssm);
    goes_on_when_cancelled(&host, &ssm);
}

/// Refused by SSM, before anything runs; or by the script, before the agent does.
fn refused(host: &Host, ssm: &Ssm, digest: &str) {
    let runs = host.history().len();
    let dangerous = format!("{digest}'; touch /root/owned; '");
    host.sh(&format!("rm -rf {ORCHESTRATION}")).ok();
    for (name, value) in [
        ("digest", dangerous.as_str()),
        ("digest", &digest[..70]),
        ("digest", &digest.to_uppercase()),
        ("digest", "latest"),
        ("verb", "env"),
        ("verb", "status; reboot"),
        ("verb", "uninstall"),
        ("commands", "id"),
    ] {
        let refusal = ssm.send(&[(name, value)]).unwrap_err();
        assert!(refusal.starts_with("InvalidParameters"), "{refusal}");
    }
    host.sh(&format!("! ls {ORCHESTRATION} /root/owned 2>/dev/null | grep .")).ok();
    for (verb, digest, said) in
        [("deploy-sha", "", "deploy-sha needs a digest"), ("rollback", digest, "rollback takes no digest")]
    {
        let (code, output) = ssm.send(&[("verb", verb), ("digest", digest)]).unwrap();
        assert!(code == 2 && output.contains(said), "{code}: {output}");
    }
    assert_eq!(host.history().len(), runs);
}

/// No exit code reboots the host, and the end of a long output arrives.
fn never_reboots(host: &Host, ssm: &Ssm) {
    for (exits, code) in [(194, 1), (75, 75)] {
        let fake = format!("#!/bin/sh\nseq 30000\necho 'error: the reason' >&2\nexit {exits}\n");
        host.write(FAKE, &fake);
        host.sh(&format!("chmod 755 {FAKE}")).ok();
        let (ended, output) = ssm.send(&[("verb", "reconcile")]).unwrap();
        assert_eq!(ended, code);
        assert!(output.starts_with("[the start is left out]\n"), "{output:.200}");
        let end = format!("\n30000\nerror: the reason\nastra-agent reconcile: exit code {exits}\n");
        assert!(output.ends_with(&end) && output.len() > 20_000, "{output}");
    }
    host.sh(&format!("rm {FAKE}")).ok();
}

/// `cancel-command`, and the timeout of the document: SSM kills the group of the script.
fn goes_on_when_cancelled(host: &Host, ssm: &Ssm) {
    const RUNS: &str = "systemctl is-active --quiet 'astra-agent-rollback-*'";
    const CALLER: &str = "pgrep -o -f '^(/bin/)?sh (-c )?/var/lib/amazon/'";
    let script = ssm.script(&[("verb", "rollback")]).unwrap();
    host.sh(&format!("{{ {script}; }} </dev/null >/root/out 2>&1 &")).ok();
    host.wait(&format!("{RUNS} && curl -s -m 1 localhost:8001/ | grep -q v1"), Duration::from_secs(30));
    host.sh(&format!("kill -KILL -- -$({CALLER})")).ok();
    host.wait(&format!("! {CALLER} && ! pgrep -f '^astra-agent rollback'"), Duration::from_secs(5));
    host.sh(RUNS).ok();
    host.wait(&format!("! {RUNS}"), Duration::from_secs(60));
    assert_eq!(host.missing(), Ok("v1".to_owned()), "{}", host.read("/root/out"));
    let run = &host.history()[0];
    assert_eq!((&run["outcome"], &run["recovered"]), (&"converged".into(), &false.into()), "{run}");
}

/// The job of the workflow, with its script and variables.
fn a_job_ends_with_the_exit_code(host: &Host, ssm: &Ssm, digest: &str) {
    let workflow = parsed(host, WORKFLOW);
    assert_eq!(workflow["permissions"], serde_json::json!({"id-token": "write"}));
    let steps = workflow["jobs"]["deploy"]["steps"].as_array().unwrap();
    assert_eq!(steps[1]["env"]["DIGEST"], "${{ inputs.digest }}");
    let script = steps[1]["run"].as_str().unwrap();
    assert!(!script.contains("${{"), "an input is put into the text of the script");
    host.write("/root/job", script);
    host.write("/root/aws/bin/aws", AWS);
    host.write("/root/aws/bin/sleep", "#!/bin/sh\n");
    host.write("/root/aws/document", &ssm.script(&[("verb", "deploy-sha"), ("digest", digest)]).unwrap());
    host.sh("chmod 755 /root/aws/bin/*").ok();

    let job = |digest: &str, state: &str, instances: &str| {
        host.write("/root/aws/state", state);
        host.write("/root/aws/details", state);
        host.write("/root/aws/instances", instances);
        let vars = format!("DIGEST='{digest}' SITE=shop PATH=/root/aws/bin:$PATH");
        let job = host
            .sh(&format!("rm -f /root/aws/polled; {vars} bash --noprofile --norc -eo pipefail /root/job"));
        (job.code(), job.text())
    };
    assert_eq!(job("latest", "Success", "i-1\n").0, 2);
    host.sh("! ls /root/aws/called").ok();
    let (code, output) = job(digest, "Success", "i-1\n");
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("i-1: Success, exit code 0\n") && output.contains("\n| release "), "{output}");
    assert_eq!(host.missing(), Ok("v2".to_owned()), "{output}");

    let sent = host.read("/root/aws/sent");
    let parameters = sent.lines().skip_while(|line| *line != "--parameters").nth(1).unwrap();
    let parameters: Value = serde_json::from_str(parameters).unwrap();
    assert_eq!(parameters, serde_json::json!({"verb": ["deploy-sha"], "digest": [digest]}));
    assert_policy_fits(&host.read("/root/aws/called"));

    host.write(FAKE, "#!/bin/sh\necho 'error: locked'\nexit 75\n");
    host.sh(&format!("chmod 755 {FAKE}")).ok();
    let (code, output) = job(digest, "Failed", "i-0\ti-1\n");
    assert!(code == 75 && output.contains("| error: locked\n"), "{code}: {output}");
    assert!(output.contains("::error::i-0: Terminated, exit code -1\n"), "{output}");
    assert_eq!(job(digest, "Failed", "i-0\n").0, 1);
    let (code, output) = job(digest, "Success", "\n");
    host.sh(&format!("rm {FAKE}")).ok();
    assert!(
        code == 1 && output.contains("SSM knows no instance with the tag astra=shop"),
        "{code}: {output}"
    );
}

/// The policy of the CI allows the calls of the workflow, and no other.
fn assert_policy_fits(called: &str) {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let action = |call: &str| format!("ssm:{}", call.split('-').map(capital).collect::<String>());
    let calls: BTreeSet<String> = called.lines().map(action).collect();
    let policy: Value = serde_json::from_str(CI_POLICY).unwrap();
    let listed = |action: &Value| action.as_array().cloned().unwrap_or_else(|| vec![action.clone()]);
    let statements = policy["Statement"].as_array().unwrap();
    let allowed: BTreeSet<String> = statements
        .iter()
        .flat_map(|statement| listed(&statement["Action"]))
        .map(|action| action.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(calls, allowed);
    for statement in statements.iter().filter(|statement| statement["Action"] == "ssm:SendCommand") {
        let resource = statement["Resource"].as_str().unwrap();
        let tagged = statement["Condition"]["StringEquals"]["ssm:resourceTag/astra"].is_string();
        assert!(resource.ends_with(":document/astra-agent") || tagged, "{statement}");
    }
}
