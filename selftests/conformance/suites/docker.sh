# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# dockerd with overlay2 ("bare": vfs), and a build.

# shellcheck source-path=SCRIPTDIR/..
. /job/conformance/containers.sh

set_up() {
	local driver=overlay2
	machine && overlay_is_of_kind || return
	[[ $KIND != bare ]] || driver=vfs
	export DOCKER_HOST=unix:///run/docker-$KIND.sock DOCKER_BUILDKIT=0 HOME=$HERE
	busybox_root "$HERE/context/rootfs" || return
	cat >"$HERE/context/Dockerfile" <<-'EOT'
		FROM scratch
		ADD rootfs /
		RUN mkdir /a /b && echo one >/a/one && echo two >/b/two && echo three >/three
		RUN rm /three && rm -r /b && mkdir /b && echo new >/b/new
		RUN chmod 600 /a/one && mv /a/one /a/moved && echo more >>/a/moved
		CMD ["cat", "/a/moved"]
	EOT
	dockerd --data-root "$HERE/root" --exec-root "/run/docker-$KIND" --pidfile "/run/docker-$KIND.pid" \
		-H "$DOCKER_HOST" --storage-driver $driver --bridge=none --iptables=false --ip6tables=false \
		>"/tmp/docker-$KIND.log" 2>&1 &
	for _ in $(seq 180); do
		docker version >/dev/null 2>&1 && return
		sleep 1
	done
	grep -E 'level=(error|fatal)|fail' "/tmp/docker-$KIND.log" | tail -n 5
	return 1
}

d() { timeout 300 docker "$@"; }
run_in() { d run --rm --network=none "$@"; }
in_running() {
	d exec work sh -ec 'echo more >>/a/moved; rm /b/new; mkdir /new; mv /var/data/big /new/big;
		chmod 640 /new/big; ln /a/moved /new/link'
}
sorted_diff() { d diff work | grep -E ' /(a|b|deep|new|var)' | sort; }

run() {
	[[ $KIND = bare ]] || check driver test "$(d info -f '{{.Driver}}')" = overlay2
	check build d build -q --network=none -t made context || return
	same run run_in made
	same tree run_in made sh -c "$LISTING"
	check run.detached d run -d --network=none --name work made sleep 1000
	check exec in_running
	same exec.tree d exec work sh -c "$LISTING"
	same diff sorted_diff
	check commit d commit work committed
	same commit.tree run_in committed sh -c "$LISTING"
	check stop d stop -t 0 work
	check start d start work
	same start.tree d exec work sh -c "$LISTING"
	check volume run_in -v data:/var/data made sh -c 'echo kept >/var/data/kept'
	same volume.kept run_in -v data:/x made cat /x/kept
	check save d save -o "$HERE/saved" committed
	check rm d rm -f work
	check prune d system prune -a -f --volumes
	check load d load -q -i "$HERE/saved"
	same load.tree run_in committed sh -c "$LISTING"
}

clean() {
	[[ ! -e /run/docker-$KIND.pid ]] || kill "$(cat "/run/docker-$KIND.pid")"
	for _ in $(seq 30); do
		[[ -e /run/docker-$KIND.pid ]] || break
		sleep 1
	done
	rm -rf "$HERE/context" "$HERE/saved"
}
