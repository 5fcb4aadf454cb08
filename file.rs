// SPDX-License-Identifier: GPL-2.0

//! Open and I/O of regular files.
//!
//! Each open file of ours stands on an open file of a layer, the backing file,
//! which is used with the mounter's credentials. A file that was opened for
//! reading, or with `O_TRUNC`, before its inode was copied up goes over to the
//! copy at the next operation, so it sees what is written later.
//!
//! Locks: what writes to the backing file does so with the `i_rwsem` of our own
//! inode held, so that size and times that are taken over from below afterwards
//! are never older than those another writer has taken over before. Reads take
//! no lock.

use crate::vfs::compat::EOPNOTSUPP;
use crate::{
    copyup,
    inode::{self, Real},
    layers::{self, Rovl},
    vfs::{
        self,
        file::{self, Owner, RegularFile, UserFile},
        file_ops::{self, Area, FileOperations, Iocb, Pipe},
        flags::OpenFlags,
        lock::{file_inode, Context, Held, Nothing},
        Dentry,
    },
};
use core::ops::Deref;
use kernel::{
    fs::File,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    sync::aref::ARef,
};

/// The backing file for one operation.
enum Backing<'a> {
    Kept(&'a File),
    /// Opened by this operation, the first after the inode was copied up.
    Once(ARef<File>),
}

impl Deref for Backing<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Backing::Kept(file) => file,
            Backing::Once(file) => file,
        }
    }
}

/// Opens the object that stands for `user_file` now.
fn open_real<H: Held>(
    ctx: &mut Context<H>,
    user_file: &UserFile<Rovl>,
    real: &Real<'_>,
) -> Result<ARef<File>> {
    let layers = layers::of(user_file.inode());
    layers.as_mounter(|| {
        let flags = real_flags(user_file, real)?;
        user_file.open_backing(ctx, real.path, flags, &layers.cred)
    })
}

/// With which flags that is done. Called as the mounter.
fn real_flags(user_file: &UserFile<Rovl>, real: &Real<'_>) -> Result<OpenFlags> {
    let mut flags = file::backing_flags(user_file.flags());
    if !real.is_upper {
        flags = flags.without(OpenFlags::ACCESS_MODE);
    }
    if layers::of(user_file.inode()).is_volatile() {
        flags = flags.without(OpenFlags::SYNC);
    }
    // The access time is that of our own inode, see `accessed`.
    if file::may_open_noatime(real.path)? {
        flags = flags.with(OpenFlags::NO_ATIME);
    }
    Ok(flags)
}

/// The backing file for the next operation, with the flags that `F_SETFL` may
/// have changed.
fn backing<'f, H: Held>(
    ctx: &mut Context<H>,
    user_file: &'f RegularFile<Rovl>,
) -> Result<Backing<'f>> {
    backing_if(ctx, user_file, true)
}

/// As [`backing`]; `EAGAIN` where there is none that is open, and nothing may be waited for.
fn backing_if<'f, H: Held>(
    ctx: &mut Context<H>,
    user_file: &'f RegularFile<Rovl>,
    may_wait: bool,
) -> Result<Backing<'f>> {
    let backing = match kept_backing(user_file) {
        Some(kept) => Backing::Kept(kept),
        None if !may_wait => return Err(EAGAIN),
        None => {
            let upper = open_real(ctx, user_file, &inode::real(user_file.inode())?)?;
            // Whoever comes first keeps its own for the others. Without memory each
            // operation opens one.
            let _ = user_file.backings().set_later(upper.clone());
            Backing::Once(upper)
        }
    };
    follow_flags(user_file, &backing);
    Ok(backing)
}

/// [`backing`] for a read or write, which may have to do without what can be waited for: a file
/// is opened, and somebody asked whether it may be, by the next one that waits.
fn backing_for<'f, H: Held>(ctx: &mut Context<H>, iocb: &Iocb<'f, Rovl>) -> Result<Backing<'f>> {
    backing_if(ctx, iocb.file(), !iocb.is_nowait())
}

/// The backing file, unless the inode was copied up after the file was opened
/// and nothing has opened the copy for it.
fn kept_backing(user_file: &RegularFile<Rovl>) -> Option<&File> {
    let (first, later) = user_file.backings().get();
    match user_file.inode().data().upper() {
        Some(upper) if !is_of(upper, first) => later,
        _ => Some(first),
    }
}

/// The backing file for `->mmap`, where nobody may be asked whether the copy may
/// be opened, nor waited for until he gives it back. The map keeps it; all else opens one
/// of which is told as usual.
fn mapped_backing(user_file: &RegularFile<Rovl>) -> Result<Backing<'_>> {
    if let Some(kept) = kept_backing(user_file) {
        return Ok(Backing::Kept(kept));
    }
    let layers = layers::of(user_file.inode());
    layers.as_mounter(|| {
        let real = inode::real(user_file.inode())?;
        let flags = real_flags(user_file, &real)?;
        let file = user_file.open_backing_unnoticed(real.path, flags, &layers.cred)?;
        Ok(Backing::Once(file))
    })
}

