// SPDX-License-Identifier: GPL-2.0
/* Out-of-line names for static inlines and macros; see helpers.h. */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/exportfs.h>
#include <linux/fscrypt.h>
#include <linux/fs_stack.h>
#include <linux/lockdep.h>
#include <linux/magic.h>
#include <linux/namei.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/statfs.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "helpers.h"

#define CREATE_TRACE_POINTS
#include "rovl_trace.h"

bool rovl_may_warn(void)
{
	static DEFINE_RATELIMIT_STATE(limit, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&limit);
}

struct inode *rovl_d_inode_rcu(const struct dentry *dentry) { return d_inode_rcu(dentry); }
bool rovl_d_is_negative(const struct dentry *dentry) { return d_is_negative(dentry); }
bool rovl_d_can_lookup(const struct dentry *dentry) { return d_can_lookup(dentry); }
bool rovl_is_dot_dotdot(const char *name, size_t len) { return name_is_dot_dotdot(name, len); }
bool rovl_d_unhashed(const struct dentry *dentry) { return d_unhashed(dentry); }
u32 rovl_d_name_hash(const struct dentry *dentry) { return READ_ONCE(dentry->d_name.hash); }
bool rovl_d_same_name(const struct dentry *a, const struct dentry *b)
{
	bool same;

	/* Names and parents change under it. */
	read_seqlock_excl(&rename_lock);
	same = a->d_parent == b->d_parent && a->d_name.hash_len == b->d_name.hash_len &&
	       !memcmp(a->d_name.name, b->d_name.name, a->d_name.len);
	read_sequnlock_excl(&rename_lock);
	return same;
}

void rovl_d_set_flags(struct dentry *dentry, unsigned int flags)
{
	spin_lock(&dentry->d_lock);
	dentry->d_flags |= flags;
	spin_unlock(&dentry->d_lock);
}

bool rovl_d_revalidates_keys_only(const struct dentry *dentry)
{
	return dentry->d_op && dentry->d_op->d_revalidate == fscrypt_d_revalidate;
}

struct dentry *rovl_dget(struct dentry *dentry) { return dget(dentry); }
struct dentry *rovl_d_real(struct dentry *dentry, enum d_real_type type)
{
	return d_real(dentry, type);
}

void rovl_file_start_write(struct file *file) { file_start_write(file); }
/* False while it is frozen. Who goes on may find it frozen all the same, and waits. */
bool rovl_file_may_write_now(struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	sb_end_write(sb);
	return true;
}
/* Nothing is lost by a write: it has no set-id bits and no file capabilities. */
bool rovl_inode_is_nosec(struct inode *inode) { return IS_NOSEC(inode); }
void rovl_file_end_write(struct file *file) { file_end_write(file); }
void rovl_sb_start_write(struct super_block *sb) { sb_start_write(sb); }
void rovl_sb_end_write(struct super_block *sb) { sb_end_write(sb); }
void rovl_i_size_write(struct inode *inode, loff_t size) { i_size_write(inode, size); }
loff_t rovl_i_size_read(const struct inode *inode) { return i_size_read(inode); }
void rovl_inode_lock(struct inode *inode) { inode_lock(inode); }
bool rovl_inode_trylock(struct inode *inode) { return inode_trylock(inode); }
void rovl_inode_unlock(struct inode *inode) { inode_unlock(inode); }
bool rovl_inode_is_open_for_write(const struct inode *inode)
{
	return inode_is_open_for_write(inode);
}

int rovl_get_write_access(struct inode *inode) { return get_write_access(inode); }
void rovl_put_write_access(struct inode *inode) { put_write_access(inode); }
int rovl_verify_read(struct file *file, loff_t pos, size_t len)
{
	return rw_verify_area(READ, file, &pos, len);
}

int rovl_verify_write(struct file *file, loff_t pos, size_t len)
{
	return rw_verify_area(WRITE, file, &pos, len);
}

bool rovl_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

struct mnt_idmap *rovl_mnt_idmap(const struct vfsmount *mnt) { return mnt_idmap(mnt); }
bool rovl_is_idmapped_mnt(const struct vfsmount *mnt) { return is_idmapped_mnt(mnt); }
const struct cred *rovl_override_creds(const struct cred *cred) { return override_creds(cred); }
const struct cred *rovl_revert_creds(const struct cred *old) { return revert_creds(old); }
const struct cred *rovl_current_cred(void) { return current_cred(); }
void rovl_cred_set_fs_owner(struct cred *cred, kuid_t uid, kgid_t gid)
{
	cred->fsuid = uid;
	cred->fsgid = gid;
}

