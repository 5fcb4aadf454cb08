/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Out-of-line names for static inlines and macros of the kernel that the Rust
 * side needs and that kernel::bindings lacks. No logic lives here.
 */
#ifndef ROVL_HELPERS_H
#define ROVL_HELPERS_H

#include <linux/completion.h>
/* fileattr.h does not stand by itself */
#include <linux/fs.h>
#include <linux/fileattr.h>
#include <linux/fs_context.h>
#include <linux/mount.h>
#include <linux/posix_acl.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

struct inode *rovl_d_inode_rcu(const struct dentry *dentry);
bool rovl_may_warn(void);
bool rovl_d_is_negative(const struct dentry *dentry);
bool rovl_d_unhashed(const struct dentry *dentry);
u32 rovl_d_name_hash(const struct dentry *dentry);
bool rovl_d_same_name(const struct dentry *a, const struct dentry *b);
bool rovl_d_can_lookup(const struct dentry *dentry);
bool rovl_is_dot_dotdot(const char *name, size_t len);
void rovl_d_set_flags(struct dentry *dentry, unsigned int flags);
bool rovl_d_revalidates_keys_only(const struct dentry *dentry);
struct dentry *rovl_dget(struct dentry *dentry);
struct dentry *rovl_d_real(struct dentry *dentry, enum d_real_type type);
void rovl_file_start_write(struct file *file);
bool rovl_file_may_write_now(struct file *file);
bool rovl_inode_is_nosec(struct inode *inode);
void rovl_file_end_write(struct file *file);
void rovl_sb_start_write(struct super_block *sb);
void rovl_sb_end_write(struct super_block *sb);
void rovl_i_size_write(struct inode *inode, loff_t size);
loff_t rovl_i_size_read(const struct inode *inode);
void rovl_inode_lock(struct inode *inode);
bool rovl_inode_trylock(struct inode *inode);
void rovl_inode_unlock(struct inode *inode);
bool rovl_inode_is_open_for_write(const struct inode *inode);
int rovl_get_write_access(struct inode *inode);
void rovl_put_write_access(struct inode *inode);
int rovl_verify_read(struct file *file, loff_t pos, size_t len);
int rovl_verify_write(struct file *file, loff_t pos, size_t len);
bool rovl_inode_is_new(struct inode *inode);
struct mnt_idmap *rovl_mnt_idmap(const struct vfsmount *mnt);
bool rovl_is_idmapped_mnt(const struct vfsmount *mnt);
const struct cred *rovl_override_creds(const struct cred *cred);
const struct cred *rovl_revert_creds(const struct cred *old);
const struct cred *rovl_current_cred(void);
void rovl_cred_set_fs_owner(struct cred *cred, kuid_t uid, kgid_t gid);
void rovl_cred_take_fs_ids(struct cred *cred, const struct cred *from,
			   const struct vfsmount *mnt);
void rovl_cred_drop_sys_resource(struct cred *cred);
bool rovl_cred_capable_sys_resource(const struct cred *cred);
bool rovl_current_maps(kuid_t uid, kgid_t gid);
struct user_namespace *rovl_init_user_ns(void);
struct posix_acl *rovl_posix_acl_dup(struct posix_acl *acl);
void rovl_posix_acl_release(struct posix_acl *acl);
struct kmem_cache *rovl_kmem_cache_create(const char *name, unsigned int size,
					  void (*ctor)(void *));
void *rovl_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache);
void rovl_end_creating(struct dentry *child);
void rovl_end_removing(struct dentry *child);
int rovl_vfs_whiteout(struct mnt_idmap *idmap, struct inode *dir,
		      struct dentry *dentry);
dev_t rovl_inode_rdev(const struct inode *inode);
void rovl_set_nlink(struct inode *inode, unsigned int nlink);
void rovl_drop_nlink(struct inode *inode);
int rovl_sync_filesystem(struct super_block *sb);
bool rovl_can_decode_fh(const struct super_block *sb);
void rovl_super_set_uuid(struct super_block *sb, const u8 *uuid);
void rovl_set_fsid(struct kstatfs *out, const u8 *uuid);
void rovl_inode_times(const struct inode *inode, struct timespec64 *atime,
		      struct timespec64 *mtime);
void rovl_current_fs_ids(kuid_t *uid, kgid_t *gid);
void rovl_copy_times(struct inode *to, const struct inode *from);
void rovl_copy_attributes(struct inode *to, const struct inode *from, struct mnt_idmap *idmap);
void rovl_lockdep_annotate(struct inode *inode);
bool rovl_sb_can_tmpfile(const struct inode *dir);
void rovl_logfc(struct fs_context *fc, char level, const char *text);
bool rovl_fatal_signal_pending(void);
bool rovl_signal_pending(void);
unsigned int rovl_hold_signals(sigset_t *saved);
void rovl_release_signals(sigset_t *saved, unsigned int flags);
void rovl_get_task_comm(char *comm, struct task_struct *task);
void rovl_trace_copy_up_begin(const struct inode *source);
void rovl_trace_copy_up_wait(const struct inode *source);
void rovl_trace_copy_up_chunk(const struct inode *source, loff_t pos, u64 len);
void rovl_trace_copy_up_publish(const struct inode *source);
void rovl_trace_copy_up_end(const struct inode *source, int result, u64 done);
const char *rovl_get_link(struct dentry *dentry, struct delayed_call *done);
void rovl_do_delayed_call(struct delayed_call *call);
void rovl_set_delayed_kfree(struct delayed_call *call, void *data);
bool rovl_sb_rdonly(const struct super_block *sb);
bool rovl_mnt_readonly(const struct vfsmount *mnt);
bool rovl_sb_has_encoding(const struct super_block *sb);
bool rovl_inode_test_and_set_state(struct inode *inode, unsigned int bits);
void rovl_inode_clear_state(struct inode *inode, unsigned int bits);
bool rovl_inode_test_state(struct inode *inode, unsigned int bits);

bool rovl_is_posixacl(const struct inode *inode);
bool rovl_in_group_or_capable(struct mnt_idmap *idmap, const struct inode *inode);
void rovl_idmap_seen(struct mnt_idmap *idmap, const struct super_block *sb,
		     kuid_t *uid, kgid_t *gid);
void rovl_idmap_stored(struct mnt_idmap *idmap, const struct super_block *sb,
		       kuid_t *uid, kgid_t *gid);
void rovl_posix_acl_seen(struct mnt_idmap *idmap, const struct super_block *sb,
			 struct posix_acl *acl);
void rovl_acl_dont_cache(struct inode *inode);

void rovl_init_sync_kiocb(struct kiocb *kiocb, struct file *file);
void rovl_file_set_nonotify(struct file *file);
const struct path *rovl_file_user_path(const struct file *file);
bool rovl_seq_opener_is_admin(const struct seq_file *m, const struct super_block *sb);
void rovl_file_set_flags(struct file *file, unsigned int mask, unsigned int flags);

/* params.c */
bool rovl_param_overlay(void);
bool rovl_param_redirect_dir(void);
bool rovl_param_redirect_always_follow(void);
unsigned short rovl_param_redirect_max(void);
bool rovl_param_xino_auto(void);

/* layout.c: what the Rust side compares itself with when it is loaded. */
struct rovl_layout_entry {
	const char *name;
	size_t value;
};

extern const struct rovl_layout_entry rovl_layout[];
extern const size_t rovl_layout_len;
extern const struct fs_context rovl_layout_fs_context;
extern const struct fs_parameter rovl_layout_fs_parameter;
extern const struct file_kattr rovl_layout_file_kattr;

#endif
