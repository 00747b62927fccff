//! The tables of the config, and their meaning.

use super::{APP_ROUTE, FILE, FILE_MOUNT, JOBS, SERVICE, SERVICE_MIGRATE, SERVICE_READINESS, SERVICE_ROUTE};

/// A table of the config.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Section {
    pub path: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "only the reference shows it"))]
    pub doc: &'static str,
}

/// In the order of the reference.
pub(in crate::config) const TABLES: &[Section] = &[
    Section { path: "app", doc: "The application and its instances. Only `image` is required." },
    Section { path: "app.readiness", doc: "When an instance may take traffic." },
    Section {
        path: APP_ROUTE,
        doc: "Requests that go to the application although the route of a service would take them: beside a front end with `route.path = \"/\"`, \
              an application below `/api`. Without it, and in any case, the application gets what no route takes.",
    },
    Section {
        path: "env",
        doc: "The application's environment, written to `/etc/astra/NAME.env` (0600). Any name is a key here. \
              Other lines of that file are kept byte for byte. A value must reach containers and systemd as the \
              same text: it may not begin with a quote or a space, end in one, or have a backslash, a line \
              break or a control character. A name removed from this table is removed from the file by the next deploy; a \
              generated value stays, because it may protect data (`astra-agent env unset NAME` removes it). \
              `APP_IMAGE`, `ASTRA_RELEASE`, `APP_ARGS`, `APP_COMMAND`, `ASTRA_APP_PORT`, `ASTRA_CONFIG_KEYS`, \
              `ASTRA_ENV` and `ASTRA_PORT` are the agent's own and refused.",
    },
    Section {
        path: SERVICE,
        doc: "Another service beside `[app]`: a web service with `port`, a worker without, or an accessory (`kind`). Its name is \
              part of its unit, `astra-NAME@1.service`. It has the environment of the application unless `inherit_env` is false, and belongs to the same \
              release: a deploy changes the application first, then the other web services, then the workers, and commits \
              all at once. A change of one service's settings restarts that service alone. Besides its own keys it has those of `[app]`: `network`, \
              `command`, `volumes`, `memory`, `cpus`, `stop_timeout`, `required_env`, `entrypoint`, `init`, `stop_signal`, \
              `user`, `ulimits`, `add_hosts`, `calls`, `healthcheck`, `read_only`, `tmpfs`, `shm_size`, `cap_drop`, `cap_add`, and with `port` `warm_up`.",
    },
    Section {
        path: SERVICE_READINESS,
        doc: "When an instance counts as ready. A web service has `path`, `interval` and `answer_timeout`; a worker and an accessory have one of `settle`, `command` and `tcp`.",
    },
    Section {
        path: SERVICE_ROUTE,
        doc: "Which requests go to a web service; all others go to the application. At least one of `hosts` and `path` is \
              required.",
    },
    Section {
        path: SERVICE_MIGRATE,
        doc: "The migration of a service with an image of its own, for its own database. It runs when that image changes, after \
              `[migrate]` and before any instance changes, in a one-off container with the service's arguments and environment. \
              Its unit is `astra-NAME-migrate.service`. A service without `image` has none: `[migrate]` is for all services of \
              the application's image.",
    },
    Section {
        path: FILE,
        doc: "A file in containers, made from a template (Jinja2, by minijinja) with the variables of the environment: \
              `token = {{ FRPS_TOKEN | tojson }}`. It belongs to the release like the environment: a change restarts the services that have \
              it, on trial, and an instance of the release before keeps its own; an accessory takes it with `astra-agent \
              accessory restart`. A variable that is missing refuses the deploy, with line and column. Kept in `/etc/astra/files`, which \
              only root can enter.",
    },
    Section { path: FILE_MOUNT, doc: "Which containers have the file, and where." },
    Section {
        path: "migrate",
        doc: "The database migration, in the image of `[app]`. Without this table there is none.",
    },
    Section { path: "deploy", doc: "How releases are deployed." },
    Section { path: "caddy", doc: "The proxy in front of the instances." },
    Section {
        path: JOBS,
        doc: "A timed job; one `[[cron_jobs]]` each, at most 256. Jobs of all files add up; each name is used once. \
              Either the five fields or `every`, and either `command` or `run`. The fields read as in crontab(5): \
              lists, ranges, steps, names, and either day or weekday if both are restricted; an empty string is \
              the default.",
    },
    Section {
        path: "verify",
        doc: "Signatures of the application's image. podman checks them itself whenever it pulls, by \
              `/etc/containers/policy.json` (containers-policy.json(5)); the agent checks that this policy accepts \
              nothing unsigned, and that only root can write it and its keys. By key: `sigstoreSigned` or `signedBy` with \
              a key file. Scopes with a tag never match: images are pulled by digest. docker checks no signatures, and is \
              refused.",
    },
    Section {
        path: "aws",
        doc: "AWS Secrets Manager and the SSM Parameter Store, for `secret` and `parameter` under `[env]`. The agent asks as the \
              role of this instance, whose credentials the metadata service gives (IMDSv2); it needs `secretsmanager:GetSecretValue` \
              and `ssm:GetParameter` on what is named, and `kms:Decrypt` for a key of your own.",
    },
];
