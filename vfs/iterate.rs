// SPDX-License-Identifier: GPL-2.0

//! Reading a directory of another filesystem.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h) (`iterate_dir`,
//! `struct dir_context`)

use super::{
    attr::permission,
    bindings as b,
    cred::with_creds,
    file::may_open_noatime,
    from_count,
    inode_ops::Access,
    lock::{file_dentry, Context, Held, MayLockDirectory},
    readdir::DirContext,
    to_result, Dentry, Path,
};
use core::{cell::Cell, ptr::NonNull};
use kernel::{
    cred::Credential,
    error::from_err_ptr,
    ffi::{c_char, c_int, c_uint},
    fs::File,
    prelude::*,
    sync::aref::ARef,
};

/// One entry of a directory, as its filesystem lists it.
pub(crate) struct Entry<'a> {
    /// The name, without a NUL; `.` and `..` are listed too.
    pub(crate) name: &'a [u8],
    /// The inode number, as the filesystem lists it (`d_ino`).
    pub(crate) ino: u64,
    /// The type (`DT_DIR`, ...); `DT_UNKNOWN` where the filesystem does not say.
    pub(crate) d_type: u8,
    /// Its position in the directory.
    offset: i64,
}

impl Entry<'_> {
    /// Whether this is `.` or `..`.
    pub(crate) fn is_dot(&self) -> bool {
        matches!(self.name, b"." | b"..")
    }
}

/// A directory of another filesystem, open for reading its entries.
///
/// A filesystem keeps in the file where a reader is, without a lock: the VFS has
/// `f_pos_lock` for that, and here whoever reads has the file to himself.
///
/// # Invariants
///
/// The file is an open directory, and known to nobody else.
pub(crate) struct DirFile(ARef<File>);

impl DirFile {
    /// Opens a directory for reading its entries (`dentry_open`), as `cred`, if
    /// they may read it, and leaves its access time alone if they may do that:
    /// whether the one who lists changes it is for his own mount to say.
    ///
    /// Whoever watches may be asked for permission (`FAN_OPEN_PERM`), and what he
    /// looks at first may be locked no more than frozen: `_may_lock` says that
    /// nothing is.
    ///
    /// # Errors
    ///
    /// `ENOTDIR`, `EACCES`, or what the filesystem says.
    pub(crate) fn open(
        _may_lock: &mut impl MayLockDirectory,
        path: Path<'_>,
        cred: &Credential,
    ) -> Result<Self> {
        if !path.dentry.can_lookup() {
            return Err(ENOTDIR);
        }
        path.check_mount()?;
        let may_leave_atime = with_creds(cred, || {
            permission(path, Access::READ.and(Access::OPEN))?;
            may_open_noatime(path)
        })?;
        let mut flags = b::O_RDONLY | b::O_DIRECTORY | b::O_LARGEFILE;
        if may_leave_atime {
            flags |= b::O_NOATIME;
        }
        let path = path.as_c();
        // SAFETY: the path and the credentials are valid for the call, which takes
        // references of its own.
        let file = from_err_ptr(unsafe { b::dentry_open(&path, flags as c_int, cred.as_ptr()) })?;
        let file = NonNull::new(file).ok_or(EIO)?;
        // SAFETY: a counted file that only we know, so no `fdget_pos` is on it.
        Ok(Self(unsafe { ARef::from_raw(file.cast()) }))
    }

    /// The dentry of the directory.
    pub(crate) fn dentry(&self) -> &Dentry {
        file_dentry(&self.0)
    }

    /// `vfs_fsync`: waits until the directory is durable. Tells of an error in
    /// writing it back once.
    pub(crate) fn fsync<H: Held>(&self, context: &mut Context<H>) -> Result {
        context.fsync(&self.0)
    }

    /// Goes to the entry at `pos`.
    fn seek(&mut self, pos: i64) -> Result {
        let file = self.0.as_ptr();
        // SAFETY: the file is open, and its position is ours (type invariant).
        if unsafe { (*file).f_pos } == pos {
            return Ok(());
        }
        // SAFETY: as above. It may lock the directory: those that let us get here
        // have evidence that none is.
        let at = unsafe { b::vfs_llseek(file, pos, b::SEEK_SET as c_int) };
        from_count(at as isize).map(|_| ())
    }
}

/// What travels through `iterate_dir` to its actor.
#[repr(C)]
struct Visitor<F> {
    ctx: b::dir_context,
    visit: F,
    /// Entries seen in this call of `iterate_dir`.
    seen: usize,
    stopped: bool,
}

impl<F: FnMut(Entry<'_>) -> bool> Visitor<F> {
    fn new(visit: F) -> Self {
        Self {
            ctx: pin_init::zeroed(),
            visit,
            seen: 0,
            stopped: false,
        }
    }

    /// `iterate_dir`: a filesystem may hand out a part only. Whether more may come: not if
    /// `visit` stopped or nothing came. Where it is then is in `ctx`, also after an error.
    fn run(&mut self, _may_lock: &mut impl MayLockDirectory, dir: &mut DirFile) -> Result<bool> {
        self.ctx.actor = Some(actor::<F>);
        self.seen = 0;
        // SAFETY: the file is open and ours alone (invariant of `DirFile`); the
        // visitor outlives the call, and its actor fits. We hold no lock of the
        // filesystem (`_may_lock`).
        to_result(unsafe { b::iterate_dir(dir.0.as_ptr(), (&raw mut *self).cast()) })?;
        Ok(!self.stopped && self.seen > 0)
    }
}

