// SPDX-License-Identifier: GPL-2.0

//! Finding the superblock that is made of the same, or making a new one.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h) (`sget_fc`),
//! [`include/linux/cred.h`](srctree/include/linux/cred.h)
//!
//! The kernel compares superblocks under `sb_lock`, a spinlock. So what they are made of
//! is written down before, as numbers ([`Key`]), and no code of a filesystem runs there.

use super::{
    bindings as b,
    compat::EOPNOTSUPP,
    cred,
    super_block::{FileSystem, Operations},
    to_result, Path, PrivateMount,
};
use core::{mem::MaybeUninit, ptr::NonNull};
use kernel::{
    container_of,
    cred::Credential,
    error::from_err_ptr,
    ffi::{self, c_int},
    prelude::*,
};

/// What a superblock is made of: directories of other filesystems, options, and who made it.
///
/// Directories are known by their addresses. A superblock holds its directories from before
/// its key can be seen until it is dying, so equal addresses are the same directories;
/// that of one that is dying may be found wrongly, and then `sget_fc` waits until it has gone.
/// But one of another user namespace is not waited for: what it claims is busy until it is dead.
pub(crate) struct Key {
    /// Directories that no other superblock of this type may be made of.
    claimed: KVec<usize>,
    /// All that must be equal, these directories too.
    words: KVVec<u64>,
    /// Only a new superblock will do.
    alone: bool,
}

impl Key {
    pub(crate) fn new() -> Self {
        Self {
            claimed: KVec::new(),
            words: KVVec::new(),
            alone: false,
        }
    }

    /// A number or flags.
    pub(crate) fn word(&mut self, word: u64) -> Result {
        Ok(self.words.push(word, GFP_KERNEL)?)
    }

    /// A directory, as it is seen through its mount.
    pub(crate) fn directory(&mut self, path: Path<'_>) -> Result {
        self.word(path.dentry.as_ptr().addr() as u64)?;
        self.word(path.mnt.idmap().addr() as u64)
    }

    /// A directory that is for this superblock alone.
    pub(crate) fn claim(&mut self, path: Path<'_>) -> Result {
        let address = path.dentry.as_ptr().addr();
        self.claimed.push(address, GFP_KERNEL)?;
        self.directory(path)
    }

    /// What credentials allow: ids, groups, capabilities, and the labels that the security
    /// modules have given them. Keyrings are not looked at, and Landlock tells nothing.
    pub(crate) fn credentials(&mut self, cred: &Credential) -> Result {
        // SAFETY: the credentials are counted; in use, so they do not change.
        let c = unsafe { &*cred.as_ptr() };
        for id in [c.uid.val, c.euid.val, c.fsuid.val] {
            self.word(id.into())?;
        }
        for id in [c.gid.val, c.egid.val, c.fsgid.val] {
            self.word(id.into())?;
        }
        self.word(c.cap_effective.val)?;
        self.word(c.securebits.into())?;
        self.word(c.user_ns.addr() as u64)?;
        self.groups(c)?;
        // SAFETY: plain data, for which zero is a value.
        let mut label: b::lsm_prop = unsafe { core::mem::zeroed() };
        // SAFETY: the credentials are counted, the label is ours to fill in.
        unsafe { b::security_cred_getlsmprop(cred.as_ptr(), &mut label) };
        // SAFETY: it was zeroed as a whole, so each byte of it is initialised.
        let bytes = unsafe {
            core::slice::from_raw_parts((&raw const label).cast::<u8>(), size_of_val(&label))
        };
        self.bytes(bytes)?;
        self.confinement(cred)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.word(bytes.len() as u64)?;
        bytes.iter().try_for_each(|byte| self.word((*byte).into()))
    }

