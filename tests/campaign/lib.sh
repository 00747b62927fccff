# Functions shared by the parts of the campaign. Sourced.
set -euo pipefail
shopt -s inherit_errexit

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
project=$(realpath "$here/../..")
target=$(realpath -m "${CARGO_TARGET_DIR:-$project/target}")
# Directory of the results, and the binary to measure instead of the committed one.
campaign=${CAMPAIGN_DIR:-$target/campaign}
agent=$campaign/astra-agent
host=$project/tests/host/host
site='install -d -m 0700 /etc/astra /etc/astra/agent.d; cat >/etc/astra/agent.toml' site_config=$project/tests/host/agent.toml
# Prefix of the host names: two campaigns at the same time need two.
hosts=${CAMPAIGN_HOSTS:-campaign}
# Requests a second, WebSockets.
rate=${CAMPAIGN_RATE:-200} websockets=${CAMPAIGN_WEBSOCKETS:-10}

die() { echo "campaign: $*" >&2; exit 1; }
say() { echo "campaign: $*" >&2; }
[[ $(id -u) = 0 ]] || die "needs root (containers, mounts): run it with sudo"

need() { # COMMAND PACKAGE
	command -v "$1" >/dev/null && return
	{ apt-get -q update && apt-get -q install -y --no-install-recommends "$2"; } >&2 || die "needs $1: cannot install $2"
}

# A hash of the tools, the scripts and the sources of debug builds. Excludes the generated page.
tree() {
	local commit dirty
	if commit=$(git -C "$project" rev-parse --short HEAD) &&
		dirty=$(git -C "$project" status --porcelain -- . ':!docs/proof.md'); then
		echo "$commit${dirty:+ + uncommitted changes}"
	else
		echo 'no commit'
	fi 2>/dev/null
}

# One campaign measures one agent. Building it starts a campaign; `run new` ends it.
prepare() {
	mkdir -p "$campaign"
	if [[ ${CAMPAIGN_AGENT-} ]]; then
		install -m 0755 "$CAMPAIGN_AGENT" "$agent"
		echo "${CAMPAIGN_AGENT##*/target/}" >"$campaign/commit"
	elif [[ ! -e $agent ]]; then
		say "building the agent as it is committed"
		rm -rf "$campaign/src"
		mkdir "$campaign/src"
		git -C "$project" rev-parse --short HEAD >"$campaign/commit"
		git -C "$project" archive HEAD | tar -x -C "$campaign/src"
		cargo build --release --locked --bin astra-agent \
			--manifest-path "$campaign/src/Cargo.toml" --target-dir "$campaign/build" >&2
		install -m 0755 "$campaign/build/release/astra-agent" "$agent"
	fi
	[[ -e $campaign/machine.json ]] || jq -n \
		--arg commit "$(<"$campaign/commit")" --arg agent "$("$agent" --version)" \
		--arg kernel "$(uname -r)" --arg cpus "$(nproc)" \
		--arg cpu "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n1)" \
		--arg memory "$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" \
		--arg rustc "$(rustc --version)" \
		--arg build "$([[ ${CAMPAIGN_AGENT-} ]] && echo 'a build that was handed in' || echo 'release build')" \
		'$ARGS.named' >"$campaign/machine.json"
}
# tool NAME: builds an example of Cargo.toml, kept beside the agent.
tool() {
	[[ ! -e $campaign/$1 ]] || return 0
	(cd "$project" && cargo build -q --example "$1") >&2
	cp "$target/debug/examples/$1" "$campaign/$1"
}

# record PART JQ-ARGUMENTS...: appends one result as one line; recorded work is not repeated.
record() {
	local part=$1
	shift
	jq -nc --arg at "$(date -u +%FT%TZ)" --arg commit "$(<"$campaign/commit")" --arg tree "$(tree)" "$@" \
		'{at: $at, commit: $commit, tree: $tree} + ($ARGS.named | del(.at, .commit, .tree))' >>"$campaign/$part.jsonl"
}
recorded() { # PART JQ-CONDITION: whether such a line exists
	[[ -e $campaign/$1.jsonl ]] && jq -se "any(.[]; $2)" "$campaign/$1.jsonl" >/dev/null
}

name='' load_pid=''
finish() {
	[[ ! $load_pid ]] || kill "$load_pid" 2>/dev/null || true
	[[ ! $name ]] || "$host" off "$name" || true
}
trap finish EXIT
trap 'say "stopped by a signal"; exit 130' INT TERM HUP

boot() { # NAME OPTIONS...: a fresh host, which in_host and start_load mean from now on
	[[ ! $name ]] || "$host" off "$name"
	name=$1
	"$host" off "$name"
	"$host" boot "$name" --keep --bin "$agent" "${@:2}" >/dev/null || return
	[[ -e $campaign/versions.json ]] || in_host 'jq -n \
		--arg debian "$(. /etc/os-release; echo "$VERSION")" \
		--arg systemd "$(systemctl --version | sed -n "1s/systemd \([0-9]*\).*/\1/p")" \
		--arg podman "$(podman version -f "{{.Client.Version}}")" \
		--arg postgresql "$(psql --version | cut -d" " -f3)" \
		"\$ARGS.named"' >"$campaign/versions.json"
}
in_host() { "$host" sh "$name" "$@"; }

registry=http://127.0.0.1:5000/v2/astra/manifests
manifest='application/vnd.oci.image.manifest.v1+json'
push() { # TAG: what a build pipeline does at its end: astra:latest stands for TAG
	in_host "set -o pipefail; curl -sSf -H 'Accept: $manifest' $registry/$1 |
		curl -sSf -X PUT -H 'Content-Type: $manifest' --data-binary @- $registry/latest"
}

start_load() { # FILE OPTIONS...
	# Shares only the host's network. Ends with this script.
	setpriv --pdeathsig KILL nsenter --net --target "$("$host" leader "$name")" -- \
		"$campaign/load" --rate "$rate" --websockets "$websockets" --seconds 86400 "${@:2}" >"$1" &
	load_pid=$!
}
stop_load() {
	kill "$load_pid"
	wait "$load_pid" || die "the load generator failed"
	load_pid=''
}
# explain LOG: prints Caddy's log if a request has failed, because the host will be gone later.
explain() {
	jq -e '.failed > 0' "$campaign/${1%%-*}.tmp" >/dev/null || return 0
	in_host 'journalctl -q -o cat CONTAINER_NAME=astra-caddy' >"$campaign/$1-caddy.log" || true
}
now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }

# WebSockets that were cut although their own container had not just ended. Reads the report on standard
# input; $1 is the output of `ended`.
cut_elsewhere() {
	jq -c --argjson ended "$1" '.began as $began | [.websockets.cuts[] | . as $cut |
		select(any($ended[]; .id[:12] == ($cut.who | split(" ")[1]) and
			(.at - $began - $cut.at | fabs) < 5) | not)]'
}
ended() { # SINCE: containers that have ended since, and when
	in_host "podman events --stream=false --since ${1%.*} --filter event=died --format json" |
		jq -sc 'map({id: .ID, at: (.timeNano / 1e9)})'
}
