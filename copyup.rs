// SPDX-License-Identifier: GPL-2.0

//! The copy-up engine.
//!
//! The protocol (`../Documentation/architecture.rst`), and where each step is:
//!
//! 1. find or become the copier: [`in_flight`];
//! 2. create the copy without a name: [`nameless`];
//! 3. copy the data, with no lock held: [`data`];
//! 4. copy the metadata: [`metadata`];
//! 5. publish: [`publish`], the only step with a directory locked;
//! 6. announce: [`crate::inode::set_upper`], in the same hold of the lock, so
//!    that who finds the copy in the directory finds it announced; then the
//!    record ends and wakes those who wait.
//!
//! Until step 6 everybody uses the lower object; after it, the upper one. A
//! copy that fails at any step leaves nothing behind, and the lower object goes
//! on being served.

mod data;
mod in_flight;
mod metadata;
mod nameless;
pub(crate) mod pause;
mod publish;

pub(crate) use in_flight::InFlight;

use crate::{
    inode::{self, CopyOf},
    layers::{self, Layers, Rovl, Upper},
    vfs::{
        self,
        attr::{Attributes, Stat},
        inode::Kind,
        iterate::DirFile,
        lock::{file_dentry, Context, Held},
        Dentry, Inode, Path,
    },
};
use in_flight::{Leadership, Role};
use kernel::{cred::Credential, fs::File, prelude::*, sync::aref::ARef};
use pause::Point;

/// How much of a regular file is wanted.
#[derive(Clone, Copy)]
enum Extent<'a> {
    Whole,
    /// The first `size` bytes, with `change`, which says so. Data that is cut off
    /// cannot be put back, so the copy is changed before it gets its name: if that
    /// fails, the lower file is still there.
    Truncated {
        size: i64,
        change: &'a Attributes,
    },
}

/// Makes sure that the object at `dentry` is in the upper layer, and its
/// ancestors before it. Waits, killably, if somebody is copying it already.
///
/// # Errors
///
/// `EROFS` without an upper layer, `EINTR` for a fatal signal and no other, `ESTALE`
/// if somebody else puts something in the object's place in the upper layer,
/// `EOVERFLOW` if the owner has no mapping in the mounter's user namespace, `EACCES`
/// if the mounter may not read the object, and whatever the layers say: `ENOSPC`,
/// `EDQUOT`, `EIO`, `ENOMEM`, ...
pub(crate) fn copy_up<H: Held>(ctx: &mut Context<H>, dentry: &Dentry<Rovl>) -> Result {
    if dentry.node()?.data().upper().is_none() {
        copy_up_extent(ctx, dentry, Extent::Whole)?;
    }
    Ok(())
}

/// As [`copy_up`], for a caller that truncates a regular file to `size` bytes by
/// `change`: what lies behind is not copied. Returns whether the change has been
/// made; it has not where the object was in the upper layer, or somebody else
/// has copied it.
pub(crate) fn copy_up_truncated<H: Held>(
    ctx: &mut Context<H>,
    dentry: &Dentry<Rovl>,
    size: i64,
    change: &Attributes,
) -> Result<bool> {
    copy_up_extent(ctx, dentry, Extent::Truncated { size, change })
}

fn copy_up_extent<H: Held>(
    ctx: &mut Context<H>,
    dentry: &Dentry<Rovl>,
    extent: Extent<'_>,
) -> Result<bool> {
    let inode = dentry.node()?;
    let mut changed = false;
    if inode.data().upper().is_some() {
        return Ok(changed);
    }
    layers::of(inode).upper()?;
    // An object without a name needs no place, and so no ancestors.
    while inode.data().upper().is_none() {
        let next: ARef<Dentry<Rovl>> = if inode.data().has_lost_name() {
            dentry.into()
        } else {
            topmost_lower(dentry)?
        };
        let extent = if *next == *dentry {
            extent
        } else {
            Extent::Whole
        };
        changed = copy_up_one(ctx, &next, extent)?;
    }
    Ok(changed)
}

/// The object nearest to the root, `dentry` or above it, that is not in the
/// upper layer yet; its parent is.
#[inline(never)]
fn topmost_lower(dentry: &Dentry<Rovl>) -> Result<ARef<Dentry<Rovl>>> {
    let mut next: ARef<Dentry<Rovl>> = dentry.into();
    loop {
        let parent = next.parent();
        if next.is_root() || parent.node()?.data().upper().is_some() {
            return Ok(next);
        }
        next = parent;
    }
}

/// Step 1, for one object whose parent is in the upper layer. Returns whether the
/// copy is ours and has been changed as `extent` says.
fn copy_up_one<H: Held>(
    ctx: &mut Context<H>,
    dentry: &Dentry<Rovl>,
    extent: Extent<'_>,
) -> Result<bool> {
    let inode = dentry.node()?;
    let table = &inode.sb().data().in_flight;
    loop {
        if inode.data().upper().is_some() {
            return Ok(false);
        }
        match table.enter(dentry)? {
            Role::Done => return Ok(false),
            // Whoever waited looks at what came of it: if it failed, he tries
            // himself, with his own credentials and limits.
            Role::Waiter(record) => {
                record.wait()?;
                pause::point(Point::Waiter);
            }
            Role::Leader(lead) => {
                pause::point(Point::Entered);
                let result = lead_copy(ctx, dentry, extent, &lead);
                let result = lead.end(result);
                // The freezer wakes a task as a signal does, and there is none:
                // nothing would begin the system call again.
                if result == Err(ERESTARTSYS) && !vfs::completion::signal_pending() {
                    continue;
                }
                return result;
            }
        }
    }
}

