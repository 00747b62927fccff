//! PostgreSQL.

use super::super::row::Done;
use super::super::site::Site;

impl Site {
    /// Runs SQL as the database's administrator, and returns the answer.
    pub fn query(&self, sql: &str) -> Result<String, String> {
        let answer =
            self.host.sh_with("cd / && runuser -u postgres -- psql -qAt -v ON_ERROR_STOP=1 astra", sql);
        match answer.code() {
            0 => Ok(answer.stdout.trim_end().into()),
            _ => Err(format!("{sql}: {}", answer.text())),
        }
    }

    pub fn sql(&self, sql: &str) -> Done {
        self.query(sql).map(drop)
    }

    /// Holds the table of migrations, so that each migration waits.
    pub fn lock_migrations(&self) -> Done {
        self.sh("systemd-run -q --collect --unit=holder runuser -u postgres -- psql -qAt astra -c \
                 'BEGIN; LOCK TABLE django_migrations; SELECT pg_sleep(300)'")?;
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'django_migrations'::regclass \
                     AND mode = 'AccessExclusiveLock' AND granted";
        self.until("the table is locked", || self.query(locks).is_ok_and(|count| count == "1"))
    }

    pub fn unlock_migrations(&self) -> Done {
        self.sh("systemctl stop holder")?;
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^BEGIN; LOCK'")
    }

    /// Waits for a migration to be under way.
    pub fn migrating(&self) -> Done {
        self.until("a migration", || self.has_container("astra-migrate"))?;
        self.pause(1)
    }

    /// Waits for the server, and for the app to be connected again.
    pub fn database_again(&self) -> Done {
        self.until("PostgreSQL is ready", || self.sh("pg_isready -q").is_ok())?;
        self.pause(1)
    }
}
