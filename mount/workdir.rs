// SPDX-License-Identifier: GPL-2.0

//! The work directory: made, swept, and used to try out what the upper
//! filesystem can do.
//!
//! What is being made lies in `work/` below the directory given as `workdir`,
//! as with overlayfs. It is made afresh at each mount: whatever a mount that
//! ended without an unmount has left there is removed.

use super::{refuse, Quoted, Reason};
use crate::vfs::compat::{ENODATA, ENOTEMPTY, EOPNOTSUPP};
use crate::{
    copyup::pause,
    format::names::{self, Names},
    vfs::{
        self,
        acl::Kind,
        attr::Attributes,
        bindings::{RENAME_EXCHANGE, RENAME_WHITEOUT},
        fs_context::Log,
        iterate::{for_each_entry, DirFile},
        lock::{Context, Nothing, WriteAccess},
        Dentry, Mount, Path,
    },
};
use core::ptr;
use kernel::{cred::Credential, error::Error, prelude::*, sync::aref::ARef};

/// The directory in `workdir`.
const WORK: &[u8] = b"work";
/// What a mount leaves in `work/` that others must not touch before somebody
/// has looked at it; overlayfs does so for volatile mounts.
const INCOMPATIBLE: &[u8] = b"incompat";
/// How deep leftovers may lie in each other. They are at most a directory with
/// whiteouts in it.
const MAX_DEPTH: usize = 32;

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
            rename_whiteout: self.can_rename(&mut access, &work, RENAME_WHITEOUT),
            work,
        };
        self.report(&mut access, &prepared);
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
        let failed = |e| self.refuse(e, "cannot remove what the last mount left in 'work'");
        let old = {
            let mut access = context.want_write(self.mnt).map_err(failed)?;
            let name = access.lock_name(self.base, WORK).map_err(failed)?;
            match name.inode().map(|inode| inode.is_dir()) {
                None => return Ok(()),
                Some(false) => None,
                Some(true) => Some(name.keep()),
            }
        };
        if let Some(old) = &old {
            self.sweep(context, old)?;
        }
        let mut access = context.want_write(self.mnt).map_err(failed)?;
        let mut name = access.lock_name(self.base, WORK).map_err(failed)?;
        name.remove().map_err(failed)
    }

    /// Removes all that is in a directory, deepest first.
    fn sweep(&self, context: &mut Context<Nothing>, dir: &Dentry) -> Result {
        let failed = |e| self.refuse(e, "cannot remove what the last mount left in 'work'");
        let mut path: KVec<ARef<Dentry>> = KVec::new();
        path.push(dir.into(), GFP_KERNEL)?;
        let mut done: Option<ARef<Dentry>> = None;
        while let Some(at) = path.last() {
            let at = at.clone();
            let is_top = path.len() == 1;
            match self.clear(context, &at, is_top).map_err(failed)? {
                Cleared::All => done = path.pop(),
                Cleared::Incompatible => return Err(self.incompatible()),
                // It was empty a moment ago, or there is no end.
                Cleared::AllBut(dir) if done.as_ref().is_some_and(|d| d.is_same(&dir)) => {
                    return Err(failed(ENOTEMPTY));
                }
                Cleared::AllBut(_) if path.len() >= MAX_DEPTH => return Err(self.too_deep()),
                Cleared::AllBut(dir) => path.push(dir, GFP_KERNEL)?,
            }
            if vfs::completion::fatal_signal_pending() {
                return Err(EINTR);
            }
        }
        Ok(())
    }

    fn too_deep(&self) -> Error {
        refuse!(
            self.log,
            ENOTEMPTY,
            "workdir {}: 'work' holds directories more than {} deep, which no mount leaves there; \
             remove it",
            Quoted(self.name),
            MAX_DEPTH
        )
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

    /// Removes what can be removed at once, and says what cannot.
    fn clear(&self, context: &mut Context<Nothing>, dir: &Dentry, is_top: bool) -> Result<Cleared> {
        let names = self.names_in(context, dir)?;
        let mut access = context.want_write(self.mnt)?;
        for name in &names {
            let mut locked = access.lock_name(dir, name)?;
            if locked.inode().is_none() {
                continue;
            }
            match locked.remove() {
                Err(e) if e == ENOTEMPTY && is_top && name.as_slice() == INCOMPATIBLE => {
                    return Ok(Cleared::Incompatible);
                }
                Err(e) if e == ENOTEMPTY => return Ok(Cleared::AllBut(locked.keep())),
                removed => removed?,
            }
        }
        Ok(Cleared::All)
    }

    fn names_in(&self, context: &mut Context<Nothing>, dir: &Dentry) -> Result<KVec<KVec<u8>>> {
        let mut file = DirFile::open(context, Path::new(self.mnt, dir), self.cred)?;
        let mut names: KVec<KVec<u8>> = KVec::new();
        let mut result = Ok(());
        for_each_entry(context, &mut file, &mut |entry| {
            if !entry.is_dot() {
                result = push_name(&mut names, entry.name);
            }
            result.is_ok()
        })?;
        result.map(|()| names)
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
        let mut attributes = Attributes::new().mode(vfs::bindings::S_IFDIR as u16);
        access
            .set_attributes(&work, &mut attributes)
            .map_err(failed)?;
        Ok(work)
    }

    fn check_xattrs(&self, access: &mut WriteAccess<'_>, work: &Dentry) -> Result {
        access
            .set_xattr(work, self.names.opaque, b"0", 0)
            .and_then(|()| access.remove_xattr(work, self.names.opaque))
            .map_err(|e| match ptr::eq(self.names, &names::USER) {
                true => self.lacks(e, "cannot keep xattrs (user.overlay.*)"),
                false => self.lacks(e, "cannot keep xattrs (trusted.overlay.*)"),
            })
    }

    fn check_whiteouts(&self, access: &mut WriteAccess<'_>, work: &Dentry) -> Result {
        let mut try_out = || {
            let mut name = access.lock_name(work, b"#whiteout")?;
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
    fn can_rename(&self, access: &mut WriteAccess<'_>, work: &Dentry, flag: u32) -> bool {
        const NAMES: [&[u8]; 2] = [b"#from", b"#to"];
        let [from, to] = NAMES;
        let mut try_out = || {
            access.lock_name(work, from)?.create(0)?;
            if flag == RENAME_EXCHANGE {
                access.lock_name(work, to)?.create(0)?;
            }
            access.lock_rename((work, from), (work, to), flag)?.rename()
        };
        let can = try_out().is_ok();
        for name in NAMES {
            let removed = access
                .lock_name(work, name)
                .and_then(|mut name| match name.inode() {
                    Some(_) => name.remove(),
                    None => Ok(()),
                });
            if removed.is_err() {
                pr_warn!("cannot remove a leftover in work/\n");
            }
        }
        can
    }

    /// Says what the upper filesystem cannot do, and what is different for it.
    #[inline(never)]
    fn report(&self, access: &mut WriteAccess<'_>, prepared: &Prepared) {
        let work = &prepared.work;
        let exchange = self.can_rename(access, work, RENAME_EXCHANGE);
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

/// What [`Preparation::clear`] has done.
enum Cleared {
    All,
    /// All up to a directory that is not empty.
    AllBut(ARef<Dentry>),
    /// There is something that must not be removed.
    Incompatible,
}

fn push_name(names: &mut KVec<KVec<u8>>, name: &[u8]) -> Result {
    let mut copy = KVec::with_capacity(name.len(), GFP_KERNEL)?;
    copy.extend_from_slice(name, GFP_KERNEL)?;
    Ok(names.push(copy, GFP_KERNEL)?)
}
