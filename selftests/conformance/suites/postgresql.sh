# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# PostgreSQL on a database of the lower layer, which was not shut down: it recovers on the
# stack, gets a load, and is killed in the middle of it, twice.

PATH=$PATH:/usr/lib/postgresql/17/bin

as() { (cd / && runuser -u postgres -- env PATH="$PATH" "$@"); }
server() { as pg_ctl -D "$1/data" -l /tmp/postgresql.log -w -t 300 "${@:2}"; }
start() {
	server "$1" -o '-k /tmp -c listen_addresses= -c max_wal_size=128MB
		-c checkpoint_timeout=30s -c fsync=on' start ||
		{ tail -n 5 /tmp/postgresql.log; return 1; }
}
sql() { as psql -h /tmp -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

fill_lower() {
	local made=$SCRATCH/database
	if [[ ! -d $made ]]; then
		touch /tmp/postgresql.log && chown postgres /tmp/postgresql.log &&
		mkdir $made && chown postgres $made &&
		as initdb -D $made/data --data-checksums --no-sync -A trust -E UTF8 \
			--locale=C &&
		start $made &&
		as pgbench -h /tmp -i -s 2 -q postgres &&
		sql -c 'CREATE EXTENSION amcheck' postgres &&
		as pgbench -h /tmp -n -c 2 -t 50 postgres &&
		server $made -m immediate stop || return
	fi
	cp -a $made/data "$1/data"
}

# Every transaction adds the same sum to an account, a teller and a branch.
sums() {
	local said
	said=$(sql -c 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) =
			(SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(bbalance) FROM pgbench_branches) =
			(SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(delta) FROM pgbench_history) =
			(SELECT sum(bbalance) FROM pgbench_branches),
		(SELECT count(*) FROM pgbench_accounts)' postgres)
	[[ $said = 't|t|t|200000' ]] || { echo "$said"; return 1; }
}

structure() { as pg_amcheck -h /tmp --heapallindexed --parent-check postgres; }

# Kills all the processes of the server in the middle of a load.
killed() {
	local postmaster load
	postmaster=$(head -n 1 "$HERE/data/postmaster.pid")
	as pgbench -h /tmp -n -c 3 -T 60 postgres >/tmp/pgbench.log 2>&1 &
	load=$!
	sleep 8
	local committed
	committed=$(sql -c 'SELECT count(*) FROM pgbench_history' postgres) || return
	kill -KILL "$postmaster" $(pgrep -P "$postmaster")
	wait $load
	while pgrep -u postgres -x postgres >/dev/null; do sleep 0.2; done
	start "$HERE" || return
	# what was committed before is there
	(($(sql -c 'SELECT count(*) FROM pgbench_history' postgres) >= committed))
}

run() {
	local turn
	check recovery start "$HERE"
	check recovery.sums sums
	check recovery.structure structure
	check load as pgbench -h /tmp -n -c 3 -t 200 postgres
	for turn in 1 2; do
		check "killed_$turn" killed
		check "killed_$turn.sums" sums
		check "killed_$turn.structure" structure
	done
	check vacuum sql -c 'VACUUM FULL' postgres
	check vacuum.sums sums
	check tablespace sql -c 'CREATE DATABASE other TEMPLATE template0 STRATEGY file_copy' postgres
	check drop sql -c 'DROP DATABASE other' postgres
	check stop server "$HERE" -m fast stop
	check checksums as pg_checksums -D "$HERE/data" --check
}

clean() {
	pkill -KILL -u postgres
	while pgrep -u postgres >/dev/null; do sleep 0.2; done
}
