#!/bin/sh
# Writes what every file of this host is to the folder $1: kind, mode, owner, links, size, time, content, attributes.
set -e
out=$(cd "$1" && pwd)
cd /
# Logs, caches and states of running programs differ from one second to the next.
efi=
if mountpoint -q ./boot/efi; then efi=./boot/efi; fi
everything() {
  for top in . ./boot ./srv $efi; do
    find $top -xdev \( -path ./mnt -o -path ./tmp -o -path ./var/tmp -o -path ./var/log -o -path ./var/cache -o -path ./root/.cache \
      -o -path ./var/lib/systemd -o -path ./var/lib/towline -o -path ./lost+found -o -path ./boot/lost+found \) -prune -o "$@"
  done
}
{
  everything -type f -printf '%p\0file, mode %m, owner %U:%G, links %n, bytes %s, time %T@\0'
  everything -type d -printf '%p\0directory, mode %m, owner %U:%G\0'
  everything -type l -printf '%p\0link to %l, owner %U:%G\0'
  everything ! -type f ! -type d ! -type l -printf '%p\0%y, mode %m, owner %U:%G\0'
} >"$out/entries"
everything \( -type b -o -type c \) -exec stat --printf '%n\0device %t:%T\0' {} + >"$out/devices"
everything -type f -print0 | xargs -0 sha256sum -z >"$out/contents"
everything -type f -links +1 -printf '%D:%i\0%p\0' >"$out/links"
everything -print0 | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex --absolute-names >"$out/attributes"
