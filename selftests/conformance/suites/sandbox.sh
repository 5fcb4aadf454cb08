# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# bubblewrap --overlay and systemd-nspawn.  On "bare" they get a copy to write to.

# shellcheck source-path=SCRIPTDIR/..
. /job/conformance/containers.sh

set_up() {
	machine && overlay_is_of_kind || return
	busybox_root "$HERE/root" && mkdir -p "$HERE"/{upper,work,extra/a} &&
	echo extra >"$HERE/extra/a/extra" && echo one >"$HERE/root/one" || return
	mkdir "$HERE/root/a" && echo a >"$HERE/root/a/a" && cp -a "$HERE/root" "$HERE/copy" &&
	cp -a "$HERE/extra/." "$HERE/copy/" &&
	mkdir -p "$HERE"/copy/{usr/lib,etc} "$HERE/root/usr/lib" &&
	for tree in root copy; do echo ID=test >"$HERE/$tree/etc/os-release" || return; done
	chown -R 1001:1001 "$HERE" && chmod 755 "$HERE"
}

# what is done in it, the same for all
WORK='cat /one /a/a /a/extra 2>/dev/null; echo two >>/one; rm /a/a; mkdir /new; mv /one /new/one;
	ls /a /new; cat /new/one'
bwrap_as() {        # USER STYLE
	local tree=(--bind copy /)
	if [[ $KIND != bare ]]; then
		case $2 in
		overlay) tree=(--overlay-src root --overlay-src extra --overlay "$HERE/upper" "$HERE/work" /) ;;
		tmp) tree=(--overlay-src root --overlay-src extra --tmp-overlay /) ;;
		ro) tree=(--overlay-src root --overlay-src extra --ro-overlay /) ;;
		esac
	fi
	[[ $KIND = bare || $2 != overlay ]] || { rm -rf upper work && mkdir upper work && chown "$1:$1" upper work; }
	[[ $KIND != bare ]] || { rm -rf copy && cp -a root copy && cp -a extra/. copy/; chown -R "$1" copy; }
	setpriv --reuid="$1" --regid="$1" --clear-groups bwrap "${tree[@]}" --dev /dev --proc /proc \
		--unshare-all /bin/sh -c "$3"
}
nspawn() {
	timeout 200 systemd-nspawn --quiet --register=no --keep-unit --private-network --pipe \
		--as-pid2 "$@"
}

run() {
	local user
	for user in 0 1001; do
		# Whose the files are has to be known in the sandbox, where they are changed.
		chown -R $user:$user root extra
		same "bwrap.$user.overlay" bwrap_as $user overlay "$WORK"
		same "bwrap.$user.tmp" bwrap_as $user tmp "$WORK"
		same "bwrap.$user.ro" bwrap_as $user ro 'cat /one /a/a /a/extra'
	done
	chown -R 0:0 root extra copy
	local volatile=(--volatile=overlay -D "$HERE/root") over=(-D "$HERE/root" --overlay="$HERE/root/a:$HERE/extra/a:$HERE/upper:/a")
	if [[ $KIND = bare ]]; then
		rm -rf copy && cp -a root copy
		volatile=(-D "$HERE/copy")
	fi
	rm -rf upper work && mkdir upper
	same nspawn.volatile nspawn "${volatile[@]}" /bin/sh -c 'cat /one; echo x >>/one; rm /a/a; mkdir /new;
		mv /one /new/one; ls /a /new; cat /new/one'
	if [[ $KIND = bare ]]; then
		cp -a extra/a/. root/a/
		over=(-D "$HERE/root")
	fi
	same nspawn.overlay nspawn "${over[@]}" /bin/sh -c 'ls /a; echo y >>/a/a; rm /a/extra; cat /a/a; ls /a'
	check root_unchanged test -e root/one
}

clean() { rm -rf "$HERE/root" "$HERE/copy"; }
