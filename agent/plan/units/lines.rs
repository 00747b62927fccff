//! Commands of units that copy lines of env files. Called by units.rs, one_off.rs and cron.rs.

use crate::model::envfile::{MANAGED_KEYS, service_keys};
use crate::model::instance::ServiceName;

/// The command that copies the agent's own lines of an env file to a file that a unit may read as a whole.
/// systemd reads `EnvironmentFile=` again for each command, so the unit's next command has them. Without the
/// env file the copy is empty; 255 is a failure, also for a condition (systemd.service(5)).
pub(in crate::plan) fn own_lines(from: &str, to: &str) -> String {
    own_lines_of(from, to, ServiceName::app())
}

pub(super) fn own_lines_of(from: &str, to: &str, service: ServiceName) -> String {
    copied((from, to), &own_keys(service), "p")
}

/// The names of the agent's own lines that a unit of `service` reads.
pub(super) fn own_keys(service: ServiceName) -> Vec<String> {
    let own = service_keys(service).into_iter().filter(|_| !service.is_app());
    MANAGED_KEYS.map(str::to_owned).into_iter().chain(own).collect()
}

/// The command that copies the lines of these variables from one env file to another; `then` is what sed(1) does with
/// each.
pub(super) fn copied((from, to): (&str, &str), keys: &[String], then: &str) -> String {
    let keys = keys.join("|");
    format!(
        "/bin/sh -c 'umask 077; (test ! -e {from} || sed -nE \"/^[[:blank:]]*({keys})=/{then}\" {from}) >{to} || exit 255'"
    )
}