void rovl_cred_take_fs_ids(struct cred *cred, const struct cred *from,
			   const struct vfsmount *mnt)
{
	struct user_namespace *ns = mnt->mnt_sb->s_user_ns;

	if (cap_raised(cred->cap_effective, CAP_CHOWN) &&
	    kuid_has_mapping(cred->user_ns, from->fsuid) &&
	    kgid_has_mapping(cred->user_ns, from->fsgid) &&
	    vfsuid_has_fsmapping(mnt_idmap(mnt), ns, VFSUIDT_INIT(from->fsuid)) &&
	    vfsgid_has_fsmapping(mnt_idmap(mnt), ns, VFSGIDT_INIT(from->fsgid))) {
		cred->fsuid = from->fsuid;
		cred->fsgid = from->fsgid;
	}
}

void rovl_cred_drop_sys_resource(struct cred *cred)
{
	cap_lower(cred->cap_effective, CAP_SYS_RESOURCE);
}

bool rovl_cred_capable_sys_resource(const struct cred *cred)
{
	return cap_raised(cred->cap_effective, CAP_SYS_RESOURCE);
}

bool rovl_current_maps(kuid_t uid, kgid_t gid)
{
	return kuid_has_mapping(current_user_ns(), uid) &&
	       kgid_has_mapping(current_user_ns(), gid);
}

struct user_namespace *rovl_init_user_ns(void) { return &init_user_ns; }
struct posix_acl *rovl_posix_acl_dup(struct posix_acl *acl) { return posix_acl_dup(acl); }
void rovl_posix_acl_release(struct posix_acl *acl) { posix_acl_release(acl); }
struct kmem_cache *rovl_kmem_cache_create(const char *name, unsigned int size,
					  void (*ctor)(void *))
{
	return kmem_cache_create(name, size, 0,
				 SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, ctor);
}

void *rovl_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

void rovl_end_creating(struct dentry *child) { end_creating(child); }
void rovl_end_removing(struct dentry *child) { end_removing(child); }
int rovl_vfs_whiteout(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry)
{
	return vfs_whiteout(idmap, dir, dentry);
}

dev_t rovl_inode_rdev(const struct inode *inode) { return inode->i_rdev; }
bool rovl_sb_can_tmpfile(const struct inode *dir) { return dir->i_op->tmpfile; }
void rovl_logfc(struct fs_context *fc, char level, const char *text)
{
	logfc(fc->log.log, fc->log.prefix, level, "%s", text);
}

bool rovl_fatal_signal_pending(void) { return fatal_signal_pending(current); }
bool rovl_signal_pending(void) { return signal_pending(current); }
unsigned int rovl_hold_signals(sigset_t *saved)
{
	struct sighand_struct *sighand = current->sighand;
	sigset_t held;

	sigemptyset(&held);
	spin_lock_irq(&sighand->siglock);
	for (int sig = 1; sig <= _NSIG; sig++)
		if (!sig_fatal(current, sig))
			sigaddset(&held, sig);
	spin_unlock_irq(&sighand->siglock);
	sigprocmask(SIG_BLOCK, &held, saved);
	return no_notify_signal_save();
}

