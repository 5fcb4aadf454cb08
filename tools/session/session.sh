#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What a person does to a Debian system in a morning, as root of it.  The same script
# runs on a plain file system, and the trees are compared afterwards: so it does the
# same each time, but for times.

set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022
cd /root

title() { printf '\n# %s\n' "$*"; }
show() { printf '%.120s\n' "$*"; }
x() { show "\$ $*"; "$@"; }
# to FILE CMD...: as x, with the output in FILE
to() { local file=$1; shift; show "\$ $* >$file"; "$@" >"$file"; }
# dpkg without its progress
deb() {
	show "\$ dpkg $*"
	dpkg --no-pager "$@" 2>&1 | tr '\r' '\n' |
		grep -v -e '^(Reading' -e '^Preparing' -e '^Selecting' || [ "${PIPESTATUS[0]}" = 0 ]
}
must_fail() { show "\$ ! $*"; if "$@" 2>/dev/null; then echo "that should have failed"; exit 1; fi; }
same() { [ "$1" = "$2" ] || { echo "expected \"$2\", got \"$1\""; exit 1; }; }

title "Debian packages"
debs=/var/cache/rovl-debs
deb --install $debs/*.deb
same "$(echo '2^100' | bc)" 1267650600228229401496703205376
same "$(hello)" "Hello, world!"
to /root/tree.txt tree -a --noreport --charset=ascii /etc/default
deb --remove hello
must_fail test -e /usr/bin/hello
deb --purge sl
deb --install $debs/hello_*.deb
deb --audit
deb --verify hello bc

title "Users and configuration"
x sed -i 's/^# *en_US/en_US/; $a # edited' /etc/login.defs
x sed -i 's/^PRETTY_NAME=.*/PRETTY_NAME="Debian, stacked"/' /usr/lib/os-release
same "$(. /etc/os-release; echo "$PRETTY_NAME")" "Debian, stacked"
x useradd --create-home --shell /bin/bash --uid 1234 alice
x chage --lastday 2026-01-01 alice
x sed -i 's,^alice:[^:]*:,alice:*:,' /etc/shadow
echo 'alias ll="ls -l"' >>/home/alice/.bashrc
x su alice --command 'echo mine >~/mine && ! touch /etc/mine 2>/dev/null'
x chown --recursive alice:alice /usr/share/zoneinfo/Europe /usr/share/perl5
x chmod --recursive g+w,o-rx /usr/share/perl5
x chgrp --no-dereference mail /etc/localtime

title "Deleting what came with the system"
x rm -r /usr/share/doc
must_fail ls /usr/share/doc
x mkdir /usr/share/doc
same "$(ls -A /usr/share/doc)" ""
x mkdir /usr/share/doc/bash
echo "new file in a new directory" >/usr/share/doc/bash/copyright
x rm /etc/motd
x mkdir -p /etc/motd/was-a-file
x rm -r /etc/skel
echo "was a directory" >/etc/skel
x rm -r /usr/share/bash-completion/completions
x ln -s ../zoneinfo /usr/share/bash-completion/completions
must_fail rmdir /usr/share/zoneinfo
x rm -r /etc/systemd && x mkdir -m 2750 /etc/systemd && x rmdir /etc/systemd

title "A C program"
mkdir -p /usr/local/src/prog
cd /usr/local/src/prog
cat >main.c <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int twice(int);

/* Changes the first byte of a file that comes from a lower layer, through a shared
 * mapping, while a reader has it open from before. */
