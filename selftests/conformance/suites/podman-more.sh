# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# podman by the name overlay, as root: many containers at once, and --userns=auto.

# shellcheck source-path=SCRIPTDIR
. /job/conformance/suites/podman.sh

VARIANT=more
PODMAN_MANY=$PODMAN_CROWD

p() { timeout 800 podman "$@"; }

# The containers, all started at once, and all stopped at once.
crowd() {
	local i pids=() bad=0
	for i in $(seq "$PODMAN_MANY"); do
		p run -d --network=none --name "crowd$i" localhost/made \
			sh -c "echo $i >>/a/moved && rm /b/new && exec sleep 3000" >"$HERE/crowd$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || bad=1; done
	((bad == 0)) || { tail -qn 1 "$HERE"/crowd* | sort | uniq -c | sort -rn | head -n 3; return 1; }
	[[ $(p ps -q | wc -l) = "$PODMAN_MANY" ]] || { p ps -a | tail -n 3; return 1; }
}
crowd_stop() {
	local i at
	p stop -a -t 0 >/dev/null && [[ -z $(p ps -q) ]] || return
	for i in 1 $((PODMAN_MANY / 2)) "$PODMAN_MANY"; do
		at=$(p mount "crowd$i") && [[ $(tail -n 1 "$at/a/moved") = "$i" && ! -e $at/b/new ]] ||
			{ tail -n 1 "$at/a/moved"; return 1; }
		p umount "crowd$i" >/dev/null || return
	done
	p rm -a -f -t 0 >/dev/null && [[ -z $(p ps -a -q) ]]
}

auto() {            # IDs of its own, and the image's owners seen through them
	grep -q ^containers: /etc/subuid 2>/dev/null || {
		echo containers:200000:1000000 >>/etc/subuid
		echo containers:200000:1000000 >>/etc/subgid
	}
	p run -d --network=none --userns=auto --name auto localhost/made sh -ec '
		read -r inside outside rest </proc/self/uid_map
		test "$inside" = 0 && test "$outside" -ge 200000
		test "$(stat -c %u:%g /a/moved /deep/er /bin/busybox | tr "\n" " ")" = "0:0 5:6 0:0 "
		echo more >>/a/moved; echo x >/deep/er/x; mkdir /new; mv /var/data/big /new/big; rm /b/new
		chown 7:8 /new/big; touch /tmp/ready; exec sleep 3000' || return
	for _ in $(seq 60); do
		! p exec auto test -e /tmp/ready || return 0
		sleep 1
	done
	p logs auto
	return 1
}
auto_owner() {      # of what was written, where it is kept
	local upper
	upper=$(p inspect -f '{{.GraphDriver.Data.UpperDir}}' auto) &&
	(($(stat -c %u "$upper/a/moved") >= 200000)) && [[ -c $upper/b/new ]]
}

run() {
	check build p build --network=none --layers -t localhost/made context || return
	check crowd.run many
	check crowd.start crowd
	check crowd.stop crowd_stop
	p rm -a -f -t 0 >/dev/null 2>&1
	check auto auto
	[[ $KIND = bare ]] || check auto.owner auto_owner
	check auto.commit p commit -q auto localhost/auto
	check auto.rm p rm -f -t 0 auto
	same auto.tree run_in localhost/auto sh -c "$LISTING; stat -c '%u:%g' /new/big"
	check reset p system reset -f
}
