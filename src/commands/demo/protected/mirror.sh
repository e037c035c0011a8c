
say mirror
# Debian's installer makes arrays like these: numbered, and named after the host.
sgdisk --typecode=2:fd00 --typecode=3:fd00 --replicate=/dev/vdb $disk >/dev/null
sgdisk --randomize-guids /dev/vdb >/dev/null
blockdev --rereadpt $disk /dev/vdb
export MDADM_NO_UDEV=1
for part in 2 3; do
  # Both are empty, and so equal.
  mdadm --create /dev/md$part --quiet --level=raid1 --raid-devices=2 --metadata=1.2 --homehost=alpha --name=$part \
    --assume-clean --run ${disk}$part /dev/vdb$part
done
# Its partitions are the arrays' from now on.
disk=/dev/md
