//! Compares rendered templates with the golden files tests/golden/units_*. `UPDATE_GOLDEN=1` rewrites them.

#[cfg(test)]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::text::{TemplateError, fill, quote_exec, span};
use super::*;
use crate::plan::caddy::caddyfile;
use crate::plan::calls;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn config(name: &str) -> Config {
    let path = golden_dir().join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    crate::config::parse(&[(path, text)]).unwrap()
}

fn listens(config: &Config) -> BTreeMap<InstanceName, u16> {
    let ids = config.instances().chain(config.spares());
    ids.filter_map(|id| Some((id, config.port_of(id)?))).collect()
}

/// All rendered files as one text.
fn rendered(config: &Config, engine: Engine, caddy: (u32, u32)) -> String {
    let mut files: BTreeMap<PathBuf, String> =
        render(config, engine, "/usr/bin/astra-agent", &calls::of_config(config), |id| config.port_of(id));
    files.insert(
        "/etc/astra/Caddyfile".into(),
        caddyfile(config, Some(caddy), &listens(config), &calls::of_config(config)),
    );
    let texts = files.iter().map(|(path, text)| format!("==> {} <==\n{text}\n", path.display()));
    let lists = [
        format!("==> enabled <==\n{}\n\n", enabled(config).join("\n")),
        format!("==> APP_ARGS <==\n{}\n", app_args(&config.app, engine, &config.name, &[]).join("\n")),
    ];
    texts.chain(lists).collect()
}

fn check(name: &str, text: &str) {
    let path = golden_dir().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "{name} differs from line {:?} on; UPDATE_GOLDEN=1 writes it anew",
        differs.map(|n| n + 1)
    );
}

#[test]
fn the_example_on_podman() {
    check("units_podman.txt", &rendered(&config("units_example.toml"), Engine::Podman, (2, 11)));
}

#[test]
fn the_example_on_docker_with_an_older_caddy() {
    check("units_docker.txt", &rendered(&config("units_example.toml"), Engine::Docker, (2, 7)));
}

#[test]
fn one_instance_with_a_spare_on_the_host_network() {
    check("units_surge.txt", &rendered(&config("units_surge.toml"), Engine::Podman, (2, 11)));
}

#[test]
fn a_site_of_several_services() {
    check("units_services.txt", &rendered(&config("units_services.toml"), Engine::Docker, (2, 11)));
}

#[test]
fn rules_for_every_file() {
    for (name, engine) in [
        ("units_services.toml", Engine::Podman),
        ("units_example.toml", Engine::Podman),
        ("units_example.toml", Engine::Docker),
        ("units_surge.toml", Engine::Podman),
    ] {
        let config = config(name);
        let mut files = render(&config, engine, "/usr/bin/astra-agent", &calls::of_config(&config), |id| {
            config.port_of(id)
        });
        files.insert(
            "Caddyfile".into(),
            caddyfile(&config, Some((2, 11)), &listens(&config), &calls::of_config(&config)),
        );
        for (path, text) in &files {
            let path = path.display();
            // Without it files.rs would take the file for hand-made.
            assert!(text.lines().next().unwrap().contains("astra-agent"), "{path}");
            assert!(text.ends_with('\n') && !text.contains("{{"), "{path}");
            assert!(text.lines().all(|l| l.trim_end() == l), "{path} has trailing spaces");
            for edge in ["Requires=", "BindsTo=", "PartOf="] {
                assert!(!text.lines().any(|l| l.starts_with(edge)), "{path} has {edge}");
            }
            let runs = text
                .lines()
                .any(|l| l.starts_with("ExecStart") && l.contains("=/usr/bin/") && l.contains(" run "));
            assert_eq!(runs, text.contains(" --pull=never"), "{path}");
        }
        for unit in enabled(&config) {
            let instance = config.name.instance(&unit);
            let file = instance.map_or(unit.clone(), |id| config.name.template(id.service));
            assert!(files.get(&unit_file(&file)).is_some_and(|t| t.contains("\n[Install]\n")), "{unit}");
        }
    }
}

#[test]
fn a_release_changes_no_unit() {
    let config = config("units_example.toml");
    let text = rendered(&config, Engine::Podman, (2, 11));
    assert!(!text.contains("sha256:") && !text.contains(&config.image.to_string()));
    let template = service(&config, Engine::Podman, &config.app);
    for of_the_release in ["--memory", "--cpus", "--volume", "--sdnotify="] {
        assert!(
            !template.lines().any(|l| !l.starts_with('#') && l.contains(of_the_release)),
            "{of_the_release}"
        );
    }
}

