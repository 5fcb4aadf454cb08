#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The build environment of rovl: a Debian tree with the toolchain, the stock
# kernel of the supported series, and a debug kernel from the same source.
# Everything lives in a cache outside the checkout, keyed by version, and is
# made once; each step can be interrupted and goes on where it was.

# shellcheck disable=SC2317 # many functions are called by way of task

set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin	# an ordinary user's may lack them
unset MAKEFLAGS MFLAGS	# of the make that called us; what is made here counts for itself

SUITE=trixie            # the Debian release that toolchain and kernel come from
SUPPORTED=(7.3 7.2)     # the kernel series that the module supports, the newest first
SERIES=${SERIES:-${SUPPORTED[0]}}
ABI="+deb13-amd64"      # what Debian appends to the version
TREE_FORMAT=1           # count up when the way the tree is made changes
DEBUG_FORMAT=2          # the same for the debug kernel

self=$(realpath "${BASH_SOURCE[0]}")
top=$(dirname "$(dirname "$self")")
cache=${ROVL_CACHE:-$HOME/.cache/rovl}
cache=$(realpath -m "$cache")
export ROVL_CACHE=$cache

usage() {
	cat <<-EOF
	usage: tools/env.sh COMMAND

	  host [COMMAND=PACKAGE...]
	                   see that this machine has what all this takes; as root,
	                   install what it lacks (not with ROVL_NO_INSTALL=1)
	  tree             make the build tree (Debian $SUITE with the toolchain)
	  kernel stock     fetch the stock kernel, prepare it for building modules
	  kernel debug     build the debug kernel (selftests/debug.config)
	  update-kernel    look for a newer stock kernel of the $SERIES series
	  build KERNEL [pause|clippy|doc|compile_fail FILE]
	                   build rovl.ko of this checkout in build/KERNEL; or with
	                   points where tests can pause it in build/KERNEL-pause
	                   (of an older series in build/KERNEL-SERIES);
	                   or check its source, document it, compile it with FILE
	                   added
	  run [--] CMD...  run CMD inside the build tree
	  shell            a shell inside the build tree
	  path WHAT        print where something is: tree, source,
	                   stock|debug[/build|/vmlinuz|/config|/System.map|/modules],
	                   stock|debug/rovl.ko [pause]
	  series           print the kernel series that the module supports
	  release KERNEL   print the release (uname -r) of stock or debug
	  version          print the version of the stock kernel's packages
	  status           what is in the cache, and how large
	  prune            remove from the cache what this checkout does not use
	  remove-cache     remove the cache (asks first)

	The cache is \$ROVL_CACHE, now $cache.
	With ROVL_TREE=packaging, run and shell have the Debian packaging tools, too.
	ROVL_MIRROR names a Debian mirror, if that of the machine is not to be used.
	SERIES is the series of the kernels: ${SUPPORTED[0]}, or one of ${SUPPORTED[*]:1}.
	EOF
}

say() { printf '%s\n' "rovl: $*" >&2; }
die() { say "error: $*"; exit 1; }

# --- helpers ---------------------------------------------------------------

# lock NAME: hold a lock of the cache, until unlock or the end.
lock() {
	mkdir -p "$cache/lock"
	exec {lock_fd}>"$cache/lock/$1"
	if ! flock -n "$lock_fd"; then
		say "another process is making the same thing, waiting for it"
		flock "$lock_fd"
	fi
}

unlock() { exec {lock_fd}>&-; }

# task TITLE LOG CMD...: run CMD with its output in LOG.  On a terminal one
# line shows how far it is, elsewhere a line now and then.
task() {
	local title=$1 log=$2 start=$SECONDS pid rc=0 t last shown=0 min=60
	shift 2
	mkdir -p "$(dirname "$log")"
	say "$title"
	# in a process group of its own, to end all of it with one signal
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # the value of now is meant
	trap "kill -KILL -- -$pid 2>/dev/null; exit 130" INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		t=$((SECONDS - start))
		if [[ -t 2 ]]; then
			last=$(tail -c 400 "$log" | tr '\r' '\n' |
				grep -v '^[[:space:]]*$' | tail -n 1 |
				tr -dc '[:print:]' | cut -c 1-60) || last=
			printf '\r\033[K  %d:%02d  %s' $((t / 60)) $((t % 60)) \
				"$last" >&2
		elif ((t >= shown + min)); then
			shown=$t
			say "  still at it after $((t / 60)) min $((t % 60)) s," \
				"$(wc -l <"$log") lines in the log"
		fi
	done
	wait "$pid" || rc=$?
	trap - INT TERM HUP
	[[ -t 2 ]] && printf '\r\033[K' >&2
	t=$((SECONDS - start))
	if ((rc)); then
		say "failed after $t s. The last lines of $log:"
		tail -n 30 "$log" >&2
		exit "$rc"
	fi
	say "  done in $((t / 60)) min $((t % 60)) s"
}