void rovl_release_signals(sigset_t *saved, unsigned int flags)
{
	no_notify_signal_restore(flags);
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/*
 * Magic links have no text, but jump: with the path walk that asks, which here is one
 * of another link or none at all. What tells them is that they read as something else
 * than they are. So do bad inodes, which have an error for us, and the links of AFS,
 * which read as what they are.
 */
const char *rovl_get_link(struct dentry *dentry, struct delayed_call *done)
{
	const struct inode *inode = d_inode(dentry);

	if (d_is_symlink(dentry) && inode->i_op->readlink && !is_bad_inode(d_inode(dentry)) &&
	    inode->i_sb->s_magic != AFS_FS_MAGIC)
		return ERR_PTR(-EINVAL);
	return vfs_get_link(dentry, done);
}

void rovl_do_delayed_call(struct delayed_call *call) { do_delayed_call(call); }
void rovl_set_delayed_kfree(struct delayed_call *call, void *data)
{
	set_delayed_call(call, kfree_link, data);
}

bool rovl_sb_rdonly(const struct super_block *sb) { return sb_rdonly(sb); }
bool rovl_mnt_readonly(const struct vfsmount *mnt) { return __mnt_is_readonly(mnt); }
bool rovl_sb_has_encoding(const struct super_block *sb) { return sb_has_encoding(sb); }

/* i_state changes under i_lock. Returns whether one of the bits was set before. */
bool rovl_inode_test_and_set_state(struct inode *inode, unsigned int bits)
{
	bool was_set;

	spin_lock(&inode->i_lock);
	was_set = inode_state_read(inode) & bits;
	inode_state_set(inode, bits);
	spin_unlock(&inode->i_lock);
	return was_set;
}

void rovl_inode_clear_state(struct inode *inode, unsigned int bits)
{
	spin_lock(&inode->i_lock);
	inode_state_clear(inode, bits);
	spin_unlock(&inode->i_lock);
}

bool rovl_inode_test_state(struct inode *inode, unsigned int bits)
{
	return inode_state_read_once(inode) & bits;
}

bool rovl_is_posixacl(const struct inode *inode) { return IS_POSIXACL(inode); }
bool rovl_in_group_or_capable(struct mnt_idmap *idmap, const struct inode *inode)
{
	return in_group_or_capable(idmap, inode, i_gid_into_vfsgid(idmap, inode));
}

void rovl_idmap_seen(struct mnt_idmap *idmap, const struct super_block *sb,
		     kuid_t *uid, kgid_t *gid)
{
	*uid = vfsuid_into_kuid(make_vfsuid(idmap, sb->s_user_ns, *uid));
	*gid = vfsgid_into_kgid(make_vfsgid(idmap, sb->s_user_ns, *gid));
}

void rovl_idmap_stored(struct mnt_idmap *idmap, const struct super_block *sb,
		       kuid_t *uid, kgid_t *gid)
{
	*uid = from_vfsuid(idmap, sb->s_user_ns, VFSUIDT_INIT(*uid));
	*gid = from_vfsgid(idmap, sb->s_user_ns, VFSGIDT_INIT(*gid));
}

/* As rovl_idmap_seen(), for the users and groups of a list that nobody else sees. */
void rovl_posix_acl_seen(struct mnt_idmap *idmap, const struct super_block *sb,
			 struct posix_acl *acl)
{
	struct posix_acl_entry *entry, *end;

	FOREACH_ACL_ENTRY(entry, acl, end) {
		if (entry->e_tag == ACL_USER)
			entry->e_uid = vfsuid_into_kuid(make_vfsuid(idmap, sb->s_user_ns,
								    entry->e_uid));
		else if (entry->e_tag == ACL_GROUP)
			entry->e_gid = vfsgid_into_kgid(make_vfsgid(idmap, sb->s_user_ns,
								    entry->e_gid));
	}
}

void rovl_acl_dont_cache(struct inode *inode)
{
#ifdef CONFIG_FS_POSIX_ACL
	inode->i_acl = ACL_DONT_CACHE;
	inode->i_default_acl = ACL_DONT_CACHE;
#endif
}

bool rovl_can_decode_fh(const struct super_block *sb)
{
	return exportfs_can_decode_fh(sb->s_export_op);
}

void rovl_super_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
}

void rovl_set_fsid(struct kstatfs *out, const u8 *uuid)
{
	out->f_fsid = uuid_to_fsid((__u8 *)uuid);
}

void rovl_inode_times(const struct inode *inode, struct timespec64 *atime,
		      struct timespec64 *mtime)
{
	*atime = inode_get_atime(inode);
	*mtime = inode_get_mtime(inode);
}

void rovl_current_fs_ids(kuid_t *uid, kgid_t *gid)
{
	current_fsuid_fsgid(uid, gid);
}

static bool have_same_times(const struct inode *a, const struct inode *b)
{
	struct timespec64 of_a[] = { inode_get_atime(a), inode_get_mtime(a), inode_get_ctime(a) };
	struct timespec64 of_b[] = { inode_get_atime(b), inode_get_mtime(b), inode_get_ctime(b) };

	return timespec64_equal(&of_a[0], &of_b[0]) &&
	       timespec64_equal(&of_a[1], &of_b[1]) &&
	       timespec64_equal(&of_a[2], &of_b[2]);
}

/*
 * Many readers of one file come here, and nearly always find nothing to do. The lock
 * is that of rovl_copy_attributes(): what is read under it is never older than what
 * is there already.
 */
void rovl_copy_times(struct inode *to, const struct inode *from)
{
	if (have_same_times(to, from))
		return;
	spin_lock(&to->i_lock);
	fsstack_copy_attr_times(to, from);
	spin_unlock(&to->i_lock);
}

