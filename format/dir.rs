// SPDX-License-Identifier: GPL-2.0

//! `opaque` and `impure`, the marks of a directory: one letter each.

/// What `overlay.opaque` of a directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opacity {
    /// `y`: it is not merged with what is below.
    Opaque,
    /// `x`: regular files in it may be whiteouts.
    XattrWhiteouts,
}

/// The value that makes a directory opaque.
pub(crate) const OPAQUE: &[u8] = b"y";
/// The value that makes a directory impure.
pub(crate) const IMPURE: &[u8] = b"y";
/// The longest value that means something.
pub(crate) const MAX_LEN: usize = 1;

/// No meaning was given to this value: the directory is as if it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaningless;

/// The value of `overlay.opaque`.
pub(crate) fn parse_opaque(value: &[u8]) -> Result<Opacity, Meaningless> {
    match value {
        OPAQUE => Ok(Opacity::Opaque),
        b"x" => Ok(Opacity::XattrWhiteouts),
        _ => Err(Meaningless),
    }
}

/// The value of `overlay.impure`.
pub(crate) fn parse_impure(value: &[u8]) -> Result<(), Meaningless> {
    match value {
        IMPURE => Ok(()),
        _ => Err(Meaningless),
    }
}