# host_lacks COMMAND=PACKAGE...: the Debian packages that this machine lacks,
# of those named and those that are always needed.
host_lacks() {
	local need needs=(mmdebstrap mount flock=util-linux "$@")
	# to be root of a user namespace that has more than one user
	((EUID == 0)) || needs+=(newuidmap=uidmap)
	for need in "${needs[@]}"; do
		command -v "${need%=*}" >/dev/null || echo "${need#*=}"
	done
	# the keys that sign the archive
	compgen -G "/usr/share/keyrings/debian-archive-keyring.*" >/dev/null ||
		echo debian-archive-keyring
}

# host COMMAND=PACKAGE...: make sure that this machine has what it takes. As
# root install what it lacks, otherwise say it, with the command for all of it.
cmd_host() {
	local lacks sudo='' todo=''
	mapfile -t lacks < <(host_lacks "$@")
	if ((${#lacks[@]} && EUID == 0)) && [[ ${ROVL_NO_INSTALL:-0} = 0 ]] &&
	   command -v apt-get >/dev/null; then
		task "installing what this machine lacks: ${lacks[*]} (ROVL_NO_INSTALL=1: only say it)" \
			"$cache/log/host.log" install_host "${lacks[@]}"
		mapfile -t lacks < <(host_lacks "$@")
	fi
	((EUID == 0)) || sudo='sudo '
	if ((${#lacks[@]})); then
		todo="${sudo}apt-get update && ${sudo}apt-get install ${lacks[*]}"
	fi
	if ((EUID)) && ! grep -q "^$(id -un):\|^$EUID:" /etc/subuid 2>/dev/null; then
		lacks+=("subordinate user ids for $(id -un)")
		todo+="${todo:+ && }sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
	fi
	((${#lacks[@]})) || return 0
	die "this machine lacks: $(printf '%s\n' "${lacks[@]}" | paste -sd, |
		sed 's/,/, /g'). Do:
    $todo"
}

# The lists of packages may never have been fetched, or be too old.
install_host() {
	export DEBIAN_FRONTEND=noninteractive
	local install=(apt-get install -y --no-install-recommends "$@")
	"${install[@]}" || { apt-get update && "${install[@]}"; }
}

# own_userns CMD...: as an ordinary user become root of a user namespace, so
# that the tree can have files of all its users.  Root needs nothing of it.
own_userns() {
	if ((EUID == 0)); then
		"$@"
	else
		unshare --user --map-auto --map-root-user --mount "$@"
	fi
}

check_userns() {
	((EUID == 0)) && return
	own_userns true 2>/dev/null ||
		die "this machine does not let ordinary users make user namespaces.
    Try as root: sysctl kernel.unprivileged_userns_clone=1
    (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or run make as root."
}

# --- the Debian tree -------------------------------------------------------

packages() { sed 's/#.*//' "$top/tools/env/${1:-packages}" | xargs -n 1; }

tree_dir() {
	local key
	key=$({ echo "$TREE_FORMAT $SUITE"; packages; } | sha256sum)
	echo "$cache/tree/$SUITE-${key:0:12}"
}

# With ROVL_TREE=packaging, what is run has the packages of tools/env/packaging, too.
packaging_dir() {
	local key
	key=$({ tree_dir; packages packaging; } | sha256sum)
	echo "$cache/tree/packaging-${key:0:12}"
}

entered_tree() {
	case ${ROVL_TREE:-} in
	'') tree_dir ;;
	packaging) packaging_dir ;;
	partial) echo "$(packaging_dir).partial" ;;
	*) die "no such tree: $ROVL_TREE" ;;
	esac
}

# The Debian mirror of the machine's own apt, or nothing.
host_mirror() {
	if [[ -n ${ROVL_MIRROR:-} ]]; then
		echo "$ROVL_MIRROR"
		return
	fi
	command -v apt-get >/dev/null || return 0
	local uri codename
	# shellcheck disable=SC1091 # a file of the machine
	codename=$(. /etc/os-release; echo "${ID:-}/${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # for apt
	uri=$(apt-get indextargets --format \
		'$(ORIGIN)|$(LABEL)|$(RELEASE)|$(REPO_URI)' 'Created-By: Packages' \
		2>/dev/null |
		awk -F'|' -v os="$codename" '
			$1 == "Debian" && $2 == "Debian" { print $4; exit }
			$1 == "" && os == "debian/" $3 { print $4; exit }') || uri=
	case $uri in
	mirror+file:*)
		uri=$(awk '!/^#/ && NF { print $1; exit }' "${uri#mirror+file:}" \
			2>/dev/null) || uri= ;;
	esac
	echo "${uri%/}"
}

make_tree() {
	local tree=$1 mirror proxy sources=() opts=() s
	rm_tree "$tree.partial"
	mirror=$(host_mirror)
	if [[ -n $mirror ]]; then
		for s in "$SUITE" "$SUITE-updates" "$SUITE-backports"; do
			sources+=("deb $mirror $s main")
		done
	else
		# mmdebstrap's own default, and the backports beside it
		opts+=("--setup-hook=sed -n 's/ $SUITE / $SUITE-backports /p' \"\$1/etc/apt/sources.list\" >\"\$1/etc/apt/sources.list.d/backports.list\"")
	fi
	for s in http https; do
		proxy=$(apt-config dump --format '%v%n' "Acquire::$s::Proxy" \
			2>/dev/null) || proxy=
		[[ -z $proxy ]] ||
			opts+=("--aptopt=Acquire::$s { Proxy \"$proxy\"; }")
	done
	own_userns mmdebstrap --mode=root --variant=minbase \
		--aptopt='APT::Sandbox::User "root"' \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--include="$(packages | paste -sd,)" \
		"${opts[@]}" "$SUITE" "$tree.partial" "${sources[@]}"
	mv "$tree.partial" "$tree"
}

# Files of other users of the user namespace need the namespace to go.
rm_tree() {
	[[ -e $1 ]] || return 0
	own_userns rm -rf --one-file-system "$1"
}

cmd_tree() {
	local tree
	tree=$(tree_dir)
	[[ -e $tree ]] && return
	cmd_host
	check_userns
	mkdir -p "$cache/tree"
	lock tree
	[[ -e $tree ]] && return
	task "making the build tree, Debian $SUITE with its toolchain (380 MB to fetch, 2.1 GB on disk, about 2 min)" \
		"$cache/log/tree.log" make_tree "$tree"
	unlock
}

# A copy, so that nothing else ever uses what is only here by chance.
make_packaging() {
	local tree=$1 install p
	rm_tree "$tree.partial"
	own_userns cp -a "$(tree_dir)" "$tree.partial" || return
	mapfile -t p < <(packages packaging)
	install=(in_tree apt-get -q install -y --no-install-recommends "${p[@]}")
	export ROVL_TREE=partial
	"${install[@]}" || { in_tree apt-get -q update && "${install[@]}"; } || return
	in_tree apt-get clean || return
	mv "$tree.partial" "$tree"
}

cmd_packaging() {
	local tree
	tree=$(packaging_dir)
	[[ -e $tree ]] && return
	ROVL_TREE='' cmd_tree
	lock packaging
	[[ -e $tree ]] && return
	task "adding the Debian packaging tools to a copy of the build tree (60 MB to fetch, 2.4 GB on disk, about 2 min)" \
		"$cache/log/packaging.log" make_packaging "$tree"
	unlock
}

# --- running things in the tree --------------------------------------------

# The host's certificate bundle, for machines behind a proxy with its own CA.
ca_bundle() {
	local f
	for f in "${SSL_CERT_FILE:-}" "${CURL_CA_BUNDLE:-}" \
		 /etc/ssl/certs/ca-certificates.crt \
		 /etc/pki/tls/certs/ca-bundle.crt; do
		[[ -n $f && -s $f ]] && realpath "$f" && return
	done
	return 0
}

# in_tree CMD...: with the checkout, the cache and the working directory at
# their own paths, in namespaces that end with CMD: no mount and no process
# is left behind.
in_tree() {
	if [[ ${ROVL_IN_TREE:-} ]]; then
		"$@"
		return
	fi
	local flags=(--mount --pid --fork --kill-child)
	((EUID == 0)) || flags+=(--user --map-auto --map-root-user)
	unshare "${flags[@]}" "$BASH" "$self" __enter "$@"
}

# First process of the namespaces.
enter() {
	local tree ca dir f cwd=$PWD env=() name
	tree=$(entered_tree)

	for dir in /tmp /var/tmp "$cache" "$top" "$cwd" ${ROVL_BIND:-}; do
		[[ -d $dir && $dir != / ]] || continue
		case $dir/ in
		/usr/* | /etc/* | /bin/* | /sbin/* | /lib* | /proc/* | /sys/* | /dev/*)
			[[ $dir = "$top" || $dir = "$cache" ]] || continue ;;
		esac
		mkdir -p "$tree$dir"
		# already there by way of a directory above it
		[[ $tree$dir -ef $dir ]] && continue
		mount --bind "$dir" "$tree$dir" 2>/dev/null ||
			mount --rbind "$dir" "$tree$dir"
	done
	mount -t proc proc "$tree/proc" 2>/dev/null ||
		mount --rbind /proc "$tree/proc"
	# make names a fifo there after its process id, which begins at 1 in
	# each of these namespaces
	mount -t tmpfs -o mode=755 run "$tree/run"
	mount --rbind /sys "$tree/sys"
	mount --rbind /dev "$tree/dev"
	ca=$(ca_bundle)
	for f in /etc/resolv.conf /etc/hosts; do
		[[ -e $f ]] || continue
		[[ -e $tree$f ]] || : >"$tree$f"
		mount --bind "$(realpath "$f")" "$(realpath "$tree$f")" || :
	done
	f=/etc/ssl/certs/ca-certificates.crt
	if [[ -n $ca && -e $tree$f ]]; then
		mount --bind "$ca" "$tree$f"
	fi

	env=(
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		LANG=C.UTF-8 LC_ALL=C.UTF-8
		HOME="$cache/home" TMPDIR=/tmp MAKE_TMPDIR=/run USER=root LOGNAME=root SHELL=/bin/bash
		DEBIAN_FRONTEND=noninteractive
		ROVL_CACHE="$cache" ROVL_IN_TREE="$tree"
		SSL_CERT_FILE="$f" CARGO_HTTP_CAINFO="$f" GIT_SSL_CAINFO="$f"
		CURL_CA_BUNDLE="$f"
	)
	for name in $(compgen -e); do
		case $name in
		ROVL_CACHE | ROVL_IN_TREE | CARGO_HTTP_CAINFO | CARGO_TARGET_DIR) ;;
		CARGO_HOME | CARGO) ;;
		TERM | COLORTERM | NO_COLOR | COLUMNS | LINES | CI | V | T | PAUSE | ACCEL | \
		FRESH | KERNEL | SERIES | CLIPPY | KRUSTFLAGS | SOURCE_DATE_EPOCH | TZ | \
		ROVL_* | CARGO_* | QEMU_* | \
		http_proxy | https_proxy | ftp_proxy | all_proxy | no_proxy | \
		HTTP_PROXY | HTTPS_PROXY | FTP_PROXY | ALL_PROXY | NO_PROXY)
			env+=("$name=${!name}") ;;
		esac
	done
	env+=(CARGO_HOME="$cache/cargo")
	mkdir -p "$cache/home" "$cache/cargo"

	# The first process of a PID namespace gets no signal that it has no
	# handler for; and when it ends, all the others are killed.
	# shellcheck disable=SC2016 # for the inner shell
	exec chroot "$tree" /usr/bin/env -i "${env[@]}" /bin/bash -c '
		trap "exit 130" INT
		trap "exit 143" TERM HUP
		cd "$1" 2>/dev/null || cd /
		shift
		"$@"
		exit $?' rovl "$cwd" "$@"
}

cmd_run() {
	[[ ${1:-} != -- ]] || shift
	(($#)) || die "run what?"
	if [[ ${ROVL_IN_TREE:-} ]]; then
		exec "$@"
	fi
	if [[ ${ROVL_TREE:-} ]]; then
		cmd_packaging
	else
		cmd_tree
	fi
	local pid rc
	# A child that this shell does not wait for in the foreground, so that
	# a signal to this shell alone is acted on at once; it gets back what
	# a background child has taken away, the terminal and the interrupt.
	local flags=(--mount --pid --fork --kill-child)
	((EUID == 0)) || flags+=(--user --map-auto --map-root-user)
	# If this shell is killed outright, what it runs is killed too.
	env --default-signal=INT,QUIT setpriv --pdeathsig KILL \
		unshare "${flags[@]}" "$BASH" "$self" __enter "$@" <&0 &
	pid=$!
	trap : INT
	# shellcheck disable=SC2064 # the value of now is meant
	trap "kill -KILL $pid 2>/dev/null" TERM HUP
	while :; do
		rc=0
		wait "$pid" 2>/dev/null || rc=$?
		kill -0 "$pid" 2>/dev/null || break
	done
	exit "$rc"
}

# --- the stock kernel ------------------------------------------------------

# Sets release, version and kdir from what was resolved.
resolved() {
	local f="$cache/kernel-$SERIES"
	[[ -e $f ]] || return 1
	read -r release version <"$f"
	kdir="$cache/kernel/${version//[~+]/_}"
}

resolve() {
	local pkg found
	in_tree apt-get -q update || return
	pkg=$(in_tree apt-cache pkgnames "linux-image-$SERIES" |
		grep -xE "linux-image-${SERIES//./\\.}(\.[0-9]+)?${ABI//+/\\+}" |
		sort -V | tail -n 1) || :
	if [[ -z $pkg ]]; then
		echo "no stock kernel $SERIES.x in $SUITE-backports: the archive" \
		     "has moved on, and this version of rovl supports ${SUPPORTED[*]} only"
		return 1
	fi
	found=$(in_tree apt-cache show --no-all-versions \
		-o "APT::Default-Release=$SUITE-backports" "$pkg" |
		sed -n 's/^Version: //p' | head -n 1)
	echo "newest: $pkg $found"
	echo "${pkg#linux-image-} $found" >"$cache/kernel-$SERIES.partial"
	mv "$cache/kernel-$SERIES.partial" "$cache/kernel-$SERIES"
}

cmd_update_kernel() {
	cmd_tree
	lock resolve
	task "looking for the newest stock kernel of the $SERIES series" \
		"$cache/log/resolve.log" resolve
	unlock
	resolved
	say "  it is $release ($version)"
}

# The package linux-image-* is only the sum of these.
stock_packages() {
	printf '%s\n' "linux-binary-$release" "linux-base-$release" \
		"linux-modules-$release" "linux-headers-$release" \
		"linux-source-$SERIES"
}

deb() { echo "$cache/deb/$1_${version//[~+]/_}.deb"; }

fetch_debs() {
	local p missing=() partial="$cache/deb/partial"
	for p in "$@"; do
		[[ -e $(deb "$p") ]] || missing+=("$p=$version")
	done
	((${#missing[@]})) || return 0
	mkdir -p "$partial"
	# apt resumes a file that is there in part
	(cd "$partial" && in_tree apt-get -q download "${missing[@]}") || {
		in_tree apt-get -q update
		(cd "$partial" && in_tree apt-get -q download "${missing[@]}")
	} || {
		echo "If the archive has a newer kernel by now: make update-kernel"
		return 1
	}
	for p in "$@"; do
		[[ -e $(deb "$p") ]] || mv "$partial/${p}_"*.deb "$(deb "$p")"
	done
}

unpack_image() {
	local root="$kdir/image" p
	rm -rf "$root.partial"
	mkdir -p "$root.partial"
	for p in binary base modules; do
		in_tree dpkg-deb -x "$(deb "linux-$p-$release")" "$root.partial" ||
			return
	done
	# one place, whether the packages have a merged /usr or not
	[[ -e $root.partial/lib ]] || ln -s usr/lib "$root.partial/lib"
	in_tree depmod -b "$root.partial" "$release" || return
	mv "$root.partial" "$root"
}

unpack_source() {
	rm -rf "$kdir/source.deb"
	mkdir -p "$kdir/source.deb"
	in_tree dpkg-deb -x "$(deb "linux-source-$SERIES")" "$kdir/source.deb" ||
		return
	in_tree "$top/tools/rust-metadata" unpack \
		"$kdir/source.deb/usr/src/linux-source-$SERIES.tar.xz" "$kdir/source" ||
		return
	rm -rf "$kdir/source.deb"
}

# Debian's headers have no Rust metadata; see tools/rust-metadata.
build_stock() {
	local build="$kdir/stock" headers="$kdir/headers"
	rm -rf "$headers"
	mkdir -p "$headers"
	in_tree dpkg-deb -x "$(deb "linux-headers-$release")" "$headers" || return
	in_tree "$top/tools/rust-metadata" build "$kdir/source" \
		"$headers/usr/src/linux-headers-$release" "$build" || return
	rm -rf "$headers"
	touch "$build/.rovl-done"
}

fetch_kernel() {
	cmd_tree
	resolved || cmd_update_kernel
	resolved
	mkdir -p "$kdir" "$cache/deb"
	lock kernel
	if [[ ! -e $kdir/source ]]; then
		task "fetching the source of Linux $version (165 MB)" \
			"$cache/log/fetch-source.log" fetch_debs "linux-source-$SERIES"
		task "unpacking the source (1.8 GB, about 30 s)" \
			"$cache/log/unpack.log" unpack_source
	fi
}

cmd_kernel_stock() {
	local p
	if resolved && [[ -e $kdir/stock/.rovl-done && -e $kdir/image ]]; then
		return
	fi
	fetch_kernel
	if [[ ! -e $kdir/image ]]; then
		mapfile -t p < <(stock_packages)
		task "fetching the stock kernel $release, image, modules and headers (125 MB)" \
			"$cache/log/fetch-stock.log" fetch_debs "${p[@]}"
		task "unpacking image and modules (about 15 s)" \
			"$cache/log/image.log" unpack_image
	fi
	[[ -e $kdir/stock/.rovl-done ]] ||
	task "preparing the stock kernel for Rust modules (about 2 min on 2 cores)" \
		"$cache/log/stock.log" build_stock
	say "stock kernel $release is ready"
}

# --- the debug kernel ------------------------------------------------------

debug_dir() {
	local key
	key=$({ echo "$DEBUG_FORMAT"; tree_dir
		grep -E '^(# )?CONFIG_' "$top/selftests/debug.config"; } | sha256sum)
	echo "$kdir/debug-${key:0:12}"
}

check_config() {
	local line bad=0
	while read -r line; do
		case $line in
		CONFIG_*=* | '# CONFIG_'*' is not set')
			grep -qxF -- "$line" "$1" && continue
			# "not set" is also said by saying nothing
			[[ $line = '#'* ]] &&
				! grep -q "^${line:2:${#line}-13}=" "$1" && continue
			echo "the debug kernel's configuration has no \"$line\"" \
			     "(it has: $(grep -w "$(grep -o 'CONFIG_[A-Z0-9_]*' \
				<<<"$line")" "$1" || echo nothing))"
			bad=1 ;;
		esac
	done <"$top/selftests/debug.config"
	return "$bad"
}

config_debug() {
	local build=$1
	mkdir -p "$build"
	in_tree make -C "$kdir/source" O="$build" LLVM=1 LOCALVERSION= \
		KCONFIG_ALLCONFIG="$top/selftests/debug.config" allnoconfig &&
	check_config "$build/.config"
}

build_debug() {
	local build=$1 jobs
	jobs=$(nproc)
	[[ -e $build/.config ]] && check_config "$build/.config" >/dev/null ||
		config_debug "$build" || return
	in_tree make -C "$kdir/source" O="$build" LLVM=1 LOCALVERSION= \
		-j"$jobs" bzImage modules || return
	[[ -s $build/Module.symvers ]] || return
	touch "$build/.rovl-done"
}

cmd_kernel_debug() {
	local build
	if resolved; then
		build=$(debug_dir)
		[[ ! -e $build/.rovl-done ]] || return 0
	fi
	fetch_kernel
	unlock
	build=$(debug_dir)
	lock debug
	[[ ! -e $build/.rovl-done ]] || return 0
	task "building the debug kernel (1 GB on disk, about 10 min on 2 cores)" \
		"$cache/log/debug.log" build_debug "$build"
	say "debug kernel $(cat "$build/include/config/kernel.release") is ready"
}

# --- the module ------------------------------------------------------------

# Prints the first source that is newer than FILE.
newer_than() {
	find "$top" \( -path "$top/build" -o -path "$top/selftests" \
		-o -path "$top/tools" -o -name '.*' -o -name target \) -prune \
		-o -type f \( -name '*.rs' -o -name '*.[ch]' -o -name Kbuild \
		-o -name bindgen_parameters \) -newer "$1" -print -quit
}

# compile_case BUILD OUT CASE ARGS: compile the crate, with CASE as one more of
# its modules.
compile_case() {
	local build=$1 out=$2 case=$3
	shift 3
	[[ -f $case ]] || die "no such case: $case"
	case=$(realpath "$case")
	mkdir -p "$out"
	exec {lock_fd}>"$out.lock"
	flock "$lock_fd"
	in_tree rsync -a --delete-excluded --prune-empty-dirs \
		--filter='P *.o' --filter='P .*' --filter='P bindings_generated.rs' \
		--filter='P modules.order' --filter='P Module.symvers' \
		--exclude='.*' --exclude=/build/ --exclude=/selftests/ \
		--exclude=/tools/ --exclude=/Documentation/ \
		--include='*/' --include='/vfs/***' --include='*.rs' \
		--include=Kbuild --exclude='*' \
		"$top/" "$out/"
	printf '#[path = "%s"]\nmod compile_fail_case;\n' "$case" \
		>>"$out/rust_overlay.rs"
	in_tree make "$@" M="$out" rust_overlay.o
}

# module_dir KERNEL [PURPOSE]: where it is built.
module_dir() {
	local series=
	[[ $SERIES = "${SUPPORTED[0]}" ]] || series=-$SERIES
	echo "$top/build/$1$series${2:+-$2}"
}

# build KERNEL [pause|clippy|doc|compile_fail CASE]: the objects of each kernel and purpose have a
# directory of their own and do not mix with each other.
cmd_build() {
	local kernel=${1:-stock} what=${2:-} out args build key
	out=$(module_dir "$kernel" "$what")
	resolved || die "no kernel yet: run tools/env.sh kernel $kernel"
	build=$(cmd_path "$kernel/build")
	[[ -e $build/.rovl-done ]] ||
		die "no such kernel yet: run tools/env.sh kernel $kernel"
	args=(--no-print-directory -C "$build" -j"$(nproc)" V="${V:-}"
	      CONFIG_DEBUG_INFO_BTF_MODULES=)
	[[ $kernel = debug ]] && args+=(LLVM=1 ROVL_DEBUG=1)
	case $what in
	'') ;;
	pause) args+=(ROVL_DEBUG=1) ;;
	clippy) args+=(CLIPPY=1 KRUSTFLAGS=-Dwarnings) ;;
	doc) args+=(ROVL_DOC=1) ;;
	compile_fail)
		compile_case "$build" "$out" "${3:-}" "${args[@]}"
		return ;;
	*) die "build what? $what" ;;
	esac
	args+=(M="$top" MO="$out")

	[[ ! -e $top/modules.order ]] ||
		die "objects of another build lie among the sources: run make clean KDIR=..."
	mkdir -p "$out"
	exec {lock_fd}>"$out/.lock"
	flock "$lock_fd"
	key="${args[*]}"
	if [[ -e $out/rovl.ko && $(cat "$out/.built" 2>/dev/null) = "$key" &&
	      -z $(newer_than "$out/.built") ]]; then
		say "build/${out##*/}/rovl.ko is up to date"
		return
	fi
	# another kernel, other flags: nothing of the old can be used
	if [[ $(cat "$out/.key" 2>/dev/null) != "$key" ]]; then
		find "$out" -mindepth 1 ! -name .lock -delete
		echo "$key" >"$out/.key"
	fi
	# what is changed during the build is newer than the build
	local start
	start=$(date +%s.%N)
	rm -f "$out/.built"
	in_tree make "${args[@]}" modules || exit 1
	echo "$key" >"$out/.built"
	touch -d "@$start" "$out/.built"
	say "built build/${out##*/}/rovl.ko"
}

# --- questions -------------------------------------------------------------

cmd_path() {
	local what=${1:-} build
	case $what in
	tree) tree_dir; return ;;
	stock/rovl.ko | debug/rovl.ko)
		echo "$(module_dir "${what%/*}" "${2:-}")/rovl.ko"
		return ;;
	esac
	resolved || die "no kernel yet: run tools/env.sh kernel stock"
	case $what in
	source) echo "$kdir/source" ;;
	stock | stock/build) echo "$kdir/stock" ;;
	stock/vmlinuz) echo "$kdir/image/boot/vmlinuz-$release" ;;
	stock/config) echo "$kdir/image/boot/config-$release" ;;
	stock/System.map) echo "$kdir/image/boot/System.map-$release" ;;
	stock/modules) echo "$kdir/image/lib/modules/$release" ;;
	debug | debug/*)
		build=$(debug_dir)
		case ${what#debug} in
		'' | /build) echo "$build" ;;
		/vmlinuz) echo "$build/arch/x86/boot/bzImage" ;;
		/config) echo "$build/.config" ;;
		/System.map) echo "$build/System.map" ;;
		/modules) ;;  # it has none
		*) die "no such path: $what" ;;
		esac ;;
	*) die "no such path: $what" ;;
	esac
}

cmd_release() {
	local build
	build=$(cmd_path "${1:-stock}/build")
	cat "$build/include/config/kernel.release"
}

cmd_status() {
	if [[ ! -d $cache ]]; then
		say "nothing in $cache yet"
		return
	fi
	# What is not there yet is no error.
	{ own_userns du -sh "$cache"/tree/* "$cache"/kernel/*/* "$cache"/* 2>/dev/null || :; } |
		sort -k 2
}

cmd_prune() {
	local f keep
	keep=" $(tree_dir) $(packaging_dir) "
	for SERIES in "${SUPPORTED[@]}"; do
		resolved || continue
		keep+="$kdir $(debug_dir) $kdir/source $kdir/stock $kdir/image "
	done
	for f in "$cache"/tree/* "$cache"/kernel/* "$cache"/kernel/*/*; do
		[[ -e $f && $keep != *" $f "* ]] || continue
		say "removing $f"
		rm_tree "$f"
	done
	rm -rf "$cache/deb"
}

cmd_remove_cache() {
	local answer=
	[[ -d $cache ]] || return 0
	cmd_status || :
	printf 'rovl: remove %s, which all checkouts share? [y/N] ' "$cache" >&2
	read -r answer || :
	[[ $answer = [yY]* ]] || die "the cache stays"
	rm_tree "$cache"
}

# --- main ------------------------------------------------------------------

main() {
	local cmd=${1:-}
	[[ $# -eq 0 ]] || shift
	[[ $HOSTTYPE = x86_64 ]] ||
		die "rovl's environment is for x86_64 machines; this one is $HOSTTYPE"
	[[ " ${SUPPORTED[*]} " = *" $SERIES "* ]] ||
		die "rovl supports the kernel series ${SUPPORTED[*]}, not $SERIES"
	case $cmd in
	host) cmd_host "$@" ;;
	tree) cmd_tree ;;
	kernel)
		case ${1:-stock} in
		stock) cmd_kernel_stock ;;
		debug) cmd_kernel_debug ;;
		*) die "no such kernel: $1 (stock or debug)" ;;
		esac ;;
	update-kernel) cmd_update_kernel ;;
	build) cmd_build "$@" ;;
	run) cmd_run "$@" ;;
	shell) cmd_run /bin/bash -i ;;
	path) cmd_path "$@" ;;
	release) cmd_release "$@" ;;
	version)
		resolved || die "no kernel yet: run tools/env.sh kernel stock"
		echo "$version" ;;
	series) printf '%s\n' "${SUPPORTED[@]}" ;;
	status) cmd_status ;;
	prune) cmd_prune ;;
	remove-cache) cmd_remove_cache ;;
	__enter) enter "$@" ;;
	help | -h | --help) usage ;;
	*) usage >&2; exit 2 ;;
	esac
}

# in one line: a script that changes while it runs is read no further
main "$@"; exit
