# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2016 # UNIT, VARIANT and the rest are of job.sh
#
# containerd by ctr, with the overlayfs snapshotter ("bare": native).

# shellcheck source-path=SCRIPTDIR/..
. /job/conformance/containers.sh

set_up() {
	machine && overlay_is_of_kind || return
	SNAPSHOTTER=overlayfs
	[[ $KIND != bare ]] || SNAPSHOTTER=native
	busybox_root "$HERE/rootfs" && image || return
	containerd --root "$HERE/root" --state "/run/containerd-$KIND" -a "/run/ctr-$KIND.sock" \
		>"/tmp/containerd-$KIND.log" 2>&1 &
	for _ in $(seq 120); do
		ctr -a "/run/ctr-$KIND.sock" version >/dev/null 2>&1 && return
		sleep 1
	done
	tail -n 5 "/tmp/containerd-$KIND.log"
	return 1
}

# An OCI image of two layers, the second of which removes and changes.
image() {
	local at=$HERE/oci sum layers=() diffs=() n
	mkdir -p "$at/blobs/sha256" "$HERE/second/"{a,etc} || return
	mkdir -p "$HERE/rootfs/a" && echo a >"$HERE/rootfs/a/a" && echo one >"$HERE/rootfs/a/one"
	touch "$HERE/second/a/.wh.one" && echo b >"$HERE/second/a/b" && echo x >"$HERE/second/etc/x"
	blob() { sum=$(sha256sum <"$1"); sum=${sum%% *}; mv "$1" "$at/blobs/sha256/$sum"; size=$(stat -c %s "$at/blobs/sha256/$sum"); }
	local size
	for n in rootfs second; do
		tar -C "$HERE/$n" --sort=name --owner=0 --group=0 --mtime=@0 -cf "$HERE/layer" . || return
		blob "$HERE/layer"
		layers+=("{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$sum\",\"size\":$size}")
		diffs+=("\"sha256:$sum\"")
	done
	printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":[%s,%s]}}' \
		"${diffs[@]}" >"$HERE/config"
	blob "$HERE/config"
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s,%s]}' \
		"$sum" "$size" "${layers[@]}" >"$HERE/manifest"
	blob "$HERE/manifest"
	printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"made:1","org.opencontainers.image.ref.name":"1"}}]}' \
		"$sum" "$size" >"$at/index.json"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$at/oci-layout"
	tar -C "$at" -cf "$HERE/image.tar" .
}

c() { timeout 300 ctr -a "/run/ctr-$KIND.sock" "$@"; }
# ctr snapshot mounts says the command
mounted() { mkdir -p "$HERE/m" && eval "$(c snapshot --snapshotter $SNAPSHOTTER mounts "$HERE/m" "$1")"; }
top() { c snapshot --snapshotter $SNAPSHOTTER ls | awk '$3 == "Committed" { print $1 }' | while read -r n; do
		c snapshot --snapshotter $SNAPSHOTTER ls | awk -v n="$n" '$2 == n { f = 1 } END { exit f }' && echo "$n"
	done | head -n 1; }
work() {
	c snapshot --snapshotter $SNAPSHOTTER prepare work "$TOP" >/dev/null && mounted work &&
	echo more >>"$HERE/m/a/a" && rm "$HERE/m/a/b" && echo new >"$HERE/m/a/new" &&
	chmod 600 "$HERE/m/var/data/big" && umount "$HERE/m" &&
	c snapshot --snapshotter $SNAPSHOTTER commit done work
}
diff_of() {
	c snapshot --snapshotter $SNAPSHOTTER diff --media-type application/vnd.oci.image.layer.v1.tar \
		--keep done 2>/dev/null | tar -t | grep -v /$ | sort
}
view() {
	c snapshot --snapshotter $SNAPSHOTTER view seen done >/dev/null && mounted seen &&
	ls "$HERE/m/a" && cat "$HERE/m/a/a" && umount "$HERE/m" &&
	c snapshot --snapshotter $SNAPSHOTTER rm seen
}
usage() { (($(c snapshot --snapshotter $SNAPSHOTTER usage -b done | awk 'NR == 2 { print $2 }') > 100000)); }
started() {
	c run --rm --snapshotter $SNAPSHOTTER --runc-binary runc --cgroup "" made:1 "one$RANDOM" \
		/bin/sh -c 'ls /a; echo y >>/a/a; cat /a/a; rm /a/b; mv /etc/x /a/x; ls /a'
}

run() {
	check import c image import --snapshotter $SNAPSHOTTER --local --no-unpack=false image.tar ||
		check import.again c image import --snapshotter $SNAPSHOTTER image.tar || return
	TOP=$(top)
	check prepare_commit work
	same view view
	same diff diff_of
	check usage usage
	same run started
	same run.again started
	check remove c snapshot --snapshotter $SNAPSHOTTER rm done
}

clean() {
	! mountpoint -q "$HERE/m" || umount -l "$HERE/m"
	pkill -x containerd
	sleep 2
	rm -rf "$HERE/rootfs" "$HERE/image.tar"
}
