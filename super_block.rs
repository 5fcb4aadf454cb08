// SPDX-License-Identifier: GPL-2.0

//! What one mount is: the types that stand behind the VFS's objects, statfs, sync,
//! remounting, and what is told of it.
//!
//! The top room: it ties [`Rovl`], which all others know by its name only, to the types
//! that they keep in its objects.

use crate::{
    copyup::InFlight,
    file::OpenFile,
    inode::{self, Copied, OverlayInode},
    layers::{self, Layers, Rovl},
    mount::{Mounting, Shown, PARAMETERS},
    readdir::OpenDirectory,
    vfs::{
        flags::FsFlags,
        fs_context::{Log, MountOperations, Parameter, Purpose, Value},
        lock::{Context, Nothing},
        seq,
        sget::{Busy, Key},
        super_block::{NewSuperBlock, Rooted, StatFs, SuperOperations},
        Dentry, FileSystem, PrivateMount, SuperBlock,
    },
};
use kernel::{error::Error, prelude::*, seq_file::SeqFile, sync::Arc};

impl FileSystem for Rovl {
    const NAME: &'static CStr = c"rovl";
    const MAGIC: usize = 0x726f_766c;
    const FLAGS: FsFlags = FsFlags::ALLOW_IDMAP.with(FsFlags::USERNS_MOUNT);
    type Super = Overlay;
    type Inode = OverlayInode;
    type File = OpenFile;
    type Directory = OpenDirectory;
}

/// What one mount keeps.
pub(crate) struct Overlay {
    /// The layers, and as whom they are accessed.
    pub(crate) layers: KBox<Layers>,
    /// Copies that are being made.
    pub(crate) in_flight: Pin<KBox<InFlight>>,
    /// Copies that have been made, of what is in use.
    pub(crate) copied: Arc<Copied>,
    /// The options, as `show_options` tells them.
    options: Shown,
}

impl MountOperations for Rovl {
    const PARAMETERS: &'static [Parameter] = PARAMETERS;

    type Mounting = Mounting;

    fn begin(purpose: Purpose) -> Result<Mounting> {
        Ok(Mounting::new(purpose))
    }

    fn parse(
        context: &mut Context<Nothing>,
        mounting: &mut Mounting,
        number: u8,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result {
        mounting.parse(context, number, value, log)
    }

    fn key(mounting: &mut Mounting, log: &Log<'_>) -> Result<Key> {
        mounting.key(log)
    }

    fn busy(mounting: &Mounting, busy: &Busy, log: &Log<'_>) -> Error {
        mounting.busy(busy, log)
    }

    fn reuse(mounting: &Mounting, sb: &SuperBlock<Self>, readonly: bool, log: &Log<'_>) -> Result {
        mounting.reuse(sb, readonly, log)
    }

    fn fill_super(
        context: &mut Context<Nothing>,
        mounting: &mut Mounting,
        log: &Log<'_>,
        mut sb: NewSuperBlock<Self>,
    ) -> Result<Rooted> {
        let stack = mounting.build(context, log, &mut sb)?;
        let overlay = Overlay {
            layers: stack.layers,
            in_flight: InFlight::new()?,
            copied: Copied::new()?,
            options: mounting.shown(),
        };
        let filled = sb.set_data(KBox::new(overlay, GFP_KERNEL)?);
        let root = inode::get(filled.sb(), stack.root)?;
        filled.set_root(root)
    }

    fn reconfigure(
        mounting: &mut Mounting,
        sb: &SuperBlock<Self>,
        readonly: Option<bool>,
        log: &Log<'_>,
    ) -> Result {
        let overlay = sb.data();
        mounting.reconfigure(&overlay.layers, &overlay.options, sb, readonly, log)
    }
}

/// A name as an option takes it, where a backslash escapes: what [`split`]
/// and the splitting of options at commas undo.
fn show_escaped(seq: &SeqFile, name: &CStr) {
    for &c in name.to_bytes() {
        if matches!(c, b'\\' | b':' | b',') {
            seq::show_escaped(seq, b"\\");
        }
        seq::show_escaped(seq, &[c]);
    }
}

impl SuperOperations for Rovl {
    fn statfs(dentry: &Dentry<Self>, out: &mut StatFs) -> Result {
        let sb = dentry.sb();
        let layers = layers::of_sb(sb);
        layers.as_mounter(|| {
            let top = match &layers.upper {
                Some(upper) => &upper.layer,
                None => layers.lower(0)?,
            };
            out.copy_from(top.path(top.root()), Rovl::MAGIC, layers.namelen)
        })
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result {
        let overlay = sb.data();
        let lower = &overlay.layers.lower;
        if overlay.options.one_by_one {
            for layer in lower {
                seq::show_option(seq, c"lowerdir+", &layer.name);
            }
        } else {
            for (i, layer) in lower.iter().enumerate() {
                seq::show_raw(seq, if i == 0 { c",lowerdir=" } else { c":" });
                show_escaped(seq, &layer.name);
            }
        }
        if let Some(upper) = &overlay.layers.upper {
            seq::show_raw(seq, c",upperdir=");
            show_escaped(seq, &upper.layer.name);
            seq::show_raw(seq, c",workdir=");
            show_escaped(seq, &upper.workdir_name);
        }
        if overlay.options.default_permissions {
            seq::show_raw(seq, c",default_permissions");
        }
        if overlay.options.userxattr {
            seq::show_raw(seq, c",userxattr");
        }
        Ok(())
    }

    fn show_stats(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result {
        let in_full = seq::opener_is_admin(seq, sb);
        sb.data().in_flight.show(seq, in_full);
        Ok(())
    }

    fn sync_fs(sb: &SuperBlock<Self>, wait: bool) -> Result {
        // Everything dirty is in the upper filesystem, which has a `wait` of
        // its own.
        match &layers::of_sb(sb).upper {
            Some(upper) if wait => upper.layer.root().super_block().sync_filesystem(),
            _ => Ok(()),
        }
    }

    fn mounts(overlay: &Overlay) -> impl Iterator<Item = &PrivateMount> {
        overlay.layers.mounts()
    }
}
