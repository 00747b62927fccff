//! The D-Bus interfaces that the agent calls (org.freedesktop.systemd1(5), org.freedesktop.timedate1(5)). Units
//! have no proxies: a getter makes one `Get` for each property, and reads must be one `GetAll`.

use std::collections::HashMap;

use zbus::{OwnedObjectPath, OwnedVariant, Result, Variant};

/// A unit's properties of one interface.
pub type Properties = HashMap<String, OwnedVariant>;

/// A link that enabling or disabling a unit made or removed: kind, path and target.
type Change = (String, String, String);

/// A loaded unit: name, description, `LoadState`, `ActiveState`, `SubState`, the unit that it follows, path,
/// and its job's number, type and path.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    fn subscribe(&self) -> Result<()>;
    fn reload(&self) -> Result<()>;

    fn start_unit(&self, unit: &str, mode: &str) -> Result<OwnedObjectPath>;
    fn stop_unit(&self, unit: &str, mode: &str) -> Result<OwnedObjectPath>;
    fn restart_unit(&self, unit: &str, mode: &str) -> Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, unit: &str) -> Result<()>;
    fn kill_unit(&self, unit: &str, whom: &str, signal: i32) -> Result<()>;

    fn start_transient_unit(
        &self,
        unit: &str,
        mode: &str,
        properties: &[(String, Variant<'_>)],
        others: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> Result<OwnedObjectPath>;
    fn ref_unit(&self, unit: &str) -> Result<()>;
    fn unref_unit(&self, unit: &str) -> Result<()>;

    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> Result<Vec<Listed>>;
    fn list_unit_files_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> Result<Vec<(String, String)>>;
    fn enable_unit_files(&self, units: &[&str], runtime: bool, force: bool) -> Result<(bool, Vec<Change>)>;
    fn disable_unit_files(&self, units: &[&str], runtime: bool) -> Result<Vec<Change>>;
}

#[zbus::proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1",
    async_name = "PropertiesProxy"
)]
pub trait PropertiesOf {
    fn get_all(&self, interface: &str) -> Result<Properties>;
}

#[zbus::proxy(
    interface = "org.freedesktop.timedate1",
    default_service = "org.freedesktop.timedate1",
    default_path = "/org/freedesktop/timedate1"
)]
pub trait TimeDate {
    #[zbus(property(emits_changed_signal = "false"), name = "NTPSynchronized")]
    fn is_synchronised(&self) -> Result<bool>;
}
