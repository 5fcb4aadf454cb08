// SPDX-License-Identifier: GPL-2.0

//! Options to a checked configuration to a superblock, with errors that name
//! the layer.
//!
//! Options are named as overlayfs names them
//! (`Documentation/filesystems/overlayfs.rst`). One that it knows and that is
//! not built here yet is refused by its name, unless the value says what rovl
//! does anyway.
//!
//! * [`stack`]: the layers that were named become a stack;
//! * [`uuid`]: the mount gets a UUID;
//! * [`workdir`]: the work directory is made, swept, and tried out.

use crate::vfs::compat::{EDQUOT, ELOOP, ENAMETOOLONG, EOPNOTSUPP};
use crate::{
    format::lowerdir,
    layers::{Layers, Numbers, Redirects},
    vfs::{
        fs_context::{Log, Parameter, Purpose, Value},
        lock::{Context, Nothing},
        mount::OwnedPath,
        params,
        sget::{Busy, Key},
        super_block::{NewSuperBlock, Operations},
        SuperBlock,
    },
};
use kernel::{cred::Credential, error::Error, fmt, prelude::*, str::CString, sync::aref::ARef};

mod stack;
mod uuid;
mod workdir;

/// `errorfc`, and the error to return.
macro_rules! refuse {
    ($log:expr, $error:expr, $($text:tt)+) => {
        $log.refuse($error, fmt!($($text)+))
    };
}
use refuse;
pub(crate) use stack::Stack;
pub(crate) use uuid::Choice as UuidChoice;

/// The name of the kernel's own.
pub(crate) const OVERLAY: &CStr = c"overlay";

/// How many lower layers there may be; the limit of overlayfs.
const MAX_LOWER: usize = 500;

/// The options, by number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opt {
    LowerDir,
    LowerDirAdd,
    DataDirAdd,
    UpperDir,
    WorkDir,
    DefaultPermissions,
    OverrideCreds,
    Volatile,
    UserXattr,
    /// The first of [`FEATURES`]; the others follow.
    Feature,
}

impl Opt {
    const ALL: [Opt; 9] = [
        Opt::LowerDir,
        Opt::LowerDirAdd,
        Opt::DataDirAdd,
        Opt::UpperDir,
        Opt::WorkDir,
        Opt::DefaultPermissions,
        Opt::OverrideCreds,
        Opt::Volatile,
        Opt::UserXattr,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// An option of overlayfs that chooses a feature.
struct Feature {
    name: &'static CStr,
    /// Values that say what rovl does.
    as_here: &'static [&'static str],
    /// Values that say something else.
    not_here: &'static [&'static str],
}

/// Which of [`FEATURES`] have more than one value here.
const REDIRECT_DIR: usize = 0;
const UUID: usize = 2;
const XINO: usize = 4;
const FSYNC: usize = 7;
const VOLATILE: &str = "volatile";
const OFF: &str = "off";
const AUTO: &str = "auto";

const FEATURES: [Feature; 8] = [
    Feature {
        name: c"redirect_dir",
        as_here: &["off", "nofollow", "follow", "on"],
        not_here: &[],
    },
    Feature {
        name: c"index",
        as_here: &["off"],
        not_here: &["on"],
    },
    Feature {
        name: c"uuid",
        as_here: &["null", "auto", "off", "on"],
        not_here: &[],
    },
    Feature {
        name: c"nfs_export",
        as_here: &["off"],
        not_here: &["on"],
    },
    Feature {
        name: c"xino",
        as_here: &[OFF, AUTO, "on"],
        not_here: &[],
    },
    Feature {
        name: c"metacopy",
        as_here: &["off"],
        not_here: &["on"],
    },
    Feature {
        name: c"verity",
        as_here: &["off"],
        not_here: &["on", "require"],
    },
    Feature {
        name: c"fsync",
        as_here: &["auto", "strict", VOLATILE],
        not_here: &[],
    },
];

const fn feature(index: usize) -> Parameter {
    Parameter::string(FEATURES[index].name, Opt::Feature as u8 + index as u8)
}

/// Values of `redirect_dir`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RedirectDir {
    /// None are made; the module says whether they are followed.
    Off,
    NoFollow,
    Follow,
    On,
}

impl RedirectDir {
    fn parse(value: &CStr) -> Result<Self> {
        [Self::Off, Self::NoFollow, Self::Follow, Self::On]
            .into_iter()
            .find(|it| it.name().as_bytes() == value.to_bytes())
            .ok_or(EINVAL)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoFollow => "nofollow",
            Self::Follow => "follow",
            Self::On => "on",
        }
    }
}

