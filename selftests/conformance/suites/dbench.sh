# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# dbench's file server load, in a directory of the lower layer.

fill_lower() { mkdir "$1/clients"; }

run() {
	local clients
	for clients in 1 4; do
		check "clients_$clients" dbench -c /usr/share/dbench/client.txt \
			-t 15 -D "$HERE/clients" "$clients"
	done
	check "synchronous" dbench -s -S -c /usr/share/dbench/client.txt \
		-t 15 -D "$HERE/clients" 2
}
