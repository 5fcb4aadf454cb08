/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of the module's own bindgen run: what rovl uses of the kernel and
 * kernel::bindings lacks.
 */

/* Same first line as rust/bindings/bindings_helper.h (bindgen issue 3179). */
#include <linux/hrtimer_types.h>

#include <linux/backing-file.h>
#include <linux/cred.h>
#include <linux/exportfs.h>
#include <linux/file.h>
#include <linux/fileattr.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fs_stack.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/string_helpers.h>
#include <linux/xattr.h>

#include "helpers.h"

/* Exported to modules, and declared in fs/internal.h only. */
struct file *alloc_empty_backing_file(int flags, const struct cred *cred,
				      const struct file *user_file);
void backing_file_set_user_path(struct file *f, const struct path *path);

/* Expression macros that bindgen does not see. */
const unsigned long ROVL_CONST_SB_NOSEC = SB_NOSEC;
const unsigned long ROVL_CONST_SB_POSIXACL = SB_POSIXACL;
const unsigned long ROVL_CONST_SB_RDONLY = SB_RDONLY;
const unsigned long ROVL_CONST_SB_SYNCHRONOUS = SB_SYNCHRONOUS;
const unsigned long ROVL_CONST_SB_DIRSYNC = SB_DIRSYNC;
const unsigned long ROVL_CONST_SB_LAZYTIME = SB_LAZYTIME;
const unsigned long ROVL_CONST_SB_ACTIVE = SB_ACTIVE;
const unsigned long ROVL_CONST_SB_DEAD = SB_DEAD;
const unsigned long ROVL_CONST_SB_I_NOUMASK = SB_I_NOUMASK;
const unsigned long ROVL_CONST_SB_I_SKIP_SYNC = SB_I_SKIP_SYNC;
const unsigned long ROVL_CONST_SB_I_EVM_HMAC_UNSUPPORTED = SB_I_EVM_HMAC_UNSUPPORTED;
const unsigned int ROVL_CONST_ESCAPE_OCTAL = ESCAPE_OCTAL;
const unsigned int ROVL_CONST_MNT_READONLY = MNT_READONLY;
const unsigned int ROVL_CONST_MNT_NOATIME = MNT_NOATIME;
const unsigned int ROVL_CONST_MNT_NODIRATIME = MNT_NODIRATIME;
const unsigned int ROVL_CONST_MNT_RELATIME = MNT_RELATIME;
const unsigned int ROVL_CONST_I_LINKABLE = I_LINKABLE;
const unsigned int ROVL_CONST_I_OVL_INUSE = I_OVL_INUSE;
const unsigned int ROVL_CONST_DCACHE_OP_HASH = DCACHE_OP_HASH;
const unsigned int ROVL_CONST_DCACHE_OP_COMPARE = DCACHE_OP_COMPARE;
const unsigned int ROVL_CONST_DCACHE_OP_REVALIDATE = DCACHE_OP_REVALIDATE;
const unsigned int ROVL_CONST_DCACHE_OP_WEAK_REVALIDATE = DCACHE_OP_WEAK_REVALIDATE;
const unsigned int ROVL_CONST_DCACHE_OP_REAL = DCACHE_OP_REAL;
const unsigned int ROVL_CONST_DCACHE_NEED_AUTOMOUNT = DCACHE_NEED_AUTOMOUNT;
const unsigned int ROVL_CONST_DCACHE_MOUNTED = DCACHE_MOUNTED;
const unsigned int ROVL_CONST_DCACHE_MANAGE_TRANSIT = DCACHE_MANAGE_TRANSIT;
const unsigned int ROVL_CONST_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int ROVL_CONST_LOOKUP_RCU = LOOKUP_RCU;
const unsigned int ROVL_CONST_LOOKUP_DIRECTORY = LOOKUP_DIRECTORY;
const unsigned int ROVL_CONST_FMODE_CAN_ODIRECT = (__force unsigned int)FMODE_CAN_ODIRECT;
const unsigned int ROVL_CONST_FMODE_NOWAIT = (__force unsigned int)FMODE_NOWAIT;
const unsigned int ROVL_CONST_FOP_BUFFER_WASYNC = (__force unsigned int)FOP_BUFFER_WASYNC;
const unsigned int ROVL_CONST_FMODE_EXEC = (__force unsigned int)FMODE_EXEC;
const unsigned int ROVL_CONST_FMODE_WRITE = (__force unsigned int)FMODE_WRITE;
const unsigned int ROVL_CONST_FMODE_OPENED = (__force unsigned int)FMODE_OPENED;
const unsigned int ROVL_CONST_FMODE_NONOTIFY = (__force unsigned int)FMODE_NONOTIFY;
const int ROVL_CONST_FILEID_INVALID = FILEID_INVALID;
const unsigned int ROVL_CONST_FS_IOC_GETFLAGS = FS_IOC_GETFLAGS;
const unsigned int ROVL_CONST_FS_IOC_SETFLAGS = FS_IOC_SETFLAGS;
const unsigned int ROVL_CONST_FS_IOC_FSGETXATTR = FS_IOC_FSGETXATTR;
const unsigned int ROVL_CONST_FS_IOC_FSSETXATTR = FS_IOC_FSSETXATTR;
const unsigned int ROVL_CONST_IOCB_NOWAIT = IOCB_NOWAIT;
const unsigned int ROVL_CONST_IOCB_DIRECT = IOCB_DIRECT;
const unsigned int ROVL_CONST_IOCB_DSYNC = IOCB_DSYNC;
const unsigned int ROVL_CONST_IOCB_SYNC = (__force unsigned int)IOCB_SYNC;
