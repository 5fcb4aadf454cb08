// SPDX-License-Identifier: GPL-2.0

//! Flags as the kernel's interfaces take them, a type for each set: one of another set is
//! refused by the compiler.

use super::bindings as b;
use core::ops::BitOr;

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident: $($(#[$about:meta])* $flag:ident = $value:ident,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(u32);

        // Not each set is used in each way.
        #[allow(dead_code)]
        impl $name {
            pub(crate) const NONE: Self = Self(0);
            $($(#[$about])* pub(crate) const $flag: Self = Self(b::$value);)*

            pub(super) const fn from_raw(raw: u32) -> Self {
                Self(raw)
            }

            pub(super) const fn raw(self) -> u32 {
                self.0
            }

            /// Whether any of these is set.
            pub(crate) const fn has(self, any: Self) -> bool {
                self.0 & any.0 != 0
            }

            pub(crate) const fn without(self, these: Self) -> Self {
                Self(self.0 & !these.0)
            }

            pub(crate) const fn with(self, these: Self) -> Self {
                Self(self.0 | these.0)
            }
        }

        impl BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }
    };
}

flags! {
    /// `O_*`, how a file is open.
    OpenFlags:
    READ_ONLY = O_RDONLY,
    READ_WRITE = O_RDWR,
    /// Which of these it is.
    ACCESS_MODE = O_ACCMODE,
    APPEND = O_APPEND,
    DIRECT = O_DIRECT,
    LARGE_FILE = O_LARGEFILE,
    NO_ATIME = O_NOATIME,
    TRUNCATE = O_TRUNC,
    CREATE = O_CREAT,
    EXCLUSIVE = O_EXCL,
    NO_CTTY = O_NOCTTY,
    /// Each write waits until it is durable: `O_SYNC`, of which `O_DSYNC` is a part.
    SYNC = O_SYNC,
    EXECUTED = FMODE_EXEC,
}

flags! {
    /// `RENAME_*`, of `renameat2`.
    RenameFlags:
    NO_REPLACE = RENAME_NOREPLACE,
    EXCHANGE = RENAME_EXCHANGE,
    WHITEOUT = RENAME_WHITEOUT,
}

flags! {
    /// `XATTR_*`, of `setxattr`.
    XattrFlags:
    CREATE = XATTR_CREATE,
    REPLACE = XATTR_REPLACE,
}

flags! {
    /// `FS_*`, what a filesystem type can do.
    FsFlags:
    ALLOW_IDMAP = FS_ALLOW_IDMAP,
    USERNS_MOUNT = FS_USERNS_MOUNT,
}