/// Makes `F_SETFL` of the user file reach the backing file.
///
/// `O_APPEND` does not: each write says by itself whether it appends, and with
/// the flag in the backing file `RWF_NOAPPEND` would do nothing. Only a file
/// that may be written to in no other way keeps it, as proof that it was opened
/// so.
fn follow_flags(user_file: &UserFile<Rovl>, backing: &File) {
    file::set_flags(backing, user_file.flags().without(OpenFlags::APPEND));
}

/// Takes size and times over from the upper object.
fn take_over_attributes(user_file: &UserFile<Rovl>) {
    let inode = user_file.inode();
    if let Some(upper) = inode.data().upper().and_then(|upper| upper.inode()) {
        inode.copy_attributes(upper);
    }
}

/// Whether `backing` is the upper object of the file, which may be written to.
fn is_upper(user_file: &UserFile<Rovl>, backing: &File) -> bool {
    let upper = user_file.inode().data().upper();
    upper.is_some_and(|upper| is_of(upper, backing))
}

fn is_of(object: &Dentry, file: &File) -> bool {
    object
        .inode()
        .is_some_and(|inode| inode.is_same(file_inode(file)))
}

/// Whether the object is copied up when the file is opened. With `O_TRUNC` it is
/// not: the VFS has still to ask whether it may be truncated, and does so by a
/// `setattr`, which copies it up without data. What is refused leaves the file as
/// it was.
fn copies_up(user_file: &UserFile<Rovl>) -> bool {
    let flags = user_file.flags();
    // The lower filesystem may do direct I/O and the upper one not, or the other
    // way round, and it is asked about the file that is open first.
    let truncated = flags.has(OpenFlags::TRUNCATE) && !flags.has(OpenFlags::DIRECT);
    user_file.is_writable() && !truncated
}

impl FileOperations for Rovl {
    fn open(ctx: &mut Context<Nothing>, user_file: &UserFile<Self>) -> Result<ARef<File>> {
        if copies_up(user_file) {
            copyup::copy_up(ctx, user_file.dentry())?;
        }
        let real = inode::real(user_file.inode())?;
        // A writable mapping outlives the file it was made with, and is one of
        // the backing file: our own inode does not know of it.
        if user_file.is_executed() && real.is_upper && real.path.inode()?.is_open_for_write() {
            return Err(ETXTBSY);
        }
        open_real(ctx, user_file, &real)
    }

    fn llseek(
        ctx: &mut Context<Nothing>,
        user_file: &RegularFile<Self>,
        offset: i64,
        whence: u32,
    ) -> Result<i64> {
        let inode = user_file.inode();
        let max = inode.sb().max_bytes();
        if !matches!(whence, file_ops::SEEK_DATA | file_ops::SEEK_HOLE) {
            let end = inode::real(inode)?.path.inode()?.size();
            return user_file.seek(offset, whence, max, end);
        }
        let backing = backing(ctx, user_file)?;
        let at =
            layers::of(inode).as_mounter(|| vfs::namei::llseek(ctx, &backing, offset, whence))?;
        user_file.seek(at, file_ops::SEEK_SET, max, at)
    }

    fn read_iter(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let user_file = iocb.file();
        let backing = backing_for(ctx, &iocb)?;
        iocb.read(ctx, &backing, &layers::of(user_file.inode()).cred, to)
    }

    fn write_iter(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let user_file = iocb.file();
        let inode = user_file.inode();
        let mut locked = match iocb.is_nowait() {
            true => ctx.try_lock_inode(inode)?,
            false => ctx.lock_inode(inode),
        };
        inode::check_mutable(inode)?;
        let backing = backing_for(&mut locked, &iocb)?;
        let layers = layers::of(inode);
        let iocb = match layers.is_volatile() {
            true => iocb.without_sync(),
            false => iocb,
        };
        iocb.write(&mut locked, &backing, &layers.cred, from)
    }

    fn splice_read(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        pipe: Pipe<'_>,
    ) -> Result<usize> {
        let user_file = iocb.file();
        let backing = backing(ctx, user_file)?;
        iocb.splice_from(ctx, &backing, &layers::of(user_file.inode()).cred, pipe)
    }

    fn splice_write(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        pipe: Pipe<'_>,
    ) -> Result<usize> {
        let user_file = iocb.file();
        let inode = user_file.inode();
        let mut locked = ctx.lock_inode(inode);
        inode::check_mutable(inode)?;
        let backing = backing(&mut locked, user_file)?;
        iocb.splice_to(&mut locked, &backing, &layers::of(inode).cred, pipe)
    }

    fn mmap(user_file: &RegularFile<Self>, area: Area<'_, Self>) -> Result {
        let backing = mapped_backing(user_file)?;
        follow_flags(user_file, &backing);
        area.map(&backing, &layers::of(user_file.inode()).cred)
    }