    /// AppArmor tells its label of the running task only, and then as an address. As text it stays
    /// the same, and is another one for each other label.
    ///
    /// # Errors
    ///
    /// What AppArmor says if there is no text: two labels could not be told apart.
    fn confinement(&mut self, cred: &Credential) -> Result {
        // SAFETY: plain data, for which zero is a value.
        let mut label: b::lsm_prop = unsafe { core::mem::zeroed() };
        // SAFETY: plain data, for which zero is a value.
        let mut text: b::lsm_context = unsafe { core::mem::zeroed() };
        let made = cred::with_creds(cred, || {
            // SAFETY: the label is ours to fill in.
            unsafe { b::security_current_getlsmprop_subj(&mut label) };
            // SAFETY: filled in just now, and the credentials in force hold the label.
            unsafe {
                b::security_lsmprop_to_secctx(&mut label, &mut text, b::LSM_ID_APPARMOR as c_int)
            }
        });
        match to_result(made) {
            // It is not there, as nobody's label.
            Err(e) if e == EOPNOTSUPP => return Ok(()),
            made => made?,
        }
        let result = if text.context.is_null() {
            Err(EIO)
        } else {
            // SAFETY: AppArmor has put a text of that length there, which is ours until it is
            // released.
            let bytes = unsafe {
                core::slice::from_raw_parts(text.context.cast::<u8>(), text.len as usize)
            };
            self.bytes(bytes)
        };
        // SAFETY: filled in above, released once.
        unsafe { b::security_release_secctx(&mut text) };
        result
    }

    /// The groups besides `fsgid`, which are sorted.
    fn groups(&mut self, c: &b::cred) -> Result {
        // SAFETY: credentials hold their groups, which do not change.
        let count = unsafe { (*c.group_info).ngroups };
        // SAFETY: as above.
        let gids = unsafe { &raw const (*c.group_info).gid }.cast::<b::kgid_t>();
        // SAFETY: an array of `ngroups`, which lives and stays as it is as long as `c`.
        let gids = unsafe { core::slice::from_raw_parts(gids, usize::try_from(count)?) };
        let others = || gids.iter().filter(|gid| gid.val != c.fsgid.val);
        self.word(others().count() as u64)?;
        for gid in others() {
            self.word(gid.val.into())?;
        }
        Ok(())
    }

    fn is_same(&self, other: &Key) -> bool {
        !self.alone && self.claimed.len() == other.claimed.len() && *self.words == *other.words
    }

    /// Asks for a new superblock, though there is one that is made of the same.
    pub(super) fn set_alone(&mut self) {
        self.alone = true;
    }

    /// The first of our claims that the other one has, too.
    fn conflict(&self, other: &Key) -> Option<usize> {
        self.claimed
            .iter()
            .position(|address| other.claimed.contains(address))
    }
}

/// Another superblock has what this one was to have for itself.
pub(crate) struct Busy {
    /// Which of the claims, in the order in which they were made.
    pub(crate) claim: usize,
    /// `s_dev` of the other one, major and minor number.
    pub(crate) dev: (u32, u32),
}

/// What stands behind `s_fs_info`, from the moment when others can find the superblock until
/// it is `SB_DEAD`.
///
/// # Invariants
///
/// `data` is initialised while `filled` is set.
pub(super) struct Info<F: FileSystem> {
    data: MaybeUninit<F::Super>,
    filled: bool,
    key: Key,
    /// What `set` has found: which claim, and whose it is.
    busy: Option<(usize, b::dev_t)>,
}

impl<F: FileSystem> Info<F> {
    fn new(key: Key) -> Result<KBox<Self>> {
        let mut new = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let at = new.as_mut_ptr();
        // SAFETY: memory of that type, not initialised yet; no field has a `drop` to run.
        unsafe { (&raw mut (*at).filled).write(false) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).key).write(key) };
        // SAFETY: as above.
        unsafe { (&raw mut (*at).busy).write(None) };
        // SAFETY: `data` may be uninitialised, and all else is written.
        Ok(unsafe { new.assume_init() })
    }

    /// # Safety
    ///
    /// `sb` has an `Info<F>`.
    unsafe fn of(sb: *mut b::super_block) -> *mut Self {
        // SAFETY: per the contract.
        unsafe { (*sb).s_fs_info }.cast()
    }

    /// # Safety
    ///
    /// `sb` has been filled, and stays so for `'a`.
    pub(super) unsafe fn data<'a>(sb: *mut b::super_block) -> &'a F::Super {
        // SAFETY: per the contract.
        let info = unsafe { Self::of(sb) };
        // SAFETY: per the contract it is initialised, and not written to any more.
        unsafe { (*info).data.assume_init_ref() }
    }

    /// # Safety
    ///
    /// `sb` is being filled, and this is called once.
    pub(super) unsafe fn fill(sb: *mut b::super_block, data: KBox<F::Super>) {
        // SAFETY: per the contract.
        let info = unsafe { Self::of(sb) };
        let data = KBox::into_raw(data);
        // SAFETY: moved from one allocation to another.
        unsafe { (*info).data.as_mut_ptr().copy_from_nonoverlapping(data, 1) };
        // SAFETY: the box, of which the contents have been moved away: only its memory is freed.
        drop(unsafe { KBox::from_raw(data.cast::<MaybeUninit<F::Super>>()) });
        // SAFETY: only we use the superblock.
        unsafe { (*info).filled = true };
    }
}

