// SPDX-License-Identifier: GPL-2.0

//! Configuring a mount: options, making the superblock, reconfiguring it.
//!
//! C headers: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h),
//! [`include/linux/fs_parser.h`](srctree/include/linux/fs_parser.h);
//! `Documentation/filesystems/mount_api.rst`

use super::{
    bindings as b,
    lock::{Context, Nothing},
    mount::OwnedPath,
    sget::{self, Busy, Failed, Found, Key},
    super_block::{FileSystem, NewSuperBlock, Operations, Rooted},
    to_int, SuperBlock,
};
use core::marker::PhantomData;
use kernel::{
    error::Error,
    ffi::{c_char, c_int, c_void},
    fmt,
    prelude::*,
    str::CString,
};

/// `struct fs_parameter_spec`: the name of an option, and what values it takes.
#[repr(transparent)]
pub(crate) struct Parameter(b::fs_parameter_spec);

impl Parameter {
    const fn spec(name: &'static CStr, number: u8) -> b::fs_parameter_spec {
        b::fs_parameter_spec {
            name: kernel::str::as_char_ptr_in_const_context(name),
            opt: number,
            ..pin_init::zeroed()
        }
    }

    /// `fsparam_flag`: no value.
    pub(crate) const fn flag(name: &'static CStr, number: u8) -> Self {
        Self(Self::spec(name, number))
    }

    /// `fsparam_flag_no`: no value, and it can be given with `no` before it.
    pub(crate) const fn flag_no(name: &'static CStr, number: u8) -> Self {
        let mut spec = Self::spec(name, number);
        spec.flags = b::fs_param_neg_with_no as u16;
        Self(spec)
    }

    /// `fsparam_string`: some text.
    pub(crate) const fn string(name: &'static CStr, number: u8) -> Self {
        let mut spec = Self::spec(name, number);
        spec.type_ = Some(b::fs_param_is_string);
        Self(spec)
    }

    /// `fsparam_string_empty`: some text, or none.
    pub(crate) const fn string_empty(name: &'static CStr, number: u8) -> Self {
        let mut spec = Self::spec(name, number);
        spec.type_ = Some(b::fs_param_is_string);
        spec.flags = b::fs_param_can_be_empty as u16;
        Self(spec)
    }

    /// `fsparam_file_or_string`: some text, or an open file.
    pub(crate) const fn file_or_string(name: &'static CStr, number: u8) -> Self {
        let mut spec = Self::spec(name, number);
        spec.type_ = Some(b::fs_param_is_file_or_string);
        Self(spec)
    }

    /// What every table of options ends with.
    pub(crate) const fn end() -> Self {
        Self(pin_init::zeroed())
    }
}

/// Whether a table of options ends as C code needs it, and nowhere before.
const fn is_terminated(parameters: &[Parameter]) -> bool {
    let mut i = 0;
    while i < parameters.len() {
        if parameters[i].0.name.is_null() {
            return i + 1 == parameters.len();
        }
        i += 1;
    }
    false
}

/// The value of an option, of the kind that its [`Parameter`] asks for.
pub(crate) enum Value<'a> {
    /// A flag; false if it was given with `no` before it.
    Flag(bool),
    /// Text.
    String(&'a CStr),
    /// An open file or directory (`FSCONFIG_SET_FD`), and its path as text.
    File(OwnedPath, CString),
}

/// What the configuration is for (`enum fs_context_purpose`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A new superblock.
    Mount,
    /// Changing a mounted one.
    Reconfigure,
}

/// `struct fs_context_operations`.
///
/// The VFS calls these for one configuration with its `uapi_mutex` held, so
/// never two at a time.
pub(crate) trait MountOperations: FileSystem {
    /// The options; the last one is [`Parameter::end`].
    const PARAMETERS: &'static [Parameter];

    /// The state of one configuration: what the options said so far. It is
    /// dropped with the configuration, also after the mount has succeeded.
    type Mounting: Send;

    /// `init_fs_context`: a configuration begins, of the filesystem type with this name.
    fn begin(purpose: Purpose, fs_type: &CStr) -> Result<Self::Mounting>;

