# Runs in the machine: a deploy of v2, whose writes the machine's disk logs.
exec 2>&1
type='application/vnd.oci.image.manifest.v1+json' url=http://127.0.0.1:5000/v2/astra/manifests
systemctl stop 'astra-agent-*.timer'
until [[ $(curl -sf localhost:8001/version)$(curl -sf localhost:8002/version) = v1*v1* ]] &&
	curl -sfo /dev/null localhost/readyz && curl -sfo /dev/null 127.0.0.1:5000/v2/; do sleep 0.5; done
curl -sSf -H "Accept: $type" $url/v2 | curl -sSf -X PUT -H "Content-Type: $type" --data-binary @- $url/latest
# What booting has left in memory is not what this is about.
sync
echo 'mark: begin'
astra-agent deploy
echo "job: $?"
echo 'mark: end'
sleep 3
sync
systemctl poweroff -ff
