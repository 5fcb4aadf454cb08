# SPDX-License-Identifier: GPL-2.0
#
# The second half of a guest's first program, run by the static busybox from the
# real root: prepares the system, runs the job, reports, ends the machine.
#
#   ttyS0  console: the kernel's log, and the terminal of a shell
#   ttyS1  what the job prints
#   ttyS2  the report to the runner: "status N" when the job has ended, "done" when
#          all that belongs to it has been written

BB=/run/vm/busybox
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. /run/vm/job/conf

for tty in ttyS1 ttyS2; do
	$BB stty -F "/dev/$tty" raw -echo clocal
done
exec 3>/dev/ttyS1 4>/dev/ttyS2

$BB mkdir -p /dev/pts /dev/shm
$BB mount -t devpts -o mode=620,gid=5,ptmxmode=666 none /dev/pts
$BB mount -t tmpfs -o mode=1777 none /dev/shm
$BB mount -t debugfs none /sys/kernel/debug 2>/dev/null
$BB mount -t tracefs none /sys/kernel/tracing 2>/dev/null
[ -e /dev/fd ] || $BB ln -s /proc/self/fd /dev/fd
for link in 0:stdin 1:stdout 2:stderr; do
	[ -e "/dev/${link#*:}" ] || $BB ln -s "/proc/self/fd/${link%:*}" "/dev/${link#*:}"
done
$BB hostname "${GUEST_HOSTNAME:-rovl}"
$BB ip link set lo up 2>/dev/null

# "mount -t rovl" finds the module that came with the job, as it would find one that
# is installed.
if [ -f /run/vm/job/rovl.ko ]; then
	$BB mkdir -p /run/modprobe.d
	echo 'alias fs-rovl rovl
install rovl /run/vm/busybox insmod /run/vm/job/rovl.ko' >/run/modprobe.d/rovl.conf
fi

# The channel for the job's questions comes some moments after its driver.
if [ -n "$ASK" ]; then
	modprobe -q virtio_console
	until [ -c "$(echo /dev/vport*p*)" ]; do
		sleep 0.1
	done
	$BB ln -s ../"$(cd /dev && echo vport*p*)" /dev/rovl/ask
fi

leaks() {
	[ -w /sys/kernel/debug/kmemleak ] || return
	# An object is reported if two scans do not see it, and it is older than 5 s.
	sleep 6
	echo scan >/sys/kernel/debug/kmemleak
	echo scan >/sys/kernel/debug/kmemleak
	while IFS= read -r line; do
		echo "$line" >/dev/kmsg
	done </sys/kernel/debug/kmemleak
}

finish() {
	if [ -e /dev/rovl/out ]; then
		$BB tar -C /run/vm/out -cf /dev/rovl/out . || echo "the output disk is full" >&3
	fi
	kill -TERM -1 2>/dev/null
	kill -KILL -1 2>/dev/null
	# What is still mounted goes now, while the log is read: some errors show only
	# when a file system does.
	while read -r _ where type _; do
		case $type in
		erofs | tmpfs | devtmpfs | proc | sysfs | devpts | debugfs | tracefs) ;;
		*) [ "$where" = / ] || echo "$where" ;;
		esac
	done </proc/mounts | $BB tac | while read -r where; do
		$BB umount "$(printf %b "$where")"
	done 2>/dev/null
	$BB rmmod rovl 2>/dev/null
	[ "$KMEMLEAK" = 1 ] && leaks
	$BB sync
	$BB mount -o remount,ro / 2>/dev/null
	echo "done" >&4
	$BB reboot -f
}

cd /root || cd /
if [ -n "$INTERACTIVE" ]; then
	$BB stty -F /dev/ttyS0 rows "${ROWS:-24}" cols "${COLS:-80}"
	$BB dmesg -n 5
	# shellcheck disable=SC2086 # the job may have arguments
	TERM=${TERM:-linux} $BB setsid $BB cttyhack ${JOB:-/bin/bash} </dev/ttyS0 >/dev/ttyS0 2>&1
	status=$?
	$BB dmesg >&3
else
	$BB setsid /run/vm/job/job </dev/null >&3 2>&1 3>&- 4>&-
	status=$?
fi
echo "status $status" >&4
finish