/// Values of `fsync`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    Auto,
    Strict,
    Volatile,
}

impl Fsync {
    fn parse(value: &CStr) -> Result<Self> {
        Ok(match value.to_bytes() {
            b"auto" => Self::Auto,
            b"strict" => Self::Strict,
            b"volatile" => Self::Volatile,
            _ => return Err(EINVAL),
        })
    }

    /// That of a mount.
    pub(crate) fn of(layers: &Layers) -> Self {
        match (layers.is_volatile(), layers.is_strict()) {
            (true, _) => Self::Volatile,
            (_, true) => Self::Strict,
            _ => Self::Auto,
        }
    }
}

/// What is done with redirects where no option says so.
pub(crate) fn default_redirects() -> Redirects {
    match params::redirect_dir() {
        true => Redirects::Made,
        false => redirects_off(),
    }
}

/// What is done with redirects where none are made.
fn redirects_off() -> Redirects {
    match params::redirect_always_follow() {
        true => Redirects::Followed,
        false => Redirects::Refused,
    }
}

/// Whether numbers of several filesystems are made one range: `xino=`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Xino {
    Off,
    /// If they last: where file handles lead to the files of the layers.
    Auto,
    On,
}

impl Xino {
    fn of(value: &CStr) -> Self {
        match value.to_bytes() {
            value if value == OFF.as_bytes() => Self::Off,
            value if value == AUTO.as_bytes() => Self::Auto,
            _ => Self::On,
        }
    }

    /// What it is if nothing is said, for this name of the filesystem type.
    fn default(as_overlay: bool) -> Self {
        match (as_overlay, params::xino_auto()) {
            (false, _) => Self::On,
            (true, true) => Self::Auto,
            (true, false) => Self::Off,
        }
    }

    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::Off => c"off",
            Self::Auto => c"auto",
            Self::On => c"on",
        }
    }
}

/// A directory that an option names.
struct Given {
    /// As it was given, without escapes.
    name: CString,
    /// What it stands for; `None` when a mount is reconfigured, where a name is
    /// only compared.
    path: Option<OwnedPath>,
}

impl Given {
    fn path(&self) -> Result<&OwnedPath> {
        self.path.as_ref().ok_or(EINVAL)
    }
}

/// How the lower layers were named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// In one list (`lowerdir=`).
    List,
    /// One by one (`lowerdir+`).
    OneByOne,
}

/// What a directory is for; its name is the option that gives it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Lower,
    Upper,
    Work,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Lower => "lowerdir",
            Role::Upper => "upperdir",
            Role::Work => "workdir",
        })
    }
}

/// A name in a message: in quotes, with whatever cannot be printed escaped.
struct Quoted<'a>(&'a CStr);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        f.write_char('\'')?;
        for chunk in self.0.to_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    f.write_fmt(format_args!("{}", c.escape_default()))?;
                } else {
                    f.write_char(c)?;
                }
            }
            for c in chunk.invalid() {
                f.write_fmt(format_args!("\\x{c:02x}"))?;
            }
        }
        f.write_char('\'')
    }
}

/// An error number in words.
struct Reason(Error);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            e if e == ENOENT => "no such directory",
            e if e == ENOTDIR => "a part of it is not a directory",
            e if e == EACCES || e == EPERM => "permission denied",
            e if e == ELOOP => "too many symbolic links",
            e if e == ENAMETOOLONG => "the name is too long",
            e if e == EOPNOTSUPP => "not supported there",
            e if e == EROFS => "it is read-only",
            e if e == ENOSPC => "no space left",
            e if e == EDQUOT => "the quota is exceeded",
            e if e == ENOMEM => "out of memory",
            e if e == EINVAL => "not possible there",
            e if e == EIO => "I/O error",
            e => return f.write_fmt(format_args!("error {}", e.to_errno())),
        })
    }
}

