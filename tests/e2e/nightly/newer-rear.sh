#!/bin/sh
# Run by the host some time later: it is backed up, and captured twice by a newer ReaR than its distribution has, which lies
# over its own: by `rear savelayout`, and by the portable archive that `rear mkrescue` makes. `settings` says where.
set -e
export HOME=/root RESTIC_REPOSITORY RESTIC_PASSWORD
. ./settings

towline host enrol "$SERVER" --ca ca.pem
restic --cacert ca.pem --no-cache backup --json --one-file-system --host alpha \
  --exclude='/tmp/*' --exclude='/var/tmp/*' --exclude=/var/cache --exclude=/root/.cache / /boot /srv >backup.json
session=$(sed -n 's/.*"snapshot_id":"\([^"]*\)".*/\1/p' backup.json | tail -n 1)

mkdir newer tmp output
tar -xf rear.tar -C newer
mount --bind newer/usr/sbin/rear /usr/sbin/rear
mount --bind newer/usr/share/rear /usr/share/rear
export TMPDIR="$PWD/tmp"
echo "errand: $(rear --version)"
towline capture --agent restic --session "$session"

# The archive has neither modules nor firmware; looking for them takes long in an emulated machine.
cat >portable.conf <<END
OUTPUT=PORTABLE
OUTPUT_URL=file://$PWD/output
MODULES=( no_modules )
FIRMWARE_FILES=( no )
END
# ReaR reads no settings that others than root could have written, and wants them where settings are.
install -D -m 0600 portable.conf /etc/towline/portable.conf
rear -C /etc/towline/portable.conf mkrescue
towline capture --agent restic --session "$session" --from output/alpha/*portable.tar.gz
