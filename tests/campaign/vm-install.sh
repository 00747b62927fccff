# Runs in the machine: a host that serves v1, then off.
exec 2>&1
set -eu
trap 'echo "job: failed"; sync; systemctl poweroff -ff' EXIT
until pg_isready -q && curl -sfo /dev/null 127.0.0.1:5000/v2/; do sleep 0.5; done
install -d -m 0700 /etc/astra
cat >/etc/astra/agent.toml <<'END'
[app]
image = "127.0.0.1:5000/astra:latest"
instances = 2
required_env = ["DATABASE_HOST", "DATABASE_PASSWORD", "SECRET_KEY"]

[app.readiness]
notify = true
path = "/readyz"
timeout = "4m"

[env]
DATABASE_HOST = "host.containers.internal"
DATABASE_NAME = "astra"
DATABASE_USER = "astra"
ALLOWED_HOSTS = "*"
SECRET_KEY = { generate = 64 }

[migrate]
command = ["./migrate.sh"]

[deploy]
soak = "1s"
min_free = "200M"

[caddy]
image = "127.0.0.1:5000/caddy:2"
tls = "off"
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
