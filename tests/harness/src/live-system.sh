#!/bin/bash
# Makes a live system as live-build does, of the archives that this machine's apt knows: Debian's live-boot in the initramfs, and
# the root in a squashfs. Writes vmlinuz, initrd and filesystem.squashfs into the folder that is its argument. Needs root.
set -e -o pipefail
out=$(realpath "$1")
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT

packages=linux-image-cloud-amd64,live-boot,live-boot-initramfs-tools,systemd-sysv,udev,dbus,iproute2,openssh-server,less,nano,parted
sources=/etc/apt/sources.list
[[ -s $sources ]] || sources=/etc/apt/sources.list.d/debian.sources
mmdebstrap --quiet --variant=minbase --include=$packages bookworm "$root/live" "$sources"

cp "$root"/live/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/live/boot/initrd.img-* "$out/initrd"
mksquashfs "$root/live" "$out/filesystem.squashfs" -comp xz -noappend -no-progress -quiet -e boot
# Made by root, used by whoever tests.
chmod 0644 "$out"/{vmlinuz,initrd,filesystem.squashfs}
