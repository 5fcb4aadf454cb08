#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The life of the prebuilt module on an installed system, a part for each boot ($BOOT).
# OLD and NEW are two kernels.

mkdir -p /repo
mount -t erofs -o ro /dev/rovl/repo /repo
. /repo/common.sh

case $BOOT in
install)
	same "$(uname -r)" "$OLD"
	use_archive
	must_fail modprobe rovl
	remember before

	title "Install"
	install "/repo/rovl/rovl-modules-$OLD"_*.deb /repo/rovl/rovl-tools_*.deb
	x modprobe rovl
	x grep rovl /proc/filesystems
	x rmmod rovl
	x /repo/mount-test
	x sh -c "lsinitramfs /boot/initrd.img-$OLD | grep -e rovl.ko -e mount.rovl"

	title "Upgrade of the package"
	install "/repo/newer/rovl-modules-$OLD"_*.deb /repo/newer/rovl-tools_*.deb
	x /repo/mount-test

	title "Upgrade of the kernel"
	install "linux-image-$NEW" "/repo/newer/rovl-modules-$NEW"_*.deb
	x sh -c "lsinitramfs /boot/initrd.img-$NEW | grep -e rovl.ko -e mount.rovl"
	;;

root)		# the initramfs has made a stack the root
	same "$(uname -r)" "$NEW"
	x grep ' / ' /proc/mounts
	same "$(awk '$2 == "/" { t = $3 } END { print t }' /proc/mounts)" rovl
	x sh -c 'echo new >/etc/hostname; rm /etc/motd; mv /etc/issue /etc/issue.old; ls -l /etc/issue.old'
	x /repo/mount-test
	;;

purge)		# back on the old kernel
	same "$(uname -r)" "$OLD"
	x test -e /usr/sbin/mount.rovl
	x /repo/mount-test
	title "The new kernel goes"
	x apt-get -q -y purge "rovl-modules-$NEW" "linux-image-$NEW" "linux-base-$NEW" "linux-binary-$NEW" "linux-modules-$NEW"
	must_fail test -e "/usr/lib/modules/$NEW"
	x /repo/mount-test

	title "Remove, purge"
	x apt-get -q -y remove "rovl-modules-$OLD" rovl-tools
	must_fail modprobe rovl
	must_fail mount -t rovl -o lowerdir=/etc:/usr none /mnt
	x apt-get -q -y purge "rovl-modules-$OLD" rovl-tools
	must_fail sh -c "lsinitramfs /boot/initrd.img-$OLD | grep rovl"
	nothing_left before
	;;
esac
umount /repo
title "all as it should be"
