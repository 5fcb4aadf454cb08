// SPDX-License-Identifier: GPL-2.0

//! Checks that C and Rust agree on the structures that they share.
//!
//! The bindings are what libclang understood of the headers, with the flags
//! that the build passed to it; the kernel may have been compiled by another
//! compiler and, if the tree was put together wrongly, with another
//! configuration. All of `vfs/` rests on both being the same, so it is compared
//! whenever the module is loaded: it takes some microseconds. `layout.c` has
//! the same list; a difference between the lists is found as well.

use super::bindings as b;
use core::mem::{offset_of, size_of};
use kernel::prelude::*;

/// What the Rust compiler says, in the form of `struct rovl_layout_entry`.
struct Entry {
    /// A structure, or a structure, a dot and a field.
    name: &'static str,
    /// The size of a structure, or the offset of a field.
    value: usize,
}

/// Lists structures and fields under their names in C. Where bindgen had to
/// call a field otherwise, or put it into an anonymous structure or union, the
/// way to it follows the name.
macro_rules! layouts {
    ($($ty:ident { $($name:ident $(= $first:ident $(. $then:ident)*)?),* $(,)? })*) => {
        &[$(
            Entry {
                name: stringify!($ty),
                value: size_of::<b::$ty>(),
            },
            $(Entry {
                name: concat!(stringify!($ty), ".", stringify!($name)),
                value: layouts!(@offset $ty, $name $(= $first $(. $then)*)?),
            },)*
        )*]
    };
    (@offset $ty:ident, $name:ident) => {
        offset_of!(b::$ty, $name)
    };
    (@offset $ty:ident, $name:ident = $($path:ident).+) => {
        offset_of!(b::$ty, $($path).+)
    };
}

#[rustfmt::skip]
const LAYOUT: &[Entry] = layouts! {
    super_block {
        s_dev, s_maxbytes, s_type, s_op, s_flags, s_iflags, s_magic, s_root, s_xattr,
        s_d_flags, s_export_op, s_fs_info, s_time_gran, s_time_min, s_time_max, s_uuid,
        s_stack_depth, s_instances, s_user_ns, s_active,
    }
    super_operations {
        alloc_inode, destroy_inode, free_inode, dirty_inode, write_inode, drop_inode,
        evict_inode, put_super, sync_fs, freeze_super, freeze_fs, thaw_super,
        unfreeze_fs, statfs, umount_begin, show_options, show_devname, show_path,
        show_stats, nr_cached_objects, free_cached_objects,
    }
    file_system_type {
        name, fs_flags, init_fs_context, parameters, kill_sb, owner, fs_supers,
        s_lock_key, s_umount_key, s_vfs_rename_key, s_writers_key, i_lock_key,
        i_mutex_key, invalidate_lock_key, i_mutex_dir_key,
    }
    inode {
        i_mode, i_uid, i_gid, i_flags, i_op, i_sb, i_mapping, i_ino, i_generation, i_rdev,
        i_nlink = __bindgen_anon_1.i_nlink,
        i_fop = __bindgen_anon_3.i_fop, i_private,
    }
    inode_operations {
        lookup, get_link, permission, get_inode_acl, readlink, create, link, unlink,
        symlink, mkdir, rmdir, mknod, rename, setattr, getattr, listxattr, fiemap,
        update_time, atomic_open, tmpfile, get_acl, set_acl, fileattr_set, fileattr_get,
    }
    dentry {
        d_flags, d_parent, d_inode, d_op, d_sb,
    }
    qstr {
        len = __bindgen_anon_1.__bindgen_anon_1.len, name,
    }
    name_snapshot {
        name, inline_name,
    }
    path {
        mnt, dentry,
    }
    vfsmount {
        mnt_root, mnt_sb, mnt_flags,
    }
    renamedata {
        mnt_idmap, old_parent, old_dentry, new_parent, new_dentry, delegated_inode,
        flags,
    }
    iattr {
        ia_valid, ia_mode, ia_uid = __bindgen_anon_1.ia_uid,
        ia_gid = __bindgen_anon_2.ia_gid, ia_size, ia_atime, ia_mtime, ia_ctime,
        ia_file,
    }
    kstat {
        result_mask, mode, nlink, blksize, attributes, attributes_mask, ino, dev, rdev,
        uid, gid, size, atime, mtime, ctime, btime, blocks, mnt_id, change_cookie,
    }
    kstatfs {
        f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_fsid,
        f_namelen, f_frsize, f_flags,
    }
    timespec64 {
        tv_sec, tv_nsec,
    }
    file {
        f_mode, f_op, f_mapping, private_data, f_inode, f_flags, f_cred,
        f_path = __bindgen_anon_1.f_path, f_pos,
    }
    file_operations {
        owner, fop_flags, llseek, read, write, read_iter, write_iter, iopoll,
        iterate_shared, poll, unlocked_ioctl, compat_ioctl, mmap, open, flush, release,
        fsync, fasync, lock, get_unmapped_area, check_flags, flock, splice_write,
        splice_read, splice_eof, setlease, fallocate, show_fdinfo, copy_file_range,
        remap_file_range, fadvise, uring_cmd, uring_cmd_iopoll, mmap_prepare,
    }
    kiocb {
        ki_filp, ki_pos, ki_complete, private, ki_flags,
    }
    iov_iter {
        iter_type, data_source, iov_offset,
    }
    vm_area_struct {
        vm_ops, vm_file, vm_pgoff,
    }
    backing_file_ctx {
        cred, accessed, end_write,
    }
    dir_context {
        actor, pos, count, dt_flags_mask,
    }
    seq_file {
        buf, size, count, private,
    }
    fs_context {
        ops, uapi_mutex, fs_type, fs_private, sget_key, root, user_ns, net_ns, cred,
        log, source, security, s_fs_info, sb_flags, sb_flags_mask, s_iflags,
    }
    fs_context_operations {
        free, dup, parse_param, parse_monolithic, get_tree, reconfigure,
    }
    p_log {
        prefix, log,
    }
    fs_parameter {
        key, string = __bindgen_anon_1.string, blob = __bindgen_anon_1.blob,
        name = __bindgen_anon_1.name, file = __bindgen_anon_1.file, size, dirfd,
    }
    fs_parameter_spec {
        name, type = type_, opt, flags, data,
    }
    fs_parse_result {
        negated, boolean = __bindgen_anon_1.boolean, int_32 = __bindgen_anon_1.int_32,
        uint_32 = __bindgen_anon_1.uint_32, uint_64 = __bindgen_anon_1.uint_64,
    }
    constant_table {
        name, value,
    }
    xattr_handler {
        name, prefix, flags, list, get, set,
    }
    posix_acl {
        a_entries,
    }
    posix_acl_entry {
        e_tag, e_perm, e_uid = __bindgen_anon_1.e_uid,
    }
    file_kattr {
        flags, fsx_xflags, fsx_extsize, fsx_nextents, fsx_projid, fsx_cowextsize,
    }
    export_operations {
        encode_fh, fh_to_dentry, fh_to_parent, get_name, get_parent, commit_metadata,
        permission, open, flags,
    }
    delayed_call {
        fn = fn_, arg,
    }
    completion {
        done, wait,
    }
    cred {
        usage, uid, gid, euid, fsuid, fsgid, cap_effective, user_ns,
    }
    dentry_operations {
        d_revalidate, d_weak_revalidate, d_hash, d_compare, d_delete, d_init, d_release,
        d_prune, d_iput, d_dname, d_automount, d_manage, d_real,
    }
};

