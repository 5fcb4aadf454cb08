// SPDX-License-Identifier: GPL-2.0

//! Reading a directory of another filesystem.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h) (`iterate_dir`,
//! `struct dir_context`)

use super::{
    bindings as b, cred::with_creds, file::may_open_noatime, lock::MayLockDirectory, namei,
    readdir::DirContext, Path,
};
use core::ptr::NonNull;
use kernel::{
    cred::Credential,
    error::{from_err_ptr, to_result},
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

/// Opens a directory for reading its entries (`dentry_open`), as `cred`, and
/// leaves its access time alone if that may do so: whether the one who lists
/// changes it is for his own mount to say.
///
/// # Errors
///
/// `ENOTDIR`, or what the filesystem says.
pub(crate) fn open_dir(path: Path<'_>, cred: &Credential) -> Result<ARef<File>> {
    if !path.dentry.can_lookup() {
        return Err(ENOTDIR);
    }
    let mut flags = b::O_RDONLY | b::O_DIRECTORY | b::O_LARGEFILE;
    if with_creds(cred, || may_open_noatime(path))? {
        flags |= b::O_NOATIME;
    }
    let path = path.as_c();
    // SAFETY: the path and the credentials are valid for the call, which takes
    // references of its own.
    let file = from_err_ptr(unsafe { b::dentry_open(&path, flags as c_int, cred.as_ptr()) })?;
    let file = NonNull::new(file).ok_or(EIO)?;
    // SAFETY: a counted file that only we know, so no `fdget_pos` is on it.
    Ok(unsafe { ARef::from_raw(file.cast()) })
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

    /// `iterate_dir` until `visit` stops or nothing comes: a filesystem may hand out
    /// a part only. Where it is then is in `ctx`, also after an error.
    fn run(&mut self, _may_lock: &mut impl MayLockDirectory, dir: &File) -> Result {
        self.ctx.actor = Some(actor::<F>);
        loop {
            self.seen = 0;
            // SAFETY: the file is open; the visitor outlives the call, and its
            // actor fits. We hold no lock of the filesystem (`_may_lock`).
            to_result(unsafe { b::iterate_dir(dir.as_ptr(), (&raw mut *self).cast()) })?;
            if self.stopped || self.seen == 0 {
                return Ok(());
            }
        }
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
/// `ENOTDIR` for a file that is no directory, `ENOENT` for one that has been
/// removed, or what the filesystem says.
pub(crate) fn for_each_entry(
    may_lock: &mut impl MayLockDirectory,
    dir: &File,
    visit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result {
    let mut visitor = Visitor::new(visit);
    visitor.ctx.count = c_int::MAX;
    visitor.run(may_lock, dir)
}

/// What becomes of an entry that could be passed on.
pub(crate) enum Pass {
    /// It is passed on, with this inode number.
    As(u64),
    Skip,
    /// Nothing yet: it comes first next time.
    Stop,
}

/// Passes entries of `dir` on to `out`, from the position of `out` on and with
/// the positions of `dir`, until there is no room, `decide` stops, or there are
/// no more.
///
/// `decide` runs as `visit` of [`for_each_entry`] does; `dir` is used by one
/// task at a time.
///
/// # Errors
///
/// Those of [`for_each_entry`], and `EINVAL` for a position that the filesystem
/// does not know.
pub(crate) fn pass_entries(
    may_lock: &mut impl MayLockDirectory,
    dir: &File,
    out: &mut DirContext<'_>,
    decide: &mut dyn FnMut(&Entry<'_>) -> Pass,
) -> Result {
    // SAFETY: the file is open, and nobody else moves its position.
    if unsafe { (*dir.as_ptr()).f_pos } != out.pos() {
        namei::llseek(dir, out.pos(), b::SEEK_SET)?;
    }
    let (count, start) = (out.count(), out.pos());
    let mut visitor = Visitor::new(|entry: Entry<'_>| {
        out.set_pos(entry.offset);
        match decide(&entry) {
            Pass::As(ino) => out.emit(entry.name, ino, entry.d_type),
            Pass::Skip => true,
            Pass::Stop => false,
        }
    });
    visitor.ctx.count = count;
    // It stays where it is if the filesystem is not even asked.
    visitor.ctx.pos = start;
    let passed = visitor.run(may_lock, dir);
    let end = visitor.ctx.pos;
    out.set_pos(end);
    passed
}