int main(int argc, char **argv)
{
	char path[64], before, after;
	int reader = open(argv[1], O_RDONLY);
	int writer = open(argv[1], O_RDWR);
	char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);

	if (reader < 0 || writer < 0 || map == MAP_FAILED)
		return 1;
	if (pread(reader, &before, 1, 0) != 1)
		return 2;
	map[0] = '%';
	if (msync(map, 4096, MS_SYNC) || pread(reader, &after, 1, 0) != 1)
		return 3;
	if (after != '%' || before == '%')
		return 4;

	/* A file that has no name until it is complete. */
	int file = open(".", O_TMPFILE | O_RDWR, 0640);
	if (file < 0 || write(file, "complete\n", 9) != 9)
		return 5;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (linkat(AT_FDCWD, path, AT_FDCWD, "tmpfile", AT_SYMLINK_FOLLOW))
		return 6;
	if (ftruncate(writer, 1000) || fallocate(file, 0, 0, 10000))
		return 7;
	printf("%d\n", twice(21));
	return 0;
}
END
echo 'int twice(int n) { return n + n; }' >twice.c
printf 'prog: main.o twice.o\n\t$(CC) -o $@ $^\nclean:\n\trm -f *.o prog\n' >Makefile
x make -s prog
same "$(./prog /etc/mke2fs.conf)" 42
same "$(stat -c %s /etc/mke2fs.conf)" 1000
x install -m 4755 prog /usr/local/bin/prog
x make -s clean

title "Archives"
mkdir /srv/a /srv/b /srv/c /srv/d
cd /srv
x tar -C / -czf etc.tar.gz --sort=name etc usr/share/perl5
x tar -xzpf etc.tar.gz -C a
x rm etc.tar.gz
x sh -c 'cd /usr/share/zoneinfo && zip -qryX /srv/zone.zip Europe America/Argentina'
x unzip -qX -d b zone.zip
x rm zone.zip
x sh -c 'cd /etc && find default pam.d -depth | cpio -o --quiet >/srv/etc.cpio'
x sh -c 'cd c && cpio -id --quiet <../etc.cpio && rm ../etc.cpio'
x rsync -aHAX /usr/share/perl5/ d/perl5
x diff -r /usr/share/perl5 d/perl5
x xz -k /usr/local/src/prog/main.c
x sh -c 'xzcat /usr/local/src/prog/main.c.xz | cmp - /usr/local/src/prog/main.c'

title "Hard links"
cd /srv
x ln /usr/share/common-licenses/GPL-3 gpl
same "$(stat -c %h gpl)" 2
echo "appended" >>gpl
same "$(tail -n 1 /usr/share/common-licenses/GPL-3)" appended
x ln gpl gpl2 && x ln gpl gpl3 && x rm gpl2
x mv gpl3 a/gpl
x ln -P /etc/os-release link-to-a-link
same "$(stat -c %i gpl)" "$(stat -c %i a/gpl)"

title "Renames"
x mv /etc/issue /etc/issue.old
x mv /etc/issue.net /etc/issue
x mv --no-clobber a/etc /srv/etc-moved
x mv /usr/share/keyrings /usr/share/keys
x mv /usr/share/keys /srv/keys
x mv d/perl5 /usr/share/perl5/again
x mv --exchange --no-copy /etc/passwd- /etc/group-
x mkdir -p e/one/two f
x mv -T e/one f
must_fail mv -T c f/two/three/four
x mv /usr/share/common-licenses/BSD "name with
newline and $(printf '\001') control"

title "Everything else a directory can hold"
mkdir special
cd special
x ln -s dangling link
x ln -s "$(printf 'x%.0s' {1..200})" long-link
x mkfifo -m 600 fifo
x mknod -m 640 null c 1 3
x mknod -m 660 disk b 7 0
x truncate -s 10M sparse
x dd if=/dev/zero of=sparse bs=4k count=1 seek=1000 conv=notrunc status=none
x setfattr -n user.colour -v blue sparse
x setfattr -n trusted.secret -v value sparse
x setfattr -n user.colour -v green /etc/host.conf
x setfacl -m u:alice:rwx,d:g:mail:r-x .
x setfacl -m u:alice:r /etc/shadow
touch inherits
x touch -d '2020-02-02 02:02:02' /etc/host.conf sparse
x touch -h -d '2021-01-01' link
x chown -h alice:mail link
x cp -a /etc/alternatives alternatives
x cp --reflink=auto /usr/bin/dpkg dpkg
x cmp /usr/bin/dpkg dpkg
for i in $(seq 300); do echo "$i" >"many-$i"; done
x rm many-1??
same "$(ls many-* | wc -l)" 200
cd ..
x find special -name 'many-*5' -delete
same "$(find /usr/share/zoneinfo/Europe ! -user alice | wc -l)" 0
x sync
echo
echo "the session is over"
