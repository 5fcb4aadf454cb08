// SPDX-License-Identifier: GPL-2.0

//! The work directory: made, swept, and used to try out what the upper
//! filesystem can do.
//!
//! What is being made lies in `work/` below the directory given as `workdir`,
//! as with overlayfs. It is made afresh at each mount: what a mount that
//! ended without an unmount has left there is removed, and nothing else is. That are
//! names as they give them (`#` and a number), where a directory may have whiteouts in it.
//! With anything else in it `work/` is somebody's own, who has named the wrong directory: the
//! mount is refused, and all stays as it is.

use super::{refuse, Quoted, Reason};
use crate::vfs::compat::{ENODATA, ENOTEMPTY, EOPNOTSUPP};
use crate::{
    copyup::pause,
    format::names::{self, Names},
    vfs::{
        self,
        acl::Kind,
        attr::Attributes,
        dir_ops::New,
        fileattr::Flag,
        flags::{RenameFlags, XattrFlags},
        fs_context::Log,
        iterate::{for_each_entry, DirFile},
        lock::{Context, Nothing, WriteAccess},
        Dentry, Mount, Path,
    },
    whiteout,
};
use core::ptr;
use kernel::{cred::Credential, error::Error, prelude::*, str::BStr, sync::aref::ARef};

/// The directory in `workdir`.
const WORK: &[u8] = b"work";
/// What a mount leaves in `work/` that others must not touch before somebody
/// has looked at it; overlayfs does so for volatile mounts.
const INCOMPATIBLE: &[u8] = b"incompat";
/// What a volatile mount leaves there: a directory, and an empty file in it.
const VOLATILE: &[u8] = b"volatile";
const DIRTY: &[u8] = b"dirty";
/// What the mount tries out is made at these names.
const TRIED: [&[u8]; 3] = [WHITEOUT, FROM, TO];
const WHITEOUT: &[u8] = b"#whiteout";
const FROM: &[u8] = b"#from";
const TO: &[u8] = b"#to";
/// How many names of a directory are kept in memory at a time.
const BATCH: usize = 256;

/// Whether rovl or overlayfs give such a name to what they make in `work/`: `#` and a
/// number ([`whiteout::TempName`]).
fn is_temporary(name: &[u8]) -> bool {
    let is_digit = |c: &u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    match name.split_first() {
        Some((b'#', number)) if !number.is_empty() && number.iter().all(is_digit) => true,
        _ => TRIED.contains(&name),
    }
}

/// A work directory that is ready.
pub(super) struct Prepared {
    pub(super) work: ARef<Dentry>,
    /// Whether files without a name can be made.
    pub(super) tmpfile: bool,
    /// Whether a whiteout can be left in one step where something is moved away.
    pub(super) rename_whiteout: bool,
}

/// What is needed to get there.
pub(super) struct Preparation<'a> {
    /// The upper layer's mount.
    pub(super) mnt: &'a Mount,
    /// The directory given as `workdir`.
    pub(super) base: &'a Dentry,
    /// As the user named it.
    pub(super) name: &'a CStr,
    /// How the user named the upper directory.
    pub(super) upper: &'a CStr,
    pub(super) cred: &'a Credential,
    pub(super) names: &'a Names,
    pub(super) log: &'a Log<'a>,
}

