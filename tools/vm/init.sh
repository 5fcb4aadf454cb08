#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The first program of a guest, in the initramfs: finds the disks, puts a root file
# system together in /root, and goes there.  /job came with the initramfs:
#
#   /job/conf       shell variables set by the runner
#   /job/root.sh    optional: mounts the root in its own way (make run)
#
# The root of a test guest is the read-only image with tmpfs over what must be
# writable: no stacking file system below a test of one.

export PATH=/bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys

fail() {
	dmesg | tail -n 20
	echo "init: $*"
	reboot -f
}

while read -r module; do
	insmod "/early/$module" || fail "cannot load $module"
done </early/order

mkdir -p /dev/rovl
for disk in /sys/block/vd*; do
	read -r name <"$disk/serial"
	[ -n "$name" ] && ln -s "../${disk##*/}" "/dev/rovl/$name"
done

. /job/conf
mkdir -p "/lib/modules/$(uname -r)"
[ -e /dev/rovl/modules ] && mount -t erofs -o ro /dev/rovl/modules /lib/modules

if [ -f /job/root.sh ]; then
	. /job/root.sh
else
	mount -t erofs -o ro /dev/rovl/root /root || fail "cannot mount the root image"
	for directory in home mnt opt root tmp var/tmp; do
		mount -t tmpfs -o mode=755 none "/root/$directory"
	done
	chmod 1777 /root/tmp /root/var/tmp
	mount -t tmpfs -o mode=755 none /tmp
	cp -a /root/etc /tmp/etc
	mount --bind /tmp/etc /root/etc
	umount -l /tmp
fi

[ -e /dev/rovl/modules ] && mount --move /lib/modules /root/usr/lib/modules
# The root may have left mounts of its own to be taken along.
grep -q ' /run ' /proc/mounts || mount -t tmpfs -o mode=755 none /run
mkdir -p /run/vm/out
cp -a /job /run/vm/job
cp /bin/busybox /run/vm/busybox
mount --move /run /root/run
for directory in dev proc sys; do
	mount --move "/$directory" "/root/$directory"
done
exec switch_root /root /run/vm/busybox sh /run/vm/job/guest.sh
