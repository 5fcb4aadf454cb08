# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# pjdfstest (the Rust edition) in a directory that the lower layer has ("lower"), the
# upper one ("upper"), or both ("merged").  $PJDFSTEST are parts of the names of the cases
# to be run, if not all.

fill_lower() {
	mkdir -p "$1/lower" "$1/merged" && touch "$1/lower/below" "$1/merged/below"
}

fill_upper() {
	mkdir -p "$1/upper" "$1/merged" && touch "$1/upper/above" "$1/merged/above"
}

# pjdfstest RUN MAY-REMOUNT [PATTERN...]
pjdfstest() {
	local run=$1 remount=$2
	shift 2
	cat >/tmp/pjdfstest.toml <<-EOF
	[features]
	posix_fallocate = {}
	rename_ctime = {}
	utime_now = {}
	utimensat = {}
	[settings]
	naptime = 0.02
	allow_remount = $remount
	EOF
	/job/pjdfstest -c /tmp/pjdfstest.toml -s /tmp/second -p "$HERE/$VARIANT" "$@" \
		</dev/null 2>&1 |
	awk -v unit="$UNIT" -v kind="$KIND" -v run="$run" '
		function flush() {
			if (name != "")
				print "case\t" unit "\t" kind "\t" name "\t" verdict "\t" substr(text, 1, 300)
			name = text = ""
		}
		/^\t/ { gsub(/[\t\r]/, " "); text = text $0; next }
		/^[a-z_]+::[a-z0-9_:]+ +(ok|FAILED|skipped)$/ {
			flush()
			name = $1
			verdict = $2 == "ok" ? "ok" : $2 == "FAILED" ? "fail" : "skip"
			next
		}
		/^Summary: / { flush(); summary = 1; next }
		{ text = text " " $0 }
		END {
			flush()
			print "case\t" unit "\t" kind "\tend." run "\t" (summary ? "ok" : "fail") "\t" text
		}'
}

run() {
	mkdir -p /tmp/second
	mountpoint -q /tmp/second || mount -t tmpfs none /tmp/second
	# Some cases leave files open for writing; after them nothing can be remounted.
	pjdfstest read_only true erofs
	# shellcheck disable=SC2086 # words
	pjdfstest all false $PJDFSTEST
}