impl Preparation<'_> {
    #[inline(never)]
    pub(super) fn run(&self, context: &mut Context<Nothing>) -> Result<Prepared> {
        self.remove_old(context)?;
        let work = self.make(context)?;
        let mut access = context
            .want_write(self.mnt)
            .map_err(|e| self.refuse(e, "cannot be written to"))?;
        self.check_xattrs(&mut access, &work)?;
        self.check_whiteouts(&mut access, &work)?;
        let prepared = Prepared {
            tmpfile: self.can_tmpfile(&mut access, &work),
            rename_whiteout: self.can_rename(&mut access, &work, RenameFlags::WHITEOUT),
            work,
        };
        // Tried here, not on top of what a warning takes of the stack.
        let exchange = self.can_rename(&mut access, &prepared.work, RenameFlags::EXCHANGE);
        self.report(&prepared, exchange);
        Ok(prepared)
    }

    fn refuse(&self, e: Error, what: &str) -> Error {
        let name = Quoted(self.name);
        refuse!(self.log, e, "workdir {}: {}: {}", name, what, Reason(e))
    }

    /// The upper filesystem lacks something.
    fn lacks(&self, e: Error, what: &str) -> Error {
        let fs = self.base.super_block().type_name();
        refuse!(
            self.log,
            EINVAL,
            "upperdir {}: its filesystem ({}) {}: {}",
            Quoted(self.upper),
            fs,
            what,
            Reason(e)
        )
    }

    /// Removes `work/` of the last mount.
    fn remove_old(&self, context: &mut Context<Nothing>) -> Result {
        let old = {
            let mut access = context.want_write(self.mnt).map_err(|e| self.stays(e))?;
            let name = access
                .lock_name(self.base, WORK)
                .map_err(|e| self.stays(e))?;
            if name.inode().is_none() {
                return Ok(());
            }
            name.keep()
        };
        if !old.positive()?.is_dir() {
            return Err(self.is_foreign(Foreign::NoDirectory, b""));
        }
        self.check_removable(&old, b"")?;
        self.look(context, &old)?;
        self.sweep(context, &old).map_err(|e| self.stays(e))
    }

    /// `work/` cannot be removed.
    fn stays(&self, e: Error) -> Error {
        if e == EINTR {
            return e;
        }
        self.refuse(e, "cannot remove what the last mount left in 'work'")
    }

    /// There is something in the way that no mount leaves there, at this name in `work/` or,
    /// without one, `work` itself.
    fn is_foreign(&self, what: Foreign, name: &[u8]) -> Error {
        let mut path = KVec::new();
        let made = path
            .extend_from_slice(WORK, GFP_KERNEL)
            .and_then(|()| match name {
                b"" => Ok(()),
                name => {
                    path.push(b'/', GFP_KERNEL)?;
                    path.extend_from_slice(name, GFP_KERNEL)
                }
            })
            .and_then(|()| path.push(0, GFP_KERNEL));
        let path = match CStr::from_bytes_with_nul(&path) {
            Ok(path) if made.is_ok() => path,
            _ => c"work",
        };
        refuse!(
            self.log,
            ENOTEMPTY,
            "workdir {}: {} {}, so nothing in it has been removed; name another directory",
            Quoted(self.name),
            Quoted(path),
            match what {
                Foreign::NoDirectory => "is not a directory",
                Foreign::Unknown => "is nothing that a mount leaves there",
                Foreign::Full => "holds more than whiteouts, which no mount leaves there",
                Foreign::Immutable => "cannot be removed, it is immutable or append-only",
                Foreign::MountPoint => "cannot be removed, something is mounted there",
            }
        )
    }

    /// Refuses what could not be removed.
    fn check_removable(&self, dentry: &Dentry, name: &[u8]) -> Result {
        let fixed = Flag::Immutable.inode_flag() | Flag::Append.inode_flag();
        if dentry.positive()?.flags() & fixed != 0 {
            return Err(self.is_foreign(Foreign::Immutable, name));
        }
        if dentry.is_mountpoint() {
            return Err(self.is_foreign(Foreign::MountPoint, name));
        }
        Ok(())
    }

    fn incompatible(&self) -> Error {
        refuse!(
            self.log,
            EINVAL,
            "workdir {}: 'work/incompat' says that the last mount had a feature (volatile) \
             after which the upper layer may be damaged; make new upper and work directories, \
             or remove it",
            Quoted(self.name)
        )
    }

    /// Refuses what no mount leaves there. Changes nothing, and keeps nothing: there may be any
    /// number of names.
    fn look(&self, context: &mut Context<Nothing>, work: &Dentry) -> Result {
        let mut file = self.open(context, work).map_err(|e| self.stays(e))?;
        loop {
            let names = next_names(context, &mut file).map_err(|e| self.stays(e))?;
            if names.is_empty() {
                return Ok(());
            }
            for name in &names {
                self.look_at(context, work, name)?;
            }
        }
    }

    fn look_at(&self, context: &mut Context<Nothing>, work: &Dentry, name: &[u8]) -> Result {
        if vfs::completion::fatal_signal_pending() {
            return Err(EINTR);
        }
        let dentry = match Path::new(self.mnt, work).lookup(context, name) {
            Ok(dentry) => dentry,
            Err(e) if e == ENOENT => return Ok(()),
            Err(e) => return Err(self.stays(e)),
        };
        let is_dir = dentry.positive()?.is_dir();
        let is_incompatible = is_dir && name == INCOMPATIBLE;
        if !is_temporary(name) && !is_incompatible {
            return Err(self.is_foreign(Foreign::Unknown, name));
        }
        self.check_removable(&dentry, name)?;
        if !is_dir {
            return Ok(());
        }
        let mut file = self.open(context, &dentry).map_err(|e| self.stays(e))?;
        loop {
            let inside = next_names(context, &mut file).map_err(|e| self.stays(e))?;
            if inside.is_empty() {
                return Ok(());
            }
            if is_incompatible {
                return Err(self.incompatible());
            }
            for inner in &inside {
                if !self.is_whiteout(context, &dentry, inner)? {
                    return Err(self.is_foreign(Foreign::Full, name));
                }
            }
            if vfs::completion::fatal_signal_pending() {
                return Err(EINTR);
            }
        }
    }

    /// Whether there is a whiteout at this name, or nothing any more.
    fn is_whiteout(
        &self,
        context: &mut Context<Nothing>,
        dir: &Dentry,
        name: &[u8],
    ) -> Result<bool> {
        match Path::new(self.mnt, dir).lookup(context, name) {
            Ok(dentry) => whiteout::is_whiteout(self.names, Path::new(self.mnt, &dentry)),
            Err(e) if e == ENOENT => Ok(true),
            Err(e) => Err(self.stays(e)),
        }
    }

    /// Removes what [`Self::look`] has seen, and `work/` itself. Somebody else may have changed it
    /// since: what is not to be removed stays.
    fn sweep(&self, context: &mut Context<Nothing>, work: &Dentry) -> Result {
        while self.sweep_batch(context, work)? {}
        let mut access = context.want_write(self.mnt)?;
        let mut name = access.lock_name(self.base, WORK)?;
        if !name.dentry().is_same(work) {
            return Err(EBUSY);
        }
        name.remove()
    }

    /// Some of the names in `work/`, from the beginning: positions of names that are gone may
    /// mean nothing. Whether one was there: with those that are not it would not end.
    #[inline(never)]
    fn sweep_batch(&self, context: &mut Context<Nothing>, work: &Dentry) -> Result<bool> {
        let mut removed = false;
        for name in &self.first_names(context, work)? {
            removed |= self.sweep_name(context, work, name)?;
            if vfs::completion::fatal_signal_pending() {
                return Err(EINTR);
            }
        }
        Ok(removed)
    }

    fn sweep_name(
        &self,
        context: &mut Context<Nothing>,
        work: &Dentry,
        name: &[u8],
    ) -> Result<bool> {
        if !is_temporary(name) && name != INCOMPATIBLE {
            return Err(EBUSY);
        }
        let dir = context.want_write(self.mnt)?.lock_name(work, name)?.keep();
        if dir.can_lookup() && name != INCOMPATIBLE {
            while self.sweep_whiteouts(context, &dir)? {}
        }
        let mut access = context.want_write(self.mnt)?;
        let mut locked = access.lock_name(work, name)?;
        match locked.inode() {
            None => return Ok(false),
            Some(inode) if name == INCOMPATIBLE && !inode.is_dir() => return Err(EBUSY),
            Some(_) => locked.remove()?,
        }
        Ok(true)
    }

    /// As [`Self::sweep_batch`], for a directory in `work/`.
    #[inline(never)]
    fn sweep_whiteouts(&self, context: &mut Context<Nothing>, dir: &Dentry) -> Result<bool> {
        let mut removed = false;
        for name in &self.first_names(context, dir)? {
            let mut access = context.want_write(self.mnt)?;
            let mut locked = access.lock_name(dir, name)?;
            if locked.inode().is_none() {
                continue;
            }
            if !whiteout::is_whiteout(self.names, Path::new(self.mnt, locked.dentry()))? {
                return Err(EBUSY);
            }
            locked.remove()?;
            removed = true;
            if vfs::completion::fatal_signal_pending() {
                return Err(EINTR);
            }
        }
        Ok(removed)
    }

    fn first_names(&self, context: &mut Context<Nothing>, dir: &Dentry) -> Result<KVec<KVec<u8>>> {
        let mut file = self.open(context, dir)?;
        next_names(context, &mut file)
    }

    fn open(&self, context: &mut Context<Nothing>, dir: &Dentry) -> Result<DirFile> {
        DirFile::open(context, Path::new(self.mnt, dir), self.cred)
    }

    /// Makes `work/`: nobody but us looks into it, and what is made in it gets
    /// no owner, mode or list of its parent's.
    fn make(&self, context: &mut Context<Nothing>) -> Result<ARef<Dentry>> {
        let failed = |e| self.refuse(e, "cannot make 'work' in it");
        let mut access = context.want_write(self.mnt).map_err(failed)?;
        let work = access
            .lock_name(self.base, WORK)
            .and_then(|name| name.mkdir(0))
            .map_err(failed)?
            .keep();
        for kind in [Kind::Access, Kind::Default] {
            match access.set_acl(&work, kind, None) {
                Err(e) if e != ENODATA && e != EOPNOTSUPP => return Err(failed(e)),
                _ => {}
            }
        }
        let mut attributes = Attributes::new().mode(New::Directory { mode: 0 }.mode());
        access
            .set_attributes(&work, &mut attributes)
            .map_err(failed)?;
        Ok(work)
    }

    fn check_xattrs(&self, access: &mut WriteAccess<'_>, work: &Dentry) -> Result {
        access
            .set_xattr(work, self.names.opaque, b"0", XattrFlags::NONE)
            .and_then(|()| access.remove_xattr(work, self.names.opaque))
            .map_err(|e| match ptr::eq(self.names, &names::USER) {
                true => self.lacks(e, "cannot keep xattrs (user.overlay.*)"),
                false => self.lacks(e, "cannot keep xattrs (trusted.overlay.*)"),
            })
    }

    fn check_whiteouts(&self, access: &mut WriteAccess<'_>, work: &Dentry) -> Result {
        let mut try_out = || {
            let mut name = access.lock_name(work, WHITEOUT)?;
            name.whiteout()?;
            let is_whiteout = name.inode().is_some_and(|inode| inode.is_whiteout());
            name.remove()?;
            is_whiteout.then_some(()).ok_or(EINVAL)
        };
        try_out().map_err(|e: Error| self.lacks(e, "cannot keep whiteouts (device nodes 0/0)"))
    }

    fn can_tmpfile(&self, access: &mut WriteAccess<'_>, work: &Dentry) -> bool {
        pause::may_use_tmpfile()
            && work.positive().is_ok_and(|inode| inode.has_tmpfile())
            && access.tmpfile(work, 0, self.cred).is_ok()
    }

    /// Whether the filesystem has a flag of `renameat2`. Leaves nothing behind.
    #[inline(never)]
    fn can_rename(&self, access: &mut WriteAccess<'_>, work: &Dentry, flag: RenameFlags) -> bool {
        let [from, to] = [FROM, TO];
        let mut try_out = || {
            access.lock_name(work, from)?.create(0)?;
            if flag == RenameFlags::EXCHANGE {
                access.lock_name(work, to)?.create(0)?;
            }
            access.lock_rename((work, from), (work, to), flag)?.rename()
        };
        let can = try_out().is_ok();
        for name in [from, to] {
            let removed = access
                .lock_name(work, name)
                .and_then(|mut name| match name.inode() {
                    Some(_) => name.remove(),
                    None => Ok(()),
                });
            if let Err(e) = removed {
                self.leaves(name, e);
            }
        }
        can
    }

    /// What was tried out could not be removed. The next mount does it.
    #[cold]
    #[inline(never)]
    fn leaves(&self, name: &[u8], e: Error) {
        self.log.warn(fmt!(
            "workdir {}: cannot remove '{}' from 'work', where it was tried out: {}",
            Quoted(self.name),
            BStr::from_bytes(name),
            Reason(e)
        ));
    }

    /// Says what the upper filesystem cannot do, and what is different for it.
    #[inline(never)]
    fn report(&self, prepared: &Prepared, exchange: bool) {
        let work = &prepared.work;
        let sb = work.super_block();
        let lacks = [
            (
                prepared.tmpfile,
                "files without a name: no O_TMPFILE, and what a crash leaves of a copy \
                 lies in the work directory until the next mount",
            ),
            (
                prepared.rename_whiteout,
                "RENAME_WHITEOUT: to rename an object of a lower layer fails with EXDEV",
            ),
            (
                exchange,
                "RENAME_EXCHANGE: directories of lower layers cannot be removed or replaced",
            ),
            (
                work.positive().is_ok_and(vfs::acl::are_supported),
                "access control lists: an object of a lower layer that has one cannot be changed",
            ),
            (
                vfs::export::can_decode(sb),
                "file handles: what is copied up may have another inode number after the \
                 next mount",
            ),
        ];
        for (_, what) in lacks.iter().filter(|(has, _)| !has) {
            self.log.warn(fmt!(
                "upperdir {}: its filesystem ({}) has no {}",
                Quoted(self.upper),
                sb.type_name(),
                what
            ));
        }
    }
}

