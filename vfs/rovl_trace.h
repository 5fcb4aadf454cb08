/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: the life of a copy in flight. The object is named by device and
 * inode number of what is copied.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rovl

#if !defined(ROVL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ROVL_TRACE_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(rovl_copy_up,
	TP_PROTO(const struct inode *source),
	TP_ARGS(source),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
	),
	TP_fast_assign(
		__entry->dev = source->i_sb->s_dev;
		__entry->ino = source->i_ino;
	),
	TP_printk("dev %u:%u ino %llu", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino)
);

/* The record is in the table, and the caller copies. */
DEFINE_EVENT(rovl_copy_up, rovl_copy_up_begin,
	TP_PROTO(const struct inode *source), TP_ARGS(source));
/* Another one copies, and the caller waits for the end of it. */
DEFINE_EVENT(rovl_copy_up, rovl_copy_up_wait,
	TP_PROTO(const struct inode *source), TP_ARGS(source));
/* The copy is whole and gets its name next. */
DEFINE_EVENT(rovl_copy_up, rovl_copy_up_publish,
	TP_PROTO(const struct inode *source), TP_ARGS(source));

/* A piece of the data has been copied; offset and length in bytes. */
TRACE_EVENT(rovl_copy_up_chunk,
	TP_PROTO(const struct inode *source, loff_t pos, u64 len),
	TP_ARGS(source, pos, len),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(loff_t, pos)
		__field(u64, len)
	),
	TP_fast_assign(
		__entry->dev = source->i_sb->s_dev;
		__entry->ino = source->i_ino;
		__entry->pos = pos;
		__entry->len = len;
	),
	TP_printk("dev %u:%u ino %llu pos %lld len %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->pos, __entry->len)
);

/* The record ends: 0 or a negative errno, and the bytes of data copied. */
TRACE_EVENT(rovl_copy_up_end,
	TP_PROTO(const struct inode *source, int result, u64 done),
	TP_ARGS(source, result, done),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(int, result)
		__field(u64, done)
	),
	TP_fast_assign(
		__entry->dev = source->i_sb->s_dev;
		__entry->ino = source->i_ino;
		__entry->result = result;
		__entry->done = done;
	),
	TP_printk("dev %u:%u ino %llu result %d bytes %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->result, __entry->done)
);

#endif /* ROVL_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE rovl_trace
#include <trace/define_trace.h>
