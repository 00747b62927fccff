# Functions of the packages' scripts: packaging/build puts them into those of the .deb and the .rpm. POSIX sh.

units=/etc/systemd/system
timer=astra-agent-reconcile.timer
own="$timer astra-agent-recover.service"
# Has the units that were enabled when the package was removed.
marker=/var/lib/astra-agent/removed

# After an installation or an upgrade. The site needs no restart, and the next `reconcile` writes units that differ.
installed() {
	journalctl --update-catalog >/dev/null 2>&1 || true
	if [ -e /usr/local/bin/astra-agent ]; then
		echo 'astra-agent: /usr/local/bin/astra-agent hides that of the package: remove it, then `astra-agent reconcile`'
	fi
	[ -e $marker ] || return 0
	for unit in $(cat $marker); do
		systemctl -q enable "$unit" || true
		case $unit in *.timer) systemctl start "$unit" || true ;; esac
	done
	rm -f $marker
}

# Before a removal: the timer and `recover` need the binary, the site does not.
removing() {
	[ -e $units/$timer ] || return 0
	systemctl stop $timer || true
	# If such a run were killed, nothing could undo it.
	if [ -e /run/astra/run.lock ] && ! flock -w 5 /run/astra/run.lock true; then
		systemctl start $timer || true
		echo 'astra-agent: a run is under way (`astra-agent status`): remove the package when it has ended' >&2
		exit 1
	fi
	mkdir -p -m 0700 ${marker%/*}
	for unit in $own; do
		if systemctl -q is-enabled "$unit"; then echo "$unit"; fi
	done >$marker
	systemctl -q disable --now $own || true
	echo 'astra-agent: the site goes on serving, also after a reboot; only an agent installed again deploys or repairs it'
}

# After `apt purge`: the agent's files, unless they are in use. /etc/astra has secrets that may exist nowhere else.
purged() {
	written=$(grep -rls '^# Written by astra-agent' $units || true)
	if [ "$written" ]; then
		running=$(for file in $written; do
			case $file in
			*.d/*) continue ;;
			*@.service) systemctl list-units --plain --no-legend --state=running,start,auto-restart "$(basename "$file" .service)*" ;;
			*.service) systemctl list-units --plain --no-legend --state=running,start,auto-restart "${file##*/}" ;;
			esac
		done | awk '{ print $1 }' | sort)
		if [ "$running" ]; then
			echo "astra-agent: nothing of the site is removed, because it runs:" $running
			return 0
		fi
		for file in $written; do
			case $file in *.timer) systemctl stop "${file##*/}" || true ;; esac
		done
		find $units -type l | while read -r link; do
			if echo "$written" | grep -qxF "$(realpath -m "$link")"; then rm "$link"; fi
		done
		rm -f $written
		find $units -name '*.d' -type d -empty -delete
		systemctl daemon-reload || true
	fi
	rm -rf /var/lib/astra-agent /run/astra /etc/tmpfiles.d/astra.conf
	if [ -d /etc/astra ]; then
		kept=/var/backups/astra-$(date +%Y%m%d-%H%M%S)
		mv /etc/astra "$kept"
		echo "astra-agent: agent.toml and the secrets are in $kept now; images, volumes and /var/lib/caddy are untouched"
	fi
}
