#!/bin/sh
# Run by the recovered host: waits until its first start is reported, then says what every file of it is.
set -e
tries=0
while [ -e /var/lib/towline-first-boot ] && [ "$tries" -lt 120 ]; do
  tries=$((tries + 1))
  sleep 1
done
echo "errand: looking at every file"
mkdir inventory
./inventory.sh inventory
tar -cf /dev/vdc -C inventory .
