//! One block of memory that instructions read and write in disjoint pieces at the same time.
//! Knows nothing of what the pieces hold; whoever places them is checked here.

use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Element;
use std::marker::PhantomData;
use std::ops::Range;

/// The alignment of the block in bytes: a cache line, and the widest vector register.
const ALIGN: usize = 64;

/// A block of elements, aligned to a cache line.
#[derive(Debug)]
pub(crate) struct Arena<E: Element> {
    data: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Element> Arena<E> {
    /// A block of `len` default elements (zeros).
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn new(len: usize) -> Result<Self> {
        let spare = ALIGN / size_of::<E>();
        let no_memory = || Error::new(ErrorKind::Memory, format!("no memory for {len} elements"));
        let mut data: Vec<E> = Vec::new();
        data.try_reserve_exact(len.checked_add(spare).ok_or_else(no_memory)?)
            .map_err(|_| no_memory())?;
        data.resize(len + spare, E::default());
        let start = data.as_ptr().align_offset(ALIGN).min(spare);
        Ok(Arena { data, start, len })
    }

    pub(crate) fn as_slice(&self) -> &[E] {
        &self.data[self.start..self.start + self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [E] {
        &mut self.data[self.start..self.start + self.len]
    }

    /// The pieces of a frame: those to write, each once, and those to read beside them.
    ///
    /// # Panics
    /// A frame for a larger block.
    #[inline]
    pub(crate) fn open<'a>(&'a mut self, frame: &'a Frame) -> (Writes<'a, E>, Reads<'a, E>) {
        assert!(frame.end <= self.len, "a frame of {} in a block of {}", frame.end, self.len);
        let base = self.as_mut_slice().as_mut_ptr();
        let writes = Writes { base, rest: frame.writes.iter(), of: PhantomData };
        (writes, Reads { base, reads: &frame.reads, of: PhantomData })
    }
}

/// Which pieces of a block an instruction writes and reads, looked through once: what is written
/// overlaps nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    writes: Vec<Range<usize>>,
    reads: Vec<Range<usize>>,
    /// No piece reaches further.
    end: usize,
}

impl Frame {
    /// # Panics
    /// A piece to write that overlaps another piece: a fault of the planner.
    pub(crate) fn new(writes: Vec<Range<usize>>, reads: Vec<Range<usize>>) -> Frame {
        for (i, w) in writes.iter().enumerate() {
            assert!(!writes[..i].iter().any(|v| overlap(v, w)), "two writes to {w:?}");
            assert!(!reads.iter().any(|r| overlap(r, w)), "{w:?} is read while it is written");
        }
        let all = || writes.iter().chain(&reads);
        assert!(all().all(|r| r.start <= r.end), "a range from its end to its start");
        let end = all().map(|r| r.end).max().unwrap_or(0);
        Frame { writes, reads, end }
    }

    /// Whether it writes any of these elements.
    pub(crate) fn writes_any(&self, of: &Range<usize>) -> bool {
        self.writes.iter().any(|w| overlap(w, of))
    }
}

/// The pieces to write, in the frame's order.
pub(crate) struct Writes<'a, E> {
    base: *mut E,
    rest: std::slice::Iter<'a, Range<usize>>,
    of: PhantomData<&'a mut [E]>,
}

impl<'a, E> Writes<'a, E> {
    /// The next piece; an empty one after the last.
    #[inline]
    pub(crate) fn take(&mut self) -> &'a mut [E] {
        let Some(w) = self.rest.next() else { return &mut [] };
        // SAFETY: the range begins before its end, overlaps no other piece of its frame
        // (`Frame::new`) and is inside the block (`Arena::open`); the iterator gives each once,
        // while the block is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(w.start), w.end - w.start) }
    }
}

/// The pieces to read.
pub(crate) struct Reads<'a, E> {
    base: *const E,
    reads: &'a [Range<usize>],
    of: PhantomData<&'a [E]>,
}

impl<'a, E> Reads<'a, E> {
    /// Piece `i` of the frame's.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> &'a [E] {
        let r = &self.reads[i];
        // SAFETY: the range begins before its end, overlaps nothing that is written (`Frame::new`)
        // and is inside the block (`Arena::open`); the block stays borrowed for 'a.
        unsafe { std::slice::from_raw_parts(self.base.add(r.start), r.end - r.start) }
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end && !a.is_empty() && !b.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_disjoint() {
        let mut arena = Arena::<f64>::new(10).unwrap();
        assert_eq!(arena.as_slice().as_ptr().align_offset(ALIGN), 0);
        let frame = Frame::new(vec![0..3, 5..7, 4..4], vec![3..5, 7..10, 3..4]);
        let (mut writes, reads) = arena.open(&frame);
        let (a, b) = (writes.take(), writes.take());
        a.fill(1.0);
        b.fill(2.0);
        assert_eq!((reads.get(0), reads.get(1)), (&[0.0; 2][..], &[0.0; 3][..]));
        assert!(writes.take().is_empty() && writes.take().is_empty());
        assert_eq!(arena.as_slice(), [1.0, 1.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "read while it is written")]
    #[allow(clippy::single_range_in_vec_init)] // one write
    fn a_piece_being_written_is_not_read() {
        Frame::new(vec![0..2], vec![1..3]);
    }

    #[test]
    #[should_panic(expected = "two writes")]
    fn two_writes_do_not_overlap() {
        Frame::new(vec![0..2, 1..3], vec![]);
    }

    #[test]
    #[should_panic(expected = "a frame of 5 in a block of 4")]
    #[allow(clippy::single_range_in_vec_init)] // one write
    fn a_frame_is_not_larger_than_its_block() {
        let frame = Frame::new(vec![0..5], vec![]);
        Arena::<f32>::new(4).unwrap().open(&frame);
    }

    #[test]
    fn too_large_is_an_error() {
        assert_eq!(Arena::<f64>::new(usize::MAX / 16).unwrap_err().kind(), ErrorKind::Memory);
    }
}
