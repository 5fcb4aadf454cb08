// SPDX-License-Identifier: GPL-2.0

//! Changes to names: create, link, unlink, rename, tmpfile.
//!
//! Every change looks at the upper layer afresh, under the lock of the upper
//! directory: what the overlay's own dentry says may be behind a copy-up that
//! is just being published.
//!
//! What is made in place of a whiteout, and what takes the place of an object,
//! is made whole in `work/` first and moved there in one step.

use crate::vfs::compat::{ENOTEMPTY, EOPNOTSUPP, ESTALE};
use crate::{
    copyup::{
        self,
        pause::{self, Point},
    },
    inode,
    layers::{self, Layers, Rovl, Upper},
    listing::{self, List},
    lookup, private, readdir,
    vfs::{
        self,
        acl::{self, Inherited},
        attr::Attributes,
        cred::NewCred,
        dentry::Name,
        dir_ops::{DirOperations, New},
        file::TmpFile,
        flags::{OpenFlags, RenameFlags},
        idmap::Idmap,
        inode::SET_GID,
        lock::{file_dentry, Context, DirectoryLock, LockedName, Nothing, WriteAccess},
        Dentry, Inode, Path,
    },
    whiteout::{self, Emptied, TempName},
};
use kernel::{
    alloc::KVVec, cred::Credential, error::Error, fs::File, prelude::*, sync::aref::ARef,
};

mod redirect;

impl DirOperations for Rovl {
    fn lookup(
        ctx: &mut Context<DirectoryLock>,
        dir: &Inode<Self>,
        name: &[u8],
    ) -> Result<Option<ARef<Inode<Self>>>> {
        lookup::lookup(ctx, dir, name)
    }

    fn make(
        ctx: &mut Context<DirectoryLock>,
        idmap: Idmap<'_>,
        dir: &Inode<Self>,
        dentry: &Dentry<Self>,
        new: New<'_>,
    ) -> Result<ARef<Inode<Self>>> {
        if let New::Special { mode, rdev: 0 } = new {
            if vfs::inode::is_char_device(mode) {
                // It would be a whiteout, and so not to be seen.
                return Err(EPERM);
            }
        }
        let place = Place::prepare(ctx, dir, dentry, dentry.name())?;
        let inherited = acl::inherit(dir, new.mode())?;
        let cred = creator(dir, dentry, idmap, new.mode())?;
        vfs::cred::with_creds(&cred, || {
            let mut access = ctx.want_write(&place.upper.layer.mnt)?;
            let kind = Made {
                mode: new.mode(),
                had_no_name: false,
            };
            let put = place.put(
                &mut access,
                kind,
                |name| make_at(name, new),
                |access, made| inherited.apply(access, made, setgid_of(dir, new.mode())),
            )?;
            place.adopt(&mut access, put)
        })
    }

    fn link(
        ctx: &mut Context<DirectoryLock>,
        old: &Dentry<Self>,
        dir: &Inode<Self>,
        dentry: &Dentry<Self>,
    ) -> Result<ARef<Inode<Self>>> {
        copyup::copy_up(ctx, old)?;
        let place = Place::prepare(ctx, dir, dentry, dentry.name())?;
        let inode = old.node()?;
        let from = inode.data().upper().ok_or(EIO)?;
        place.layers.as_mounter(|| {
            let mut access = ctx.want_write(&place.upper.layer.mnt)?;
            if inode.data().has_origin() {
                whiteout::set_impure(&mut access, dir)?;
            }
            let made = Made {
                mode: 0,
                // By then the file has a name, and has it no more if it fails.
                had_no_name: from.positive()?.is_linkable(),
            };
            place.put(
                &mut access,
                made,
                |mut name| name.link(from).map(|()| name),
                |_, _| Ok(()),
            )?;
            drop(access);
            inode.set_nlink(from.positive()?.nlink());
            inode.copy_attributes(from.positive()?);
            place.changed();
            Ok(inode.into())
        })
    }