    fn fsync(
        ctx: &mut Context<Nothing>,
        user_file: &RegularFile<Self>,
        range: (i64, i64),
        datasync: bool,
    ) -> Result {
        if !layers::of(user_file.inode()).must_sync()? {
            return Ok(());
        }
        let backing = backing(ctx, user_file)?;
        // Nothing that is ours to write is in a lower file.
        if !is_upper(user_file, &backing) {
            return Ok(());
        }
        layers::of(user_file.inode()).as_mounter(|| ctx.fsync_range(&backing, range, datasync))
    }

    fn flush(ctx: &mut Context<Nothing>, user_file: &RegularFile<Self>, owner: Owner) -> Result {
        let backing = user_file.backings().latest();
        layers::of(user_file.inode()).as_mounter(|| file::flush(ctx, backing, owner))
    }

    fn fallocate(
        ctx: &mut Context<Nothing>,
        user_file: &RegularFile<Self>,
        mode: i32,
        offset: i64,
        len: i64,
    ) -> Result {
        let inode = user_file.inode();
        let mut locked = ctx.lock_inode(inode);
        let backing = backing(&mut locked, user_file)?;
        user_file.remove_privileges(&mut locked)?;
        let done = layers::of(inode).as_mounter(|| locked.fallocate(&backing, mode, offset, len));
        take_over_attributes(user_file);
        done
    }

    fn fadvise(
        ctx: &mut Context<Nothing>,
        user_file: &RegularFile<Self>,
        range: (i64, i64),
        advice: i32,
    ) -> Result {
        let backing = backing(ctx, user_file)?;
        layers::of(user_file.inode()).as_mounter(|| file::fadvise(ctx, &backing, range, advice))
    }

    fn copy_file_range(
        ctx: &mut Context<Nothing>,
        from: (&RegularFile<Self>, i64),
        to: (&RegularFile<Self>, i64),
        len: usize,
        flags: u32,
    ) -> Result<usize> {
        match copy_below(ctx, from, to, len, flags) {
            // Two filesystems below, one to the user.
            Err(e) if e == EXDEV || e == EOPNOTSUPP => {
                file_ops::splice_file_range(ctx, from, to, len)
            }
            copied => copied,
        }
    }

    fn remap_file_range(
        ctx: &mut Context<Nothing>,
        (from, from_pos): (&RegularFile<Self>, i64),
        (to, to_pos): (&RegularFile<Self>, i64),
        len: i64,
        flags: u32,
    ) -> Result<i64> {
        let dedupe = flags & file_ops::REMAP_FILE_DEDUP != 0;
        let mut locked = ctx.lock_inode(to.inode());
        inode::check_mutable(to.inode())?;
        let (source, target) = (backing(&mut locked, from)?, backing(&mut locked, to)?);
        // Nothing is copied up to save space: of two lower files there is
        // nothing that could be shared.
        if !is_upper(to, &target) || (dedupe && !is_upper(from, &source)) {
            return Err(EPERM);
        }
        if !dedupe {
            to.remove_privileges(&mut locked)?;
        }
        let done = layers::of(to.inode()).as_mounter(|| {
            locked.remap_range((&*source, from_pos), (&*target, to_pos), len, flags)
        });
        take_over_attributes(to);
        done
    }

    fn accessed(user_file: &RegularFile<Self>) {
        if !user_file.updates_atime() {
            return;
        }
        // The access time of a lower file cannot be changed. Whether that of an
        // upper one is to be depends on its other times, which a write through
        // a mapping has changed below only.
        let inode = user_file.inode();
        if let Some(upper) = inode.data().upper().and_then(|upper| upper.inode()) {
            inode.copy_times(upper);
            user_file.accessed();
        }
    }

    fn end_write(user_file: &RegularFile<Self>) {
        take_over_attributes(user_file);
    }
}

/// Copies by what the filesystems of the layers offer.
fn copy_below(
    ctx: &mut Context<Nothing>,
    (from, from_pos): (&RegularFile<Rovl>, i64),
    (to, to_pos): (&RegularFile<Rovl>, i64),
    len: usize,
    flags: u32,
) -> Result<usize> {
    let mut locked = ctx.lock_inode(to.inode());
    let (source, target) = (backing(&mut locked, from)?, backing(&mut locked, to)?);
    to.remove_privileges(&mut locked)?;
    // The mounter of the target is asked for both below, that of the source only here.
    if !from.inode().sb().is_same(to.inode().sb()) {
        layers::of(from.inode()).as_mounter(|| locked.verify_read(&source, from_pos, len))?;
    }
    let copied = layers::of(to.inode())
        .as_mounter(|| locked.copy_range((&*source, from_pos), (&*target, to_pos), len, flags));
    take_over_attributes(to);
    if copied.is_ok_and(|bytes| bytes > 0) {
        Rovl::accessed(from);
    }
    copied
}
