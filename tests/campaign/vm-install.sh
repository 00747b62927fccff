# Runs in the machine: a host that serves v1, then off.
exec 2>&1
set -eu
trap 'echo "job: failed"; sync; systemctl poweroff -ff' EXIT
until pg_isready -q && curl -sfo /dev/null 127.0.0.1:5000/v2/; do sleep 0.5; done
mkdir /etc/astra/agent.d
cat >/etc/astra/agent.d/vm.toml <<'END'
[app.readiness]
timeout = "4m"

[deploy]
min_free = "200M"
END
echo canary-db-pw-7f3a | astra-agent env set DATABASE_PASSWORD
# Without KVM a reload of systemd may take longer than the agent waits.
for attempt in 1 2 3 4 5; do
	if astra-agent install; then break; fi
done
curl -sSf http://localhost/readyz
# What must be the same after every cut.
grep -E '^(SECRET_KEY|DATABASE_|ALLOWED_HOSTS)' /etc/astra/astra.env | sort | sha256sum >/root/env.sum
systemctl stop 'astra-agent-*.timer'
sync
echo 'job: ok'
trap - EXIT
systemctl poweroff
