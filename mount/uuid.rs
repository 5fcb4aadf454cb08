// SPDX-License-Identifier: GPL-2.0

//! The UUID of a mount, and with it the number of the filesystem in `statfs` (`uuid=`).
//!
//! It is kept in the root of the upper layer. A new mount gets one; an upper layer that has
//! been used without does not, as its number would change under those who know it.

use super::{Mounting, Quoted};
use crate::vfs::compat::ENODATA;
use crate::{
    format::uuid::Uuid,
    layers::{Layers, Upper},
    vfs::{
        self,
        flags::XattrFlags,
        fs_context::Log,
        lock::{Context, Nothing},
        super_block::random_uuid,
    },
};
use kernel::prelude::*;

/// Values of `uuid`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one that there is; a new one for a new mount.
    Auto,
    /// None.
    Null,
    /// None, and those of the layers do not count either.
    Off,
    /// The one that there is, else a new one.
    On,
}

impl Choice {
    pub(super) fn parse(value: &CStr) -> Result<Self> {
        Ok(match value.to_bytes() {
            b"auto" => Self::Auto,
            b"null" => Self::Null,
            b"off" => Self::Off,
            b"on" => Self::On,
            _ => return Err(EINVAL),
        })
    }

    /// As an option that is shown; the default is not.
    pub(crate) fn shown(self) -> Option<&'static CStr> {
        match self {
            Self::Auto => None,
            Self::Null => Some(c",uuid=null"),
            Self::Off => Some(c",uuid=off"),
            Self::On => Some(c",uuid=on"),
        }
    }
}

/// What the option comes to, and the UUID.
#[inline(never)]
pub(super) fn settle(
    context: &mut Context<Nothing>,
    mounting: &Mounting,
    layers: &Layers,
    root_is_impure: bool,
    log: &Log<'_>,
) -> Result<(Choice, Option<Uuid>)> {
    if mounting.uuid == Choice::Off && !layers.on_one_filesystem() {
        log.warn(fmt!(
            "option 'uuid=off' needs all layers on one filesystem, it is taken as 'uuid=null'"
        ));
        return Ok((Choice::Null, None));
    }
    let Some(upper) = &layers.upper else {
        return Ok(match mounting.uuid {
            Choice::On => {
                log.warn(fmt!(
                    "option 'uuid=on' needs upperdir, it is taken as 'uuid=null'"
                ));
                (Choice::Null, None)
            }
            choice => (choice, None),
        });
    };
    if matches!(mounting.uuid, Choice::Null | Choice::Off) {
        return Ok((mounting.uuid, None));
    }
    let root = upper.layer.path(upper.layer.root());
    let mut uuid = Uuid::NULL;
    let found = match vfs::xattr::get(root, layers.names.uuid, &mut uuid.0) {
        Ok(len) if len == uuid.0.len() && !uuid.is_null() => {
            return Ok((mounting.uuid, Some(uuid)));
        }
        Ok(_) => Err(EINVAL),
        Err(e) if e == ENODATA && mounting.uuid == Choice::Auto && root_is_impure => {
            return Ok((Choice::Null, None));
        }
        Err(e) if e == ENODATA => store_new(context, layers, upper),
        Err(e) => Err(e),
    };
    match found {
        Ok(uuid) => Ok((Choice::On, Some(uuid))),
        Err(e) => {
            log.warn(fmt!(
                "upperdir {}: no UUID can be read or stored (error {}), the mount has none",
                Quoted(&upper.layer.name),
                e.to_errno()
            ));
            Ok((Choice::Null, None))
        }
    }
}

fn store_new(context: &mut Context<Nothing>, layers: &Layers, upper: &Upper) -> Result<Uuid> {
    let uuid = Uuid(random_uuid());
    context.want_write(&upper.layer.mnt)?.set_xattr(
        upper.layer.root(),
        layers.names.uuid,
        &uuid.0,
        XattrFlags::NONE,
    )?;
    Ok(uuid)
}
