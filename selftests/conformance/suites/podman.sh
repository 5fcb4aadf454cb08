# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# podman, buildah and skopeo, on one storage, with an image made here.  On "bare" the
# storage driver is vfs.  Variants: native (the name overlay), program (mount_program:
# fuse-overlayfs on "overlay", mount.rovl on "rovl"), and both as an ordinary user.

# shellcheck source-path=SCRIPTDIR/..
. /job/conformance/containers.sh

as_user() { [[ $VARIANT = rootless* ]]; }

set_up() {
	local driver=overlay program=
	RUN=(env)
	! as_user || RUN=(setpriv --reuid=1001 --regid=1001 --clear-groups)
	machine && overlay_is_of_kind || return
	[[ $KIND != bare ]] || driver=vfs
	if [[ $VARIANT = *program && $KIND = overlay ]]; then
		program=/usr/bin/fuse-overlayfs
	elif [[ $VARIANT = *program && $KIND = rovl ]]; then
		program=/run/mount.rovl
		install -m 755 /job/mount.rovl $program || return
	fi
	CONF=/run/podman-$VARIANT-$KIND
	mkdir -p "$CONF" "$HERE/root" "$HERE/context" || return
	cat >"$CONF/storage.conf" <<-EOT
		[storage]
		driver = "$driver"
		graphroot = "$HERE/root"
		rootless_storage_path = "$HERE/root"
		runroot = "$CONF/run"
	EOT
	[[ -z $program ]] || cat >>"$CONF/storage.conf" <<-EOT
		[storage.options.overlay]
		mount_program = "$program"
	EOT
	cat >"$CONF/containers.conf" <<-EOT
		[containers]
		cgroups = "disabled"
		netns = "none"
		log_driver = "k8s-file"
		default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
		[engine]
		events_logger = "none"
		cgroup_manager = "cgroupfs"
		runtime = "crun"
	EOT
	busybox_root "$HERE/context/rootfs" || return
	cat >"$HERE/context/Containerfile" <<-'EOT'
		FROM scratch
		ADD rootfs /
		RUN mkdir /a /b && echo one >/a/one && echo two >/b/two && echo three >/three
		RUN rm /three && rm -r /b && mkdir /b && echo new >/b/new
		RUN chmod 600 /a/one && mv /a/one /a/moved && echo more >>/a/moved
		RUN ln -s moved /a/link && mkdir -p /deep/er && chown 5:6 /deep/er
		CMD ["cat", "/a/moved"]
	EOT
	if as_user; then
		grep -q ^tests: /etc/subuid 2>/dev/null || {
			echo tests:100000:65536 >>/etc/subuid
			echo tests:100000:65536 >>/etc/subgid
		}
		chmod 755 $SCRATCH "$HERE"
		chown -R tests:tests "$HERE" "$CONF"
	fi
	export CONTAINERS_STORAGE_CONF=$CONF/storage.conf CONTAINERS_CONF=$CONF/containers.conf
	export HOME=$HERE XDG_RUNTIME_DIR=$CONF TMPDIR=$HERE
}

