# SPDX-License-Identifier: GPL-2.0
#
# What the jobs of `make check-packages` have in common; bash. /repo has the packages
# as an archive for apt, /repo/rovl and /repo/newer two versions of rovl's own.

set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
STATE=/var/lib/package-check

title() { printf '\n== %s\n' "$*"; }
x() { printf '$ %s\n' "$*"; "$@"; }
fail() { echo "FAILED: $*"; exit 1; }
must_fail() { printf '$ ! %s\n' "$*"; if "$@"; then fail "that should have failed"; fi; }
same() { [ "$1" = "$2" ] || fail "expected \"$2\", got \"$1\""; }

# As a user has it: apt with an archive, which is a directory here.
use_archive() {
	echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list
	rm -f /etc/apt/sources.list.d/*
	apt_get update
}
# A terminal would get a line for each percent.
apt_get() {
	x apt-get -q -y -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 "$@" </dev/null 2>&1 | cat
}
install() { apt_get "${how[@]}" install "$@"; }
how=()

# All names of the system but those that any installation changes.
names() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /repo \
		-o -path /tmp -o -path /root -o -path /var/log -o -path /var/cache/apt -o -path /var/lib/apt \
		-o -path /var/cache/ldconfig -o -path /var/cache/debconf -o -path /var/lib/dpkg \
		-o -path '/vmlinuz*' -o -path '/initrd.img*' -o -path $STATE -o -path /job -o -path /out \) -prune \
		-o ! -name 'modules.*' ! -path '/var/lib/initramfs-tools*' -print | LC_ALL=C sort
}
remember() { mkdir -p $STATE; names >$STATE/"$1"; }

# nothing_left NAME: the system has the names that it had.
nothing_left() {
	names >/tmp/now
	local more
	more=$(LC_ALL=C comm -13 $STATE/"$1" /tmp/now)
	[ -z "$more" ] || fail "left behind: $more"
	more=$(dpkg-query --show --showformat='${Package} ${db:Status-Abbrev}\n' 'rovl*' 2>/dev/null |
		grep -v ' un ' || :)
	[ -z "$more" ] || fail "dpkg still knows: $more"
	more=$(find /var/lib/dpkg/info /etc -name '*rovl*' || :)
	[ -z "$more" ] || fail "left behind: $more"
	echo "nothing is left"
}
