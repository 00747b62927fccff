//! Limits of memory, processes and processor time, by the machine's v1 hierarchies.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::super::row::Done;
use super::super::site::Site;

const HOOKS: &str = "/usr/share/containers/oci/hooks.d";

/// A limit of a control group, in its own words.
#[derive(Clone, Copy)]
pub enum Limit {
    Memory(&'static str),
    Processes(u32),
    /// Microseconds of each tenth of a second.
    Processor(u32),
}

impl Site {
    /// A control group of the host with that limit.
    pub fn limit(&self, limit: Limit) -> Result<String, String> {
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let (controller, file, value) = match limit {
            Limit::Memory(bytes) => ("memory", "memory.limit_in_bytes", bytes.to_owned()),
            Limit::Processes(number) => ("pids", "pids.max", number.to_string()),
            Limit::Processor(quota) => ("cpu", "cpu.cfs_quota_us", quota.to_string()),
        };
        let hierarchy = format!("/mnt/{controller}");
        // By process as well: two campaigns on a machine see the same hierarchy.
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let group = format!("{hierarchy}/few-{}-{number}", std::process::id());
        self.sh(&format!("mkdir -p {hierarchy}"))?;
        self.sh(&format!(
            "mountpoint -q {hierarchy} || mount -t cgroup -o {controller} {controller} {hierarchy}"
        ))?;
        self.sh(&format!("mkdir {group} && echo {value} >{group}/{file}"))?;
        Ok(group)
    }

    /// Moves the deploy that runs into the group.
    pub fn limit_run(&self, group: &str) -> Done {
        self.sh(&format!("echo $(systemctl show -P MainPID 'astra-agent-deploy-*') >{group}/cgroup.procs"))
    }

    /// The app that starts next begins in the group: its runtime puts it there.
    pub fn limit_next_app(&self, group: &str) -> Done {
        self.write("/root/newborn", include_str!("../newborn.sh"))?;
        self.sh("chmod 755 /root/newborn")?;
        let hook = json!({
            "version": "1.0.0",
            "hook": {"path": "/root/newborn", "args": ["newborn", group]},
            "when": {"commands": ["python3$"]},
            "stages": ["createRuntime"],
        });
        self.write(&format!("{HOOKS}/newborn.json"), &hook.to_string())
    }
}
