# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# apt and dpkg, without a network, install and remove more than a hundred packages in a
# Debian system that is the lower layer: the guest's own, read-only.

DEBS=/var/cache/rovl-debs
LOWER=/mnt/debian

fill_lower() {
	if ! mountpoint -q $LOWER; then
		mkdir -p $LOWER && mount -t erofs -o ro /dev/rovl/root $LOWER || return
	fi
	[[ $KIND = bare ]] || return 0
	# what no package that is installed here has to do with
	tar -C $LOWER -c --exclude='./usr/lib/x86_64-linux-gnu/libLLVM*' \
		--exclude=./usr/lib/llvm-19 --exclude=./usr/lib/postgresql \
		--exclude=./usr/lib/gcc --exclude=./var/lib/postgresql . | tar -C "$1" -x
}

inside() { chroot "$HERE" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
apt() {
	inside apt-get -y -q -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 \
		-o APT::Install-Recommends=0 "$@"
}
names() { for deb in "$HERE$DEBS"/*.deb; do name=${deb##*/}; echo "${name%%_*}"; done; }
debs() { (cd "$HERE" && ls ".$DEBS"/*.deb | sed 's/^\.//'); }
installed() { inside dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n'; }
listing() {
	(cd "$HERE" && find usr/bin usr/sbin usr/share/perl5 usr/share/doc etc var/lib/dpkg/info \
		-printf '%p %y %m %U %G %l\n' | LC_ALL=C sort)
}

run() {
	local count
	mount --bind /dev dev && mount -t proc none proc
	count=$(names | wc -l)
	result more_than_a_hundred "$( ((count > 100)) && echo ok || echo fail)" "$count packages"
	# shellcheck disable=SC2046 # words
	check apt.install apt install $(debs)
	same apt.installed installed
	same apt.tree listing
	check apt.audit inside dpkg --audit
	check apt.verify inside dpkg --verify libcatalyst-perl bc
	check perl inside perl -MCatalyst -e 'print "$Catalyst::VERSION\n"'
	# shellcheck disable=SC2046
	check apt.purge apt purge $(names)
	same apt.purged installed
	same apt.purged.tree listing
	# shellcheck disable=SC2046
	check dpkg.install inside dpkg -i $(debs)
	same dpkg.installed installed
	same dpkg.tree listing
	check dpkg.audit inside dpkg --audit
	# shellcheck disable=SC2046
	check dpkg.remove inside dpkg -r $(names)
	# shellcheck disable=SC2046
	check dpkg.purge inside dpkg -P $(names)
	same dpkg.purged installed
	same dpkg.purged.tree listing
}

clean() { umount "$HERE/proc" "$HERE/dev"; }