/* The link count of an inode changes under its i_lock only. */
void rovl_set_nlink(struct inode *inode, unsigned int nlink)
{
	spin_lock(&inode->i_lock);
	set_nlink(inode, nlink);
	spin_unlock(&inode->i_lock);
}

void rovl_drop_nlink(struct inode *inode)
{
	spin_lock(&inode->i_lock);
	if (inode->i_nlink)
		drop_nlink(inode);
	spin_unlock(&inode->i_lock);
}

int rovl_sync_filesystem(struct super_block *sb)
{
	int err;

	down_read(&sb->s_umount);
	err = sync_filesystem(sb);
	up_read(&sb->s_umount);
	return err;
}

/*
 * fsstack_copy_attr_all() without i_nlink, i_blkbits and i_flags, of which the
 * filesystem may know more than the inode below; and with the size. The lock
 * keeps the end of an asynchronous write, which holds no other, from putting
 * back what another one has made newer.
 */
void rovl_copy_attributes(struct inode *to, const struct inode *from, struct mnt_idmap *idmap)
{
	spin_lock(&to->i_lock);
	to->i_uid = vfsuid_into_kuid(i_uid_into_vfsuid(idmap, from));
	to->i_gid = vfsgid_into_kgid(i_gid_into_vfsgid(idmap, from));
	to->i_mode = (to->i_mode & S_IFMT) | (from->i_mode & ~S_IFMT);
	fsstack_copy_attr_times(to, from);
	i_size_write(to, i_size_read(from));
	spin_unlock(&to->i_lock);
}

/*
 * Stacked instances share one file_system_type, and with it the lock classes
 * of their inodes. Give each depth of stacking its own classes: then "rovl on
 * rovl" is not recursive locking.
 */
void rovl_lockdep_annotate(struct inode *inode)
{
#ifdef CONFIG_LOCKDEP
	static struct lock_class_key key[FILESYSTEM_MAX_STACK_DEPTH];
	static struct lock_class_key dir_key[FILESYSTEM_MAX_STACK_DEPTH];
	int depth = inode->i_sb->s_stack_depth - 1;

	if (WARN_ON_ONCE(depth < 0 || depth >= FILESYSTEM_MAX_STACK_DEPTH))
		depth = 0;
	if (S_ISDIR(inode->i_mode))
		lockdep_set_class(&inode->i_rwsem, &dir_key[depth]);
	else
		lockdep_set_class(&inode->i_rwsem, &key[depth]);
#endif
}

void rovl_init_sync_kiocb(struct kiocb *kiocb, struct file *file)
{
	init_sync_kiocb(kiocb, file);
}

void rovl_file_set_nonotify(struct file *file) { file_set_fsnotify_mode(file, FMODE_NONOTIFY); }
const struct path *rovl_file_user_path(const struct file *file) { return file_user_path(file); }

/* Not who reads: a program of somebody else's may have been handed the file. */
bool rovl_seq_opener_is_admin(const struct seq_file *m, const struct super_block *sb)
{
	return file_ns_capable(m->file, sb->s_user_ns, CAP_SYS_ADMIN);
}

/* As setfl() of fs/fcntl.c does it. */
void rovl_file_set_flags(struct file *file, unsigned int mask, unsigned int flags)
{
	spin_lock(&file->f_lock);
	file->f_flags = (flags & mask) | (file->f_flags & ~mask);
	file->f_iocb_flags = iocb_flags(file);
	spin_unlock(&file->f_lock);
}

/* The buffer has TASK_COMM_LEN bytes. */
void rovl_get_task_comm(char *comm, struct task_struct *task)
{
	strscpy_pad(comm, task->comm, TASK_COMM_LEN);
}

void rovl_trace_copy_up_begin(const struct inode *source)
{
	trace_rovl_copy_up_begin(source);
}

void rovl_trace_copy_up_wait(const struct inode *source)
{
	trace_rovl_copy_up_wait(source);
}

void rovl_trace_copy_up_chunk(const struct inode *source, loff_t pos, u64 len)
{
	trace_rovl_copy_up_chunk(source, pos, len);
}

void rovl_trace_copy_up_publish(const struct inode *source)
{
	trace_rovl_copy_up_publish(source);
}

void rovl_trace_copy_up_end(const struct inode *source, int result, u64 done)
{
	trace_rovl_copy_up_end(source, result, done);
}