    fn remove(
        ctx: &mut Context<DirectoryLock>,
        dir: &Inode<Self>,
        dentry: &Dentry<Self>,
    ) -> Result {
        let inode = dentry.node()?;
        let name = dentry.name();
        let hides = lookup::is_in_lower(ctx, dir, &name)?;
        // Where all there is of it is one directory, that one knows whether it is empty.
        // Only whiteouts would it count, and few have any.
        if inode.is_dir() && (hides || !inode.data().lower_parts().is_empty()) {
            let whiteouts = readdir::check_empty(ctx, inode)?;
            let place = Place::prepare(ctx, dir, dentry, name)?;
            return place.clear(ctx, dentry, hides, &whiteouts);
        }
        let place = Place::prepare(ctx, dir, dentry, name)?;
        match place.clear(ctx, dentry, hides, &listing::NOTHING) {
            Err(e) if e == ENOTEMPTY && inode.is_dir() => {
                let whiteouts = readdir::check_empty(ctx, inode)?;
                place.clear(ctx, dentry, hides, &whiteouts)
            }
            cleared => cleared,
        }
    }

    fn rename(
        ctx: &mut Context<DirectoryLock>,
        old: (&Inode<Self>, &Dentry<Self>),
        new: (&Inode<Self>, &Dentry<Self>),
        flags: RenameFlags,
    ) -> Result {
        let known = RenameFlags::NO_REPLACE | RenameFlags::EXCHANGE;
        if flags.without(known) != RenameFlags::NONE {
            return Err(EINVAL);
        }
        let exchange = flags.has(RenameFlags::EXCHANGE);
        let whiteouts = prepare_rename(ctx, old, new, exchange)?;
        Rename::run(ctx, old, new, exchange, &whiteouts)
            .inspect_err(|e| forget_stale(*e, [old.1, new.1]))
    }

    fn tmpfile(
        ctx: &mut Context<Nothing>,
        idmap: Idmap<'_>,
        parent: &Dentry<Self>,
        file: TmpFile<'_, Self>,
        mode: u16,
    ) -> Result<(ARef<Inode<Self>>, ARef<File>)> {
        let dir = parent.node()?;
        let layers = layers::of(dir);
        if !layers.upper()?.tmpfile {
            return Err(EOPNOTSUPP);
        }
        copyup::copy_up(ctx, parent)?;
        let mode = New::Regular { mode }.mode();
        let cred = creator(dir, file.dentry(), idmap, mode)?;
        let upper_dir = dir.data().upper().ok_or(EIO)?;
        vfs::cred::with_creds(&cred, || {
            let mut access = ctx.want_write(layers.upper_mnt()?)?;
            let unwanted = match layers.is_volatile() {
                true => OpenFlags::SYNC,
                false => OpenFlags::NONE,
            };
            let real = file.open_backing(&mut access, upper_dir, mode, unwanted, &layers.cred)?;
            let inode = new_inode(dir, file_dentry(&real).into())?;
            inode.set_nlink(0);
            Ok((inode, real))
        })
    }
}

/// As whom an object is created: the mounter, for the caller, who owns it; in a
/// set-group-id directory its group does.
fn creator(
    dir: &Inode<Rovl>,
    dentry: &Dentry,
    idmap: Idmap<'_>,
    mode: u16,
) -> Result<ARef<Credential>> {
    let caller = vfs::cred::current();
    let (uid, mut gid) = vfs::cred::current_fs_owner(dir.sb(), idmap);
    if dir.mode() & SET_GID != 0 {
        gid = dir.owner().1;
    }
    layers::of(dir).as_mounter(|| {
        let mut cred = NewCred::prepare()?;
        cred.set_fs_owner((uid, gid));
        cred.create_files_as(dentry, mode, &caller)?;
        Ok(cred.finish())
    })
}

/// A directory made in a set-group-id directory is one too.
fn setgid_of(dir: &Inode<Rovl>, mode: u16) -> u16 {
    if vfs::inode::is_directory(mode) {
        dir.mode() & SET_GID
    } else {
        0
    }
}

fn make_at<'w>(mut name: LockedName<'w>, new: New<'_>) -> Result<LockedName<'w>> {
    match new {
        New::Directory { mode } => return name.mkdir(mode),
        New::Regular { .. } => name.create(new.mode())?,
        New::Special { mode, rdev } => name.mknod(mode, rdev)?,
        New::Symlink { target } => name.symlink(target)?,
    }
    Ok(name)
}

/// Something else has the name in the upper layer: the VFS walks once more after an
/// `ESTALE`, and is to find what is there now. This happens without anybody else at the
/// upper layer, too: a server of a lower layer may put another file in the place of one
/// that is being copied.
fn forget_stale<const N: usize>(error: Error, names: [&Dentry<Rovl>; N]) {
    if error == ESTALE {
        names.iter().for_each(|name| name.forget());
    }
}

