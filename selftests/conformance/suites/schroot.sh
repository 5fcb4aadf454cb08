# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# schroot with union-type=overlay, as root. On "bare" it is a directory.

# shellcheck source-path=SCRIPTDIR/..
. /job/conformance/containers.sh

set_up() {
	local union=overlay name
	machine && overlay_is_of_kind || return
	[[ $KIND != bare ]] || union=none
	busybox_root "$HERE/root" && mkdir "$HERE"/root/{a,home} && echo a >"$HERE/root/a/a" &&
	echo one >"$HERE/root/one" && chown 1001:1001 "$HERE/root/one" "$HERE/root/a" || return
	mkdir -p "$HERE"/state/{session,mount,unpack,union/overlay,union/underlay} /var/lib/schroot &&
	mount --bind "$HERE/state" /var/lib/schroot || return
	for name in made other; do
		cat >"/etc/schroot/chroot.d/$name" <<-EOT
			[$name]
			type=directory
			directory=$HERE/root
			union-type=$union
			profile=minimal
			users=root
			root-users=root
		EOT
	done
	# nothing of this machine is to be copied to it
	: >/etc/schroot/minimal/nssdatabases
	: >/etc/schroot/minimal/copyfiles
}

inside() {          # SESSION COMMAND
	timeout 200 schroot -r -c "$1" -d / -- /bin/sh -c "$2"
}
begin() { timeout 200 schroot -b -c "$1" -n "$2"; }
mounted() {
	[[ $(findmnt -n -o FSTYPE /run/schroot/mount/one | head -n 1) = overlay ]] ||
		{ findmnt; return 1; }
}
left() {            # of a session that has ended
	[[ -z $(ls "$HERE/state/session" "$HERE/state/union/overlay" 2>/dev/null | grep one) ]] &&
		! findmnt /run/schroot/mount/one
}

run() {
	check begin begin chroot:made one || return
	[[ $KIND = bare ]] || check mounted mounted
	same root inside one 'cat /one /a/a; echo two >>/one; rm /a/a; mkdir /new; mv /one /new/one; chmod 600 /new/one
		ln /new/one /a/link; stat -c "%n %a %u %g %h" /a/* /new/*; cat /new/one'
	same root.again inside one 'ls / | grep -E "^(a|one|new)$"; cat /a/link'
	if [[ $KIND != bare ]]; then
		# two at once over the same tree
		check other begin chroot:other two
		check other.own inside two 'test -e /one && test -e /a/a && ! test -e /new'
		check other.end schroot -e -c two
		check end.unchanged test -e "$HERE/root/one" -a -e "$HERE/root/a/a" -a ! -e "$HERE/root/new"
	fi
	check end schroot -e -c one
	check end.left left
}

clean() {
	schroot -e --all-sessions >/dev/null 2>&1
	findmnt -n -r -o TARGET | grep '^/run/schroot/' | tac | while read -r at; do umount -l "$at"; done
	umount -l /var/lib/schroot
}
