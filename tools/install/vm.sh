#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The life of the prebuilt module on an installed system, a part for each boot ($BOOT).
# OLD and NEW are two kernels.

mkdir -p /repo
mount -t erofs -o ro /dev/rovl/repo /repo
. /repo/common.sh

# The initramfs of a kernel has what a root on rovl takes, or nothing of it.
initramfs() {
	local name
	lsinitramfs "/boot/initrd.img-$1" >/tmp/names
	for name in rovl.ko sbin/mount.rovl scripts/local-bottom/rovl; do
		printf '$ lsinitramfs /boot/initrd.img-%s | grep %s\n' "$1" "$name"
		if [ "$2" = has ]; then
			grep "$name" /tmp/names || fail "the initramfs has no $name"
		else
			! grep "$name" /tmp/names || fail "the initramfs has $name"
		fi
	done
}

# Without KVM it takes minutes each time; not where nobody looks at it.
initramfs_too() { echo "update_initramfs=$1" >/etc/initramfs-tools/update-initramfs.conf; }

# The root is a stack; of the layers below it is known where they are.
on_rovl() {
	local where
	for where in / /run/rovl/lower /run/rovl/upper; do
		x findmnt --noheadings --raw --output TARGET,FSTYPE,SOURCE,OPTIONS "$where"
	done
	same "$(findmnt --noheadings --output FSTYPE /)" rovl
	same "$(findmnt --noheadings --output SOURCE /run/rovl/lower)" /dev/vda
	same "$(findmnt --noheadings --output FSTYPE /run/rovl/upper)" "$1"
	same "$(cat /etc/fstab)" "# rovlroot: $(cat /run/rovl/lower/etc/fstab)"
	x mount -o remount,rw /
}

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
	x /repo/source/debian/tests/mount
	initramfs "$OLD" has

	title "Upgrade of the package"
	initramfs_too no
	install "/repo/newer/rovl-modules-$OLD"_*.deb /repo/newer/rovl-tools_*.deb
	x dpkg-query --show 'rovl-*'
	same "$(dpkg-query --show --showformat='${Version}\n' "rovl-modules-$OLD" rovl-tools |
		sed 's/.*+//' | sort -u)" 1

	title "autopkgtest"
	# What Python compiles of it would be left.
	export PYTHONDONTWRITEBYTECODE=1
	x autopkgtest --no-built-binaries --ignore-restrictions=isolation-machine /repo/source/ -- null 2>&1 | cat

	title "Upgrade of the kernel"
	initramfs_too yes
	install "linux-image-$NEW" "/repo/newer/rovl-modules-$NEW"_*.deb
	initramfs "$NEW" has
	;;

thrown-away)	# the new kernel; the initramfs has made a stack the root, for systemd
	same "$(uname -r)" "$NEW"
	same "$(cat /proc/1/comm)" systemd
	on_rovl tmpfs
	x systemctl --no-pager --failed
	same "$(systemctl --no-legend --failed)" ""
	x systemctl --no-pager is-active systemd-remount-fs.service systemd-journald.service
	x sh -c 'echo new >/etc/written; rm /etc/issue; mv /etc/issue.net /etc/issue; ls -l /etc/issue'
	x /repo/source/debian/tests/mount
	title "A package is installed on it"
	initramfs_too no
	use_archive
	install --reinstall /repo/newer/rovl-tools_*.deb
	;;

kept)		# the old kernel, with a disk for what is written
	same "$(uname -r)" "$OLD"
	on_rovl ext4
	must_fail test -e /etc/written
	x test -e /etc/issue.net
	x sh -c 'echo kept >/etc/written; rm /etc/issue; mv /etc/issue.net /etc/issue; mv /var/lib/dpkg /var/lib/dpkg.old'
	;;

again)		# the new kernel, with that disk
	same "$(uname -r)" "$NEW"
	on_rovl ext4
	x sh -c "findmnt --noheadings --output OPTIONS / | grep -w default_permissions"
	x sh -c "findmnt --noheadings --output OPTIONS /run/rovl/upper | grep -w noatime"
	same "$(cat /etc/written)" kept
	must_fail test -e /etc/issue.net
	x mv /var/lib/dpkg.old /var/lib/dpkg
	x dpkg --audit
	;;

purge)		# back on the old kernel, with the root as it is on its disk
	same "$(uname -r)" "$OLD"
	same "$(findmnt --noheadings --output FSTYPE /)" ext4
	must_fail test -e /etc/written
	x test -e /etc/issue.net
	x grep '^/dev/vda / ext4' /etc/fstab
	x test -e /usr/sbin/mount.rovl
	x /repo/source/debian/tests/mount
	title "The new kernel goes"
	initramfs_too no
	apt_get purge "rovl-modules-$NEW" "linux-image-$NEW" "linux-base-$NEW" "linux-binary-$NEW" "linux-modules-$NEW"
	must_fail test -e "/usr/lib/modules/$NEW"
	x /repo/source/debian/tests/mount

	title "Remove, purge"
	initramfs_too yes
	apt_get remove "rovl-modules-$OLD" rovl-tools
	must_fail modprobe rovl
	must_fail mount -t rovl -o lowerdir=/etc:/usr none /mnt
	apt_get purge "rovl-modules-$OLD" rovl-tools
	initramfs "$OLD" "has not"
	nothing_left before
	;;
esac
umount /repo
title "all as it should be"
