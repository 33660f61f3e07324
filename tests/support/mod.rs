//! An allocator that counts what the calling thread allocates, and ranks that are threads.

#![allow(dead_code)] // Each test uses its part.

use gradtape::dist::{Local, local};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

pub struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor
// unwinds, because the thread-locals need no initialization and no drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.get() + layout.size() as isize;
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The bytes that the calling thread has allocated and not freed.
pub fn held() -> isize {
    LIVE.get()
}

/// The value of `f`, the bytes it held at most, and how often it allocated.
pub fn counted<R>(f: impl FnOnce() -> R) -> (R, usize, usize) {
    let (live, calls) = (LIVE.get(), CALLS.get());
    PEAK.set(live);
    let value = f();
    (value, (PEAK.get() - live) as usize, CALLS.get() - calls)
}

/// Runs `f` on every rank of a group of threads.
pub fn on_ranks<R: Send>(n: usize, f: impl Fn(Local) -> R + Sync) -> Vec<R> {
    std::thread::scope(|threads| {
        let f = &f;
        let ranks: Vec<_> =
            local(n).into_iter().map(|rank| threads.spawn(move || f(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