    /// `->parse_param`: one option, by the number it has in `PARAMETERS`. May
    /// sleep, no lock of any superblock is held.
    fn parse(
        context: &mut Context<Nothing>,
        mounting: &mut Self::Mounting,
        number: u8,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result;

    /// The options are complete: checks them, and says what a superblock made of them is made
    /// of. A mounted one of this user namespace that is made of the same is used again. No
    /// locks are held.
    fn key(mounting: &mut Self::Mounting, log: &Log<'_>) -> Result<Key>;

    /// Another superblock has what this one was to have alone: says so, and returns the error.
    fn busy(mounting: &Self::Mounting, busy: &Busy, log: &Log<'_>) -> Error;

    /// There is a superblock that is made of the same: whether it may be used for this mount,
    /// which shall be read-only or not. `s_umount` of it is held exclusively.
    fn reuse(
        mounting: &Self::Mounting,
        sb: &SuperBlock<Self>,
        readonly: bool,
        log: &Log<'_>,
    ) -> Result;

    /// `fill_super`: a superblock is to be made of the options.
    /// `s_umount` of the new superblock is held, nothing of another one.
    fn fill_super(
        context: &mut Context<Nothing>,
        mounting: &mut Self::Mounting,
        log: &Log<'_>,
        sb: NewSuperBlock<Self>,
    ) -> Result<Rooted>
    where
        Self: Operations;

    /// `->reconfigure`: a remount. `readonly` says what it shall become, if
    /// that was asked for; the VFS changes `SB_RDONLY` on success. `s_umount`
    /// is held exclusively; on a change to read-only nobody writes any more.
    fn reconfigure(
        mounting: &mut Self::Mounting,
        sb: &SuperBlock<Self>,
        readonly: Option<bool>,
        log: &Log<'_>,
    ) -> Result;
}

/// Where the messages of a configuration go: to the one who configures, through
/// the file of `fsopen(2)`, or with the old `mount(2)` to the kernel log.
pub(crate) struct Log<'a> {
    fc: *mut b::fs_context,
    _fc: PhantomData<&'a mut b::fs_context>,
}

impl Log<'_> {
    /// # Safety
    ///
    /// `fc` is a configuration that the VFS has locked for the call that this
    /// does not outlive.
    unsafe fn new(fc: *mut b::fs_context) -> Self {
        Self {
            fc,
            _fc: PhantomData,
        }
    }

    fn write(&self, level: u8, text: fmt::Arguments<'_>) {
        // Without memory the error number has to say it all.
        let Ok(text) = CString::try_from_fmt(text) else {
            return;
        };
        // SAFETY: the configuration is locked (see `new`), the text ends in NUL
        // and is copied.
        unsafe { b::rovl_logfc(self.fc, level as c_char, text.as_char_ptr()) };
    }

    /// `errorfc`, and the error to return.
    pub(crate) fn refuse(&self, error: Error, text: fmt::Arguments<'_>) -> Error {
        self.write(b'e', text);
        error
    }

    /// `warnfc`.
    pub(crate) fn warn(&self, text: fmt::Arguments<'_>) {
        self.write(b'w', text);
    }
}

/// `init_fs_context`.
///
/// # Safety
///
/// Only for the VFS to call, with a configuration for `F` that has no
/// `fs_private`.
pub(super) unsafe extern "C" fn init<F: Operations>(
    fc: *mut kernel::bindings::fs_context,
) -> c_int {
    const { assert!(is_terminated(F::PARAMETERS)) };
    // `kernel::bindings` has the type without its fields.
    let fc = fc.cast::<b::fs_context>();
    // SAFETY: the VFS made the configuration, and shows it to us alone.
    let purpose = match unsafe { (*fc).purpose() } {
        b::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE => Purpose::Reconfigure,
        _ => Purpose::Mount,
    };
    // SAFETY: as above; the type is `F`'s, which has a name that is static.
    let name = unsafe { CStr::from_char_ptr((*(*fc).fs_type).name) };
    let mounting = F::begin(purpose, name).and_then(|m| Ok(KBox::new(m, GFP_KERNEL)?));
    to_int(mounting.map(|mounting| {
        // SAFETY: as above.
        unsafe { (*fc).fs_private = KBox::into_raw(mounting).cast() };
        // SAFETY: as above; the table is static.
        unsafe { (*fc).ops = Table::<F>::OPERATIONS };
    }))
}

struct Table<F>(PhantomData<F>);

impl<F: Operations> Table<F> {
    const OPERATIONS: &'static b::fs_context_operations = &b::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        parse_monolithic: Some(parse_monolithic),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `fc` is a configuration that [`init`] has filled in for `F`, and locked.
    unsafe fn mounting<'a>(fc: *mut b::fs_context) -> Result<&'a mut F::Mounting> {
        // SAFETY: null, or the box that `init` turned into a pointer, which
        // only `free` takes back; nobody else uses it, as the lock is held.
        unsafe { (*fc).fs_private.cast::<F::Mounting>().as_mut() }.ok_or(EINVAL)
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a configuration of `F`.
    unsafe extern "C" fn free(fc: *mut b::fs_context) {
        // SAFETY: the VFS does not use the configuration meanwhile.
        let mounting = unsafe { core::mem::replace(&mut (*fc).fs_private, core::ptr::null_mut()) };
        if !mounting.is_null() {
            // SAFETY: the box that `init` turned into a pointer, taken once.
            drop(unsafe { KBox::from_raw(mounting.cast::<F::Mounting>()) });
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a locked configuration of `F`.
    unsafe extern "C" fn parse_param(fc: *mut b::fs_context, param: *mut b::fs_parameter) -> c_int {
        // SAFETY: locked by the VFS for this call.
        let (purpose, oldapi) = unsafe { ((*fc).purpose(), (*fc).oldapi()) };
        if purpose == b::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE && oldapi {
            // `mount(8)` repeats all options in a remount by the old interface,
            // in whatever spelling it remembers.
            return 0;
        }
        // SAFETY: plain data, for which zero is a value.
        let mut result: b::fs_parse_result = unsafe { core::mem::zeroed() };
        // SAFETY: the table is terminated (asserted in `init`) and of the type
        // that C sees, the parameter is the VFS's.
        let number = unsafe {
            b::__fs_parse(
                &raw mut (*fc).log,
                F::PARAMETERS.as_ptr().cast(),
                param,
                &mut result,
            )
        };
        // `ENOPARAM` too: the VFS knows some by itself, and names the others.
        if number < 0 {
            return number;
        }
        // SAFETY: `__fs_parse` has accepted it.
        let value = unsafe { value(param, &result) };
        // SAFETY: locked by the VFS for this call.
        let log = unsafe { Log::new(fc) };
        // SAFETY: of `F`, and locked.
        let mounting = unsafe { Self::mounting(fc) };
        // SAFETY: the entry point of the operation; no lock of a superblock is held.
        let mut context = unsafe { Context::<Nothing>::enter() };
        let parsed =
            value.and_then(|value| F::parse(&mut context, mounting?, number as u8, value, &log));
        to_int(parsed)
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a locked configuration of `F`.
    unsafe extern "C" fn get_tree(fc: *mut b::fs_context) -> c_int {
        // SAFETY: per the contract.
        to_int(unsafe { Self::root(fc) })
    }

    /// # Safety
    ///
    /// As for `get_tree`.
    unsafe fn root(fc: *mut b::fs_context) -> Result {
        // SAFETY: locked by the VFS for this call.
        let log = unsafe { Log::new(fc) };
        // SAFETY: locked by the VFS for this call.
        if !unsafe { sget::is_of_current_user_ns(fc) } {
            let why = fmt!("the configuration was begun in another user namespace");
            return Err(log.refuse(EINVAL, why));
        }
        // SAFETY: of `F`, and locked.
        let mounting = unsafe { Self::mounting(fc) }?;
        let mut key = F::key(mounting, &log)?;
        // SAFETY: locked by the VFS for this call.
        let flags = unsafe { (*fc).sb_flags };
        let (sb, ready) = loop {
            // SAFETY: locked by the VFS, which wants a superblock.
            let found = match unsafe { sget::get::<F>(fc, key) } {
                Ok(found) => found,
                Err(Failed::Busy(busy)) => return Err(F::busy(mounting, &busy, &log)),
                Err(Failed::Other(e)) => return Err(e),
            };
            let (sb, unused) = match found {
                Found::New(sb) => {
                    // SAFETY: new, and `s_umount` is held.
                    let new = unsafe { NewSuperBlock::from_raw(sb.as_ptr()) };
                    // SAFETY: the entry point; the VFS holds the new superblock only.
                    let mut context = unsafe { Context::enter() };
                    let filled = F::fill_super(&mut context, mounting, &log, new);
                    break (sb.as_ptr(), filled.map(|_rooted| true));
                }
                Found::Mounted(sb, unused) => (sb.as_ptr(), unused),
            };
            // SAFETY: `sget_fc` has locked it and made sure that it is active and has a root.
            if unsafe { sget::suits(fc, sb) } {
                // SAFETY: active, and of `F`.
                let mounted = unsafe { SuperBlock::<F>::from_raw(sb) };
                let readonly = flags & b::SB_RDONLY as u32 != 0;
                let reused = F::reuse(mounting, mounted, readonly, &log);
                break (sb, reused.map(|()| false));
            }
            // SAFETY: `sget_fc` has locked it and given us an active reference.
            unsafe { b::deactivate_locked_super(sb) };
            // One of its own then, or `Busy`.
            key = unused;
            key.set_alone();
        };
        match ready {
            // SAFETY: `s_umount` is held.
            Ok(true) => unsafe { (*sb).s_flags |= b::SB_ACTIVE },
            Ok(false) => {}
            Err(e) => {
                // SAFETY: `sget_fc` has locked it and given us an active reference.
                unsafe { b::deactivate_locked_super(sb) };
                return Err(e);
            }
        }
        // SAFETY: it has a root, which stays as long as it is active.
        let root = unsafe { b::rovl_dget((*sb).s_root) };
        // SAFETY: locked by the VFS. The reference to the superblock goes with the root.
        unsafe { (*fc).root = root };
        Ok(())
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a locked configuration of `F` for a mounted
    /// superblock.
    unsafe extern "C" fn reconfigure(fc: *mut b::fs_context) -> c_int {
        // SAFETY: a configuration for this purpose has a root, and keeps its
        // superblock active.
        let sb = unsafe { SuperBlock::<F>::from_raw((*(*fc).root).d_sb) };
        // SAFETY: locked by the VFS for this call.
        let (flags, mask) = unsafe { ((*fc).sb_flags, (*fc).sb_flags_mask) };
        let readonly = b::SB_RDONLY as u32;
        let asked = (mask & readonly != 0).then_some(flags & readonly != 0);
        // SAFETY: locked by the VFS for this call.
        let log = unsafe { Log::new(fc) };
        // SAFETY: of `F`, and locked.
        let mounting = unsafe { Self::mounting(fc) };
        to_int(mounting.and_then(|mounting| F::reconfigure(mounting, sb, asked, &log)))
    }
}

/// What a parsed parameter says.
///
/// # Safety
///
/// `param` has been accepted by `__fs_parse`, which filled `result` in, and
/// stays for `'a`.
unsafe fn value<'a>(param: *mut b::fs_parameter, result: &b::fs_parse_result) -> Result<Value<'a>> {
    // SAFETY: per the contract.
    match unsafe { (*param).type_() } {
        b::fs_value_type_fs_value_is_flag => Ok(Value::Flag(!result.negated)),
        b::fs_value_type_fs_value_is_string => {
            // SAFETY: the type says that this is the arm, and that it is set.
            let text = unsafe { (*param).__bindgen_anon_1.string };
            // SAFETY: it ends in NUL and stays as long as the parameter.
            Ok(Value::String(unsafe { CStr::from_char_ptr(text) }))
        }
        b::fs_value_type_fs_value_is_file => {
            // SAFETY: the type says that this is the arm, and that it is set.
            let file = unsafe { (*param).__bindgen_anon_1.file };
            // SAFETY: the parameter holds a reference to the open file.
            let path = unsafe { OwnedPath::of_file(file) };
            let name = path.borrow().to_text()?;
            Ok(Value::File(path, name))
        }
        _ => Err(EINVAL),
    }
}

/// `->parse_monolithic`: the one string of options of `mount(2)`. Options are
/// separated by commas; a backslash takes the meaning from the next character,
/// and stays in the value.
///
/// # Safety
///
/// Only for the VFS to call, on a locked configuration, with a string that it
/// leaves to us to change, or null.
unsafe extern "C" fn parse_monolithic(fc: *mut b::fs_context, data: *mut c_void) -> c_int {
    // SAFETY: per the contract.
    unsafe { b::vfs_parse_monolithic_sep(fc, data, Some(next_option)) }
}

/// As `strsep(s, ",")`, but for escaped commas.
///
/// # Safety
///
/// Only for `vfs_parse_monolithic_sep` to call, with a pointer to the rest of
/// the string, which ends in NUL, or to null.
unsafe extern "C" fn next_option(rest: *mut *mut c_char) -> *mut c_char {
    // SAFETY: per the contract.
    let start = unsafe { *rest };
    // SAFETY: as above. There is no next one, unless a comma is found.
    unsafe { *rest = core::ptr::null_mut() };
    if start.is_null() {
        return start;
    }
    let mut at = start;
    let mut escaped = false;
    loop {
        // SAFETY: no further than the NUL, which ends the loop.
        match unsafe { *at } {
            0 => return start,
            b',' if !escaped => break,
            c => escaped = c == b'\\' && !escaped,
        }
        // SAFETY: not at the NUL yet.
        at = unsafe { at.add(1) };
    }
    // SAFETY: the comma, in a string that we may change.
    unsafe { *at = 0 };
    // SAFETY: at most at the NUL.
    let next = unsafe { at.add(1) };
    // SAFETY: per the contract.
    unsafe { *rest = next };
    start
}
