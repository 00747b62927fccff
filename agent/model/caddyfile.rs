//! The own address of a Caddyfile: a loopback address that no other Caddyfile of this host uses. Caddy
//! applies `shutdown_delay` to the servers of a former config only if one of their listeners is removed.
//! Called by plan/caddy.rs and host/caddy/.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::name::{DRAIN_DIR, HEALTH_PORT};

/// Prefix of the marker that makes the servers of a former config ask clients for new connections.
pub const LEAVING: &str = "leaving-";

/// The address for a Caddyfile with this text, between 127.0.2.0 and 127.0.254.255. Instances use those
/// below.
pub fn own_address(text: &str) -> Ipv4Addr {
    let [a, b, ..]: [u8; 32] = Sha256::digest(text).into();
    Ipv4Addr::new(127, 0, a.clamp(2, 254), b)
}

/// The own address in `caddyfile`; `None` in one of an older agent.
pub fn own_address_in(caddyfile: &str) -> Option<Ipv4Addr> {
    let end = format!(":{HEALTH_PORT} {{");
    caddyfile.lines().find_map(|line| line.strip_prefix("http://")?.strip_suffix(&end)?.parse().ok())
}

/// The marker of the config with this own address.
pub fn leaving_marker(own: Ipv4Addr) -> PathBuf {
    Path::new(DRAIN_DIR).join(format!("{LEAVING}{own}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own_address_which_is_read_back() {
        let [one, two] = ["one", "two"].map(own_address);
        assert_ne!(one, two);
        let health = "http://127.0.1.1:9080, http://[::ffff:127.0.1.1]:9080 {\n}\n";
        let caddyfile = format!("{health}http://{one}:9080 {{\n\tabort\n}}\n");
        assert_eq!(own_address_in(&caddyfile), Some(one));
        assert_eq!(own_address_in(health), None);
        assert_eq!(
            leaving_marker(Ipv4Addr::new(127, 0, 7, 9)),
            Path::new("/run/astra/drain/leaving-127.0.7.9")
        );
    }
}
