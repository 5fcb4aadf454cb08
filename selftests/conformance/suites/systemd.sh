# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# systemd-sysext and systemd-confext on a tree of their own, and systemd-dissect of an image that
# is in an overlay. On "bare" extensions are copied over the tree.

# shellcheck source-path=SCRIPTDIR/..
. /job/conformance/containers.sh

set_up() {
	machine && overlay_is_of_kind && modprobe loop || return
	ROOT=$HERE/root
	busybox_root "$ROOT" && mkdir -p "$ROOT"/{usr/lib/old,usr/share,etc,var/lib/extensions} &&
	mkdir -p "$ROOT"/var/lib/confexts "$ROOT/run" || return
	printf 'ID=test\nVERSION_ID=1\n' >"$ROOT/etc/os-release"
	echo old >"$ROOT/usr/lib/old/file" && echo old >"$ROOT/usr/share/both" || return
	extension one && extension two && configuration first && configuration second || return
	mksquashfs "$HERE/two" "$HERE/two.raw" -quiet -no-progress -noappend || return
	# What is merged in a namespace has to be seen in this one.
	mount --make-shared $SCRATCH
}

extension() {       # NAME: a tree at $HERE/NAME
	local at=$HERE/$1/usr
	mkdir -p "$at/lib/extension-release.d" "$at/lib/old" "$at/share/$1" &&
	printf 'ID=test\nVERSION_ID=1\n' >"$at/lib/extension-release.d/extension-release.$1" &&
	echo "$1" >"$at/share/$1/file" && echo "$1" >"$at/lib/old/$1" && ln -s file "$at/share/$1/link" &&
	chmod 750 "$at/share/$1"
}
configuration() {
	local at=$HERE/$1/etc
	mkdir -p "$at/extension-release.d" "$at/$1.d" &&
	printf 'ID=test\nVERSION_ID=1\n' >"$at/extension-release.d/extension-release.$1" &&
	echo "$1" >"$at/$1.d/file"
}

# seen DIRECTORY: what is in it of the tree, without what systemd itself leaves there
seen() {
	(cd "$ROOT/$1" && find . -path ./.systemd-sysext -prune -o -path ./.systemd-confext -prune -o \
		-path '*/extension-release.d*' -prune -o ! -name . -printf '%p %y %m %U %G %l\n' | LC_ALL=C sort &&
		find . -path './.systemd-*' -prune -o -path '*/extension-release.d*' -prune -o -type f -print0 |
		LC_ALL=C sort -z | xargs -0r cksum)
}
ext() { timeout 100 "systemd-$1" --root="$ROOT" --no-reload --force "${@:2}"; }

# merged VERB CLASS DIRECTORY NAME...: the tree with just these extensions
merged() {
	local verb=$1 class=$2 dir=$3 at name
	at=$ROOT/var/lib/extensions
	[[ $class != confext ]] || at=$ROOT/var/lib/confexts
	shift 3
	rm -rf "${at:?}"/* || return
	if [[ $KIND = bare ]]; then
		[[ -d $HERE/$dir.plain ]] || cp -a "$ROOT/$dir" "$HERE/$dir.plain" || return
		rm -rf "${ROOT:?}/$dir" && cp -a "$HERE/$dir.plain" "$ROOT/$dir" || return
		for name in "$@"; do
			name=${name%.raw}
			cp -a "$HERE/$name/$dir/." "$ROOT/$dir/" || return
		done
	else
		for name in "$@"; do cp -a "$HERE/$name" "$at/$name" || return; done
		ext "$class" "$verb" >&2 || return
		if [[ $verb = unmerge ]]; then
			! mountpoint -q "$ROOT/$dir" || return
		else
			[[ $(findmnt -n -o FSTYPE "$ROOT/$dir") = overlay ]] || { findmnt; return 1; }
		fi
	fi 2>"$LOG.merge" || { cat "$LOG.merge"; return 1; }
	seen "$dir"
}

# With redirect_dir=on.
mutable() {
	local mode=$1
	rm -rf "$ROOT"/var/lib/extensions/* && cp -a "$HERE/one" "$ROOT/var/lib/extensions/one" &&
	mkdir -p "$ROOT/var/lib/extensions.mutable/usr" &&
	ext sysext merge --mutable="$mode" && echo new >"$ROOT/usr/share/new" &&
	mv "$ROOT/usr/share/one" "$ROOT/usr/share/moved" && rm "$ROOT/usr/lib/old/file" &&
	ext sysext unmerge && [[ ! -e $ROOT/usr/share/new && -e $ROOT/usr/lib/old/file ]] || return
	[[ $mode = ephemeral || -e $ROOT/var/lib/extensions.mutable/usr/share/new ]]
}

run() {
	same sysext.merge merged merge sysext usr one
	same sysext.refresh merged refresh sysext usr one two
	same sysext.refresh.fewer merged refresh sysext usr two
	same sysext.unmerge merged unmerge sysext usr
	same sysext.image merged merge sysext usr one two.raw
	same sysext.image.unmerge merged unmerge sysext usr
	same confext.merge merged merge confext etc first
	same confext.refresh merged refresh confext etc first second
	same confext.unmerge merged unmerge confext etc
	if [[ $KIND != bare ]]; then
		check sysext.mutable mutable yes
		check sysext.mutable.ephemeral mutable ephemeral
	fi
	# an image in an overlay, which a loop device reads
	local image=$HERE/two.raw
	if [[ $KIND != bare ]]; then
		mkdir -p "$HERE"/{images,upper,work,stack} && mv "$HERE/two.raw" "$HERE/images/"
		check stack mount -t overlay -o "lowerdir=$HERE/images,upperdir=$HERE/upper,workdir=$HERE/work" \
			overlay "$HERE/stack" || return
		image=$HERE/stack/two.raw
	fi
	mkdir -p "$HERE/m"
	same dissect.list systemd-dissect --list "$image"
	same dissect.copy systemd-dissect --copy-from "$image" /usr/share/two/file -
	check dissect.mount systemd-dissect --mount --read-only "$image" "$HERE/m"
	same dissect.mounted cat "$HERE/m/usr/share/two/file"
	check dissect.umount systemd-dissect --umount "$HERE/m"
	if [[ $KIND != bare ]]; then
		check stack.umount umount "$HERE/stack"
	fi
}

clean() {
	findmnt -R -n -r -o TARGET "$HERE" 2>/dev/null | tac | while read -r at; do umount -l "$at"; done
	findmnt -n -r -o TARGET | grep "^$HERE/" | tac | while read -r at; do umount -l "$at"; done
	mount --make-private $SCRATCH
}
