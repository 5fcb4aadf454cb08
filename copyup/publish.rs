// SPDX-License-Identifier: GPL-2.0

//! Steps 5 and 6 of a copy-up: the copy gets its name and is announced. The only
//! steps during which a directory is locked, and no data moves in them.
//!
//! While the data was copied with no lock held, the object may have lost its
//! name: by `unlink`, which leaves a whiteout, or by `rename` of another object
//! over it. Both say so, in the object and with the directory locked, and are to be
//! believed, whatever the dentries say ([`inode::OverlayInode::has_lost_name`]). So
//! under the directory's lock the object is asked whether it has its name, and the
//! name, which is looked up afresh, whether it is free. Before the lock goes the copy
//! is announced: whoever takes it next, to remove the name or to move it, finds
//! both the copy and an object that knows of it, or neither.
//!
//! An object that is not in the upper layer is not moved: `rename` copies it up
//! first, which waits for a copy that is on its way. A directory may be found at
//! another name, where a lower filesystem is changed by others; then its copy goes
//! there.

use super::{
    in_flight::Leadership,
    nameless::{Nameless, Temp},
    pause::{self, Point},
    Copy,
};
#[cfg(doc)]
use crate::inode;
use crate::vfs::compat::ESTALE;
use crate::{
    inode::CopyOf,
    layers::Rovl,
    vfs::{
        dentry::Name,
        flags::RenameFlags,
        lock::{Context, Held, WriteAccess},
        Dentry,
    },
    whiteout::{self, TempName},
};
use kernel::{prelude::*, sync::aref::ARef};

/// Where a copy belongs.
struct Place {
    parent: ARef<Dentry<Rovl>>,
    /// The parent in the upper layer.
    dir: ARef<Dentry>,
    name: Name,
}

/// What comes back where the object did not live any more.
type NotLinked = Option<KBox<CopyOf>>;

impl Copy<'_> {
    /// Where the object lives now; `None` if it has lost its name.
    fn place(&self) -> Result<Option<Place>> {
        if self.inode.data().has_lost_name() {
            return Ok(None);
        }
        let parent = self.dentry.parent();
        let dir = parent.node()?.data().upper().ok_or(EIO)?.into();
        Ok(Some(Place {
            parent,
            dir,
            name: self.dentry.name(),
        }))
    }

    /// Whether the object still lives at `place`. Stable while the upper
    /// directory is locked.
    fn lives_at(&self, place: &Place) -> bool {
        !self.inode.data().has_lost_name()
            && self.dentry.parent() == place.parent
            && *self.dentry.name() == *place.name
    }

    /// Links a whole file in. An object that has lost its name keeps the copy
    /// without one: those who have it open go on with that.
    #[inline(never)]
    pub(super) fn publish_file<H: Held>(
        &self,
        ctx: &mut Context<H>,
        copy: &Nameless,
        lead: &Leadership<'_>,
    ) -> Result {
        pause::point(Point::Publish);
        lead.publishes();
        let mut copy_of = CopyOf::register(self.inode, copy.dentry())?;
        let mut access = ctx.want_write(&self.upper.layer.mnt)?;
        while let Some(place) = self.place()? {
            whiteout::set_impure(&mut access, place.parent.node()?)?;
            let back = match &copy.temp {
                None => self.link_at(&mut access, &place, copy, copy_of)?,
                Some(temp) => self.move_to(&mut access, &place, temp, copy_of)?,
            };
            match back {
                None => return Ok(()),
                Some(back) => copy_of = back,
            }
        }
        self.keep_nameless(&mut access, copy, copy_of)
    }

    /// The place of an object is not to be had. That is as it should be if the object
    /// lives there no more. Else somebody changes the upper layer under us, and a copy
    /// without a name would lose what is written to it.
    fn is_taken(&self, place: &Place, copy_of: KBox<CopyOf>) -> Result<NotLinked> {
        if !self.lives_at(place) {
            return Ok(Some(copy_of));
        }
        // The next walk finds what is there now.
        self.dentry.forget();
        Err(ESTALE)
    }

    /// Links a file made by `->tmpfile` and announces it, if the object still lives
    /// there.
    fn link_at(
        &self,
        access: &mut WriteAccess<'_>,
        place: &Place,
        copy: &Nameless,
        copy_of: KBox<CopyOf>,
    ) -> Result<NotLinked> {
        let mut name = match access.lock_name(&place.dir, &place.name) {
            // The directory itself has been removed.
            Err(e) if e == ENOENT => return self.is_taken(place, copy_of),
            other => other?,
        };
        if name.inode().is_some() || !self.lives_at(place) {
            return self.is_taken(place, copy_of);
        }
        let times = name.dir_times();
        match name.link(copy.dentry()) {
            Err(e) if e == ENOENT => return self.is_taken(place, copy_of),
            other => other?,
        }
        pause::point(Point::Linked);
        self.announce(name.dentry(), copy_of)?;
        // To copy up is not to change the directory. The copy has its name now,
        // and that it cannot be hidden is no reason to fail.
        let _ = name.set_dir_times(times);
        Ok(None)
    }

    /// Moves an object from its temporary name into place and announces it, if the
    /// object still lives there.
    fn move_to(
        &self,
        access: &mut WriteAccess<'_>,
        place: &Place,
        temp: &TempName,
        copy_of: KBox<CopyOf>,
    ) -> Result<NotLinked> {
        let (from, to) = ((&*self.upper.work, &**temp), (&*place.dir, &*place.name));
        let mut rename = match access.lock_rename(from, to, RenameFlags::NONE) {
            Err(e) if e == ENOENT => return self.is_taken(place, copy_of),
            other => other?,
        };
        if !rename.new_name().is_negative() || !self.lives_at(place) {
            return self.is_taken(place, copy_of);
        }
        let times = rename.new_dir_times()?;
        match rename.rename() {
            Err(e) if e == ENOENT => return self.is_taken(place, copy_of),
            other => other?,
        }
        pause::point(Point::Linked);
        self.announce(rename.old(), copy_of)?;
        // As in `link_at`.
        let _ = rename.set_new_dir_times(times);
        Ok(None)
    }

    /// The copy of a file that has lost its name: it lives as long as it is
    /// open.
    fn keep_nameless(
        &self,
        access: &mut WriteAccess<'_>,
        copy: &Nameless,
        copy_of: KBox<CopyOf>,
    ) -> Result {
        if let Some(temp) = &copy.temp {
            self.upper.remove_temp(access, temp);
        }
        self.announce(copy.dentry(), copy_of)
    }

    /// Moves a directory, symlink or special file into place. One that has lost
    /// its name loses the temporary one too: the copy lives as long as the
    /// object is open, as the file of [`Copy::keep_nameless`] does.
    #[inline(never)]
    pub(super) fn publish_temp<H: Held>(
        &self,
        ctx: &mut Context<H>,
        temp: &Temp,
        lead: &Leadership<'_>,
    ) -> Result {
        pause::point(Point::Publish);
        lead.publishes();
        let mut copy_of = CopyOf::register(self.inode, temp.dentry())?;
        let mut access = ctx.want_write(&self.upper.layer.mnt)?;
        while let Some(place) = self.place()? {
            whiteout::set_impure(&mut access, place.parent.node()?)?;
            match self.move_to(&mut access, &place, &temp.name, copy_of)? {
                None => return Ok(()),
                Some(back) => copy_of = back,
            }
        }
        self.upper.remove_temp(&mut access, &temp.name);
        self.announce(temp.dentry(), copy_of)
    }
}
