//! systemd, the bus, the agent's own process, ports.

use std::fs::{self, File};

use super::super::row::Done;
use super::super::site::Site;

const STARTS: &str = "systemctl show -P InvocationID astra-app@1 astra-app@2";

impl Site {
    /// Waits until an instance is on trial with the new release.
    pub fn trying(&self, instance: u16) -> Done {
        let file = format!("/run/astra/trial-{instance}.env");
        self.until(&file, || self.exists(&file))
    }

    /// Whether a run holds the lock.
    pub fn is_locked(&self) -> bool {
        let lock = self.open(File::options().read(true), "/run/astra/run.lock");
        lock.is_ok_and(|lock| lock.try_lock().is_err())
    }

    /// Waits for the end of the run.
    pub fn unlocked(&self) -> Done {
        self.until("the lock is free", || !self.is_locked())
    }

    pub fn status_is_good(&self) -> Done {
        self.until("status succeeds", || self.sh("astra-agent status").is_ok())
    }

    pub fn signal_bus(&self, signal: &str) -> Done {
        self.sh(&format!("pkill -{signal} -x 'dbus-(daemon|broker)'"))
    }

    /// Sends a signal to the main process of the deploy.
    pub fn signal_run(&self, signal: &str) -> Done {
        self.sh(&format!("systemctl kill --kill-whom=main -s {signal} 'astra-agent-deploy-*'"))
    }

    /// Listens on a port, and accepts no connection.
    pub fn squat(&self, address: &str) -> Done {
        self.sh(&format!("systemd-run -q --unit=squatter systemd-socket-activate -l {address} sleep 600"))?;
        let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
        self.until(&format!("a listener on port {port}"), || self.listens(port))
    }

    /// Whether a process of the host listens on an IPv4 port.
    fn listens(&self, port: u16) -> bool {
        let sockets = fs::read_to_string(self.at("/proc/1/net/tcp")).unwrap_or_default();
        let local = format!(":{port:04X}");
        sockets.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|at| at.ends_with(&local)) && fields.nth(1) == Some("0A")
        })
    }

    /// Keeps the starts of the instances for `same_starts`.
    pub fn keep_starts(&self) -> Done {
        let starts = self.ask(STARTS)?;
        *self.kept.lock().unwrap() = starts;
        Ok(())
    }

    /// No instance was started since.
    pub fn same_starts(&self) -> Done {
        let (starts, kept) = (self.ask(STARTS)?, self.kept.lock().unwrap().clone());
        if starts == kept { Ok(()) } else { Err(format!("started anew: {kept} became {starts}")) }
    }
}
