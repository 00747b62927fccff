#!/bin/bash
# EC2 user data that turns a fresh instance into a serving app: fill in the URL, the checksum and agent.toml. It
# needs Debian 12+, Ubuntu 24.04+, AlmaLinux/Rocky/RHEL 9+ (podman) or Amazon Linux 2023 (docker). Keep secrets
# out of it: every process of the instance can read the user data.
agent_url='https://example.com/astra-agent_amd64.deb' # .deb, .rpm, or the bare binary
agent_sha256='0000000000000000000000000000000000000000000000000000000000000000'

umask 077
mkdir -p /etc/astra
# Manual changes are kept.
[[ -e /etc/astra/agent.toml ]] || cat >/etc/astra/agent.toml <<'END'
[app]
image = "ghcr.io/you/shop:latest"

[caddy]
hosts = ["shop.example.com"]
END

# cloud-init runs user data once, and this copy at every boot: it tries again until an install has succeeded.
again=/var/lib/cloud/scripts/per-boot/astra-install
[[ $0 -ef $again ]] || install -m 0700 "$0" "$again"
sync

# From here on, both forms are the same. Output: /var/log/cloud-init-output.log
set -uo pipefail
umask 077
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
[[ ! -e /var/lib/astra-agent/installed ]] || exit 0

# The network or a mirror may not be up yet.
patiently() {
	local pause
	for pause in 5 10 20 40; do
		"$@" && return
		echo "again in $pause s: $*"
		sleep "$pause"
	done
	"$@"
}

# A power cut may have interrupted dpkg at the last boot.
apt_install() {
	dpkg --configure -a # It fails while another process upgrades the instance; apt-get then waits.
	apt-get -q update && apt-get -q -o DPkg::Lock::Timeout=300 install -y "$@"
}

install_engine() {
	[[ ! $(type -P podman docker) || ! $(type -P curl) ]] || return 0
	case $(. /etc/os-release && echo "$ID") in
	debian | ubuntu) patiently apt_install podman ca-certificates curl ;;
	amzn) patiently dnf -q install -y docker ;; # It has no podman.
	*) patiently dnf -q install -y podman ;;
	esac
}

install_agent() {
	local name=${agent_url%%\?*}
	local file=/var/tmp/${name##*/}
	patiently curl -fsSL --max-time 300 -o "$file" "$agent_url"
	sha256sum --check --status <<<"$agent_sha256  $file" || { echo "error: $name has another checksum"; return 1; }
	case $name in
	*.deb) patiently apt_install "$file" ;;
	*.rpm) patiently dnf -q install -y "$file" ;;
	*) install -m 0755 "$file" /usr/local/bin/astra-agent ;;
	esac
}

log=/run/astra-user-data.log
(
	set -e
	install_engine
	if [[ $(type -P podman) ]]; then unit=podman.socket; else unit=docker.service; fi
	systemctl enable --now "$unit"
	install_agent
	astra-agent install # It retries while the registry is not reachable.
) 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
if ((code)); then
	reason=$(grep -E '^(error:|  because)' "$log" | tail -n 1)
	echo "astra-agent is not installed (exit code $code), the next boot tries again: ${reason:-$(tail -n 1 "$log")}" |
		tee /dev/console
fi
exit "$code"
