#!/bin/bash
# Puts the protected host on the machine's first disk: partitions, LVM, file systems, the files of `host.toml` from the
# second disk (a newc archive), boot loader, and data worth protecting. PID 1 of Towline's own base layer in QEMU.
set -eu -o pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
# firmware=bios or firmware=uefi
. /install.conf
disk=/dev/vda files=/dev/vdb root=/mnt/local

say() { echo "install: $*"; }
finish() {
  status=$?
  [[ $status -eq 0 ]] && say done || say "FAILED with status $status at line $line"
  sync
  poweroff -f
  sleep 60
}
line=0
trap 'line=$LINENO' ERR
trap finish EXIT

say preparing
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mountpoint -q /run || mount -t tmpfs run /run
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "${link#*:}" "/dev/${link%%:*}"; done
modprobe -a virtio_pci virtio_blk ext4 xfs vfat dm_mod
for _ in {1..100}; do [[ -b $disk && -b $files ]] && break; read -rt 0.1 <> <(:) || :; done

say partitions
case $firmware in
  bios) first=(--new=1:0:+2M --typecode=1:ef02) ;;
  uefi) first=(--new=1:0:+128M --typecode=1:ef00) ;;
esac
sgdisk --zap-all "${first[@]}" --new=2:0:+256M --typecode=2:8300 --new=3:0:0 --typecode=3:8e00 $disk >/dev/null
blockdev --rereadpt $disk
pvcreate -q -y ${disk}3
vgcreate -q vg0 ${disk}3
lvcreate -q -Wn -Zn -n root -L 1500M vg0
lvcreate -q -Wn -Zn -n swap -L 128M vg0
lvcreate -q -Wn -Zn -n srv -L 512M vg0
vgmknodes vg0

say file systems
mkfs.ext4 -q -L boot ${disk}2
mkfs.ext4 -q -L root /dev/vg0/root
mkswap /dev/vg0/swap >/dev/null
mkfs.xfs -q -L srv /dev/vg0/srv
mkdir -p $root
mount /dev/vg0/root $root
mkdir -p $root/boot $root/srv
mount ${disk}2 $root/boot
mount /dev/vg0/srv $root/srv
if [[ $firmware == uefi ]]; then
  mkfs.vfat -n ESP ${disk}1 >/dev/null
  mkdir -p $root/boot/efi
  mount -o umask=0077 ${disk}1 $root/boot/efi
fi

say files
(cd $root && cpio --extract --make-directories --preserve-modification-time --quiet <$files)
cp -a /protected/. $root/

say boot loader
for dir in dev proc sys run; do mount --rbind /$dir $root/$dir; done
chroot $root ldconfig
chroot $root systemd-sysusers
chroot $root systemctl --quiet preset-all 2>/dev/null
# What runs once a day would write files between the two looks at them, at midnight.
rm -f $root/etc/systemd/system/timers.target.wants/*.timer
release=$(ls $root/lib/modules)
ln -s boot/vmlinuz-"$release" $root/vmlinuz
ln -s boot/initrd.img-"$release" $root/initrd.img
chroot $root depmod "$release"
say initramfs
chroot $root update-initramfs -c -k "$release"
say grub
if [[ $firmware == uefi ]]; then
  echo "UUID=$(blkid -s UUID -o value ${disk}1) /boot/efi vfat umask=0077 0 1" >>$root/etc/fstab
  # Shim and GRUB as Debian signs them, and where a firmware looks that knows of no boot entry.
  chroot $root grub-install --target=x86_64-efi --efi-directory=/boot/efi --uefi-secure-boot --no-nvram --force-extra-removable
else
  chroot $root grub-install --target=i386-pc $disk
fi
chroot $root update-grub

say data
. /protected-data.sh
for dir in run sys proc dev; do umount -R -l $root/$dir; done
umount -R $root
vgchange -q -an vg0
