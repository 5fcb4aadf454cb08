// SPDX-License-Identifier: GPL-2.0

//! Where to look in the layers below for a directory that was renamed: redirects.
//!
//! What a directory says of the layers below it is a name beside its own one there, or a
//! path from their root. Each directory on such a path may say the same of itself for the
//! layers below *it*. So a path is walked once in each layer from the top down, and comes
//! out of it as what is to be walked in the next: no choice of redirects makes that more
//! than the length of the path, times the layers.
//!
//! A path has no more bytes than an attribute may have.
//!
//! All of it is walked as the mounter, who must be allowed to search each directory.

use super::{Answer, Below, Question};
use crate::{
    format::redirect::Redirect,
    inode::{LowerObject, Objects},
    layers::Layers,
    vfs::{completion::fatal_signal_pending, lock::MayLockDirectory, xattr::SIZE_MAX, Dentry},
};
use kernel::{alloc::KVVec, prelude::*, sync::aref::ARef};

/// What a name is called in the layers that have not been asked.
pub(super) enum Trail<'a> {
    /// As it is.
    Here(&'a [u8]),
    /// As an object above says: [`Redirect`].
    Redirected(KVVec<u8>),
}

impl<'a> Trail<'a> {
    pub(super) fn new(name: &'a [u8]) -> Self {
        Self::Here(name)
    }

    /// What to look for beside where the directory is; `None` if it is elsewhere.
    pub(super) fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Here(name) => Some(name),
            Self::Redirected(path) if path.starts_with(b"/") => None,
            Self::Redirected(name) => Some(name),
        }
    }

    /// A path from the root of the layers.
    pub(super) fn into_path(self) -> Option<KVVec<u8>> {
        match self {
            Self::Redirected(path) if path.starts_with(b"/") => Some(path),
            _ => None,
        }
    }
}

/// What walking a path in a layer has come to.
struct Walk {
    /// The directory it leads to, if that is there.
    end: Option<LowerObject>,
    /// What to walk in the layers below; `None` if nothing there is to be seen.
    below: Option<KVVec<u8>>,
}

/// Adds the directories to which `path` leads in the lower layers from `first` on. There is
/// a directory above, with which they are merged.
#[inline(never)]
pub(super) fn follow(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    first: u32,
    path: KVVec<u8>,
    found: &mut Objects,
) -> Result {
    let mut next = Some(path);
    for (layer, _) in (0..).zip(&layers.lower).skip(first as usize) {
        let Some(path) = next else { break };
        let walk = walk(may_lock, layers, layer, &path)?;
        if let Some(end) = walk.end {
            found.lower.push(end)?;
        }
        next = walk.below;
    }
    Ok(())
}

/// Walks a path in one layer.
fn walk(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    index: u32,
    path: &[u8],
) -> Result<Walk> {
    let layer = layers.lower(index)?;
    let is_last = (index as usize).saturating_add(1) == layers.lower.len();
    let mut names = path.split(|&c| c == b'/').skip(1);
    let mut at: ARef<Dentry> = layer.root().into();
    let mut xattr_whiteouts = false;
    let mut below = KVVec::new();
    // A directory on the way hides all below it.
    let mut is_opaque = false;
    while let Some(name) = names.next() {
        if fatal_signal_pending() {
            return Err(EINTR);
        }
        push_name(&mut below, name)?;
        let question = Question {
            layers,
            layer,
            dir: &at,
            name,
            is_upper: false,
            below: match is_last {
                true => Below::Nothing,
                // Through what hides all below a path leads, and no name.
                false if is_opaque => Below::Layers,
                false => Below::Parts,
            },
            is_directory: true,
        };
        match question.ask(may_lock)? {
            Answer::Silent => {
                for name in names {
                    push_name(&mut below, name)?;
                }
                check_length(&question, &below)?;
                return Ok(Walk {
                    end: None,
                    below: (!is_opaque).then_some(below),
                });
            }
            Answer::End | Answer::Trap(_) => {
                return Ok(Walk {
                    end: None,
                    below: None,
                })
            }
            Answer::Final {
                dentry,
                xattr_whiteouts: has,
            } => {
                (at, xattr_whiteouts) = (dentry, has);
                is_opaque = true;
            }
            Answer::Merged {
                dentry,
                xattr_whiteouts: has,
                redirect,
            } => {
                if let Some(redirect) = redirect {
                    is_opaque &= apply(&mut below, redirect)?;
                    check_length(&question, &below)?;
                }
                (at, xattr_whiteouts) = (dentry, has);
            }
        }
    }
    Ok(Walk {
        end: Some(LowerObject {
            layer: index,
            dentry: at,
            xattr_whiteouts,
            is_trap: false,
        }),
        below: (!is_opaque).then_some(below),
    })
}

fn check_length(question: &Question<'_>, path: &[u8]) -> Result {
    if path.len() > SIZE_MAX {
        return Err(question.refuse(
            EINVAL,
            format_args!("redirects to a path of more than {SIZE_MAX} bytes"),
        ));
    }
    Ok(())
}

fn push_name(path: &mut KVVec<u8>, name: &[u8]) -> Result {
    path.push(b'/', GFP_KERNEL)?;
    Ok(path.extend_from_slice(name, GFP_KERNEL)?)
}

/// Makes `path` lead to where its last directory is redirected. Returns whether what has been
/// hidden of the layers below stays so.
fn apply(path: &mut KVVec<u8>, redirect: KVVec<u8>) -> Result<bool> {
    match Redirect::parse(&redirect) {
        Ok(Redirect::Name(name)) => {
            let parent = path.iter().rposition(|&c| c == b'/').unwrap_or_default();
            path.truncate(parent);
            push_name(path, name)?;
            Ok(true)
        }
        Ok(Redirect::Path(_)) => {
            *path = redirect;
            Ok(false)
        }
        Err(_) => Err(EINVAL),
    }
}
