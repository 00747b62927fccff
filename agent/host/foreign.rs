//! Jobs of the app outside of the agent: earlier crontabs and timers. Called by doctor.rs.

use std::path::{Path, PathBuf};

use super::Host;
use crate::config::Config;
use crate::model::checkup::ForeignJob;
use crate::model::instance::{InstanceId, ServiceName};
use crate::model::name::UNIT_DIR;

/// Crontabs of root: Debian's and Red Hat's file, the system's, and a directory.
const CRONTABS: [&str; 3] = ["/var/spool/cron/crontabs/root", "/var/spool/cron/root", "/etc/crontab"];
const CRON_DIR: &str = "/etc/cron.d";

impl Host {
    /// Files that cannot be read are left out.
    pub(super) async fn foreign_jobs(&self, config: &Config) -> Vec<ForeignJob> {
        let app = config.name.as_str();
        let in_dir = self.files.list(Path::new(CRON_DIR)).unwrap_or_default();
        let crontabs = CRONTABS.iter().map(PathBuf::from);
        let crontabs = crontabs.chain(in_dir.into_iter().map(|name| Path::new(CRON_DIR).join(name)));
        let mut found: Vec<_> = crontabs.flat_map(|file| lines(app, &file, &self.text(&file))).collect();
        for unit in self.files.list(Path::new(UNIT_DIR)).unwrap_or_default() {
            let Some(service) = unit.strip_suffix(".timer").map(|name| format!("{name}.service")) else {
                continue;
            };
            let (timer, service) = (self.unit_text(&unit), self.unit_text(&service));
            let about = is_about(app, &unit, &timer, &service);
            let runs =
                async { self.systemd.unit(&unit).await.is_ok_and(|u| u.is_active() || u.is_enabled()) };
            if about && runs.await {
                found.push(ForeignJob::Timer { unit });
            }
        }
        found
    }

    fn unit_text(&self, unit: &str) -> String {
        self.text(&Path::new(UNIT_DIR).join(unit))
    }

    fn text(&self, path: &Path) -> String {
        let seen = self.files.read(path).ok().flatten();
        seen.map(|seen| String::from_utf8_lossy(&seen.bytes).into_owned()).unwrap_or_default()
    }
}

/// An engine command that names an instance's container.
fn enters(app: &str, command: &str) -> bool {
    let prefix = format!("{app}-");
    let of_instance = |word: &str| {
        let name = word.strip_prefix(&prefix).and_then(|rest| rest.rsplit_once('-'));
        name.is_some_and(|(service, number)| {
            service.parse::<ServiceName>().is_ok() && number.parse::<InstanceId>().is_ok()
        })
    };
    let named = command.split(|c: char| c.is_whitespace() || "'\"".contains(c)).any(of_instance);
    named && ["podman", "docker"].iter().any(|engine| command.contains(engine))
}

fn lines(app: &str, file: &Path, text: &str) -> Vec<ForeignJob> {
    let jobs =
        text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#') && enters(app, line));
    jobs.map(|(nth, _)| ForeignJob::Line { file: file.to_owned(), line: nth + 1 }).collect()
}

/// The agent's own files say so in their first line.
fn is_about(app: &str, unit: &str, timer: &str, service: &str) -> bool {
    let own = timer.lines().next().is_some_and(|line| line.contains("astra-agent"));
    !own && (unit.starts_with(&format!("{app}-")) || service.lines().any(|line| enters(app, line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crontab_line_with_exec_into_the_app_is_found() {
        let text = "# podman exec astra-app-1 x\nMAILTO=root\n\
                    0 0 * * * podman exec astra-app-1 python manage.py daily\n\
                    5 * * * * /usr/bin/docker exec astra-app-12 x\n\
                    5 * * * * podman exec astra-apple x\n5 * * * * podman exec shop-app-1 x\n";
        let file = Path::new("/etc/crontab");
        let found: Vec<_> = lines("astra", file, text)
            .into_iter()
            .map(|job| match job {
                ForeignJob::Line { line, .. } => line,
                ForeignJob::Timer { .. } => 0,
            })
            .collect();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn a_timer_is_foreign_by_its_name_or_its_service() {
        let exec = "[Service]\nExecStart=/usr/bin/podman exec astra-app-1 python manage.py mail\n";
        let own = "# Written by astra-agent\n[Timer]\n";
        assert!(is_about("astra", "astra-mail.timer", "[Timer]\n", ""));
        assert!(is_about("astra", "mail.timer", "[Timer]\n", exec));
        assert!(!is_about("astra", "astra-cron-mail.timer", own, exec));
        assert!(!is_about("astra", "logrotate.timer", "[Timer]\n", "[Service]\nExecStart=logrotate\n"));
    }
}