/// `text` below a minimal `[app]`.
fn config_of(text: &str) -> Config {
    crate::config::parse(&[("agent.toml".into(), format!("[app]\nimage = \"ghcr.io/a/b:c\"\n{text}"))])
        .unwrap()
}

const CONTAINER: &str = r#"
entrypoint = ["sh", "-c"]
command = ["exec serve --all"]
init = true
stop_signal = "SIGINT"
user = "1000:1000"
ulimits = { nofile = 65536, nproc = "10:20" }
add_hosts = { "ipa.example.org" = "10.0.0.9", "host.docker.internal" = "host-gateway" }
healthcheck = false
read_only = true
tmpfs = ["/tmp", "/run:size=1m"]
shm_size = "256M"
cap_drop = ["ALL"]
cap_add = ["NET_BIND_SERVICE"]
"#;

#[test]
fn a_container_is_made_as_the_config_says_on_either_engine() {
    let config = config_of(CONTAINER);
    let wanted = [
        "--entrypoint=sh",
        "--init",
        "--stop-signal=SIGINT",
        "--user=1000:1000",
        "--ulimit=nofile=65536:65536",
        "--ulimit=nproc=10:20",
        "--add-host=host.docker.internal:host-gateway",
        "--add-host=ipa.example.org:10.0.0.9",
        "--no-healthcheck",
        "--read-only",
        "--tmpfs=/tmp",
        "--tmpfs=/run:size=1m",
        "--shm-size=268435456b",
        "--cap-drop=ALL",
        "--cap-add=NET_BIND_SERVICE",
    ];
    for engine in [Engine::Podman, Engine::Docker] {
        let (args, without) = (
            app_args(&config.app, engine, &config.name, &[]),
            app_args(&config_of("").app, engine, &config.name, &[]),
        );
        // An absent key adds no argument: an upgrade of the agent must not change the arguments.
        assert_eq!(args, [&without[..], &wanted.map(str::to_owned)[..]].concat());
    }
    assert_eq!(app_command(&config.app), ["-c", "exec serve --all"]);
    assert!(app_command(&config_of("").app).is_empty());
}

#[test]
fn a_one_off_has_its_own_entry_point_or_the_apps() {
    let units = |text: &str, engine| {
        let config = config_of(text);
        let files = render(&config, engine, "/usr/bin/astra-agent", &calls::of_config(&config), |id| {
            config.port_of(id)
        });
        let text = |unit: &str| {
            let text = files.get(&unit_file(unit)).unwrap();
            let (_, start) = text.split_once("$APP_ARGS ").unwrap();
            start.split("\n# A stop").next().unwrap().replace(" \\\n   ", "")
        };
        (text("astra-migrate.service"), text("astra-cron-a.service"))
    };
    let own = "[migrate]\nentrypoint = [\"sh\", \"-e\"]\ncommand = [\"./migrate.sh\"]\n[[cron_jobs]]\nname = \"a\"\nentrypoint = [\"python\"]\nrun = [\"-m\", \"mail\"]\nenv = { B = \"100% $x\", A = \"1\" }\n";
    let plain = "[migrate]\ncommand = [\"./migrate.sh\"]\n[[cron_jobs]]\nname = \"a\"\nrun = [\"mail\"]\n";
    for (engine, fixed) in [
        (Engine::Podman, "--replace --sdnotify=ignore --cgroups=split --log-driver=passthrough"),
        (Engine::Docker, "--log-driver=none"),
    ] {
        let (migrate, job) = units(own, engine);
        assert_eq!(migrate, format!("{fixed} --entrypoint=sh ${{APP_IMAGE}} -e ./migrate.sh"));
        assert_eq!(
            job,
            format!("{fixed} --entrypoint=python --env=A=1 \"--env=B=100%% $$x\" ${{APP_IMAGE}} -m mail")
        );
        let (migrate, job) = units(plain, engine);
        assert_eq!(migrate, format!("{fixed} ${{APP_IMAGE}} ./migrate.sh"));
        assert_eq!(job, format!("{fixed} ${{APP_IMAGE}} mail"));
        let (migrate, job) = units(&format!("entrypoint = [\"sh\", \"-c\"]\n{plain}"), engine);
        assert_eq!(migrate, format!("{fixed} --entrypoint=sh ${{APP_IMAGE}} -c ./migrate.sh"));
        assert_eq!(job, format!("{fixed} --entrypoint=sh ${{APP_IMAGE}} -c mail"));
    }
}

