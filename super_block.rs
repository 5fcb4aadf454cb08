// SPDX-License-Identifier: GPL-2.0

//! What one mount is: the types that stand behind the VFS's objects, statfs, sync,
//! remounting, and what is told of it.
//!
//! The top room: it ties [`Rovl`], which all others know by its name only, to the types
//! that they keep in its objects.

use crate::{
    copyup::InFlight,
    format::uuid::Uuid,
    inode::{self, Copied, OverlayInode},
    layers::{self, Layers, Redirects, Rovl},
    mount::{self, Fsync, Mounting, Shown, PARAMETERS},
    readdir::OpenDirectory,
    vfs::{
        flags::FsFlags,
        fs_context::{Log, MountOperations, Parameter, Purpose, Value},
        lock::{Context, Nothing},
        seq,
        sget::{Busy, Key},
        super_block::{FileSystemType, NewSuperBlock, Rooted, StatFs, SuperOperations},
        Dentry, FileSystem, PrivateMount, SuperBlock,
    },
};
use kernel::{error::Error, prelude::*, seq_file::SeqFile, sync::Arc};

impl FileSystem for Rovl {
    const FLAGS: FsFlags = FsFlags::ALLOW_IDMAP.with(FsFlags::USERNS_MOUNT);
    type Super = Overlay;
    type Inode = OverlayInode;
    type Directory = OpenDirectory;
}

pub(crate) static ROVL: FileSystemType<Rovl> =
    FileSystemType::new(c"rovl", 0x726f_766c, c"rovl_inode");

/// The same by the name that programs know, where the kernel's own is not there: what they can tell
/// it by is as overlayfs has it (`OVERLAYFS_SUPER_MAGIC`).
pub(crate) static OVERLAY: FileSystemType<Rovl> =
    FileSystemType::new(mount::OVERLAY, 0x794c_7630, c"rovl_overlay_inode");

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
    uuid: mount::UuidChoice,
}

impl MountOperations for Rovl {
    const PARAMETERS: &'static [Parameter] = PARAMETERS;

    type Mounting = Mounting;

    fn begin(purpose: Purpose, fs_type: &CStr) -> Result<Mounting> {
        Ok(Mounting::new(purpose, fs_type))
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
        let options = mounting.shown(&stack.layers);
        let overlay = Overlay {
            layers: stack.layers,
            in_flight: InFlight::new()?,
            copied: Copied::new()?,
            options,
            uuid: stack.uuid,
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

/// A name as an option takes it, where a backslash escapes it or what separates: what the
/// splitting of options and of lists undoes.
fn show_escaped(seq: &SeqFile, name: &CStr, separators: &[u8]) {
    for &c in name.to_bytes() {
        if c == b'\\' || separators.contains(&c) {
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
            out.copy_from(top.path(top.root()), sb.magic(), layers.namelen)
        })?;
        let uuid = sb.uuid();
        if !Uuid(uuid).is_null() {
            out.set_fsid_from(&uuid);
        }
        Ok(())
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
                show_escaped(seq, &layer.name, b":,");
            }
        }
        if let Some(upper) = &overlay.layers.upper {
            seq::show_raw(seq, c",upperdir=");
            show_escaped(seq, &upper.layer.name, b",");
            seq::show_raw(seq, c",workdir=");
            show_escaped(seq, &upper.workdir_name, b",");
        }
        if overlay.options.default_permissions {
            seq::show_raw(seq, c",default_permissions");
        }
        let redirects = overlay.options.redirects;
        if redirects != mount::default_redirects() {
            seq::show_raw(
                seq,
                match redirects {
                    Redirects::Refused => c",redirect_dir=nofollow",
                    Redirects::Followed => c",redirect_dir=follow",
                    Redirects::Made => c",redirect_dir=on",
                },
            );
        }
        if let Some(uuid) = overlay.uuid.shown() {
            seq::show_raw(seq, uuid);
        }
        if let Some(xino) = overlay.options.xino() {
            seq::show_option(seq, c"xino", xino);
        }
        match overlay.options.fsync {
            Fsync::Auto => {}
            Fsync::Strict => seq::show_raw(seq, c",fsync=strict"),
            Fsync::Volatile => seq::show_raw(seq, c",fsync=volatile"),
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
        let layers = layers::of_sb(sb);
        // What has been lost is told as such, whatever it was.
        let must_sync = layers.must_sync().map_err(|_| EIO)?;
        // Everything dirty is in the upper filesystem, which has a `wait` of
        // its own.
        match &layers.upper {
            Some(upper) if wait && must_sync => upper.layer.root().super_block().sync_filesystem(),
            _ => Ok(()),
        }
    }

    fn mounts(overlay: &Overlay) -> impl Iterator<Item = &PrivateMount> {
        overlay.layers.mounts()
    }
}