/// The overlay inode for what has just been made in the upper layer.
fn new_inode(dir: &Inode<Rovl>, upper: ARef<Dentry>) -> Result<ARef<Inode<Rovl>>> {
    inode::get(
        dir.sb(),
        inode::Objects {
            upper: Some(upper),
            lower: inode::LowerObjects::new(),
            origin: None,
            impure: false,
            way: inode::Way::STRAIGHT,
            way_below: inode::Way::STRAIGHT,
        },
    )
}

/// One name of `inode` is gone. Called with the upper directory locked where the
/// object is not in the upper layer: a copy that comes to take the name finds that
/// it has gone, and the count right.
fn lost_a_name(inode: &Inode<Rovl>) {
    let upper = inode.data().upper();
    if upper.is_none() {
        // Nothing has more than one before it is copied.
        inode.data().lose_name();
    }
    if inode.is_dir() {
        return inode.set_nlink(0);
    }
    match upper.and_then(|upper| upper.inode()) {
        Some(upper) => inode.set_nlink(upper.nlink()),
        None => inode.drop_nlink(),
    }
}

/// The inode at a name of the upper layer is the one the overlay has there;
/// `ESTALE` if somebody changed a layer under us: see [`forget_stale`].
fn check_same(inode: &Inode<Rovl>, found: &Inode) -> Result {
    match inode.data().upper().and_then(|upper| upper.inode()) {
        Some(upper) if upper.is_same(found) => Ok(()),
        _ => Err(ESTALE),
    }
}

/// What is put at a name.
#[derive(Clone, Copy)]
struct Made {
    /// Zero for one more name of what there is.
    mode: u16,
    /// A file that was made without a name (`O_TMPFILE`) and gets its first.
    had_no_name: bool,
}

/// What has been put at a name.
struct Put {
    made: ARef<Dentry>,
    over_whiteout: bool,
}

/// A name in a directory, and the same in the upper layer.
struct Place<'a> {
    layers: &'a Layers,
    upper: &'a Upper,
    dir: &'a Inode<Rovl>,
    upper_dir: &'a Dentry,
    name: Name,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.upper.let_whiteout_go();
    }
}

impl<'a> Place<'a> {
    /// The directory is copied up if need be.
    fn prepare(
        ctx: &mut Context<DirectoryLock>,
        dir: &'a Inode<Rovl>,
        dentry: &Dentry<Rovl>,
        name: Name,
    ) -> Result<Self> {
        copyup::copy_up(ctx, &dentry.parent())?;
        Self::new(dir, name)
    }

    /// In a directory that has been copied up.
    fn new(dir: &'a Inode<Rovl>, name: Name) -> Result<Self> {
        let layers = layers::of(dir);
        Ok(Self {
            layers,
            upper: layers.upper()?,
            dir,
            upper_dir: dir.data().upper().ok_or(EIO)?,
            name,
        })
    }

    /// Takes the object away from the name, and leaves a whiteout if that `hides` one
    /// below. What a directory holds has been looked at: nothing but `whiteouts`.
    fn clear(
        &self,
        ctx: &mut Context<DirectoryLock>,
        dentry: &Dentry<Rovl>,
        hides: bool,
        whiteouts: &List,
    ) -> Result {
        let inode = dentry.node()?;
        let cleared = self.layers.as_mounter(|| {
            let mut access = ctx.want_write(&self.upper.layer.mnt)?;
            if hides {
                self.whiteout(&mut access, inode, whiteouts)?;
            } else {
                self.remove(&mut access, inode, whiteouts)?;
            }
            drop(access);
            self.changed();
            pause::point(Point::Removed);
            Ok(())
        });
        cleared.inspect_err(|e| forget_stale(*e, [dentry]))
    }

    /// The directory has been changed.
    fn changed(&self) {
        if let Some(upper_dir) = self.upper_dir.inode() {
            self.dir.copy_attributes(upper_dir);
        }
        readdir::invalidate(self.dir);
    }

