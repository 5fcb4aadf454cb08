# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# stress-ng's file system stressors, two processes each, in a directory of the lower
# layer.  On rovl each goes on for $STRESS_SECONDS; elsewhere only for a few, to see which
# work here.

fill_lower() { mkdir "$1/stress"; }

stressors() {
	if [[ $STRESSORS ]]; then
		printf '%s\n' $STRESSORS
	else
		stress-ng --class 'filesystem?' 2>&1 | sed 's/.*stressors: //' | xargs -n 1
	fi
}

run() {
	local name status seconds=3
	[[ $KIND != rovl ]] || seconds=$STRESS_SECONDS
	while read -r name; do
		status=0
		timeout -k 10 $((seconds + 120)) stress-ng "--$name" 2 --timeout "$seconds" \
			--verify --temp-path "$HERE/stress" --no-rand-seed \
			>"$LOG" 2>&1 </dev/null || status=$?
		case $status in
		0) result "$name" ok ;;
		3 | 4) result "$name" skip "$(grep -v 'info:' "$LOG" | tail -n 2)" ;;
		*) result "$name" fail "status $status: $(grep -v 'info:' "$LOG" | tail -n 4)" ;;
		esac
		find stress -mindepth 1 -delete 2>/dev/null
		result "$name.removed" "$([[ $(ls -A stress) ]] && echo fail || echo ok)"
	done < <(stressors)
}
