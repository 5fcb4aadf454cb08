# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# fio writes to files of the lower layer with each of its engines, at random and in order,
# and verifies what it reads.

ENGINES=(sync psync vsync pvsync pvsync2 posixaio libaio io_uring mmap splice)
DIRECT=(psync pvsync2 libaio io_uring)
SIZE=4m

jobs() {
	local engine
	for engine in "${ENGINES[@]}"; do
		echo "$engine randwrite 0 1"
		echo "$engine write 0 1"
	done
	for engine in "${DIRECT[@]}"; do
		echo "$engine randwrite 1 1"
	done
	# several processes with a file each
	echo "psync randrw 0 4"
	echo "io_uring randrw 0 4"
}

fill_lower() {
	local engine rw direct number file
	while read -r engine rw direct number; do
		for ((file = 0; file < number; file++)); do
			head -c 4194304 /dev/urandom \
				>"$1/$engine.$rw.$direct.$number.$file" || return
		done
	done < <(jobs)
}

run() {
	local engine rw direct number name
	while read -r engine rw direct number; do
		name=$engine.$rw
		((direct)) && name+=.direct
		((number == 1)) || name+=.$number
		check "$name" fio --name="$name" --ioengine="$engine" --rw="$rw" \
			--direct="$direct" --numjobs="$number" --size="$SIZE" --bs=4k \
			--iodepth=8 --verify=crc32c --verify_fatal=1 --randseed=1 \
			--directory="$HERE" --overwrite=1 --fallocate=none \
			--filename_format="$engine.$rw.$direct.$number.\$jobnum" \
			--allow_file_create=0 --end_fsync=1 --group_reporting
	done < <(jobs)
}