    /// Puts what `make` makes at the name: at once where the name is free, and
    /// over a whiteout by way of `work/`, where `finish` completes it.
    fn put(
        &self,
        access: &mut WriteAccess<'_>,
        kind: Made,
        make: impl for<'w> FnOnce(LockedName<'w>) -> Result<LockedName<'w>>,
        finish: impl FnOnce(&mut WriteAccess<'_>, &Dentry) -> Result,
    ) -> Result<Put> {
        let name = access.lock_name(self.upper_dir, &self.name)?;
        match name.inode() {
            None => {
                return Ok(Put {
                    made: make(name)?.keep(),
                    over_whiteout: false,
                })
            }
            Some(_) => {
                let there = Path::new(&self.upper.layer.mnt, name.dentry());
                if !whiteout::is_whiteout(self.layers.names, there)? {
                    return Err(EEXIST);
                }
            }
        }
        drop(name);
        let temp = self.upper.temp_name();
        let made = make(access.lock_name(&self.upper.work, &temp)?)?.keep();
        let is_dir = vfs::inode::is_directory(kind.mode);
        let put = finish(access, &made)
            .and_then(|()| match is_dir {
                true => whiteout::set_opaque(access, self.layers.names, &made),
                false => Ok(()),
            })
            .and_then(|()| private::join_project(access, self.upper_dir, &made))
            .and_then(|()| self.exchange_whiteout(access, &temp, is_dir));
        if put.is_err() && kind.had_no_name {
            self.upper.remove_temp_link(access, &temp);
        } else if put.is_err() || is_dir {
            // Either what was made, or the whiteout that was there.
            self.upper.remove_temp(access, &temp);
        }
        put.map(|()| Put {
            made,
            over_whiteout: true,
        })
    }

    /// Moves `temp` over the whiteout at the name. A directory cannot replace
    /// it, so the two change places.
    fn exchange_whiteout(
        &self,
        access: &mut WriteAccess<'_>,
        temp: &TempName,
        is_dir: bool,
    ) -> Result {
        let flags = if is_dir {
            RenameFlags::EXCHANGE
        } else {
            RenameFlags::NONE
        };
        let (from, to) = ((&*self.upper.work, &**temp), (self.upper_dir, &*self.name));
        access.lock_rename(from, to, flags)?.rename()
    }

    /// Gives what has been made its overlay inode; takes it back if it cannot have
    /// one: there is no memory, or somebody changes the layer (`ESTALE`). What was
    /// there before says whether the name must stay hidden: the layers below are not
    /// asked under write access. One of them may be a stacking filesystem with the same
    /// upper filesystem, whose directories are locked before write access is taken.
    fn adopt(&self, access: &mut WriteAccess<'_>, put: Put) -> Result<ARef<Inode<Rovl>>> {
        let Put {
            made,
            over_whiteout,
        } = put;
        let inode = new_inode(self.dir, made.clone()).inspect_err(|_| {
            let removed = match over_whiteout {
                false => access
                    .lock_name(self.upper_dir, &self.name)
                    .and_then(|mut name| name.remove()),
                true => self.replace_by_whiteout(access, &made, &listing::NOTHING),
            };
            if let Err(e) = removed {
                let what = "cannot take back what was created and has no inode";
                self.upper.warn(&self.name, what, e);
            }
            self.changed();
        })?;
        self.changed();
        Ok(inode)
    }

    /// Removes the name where something below would come to light.
    fn whiteout(
        &self,
        access: &mut WriteAccess<'_>,
        inode: &Inode<Rovl>,
        whiteouts: &List,
    ) -> Result {
        {
            let mut name = access.lock_name(self.upper_dir, &self.name)?;
            match name.inode() {
                // Not copied up, or not yet: whoever is at it finds the
                // whiteout when he comes to publish.
                None => {
                    self.upper.make_whiteout(&mut name)?;
                    lost_a_name(inode);
                    return Ok(());
                }
                Some(found) => check_same(inode, found)?,
            }
        }
        let upper = inode.data().upper().ok_or(ESTALE)?;
        self.replace_by_whiteout(access, upper, whiteouts)?;
        lost_a_name(inode);
        Ok(())
    }

    /// Puts a whiteout in the place of an upper object. A directory holds nothing but
    /// `whiteouts`.
    fn replace_by_whiteout(
        &self,
        access: &mut WriteAccess<'_>,
        object: &Dentry,
        whiteouts: &List,
    ) -> Result {
        let is_dir = object.positive()?.is_dir();
        let emptied = is_dir.then_some(Emptied {
            dir: object,
            whiteouts,
        });
        let place = (self.upper_dir, &*self.name);
        whiteout::replace(self.upper, access, self.layers.names, place, emptied)
    }

    /// Removes the name where there is nothing below.
    fn remove(
        &self,
        access: &mut WriteAccess<'_>,
        inode: &Inode<Rovl>,
        whiteouts: &List,
    ) -> Result {
        if !whiteouts.entries.is_empty() {
            clear_target(access, inode, whiteouts)?;
        }
        let mut name = access.lock_name(self.upper_dir, &self.name)?;
        check_same(inode, name.inode().ok_or(ESTALE)?)?;
        name.remove()?;
        lost_a_name(inode);
        Ok(())
    }
}

