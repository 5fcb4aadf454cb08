#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The jobs of `make run` without a terminal, one for each boot; $BOOT says which.
# Trees are written down to /out/NAME.tree, and run.py compares them.

set -eu

export JOB_DIR=/run/vm/job
. $JOB_DIR/layers.sh
OUT=/run/vm/out

say() { echo "== $*"; }

# tree NAME DIR: writes down the file system mounted at DIR, and no other
tree() {
	local view=/run/view start=$SECONDS
	mkdir -p $view
	mount --bind "$2" $view
	$JOB_DIR/manifest $view >"$OUT/$1.tree"
	umount $view
	say "$1: $(wc -l <"$OUT/$1.tree") names written down in $((SECONDS - start)) s"
}

# session NAME DIR: runs the session in the tree at DIR
session() {
	local start=$SECONDS
	date +%s >"$OUT/$1.started"
	if [ "$2" = / ]; then
		$JOB_DIR/session.sh
	else
		mount -t proc none "$2/proc"
		mount -t sysfs none "$2/sys"
		mount --rbind /dev "$2/dev"
		mount -t tmpfs none "$2/run"
		cp $JOB_DIR/session.sh "$2/run/"
		chroot "$2" /run/session.sh
		umount "$2/run" "$2/sys" "$2/proc"
		umount --recursive "$2/dev"
	fi
	sync
	say "$1: the session took $((SECONDS - start)) s"
}

case $BOOT in
prepare)
	# The same tree with no layers: what the kernel's overlay shows, copied.
	mkfs.ext4 -q -E nodiscard /dev/rovl/plain
	mkdir -p /mnt/plain /mnt/view
	mount /dev/rovl/plain /mnt/plain
	rmdir /mnt/plain/lost+found
	mount_lower
	mount -t overlay -o "ro,lowerdir=$LAYERS/config:$LAYERS/debian" none /mnt/view
	cp -a /mnt/view/. /mnt/plain/
	;;

session)		# the root is on $ROVL_FSTYPE
	grep ' / ' /proc/mounts
	session stack /
	left_in_work upper >$OUT/stack.left
	tree stack /
	;;

again)			# the same root after a reboot
	tree again /
	left_in_work upper >$OUT/again.left
	;;

reference)		# the same session on a plain file system, and on overlay
	mkdir -p /mnt/plain /mnt/stack
	mount /dev/rovl/plain /mnt/plain
	session plain /mnt/plain
	tree plain /mnt/plain

	mount_lower
	mount_upper second
	load overlay
	mount_stack overlay second /mnt/stack
	session overlay /mnt/stack
	tree overlay /mnt/stack
	umount /mnt/stack
	;;

cross)			# each on the upper layer that the other has written
	mkdir -p /mnt/stack
	mount_lower
	mount_upper upper
	left_in_work upper >$OUT/as-overlay.left
	load overlay
	mount_stack overlay upper /mnt/stack
	tree as-overlay /mnt/stack
	umount /mnt/stack

	mount_upper second
	load "$ROVL_FSTYPE"
	mount_stack "$ROVL_FSTYPE" second /mnt/stack
	tree after-overlay /mnt/stack
	umount /mnt/stack
	left_in_work second >$OUT/after-overlay.left
	;;
esac
