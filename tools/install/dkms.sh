#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The life of rovl-dkms on a machine, in a chroot: the compiler takes as long there as
# anywhere, and in a virtual machine without KVM twenty times that.
# OLD and NEW are two kernels.

. /repo/common.sh

module() { find "/usr/lib/modules/$1/updates/dkms" -name 'rovl.ko*' 2>/dev/null || :; }
use_archive
# The initramfs is looked at in the virtual machine.
echo 'update_initramfs=no' >/etc/initramfs-tools/update-initramfs.conf

title "A machine with $OLD and its headers, and what dkms itself brings"
how=(--no-install-recommends)
install "linux-image-$OLD" "linux-headers-$OLD" dkms openssl

title "Install, with the source of another series: passed over, and told why"
install "linux-source-${NEW%.[0-9]*}" /repo/rovl/rovl-dkms_*.deb 2>&1 | tee /tmp/said
same "$(module "$OLD")" ""
[ "$(grep -c "^rovl cannot be built for Linux $OLD: it takes the package" /tmp/said)" = 1 ] ||
	fail "not said, or more than once"
must_fail grep -i 'error' /tmp/said
x dkms status
must_fail test -e /var/cache/rovl-dkms

title "With the source of this one"
install "linux-source-${OLD%.[0-9]*}"
x dkms autoinstall -k "$OLD" || { cat /var/lib/dkms/rovl/*/build/make.log; fail "not built"; }
x dkms status
[ -n "$(module "$OLD")" ] || fail "no module"
x modinfo -k "$OLD" rovl
same "$(modinfo -k "$OLD" -F vermagic rovl | cut -d' ' -f 1)" "$OLD"
[ -n "$(modinfo -k "$OLD" -F signer rovl)" ] || fail "the module is not signed"
x du -sh /var/cache/rovl-dkms

title "Upgrade: a new module, with the metadata that is there"
touch /tmp/stamp
install /repo/newer/rovl-dkms_*.deb /repo/newer/rovl-tools_*.deb
x dkms status
[ -n "$(module "$OLD")" ] || fail "no module"
[ "$(module "$OLD")" -nt /tmp/stamp ] || fail "the old module"
[ ! "/var/cache/rovl-dkms/$OLD/key" -nt /tmp/stamp ] || fail "the metadata was made again"

title "A new kernel"
if [ "$QUICK" = yes ]; then
	# without the two minutes for the metadata
	x apt-get -q -y purge "linux-source-${NEW%.[0-9]*}"
	install "linux-image-$NEW" "linux-headers-$NEW" 2>&1 | tee /tmp/said
	[ "$(grep -c "^rovl cannot be built for Linux $NEW: " /tmp/said)" -ge 1 ] || fail "not said"
else
	install "linux-image-$NEW" "linux-headers-$NEW"
	[ -n "$(module "$NEW")" ] || { cat /var/lib/dkms/rovl/*/build/make.log; fail "no module"; }
fi
x dkms status

title "The old one goes, and what was made for it"
x apt-get -q -y purge "linux-image-$OLD" "linux-base-$OLD" "linux-binary-$OLD" "linux-modules-$OLD" "linux-headers-$OLD"
same "$(module "$OLD")" ""
must_fail test -e "/var/cache/rovl-dkms/$OLD"
x dkms status

title "Remove, purge"
x apt-get -q -y remove rovl-dkms rovl-tools
same "$(module "$NEW")" ""
must_fail test -e /var/cache/rovl-dkms
must_fail modinfo -k "$NEW" rovl
must_fail test -e /var/lib/dkms/rovl
x apt-get -q -y purge rovl-dkms rovl-tools
x apt-get -q -y autoremove --purge
more=$(find / -xdev -name '*rovl*' ! -path '/repo/*' ! -path "$STATE*" ! -path '/var/log/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*')
[ -z "$more" ] || fail "left behind: $more"
title "all as it should be"