impl<F: Operations> Info<F> {
    /// Lets go of what the filesystem keeps: before `SB_DEAD`, so that who waits for that to mount
    /// again finds everything free.
    ///
    /// # Safety
    ///
    /// The superblock is being shut down, and has no inode and no dentry any more.
    pub(super) unsafe fn empty(sb: *mut b::super_block) {
        // SAFETY: a superblock that `get` has made.
        let info = unsafe { Self::of(sb) };
        // SAFETY: only we use this field.
        if !unsafe { core::mem::replace(&mut (*info).filled, false) } {
            return;
        }
        // SAFETY: it was filled, and others than path walks do not look at it any more.
        let data = unsafe { (*info).data.assume_init_ref() };
        // A path walk without references may still look at it, so there has to be a grace
        // period, which the mounts need as well.
        if PrivateMount::retire(F::mounts(data)).is_err() {
            // SAFETY: no requirements, and this may sleep.
            unsafe { b::synchronize_rcu_expedited() };
        }
        // SAFETY: it was filled, this runs once, and nobody looks at it any more.
        unsafe { (*info).data.assume_init_drop() };
    }

    /// Frees all, after `SB_DEAD`.
    ///
    /// # Safety
    ///
    /// Nobody can find the superblock any more, and it is [`Info::empty`].
    pub(super) unsafe fn free(sb: *mut b::super_block) {
        // SAFETY: a superblock that `get` has made.
        let info = unsafe { core::mem::replace(&mut (*sb).s_fs_info, core::ptr::null_mut()) };
        if !info.is_null() {
            // SAFETY: the box that `get` turned into a pointer, taken once.
            drop(unsafe { KBox::from_raw(info.cast::<Self>()) });
        }
    }

    /// `sget_fc`'s `test`: whether to share this superblock, or to wait until it has gone.
    ///
    /// # Safety
    ///
    /// Only for `sget_fc` to call in [`get`], under `sb_lock`.
    unsafe extern "C" fn test(
        sb: *mut b::super_block,
        fc: *mut kernel::bindings::fs_context,
    ) -> c_int {
        let fc = fc.cast::<b::fs_context>();
        // SAFETY: all superblocks of this type have an `Info`, until they are `SB_DEAD`.
        let info = unsafe { Self::of(sb) };
        // SAFETY: the key does not change, and stays as long as the superblock can be found.
        let theirs = unsafe { &(*info).key };
        // SAFETY: `get` has put it there.
        let mine = unsafe { &(*(*fc).s_fs_info.cast::<Self>()).key };
        // SAFETY: both stay as they are; only compared.
        if unsafe { (*sb).s_user_ns != (*fc).user_ns } {
            return 0;
        }
        if mine.is_same(theirs) {
            return 1;
        }
        // SAFETY: an atomic counter; once it is zero it stays so.
        let active = unsafe { (&raw const (*sb).s_active.counter).read_volatile() };
        (active == 0 && mine.conflict(theirs).is_some()).into()
    }

    /// `sget_fc`'s `set`: nobody else has what we need alone.
    ///
    /// # Safety
    ///
    /// Only for `sget_fc` to call in [`get`], under `sb_lock`.
    unsafe extern "C" fn set(
        sb: *mut b::super_block,
        fc: *mut kernel::bindings::fs_context,
    ) -> c_int {
        let context = fc.cast::<b::fs_context>();
        // SAFETY: `get` has put it there.
        let info = unsafe { (*context).s_fs_info.cast::<Self>() };
        // SAFETY: the list is changed under `sb_lock` only.
        let mut node = unsafe { (*(*context).fs_type).fs_supers.first };
        while !node.is_null() {
            // SAFETY: a list of superblocks by this field.
            let other = unsafe { container_of!(node, b::super_block, s_instances) };
            // SAFETY: as for the list.
            node = unsafe { (*node).next };
            // SAFETY: changed to `SB_DEAD` under `sb_lock` only.
            let flags = unsafe { (&raw const (*other).s_flags).read_volatile() };
            if flags & b::SB_DEAD != 0 {
                continue;
            }
            // SAFETY: it is not dead, so it has an `Info`.
            let theirs = unsafe { Self::of(other) };
            // SAFETY: the key does not change.
            let conflict = unsafe { (*info).key.conflict(&(*theirs).key) };
            if let Some(claim) = conflict {
                // SAFETY: set before the superblock was put into the list.
                let dev = unsafe { (*other).s_dev };
                // SAFETY: nobody else looks at what is ours yet.
                unsafe { (*info).busy = Some((claim, dev)) };
                return EBUSY.to_errno();
            }
        }
        // SAFETY: as `sget_fc` expects it for a filesystem without a device.
        unsafe { b::set_anon_super_fc(sb, fc) }
    }
}

