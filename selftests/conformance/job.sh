#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The job of make check-conformance in the guest: runs $UNITS, each on $KINDS.  See lib.sh.

cd /tmp || exit 1
# shellcheck source-path=SCRIPTDIR
. /job/conformance/lib.sh
DISK=/dev/rovl/scratch
for module in ext4 xfs btrfs overlay rovl; do
	modprobe -q "$module" || grep -qw "$module" /proc/filesystems ||
		{ echo "conformance: $module does not load"; dmesg | tail -n 30; exit 1; }
done
export NO_COLOR=1 LC_ALL=C
umask 022
# users that pjdfstest becomes
echo 'tests:x:1001:1001::/:/usr/sbin/nologin' >>/etc/passwd
echo 'tests:x:1001:' >>/etc/group

unit() (
	UNIT=$1
	suite=${UNIT%%@*} FS=${UNIT#*@}
	VARIANT=${FS#*.}
	[[ $VARIANT != "$FS" ]] || VARIANT=
	FS=${FS%%.*}
	fill_upper() { :; }
	clean() { :; }
	LOWER= OWN=
	# shellcheck source=/dev/null
	. "/job/conformance/suites/$suite.sh"
	if ! scratch "$FS" >"$LOG" 2>&1; then
		for KIND in $KINDS; do
			line begin "$UNIT" "$KIND"
			result setup fail "no $FS: $(tail -n 3 "$LOG")"
		done
		exit
	fi
	for KIND in $KINDS; do
		one
	done
	umount $SCRATCH || umount -l $SCRATCH
)

for name in $UNITS; do
	unit "$name"
done
line finished