/// What the C compiler says.
fn c_layout() -> &'static [b::rovl_layout_entry] {
    // SAFETY: a constant of `layout.c`.
    let len = unsafe { b::rovl_layout_len };
    // SAFETY: an array of that length, and constant too.
    unsafe { core::slice::from_raw_parts((&raw const b::rovl_layout).cast(), len) }
}

/// Bit-fields, and whether the accessors of the bindings read what C wrote.
fn bit_fields() -> [(&'static str, bool); 4] {
    // SAFETY: a constant of `layout.c`, of plain data.
    let fc = unsafe { &b::rovl_layout_fs_context };
    // SAFETY: as above.
    let param = unsafe { &b::rovl_layout_fs_parameter };
    // SAFETY: as above.
    let attr = unsafe { &b::rovl_layout_file_kattr };
    [
        (
            "fs_context.purpose",
            fc.purpose() == b::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE,
        ),
        ("fs_context.oldapi", fc.oldapi()),
        (
            "fs_parameter.type",
            param.type_() == b::fs_value_type_fs_value_is_file,
        ),
        (
            "file_kattr.flags_valid",
            attr.flags_valid() && !attr.fsx_valid(),
        ),
    ]
}

/// Compares, and says so in the kernel log.
///
/// # Errors
///
/// `ENOEXEC` if anything differs: the module must not run then.
pub(crate) fn check() -> Result {
    let c = c_layout();
    let mut bad = LAYOUT.len().abs_diff(c.len());
    for (ours, theirs) in LAYOUT.iter().zip(c) {
        // SAFETY: a string constant of `layout.c`.
        let name = unsafe { CStr::from_char_ptr(theirs.name) };
        if ours.name.as_bytes() != name.to_bytes() {
            pr_err!("layout: Rust lists {}, C lists {}\n", ours.name, name);
            bad += 1;
        } else if ours.value != theirs.value {
            pr_err!(
                "layout: {}: {} in Rust, {} in C\n",
                ours.name,
                ours.value,
                theirs.value
            );
            bad += 1;
        }
    }
    let bits = bit_fields();
    for (name, good) in bits {
        if !good {
            pr_err!("layout: {} is elsewhere in C than in Rust\n", name);
            bad += 1;
        }
    }
    pr_info!(
        "layout: {} checked, {} bad\n",
        LAYOUT.len() + bits.len(),
        bad
    );
    if bad != 0 {
        return Err(ENOEXEC);
    }
    Ok(())
}
