// SPDX-License-Identifier: GPL-2.0

//! Memory that fork(2) leaves alone, for the buffer of a FUSE server.
//!
//! In tests that fork while a server is read from, it once in a while found a request in
//! its buffer that it had found there before: an offset was read twice, another never, and
//! who waited for that waited for ever. The kernel writes a request into a page that it has
//! taken hold of without pinning it; it is inferred, not seen, that a fork in between makes
//! the server's page another one than that. (open(2) warns of this under `O_DIRECT`.)
//! `MADV_DONTFORK` is the kernel's answer to it. The buffer is allocated by the crate, so
//! the allocator has to know it.

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
}
