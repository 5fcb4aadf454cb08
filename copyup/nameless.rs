// SPDX-License-Identifier: GPL-2.0

//! Step 2 of a copy-up: the copy, before it has its name.
//!
//! A regular file is made by the upper filesystem's `->tmpfile`, which a crash
//! cannot leave behind. Where there is none, and for everything else, it gets a
//! temporary name in `work/`, which the next mount sweeps.

use super::Copy;
use crate::{
    vfs::{
        self,
        flags::OpenFlags,
        inode::Kind,
        inode_ops::Link,
        lock::{file_dentry, Context, Held, LockedName, WriteAccess},
        Dentry, Path,
    },
    whiteout::TempName,
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

/// A regular file without its name.
pub(super) struct Nameless {
    dentry: ARef<Dentry>,
    /// Its name in `work/`, if it has one.
    pub(super) temp: Option<TempName>,
}

/// A directory, symlink or special file under a temporary name.
pub(super) struct Temp {
    dentry: ARef<Dentry>,
    pub(super) name: TempName,
}

impl Nameless {
    pub(super) fn dentry(&self) -> &Dentry {
        &self.dentry
    }

    /// The copy came to nothing.
    #[inline(never)]
    pub(super) fn discard<H: Held>(&self, ctx: &mut Context<H>, copy: &Copy<'_>) {
        let Some(temp) = &self.temp else { return };
        if let Ok(mut access) = ctx.want_write(&copy.upper.layer.mnt) {
            copy.upper.remove_temp(&mut access, temp);
        }
    }
}

impl Temp {
    pub(super) fn dentry(&self) -> &Dentry {
        &self.dentry
    }

    /// The copy came to nothing.
    #[inline(never)]
    pub(super) fn discard<H: Held>(&self, ctx: &mut Context<H>, copy: &Copy<'_>) {
        if let Ok(mut access) = ctx.want_write(&copy.upper.layer.mnt) {
            copy.upper.remove_temp(&mut access, &self.name);
        }
    }
}

impl Copy<'_> {
    /// A regular file that only we can reach, and open for its data.
    #[inline(never)]
    pub(super) fn create_nameless<H: Held>(
        &self,
        ctx: &mut Context<H>,
    ) -> Result<(Nameless, ARef<File>)> {
        self.as_maker(|| {
            let mut access = ctx.want_write(&self.upper.layer.mnt)?;
            if self.upper.tmpfile {
                // That opens it, too, in one step with the making: who is asked
                // (`FAN_OPEN_PERM`, of the whole filesystem) must not wait for a thaw.
                let file = access.tmpfile(&self.upper.work, 0, &self.writer)?;
                let dentry = file_dentry(&file).into();
                return Ok((Nameless { dentry, temp: None }, file));
            }
            let (dentry, name) = self.at_temp_name(&mut access, |mut temp| {
                temp.create(0)?;
                Ok(temp)
            })?;
            // Who is asked whether it may be opened may wait for a thaw himself.
            drop(access);
            let temp = Some(name);
            let made = Nameless { dentry, temp };
            let flags = OpenFlags::READ_WRITE | OpenFlags::LARGE_FILE;
            let path = Path::new(&self.upper.layer.mnt, &made.dentry);
            match path.open(ctx, flags, &self.writer) {
                Ok(file) => Ok((made, file)),
                Err(e) => {
                    made.discard(ctx, self);
                    Err(e)
                }
            }
        })
    }

    /// A directory, symlink or special file as the source is one.
    #[inline(never)]
    pub(super) fn create_temp<H: Held>(&self, ctx: &mut Context<H>) -> Result<Temp> {
        let target = match self.inode.kind() {
            Kind::Symlink => Some(Link::read(self.source.dentry)?),
            _ => None,
        };
        self.as_maker(|| {
            let mut access = ctx.want_write(&self.upper.layer.mnt)?;
            let (dentry, name) = self.at_temp_name(&mut access, |mut temp| match &target {
                Some(target) => temp.symlink(target.text()).map(|()| temp),
                None if self.inode.is_dir() => temp.mkdir(0),
                None => {
                    temp.mknod(self.stat.mode(), self.stat.rdev())?;
                    Ok(temp)
                }
            })?;
            Ok(Temp { dentry, name })
        })
    }

    /// Acts as who makes the copy while `f` runs: the writer, or what the security
    /// modules make of him.
    fn as_maker<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let made_of = || vfs::cred::for_copy_up(self.dentry);
        let label = vfs::cred::with_creds(&self.writer, made_of)?;
        vfs::cred::with_creds(label.as_ref().unwrap_or(&self.writer), f)
    }

    /// Makes something under a name in `work/` that nobody uses.
    fn at_temp_name<'w>(
        &self,
        access: &'w mut WriteAccess<'_>,
        make: impl FnOnce(LockedName<'w>) -> Result<LockedName<'w>>,
    ) -> Result<(ARef<Dentry>, TempName)> {
        let name = self.upper.temp_name();
        let made = make(access.lock_name(&self.upper.work, &name)?)?;
        Ok((made.keep(), name))
    }
}
