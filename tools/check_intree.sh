#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Applies the series of tools/intree, patch by patch, to the source of the debug kernel and
# builds fs/rovl after each, as a module and built in. In the build tree, whose mounts
# end with it: source and objects lie below an overlay, and stay what they are.
#
#	tools/env.sh run -- tools/check_intree.sh SERIES WORK [last]
#
# With "last" only what the whole series makes is built.

set -euo pipefail

patches=$(realpath "$1")
work=$(realpath -m "$2")
top=$(dirname "$(dirname "$(realpath "$0")")")
source=$("$top/tools/env.sh" path source)
objects=$("$top/tools/env.sh" path debug)

rm -rf "$work"
for dir in "$source" "$objects"; do
	name=$(basename "$dir")
	mkdir -p "$work/$name"/{upper,work}
	mount -t overlay -o "lowerdir=$dir,upperdir=$work/$name/upper,workdir=$work/$name/work" \
		overlay "$dir"
done

log=$work/log
failed=0

# build NAME VALUE: with CONFIG_ROVL_FS=VALUE.
build() {
	local start=$SECONDS
	"$source/scripts/config" --file "$objects/.config" --set-val ROVL_FS "$2" \
		--enable ROVL_DEBUG
	if { make -C "$source" O="$objects" LLVM=1 LOCALVERSION= olddefconfig &&
	     make -C "$source" O="$objects" LLVM=1 LOCALVERSION= KRUSTFLAGS=-Dwarnings \
		KCFLAGS=-Werror "${@:4}" -j"$(nproc)" "$3"; } >"$log" 2>&1 &&
	   grep -qx "CONFIG_ROVL_FS=$2" "$objects/.config"; then
		echo "ok      $1 (=$2, $((SECONDS - start)) s)"
	else
		echo "not ok  $1 (=$2)"
		tail -n 40 "$log"
		failed=1
	fi
}

for patch in "$patches"/0*.patch; do
	case $patch in
	*/0000-*) continue ;;
	esac
	# Outside of any repository, whichever it may lie in.
	(cd "$source" && GIT_DIR=/nonexistent git apply "$patch")
	name=$(basename "$patch" .patch)
	case $name in
	*-Documentation-* | *-selftests-*) continue ;;
	*-mount-it) ;;
	*) [[ ${3:-} != last ]] || continue ;;
	esac
	build "$name" m fs/rovl/rovl.ko
done
build "all of it" y fs/rovl/
# With clippy the kernel crate is another one, too, and its symbols not those of vmlinux.
build "all of it, clippy" m fs/rovl/rust_overlay.o CLIPPY=1
exit "$failed"
