// SPDX-License-Identifier: GPL-2.0

//! `struct ovl_fb`: a file handle with the filesystem it belongs to. The value of
//! `overlay.origin` and `overlay.upper`, and in hexadecimal the name of an entry of the
//! index.
//!
//! A version, a magic number, the length of the whole, flags, the type of the handle, the
//! UUID of its filesystem, and the handle, which is of 32-bit words.

use super::uuid::Uuid;
use core::fmt;

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;

/// The handle is in big-endian words.
const BIG_ENDIAN: u8 = 1 << 0;
/// The handle is the same in both byte orders.
const ANY_ENDIAN: u8 = 1 << 1;
/// The handle names an object of the upper layer.
const PATH_UPPER: u8 = 1 << 2;
const KNOWN_FLAGS: u8 = BIG_ENDIAN | ANY_ENDIAN | PATH_UPPER;
/// The byte order of this machine.
const NATIVE_ENDIAN: u8 = if cfg!(target_endian = "big") {
    BIG_ENDIAN
} else {
    0
};

/// In bytes, before the handle.
pub(crate) const HEADER_LEN: usize = 21;

/// A handle as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle<'a> {
    /// Whether it names an object of the upper layer.
    pub(crate) is_upper: bool,
    /// Its type, which the filesystem knows.
    pub(crate) kind: u8,
    /// Of the filesystem that it belongs to; null if that has none, or with `uuid=off`.
    pub(crate) uuid: Uuid,
    /// `struct fid`: whole words.
    pub(crate) fid: &'a [u8],
}

/// Why bytes are not a handle that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Too few bytes for a header, this many.
    Short(usize),
    Magic(u8),
    /// Of a version that is not known here.
    Version(u8),
    /// Flags that are not known here.
    Flags(u8),
    /// Written by a machine with the other byte order.
    ByteOrder,
    /// It says that it is of `said` bytes, and there are `got`, or it ends in half a word.
    Length {
        said: u8,
        got: usize,
    },
}

impl Malformed {
    /// Whether it may be a handle of another machine or of a newer version. That of an
    /// origin is then not known; anything else is worth a warning.
    pub(crate) fn is_foreign(self) -> bool {
        matches!(self, Self::Version(_) | Self::Flags(_) | Self::ByteOrder)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(len) => write!(f, "{len} bytes are no file handle"),
            Self::Magic(magic) => write!(f, "magic number {magic:#x}"),
            Self::Version(version) => write!(f, "version {version}"),
            Self::Flags(flags) => write!(f, "unknown flags {flags:#x}"),
            Self::ByteOrder => write!(f, "other byte order"),
            Self::Length { said, got } => write!(f, "length {said} in {got} bytes"),
        }
    }
}

impl<'a> Handle<'a> {
    pub(crate) fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::Short(value.len());
        let &[version, magic, len, flags, kind, ref rest @ ..] = value else {
            return Err(short);
        };
        let (uuid, fid) = rest.split_first_chunk::<16>().ok_or(short)?;
        if magic != MAGIC {
            return Err(Malformed::Magic(magic));
        }
        let wrong_length = Malformed::Length {
            said: len,
            got: value.len(),
        };
        // What follows the handle is none of it.
        let fid = usize::from(len)
            .checked_sub(HEADER_LEN)
            .and_then(|len| fid.get(..len))
            .ok_or(wrong_length)?;
        if version > VERSION {
            return Err(Malformed::Version(version));
        }
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Malformed::Flags(flags));
        }
        if flags & ANY_ENDIAN == 0 && flags & BIG_ENDIAN != NATIVE_ENDIAN {
            return Err(Malformed::ByteOrder);
        }
        if fid.len() % size_of::<u32>() != 0 {
            return Err(wrong_length);
        }
        Ok(Self {
            is_upper: flags & PATH_UPPER != 0,
            kind,
            uuid: Uuid(*uuid),
            fid,
        })
    }

    /// What is stored before the handle; `None` if it is too long to be stored.
    pub(crate) fn header(&self) -> Option<[u8; HEADER_LEN]> {
        let len = u8::try_from(HEADER_LEN.checked_add(self.fid.len())?).ok()?;
        let flags = NATIVE_ENDIAN | if self.is_upper { PATH_UPPER } else { 0 };
        let mut header = [0; HEADER_LEN];
        let (first, uuid) = header.split_first_chunk_mut::<5>()?;
        *first = [VERSION, MAGIC, len, flags, self.kind];
        uuid.copy_from_slice(&self.uuid.0);
        Some(header)
    }
}
