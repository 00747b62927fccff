//! `[migrate]` and `[services.NAME.migrate]`. Called by app.rs and accessory.rs.

use super::app::no_empty_program;
use super::container::entrypoint;
use super::error::{Problems, Show, ValueError};
use super::read::Reader;
use super::tree::{ServiceTables, Table};
use super::value;
use super::{Migrate, Service};
use crate::model::name::EnvKey;

/// The outer `None`: an error; the inner one: the table is absent.
pub(super) fn migrate(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Option<Migrate>> {
    let mut r = Reader { table, problems };
    if r.table.given.is_none() {
        return Some(None);
    }
    r.require("command");
    let commands = r.argvs("command", value::argument);
    for command in commands.iter().flatten() {
        if command.is_empty() {
            let fault = ValueError::new("`command` is empty");
            r.fault("command", fault.help(format!("without migrations, leave out [{}]", table.title)));
        }
        no_empty_program(&mut r, "command", Some(command));
    }
    let entrypoint = entrypoint(&mut r);
    let timeout = r.time("timeout");
    let env_only = r.optional("env_only", |r, key| r.distinct(key, str::parse::<EnvKey>));
    if env_only.as_ref().is_some_and(|names| names.as_ref().is_some_and(Vec::is_empty)) {
        let fault = ValueError::new("`env_only` is empty");
        r.fault("env_only", fault.help("leave it out for the whole environment"));
    }
    Some(Some(Migrate {
        entrypoint: entrypoint?,
        commands: commands?,
        timeout: timeout?,
        env_only: env_only?,
    }))
}

/// The migration of a service, which must have an image of its own.
pub(super) fn of_service(
    tables: &ServiceTables<'_>,
    service: Option<&Service>,
    own_image: bool,
    problems: &mut Problems<'_>,
) -> Option<Option<Migrate>> {
    let (own, table) = (&tables.own.title, &tables.migrate);
    if let Some(span) = table.given.as_ref().filter(|_| !own_image) {
        let fault = ValueError::new(format!("[{own}] has no `image` of its own to migrate with"));
        let help = "[migrate] runs in the image of [app], and may have several commands: [[\"a\"], [\"b\"]]";
        problems.add(span, Show::Line, fault.help(help));
        return None;
    }
    let migrate = migrate(table, problems)?;
    let (Some(names), Some(service)) = (migrate.as_ref().and_then(|m| m.env_only.as_ref()), service) else {
        return Some(migrate);
    };
    let never = |key: &&EnvKey| !service.env.contains_key(*key) && !service.secrets.contains_key(*key);
    if let Some(name) = names.iter().find(never).filter(|_| !service.inherit_env) {
        let fault = ValueError::new(format!("`{name}` is in neither `env` nor `secrets` of [{own}]"));
        let fault = fault.help("with `inherit_env = false` it has no other variables");
        Reader { table, problems }.fault("env_only", fault);
        return None;
    }
    Some(migrate)
}

/// An accessory has no release to migrate for.
pub(super) fn refuse(tables: &ServiceTables<'_>, problems: &mut Problems<'_>) {
    if let Some(span) = &tables.migrate.given {
        let fault = ValueError::new("an accessory has no `migrate`: no release brings it a new image");
        problems.add(
            span,
            Show::Line,
            fault.help("leave it out; the application's [migrate] runs when it is up"),
        );
    }
}
