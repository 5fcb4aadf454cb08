// SPDX-License-Identifier: GPL-2.0

//! The directories that the options name become a stack of layers.
//!
//! Nothing of this changes a layer but [`workdir`], which comes when all else
//! has been checked.

use super::{
    refuse, uuid, workdir, Fsync, Given, Mounting, Quoted, Reason, RedirectDir, Role, Xino,
};
use crate::vfs::compat::ELOOP;
use crate::{
    format::{names, uuid::Uuid},
    inode::{Identity, LowerObject, LowerObjects, Objects, Way},
    layers::{Composed, InUse, LastWhiteout, Layer, LayerFs, Layers, Numbers, Upper},
    vfs::{
        self,
        cred::NewCred,
        fs_context::Log,
        in_use::{is_in_use, InUseMark},
        inode_ops::Access,
        lock::{Context, Nothing},
        sget::Key,
        super_block::{ErrorsSince, NewSuperBlock, Operations, StatFs},
        Dentry, Path, PrivateMount,
    },
    whiteout,
};
use kernel::{
    cred::Credential,
    prelude::*,
    str::CString,
    sync::{aref::ARef, atomic::Atomic},
};

/// What a mount is made of.
pub(crate) struct Stack {
    pub(crate) layers: KBox<Layers>,
    /// What the root inode stands for.
    pub(crate) root: Objects,
    /// What `uuid` came to.
    pub(crate) uuid: uuid::Choice,
}

/// Refuses a directory that cannot be a layer, or a work directory.
pub(super) fn check_directory(role: Role, name: &CStr, path: Path<'_>, log: &Log<'_>) -> Result {
    let inode = path.inode()?;
    let sb = path.dentry.super_block();
    let name = Quoted(name);
    let refuse = |why: &str| {
        Err(refuse!(
            log,
            EINVAL,
            "{} {}: {} (it is on {})",
            role,
            name,
            why,
            sb.type_name()
        ))
    };
    if !inode.is_dir() {
        return Err(refuse!(
            log,
            ENOTDIR,
            "{} {} is not a directory",
            role,
            name
        ));
    }
    if inode.is_casefolded() || (path.dentry.has_own_names() && !sb.has_encoding()) {
        return refuse("directories that ignore the case of names are not supported");
    }
    if !path.dentry.can_lookup() || path.dentry.is_automount() {
        return refuse("directories with automounts are not supported");
    }
    if role == Role::Lower {
        return Ok(());
    }
    if path.dentry.has_real() {
        return refuse("a stacking filesystem cannot be written to as a layer");
    }
    if path.dentry.needs_revalidation() {
        return refuse("a filesystem that others may change cannot be written to as a layer");
    }
    if path.mnt.is_readonly() {
        return refuse("it is read-only; without upperdir and workdir the mount is, too");
    }
    Ok(())
}

/// Checks the options against each other, and whether the mounter may have what they name.
/// Returns as whom the layers will be accessed.
#[inline(never)]
pub(super) fn check(mounting: &Mounting, log: &Log<'_>) -> Result<ARef<Credential>> {
    check_combination(mounting, log)?;
    check_overlap(mounting, log)?;
    let mut cred = NewCred::prepare()?;
    cred.drop_sys_resource();
    let cred = cred.finish();
    vfs::cred::with_creds(&cred, || {
        if !mounting.userxattr && !vfs::xattr::may_see_trusted() {
            return Err(refuse!(
                log,
                EPERM,
                "in a user namespace the option 'userxattr' is needed: \
                 trusted.overlay.* attributes of the layers could not be read"
            ));
        }
        if let Some((upper, work)) = mounting.written_to() {
            check_writable(Role::Upper, upper, log)?;
            check_writable(Role::Work, work, log)?;
        }
        Ok(())
    })?;
    Ok(cred)
}