/// One copy on its way.
struct Copy<'a> {
    layers: &'a Layers,
    upper: &'a Upper,
    /// The object in the tree of the overlay, and its name at the beginning.
    dentry: &'a Dentry<Rovl>,
    inode: &'a Inode<Rovl>,
    /// What is copied.
    source: Path<'a>,
    stat: KBox<Stat>,
    /// It is one of several names of a lower file, and becomes a file of its own; or a
    /// directory that is shown empty, of which the copy knows nothing.
    is_own: bool,
    extent: Extent<'a>,
    /// The mounter, but charged for space as the caller is.
    writer: ARef<Credential>,
}

/// Steps 2 to 6. The record ends after the outcome stands. Returns as
/// [`copy_up_one`] does.
#[inline(never)]
fn lead_copy<H: Held>(
    ctx: &mut Context<H>,
    dentry: &Dentry<Rovl>,
    extent: Extent<'_>,
    lead: &Leadership<'_>,
) -> Result<bool> {
    let inode = dentry.node()?;
    // Splicing ends at any signal, and the caller would begin again; a timer that is
    // faster than the copy would keep it from ever being done.
    let _uninterrupted = vfs::task::SignalsHeld::new();
    let layers = layers::of(inode);
    let caller = vfs::cred::current();
    layers.as_mounter(|| {
        let source = inode.data().lower.first().ok_or(EIO)?.path(layers)?;
        let stat = Stat::boxed(source)?;
        // The owner that the copy gets: this very answer, and not another one.
        if !vfs::cred::can_name_owner(stat.owner()) {
            return Err(EOVERFLOW);
        }
        let mut writer = vfs::cred::NewCred::prepare()?;
        writer.charge_to(&caller, layers.upper_mnt()?);
        let copy = Copy {
            layers,
            upper: layers.upper()?,
            dentry,
            inode,
            source,
            stat,
            is_own: inode.data().is_trap() || inode::becomes_own_file(source.inode()?),
            extent,
            writer: writer.finish(),
        };
        match inode.kind() {
            Kind::Regular => copy.regular(ctx, lead)?,
            Kind::Directory | Kind::Symlink | Kind::Special => {
                copy.other(ctx, lead)?;
                return Ok(false);
            }
        }
        Ok(matches!(extent, Extent::Truncated { .. }))
    })
}

impl Copy<'_> {
    /// A regular file: data first, then it gets its name.
    #[inline(never)]
    fn regular<H: Held>(&self, ctx: &mut Context<H>, lead: &Leadership<'_>) -> Result {
        let (nameless, file) = self.create_nameless(ctx)?;
        pause::point(Point::Nameless);
        let filled = self.fill(ctx, &file, lead);
        // Who executes it must not find it open for writing.
        ctx.close(file);
        filled
            .and_then(|()| self.publish_file(ctx, &nameless, lead))
            .inspect_err(|_| nameless.discard(ctx, self))
    }

    /// Steps 3 and 4 for a regular file; afterwards it is whole and durable.
    fn fill<H: Held>(&self, ctx: &mut Context<H>, file: &File, lead: &Leadership<'_>) -> Result {
        let has_data = self.copy_data(ctx, file, lead)?;
        self.copy_metadata(ctx, file_dentry(file))?;
        self.change(ctx, file_dentry(file))?;
        if self.layers.is_strict() || has_data && !self.layers.is_volatile() {
            // A crash after the name appears must not show an empty file.
            ctx.fsync(file)?;
        }
        Ok(())
    }

    /// What the caller wants changed of a file that he truncates.
    fn change<H: Held>(&self, ctx: &mut Context<H>, to: &Dentry) -> Result {
        let Extent::Truncated { change, .. } = self.extent else {
            return Ok(());
        };
        pause::point(Point::Change);
        // It is changed by being used, and we may have to begin again.
        ctx.want_write(&self.upper.layer.mnt)?
            .set_attributes(to, &mut change.clone())
    }

    /// A directory, symlink or special file: made under a temporary name and
    /// moved into place when it is whole.
    #[inline(never)]
    fn other<H: Held>(&self, ctx: &mut Context<H>, lead: &Leadership<'_>) -> Result {
        let temp = self.create_temp(ctx)?;
        pause::point(Point::Nameless);
        self.copy_metadata(ctx, temp.dentry())
            .and_then(|()| self.make_durable(ctx, temp.dentry()))
            .and_then(|()| self.publish_temp(ctx, &temp, lead))
            .inspect_err(|_| temp.discard(ctx, self))
    }

    /// A directory without data is written out only where that is asked for; of what else is
    /// no file nothing can be.
    fn make_durable<H: Held>(&self, ctx: &mut Context<H>, made: &Dentry) -> Result {
        if !self.layers.is_strict() || !self.inode.is_dir() {
            return Ok(());
        }
        let path = Path::new(&self.upper.layer.mnt, made);
        DirFile::open(ctx, path, &self.layers.cred)?.fsync(ctx)
    }

    /// Step 6. Called with the directory locked in which the copy is.
    fn announce(&self, upper: &Dentry, copy_of: KBox<CopyOf>) -> Result {
        inode::set_upper(self.inode, upper.into(), self.is_own, copy_of)?;
        // What becomes a file of its own has been listed with another number.
        if let (true, Ok(parent)) = (self.is_own, self.dentry.parent().node()) {
            parent.data().listing_changes();
        }
        Ok(())
    }
}
