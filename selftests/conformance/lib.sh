# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the suites of make check-conformance have in common, in the guest.
#
# A suite is a file in suites/.  It is run for a unit, SUITE@FS or SUITE@FS.VARIANT, on
# each of three kinds of file system: "bare" is FS itself, "overlay" and "rovl" are
# mounted over an upper and a lower directory on FS.  It defines
#
#   fill_lower DIR   makes what is in the lower layer (for "bare": in the tree itself)
#   fill_upper DIR   optional: what is in the upper layer
#   run              does the tests, in the current directory, which is $HERE
#   clean            optional: ends what still uses the tree
#   OWN              optional: it mounts by itself, see containers.sh; set_up makes it so that
#                    what it mounts is of $KIND
#   LOWER            optional: a read-only lower layer that is there already; fill_lower
#                    is told nothing for overlay and rovl then, and copies it for "bare"
#
# and says what came of a case with "result".  tools/conformance.py reads lines with
# fields separated by tabs:
#
#   begin  UNIT KIND
#   case   UNIT KIND CASE ok|fail|skip TEXT
#   end    UNIT KIND SECONDS

SCRATCH=/mnt/scratch
LOG=/tmp/log

line() {
	local fields=("$@")
	fields=("${fields[@]//[$'\t\n\r']/ }")
	(IFS=$'\t'; printf '%s\n' "${fields[*]}")
}

# result CASE ok|fail|skip [TEXT]
result() { line case "$UNIT" "$KIND" "$1" "$2" "${3:0:300}"; }

# check CASE COMMAND...: the case is that the command succeeds
check() {
	local case=$1 status=0
	shift
	"$@" >"$LOG" 2>&1 </dev/null || status=$?
	if ((status == 0)); then
		result "$case" ok
	else
		result "$case" fail "status $status: $(tail -n 4 "$LOG")"
	fi
	return "$status"
}

# same CASE COMMAND...: the case is that the command says the same on all kinds
same() {
	local case=$1 said
	shift
	if said=$("$@" 2>&1 </dev/null); then
		mkdir -p "/tmp/same/$UNIT"
		if [[ $KIND = bare ]]; then
			printf '%s\n' "$said" >"/tmp/same/$UNIT/$case"
			result "$case" ok
		elif diff "/tmp/same/$UNIT/$case" - <<<"$said" >"$LOG" 2>&1; then
			result "$case" ok
		else
			result "$case" fail "differs: $(head -n 6 "$LOG")"
		fi
	else
		result "$case" fail "$(tail -c 300 <<<"$said")"
	fi
}

# A tree with all that can be seen of it, but no times of access.
fingerprint() {
	(cd "$1" && find . -printf '%P %y %m %U %G %n %s %T@ %l\n' | LC_ALL=C sort &&
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0r cksum) | cksum
}

# scratch FS: an empty file system of that kind at $SCRATCH
scratch() {
	mkdir -p $SCRATCH
	! mountpoint -q $SCRATCH || umount $SCRATCH || return
	case $1 in
	ext4) mkfs.ext4 -q -F -E nodiscard "$DISK" ;;
	xfs) mkfs.xfs -q -f -K "$DISK" ;;
	btrfs) mkfs.btrfs -q -f -K "$DISK" ;;
	tmpfs) mount -t tmpfs -o mode=755 none $SCRATCH; return ;;
	esac && mount -t "$1" "$DISK" $SCRATCH
}

# one: the suite's run on $KIND.  A failure to set up is a case that fails.
one() {
	local site=$SCRATCH/$KIND start=$SECONDS before=
	line begin "$UNIT" "$KIND"
	HERE=$site/mnt
	if [[ $OWN ]]; then
		HERE=$site
		mkdir -p "$site" && check setup set_up && (cd "$site" && run)
		clean
		line end "$UNIT" "$KIND" $((SECONDS - start))
		return
	fi
	if ! mkdir -p "$site"/{lower,upper,work,mnt}; then
		result setup fail "cannot make directories"
		return
	fi
	if [[ $KIND = bare ]]; then
		fill_lower "$HERE" >"$LOG" 2>&1 && fill_upper "$HERE" >>"$LOG" 2>&1
	else
		fill_lower "$site/lower" >"$LOG" 2>&1 && fill_upper "$site/upper" >>"$LOG" 2>&1 &&
			{ [[ $LOWER ]] || before=$(fingerprint "$site/lower"); } &&
			mount -t "$KIND" -o "lowerdir=${LOWER:-$site/lower},upperdir=$site/upper,workdir=$site/work" \
				none "$HERE" >>"$LOG" 2>&1
	fi || { result setup fail "$(tail -n 4 "$LOG")"; return; }
	(cd "$HERE" && run)
	clean
	if [[ $KIND != bare ]]; then
		check end.unmount umount "$HERE" || umount -l "$HERE"
		if [[ $LOWER || $(fingerprint "$site/lower") = "$before" ]]; then
			result end.lower_unchanged ok
		else
			result end.lower_unchanged fail "the lower layer has changed"
		fi
		# overlay keeps a whiteout there, to make others as links to it
		local left
		left=$(find "$site/work" -mindepth 2 ! -type c | head -n 3)
		result end.work_empty "$([[ $left ]] && echo fail || echo ok)" "$left"
	fi
	line end "$UNIT" "$KIND" $((SECONDS - start))
}
