// SPDX-License-Identifier: GPL-2.0

//! Points at which a test can make a copy-up, or what meets one, stand still, to bring about an
//! interleaving instead of hoping for it. Only in a module that is built with
//! `CONFIG_ROVL_DEBUG`; elsewhere a point is nothing at all.
//!
//! Each point is a file in `rovl/pause/` of debugfs. `1` written to it arms the
//! point: who reaches it stands there until `0` is written, or he is killed.
//! `once` arms it for the first who comes only. To read it tells how it is armed,
//! and how many stand there.
//!
//! `1` in `rovl/no_tmpfile` makes mounts from then on do without `->tmpfile`, as
//! on an upper filesystem that has none.

/// Where a copy-up can be made to stand still.
#[derive(Clone, Copy)]
pub(crate) enum Point {
    /// The record is in the table.
    Entered,
    /// The copy exists, and has no name yet.
    Nameless,
    /// A chunk of data has been copied.
    Chunk,
    /// The copy is as the lower file, as far as that is wanted, and is changed as
    /// the caller asked next. Only for one who truncates.
    Change,
    /// The copy is whole; no directory is locked.
    Publish,
    /// The copy has its name and is not announced yet: the directory it is in,
    /// in the upper layer, is locked.
    Linked,
    /// The record of another has ended; its result has not been looked at.
    Waiter,
    /// Somebody has removed a name in the upper layer; the VFS has not heard of it.
    Removed,
    /// Somebody has renamed an object in the upper layer, likewise.
    Renamed,
}

#[cfg(not(CONFIG_ROVL_DEBUG))]
pub(crate) fn point(_point: Point) {}

/// Whether a mount may use the upper filesystem's `->tmpfile`.
#[cfg(not(CONFIG_ROVL_DEBUG))]
pub(crate) fn may_use_tmpfile() -> bool {
    true
}

#[cfg(CONFIG_ROVL_DEBUG)]
pub(crate) use armed::{may_use_tmpfile, point, Files};

#[cfg(CONFIG_ROVL_DEBUG)]
mod armed {
    use super::Point;
    use crate::vfs::completion::fatal_signal_pending;
    use kernel::{
        debugfs::{Dir, File, Reader, Writer},
        fmt,
        prelude::*,
        sync::atomic::{Atomic, Full, Relaxed},
        time::{delay::fsleep, Delta},
        uaccess::UserSliceReader,
    };

    const OFF: u32 = 0;
    const ALL: u32 = 1;
    const ONCE: u32 = 2;
    /// As `ONCE`, and somebody stands there.
    const TAKEN: u32 = 3;

    /// How often those who stand look whether they may go on.
    const LOOK: Delta = Delta::from_millis(1);

    struct Gate {
        mode: Atomic<u32>,
        standing: Atomic<u32>,
    }

    impl Gate {
        const fn new() -> Self {
            Self {
                mode: Atomic::new(OFF),
                standing: Atomic::new(0),
            }
        }

        fn pass(&self) {
            let mine = match self.mode.load(Relaxed) {
                ALL => ALL,
                ONCE if self.mode.cmpxchg(ONCE, TAKEN, Full).is_ok() => TAKEN,
                _ => return,
            };
            self.standing.fetch_add(1, Relaxed);
            while self.mode.load(Relaxed) == mine && !fatal_signal_pending() {
                fsleep(LOOK);
            }
            self.standing.fetch_sub(1, Relaxed);
        }
    }

    static ENTERED: Gate = Gate::new();
    static NAMELESS: Gate = Gate::new();
    static CHUNK: Gate = Gate::new();
    static CHANGE: Gate = Gate::new();
    static PUBLISH: Gate = Gate::new();
    static LINKED: Gate = Gate::new();
    static WAITER: Gate = Gate::new();
    static REMOVED: Gate = Gate::new();
    static RENAMED: Gate = Gate::new();

    /// Stands still here if a test says so.
    pub(crate) fn point(point: Point) {
        match point {
            Point::Entered => ENTERED.pass(),
            Point::Nameless => NAMELESS.pass(),
            Point::Chunk => CHUNK.pass(),
            Point::Change => CHANGE.pass(),
            Point::Publish => PUBLISH.pass(),
            Point::Linked => LINKED.pass(),
            Point::Waiter => WAITER.pass(),
            Point::Removed => REMOVED.pass(),
            Point::Renamed => RENAMED.pass(),
        }
    }

    /// A gate as a file.
    struct Control(&'static Gate);

    impl Writer for Control {
        fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mode = match self.0.mode.load(Relaxed) {
                OFF => "off",
                ALL => "armed",
                _ => "once",
            };
            writeln!(f, "{mode} {}", self.0.standing.load(Relaxed))
        }
    }

    impl Reader for Control {
        fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
            let mut text = [0; 8];
            let len = reader.len();
            let text = text.get_mut(..len).ok_or(EINVAL)?;
            reader.read_slice(text)?;
            let mode = match text.trim_ascii() {
                b"0" => OFF,
                b"1" => ALL,
                b"once" => ONCE,
                _ => return Err(EINVAL),
            };
            self.0.mode.store(mode, Relaxed);
            Ok(())
        }
    }

    static NO_TMPFILE: Atomic<u32> = Atomic::new(0);

    /// Whether a mount may use the upper filesystem's `->tmpfile`.
    pub(crate) fn may_use_tmpfile() -> bool {
        NO_TMPFILE.load(Relaxed) == 0
    }

    /// [`NO_TMPFILE`] as a file.
    struct NoTmpfile;

    impl Writer for NoTmpfile {
        fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(f, "{}", NO_TMPFILE.load(Relaxed))
        }
    }

    impl Reader for NoTmpfile {
        fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
            let mut text = [0; 2];
            let len = reader.len();
            let text = text.get_mut(..len).ok_or(EINVAL)?;
            reader.read_slice(text)?;
            let value = match text.trim_ascii() {
                b"0" => 0,
                b"1" => 1,
                _ => return Err(EINVAL),
            };
            NO_TMPFILE.store(value, Relaxed);
            Ok(())
        }
    }

    /// The files of all points; they go when this is dropped.
    pub(crate) struct Files {
        _files: [Pin<KBox<File<Control>>>; 9],
        _no_tmpfile: Pin<KBox<File<NoTmpfile>>>,
    }

    impl Files {
        pub(crate) fn new() -> Result<Self> {
            let top = Dir::new(c"rovl");
            let dir = top.subdir(c"pause");
            let file =
                |name, gate| KBox::pin_init(dir.read_write_file(name, Control(gate)), GFP_KERNEL);
            Ok(Self {
                _files: [
                    file(c"entered", &ENTERED)?,
                    file(c"nameless", &NAMELESS)?,
                    file(c"chunk", &CHUNK)?,
                    file(c"change", &CHANGE)?,
                    file(c"publish", &PUBLISH)?,
                    file(c"linked", &LINKED)?,
                    file(c"waiter", &WAITER)?,
                    file(c"removed", &REMOVED)?,
                    file(c"renamed", &RENAMED)?,
                ],
                _no_tmpfile: KBox::pin_init(
                    top.read_write_file(c"no_tmpfile", NoTmpfile),
                    GFP_KERNEL,
                )?,
            })
        }
    }
}