#[test]
fn a_migration_of_a_service_has_its_image_arguments_and_environment() {
    let text = "[migrate]\ncommand = [\"a\"]\nenv_only = [\"DATABASE_URL\", \"SECRET\"]\n\
                [services.job]\nkind = \"worker\"\nnetwork = \"site\"\nimage = \"a.example/job:1\"\nmigrate.command = [\"b\"]\n";
    let config = config_of(text);
    let files = render(&config, Engine::Podman, "/usr/bin/astra-agent", &calls::of_config(&config), |id| {
        config.port_of(id)
    });
    let unit = |name: &str| files.get(&unit_file(name)).unwrap().as_str();
    let app = unit("astra-migrate.service");
    for line in [
        "--env-file /run/astra/migrate.only $APP_ARGS ",
        "sed -nE \"/^[[:blank:]]*(DATABASE_URL|SECRET)=/p\" /run/astra/trial.env) >/run/astra/migrate.only || exit 255'\n",
        "ExecStopPost=-/bin/rm -f /run/astra/migrate.only\n",
    ] {
        assert!(app.contains(line), "{line}: {app}");
    }
    let job = unit("astra-job-migrate.service");
    for line in [
        "Description=astra-job migration\n",
        "Environment=JOB_IMAGE= JOB_ARGS= ASTRA_JOB_ENV=/run/astra/trial.env ASTRA_RELEASE=0\n",
        "EnvironmentFile=-/run/astra/migrate-job.env\n",
        "|JOB_ARGS|JOB_COMMAND|ASTRA_JOB_PORT|ASTRA_JOB_RELEASE|ASTRA_JOB_ENV)=/{s/ --network-alias=job//;p}\" /run/astra/trial.env) >/run/astra/migrate-job.env ",
        "--name astra-job-migrate --pull=never",
        "--env-file ${ASTRA_JOB_ENV} $JOB_ARGS ",
        "${JOB_IMAGE} b\n",
    ] {
        assert!(job.contains(line), "{line}: {job}");
    }
    assert!(!job.contains("migrate-job.only") && !app.contains("network-alias"), "{job}");
}

#[test]
fn a_placeholder_is_filled_or_refused() {
    assert_eq!(fill("a {{x}}{{y}}b\n", &[("x", "1"), ("y", "")]).unwrap(), "a 1b\n");
    assert_eq!(fill("\t{{x}}\nz\n", &[("x", "1\n\n\t2")]).unwrap(), "\t1\n\n\t\t2\nz\n");
    assert_eq!(fill("a\n\t{{x}}\nb\n", &[("x", "")]).unwrap(), "a\nb\n");
    assert_eq!(fill("{{x}}", &[("x", "{{y}}")]).unwrap(), "{{y}}\n");
    assert_eq!(fill("{{x}} {{z}}", &[("x", "1")]), Err(TemplateError::Unfilled("z".into())));
    assert_eq!(fill("{{x}}", &[("x", "1"), ("z", "")]), Err(TemplateError::Unknown("z".into())));
    assert_eq!(fill("{{x", &[("x", "1")]), Err(TemplateError::Open));
}

#[test]
fn exec_words() {
    let cases: [(&str, &str); 12] = [
        ("plain-1.0/_:=@,+~^", "plain-1.0/_:=@,+~^"),
        ("", "\"\""),
        ("two words", "\"two words\""),
        ("50%", "50%%"),
        ("$HOME", "$$HOME"),
        ("${HOME} %i", "\"$${HOME} %%i\""),
        ("it's \"so\"", "\"it's \\\"so\\\"\""),
        ("back\\slash", "\"back\\\\slash\""),
        (";", "\";\""),
        ("a\nb\tc\x01", "\"a\\nb\\tc\\x01\""),
        ("*", "\"*\""),
        ("grüße", "\"grüße\""),
    ];
    for (word, quoted) in cases {
        assert_eq!(quote_exec(&[word]), quoted);
    }
    assert_eq!(quote_exec(&["a", "b c"]), "a \"b c\"");
    assert_eq!(quote_exec::<&str>(&[]), "");
}

#[test]
fn time_spans() {
    assert_eq!(span(Duration::from_secs(90)), "90s");
    assert_eq!(span(Duration::from_millis(1500)), "1500ms");
}

#[test]
fn the_first_caddyfile_is_replaced_without_a_wait() {
    let config = config("units_example.toml");
    let text = |version| caddyfile(&config, version, &listens(&config), &calls::of_config(&config));
    let (first, next) = (text(None), text(Some((2, 7))));
    assert!(first.contains("for Caddy of any version:") && first.contains("shutdown_delay 0s"), "{first}");
    assert!(next.contains("for Caddy 2.7:") && next.contains("shutdown_delay 4s"), "{next}");
}
