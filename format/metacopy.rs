// SPDX-License-Identifier: GPL-2.0

//! `overlay.metacopy`: the regular file that has it has everything but its data, which
//! is in a layer below. Nothing, or a header of four bytes (version, length of the whole,
//! flags, hash algorithm) and the fs-verity digest of the data.

use core::fmt;

const VERSION: u8 = 0;
const HEADER_LEN: usize = 4;
/// The longest digest (SHA-512).
const MAX_DIGEST_LEN: usize = 64;
/// The longest value.
pub(crate) const MAX_LEN: usize = HEADER_LEN + MAX_DIGEST_LEN;

/// A value.
#[allow(dead_code, reason = "nothing follows it yet")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metacopy<'a> {
    pub(crate) flags: u8,
    /// As fs-verity numbers them (1: SHA-256, 2: SHA-512); 0 without a digest.
    pub(crate) algorithm: u8,
    pub(crate) digest: &'a [u8],
}

/// Why a value has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Too few bytes for a header, this many.
    Short(usize),
    /// More bytes than any digest has, this many.
    Long(usize),
    /// Of a version that is not known here.
    Version(u8),
    /// It says that it is of `said` bytes, and there are `got`.
    Length { said: u8, got: usize },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(len) => write!(f, "only {len} bytes"),
            Self::Long(len) => write!(f, "{len} bytes"),
            Self::Version(version) => write!(f, "version {version}"),
            Self::Length { said, got } => write!(f, "length {said} in {got} bytes"),
        }
    }
}

impl<'a> Metacopy<'a> {
    pub(crate) fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let (flags, algorithm, digest) = match *value {
            [] => (0, 0, value),
            _ if value.len() > MAX_LEN => return Err(Malformed::Long(value.len())),
            [version, len, flags, algorithm, ref digest @ ..] => {
                if version != VERSION {
                    return Err(Malformed::Version(version));
                }
                if usize::from(len) != value.len() {
                    return Err(Malformed::Length {
                        said: len,
                        got: value.len(),
                    });
                }
                (flags, algorithm, digest)
            }
            _ => return Err(Malformed::Short(value.len())),
        };
        Ok(Self {
            flags,
            algorithm,
            digest,
        })
    }
}
