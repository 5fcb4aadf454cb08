# SPDX-License-Identifier: GPL-2.0
#
# Part of the guest's init (see tools/vm/init.sh): puts the root file system on the
# stacking file system $ROVL_FSTYPE.  The layers stay visible below /run/layers.

. /job/layers.sh

mount -t tmpfs -o mode=755 none /run
mount_lower || fail "cannot mount the lower layers"
mount_upper upper || fail "cannot mount the disk of the upper layer"
load "$ROVL_FSTYPE" || fail "cannot load $ROVL_FSTYPE"
mount_stack "$ROVL_FSTYPE" upper /root || fail "cannot mount $ROVL_FSTYPE"