/// # Safety
///
/// Only for `iterate_dir` to call, with the `ctx` of a [`Visitor<F>`].
unsafe extern "C" fn actor<F: FnMut(Entry<'_>) -> bool>(
    ctx: *mut b::dir_context,
    name: *const c_char,
    len: c_int,
    offset: b::loff_t,
    ino: u64,
    d_type: c_uint,
) -> bool {
    // SAFETY: `ctx` is the first field of the visitor that `run` has, and which
    // nobody uses while `iterate_dir` runs.
    let visitor = unsafe { &mut *ctx.cast::<Visitor<F>>() };
    let len = usize::try_from(len).unwrap_or(0);
    // SAFETY: the filesystem passes a name of `len` bytes, valid for the call.
    let name = unsafe { core::slice::from_raw_parts(name.cast::<u8>(), len) };
    visitor.seen = visitor.seen.saturating_add(1);
    let go_on = (visitor.visit)(Entry {
        name,
        ino,
        // The high bits are flags for actors that ask for them.
        d_type: (d_type & b::S_DT_MASK) as u8,
        offset,
    });
    visitor.stopped |= !go_on;
    go_on
}

/// Calls `visit` for each entry from the position of `dir` to the end, or until
/// it returns false.
///
/// `visit` runs with the directory's `i_rwsem` held shared: it must not use the
/// filesystem. `may_lock` says that nothing of that filesystem is locked yet.
///
/// # Errors
///
/// `ENOENT` for a directory that has been removed, or what the filesystem says.
pub(crate) fn for_each_entry(
    may_lock: &mut impl MayLockDirectory,
    dir: &mut DirFile,
    visit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result {
    let mut visitor = Visitor::new(visit);
    visitor.ctx.count = c_int::MAX;
    while visitor.run(may_lock, dir)? {}
    Ok(())
}

/// What becomes of an entry that could be passed on.
pub(crate) enum Pass {
    /// It is passed on, with this inode number.
    As(u64),
    Skip,
    /// Nothing yet: it comes first next time.
    Stop,
}

/// Passes entries of `dir` on as they are: `iterate_dir` with what `out` is made of, from
/// its position on. Who asks once only gets what the filesystem hands out at once, as he
/// does from itself.
///
/// # Errors
///
/// As [`pass_entries`].
pub(crate) fn pass_all(
    _may_lock: &mut impl MayLockDirectory,
    dir: &mut DirFile,
    out: &mut DirContext<'_>,
) -> Result {
    dir.seek(out.pos())?;
    // SAFETY: the file is open and ours alone (invariant of `DirFile`), the context the
    // caller's for this call. We hold no lock of the filesystem (`_may_lock`).
    to_result(unsafe { b::iterate_dir(dir.0.as_ptr(), out.as_c()) })
}

/// Passes entries of `dir` on to `out`, from the position of `out` on and with
/// the positions of `dir`, until there is no room, `decide` stops, or there are
/// no more. Returns whether it has seen that there are no more. Whoever reads comes again
/// until he gets none, so a filesystem that hands out a part is asked for more only if
/// none of that was passed on.
///
/// `decide` runs as `visit` of [`for_each_entry`] does.
///
/// # Errors
///
/// Those of [`for_each_entry`], and `EINVAL` for a position that the filesystem
/// does not know.
pub(crate) fn pass_entries(
    may_lock: &mut impl MayLockDirectory,
    dir: &mut DirFile,
    out: &mut DirContext<'_>,
    decide: &mut impl FnMut(&Entry<'_>) -> Pass,
) -> Result<bool> {
    dir.seek(out.pos())?;
    let (count, start) = (out.count(), out.pos());
    let passed_on = Cell::new(false);
    let mut visitor = Visitor::new(|entry: Entry<'_>| {
        out.set_pos(entry.offset);
        match decide(&entry) {
            Pass::As(ino) => {
                // One who asks only once whether there is something asks for other names.
                passed_on.set(passed_on.get() || !entry.is_dot());
                out.emit(entry.name, ino, entry.d_type)
            }
            Pass::Skip => true,
            Pass::Stop => false,
        }
    });
    visitor.ctx.count = count;
    // It stays where it is if the filesystem is not even asked.
    visitor.ctx.pos = start;
    let passed = loop {
        match visitor.run(may_lock, dir) {
            Ok(true) if !passed_on.get() => {}
            passed => break passed,
        }
    };
    let at_end = !visitor.stopped && visitor.seen == 0;
    let end = visitor.ctx.pos;
    out.set_pos(end);
    passed.map(|_| at_end)
}