/// Whether a superblock that is made of the same has the flags that this configuration asks for,
/// and the options of security modules. No part of the key: a remount changes the flags; modules
/// look at the root, which a dying superblock has no more, and may sleep.
///
/// # Safety
///
/// `fc` is a configuration that the VFS has locked, `sb` is active and has a root; `s_umount` of it
/// is held exclusively.
pub(super) unsafe fn suits(fc: *mut b::fs_context, sb: *mut b::super_block) -> bool {
    // SAFETY: locked by the VFS.
    let wanted = unsafe { (*fc).sb_flags } as ffi::c_ulong;
    // SAFETY: a remount changes them with `s_umount` held.
    let flags = unsafe { (&raw const (*sb).s_flags).read_volatile() };
    let kept = b::SB_SYNCHRONOUS | b::SB_DIRSYNC | b::SB_LAZYTIME;
    // SAFETY: per the contract.
    let same_options = || unsafe { b::security_sb_mnt_opts_compat(sb, (*fc).security) == 0 };
    (flags ^ wanted) & kept == 0 && same_options()
}

/// A superblock that `s_umount` of is held.
pub(super) enum Found {
    /// Nobody has filled it yet.
    New(NonNull<b::super_block>),
    /// It is mounted elsewhere. The key is not used up.
    Mounted(NonNull<b::super_block>, Key),
}

/// Why there is none.
pub(super) enum Failed {
    Busy(Busy),
    Other(Error),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Failed::Other(e)
    }
}

/// `sget_fc`.
///
/// # Safety
///
/// `fc` is a configuration of `F` that the VFS has locked, to get a superblock.
pub(super) unsafe fn get<F: Operations>(
    fc: *mut b::fs_context,
    key: Key,
) -> core::result::Result<Found, Failed> {
    let info = KBox::into_raw(Info::<F>::new(key)?);
    // SAFETY: locked by the VFS for this call.
    unsafe { (*fc).s_fs_info = info.cast() };
    // SAFETY: as above; both callbacks expect what has been put there.
    let sb = unsafe { b::sget_fc(fc.cast(), Some(Info::<F>::test), Some(Info::<F>::set)) };
    let sb = from_err_ptr(sb);
    // SAFETY: as above. Taken by a new superblock only.
    let left = unsafe { core::mem::replace(&mut (*fc).s_fs_info, core::ptr::null_mut()) };
    let (mut busy, mut key) = (None, None);
    if !left.is_null() {
        // SAFETY: the box from above, which nobody else has.
        let mut info = unsafe { KBox::from_raw(left.cast::<Info<F>>()) };
        busy = info.busy;
        key = Some(core::mem::replace(&mut info.key, Key::new()));
    }
    match (sb, busy) {
        (Ok(sb), _) => {
            let sb = NonNull::new(sb).ok_or(ENOMEM)?;
            Ok(match key {
                None => Found::New(sb),
                Some(key) => Found::Mounted(sb, key),
            })
        }
        (Err(_), Some((claim, dev))) => Err(Failed::Busy(Busy {
            claim,
            dev: (dev >> b::MINORBITS, dev & ((1 << b::MINORBITS) - 1)),
        })),
        (Err(e), None) => Err(e.into()),
    }
}

/// Whether a configuration was made by whom it is used now, as far as user namespaces go: its file
/// may have been passed on, and then the superblock would be of one namespace and act with the
/// rights of another.
///
/// # Safety
///
/// `fc` is a configuration that the VFS has locked.
pub(super) unsafe fn is_of_current_user_ns(fc: *mut b::fs_context) -> bool {
    // SAFETY: per the contract.
    let theirs = unsafe { (*fc).user_ns };
    // SAFETY: the credentials of the running task, whose namespace is only compared.
    let ours = unsafe { (*cred::current().as_ptr()).user_ns };
    core::ptr::eq(theirs, ours)
}