/// Leaves what keeps the next mount off, of rovl or overlayfs: somebody has to remove it who knows
/// that there was no crash, or to begin with an empty upper directory. So it is done when nothing
/// else can refuse the mount but for want of memory.
#[inline(never)]
pub(super) fn mark_volatile(context: &mut Context<Nothing>, mnt: &Mount, work: &Dentry) -> Result {
    let mut access = context.want_write(mnt)?;
    let incompatible = access.lock_name(work, INCOMPATIBLE)?.mkdir(0)?.keep();
    let volatile = access.lock_name(&incompatible, VOLATILE)?.mkdir(0)?.keep();
    access.lock_name(&volatile, DIRTY)?.create(0)?;
    Ok(())
}

/// What is not to be removed.
enum Foreign {
    NoDirectory,
    /// A name that no mount gives.
    Unknown,
    /// A directory that is not empty.
    Full,
    Immutable,
    MountPoint,
}

/// The names that come next in a directory, no more than [`BATCH`]; none at its end.
fn next_names(context: &mut Context<Nothing>, file: &mut DirFile) -> Result<KVec<KVec<u8>>> {
    let mut names: KVec<KVec<u8>> = KVec::new();
    let mut result = Ok(());
    for_each_entry(context, file, &mut |entry| {
        if names.len() >= BATCH {
            return false;
        }
        if !entry.is_dot() {
            result = push_name(&mut names, entry.name);
        }
        result.is_ok()
    })?;
    result.map(|()| names)
}

fn push_name(names: &mut KVec<KVec<u8>>, name: &[u8]) -> Result {
    let mut copy = KVec::with_capacity(name.len(), GFP_KERNEL)?;
    copy.extend_from_slice(name, GFP_KERNEL)?;
    Ok(names.push(copy, GFP_KERNEL)?)
}
