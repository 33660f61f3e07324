//! One block of memory that instructions read and write in disjoint pieces at the same time.
//! Knows nothing of what the pieces hold; whoever places them is checked here.

use crate::error::{Error, ErrorKind, Result};
use crate::scalar::Element;
use std::marker::PhantomData;
use std::ops::Range;

/// The most pieces that can be written at once.
pub(crate) const MAX_WRITES: usize = 8;

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

    /// A reader of everything, while nothing is written.
    pub(crate) fn reader(&self) -> Reader<'_, E> {
        let base = self.as_slice().as_ptr();
        Reader { base, len: self.len, busy: [const { 0..0 }; MAX_WRITES], of: PhantomData }
    }

    /// Slices to write at `writes`, and a reader for everything else.
    ///
    /// # Panics
    /// Ranges outside the block, overlapping, or more than [`MAX_WRITES`]: a fault of the planner.
    pub(crate) fn open<const N: usize>(
        &mut self,
        writes: [Range<usize>; N],
    ) -> (Reader<'_, E>, [&mut [E]; N]) {
        const { assert!(N <= MAX_WRITES) };
        for (i, w) in writes.iter().enumerate() {
            assert!(w.start <= w.end && w.end <= self.len, "write {w:?} of {}", self.len);
            assert!(!writes[..i].iter().any(|v| overlap(v, w)), "two writes to {w:?}");
        }
        let base = self.as_mut_slice().as_mut_ptr();
        let slices = writes.clone().map(|w| {
            // SAFETY: the range is inside the block, and no two of these ranges overlap (both
            // asserted above); `self` is borrowed mutably for as long as the slices live.
            unsafe { std::slice::from_raw_parts_mut(base.add(w.start), w.len()) }
        });
        let mut busy = [const { 0..0 }; MAX_WRITES];
        busy.iter_mut().zip(writes).for_each(|(b, w)| *b = w);
        (Reader { base, len: self.len, busy, of: PhantomData }, slices)
    }
}

/// Reads what is not being written.
pub(crate) struct Reader<'a, E> {
    base: *const E,
    len: usize,
    busy: [Range<usize>; MAX_WRITES],
    of: PhantomData<&'a [E]>,
}

impl<'a, E> Reader<'a, E> {
    /// The elements of this range.
    ///
    /// # Panics
    /// A range outside the block or being written: a fault of the planner.
    pub(crate) fn get(&self, r: Range<usize>) -> &'a [E] {
        assert!(r.start <= r.end && r.end <= self.len, "read {r:?} of {}", self.len);
        assert!(!self.busy.iter().any(|w| overlap(w, &r)), "read {r:?} while it is written");
        // SAFETY: the range is inside the block and disjoint from every slice given out for
        // writing (asserted above); the block stays borrowed for 'a.
        unsafe { std::slice::from_raw_parts(self.base.add(r.start), r.len()) }
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
        let (reader, [a, b]) = arena.open([0..3, 5..7]);
        a.fill(1.0);
        b.fill(2.0);
        assert_eq!((reader.get(3..5), reader.get(7..10)), (&[0.0; 2][..], &[0.0; 3][..]));
        assert_eq!(arena.as_slice(), [1.0, 1.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "while it is written")]
    #[allow(clippy::single_range_in_vec_init)] // one write
    fn a_piece_being_written_is_not_read() {
        Arena::<f32>::new(4).unwrap().open([0..2]).0.get(1..3);
    }

    #[test]
    #[should_panic(expected = "two writes")]
    fn two_writes_do_not_overlap() {
        Arena::<f32>::new(4).unwrap().open([0..2, 1..3]);
    }

    #[test]
    fn too_large_is_an_error() {
        assert_eq!(Arena::<f64>::new(usize::MAX / 16).unwrap_err().kind(), ErrorKind::Memory);
    }
}
