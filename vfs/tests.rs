// SPDX-License-Identifier: GPL-2.0

//! What safe code may pass to the functions of this module, and gets an error for, where
//! types do not tell: run by KUnit when the module is loaded into a kernel that has it.
//! What types do tell is in `selftests/compile_fail/`.

use kernel::prelude::*;

/// The errno of what must fail; zero if it does not.
#[cfg(CONFIG_KUNIT = "y")]
fn errno<T>(result: Result<T>) -> i32 {
    result.err().map_or(0, |e| e.to_errno())
}

#[kunit_tests(rovl_vfs)]
mod refused {
    use super::*;
    use crate::vfs::{
        attr::{Attributes, Stat},
        bindings as b, cred, export,
        flags::{OpenFlags, RenameFlags, XattrFlags},
        lock::{Context, Nothing},
        super_block::StatFs,
        xattr, Dentry, Mount, Path, PrivateMount,
    };
    use core::ptr::NonNull;
    use kernel::error::from_err_ptr;

    const NAME: &[u8] = b"rovl-kunit";

    /// A filesystem of our own: the root of a kernel thread is an empty one.
    fn tmpfs() -> Result<PrivateMount> {
        // SAFETY: the name ends in NUL.
        let fs_type = unsafe { b::get_fs_type(c"tmpfs".as_char_ptr()) };
        if fs_type.is_null() {
            return Err(ENODEV);
        }
        // SAFETY: not null, and counted for us, which is nothing for what is built in.
        let mnt = from_err_ptr(unsafe { b::kern_mount(fs_type) })?;
        // SAFETY: made by `kern_mount` for us.
        Ok(unsafe { PrivateMount::from_raw(NonNull::new(mnt).ok_or(EIO)?) })
    }

    #[test]
    fn a_negative_dentry_is_refused() -> Result {
        let tmpfs = tmpfs()?;
        let (mnt, dentry): (&Mount, &Dentry) = (&tmpfs, tmpfs.root());
        // SAFETY: this thread holds no lock.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        let mut access = ctx.want_write(mnt)?;
        let negative = access.lock_name(dentry, NAME)?.keep();
        let path = Path::new(mnt, &negative);
        let me = cred::current();
        let wanted = ENOENT.to_errno();

        assert_eq!(errno(access.lock_name(&negative, NAME)), wanted);
        let (ours, other) = ((dentry, NAME), (&*negative, NAME));
        assert_eq!(
            errno(access.lock_rename(ours, other, RenameFlags::NONE)),
            wanted
        );
        assert_eq!(
            errno(access.lock_rename(other, ours, RenameFlags::NONE)),
            wanted
        );
        assert_eq!(errno(access.tmpfile(&negative, 0, &me)), wanted);
        let mut mode = Attributes::new().mode(0o600);
        assert_eq!(errno(access.set_attributes(&negative, &mut mode)), wanted);
        assert_eq!(
            errno(access.set_xattr(&negative, c"user.a", b"", XattrFlags::NONE)),
            wanted
        );
        assert_eq!(errno(access.remove_xattr(&negative, c"user.a")), wanted);
        assert_eq!(errno(xattr::get(path, c"user.a", &mut [])), wanted);
        assert_eq!(errno(Stat::boxed(path)), wanted);
        assert_eq!(errno(StatFs::of(path)), wanted);
        assert_eq!(errno(cred::for_copy_up(&negative)), wanted);
        path.touch_atime();
        drop(access);
        assert_eq!(errno(export::Handle::encode(&mut ctx, &negative)), wanted);
        assert_eq!(
            errno(path.open(&mut ctx, OpenFlags::READ_ONLY, &me)),
            wanted
        );
        assert_eq!(errno(path.lookup(&mut ctx, NAME)), wanted);
        Ok(())
    }

    #[test]
    fn what_is_no_directory_is_refused() -> Result {
        let tmpfs = tmpfs()?;
        let (mnt, dentry): (&Mount, &Dentry) = (&tmpfs, tmpfs.root());
        // SAFETY: this thread holds no lock.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        let mut access = ctx.want_write(mnt)?;
        let mut name = access.lock_name(dentry, NAME)?;
        name.create(0o600)?;
        let file = name.keep();
        let wanted = ENOTDIR.to_errno();

        let in_file = errno(access.lock_name(&file, NAME));
        // The type in the mode is that of the inode, whatever is asked.
        let mut mode = Attributes::new().mode(0o040_700);
        let changed = errno(access.set_attributes(&file, &mut mode));
        let is_regular = file.positive()?.is_regular();
        drop(access);
        let looked_up = errno(Path::new(mnt, &file).lookup(&mut ctx, NAME));
        drop(file);
        let mut access = ctx.want_write(mnt)?;
        let mut name = access.lock_name(dentry, NAME)?;
        let removed = errno(name.remove());
        let again = errno(name.remove());
        let special = errno(name.mknod(0o040_700, 0));
        drop(name);

        assert_eq!(in_file, wanted);
        assert_eq!(looked_up, wanted);
        assert_eq!(changed, 0);
        assert!(is_regular);
        assert_eq!(removed, 0);
        assert_eq!(again, ENOENT.to_errno());
        assert_eq!(special, EINVAL.to_errno());
        Ok(())
    }

    #[test]
    fn another_filesystem_is_refused() -> Result {
        let (here, other) = (tmpfs()?, tmpfs()?);
        let there = other.root();
        // SAFETY: this thread holds no lock.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        let mut access = ctx.want_write(&here)?;
        let wanted = EXDEV.to_errno();

        assert_eq!(errno(access.lock_name(there, NAME)), wanted);
        assert_eq!(
            errno(access.set_xattr(there, c"user.a", b"", XattrFlags::NONE)),
            wanted
        );
        let mut mode = Attributes::new().mode(0o600);
        assert_eq!(errno(access.set_attributes(there, &mut mode)), wanted);
        Ok(())
    }
}