/// A rename, with everything found out that can be before the upper
/// directories are locked.
struct Rename<'a> {
    old: Place<'a>,
    new: Place<'a>,
    old_inode: &'a Inode<Rovl>,
    /// What the new name is now.
    target: Option<&'a Inode<Rovl>>,
    /// All that is in the upper directory at the new name, if it is to be replaced.
    whiteouts: &'a List,
    exchange: bool,
    /// The old name exists below, so it needs a whiteout when it goes.
    old_hides: bool,
    /// The new name exists below.
    new_hides: bool,
    /// What the two are to say that they are called below.
    redirects: [Option<KVVec<u8>>; 2],
}

/// Refuses what cannot be renamed, and copies up what can, before there is anything to
/// keep: a copy-up needs its stack. Returns the whiteouts in a directory that is to be
/// replaced.
#[inline(never)]
fn prepare_rename(
    ctx: &mut Context<DirectoryLock>,
    (old_dir, old): (&Inode<Rovl>, &Dentry<Rovl>),
    (_, new): (&Inode<Rovl>, &Dentry<Rovl>),
    exchange: bool,
) -> Result<List> {
    let target = new.node().ok();
    redirect::check_movable(old.node()?)?;
    let whiteouts = match target {
        Some(target) if !exchange && target.is_dir() => readdir::check_empty(ctx, target)?,
        _ => List::new(),
    };
    if let Some(target) = target.filter(|_| exchange) {
        redirect::check_movable(target)?;
    }
    let has_whiteout = exchange || layers::of(old_dir).upper()?.rename_whiteout;
    if !has_whiteout && lookup::is_in_lower(ctx, old_dir, &old.name())? {
        // What is below would come to light for a moment. Programs copy.
        return Err(EXDEV);
    }
    copyup::copy_up(ctx, old)?;
    if exchange {
        copyup::copy_up(ctx, new)?;
    }
    copyup::copy_up(ctx, &old.parent())?;
    copyup::copy_up(ctx, &new.parent())?;
    Ok(whiteouts)
}

impl<'a> Rename<'a> {
    #[inline(never)]
    fn run(
        ctx: &mut Context<DirectoryLock>,
        (old_dir, old): (&'a Inode<Rovl>, &'a Dentry<Rovl>),
        (new_dir, new): (&'a Inode<Rovl>, &'a Dentry<Rovl>),
        exchange: bool,
        whiteouts: &'a List,
    ) -> Result {
        let (layers, stays) = (layers::of(old_dir), old_dir.is_same(new_dir));
        let redirects = layers.as_mounter(|| -> Result<_> {
            let of_old = redirect::needed(layers, old, stays)?;
            let of_new = match exchange {
                true => redirect::needed(layers, new, stays)?,
                false => None,
            };
            Ok([of_old, of_new])
        })?;
        let this = Self {
            redirects,
            old: Place::new(old_dir, old.name())?,
            new: Place::new(new_dir, new.name())?,
            old_inode: old.node()?,
            target: new.node().ok(),
            whiteouts,
            exchange,
            old_hides: lookup::is_in_lower(ctx, old_dir, &old.name())?,
            new_hides: lookup::is_in_lower(ctx, new_dir, &new.name())?,
        };
        this.old.layers.as_mounter(|| {
            let mut access = ctx.want_write(&this.old.upper.layer.mnt)?;
            this.mark(&mut access)?;
            this.move_upper(&mut access)?;
            drop(access);
            for inode in [Some(this.old_inode), this.target].into_iter().flatten() {
                if let Some(upper) = inode.data().upper().and_then(|upper| upper.inode()) {
                    inode.copy_attributes(upper);
                }
            }
            this.old.changed();
            this.new.changed();
            pause::point(Point::Renamed);
            Ok(())
        })
    }

