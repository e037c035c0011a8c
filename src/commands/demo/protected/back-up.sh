#!/bin/sh
# Run by the protected host: it is enrolled, backs itself up, and describes itself. `settings` says where, `agent.sh` how.
set -e
export HOME=/root
. ./settings
say() { echo "errand: $*"; }
field() { sed -n "s/.*\"$1\": *\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p" "$2" | tail -n 1; }
. ./agent.sh

install -D -m 0755 towline /usr/local/bin/towline
say "towline host enrol $SERVER --ca ca.pem --host $HOST"
towline host enrol "$SERVER" --ca ca.pem --host "$HOST" --json >enrolled.json
say "fingerprint $(sed -n 's/.*"fingerprint":"\([^"]*\)".*/\1/p' enrolled.json)"
tries=0
until towline host enrol --json | grep -q '"state":"approved"'; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ]
  sleep 1
done

say "looking at every file"
mkdir inventory
./inventory.sh inventory
tar -cf "$(cat results)" -C inventory .

efi=
if mountpoint -q /boot/efi; then efi=/boot/efi; fi
back_up / /boot /srv $efi

say "towline capture --agent $AGENT --session $session --time $time --bytes $bytes"
status=0
towline capture --agent "$AGENT" ${version:+--agent-version "$version"} --session "$session" --time "$time" --bytes "$bytes" >captured 2>&1 || status=$?
while read -r line; do say "  $line"; done <captured
exit $status
