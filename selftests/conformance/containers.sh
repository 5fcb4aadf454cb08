# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, KIND and the rest are of job.sh
#
# What the suites have in common that run programs which mount overlays by themselves. For
# "bare" they are told to do without.

# shellcheck disable=SC2034 # for lib.sh
OWN=yes

# overlay_is_of_kind: what is mounted by the name of overlay from here on
overlay_is_of_kind() {
	local module
	for module in overlay rovl; do
		# the last mount may go a moment later
		for _ in 1 2 3 4 5; do
			[[ -e /sys/module/$module ]] || break
			! rmmod $module || break
			sleep 1
		done
		[[ ! -e /sys/module/$module ]] || { findmnt -t overlay,rovl; return 1; }
	done
	if [[ $KIND = rovl ]]; then
		insmod /run/vm/job/rovl.ko overlay=1 && [[ ! -e /sys/module/overlay ]]
	else
		modprobe overlay && modprobe rovl
	fi
}

# machine: what a system has that has been started by an init, once
machine() {
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || return
	mkdir -p /run/lock /etc/containers
	[[ -s /etc/machine-id ]] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id
	echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
	[[ ! -c /dev/fuse ]] || chmod 666 /dev/fuse
	ulimit -n "$(ulimit -H -n)"
}

# busybox_root DIR: a root file system of one program
busybox_root() {
	mkdir -p "$1"/{bin,dev,etc,proc,sys,tmp,usr,var/data} &&
	cp /bin/busybox "$1/bin/busybox" &&
	for name in $("$1/bin/busybox" --list); do
		[[ $name = busybox ]] || ln -sf busybox "$1/bin/$name"
	done
	echo 'root:x:0:0::/:/bin/sh' >"$1/etc/passwd"
	echo 'root:x:0:' >"$1/etc/group"
	touch "$1/etc/resolv.conf" "$1/etc/hosts"
	seq 1 40000 >"$1/var/data/big"
}

# LISTING: what is in a tree, for a shell of busybox in it
# shellcheck disable=SC2034,SC2016
LISTING='cd / && find a b deep three var/data bin/sh etc/passwd 2>/dev/null | sort |
	while read -r n; do
		stat -c "%n %F %a %u %g %s" "$n"
		if [ -f "$n" ]; then md5sum <"$n"; fi
	done'
