# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# fsx on files of the lower layer.  "file" truncates its file when it opens it, "block"
# (fsx's block mode) keeps its size and the copy-up has data, "append" and "open" do more
# of what makes a file descriptor of before the copy-up matter.  $FSX_SEEDS are the seeds,
# $FSX_OPS how many operations each.

CONFIGS=(file block mapped reopened)

fill_lower() {
	local config seed
	for config in "${CONFIGS[@]}"; do
		for seed in $FSX_SEEDS; do
			head -c 1048576 /dev/urandom >"$1/$config.$seed" || return
		done
	done
}

# configure CONFIG: fsx's configuration file.  Weights not named are 10.
configure() {
	local holes=5 ranges=5 allocate=3
	# block devices have no holes, but files in block mode do
	case $1 in
	file) cat <<-EOF
		flen = 1048576
		[weights]
		close_open = 1
		invalidate = 1
		truncate = 5
		fsync = 1
		fdatasync = 1
		posix_fallocate = $allocate
		punch_hole = $holes
		sendfile = 5
		posix_fadvise = 2
		copy_file_range = $ranges
		EOF
		;;
	block) cat <<-EOF
		blockmode = true
		nosizechecks = true
		[weights]
		close_open = 0
		truncate = 0
		posix_fallocate = 0
		invalidate = 2
		fsync = 1
		punch_hole = $holes
		sendfile = 5
		posix_fadvise = 2
		copy_file_range = $ranges
		EOF
		;;
	mapped) cat <<-EOF
		flen = 400000
		nomsyncafterwrite = true
		[opsize]
		max = 20000
		[weights]
		read = 5
		write = 5
		mapread = 20
		mapwrite = 20
		truncate = 10
		punch_hole = $holes
		EOF
		;;
	reopened) cat <<-EOF
		flen = 300000
		[opsize]
		max = 100000
		[weights]
		close_open = 20
		truncate = 10
		invalidate = 5
		fsync = 5
		punch_hole = $holes
		posix_fallocate = $allocate
		EOF
		;;
	esac >"/tmp/fsx.$1.toml"
}

run() {
	local config seed
	mkdir -p /tmp/fsx
	for config in "${CONFIGS[@]}"; do
		configure "$config"
		for seed in $FSX_SEEDS; do
			check "$config.seed_$seed" /job/fsx -f "/tmp/fsx.$config.toml" -S "$seed" \
				-N "$FSX_OPS" -P /tmp/fsx "$config.$seed"
		done
	done
}
