// SPDX-License-Identifier: GPL-2.0

//! Steps 5 and 6 of a copy-up: the copy gets its name and is announced. The only
//! steps during which a directory is locked, and no data moves in them.
//!
//! While the data was copied with no lock held, the object may have lost its
//! name: by `unlink`, which leaves a whiteout, or by `rename` of another object
//! over it. So the name is looked up afresh under the directory's lock, and the
//! copy is put there only if nobody else has been. Before the lock goes the copy
//! is announced: whoever takes it next, to remove the name or to move it, finds
//! both the copy and an object that knows of it, or neither.

use super::{
    in_flight::Leadership,
    nameless::{Nameless, Temp},
    pause::{self, Point},
    Copy,
};
use crate::vfs::compat::ESTALE;
use crate::{
    layers::Rovl,
    vfs::{
        dentry::Name,
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

impl Copy<'_> {
    /// Where the object lives now; `None` if it has lost its name.
    fn place(&self) -> Result<Option<Place>> {
        if self.dentry.is_unhashed() {
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
    /// directory is locked: who takes the name away changes the upper directory
    /// first.
    fn lives_at(&self, place: &Place) -> bool {
        !self.dentry.is_unhashed()
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
        let mut access = ctx.want_write(&self.upper.layer.mnt)?;
        let Some(place) = self.place()? else {
            return self.keep_nameless(&mut access, copy);
        };
        whiteout::set_impure(&mut access, place.parent.node()?)?;
        let linked = match &copy.temp {
            None => self.link_at(&mut access, &place, copy)?,
            Some(temp) => self.move_to(&mut access, &place, temp)?,
        };
        if !linked {
            self.keep_nameless(&mut access, copy)?;
        }
        Ok(())
    }

    /// The place of an object is not to be had. That is as it should be if the object
    /// lives there no more: false. Else somebody changes the upper layer under us, and
    /// a copy without a name would lose what is written to it.
    fn is_taken(&self, place: &Place) -> Result<bool> {
        match self.lives_at(place) {
            true => Err(ESTALE),
            false => Ok(false),
        }
    }

    /// Links a file made by `->tmpfile` and announces it; false if the object has
    /// lost its name.
    fn link_at(
        &self,
        access: &mut WriteAccess<'_>,
        place: &Place,
        copy: &Nameless,
    ) -> Result<bool> {
        let mut name = match access.lock_name(&place.dir, &place.name) {
            // The directory itself has been removed.
            Err(e) if e == ENOENT => return self.is_taken(place),
            other => other?,
        };
        if name.inode().is_some() || !self.lives_at(place) {
            return self.is_taken(place);
        }
        let times = name.dir_times();
        match name.link(copy.dentry()) {
            Err(e) if e == ENOENT => return self.is_taken(place),
            other => other?,
        }
        pause::point(Point::Linked);
        self.announce(name.dentry())?;
        // To copy up is not to change the directory. The copy has its name now,
        // and that it cannot be hidden is no reason to fail.
        let _ = name.set_dir_times(times);
        Ok(true)
    }

    /// Moves an object from its temporary name into place and announces it;
    /// false if the object has lost its name.
    fn move_to(
        &self,
        access: &mut WriteAccess<'_>,
        place: &Place,
        temp: &TempName,
    ) -> Result<bool> {
        let (from, to) = ((&*self.upper.work, &**temp), (&*place.dir, &*place.name));
        let mut rename = match access.lock_rename(from, to, 0) {
            Err(e) if e == ENOENT => return self.is_taken(place),
            other => other?,
        };
        if !rename.new_name().is_negative() || !self.lives_at(place) {
            return self.is_taken(place);
        }
        let times = rename.new_dir_times()?;
        match rename.rename() {
            Err(e) if e == ENOENT => return self.is_taken(place),
            other => other?,
        }
        pause::point(Point::Linked);
        self.announce(rename.old())?;
        // As in `link_at`.
        let _ = rename.set_new_dir_times(times);
        Ok(true)
    }

    /// The copy of a file that has lost its name: it lives as long as it is
    /// open.
    fn keep_nameless(&self, access: &mut WriteAccess<'_>, copy: &Nameless) -> Result {
        if let Some(temp) = &copy.temp {
            self.upper.remove_temp(access, temp);
        }
        self.announce(copy.dentry())
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
        let mut access = ctx.want_write(&self.upper.layer.mnt)?;
        if let Some(place) = self.place()? {
            whiteout::set_impure(&mut access, place.parent.node()?)?;
            if self.move_to(&mut access, &place, &temp.name)? {
                return Ok(());
            }
        }
        self.upper.remove_temp(&mut access, &temp.name);
        self.announce(temp.dentry())
    }
}
