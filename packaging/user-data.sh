#!/bin/bash
# Cloud-init user data that turns a fresh instance into a serving app. Fill in the three lines and agent.toml,
# and use the whole file as the instance's user data. It is safe to run again. Keep secrets out of it: every
# process of the instance can read the user data. Output: /var/log/cloud-init-output.log
#
# Debian 12+, Ubuntu 24.04+, AlmaLinux/Rocky/RHEL 9+ get podman; Amazon Linux 2023, which has none, gets docker.
set -euo pipefail
umask 077

agent_url='https://example.com/astra-agent-x86_64'   # https only
agent_sha256='0000000000000000000000000000000000000000000000000000000000000000'
agent_toml() { cat <<'END'
[app]
image = "ghcr.io/you/shop:latest"

[caddy]
hosts = ["shop.example.com"]
END
}

say() { echo "user-data: $*" >&2; }

# The network or a mirror may not be up yet.
patiently() {
	local try
	for try in 1 2 3 4 5; do
		"$@" && return
		say "attempt $try failed: $*"
		sleep $((try * 5))
	done
	return 1
}

install_engine() {
	local ID='' ID_LIKE='' VERSION_ID=''
	. /etc/os-release
	case "$ID $ID_LIKE" in
	amzn*)
		patiently dnf -q install -y docker
		systemctl enable --now docker.service
		;;
	*debian* | *ubuntu*)
		export DEBIAN_FRONTEND=noninteractive
		patiently apt-get -q -o DPkg::Lock::Timeout=300 update
		patiently apt-get -q -o DPkg::Lock::Timeout=300 install -y podman ca-certificates curl
		systemctl enable --now podman.socket
		;;
	*rhel* | *fedora* | *centos*)
		patiently dnf -q install -y podman ca-certificates
		systemctl enable --now podman.socket
		;;
	*)
		say "no engine known for $ID $VERSION_ID: install podman or docker, then run astra-agent install"
		return 1
		;;
	esac
}

install_agent() {
	local file=/usr/local/bin/astra-agent
	if ! echo "$agent_sha256  $file" | sha256sum --check --status 2>/dev/null; then
		patiently curl --proto '=https' --tlsv1.2 -fsSL --max-time 120 -o "$file.new" "$agent_url"
		echo "$agent_sha256  $file.new" | sha256sum --check --status || {
			rm -f "$file.new"
			say "the download of $agent_url has another checksum"
			return 1
		}
		chmod 0755 "$file.new"
		mv "$file.new" "$file"
	fi
}

install_config() {
	install -d -m 0700 /etc/astra
	# Manual changes are kept.
	[[ -e /etc/astra/agent.toml ]] || agent_toml >/etc/astra/agent.toml
	astra-agent check
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
install_engine
install_agent
install_config
# Install retries while the registry is not reachable. Exit code 2: a required variable is missing; set it
# with `astra-agent env set`, then run `astra-agent install` by hand.
astra-agent install
