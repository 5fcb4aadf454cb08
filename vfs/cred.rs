// SPDX-License-Identifier: GPL-2.0

//! Acting with other credentials than the caller's.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h)

use super::{bindings as b, idmap::Idmap, to_result, Dentry, Mount, SuperBlock};
use core::ptr::NonNull;
use kernel::{cred::Credential, prelude::*, sync::aref::ARef};

/// `scoped_with_creds`: the current task acts as `cred` while `f` runs
/// (`override_creds`, `revert_creds`). The task holds no reference to them, so this
/// is no guard, which could be forgotten, or dropped before one made later.
pub(crate) fn with_creds<R>(cred: &Credential, f: impl FnOnce() -> R) -> R {
    // SAFETY: `cred` outlives this call, which undoes it before it returns: `f`
    // does not unwind.
    let old = unsafe { b::rovl_override_creds(cred.as_ptr()) };
    let result = f();
    // SAFETY: what `override_creds` returned on this task; each call within `f`
    // has been undone.
    unsafe { b::rovl_revert_creds(old) };
    result
}

/// The credentials the current task acts with.
pub(crate) fn current() -> ARef<Credential> {
    // SAFETY: the credentials of the running task do not go away under it; the
    // reference taken here makes it last.
    unsafe { Credential::from_ptr(b::rovl_current_cred()) }.into()
}

/// `mapped_fsuid`, `mapped_fsgid`: who owns what the current task creates in `sb`
/// through a mount.
pub(crate) fn current_fs_owner(sb: &SuperBlock, idmap: Idmap<'_>) -> (b::kuid_t, b::kgid_t) {
    let (mut uid, mut gid) = (pin_init::zeroed(), pin_init::zeroed());
    // SAFETY: fills in both.
    unsafe { b::rovl_current_fs_ids(&mut uid, &mut gid) };
    idmap.stored(sb, (uid, gid))
}

/// `kuid_has_mapping`, `kgid_has_mapping`: whether an owner has a name in the user
/// namespace of the credentials in force. To whom it has none nothing may be given
/// by them: on a filesystem of another namespace he may be anybody, root too.
pub(crate) fn can_name_owner((uid, gid): (b::kuid_t, b::kgid_t)) -> bool {
    // SAFETY: the credentials of the running task do not go away under it.
    unsafe { b::rovl_current_maps(uid, gid) }
}

/// Credentials that are being made (`prepare_creds`), not yet in use.
pub(crate) struct NewCred(NonNull<b::cred>);

impl NewCred {
    /// A copy of what the current task acts with.
    pub(crate) fn prepare() -> Result<Self> {
        // SAFETY: no requirements.
        let cred = unsafe { b::prepare_creds() };
        NonNull::new(cred).map(Self).ok_or(ENOMEM)
    }

    /// Creates objects for this owner.
    pub(crate) fn set_fs_owner(&mut self, (uid, gid): (b::kuid_t, b::kgid_t)) {
        // SAFETY: the credentials are ours alone.
        unsafe { b::rovl_cred_set_fs_owner(self.0.as_ptr(), uid, gid) };
    }

    /// Uses space of the filesystem of `mnt` as `from` would: its owner's ids, if
    /// what belongs to them there could be given to them by these credentials, and
    /// its right to reserved blocks and to exceed quotas only if it has that right.
    pub(crate) fn charge_to(&mut self, from: &Credential, mnt: &Mount) {
        // SAFETY: ours alone; `from` and the mount are valid.
        unsafe { b::rovl_cred_take_fs_ids(self.0.as_ptr(), from.as_ptr(), mnt.as_ptr()) };
        // SAFETY: `from` is valid.
        if !unsafe { b::rovl_cred_capable_sys_resource(from.as_ptr()) } {
            self.drop_sys_resource();
        }
    }

    /// Gives up `CAP_SYS_RESOURCE`: no reserved blocks, no exceeding of quotas.
    pub(crate) fn drop_sys_resource(&mut self) {
        // SAFETY: the credentials are ours alone.
        unsafe { b::rovl_cred_drop_sys_resource(self.0.as_ptr()) };
    }

    /// `security_dentry_create_files_as`: the label a new object at `dentry`, in
    /// the directory that is its parent, would get if the task with `old` made it.
    pub(crate) fn create_files_as(
        &mut self,
        dentry: &Dentry,
        mode: u16,
        old: &Credential,
    ) -> Result {
        let name = dentry.name();
        let q = super::dentry::qstr(&name);
        // SAFETY: all pointers are valid for the call.
        to_result(unsafe {
            b::security_dentry_create_files_as(
                dentry.as_ptr(),
                mode.into(),
                &q,
                old.as_ptr(),
                self.0.as_ptr(),
            )
        })
    }

    /// From now on they do not change.
    pub(crate) fn finish(self) -> ARef<Credential> {
        let cred = self.0;
        core::mem::forget(self);
        // SAFETY: we own the one reference, and hand it over.
        unsafe { ARef::from_raw(cred.cast()) }
    }
}

impl Drop for NewCred {
    fn drop(&mut self) {
        // SAFETY: ours, and never committed.
        unsafe { b::abort_creds(self.0.as_ptr()) };
    }
}

/// `security_inode_copy_up`: the credentials under which the security modules
/// want the copy of `source` to be made, made from those in force; `None` if they do
/// not care.
pub(crate) fn for_copy_up(source: &Dentry) -> Result<Option<ARef<Credential>>> {
    source.positive()?;
    let mut new = core::ptr::null_mut();
    // SAFETY: the dentry is valid and positive (checked), `new` is ours.
    let r = to_result(unsafe { b::security_inode_copy_up(source.as_ptr(), &mut new) });
    let new = NonNull::new(new).map(NewCred);
    r?;
    Ok(new.map(NewCred::finish))
}
