# Runs on the host after a power cut and checks its promises. Each `broken:` line is a violation.
exec 2>&1
broken() { echo "broken: $*"; }
check() { "${@:2}" >/dev/null 2>&1 || broken "$1"; }
begun=$SECONDS
ready() {
	local url
	for url in localhost:8001 localhost:8002 localhost:8101 localhost; do
		curl -sf -m 10 -o /dev/null $url/readyz || return
	done
	[[ $(systemctl show -P ActiveState astra-worker@1) = active ]]
}
until ready || ((SECONDS - begun > 60)); do sleep 0.2; done
echo "ready: $((SECONDS - begun))"
until ! systemctl is-active -q astra-agent-recover.service || ((SECONDS - begun > 90)); do sleep 0.2; done

env=/etc/astra/astra.env
registry=localhost:5000/v2/astra/manifests
digest() { curl -sI -m 10 -H 'Accept: application/vnd.oci.image.manifest.v1+json' "$registry/$1" | sed -n 's/\r$//; s/^docker-content-digest: //Ip'; }
v1=$(digest v1) v2=$(digest v2)
committed() { case $(sed -n 's/^APP_IMAGE=127.0.0.1:5000\/astra@//p' $env) in "$v1") echo v1 ;; "$v2") echo v2 ;; *) echo unknown ;; esac; }
# agree WHEN WORD: all services are of the committed release, with this word in their file, and last_app_image names
# the rollback target.
agree() {
	local url got back pointer name image
	for url in localhost:8001 localhost:8002 localhost localhost:8101 localhost/front; do
		got=$(curl -s -m 10 $url/version)
		[[ $got = "$(committed)" ]] || broken "$1: $url serves '$got', committed is $(committed)"
	done
	for name in app-1 app-2 front-1 worker-1; do
		got=$(podman exec astra-$name cat /etc/word)
		[[ $got = "$2" ]] || broken "$1: $name has the file of '$got', not of '$2'"
		image=${name%-*}
		image=$(sed -n "s/^${image^^}_IMAGE=//p" $env)
		got=$(podman inspect -f '{{index .Config.Labels "astra.image"}}' astra-$name)
		[[ $got = "$image" && $image = *@"$v1" || $got = "$image" && $image = *@"$v2" ]] ||
			broken "$1: $name runs '$got', committed is '$image'"
	done
	back=$(astra-agent status --json | jq -r '.rollback_to // ""') || broken "$1: status --json cannot be read"
	pointer=$(cat /etc/astra/last_app_image 2>/dev/null)
	[[ $back = "$pointer" ]] || broken "$1: last_app_image is '$pointer', but a rollback leads to '$back'"
}

check 'does not serve' ready
[[ $v1 && $v2 ]] || broken 'the registry is empty'
one=$(curl -s -m 10 localhost:8001/version)
agree 'after the cut' "$(committed)"
[[ $(grep -E '^(SECRET_KEY|DATABASE_|ALLOWED_HOSTS)' $env | sort | sha256sum) = "$(</root/env.sum)" ]] || broken "$env has lost variables"
[[ $(stat -c %a $env) = 600 ]] || broken "$env has another mode"
image=$(sed -n 's/^APP_IMAGE=//p' $env)
[[ $image = 127.0.0.1:5000/astra@sha256:* ]] || broken "APP_IMAGE is '$image'"
case $one in
v2) runuser -u postgres -- psql -tAc "select 1 from django_migrations where name like '0002%'" astra | grep -qx 1 || broken 'new code, database not migrated' ;;
esac
# A journal file without a line belongs to a run that had not begun.
for file in /etc/astra/* /etc/astra/files/* /etc/systemd/system/astra-*; do
	[[ ! -f $file || -s $file ]] || broken "$file is empty"
done
[[ -z $(find /run/astra -name 'trial*' -o -path '*/drain/*') ]] || broken 'a trial or a drain marker is left'
[[ -z $(find /etc/astra /run/astra /etc/systemd/system /var/lib/astra-agent -name '*astra-tmp*' -o -name '*.tmp') ]] || broken 'a temporary file is left'
[[ -z $(podman ps -a --external --format '{{.Names}} {{.ListContainer.State}}' | grep -vxE 'astra-(app-1|app-2|front-1|worker-1|caddy) running') ]] || broken 'a stray container is left'
for unit in astra-app@1 astra-app@2 astra-front@1 astra-worker@1 astra-caddy; do check "$unit is not enabled" systemctl is-enabled "$unit"; done
astra-agent status || broken "status says $?"
astra-agent history | head -n 4
history=$(astra-agent history -n 1000 --json) || broken 'the journal cannot be read'
jq -e 'any(.runs[]; .verb == "install" and .outcome == "converged")' <<<"$history" >/dev/null || broken 'the journal has lost a run: the install'
jq -e 'all(.runs[]; .outcome != null and .outcome != "open")' <<<"$history" >/dev/null || broken 'a run is still open'
echo "serves: $one"
# The next command works.
astra-agent deploy || broken "the next deploy ends with $?"
[[ $(committed) = v2 ]] || broken 'the next deploy does not lead to v2'
agree 'after the next deploy' v2
# The rollback target is complete on this host.
systemctl stop docker-registry
astra-agent rollback || broken "a rollback without the registry ends with $?"
[[ $(committed) = v1 ]] || broken 'a rollback does not lead back to v1'
# A rollback takes images back: files, like all settings, are those of agent.toml.
agree 'after the rollback' v2
echo 'checked: all'
