#!/bin/bash
# Run by the protected host some time after its backup: it describes itself again, and then makes a whole rescue system, both
# with its settings as they are but for where the image goes. `settings` says where the server is.
set -e -o pipefail
export HOME=/root
. ./settings
say() { echo "errand: $*"; }
# GNU date's nanoseconds, as seconds with three digits.
seconds() { local took=$(($(date +%s%N) - $1)); printf '%d.%03d' $((took / 1000000000)) $((took / 1000000 % 1000)); }

towline host enrol "$SERVER" --ca ca.pem >enrolled
begun=$(date +%s%N)
towline capture --agent restic --session again --json >captured
echo "capture_seconds=$(seconds "$begun")" >figures
sed -n 's/.*"bytes":\([0-9]*\).*/capture_bytes=\1/p' captured >>figures
say "$(cat captured)"

printf 'OUTPUT=RAMDISK\nOUTPUT_URL=file:///mnt/image\n' >>/etc/rear/local.conf
begun=$(date +%s%N)
rear -v mkrescue 2>&1 | while read -r line; do say "$line"; done
echo "mkrescue_seconds=$(seconds "$begun")" >>figures
kernel=$(find image -name 'kernel-*') initrd=$(find image -name 'initramfs-*.img')
echo "mkrescue_bytes=$(cat "$kernel" "$initrd" | wc -c)" >>figures
mv "$kernel" kernel
mv "$initrd" initrd
tar -cf /dev/vdc figures kernel initrd
