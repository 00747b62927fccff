//! podman, its containers and images.

use super::super::row::Done;
use super::super::site::Site;

const MIGRATION: &str = "astra-migrate";

impl Site {
    /// Runs podman; IMAGE stands for the committed image.
    pub fn podman(&self, words: &str) -> Done {
        self.sh(&format!("podman {}", words.replace("IMAGE", &self.image()?)))
    }

    pub fn has_container(&self, name: &str) -> bool {
        self.ask("podman ps -a --format '{{.Names}}'").is_ok_and(|names| names.lines().any(|it| it == name))
    }

    /// Stops an instance. Its container goes a moment later.
    pub fn stop_instance(&self, number: u16) -> Done {
        self.sh(&format!("systemctl stop astra-app@{number}"))?;
        let name = format!("astra-app-{number}");
        self.until(&format!("{name} is removed"), || !self.has_container(&name))
    }

    /// No migration's container is left.
    pub fn no_migration(&self) -> Done {
        match self.has_container(MIGRATION) {
            true => Err(format!("{MIGRATION} is left")),
            false => Ok(()),
        }
    }

    /// The pushed image is not in the store.
    pub fn not_stored(&self) -> Done {
        self.fails(&format!("podman image exists 127.0.0.1:5001/astra@{}", self.host.digest("latest")))
    }

    /// Makes a rollback target, and removes its image.
    pub fn prune_rollback_target(&self) -> Done {
        self.sh("astra-agent deploy --force")?;
        self.sh("podman rmi -f $(cat /etc/astra/last_app_image)")
    }

    /// Stops podman's service in a way that leaves no socket.
    pub fn remove_podman_socket(&self) -> Done {
        self.sh("systemctl stop podman.socket podman.service")?;
        self.sh("rm -f /run/podman/podman.sock")
    }

    /// Leaves podman's service there, but without an answer.
    pub fn hang_podman(&self) -> Done {
        self.sh("systemctl start podman.service")?;
        self.sh("systemctl kill -s STOP podman.service")
    }

    /// A container of a migration without its layer.
    pub fn ruin_container(&self) -> Done {
        self.podman("create -q --name astra-migrate --label astra.release=9 IMAGE true")?;
        let layer = self.ask("podman inspect -f '{{.GraphDriver.Data.UpperDir}}' astra-migrate")?;
        let layer = layer.strip_suffix("/diff").ok_or_else(|| format!("{layer} does not end in /diff"))?;
        self.write(&format!("{layer}/link"), "")
    }

    /// Overwrites a part of podman's database, and keeps the old one.
    pub fn damage_podman(&self) -> Done {
        self.sh("systemctl stop podman.socket podman.service")?;
        self.sh("cp -a /var/lib/containers/storage/db.sql /root/db.sql")?;
        self.damage("/var/lib/containers/storage/db.sql")?;
        self.sh("systemctl start podman.socket")
    }

    pub fn restore_podman(&self) -> Done {
        self.sh("systemctl stop podman.socket podman.service")?;
        self.sh("rm -f /var/lib/containers/storage/db.sql-*")?;
        self.sh("cp -a /root/db.sql /var/lib/containers/storage/db.sql")?;
        self.sh("systemctl reset-failed podman.socket podman.service")?;
        self.sh("systemctl start podman.socket")
    }
}