/// What makes two stacks the same. Names are no part of it: the same directories are the same
/// stack.
#[inline(never)]
pub(super) fn key(mounting: &Mounting) -> Result<Key> {
    let mut key = Key::new();
    if let Some((upper, work)) = mounting.written_to() {
        key.claim(upper.path()?.borrow())?;
        key.claim(work.path()?.borrow())?;
    }
    key.word(mounting.lower.len() as u64)?;
    for lower in &mounting.lower {
        key.directory(lower.path()?.borrow())?;
    }
    key.word(mounting.userxattr.into())?;
    key.word(mounting.default_permissions.into())?;
    key.word(mounting.fsync() as u64)?;
    key.word(mounting.shown_redirects() as u64)?;
    key.word(mounting.uuid as u64)?;
    key.word(match is_on_one_filesystem(mounting)? {
        true => 0,
        false => 1 + mounting.xino() as u64,
    })?;
    key.credentials(mounting.cred.as_ref().ok_or(EINVAL)?)?;
    Ok(key)
}

/// Whether all layers are on one filesystem.
fn is_on_one_filesystem(mounting: &Mounting) -> Result<bool> {
    let first = mounting.upper.as_ref().or(mounting.lower.first());
    let first = first.ok_or(EINVAL)?.path()?.borrow();
    for lower in &mounting.lower {
        let lower = lower.path()?.borrow();
        if !lower
            .dentry
            .super_block()
            .is_same(first.dentry.super_block())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a stack of the layers that the options name, which have been [`check`]ed.
#[inline(never)]
pub(super) fn build<F: Operations>(
    context: &mut Context<Nothing>,
    mounting: &Mounting,
    log: &Log<'_>,
    sb: &mut NewSuperBlock<F>,
) -> Result<Stack> {
    check_depth(mounting, log, sb)?;
    let cred = mounting.cred.clone().ok_or(EINVAL)?;
    vfs::cred::with_creds(&cred, || {
        let mut layers = no_layers(mounting, &cred)?;
        match mounting.written_to() {
            Some(_) => {
                let upper = open_upper(context, mounting, &mut layers, log)?;
                let below = upper.layer.root().super_block();
                sb.set_limits_from(below);
                sb.set_nosec_from(below);
                layers.upper = Some(upper);
            }
            None => sb.set_readonly(),
        }
        for given in &mounting.lower {
            warn_if_in_use(given, log)?;
            let mut layer = open_layer(&mut layers, Role::Lower, given, log)?;
            layer.mnt.make_readonly();
            layers.lower.push(layer, GFP_KERNEL)?;
        }
        if layers.upper.is_none() {
            sb.set_limits_from(layers.lower(0)?.root().super_block());
        }
        forget_shared_uuids(&mut layers)?;
        layers.numbers = numbers_of(&layers, mounting.xino(), log)?;
        layers.set_traps()?;
        let root = root_of(&layers)?;
        let (uuid, id) = uuid::settle(context, mounting, &layers, root.impure, log)?;
        if let Some(id) = id {
            sb.set_uuid(&id.0);
        }
        layers.ignores_uuids = uuid == uuid::Choice::Off;
        if let (Some(upper), Some(work)) = (&layers.upper, &mounting.work) {
            if upper.volatile.is_some() {
                workdir::mark_volatile(context, &upper.layer.mnt, &upper.work)
                    .map_err(|e| unmarked(e, work, log))?;
            }
        }
        Ok(Stack { layers, root, uuid })
    })
}

/// A stack of none so far.
#[inline(never)]
fn no_layers(mounting: &Mounting, cred: &ARef<Credential>) -> Result<KBox<Layers>> {
    let layers = Layers {
        names: match mounting.userxattr {
            true => &names::USER,
            false => &names::TRUSTED,
        },
        trusts_handles: !mounting.userxattr && vfs::xattr::may_see_trusted(),
        redirects: mounting.redirects,
        ignores_uuids: false,
        upper: None,
        lower: KVec::with_capacity(mounting.lower.len(), GFP_KERNEL)?,
        filesystems: KVec::new(),
        numbers: Numbers::OfOne,
        has_overflowed: Atomic::new(false),
        cred: cred.clone(),
        traps: KVec::new(),
        namelen: 0,
    };
    Ok(KBox::new(layers, GFP_KERNEL)?)
}

#[inline(never)]
fn unmarked(e: Error, work: &Given, log: &Log<'_>) -> Error {
    let name = Quoted(&work.name);
    refuse!(
        log,
        e,
        "workdir {}: cannot be marked as that of a volatile mount",
        name
    )
}

/// Refuses options that do not go together.
#[inline(never)]
fn check_combination(mounting: &Mounting, log: &Log<'_>) -> Result {
    if mounting.lower.is_empty() {
        return Err(refuse!(log, EINVAL, "no lowerdir is given"));
    }
    if let (true, Some(dir @ (RedirectDir::Follow | RedirectDir::On))) =
        (mounting.userxattr, mounting.redirect_dir)
    {
        return Err(refuse!(
            log,
            EINVAL,
            "options 'userxattr' and 'redirect_dir={}' exclude each other",
            dir.name()
        ));
    }
    match (&mounting.upper, &mounting.work) {
        (None, None) => Ok(()),
        (Some(upper), Some(work)) => {
            // Mounts may have changed since the options were given.
            check_directory(Role::Upper, &upper.name, upper.path()?.borrow(), log)?;
            check_directory(Role::Work, &work.name, work.path()?.borrow(), log)?;
            check_pair(upper, work, log)
        }
        (Some(upper), None) => Err(refuse!(
            log,
            EINVAL,
            "upperdir {} needs a workdir",
            Quoted(&upper.name)
        )),
        (None, Some(work)) => Err(refuse!(
            log,
            EINVAL,
            "workdir {} needs an upperdir",
            Quoted(&work.name)
        )),
    }
}

/// Refuses upper and work directories between which nothing can be moved.
fn check_pair(upper: &Given, work: &Given, log: &Log<'_>) -> Result {
    let (upper_path, work_path) = (upper.path()?.borrow(), work.path()?.borrow());
    let (u, w) = (upper_path.dentry, work_path.dentry);
    let why = if !u.super_block().is_same(w.super_block()) {
        "are on different filesystems"
    } else if !upper_path.mnt.is_same(work_path.mnt) {
        "are on different mounts of one filesystem"
    } else if u.is_same(w) {
        "are the same directory"
    } else if w.is_subdir_of(u) {
        "overlap: workdir is inside upperdir"
    } else if u.is_subdir_of(w) {
        "overlap: upperdir is inside workdir"
    } else {
        return Ok(());
    };
    let (upper, work) = (Quoted(&upper.name), Quoted(&work.name));
    Err(refuse!(
        log,
        EINVAL,
        "upperdir {} and workdir {} {}",
        upper,
        work,
        why
    ))
}

/// Sets the depth of the stack of filesystems.
fn check_depth<F: Operations>(
    mounting: &Mounting,
    log: &Log<'_>,
    sb: &mut NewSuperBlock<F>,
) -> Result {
    let upper = mounting.upper.iter().map(|given| (Role::Upper, given));
    let lower = mounting.lower.iter().map(|given| (Role::Lower, given));
    let mut deepest = None;
    for (role, given) in Iterator::chain(upper, lower) {
        let depth = given.path()?.borrow().dentry.super_block().stack_depth();
        if deepest.is_none_or(|(_, _, max)| depth > max) {
            deepest = Some((role, given, depth));
        }
    }
    let (role, given, depth) = deepest.ok_or(EINVAL)?;
    sb.set_stack_depth(depth).map_err(|e| {
        let name = Quoted(&given.name);
        refuse!(
            log,
            e,
            "{} {}: stack too deep, it is on {} stacked filesystems",
            role,
            name,
            depth
        )
    })
}

/// Refuses a lower layer that is, or is inside, another directory of this
/// mount: what is written to one would appear in the other.
#[inline(never)]
fn check_overlap(mounting: &Mounting, log: &Log<'_>) -> Result {
    for (i, lower) in mounting.lower.iter().enumerate() {
        let dentry = lower.path()?.borrow().dentry;
        let upper = mounting.upper.iter().map(|given| (Role::Upper, given));
        let work = mounting.work.iter().map(|given| (Role::Work, given));
        let others = mounting.lower.iter().enumerate();
        let others = others
            .filter(|(j, _)| *j != i)
            .map(|(_, given)| (Role::Lower, given));
        for (role, other) in Iterator::chain(Iterator::chain(upper, work), others) {
            let root = other.path()?.borrow().dentry;
            if !dentry.super_block().is_same(root.super_block()) || !dentry.is_subdir_of(root) {
                continue;
            }
            let how = if dentry.is_same(root) {
                "is also"
            } else {
                "is inside"
            };
            let (name, other) = (Quoted(&lower.name), Quoted(&other.name));
            return Err(refuse!(
                log,
                ELOOP,
                "lowerdir {} {} {} {}",
                name,
                how,
                role,
                other
            ));
        }
    }
    Ok(())
}

/// A lower layer that another mount writes to may be read, as with overlayfs,
/// but what is seen of the changes is not defined.
fn warn_if_in_use(lower: &Given, log: &Log<'_>) -> Result {
    let dentry = lower.path()?.borrow().dentry;
    if is_in_use(dentry) || dentry.any_ancestor(is_in_use) {
        log.warn(fmt!(
            "lowerdir {} is in use as upperdir or workdir of another mount, \
             what is written there may or may not be seen here",
            Quoted(&lower.name)
        ));
    }
    Ok(())
}

/// Who may not write to a directory cannot keep others off it.
fn check_writable(role: Role, given: &Given, log: &Log<'_>) -> Result {
    let access = Access::WRITE.and(Access::EXEC);
    vfs::attr::permission(given.path()?.borrow(), access).map_err(|e| {
        let name = Quoted(&given.name);
        refuse!(
            log,
            e,
            "{} {}: cannot be written to: {}",
            role,
            name,
            Reason(e)
        )
    })
}

/// Marks a directory that is written to as in use, for other filesystem types: of this one nobody
/// else has it, or we would not be here.
///
/// Whoever may write to a directory may mark it, such as /tmp. So a mark further up says
/// that somebody may change this one behind our back, and keeps nobody off it.
fn mark_in_use(role: Role, given: &Given, log: &Log<'_>) -> Result<InUseMark> {
    let dentry = given.path()?.borrow().dentry;
    let mark = InUseMark::set(dentry)?.ok_or_else(|| {
        refuse!(
            log,
            EBUSY,
            "{} {} is in use as upperdir or workdir of a mount of another filesystem type \
             (overlay, or rovl by its other name)",
            role,
            Quoted(&given.name)
        )
    })?;
    if dentry.any_ancestor(is_in_use) {
        log.warn(fmt!(
            "{} {} is inside a directory that is in use as upperdir or workdir of another mount, \
             what is changed there may or may not be seen here",
            role,
            Quoted(&given.name)
        ));
    }
    Ok(mark)
}

/// A private mount of a directory, and what there is to know of its filesystem.
#[inline(never)]
fn open_layer(layers: &mut Layers, role: Role, given: &Given, log: &Log<'_>) -> Result<Layer> {
    let mnt = clone(role, given, log)?;
    let root = Path::new(&mnt, mnt.root());
    layers.namelen = layers.namelen.max(StatFs::of(root)?.namelen());
    let fs = index_of_filesystem(&mut layers.filesystems, root.dentry)?;
    Ok(Layer {
        name: CString::try_from(&*given.name)?,
        fs,
        mnt,
    })
}

/// A mount of ours of the directory that an option names.
fn clone(role: Role, given: &Given, log: &Log<'_>) -> Result<PrivateMount> {
    given.path()?.clone_private().map_err(|e| {
        refuse!(
            log,
            e,
            "{} {}: cannot be cloned (unbindable, or mounted elsewhere): {}",
            role,
            Quoted(&given.name),
            Reason(e)
        )
    })
}

/// Asks of a stack that is there already what [`build`] asks of the mounts of its layers:
/// this mounter may come by others, which he may not clone.
#[inline(never)]
pub(super) fn check_mounts(mounting: &Mounting, log: &Log<'_>) -> Result {
    let upper = mounting.upper.iter().map(|given| (Role::Upper, given));
    let lower = mounting.lower.iter().map(|given| (Role::Lower, given));
    let mut cloned = KVec::new();
    let checked = Iterator::chain(upper, lower).try_for_each(|(role, given)| {
        cloned.push(clone(role, given, log)?, GFP_KERNEL)?;
        Ok(())
    });
    // Not one by one, with the superblock locked, each with a grace period.
    PrivateMount::retire(cloned.iter())?;
    checked
}

/// The index of the filesystem that a directory is on.
fn index_of_filesystem(filesystems: &mut KVec<LayerFs>, dentry: &Dentry) -> Result<u32> {
    let sb = dentry.super_block();
    let known = (0..)
        .zip(&*filesystems)
        .find(|(_, fs)| fs.sb == sb.address());
    if let Some((i, _)) = known {
        return Ok(i);
    }
    let index = u32::try_from(filesystems.len()).map_err(|_| EINVAL)?;
    let fs = LayerFs {
        sb: sb.address(),
        pseudo_dev: vfs::attr::AnonDev::new()?,
        is_found_by_uuid: vfs::export::can_decode(sb),
    };
    filesystems.push(fs, GFP_KERNEL)?;
    Ok(index)
}

/// A file handle that was stored leads to a file of the filesystem with the UUID stored
/// beside it. Where lower filesystems share one, it may be that of another file; and one
/// without a UUID may have been replaced, as an image is. That of the upper layer has not,
/// since its handles are stored in itself.
fn forget_shared_uuids(layers: &mut Layers) -> Result {
    let uuid = |layer: &Layer| Uuid(layer.root().super_block().uuid());
    let of_upper = layers.upper.as_ref().map(|upper| upper.layer.fs);
    for layer in &layers.lower {
        let shared = layers
            .lower
            .iter()
            .any(|other| other.fs != layer.fs && uuid(other) == uuid(layer));
        let replaced = uuid(layer).is_null() && Some(layer.fs) != of_upper;
        if shared || replaced {
            let fs = layers.filesystems.get_mut(layer.fs as usize).ok_or(EIO)?;
            fs.is_found_by_uuid = false;
        }
    }
    Ok(())
}

/// Which numbers the objects of these layers are shown with.
#[inline(never)]
fn numbers_of(layers: &Layers, xino: Xino, log: &Log<'_>) -> Result<Numbers> {
    let filesystems = u32::try_from(layers.filesystems.len()).map_err(|_| EINVAL)?;
    if filesystems == 1 {
        return Ok(Numbers::OfOne);
    }
    if xino == Xino::Off {
        return Ok(Numbers::OfEach);
    }
    if cfg!(not(target_pointer_width = "64")) {
        log.warn(fmt!("on a 32-bit kernel there is no xino, it is off"));
        return Ok(Numbers::OfEach);
    }
    if xino == Xino::Auto {
        if let Some((role, layer, why)) = without_lasting_numbers(layers) {
            log.warn(fmt!(
                "{} {}: its filesystem ({}) has {}, xino=auto is off",
                role,
                Quoted(&layer.name),
                layer.root().super_block().type_name(),
                why
            ));
            return Ok(Numbers::OfEach);
        }
    }
    Ok(Numbers::Composed(Composed::new(filesystems)))
}

/// A layer whose objects do not keep their numbers for sure, over mounts and copies, and
/// why: it cannot be told from which object of it one was copied.
fn without_lasting_numbers(layers: &Layers) -> Option<(Role, &Layer, &'static str)> {
    let upper = layers.upper.iter().map(|upper| (Role::Upper, &upper.layer));
    let lower = layers.lower.iter().map(|layer| (Role::Lower, layer));
    Iterator::chain(upper, lower).find_map(|(role, layer)| {
        let fs = layers.filesystems.get(layer.fs as usize)?;
        let sb = layer.root().super_block();
        if !vfs::export::can_decode(sb) {
            return Some((role, layer, "no file handles"));
        }
        // Without an upper layer there are no copies.
        (layers.upper.is_some() && !fs.is_found_by_uuid).then_some((
            role,
            layer,
            "no UUID of its own",
        ))
    })
}

/// The writable layer: held against others, and with a clean work directory.
#[inline(never)]
fn open_upper(
    context: &mut Context<Nothing>,
    mounting: &Mounting,
    layers: &mut Layers,
    log: &Log<'_>,
) -> Result<Upper> {
    let (upper, work) = mounting.written_to().ok_or(EINVAL)?;
    let in_use = InUse::new(
        mark_in_use(Role::Upper, upper, log)?,
        mark_in_use(Role::Work, work, log)?,
    );
    let mut layer = open_layer(layers, Role::Upper, upper, log)?;
    layer.mnt.reset_atime();
    let base = work.path()?.borrow().dentry;
    let volatile = match mounting.fsync() {
        Fsync::Volatile => Some(sample_errors(&layer, log)?),
        _ => None,
    };
    let prepared = workdir::Preparation {
        mnt: &layer.mnt,
        base,
        name: &work.name,
        upper: &upper.name,
        cred: &layers.cred,
        names: layers.names,
        log,
    }
    .run(context)?;
    Ok(Upper {
        work: prepared.work,
        workdir: base.into(),
        tmpfile: prepared.tmpfile,
        rename_whiteout: prepared.rename_whiteout,
        volatile,
        strict: mounting.fsync() == Fsync::Strict,
        _in_use: in_use,
        serial: Atomic::new(0),
        last_whiteout: LastWhiteout::new()?,
        workdir_name: CString::try_from(&*work.name)?,
        layer,
    })
}

/// From when on a volatile mount tells of write errors. What has been lost before it was made is
/// somebody's who has to be told first.
#[inline(never)]
fn sample_errors(upper: &Layer, log: &Log<'_>) -> Result<ErrorsSince> {
    let sb = upper.root().super_block();
    let since = sb.sample_errors();
    sb.check_errors(&since).map_err(|_| {
        refuse!(
            log,
            EIO,
            "upperdir {}: its filesystem has had a write error that nobody was told of yet; \
             'sync -f' there tells it, before that there is no volatile mount",
            Quoted(&upper.name)
        )
    })?;
    Ok(since)
}

/// What the root of the mount stands for: the roots of all layers, merged.
#[inline(never)]
fn root_of(layers: &Layers) -> Result<Objects> {
    let mut root = Objects {
        upper: None,
        lower: LowerObjects::new(),
        origin: None,
        impure: false,
        way: Way::STRAIGHT,
        way_below: Way::STRAIGHT,
    };
    if let Some(upper) = &layers.upper {
        let dentry = upper.layer.root();
        let path = upper.layer.path(dentry);
        root.impure = whiteout::is_impure(layers.names, path)?;
        // The root is shown with the number of its topmost part.
        root.origin = Some(Identity::of(dentry.positive()?, upper.layer.fs));
        root.upper = Some(dentry.into());
    }
    for (i, lower) in layers.lower.iter().enumerate() {
        let dentry = lower.root();
        // Below the last layer there is nothing to hide.
        let is_last = i.saturating_add(1) == layers.lower.len();
        let object = LowerObject {
            layer: u32::try_from(i).map_err(|_| EINVAL)?,
            dentry: dentry.into(),
            is_trap: false,
            xattr_whiteouts: !is_last
                && whiteout::has_xattr_whiteouts(layers.names, lower.path(dentry))?,
        };
        root.lower.push(object)?;
    }
    Ok(root)
}
