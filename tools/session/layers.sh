# SPDX-License-Identifier: GPL-2.0
#
# Shell functions about the layers of `make run`; used in the initramfs and in jobs.

LAYERS=/run/layers

# The read-only layers.
mount_lower() {
	mkdir -p $LAYERS/debian $LAYERS/config &&
	mount -t erofs -o ro /dev/rovl/debian $LAYERS/debian &&
	mount -t erofs -o ro /dev/rovl/config $LAYERS/config
}

# mount_upper DISK: the file system that has an upper and a work directory
mount_upper() {
	mkdir -p "$LAYERS/$1" &&
	mount -t ext4 "/dev/rovl/$1" "$LAYERS/$1"
}

# load FSTYPE
load() {
	grep -qw "$1" /proc/filesystems && return
	if [ "$1" = rovl ]; then
		insmod "${JOB_DIR:-/job}/rovl.ko"
	else
		modprobe "$1"
	fi
}

# mount_stack FSTYPE DISK WHERE: one tree of all the layers
mount_stack() {
	mount -t "$1" -o "lowerdir=$LAYERS/config:$LAYERS/debian,upperdir=$LAYERS/$2/upper,workdir=$LAYERS/$2/work" "$1" "$3"
}

# left_in_work DISK: lists what $ROVL_FSTYPE has left in the work directory
left_in_work() {
	if [ "$ROVL_FSTYPE" = overlay ]; then
		# It keeps a whiteout there, to make others as links to it.
		find "$LAYERS/$1/work" -mindepth 2 ! -type c
	else
		find "$LAYERS/$1/work" -mindepth 2
	fi
}
