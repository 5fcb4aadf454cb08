# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# SQLite on databases of the lower layer, in each of its journal modes: a load, writers
# beside each other, and writers that are killed.  Money goes from account to account;
# there is always as much of it.

MODES=(delete truncate persist wal mmap)
ACCOUNTS=1000

# journal MODE: statements that every connection begins with
journal() {
	echo '.timeout 60000'
	if [[ $1 = mmap ]]; then
		echo 'PRAGMA mmap_size = 67108864; PRAGMA journal_mode = wal;'
	else
		echo "PRAGMA journal_mode = $1;"
	fi
}

fill_lower() {
	local mode
	for mode in "${MODES[@]}"; do
		{
			journal "$mode"
			echo "CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER, note TEXT);
			CREATE INDEX by_money ON account (money);
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT $ACCOUNTS)
			INSERT INTO account SELECT i, 1000, hex(zeroblob(200)) FROM n;"
		} | sqlite3 -bail "$1/$mode.db" || return
	done
}

# transfers SEED NUMBER: so many transactions
transfers() {
	awk -v seed="$1" -v number="$2" -v accounts=$ACCOUNTS 'BEGIN {
		srand(seed)
		for (i = 0; i < number; i++) {
			from = int(rand() * accounts) + 1
			to = int(rand() * accounts) + 1
			sum = int(rand() * 50)
			print "BEGIN IMMEDIATE;"
			print "UPDATE account SET money = money - " sum " WHERE id = " from ";"
			print "UPDATE account SET money = money + " sum ", note = hex(randomblob(" sum ")) WHERE id = " to ";"
			print "COMMIT;"
		}
	}'
}

# load MODE SEED NUMBER
load() {
	{ journal "$1"; transfers "$2" "$3"; } | sqlite3 -bail "$1.db"
}

beside() {
	local pids=() pid status=0 seed
	for seed in 11 12 13; do
		load "$1" $seed 60 >/dev/null &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || status=1
	done
	return $status
}

# killed MODE: three times a writer is killed, wherever it is
killed() {
	local seed pid
	for seed in 21 22 23; do
		{ journal "$1"; transfers $seed 100000; } >/tmp/transfers
		sqlite3 -bail "$1.db" </tmp/transfers >/dev/null 2>&1 &
		pid=$!
		sleep "1.$seed"
		kill -KILL $pid || return
		wait $pid 2>/dev/null
		whole "$1" || return
	done
}

# whole MODE: the database is in order, and has all its money
whole() {
	local said
	said=$(sqlite3 "$1.db" '.timeout 60000' 'PRAGMA integrity_check;' \
		'SELECT count(*), sum(money) FROM account;')
	[[ $said = $'ok\n'$ACCOUNTS\|$((ACCOUNTS * 1000)) ]] || { echo "$said"; return 1; }
}

run() {
	local mode
	for mode in "${MODES[@]}"; do
		check "$mode.before" whole "$mode"
		check "$mode.load" load "$mode" 1 300
		check "$mode.load.whole" whole "$mode"
		same "$mode.load.text" sqlite3 "$mode.db" 'SELECT id, money FROM account'
		check "$mode.beside" beside "$mode"
		check "$mode.beside.whole" whole "$mode"
		check "$mode.killed" killed "$mode"
		check "$mode.vacuum" sqlite3 "$mode.db" 'VACUUM'
		check "$mode.vacuum.whole" whole "$mode"
	done
}