    /// Marks that must stand before the objects are in their new places.
    fn mark(&self, access: &mut WriteAccess<'_>) -> Result {
        let [of_old, of_new] = &self.redirects;
        let moves = [
            (Some(self.old_inode), of_old, &self.new, self.new_hides),
            (
                self.target.filter(|_| self.exchange),
                of_new,
                &self.old,
                self.old_hides,
            ),
        ];
        for (inode, redirect, to, hides) in moves {
            let Some(inode) = inode else { continue };
            if let Some(redirect) = redirect {
                redirect::store(access, to.layers, inode, redirect)?;
            }
            if inode.is_dir() && !redirect::has_parts_below(inode) {
                let (upper, names) = (inode.data().upper().ok_or(EIO)?, to.layers.names);
                // A redirect says something where there is something to merge with, and
                // has said nothing where the directory was.
                let there = to.upper.layer.path(upper);
                let merges = !to.dir.data().lower_parts().is_empty();
                if hides || (merges && whiteout::has_redirect(names, there)?) {
                    whiteout::set_opaque(access, names, upper)?;
                }
            }
            if inode.data().has_origin() {
                whiteout::set_impure(access, to.dir)?;
            }
        }
        match self.target {
            Some(target) if target.is_dir() && !self.exchange => {
                clear_target(access, target, self.whiteouts)
            }
            _ => Ok(()),
        }
    }

    /// Moves the upper objects, in one step.
    fn move_upper(&self, access: &mut WriteAccess<'_>) -> Result {
        let (old, new) = (&self.old, &self.new);
        let flags = if self.exchange {
            RenameFlags::EXCHANGE
        } else {
            RenameFlags::NONE
        };
        let mut rename = access.lock_rename(
            (old.upper_dir, &old.name),
            (new.upper_dir, &new.name),
            flags,
        )?;
        check_same(self.old_inode, rename.old().positive()?)?;
        let there = rename.new_name().inode();
        let over_whiteout = match there {
            Some(there) if there.is_whiteout() => true,
            Some(_) => {
                let there = Path::new(&new.upper.layer.mnt, rename.new_name());
                whiteout::is_whiteout(new.layers.names, there)?
            }
            None => false,
        };
        let over_upper = there.is_some() && !over_whiteout;
        if over_upper {
            check_same(self.target.ok_or(ESTALE)?, there.ok_or(EIO)?)?;
        } else if self.exchange {
            return Err(ESTALE);
        }
        let is_dir = self.old_inode.is_dir();
        // The whiteout at the new name may serve at the old one.
        let swap = over_whiteout && (is_dir || self.old_hides);
        if swap {
            rename.set_flags(RenameFlags::EXCHANGE)?;
        } else if self.old_hides && !self.exchange {
            rename.set_flags(RenameFlags::WHITEOUT)?;
        }
        rename.rename()?;
        if let Some(target) = self.target.filter(|_| !self.exchange) {
            lost_a_name(target);
        }
        drop(rename);
        if swap && !self.old_hides {
            let removed = access
                .lock_name(old.upper_dir, &old.name)
                .and_then(|mut name| name.remove());
            if let Err(e) = removed {
                // The rename is done. This hides a name that nothing below has.
                let what = "a whiteout stays where a directory was renamed away";
                old.upper.warn(&old.name, what, e);
            }
        }
        Ok(())
    }
}

/// Prepares an empty directory to be replaced: whiteouts in it go, after it has
/// been made opaque, so that nothing below comes to light in between.
fn clear_target(access: &mut WriteAccess<'_>, target: &Inode<Rovl>, whiteouts: &List) -> Result {
    let Some(dir) = target.data().upper() else {
        return Ok(());
    };
    let names = layers::of(target).names;
    if !target.data().lower_parts().is_empty() {
        whiteout::set_opaque(access, names, dir)?;
        target.data().set_opaque();
        readdir::invalidate(target);
    }
    whiteout::clear(access, names, Emptied { dir, whiteouts })
}

/// Attributes that a new object gets from its directory, where it was made
/// elsewhere.
trait Apply {
    fn apply(self, access: &mut WriteAccess<'_>, made: &Dentry, extra_mode: u16) -> Result;
}

impl Apply for Inherited {
    fn apply(self, access: &mut WriteAccess<'_>, made: &Dentry, extra_mode: u16) -> Result {
        let inode = made.positive()?;
        if inode.kind() == vfs::inode::Kind::Symlink {
            return Ok(());
        }
        let mode = self.mode | extra_mode;
        if inode.mode() != mode {
            access.set_attributes(made, &mut Attributes::new().mode(mode).forced())?;
        }
        if let Some(acl) = &self.access {
            access.set_acl(made, acl::Kind::Access, Some(acl))?;
        }
        if let Some(acl) = &self.default {
            access.set_acl(made, acl::Kind::Default, Some(acl))?;
        }
        Ok(())
    }
}
