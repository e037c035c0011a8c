#!/bin/sh
# Run by the host some time later: files and disks change, and are backed up and captured anew. `settings` says where.
set -e
export HOME=/root RESTIC_REPOSITORY RESTIC_PASSWORD
. ./settings

rm -r /srv/mail/a /srv/odd
echo another >/srv/mail/b/0001
echo later >/srv/later
lvcreate -q -y -Wn -Zn -n late -L 64M vg0
mkfs.ext4 -q /dev/vg0/late
mkdir /late
mount /dev/vg0/late /late
echo /dev/vg0/late /late ext4 defaults 0 2 >>/etc/fstab
echo late >/late/file

towline host enrol "$SERVER" --ca ca.pem
restic --cacert ca.pem --no-cache backup --json --one-file-system --host alpha \
  --exclude='/tmp/*' --exclude='/var/tmp/*' --exclude=/var/cache --exclude=/root/.cache / /boot /srv /late >backup.json
session=$(sed -n 's/.*"snapshot_id":"\([^"]*\)".*/\1/p' backup.json | tail -n 1)
towline capture --agent restic --session "$session"
