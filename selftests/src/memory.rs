// SPDX-License-Identifier: GPL-2.0

//! Memory that fork(2) leaves alone, for the buffer of a FUSE server.
//!
//! The kernel takes hold of a page of the buffer and then writes a request into it. If a
//! thread forks in between, and another writes to that page, the server's page is from
//! then on a copy and the request goes into the other: the server finds the request
//! before it again. So an offset is read twice, another never, and who waits for that
//! waits for ever. (open(2) warns of the same under `O_DIRECT`.) `MADV_DONTFORK` is the
//! kernel's answer. The buffer is allocated by the crate, so the allocator has to know it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

#[global_allocator]
static MEMORY: Memory = Memory;

/// The system's allocator, but for that buffer.
struct Memory;

/// The largest request: `MAX_WRITE_SIZE` of the crate, which adds a page.
const BUFFER_BYTES: usize = 16 << 20;

const PAGE_BYTES: usize = 4096;

/// Whether it is one: known by its size, which nobody else asks for.
fn is_buffer(layout: Layout) -> bool {
    layout.size() == BUFFER_BYTES + PAGE_BYTES && layout.align() <= PAGE_BYTES
}

// SAFETY: what `mmap` gives is of that size, aligned to a page, zeroed and nobody else's
// until it is given back by `munmap`; all else is the system allocator's. A layout goes
// to the same one of the two each time.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_buffer(layout) {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        }
        // SAFETY: a new mapping, over none that is there.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                layout.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        // SAFETY: the mapping just made, which no child of fork uses.
        if unsafe { libc::madvise(at, layout.size(), libc::MADV_DONTFORK) } != 0 {
            // SAFETY: as above; nobody has it.
            unsafe { libc::munmap(at, layout.size()) };
            return ptr::null_mut();
        }
        at.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_buffer(layout) {
            // SAFETY: as the caller promises; a new mapping is zeroed.
            return unsafe { self.alloc(layout) };
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if is_buffer(layout) {
            // SAFETY: the mapping that `alloc` made for this layout.
            unsafe { libc::munmap(at.cast(), layout.size()) };
        } else {
            // SAFETY: as the caller promises; the system's, see `is_buffer`.
            unsafe { System.dealloc(at, layout) };
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` makes a valid layout.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_buffer(layout) && !is_buffer(new) {
            // SAFETY: as the caller promises.
            return unsafe { System.realloc(at, layout, size) };
        }
        // SAFETY: `size` is not zero, as the caller promises.
        let to = unsafe { self.alloc(new) };
        if !to.is_null() {
            // SAFETY: both are at least so large, and they are two.
            unsafe { ptr::copy_nonoverlapping(at, to, layout.size().min(size)) };
            // SAFETY: as the caller promises; it is not used again.
            unsafe { self.dealloc(at, layout) };
        }
        to
    }
}