/// What the options of one configuration said so far.
pub(crate) struct Mounting {
    purpose: Purpose,
    /// By whose name it is mounted.
    as_overlay: bool,
    upper: Option<Given>,
    work: Option<Given>,
    /// Topmost first.
    lower: KVec<Given>,
    /// `None` while no lower layer has been named.
    style: Option<Style>,
    default_permissions: bool,
    userxattr: bool,
    /// If that was said.
    redirect_dir: Option<RedirectDir>,
    /// What comes of it, once the options are complete.
    redirects: Redirects,
    uuid: uuid::Choice,
    /// If that was said.
    xino: Option<Xino>,
    /// What has to be durable, if that was said, and by which option.
    fsync: Option<(Fsync, &'static str)>,
    /// As whom the layers are accessed, once the options are complete.
    cred: Option<ARef<Credential>>,
}

impl Mounting {
    /// The directory that a value names. Text is looked up as the current task
    /// sees it.
    fn directory(
        &self,
        context: &mut Context<Nothing>,
        role: Role,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result<Given> {
        let (path, name) = match value {
            Value::File(path, name) => (Some(path), name),
            Value::String(name) => (None, CString::try_from(name)?),
            Value::Flag(_) => return Err(EINVAL),
        };
        if self.purpose == Purpose::Reconfigure {
            return Ok(Given { name, path: None });
        }
        let path = match path {
            Some(path) => path,
            None => OwnedPath::lookup(context, &name)
                .map_err(|e| refuse!(log, e, "{} {}: {}", role, Quoted(&name), Reason(e)))?,
        };
        stack::check_directory(role, &name, path.borrow(), log)?;
        Ok(Given {
            name,
            path: Some(path),
        })
    }

    /// As [`Mounting::directory`], for text with escapes.
    fn escaped_directory(
        &self,
        context: &mut Context<Nothing>,
        role: Role,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result<Given> {
        let name = match value {
            Value::String(written) => unescaped(written.to_bytes())?,
            other => return self.directory(context, role, other, log),
        };
        self.directory(context, role, Value::String(&name), log)
    }

    fn push_lower(&mut self, given: Given, log: &Log<'_>) -> Result {
        if self.lower.len() >= MAX_LOWER {
            return Err(refuse!(
                log,
                EINVAL,
                "lowerdir {}: too many lower layers, the limit is {}",
                Quoted(&given.name),
                MAX_LOWER
            ));
        }
        Ok(self.lower.push(given, GFP_KERNEL)?)
    }

    /// `lowerdir=`: takes the place of all lower layers named before; an empty
    /// value leaves none.
    fn set_lower(
        &mut self,
        context: &mut Context<Nothing>,
        written: &CStr,
        log: &Log<'_>,
    ) -> Result {
        self.lower.clear();
        self.style = None;
        if written.is_empty() {
            return Ok(());
        }
        self.style = Some(Style::List);
        for layer in lowerdir::Split::new(written.to_bytes()) {
            let layer = layer.map_err(|e| malformed(e, self.lower.len(), log))?;
            let name = unescaped(layer)?;
            let given = self.directory(context, Role::Lower, Value::String(&name), log)?;
            self.push_lower(given, log)?;
        }
        Ok(())
    }

    /// `lowerdir+`: one more lower layer, below those named before.
    fn add_lower(
        &mut self,
        context: &mut Context<Nothing>,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result {
        if self.style == Some(Style::List) {
            return Err(refuse!(
                log,
                EINVAL,
                "option 'lowerdir+' cannot follow 'lowerdir'"
            ));
        }
        self.style = Some(Style::OneByOne);
        let given = self.directory(context, Role::Lower, value, log)?;
        self.push_lower(given, log)
    }

    /// Refuses options of a remount that do not say what is mounted already.
    fn check_unchanged(&self, mounted: &Layers, log: &Log<'_>) -> Result {
        let upper = mounted.upper.as_ref();
        let same = |given: &Option<Given>, mounted: Option<&CString>| match given {
            Some(given) => mounted.is_some_and(|name| name.to_bytes() == given.name.to_bytes()),
            None => true,
        };
        let same_lower = self.lower.is_empty()
            || self.lower.len() == mounted.lower.len()
                && self
                    .lower
                    .iter()
                    .zip(&mounted.lower)
                    .all(|(given, layer)| given.name.to_bytes() == layer.name.to_bytes());
        let changed = if !same(&self.upper, upper.map(|u| &u.layer.name)) {
            Role::Upper
        } else if !same(&self.work, upper.map(|u| &u.workdir_name)) {
            Role::Work
        } else if !same_lower {
            Role::Lower
        } else {
            return Ok(());
        };
        Err(refuse!(
            log,
            EINVAL,
            "option '{}' cannot be changed while mounted",
            changed
        ))
    }
}

/// A name as it is written, without its escapes.
fn unescaped(written: &[u8]) -> Result<CString> {
    let mut bytes = KVec::with_capacity(written.len().saturating_add(1), GFP_KERNEL)?;
    for c in lowerdir::unescape(written) {
        bytes.push(c, GFP_KERNEL)?;
    }
    bytes.push(0, GFP_KERNEL)?;
    let name = CStr::from_bytes_with_nul(&bytes).map_err(|_| EINVAL)?;
    Ok(CString::try_from(name)?)
}

fn malformed(what: lowerdir::Malformed, before: usize, log: &Log<'_>) -> Error {
    let number = before.saturating_add(1);
    match what {
        lowerdir::Malformed::Empty => {
            refuse!(
                log,
                EINVAL,
                "lowerdir: the name of layer {} is empty",
                number
            )
        }
        lowerdir::Malformed::DataOnly => refuse!(
            log,
            EINVAL,
            "lowerdir: data-only layers ('::', before layer {}) are not supported yet",
            number
        ),
        lowerdir::Malformed::Backslash => {
            refuse!(log, EINVAL, "lowerdir: nothing follows the last backslash")
        }
    }
}

/// An option that overlayfs has.
fn not_yet(option: &str, log: &Log<'_>) -> Result {
    Err(refuse!(
        log,
        EINVAL,
        "option '{option}' is not supported yet"
    ))
}

/// An option of [`FEATURES`].
fn choose(feature: &Feature, value: &CStr, log: &Log<'_>) -> Result {
    let Ok(name) = feature.name.to_str() else {
        return Err(EINVAL);
    };
    let is_value = |values: &[&str]| values.iter().any(|v| v.as_bytes() == value.to_bytes());
    if is_value(feature.as_here) {
        return Ok(());
    }
    Err(if is_value(feature.not_here) {
        refuse!(
            log,
            EINVAL,
            "option '{}={}' is not supported yet",
            name,
            value
        )
    } else {
        refuse!(
            log,
            EINVAL,
            "option '{}' has no value {}",
            name,
            Quoted(value)
        )
    })
}

/// The options, for the parser of the VFS.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter::string_empty(c"lowerdir", Opt::LowerDir as u8),
    Parameter::file_or_string(c"lowerdir+", Opt::LowerDirAdd as u8),
    Parameter::file_or_string(c"datadir+", Opt::DataDirAdd as u8),
    Parameter::file_or_string(c"upperdir", Opt::UpperDir as u8),
    Parameter::file_or_string(c"workdir", Opt::WorkDir as u8),
    Parameter::flag(c"default_permissions", Opt::DefaultPermissions as u8),
    Parameter::flag_no(c"override_creds", Opt::OverrideCreds as u8),
    Parameter::flag(c"volatile", Opt::Volatile as u8),
    Parameter::flag(c"userxattr", Opt::UserXattr as u8),
    feature(0),
    feature(1),
    feature(2),
    feature(3),
    feature(4),
    feature(5),
    feature(6),
    feature(7),
    Parameter::end(),
];

impl Mounting {
    /// A configuration begins.
    pub(crate) fn new(purpose: Purpose, fs_type: &CStr) -> Self {
        Self {
            purpose,
            as_overlay: fs_type == OVERLAY,
            upper: None,
            work: None,
            lower: KVec::new(),
            style: None,
            default_permissions: false,
            userxattr: false,
            redirect_dir: None,
            redirects: Redirects::Refused,
            uuid: uuid::Choice::Auto,
            xino: None,
            fsync: None,
            cred: None,
        }
    }

    /// One option, by its number.
    pub(crate) fn parse(
        &mut self,
        context: &mut Context<Nothing>,
        number: u8,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result {
        let Some(option) = Opt::from_number(number) else {
            let index = usize::from(number).wrapping_sub(Opt::Feature as usize);
            let feature = FEATURES.get(index).ok_or(EINVAL)?;
            let Value::String(value) = value else {
                return Err(EINVAL);
            };
            choose(feature, value, log)?;
            match index {
                REDIRECT_DIR => self.redirect_dir = Some(RedirectDir::parse(value)?),
                UUID => self.uuid = uuid::Choice::parse(value)?,
                XINO => self.xino = Some(Xino::of(value)),
                FSYNC => self.fsync = Some((Fsync::parse(value)?, "fsync")),
                _ => {}
            }
            return Ok(());
        };
        match (option, value) {
            (Opt::LowerDir, Value::String(list)) => self.set_lower(context, list, log)?,
            (Opt::LowerDirAdd, value) => self.add_lower(context, value, log)?,
            (Opt::UpperDir, value) => {
                self.upper = Some(self.escaped_directory(context, Role::Upper, value, log)?);
            }
            (Opt::WorkDir, value) => {
                self.work = Some(self.escaped_directory(context, Role::Work, value, log)?);
            }
            // Both checks are always made; overlayfs takes the option too.
            (Opt::DefaultPermissions, _) => self.default_permissions = true,
            // The mounter's credentials are those of who makes the mount.
            (Opt::OverrideCreds, Value::Flag(false)) => {}
            (Opt::OverrideCreds, _) => not_yet("override_creds", log)?,
            (Opt::DataDirAdd, _) => not_yet("datadir+", log)?,
            (Opt::Volatile, _) => self.fsync = Some((Fsync::Volatile, VOLATILE)),
            (Opt::UserXattr, _) => self.userxattr = true,
            (Opt::LowerDir | Opt::Feature, _) => return Err(EINVAL),
        }
        Ok(())
    }

    /// Upper and work directory, if there are any.
    fn written_to(&self) -> Option<(&Given, &Given)> {
        self.upper.as_ref().zip(self.work.as_ref())
    }

    /// Checks what the options named, as far as that changes nothing, and says what makes a stack
    /// of it the same as another one.
    pub(crate) fn key(&mut self, log: &Log<'_>) -> Result<Key> {
        self.ignore_useless(log);
        self.redirects = self.chosen_redirects();
        // What the module says may change meanwhile.
        self.xino = Some(self.xino());
        self.cred = Some(stack::check(self, log)?);
        stack::key(self)
    }

    fn xino(&self) -> Xino {
        self.xino.unwrap_or_else(|| Xino::default(self.as_overlay))
    }

    fn fsync(&self) -> Fsync {
        self.fsync.map_or(Fsync::Auto, |(fsync, _)| fsync)
    }

    /// What is done with redirects. Those of `user.*` are never followed: anybody can make
    /// one, and what it leads to he may not be able to search.
    fn chosen_redirects(&self) -> Redirects {
        match self.redirect_dir {
            _ if self.userxattr => Redirects::Refused,
            Some(RedirectDir::Off) => redirects_off(),
            Some(RedirectDir::NoFollow) => Redirects::Refused,
            Some(RedirectDir::Follow) => Redirects::Followed,
            Some(RedirectDir::On) => Redirects::Made,
            None => default_redirects(),
        }
    }

    /// As overlayfs shows it: without an upper layer what makes and what follows are one.
    fn shown_redirects(&self) -> Redirects {
        match self.redirects {
            Redirects::Followed if self.as_overlay && self.upper.is_none() => Redirects::Made,
            redirects => redirects,
        }
    }

    /// Whether `redirect_dir` says something else than what is mounted. What `off` means is
    /// what the module said when it was.
    fn changes_redirects(&self, layers: &Layers, shown: &Shown) -> bool {
        match self.redirect_dir {
            None => false,
            Some(RedirectDir::Off) => layers.redirects == Redirects::Made,
            Some(_) => ![layers.redirects, shown.redirects].contains(&self.chosen_redirects()),
        }
    }

    /// What means nothing for this mount, and is no reason to refuse it.
    fn ignore_useless(&mut self, log: &Log<'_>) {
        if self.upper.is_some() {
            return;
        }
        if let Some((_, option)) = self.fsync.take_if(|(fsync, _)| *fsync == Fsync::Volatile) {
            log.warn(fmt!(
                "option '{option}' means nothing without upperdir, it is ignored"
            ));
        }
        // A mistake more often than not; but who says `overlay` wants what overlayfs does.
        if let (true, Some(work)) = (self.as_overlay, &self.work) {
            let name = Quoted(&work.name);
            log.warn(fmt!(
                "workdir {} means nothing without upperdir, it is ignored",
                name
            ));
            self.work = None;
        }
    }

    /// Another mount writes to a directory that this one is to write to.
    pub(crate) fn busy(&self, busy: &Busy, log: &Log<'_>) -> Error {
        let (role, given) = match busy.claim {
            0 => (Role::Upper, &self.upper),
            _ => (Role::Work, &self.work),
        };
        let Some(given) = given else {
            return EBUSY;
        };
        refuse!(
            log,
            EBUSY,
            "{} {} is in use by another mount, of device {}:{} in /proc/*/mountinfo; only the \
             same stack (layers, options, user namespace, credentials) can be mounted again",
            role,
            Quoted(&given.name),
            busy.dev.0,
            busy.dev.1
        )
    }

    /// Whether this mount may be of a superblock that is made of the same.
    pub(crate) fn reuse(&self, sb: &SuperBlock, readonly: bool, log: &Log<'_>) -> Result {
        stack::check_mounts(self, log)?;
        // The other one may have been mounted by another name.
        let Some(upper) = &self.upper else {
            return Ok(());
        };
        let (is, shall) = match (sb.is_readonly(), readonly) {
            (true, false) => ("read-only", "writable"),
            (false, true) => ("writable", "read-only"),
            _ => return Ok(()),
        };
        Err(refuse!(
            log,
            EBUSY,
            "upperdir {} is mounted already, {}; it cannot be mounted {} too",
            Quoted(&upper.name),
            is,
            shall
        ))
    }

    /// Makes a stack of what the options named.
    pub(crate) fn build<F: Operations>(
        &self,
        context: &mut Context<Nothing>,
        log: &Log<'_>,
        sb: &mut NewSuperBlock<F>,
    ) -> Result<Stack> {
        stack::build(context, self, log, sb)
    }

    /// What is told of the options later.
    pub(crate) fn shown(&self, layers: &Layers) -> Shown {
        Shown {
            as_overlay: self.as_overlay,
            xino: match layers.numbers {
                Numbers::OfOne => None,
                Numbers::OfEach => Some(Xino::Off),
                Numbers::Composed(_) => Some(self.xino()),
            },
            redirects: self.shown_redirects(),
            fsync: self.fsync(),
            one_by_one: self.style == Some(Style::OneByOne),
            default_permissions: self.default_permissions,
            userxattr: self.userxattr,
        }
    }

    /// Refuses what a mount of `layers` cannot become.
    pub(crate) fn reconfigure(
        &self,
        layers: &Layers,
        shown: &Shown,
        sb: &SuperBlock,
        readonly: Option<bool>,
        log: &Log<'_>,
    ) -> Result {
        self.check_unchanged(layers, log)?;
        let changed = match self {
            _ if self.userxattr && !shown.userxattr => "userxattr",
            _ if self.changes_redirects(layers, shown) => "redirect_dir",
            // `auto` leaves the choice to the filesystem, and on one there is none.
            Self {
                xino: Some(Xino::Off),
                ..
            } if !layers.numbers.are_of_layers() => "xino",
            Self {
                xino: Some(Xino::On),
                ..
            } if shown.xino == Some(Xino::Off) => "xino",
            // It was ignored without an upper layer, and is again.
            Self {
                fsync: Some((fsync, option)),
                ..
            } if layers.upper.is_some() && *fsync != Fsync::of(layers) => option,
            _ => "",
        };
        if !changed.is_empty() {
            return Err(refuse!(
                log,
                EINVAL,
                "option '{}' cannot be changed while mounted",
                changed
            ));
        }
        match (readonly, &layers.upper) {
            (Some(false), None) => Err(refuse!(
                log,
                EROFS,
                "cannot become writable, there is no upperdir"
            )),
            (Some(false), Some(upper)) if upper.layer.mnt.is_readonly() => {
                let name = Quoted(&upper.layer.name);
                Err(refuse!(
                    log,
                    EROFS,
                    "upperdir {} is on a read-only filesystem",
                    name
                ))
            }
            (Some(true), Some(upper)) if !sb.is_readonly() && upper.volatile.is_none() => {
                upper.layer.root().super_block().sync_filesystem()
            }
            _ => Ok(()),
        }
    }
}

/// What `show_options` tells besides the layers.
pub(crate) struct Shown {
    /// By whose name it was mounted.
    as_overlay: bool,
    /// What is done, where that makes a difference.
    xino: Option<Xino>,
    pub(crate) redirects: Redirects,
    pub(crate) fsync: Fsync,
    /// The lower layers were named one by one.
    pub(crate) one_by_one: bool,
    pub(crate) default_permissions: bool,
    pub(crate) userxattr: bool,
}

impl Shown {
    /// The value of `xino`, if it is not what there is by default.
    pub(crate) fn xino(&self) -> Option<&'static CStr> {
        let xino = self.xino?;
        (xino != Xino::default(self.as_overlay)).then(|| xino.name())
    }
}
