#!/bin/sh
# Run by the recovered host: waits until its first start is reported, then says what every file of it is.
set -e
tries=0
while [ -e /var/lib/towline-first-boot ] && [ "$tries" -lt 120 ]; do
  tries=$((tries + 1))
  sleep 1
done
if [ -d /sys/firmware/efi ]; then
  # Which entry started it, of which loader: not the fallback, which every firmware finds.
  entry=$(efibootmgr | sed -n 's/^BootCurrent: *//p')
  started=$(efibootmgr -v | grep "^Boot$entry")
  echo "errand: started by $started"
  secure=$(od -An -t u1 -j 4 -N 1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c)
  echo "errand: Secure Boot is$([ "$secure" -eq 1 ] || echo ' not') enforced"
  case $started in *shimx64.efi*) ;; *) exit 1 ;; esac
fi
# Arrays must have all their disks, and each of these must be able to start the host alone.
for array in $(sed -n 's/^\(md[^ ]*\) : active.*/\1/p' /proc/mdstat 2>/dev/null); do
  state=$(sed -n "/^$array :/{n;s/.*\(\[[U_]*\]\)$/\1/p}" /proc/mdstat)
  disks=
  for part in /sys/block/"$array"/slaves/*; do
    disk=$(basename "$(dirname "$(readlink -f "$part")")")
    dd if=/dev/"$disk" bs=440 count=1 status=none | grep -qa GRUB
    disks="$disks $disk"
  done
  echo "errand: array $array is $state, and GRUB is on$disks"
  case $state in *_* | '') exit 1 ;; esac
done
echo "errand: looking at every file"
mkdir inventory
./inventory.sh inventory
tar -cf "$(cat results)" -C inventory .