# RUN: as who has the containers
p() { timeout 300 "${RUN[@]}" podman "$@"; }
run_in() { p run --rm --network=none "$@"; }
driver() { [[ $KIND = bare || $(p info -f '{{.Store.GraphDriverName}}') = overlay ]]; }
mounted_as() {      # what the root of a container is mounted as
	local type
	type=$(run_in localhost/made sh -c 'while read -r _ m t _; do
		if [ "$m" = / ]; then echo "$t"; fi; done </proc/mounts')
	case $KIND,$VARIANT in
	bare,*) ;;
	overlay,*program) [[ $type = fuse.fuse-overlayfs ]] ;;
	rovl,*program) [[ $type = rovl ]] ;;
	*) [[ $type = overlay ]] ;;
	esac || { echo "mounted as $type"; return 1; }
}
sorted_diff() { p diff "$1" | grep -E ' /(a|b|deep|new|var)' | sort; }
in_running() {
	p exec work sh -ec 'echo more >>/a/moved; rm /b/new; mkdir /new; mv /var/data/big /new/big;
		chmod 640 /new/big; ln /a/moved /new/link; rm /a/link; echo x >/deep/er/x; sync'
}
many() {
	local i pids=() bad=0
	for i in $(seq 1 "${PODMAN_MANY:-8}"); do
		run_in --name "many$i" localhost/made sh -c "echo $i >>/a/moved && tail -n 1 /a/moved" \
			>"$HERE/many$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || bad=1; done
	for i in $(seq 1 "${PODMAN_MANY:-8}"); do
		[[ $(cat "$HERE/many$i") = "$i" ]] || { head "$HERE/many$i"; bad=1; }
	done
	return $bad
}
b() { timeout 300 "${RUN[@]}" buildah "$@"; }
s() {       # a user's storage is to be seen in his user namespace only
	if as_user; then p unshare skopeo "$@"; else timeout 300 skopeo "$@"; fi
}
with_buildah() {
	local c
	c=$(b from localhost/made) &&
	b run --network=none "$c" sh -c 'rm -r /deep; echo b >/b/by-buildah; mv /a /moved-a || cp -a /a /moved-a' &&
	b config --label x=y "$c" && b commit --quiet "$c" localhost/by-buildah && b rm "$c" >/dev/null
}

run() {
	check info driver
	check build p build --network=none --layers -t localhost/made context || return
	check build.cached p build --network=none --layers -t localhost/again context
	same image.layers p inspect -f '{{len .RootFS.Layers}}' localhost/made
	same run run_in localhost/made
	check mounted_as mounted_as
	same tree run_in localhost/made sh -c "$LISTING"
	check run.volatile run_in --read-only=false localhost/made sh -c 'echo x >/var/data/big'
	check run.detached p run -d --network=none --name work localhost/made sleep 1000
	check exec in_running
	same exec.tree p exec work sh -c "$LISTING"
	same diff sorted_diff work
	check commit p commit -q work localhost/committed
	same commit.tree run_in localhost/committed sh -c "$LISTING"
	check cp.out p cp work:/new/big "$HERE/big"
	same cp.sum cksum <"$HERE/big"
	check cp.in p cp "$HERE/big" work:/deep/copied
	check stop p stop -t 0 work
	check start p start work
	same start.tree p exec work sh -c "$LISTING"
	check rm p rm -f -t 0 work
	check volume run_in -v data:/var/data localhost/made sh -c 'echo kept >/var/data/kept'
	same volume.kept run_in -v data:/x localhost/made cat /x/kept /x/big
	check volume.overlay run_in -v "$HERE/context:/x:O" localhost/made \
		sh -c 'echo y >/x/new && rm /x/Containerfile && ! test -e /x/Containerfile'
	check volume.untouched test -e "$HERE/context/Containerfile" -a ! -e "$HERE/context/new"
	as_user || [[ $VARIANT = *program ]] || check uidmap run_in --uidmap=0:100000:65536 \
		--gidmap=0:100000:65536 localhost/made sh -ec 'echo x >>/a/moved
			test "$(stat -c %u:%g /a/moved /deep/er /bin/busybox | tr "\n" " ")" = "0:0 5:6 0:0 "'
	check many many
	check buildah with_buildah
	same buildah.tree run_in localhost/by-buildah sh -c \
		'cd / && ls -R a b deep moved-a 2>/dev/null; cat b/by-buildah'
	check skopeo.dir s copy -q containers-storage:localhost/committed "dir:$HERE/dir"
	check skopeo.oci s copy -q containers-storage:localhost/committed "oci:$HERE/oci:x"
	check skopeo.back s copy -q "oci:$HERE/oci:x" containers-storage:localhost/back
	same skopeo.tree run_in localhost/back sh -c "$LISTING"
	check prune p system prune -a -f --volumes
	check reset p system reset -f
}

clean() {
	"${RUN[@]}" podman kill -a >/dev/null 2>&1
	findmnt -R -n -r -o TARGET "$HERE" 2>/dev/null | tac | while read -r at; do umount -l "$at"; done
	pkill -u tests 2>/dev/null
	rm -rf "$HERE/context"
}
