// SPDX-License-Identifier: GPL-2.0

//! Step 3 of a copy-up: the data, with no lock held.

use super::{
    in_flight::Leadership,
    pause::{self, Point},
    Copy, Extent,
};
use crate::vfs::{
    self,
    attr::Attributes,
    completion::fatal_signal_pending,
    file_ops,
    flags::OpenFlags,
    lock::{file_dentry, Context, Held},
    namei,
};
use kernel::{fs::File, prelude::*};

/// The most that is copied between two looks at signals, in bytes. Freezing the
/// upper filesystem waits for no more than a part of it.
const CHUNK: i64 = 1 << 20;

impl Copy<'_> {
    /// Copies what is wanted of the data. Returns whether there was any.
    #[inline(never)]
    pub(super) fn copy_data<H: Held>(
        &self,
        ctx: &mut Context<H>,
        to: &File,
        lead: &Leadership<'_>,
    ) -> Result<bool> {
        let size = match self.extent {
            Extent::Whole => self.stat.size(),
            Extent::Truncated { size, .. } => self.stat.size().min(size),
        };
        if size <= 0 {
            return Ok(false);
        }
        lead.set_total(size.unsigned_abs());
        let flags = OpenFlags::READ_ONLY | OpenFlags::LARGE_FILE;
        let from = self.source.open(ctx, flags, &self.layers.cred)?;
        if size == self.stat.size() && ctx.clone_data(&from, to, size) == Ok(size) {
            lead.add_done(0, size.unsigned_abs());
            return Ok(true);
        }
        // Before the first look at holes: the data may be put there only now.
        let len = size.unsigned_abs() as usize;
        ctx.verify_read(&from, 0, len)?;
        ctx.verify_write(to, 0, len)?;
        vfs::cred::with_creds(&self.writer, || {
            let mut pos = 0;
            while let Some((start, end)) = next_data(ctx, &from, pos, size)? {
                self.copy_range(ctx, (&from, to), (start, end), lead)?;
                pos = end;
            }
            // A hole at the end has no data to give the file its size.
            ctx.want_write(&self.upper.layer.mnt)?
                .set_attributes(file_dentry(to), &mut Attributes::new().size(size))?;
            Ok(true)
        })
    }

    /// Copies the bytes from `start` to `end`, chunk by chunk.
    fn copy_range<H: Held>(
        &self,
        ctx: &mut Context<H>,
        (from, to): (&File, &File),
        (start, end): (i64, i64),
        lead: &Leadership<'_>,
    ) -> Result {
        let mut pos = start;
        while pos < end {
            if fatal_signal_pending() {
                return Err(EINTR);
            }
            let len = (end - pos).min(CHUNK);
            let done = ctx.copy_data(from, to, pos, len.unsigned_abs() as usize)?;
            if done == 0 {
                // The lower file is shorter than it said: somebody changes the
                // layer under us. What is left reads as zeroes.
                break;
            }
            lead.add_done(pos, done as u64);
            pause::point(Point::Chunk);
            pos = pos.checked_add(done as i64).ok_or(EFBIG)?;
        }
        Ok(())
    }
}

/// The next stretch of data at or after `pos`, so that holes stay holes. A
/// filesystem that cannot tell has one stretch.
fn next_data<H: Held>(
    ctx: &mut Context<H>,
    from: &File,
    pos: i64,
    size: i64,
) -> Result<Option<(i64, i64)>> {
    if pos >= size {
        return Ok(None);
    }
    // Whatever the reason, reading is another question.
    let cannot_tell = |from: i64| match fatal_signal_pending() {
        true => Err(EINTR),
        false => Ok(Some((from, size))),
    };
    let start = match namei::llseek(ctx, from, pos, file_ops::SEEK_DATA) {
        Ok(start) => start,
        Err(e) if e == ENXIO => return Ok(None),
        Err(_) => return cannot_tell(pos),
    };
    if start >= size {
        return Ok(None);
    }
    if start < pos {
        // Or it would go round for ever.
        return Err(EIO);
    }
    match namei::llseek(ctx, from, start, file_ops::SEEK_HOLE) {
        Ok(end) => Ok(Some((start, end.clamp(start.saturating_add(1), size)))),
        Err(_) => cannot_tell(start),
    }
}
