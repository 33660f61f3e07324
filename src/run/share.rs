//! The state of an optimizer, which may be shared out over ranks: each keeps that of one slice of an
//! update's parameters, moves this slice, and gives it to the others.

use super::ranks::{GRAIN, others};
use crate::dist::{Group, Incoming, Outgoing};
use crate::error::Result;
use crate::kernel::arena::Arena;
use crate::kernel::bytes::{bytes, bytes_mut};
use crate::kernel::team::part_of;
use crate::scalar::Scalar;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

/// Whose part of the state a session keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    rank: usize,
    size: usize,
}

impl Share {
    pub(crate) const WHOLE: Share = Share { rank: 0, size: 1 };

    pub(super) fn of(group: &dyn Group) -> Self {
        Share { rank: group.rank(), size: group.size() }
    }

    pub(super) fn size(self) -> usize {
        self.size
    }

    pub(crate) fn is_whole(self) -> bool {
        self.size == 1
    }

    /// The slice of so many parameters.
    pub(crate) fn slice(self, n: usize) -> Range<usize> {
        part_of(n, GRAIN, self.size, self.rank)
    }
}

/// The slots of an update: some numbers for each of its parameters.
#[derive(Debug)]
pub(crate) struct Slots<T: Scalar> {
    share: Share,
    n_slots: usize,
    n_parameters: usize,
    /// One slot after the other, each as long as the slice.
    own: Arena<T>,
    /// All of them, until the next step, on a rank that is about to save them.
    gathered: Option<Arena<T>>,
    /// A hash of all of them when they were new, or loaded.
    origin: u64,
}

impl<T: Scalar> Slots<T> {
    /// Zeros.
    pub(crate) fn new(n_slots: usize, n_parameters: usize, share: Share) -> Result<Self> {
        let own = Arena::new(n_slots.saturating_mul(share.slice(n_parameters).len()))?;
        Ok(Slots { share, n_slots, n_parameters, own, gathered: None, origin: 0 })
    }

    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// The parameters that have their slots here.
    pub(crate) fn slice(&self) -> Range<usize> {
        self.share.slice(self.n_parameters)
    }

    /// Each slot of the slice, to be written.
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.gathered = None;
        let n = self.slice().len();
        // Of an empty slice there is nothing to write.
        self.own.as_mut_slice().chunks_exact_mut(n.max(1))
    }

    /// All slots of all parameters, if they are here and stay here.
    pub(crate) fn all(&self) -> Option<&[T]> {
        self.share.is_whole().then_some(self.own.as_slice())
    }

    /// Each slot of all parameters, if they are here now.
    pub(crate) fn each(&self) -> Option<impl Iterator<Item = &[T]>> {
        let all = self.all().or(self.gathered.as_ref().map(Arena::as_slice))?;
        Some(all.chunks_exact(self.n_parameters.max(1)))
    }

    /// Takes each slot from a tensor of all parameters, which `f` fills.
    pub(crate) fn fill(&mut self, mut f: impl FnMut(usize, &mut [T]) -> Result<()>) -> Result<()> {
        let mut whole = vec![T::zero(); self.n_parameters];
        let mut hasher = DefaultHasher::new();
        let slice = self.slice();
        for (i, slot) in (0..self.n_slots).zip(self.each_mut()) {
            f(i, &mut whole)?;
            bytes(&whole).hash(&mut hasher);
            slot.copy_from_slice(&whole[slice.clone()]);
        }
        self.origin = hasher.finish();
        Ok(())
    }

    /// Gives rank `to` all slots.
    pub(super) fn gather(&mut self, group: &mut dyn Group, to: usize) -> Result<()> {
        let (n, own) = (self.n_parameters, self.slice().len());
        let mut whole = match to == group.rank() {
            true => Some(Arena::new(self.n_slots.saturating_mul(n))?),
            false => None,
        };
        for i in 0..self.n_slots {
            let slot = &self.own.as_slice()[i * own..][..own];
            let whole = whole.as_mut().map(|whole| &mut whole.as_mut_slice()[i * n..][..n]);
            collect(group, (to, slot), whole)?;
        }
        self.gathered = whole;
        Ok(())
    }
}

/// What is the same on all ranks.
impl<T: Scalar> Hash for Slots<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.share.size, self.n_slots, self.n_parameters).hash(hasher);
        match self.all() {
            Some(all) => bytes(all).hash(hasher),
            None => self.origin.hash(hasher),
        }
    }
}

/// What a slice of the elements at these ranges, one after the other, has of each range: where it
/// is in the row of all, and where in the range's own terms.
pub(super) fn pieces(
    ranges: &[Range<usize>],
    slice: Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut end = 0;
    ranges.iter().filter_map(move |range| {
        let start = end;
        end += range.len();
        let here = overlap(&slice, &(start..end));
        let at = range.start + (here.start - start);
        (!here.is_empty()).then(|| (here.clone(), at..at + here.len()))
    })
}

/// What two ranges have in common; an empty one begins in the second.
fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.clamp(b.start, b.end);
    start..a.end.clamp(start, b.end)
}

/// The longest message to another rank, in elements, as there are copies of it on the way.
const MESSAGE: usize = 1 << 15;

/// Gives this rank's slice of the elements at these ranges to all others, and takes theirs.
pub(super) fn gather<T: Scalar>(
    group: &mut dyn Group,
    values: &mut [T],
    ranges: &[Range<usize>],
) -> Result<()> {
    let (rank, size) = (group.rank(), group.size());
    let n = ranges.iter().map(Range::len).sum();
    let mut end = 0;
    for range in ranges {
        let here = end..end + range.len();
        end = here.end;
        let values = &mut values[range.clone()];
        let longest = Share { rank: 0, size }.slice(n).len().min(here.len());
        for at in (0..longest).step_by(MESSAGE) {
            let mut rest = &mut *values;
            let mut own: &[T] = &[];
            let mut receive: Vec<Incoming<'_>> = Vec::with_capacity(size);
            for from in 0..size {
                let slice = Share { rank: from, size }.slice(n);
                let (piece, after) = rest.split_at_mut(overlap(&slice, &here).len());
                rest = after;
                let message = at.min(piece.len())..(at + MESSAGE).min(piece.len());
                let piece = &mut piece[message];
                if from == rank {
                    own = piece;
                } else if !piece.is_empty() {
                    receive.push((from, bytes_mut(piece)));
                }
            }
            let to = others(rank, size).filter(|_| !own.is_empty());
            let send: Vec<Outgoing<'_>> = to.map(|to| (to, bytes(own))).collect();
            group.exchange(&send, &mut receive)?;
        }
    }
    Ok(())
}

/// Puts the slices that ranks have of a row together, in `whole` on the one that has it.
pub(super) fn collect<T: Scalar>(
    group: &mut dyn Group,
    (to, own): (usize, &[T]),
    whole: Option<&mut [T]>,
) -> Result<()> {
    let (rank, size) = (group.rank(), group.size());
    let Some(whole) = whole else {
        let send: &[Outgoing<'_>] = &[(to, bytes(own))];
        return group.exchange(if own.is_empty() { &[] } else { send }, &mut []);
    };
    let n = whole.len();
    let mut rest = whole;
    let mut receive: Vec<Incoming<'_>> = Vec::with_capacity(size);
    for from in 0..size {
        let (piece, after) = rest.split_at_mut(Share { rank: from, size }.slice(n).len());
        rest = after;
        if from == rank {
            piece.copy_from_slice(own);
        } else if !piece.is_empty() {
            receive.push((from, bytes_mut(piece)));
        }
    }
    group.exchange(&[], &mut receive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::local;

    /// Ranges of all lengths, some empty, some between slices.
    const RANGES: [Range<usize>; 5] = [3..3, 5..80, 100..101, 400..400, 101..399];
    const N: usize = 374;

    #[test]
    fn shares_cover_every_element_once() {
        for size in 1..=8 {
            let mut seen = vec![];
            for rank in 0..size {
                for (row, at) in pieces(&RANGES, Share { rank, size }.slice(N)) {
                    assert_eq!(row.len(), at.len());
                    assert_eq!(row.start, seen.len());
                    seen.extend(at);
                }
            }
            assert_eq!(seen, RANGES.into_iter().flatten().collect::<Vec<_>>(), "{size} ranks");
        }
    }

    #[test]
    fn gathered_values_are_those_of_their_ranks() {
        for size in 1..=6 {
            let all = std::thread::scope(|threads| {
                let run = |mut group: crate::dist::Local| {
                    let share = Share::of(&group);
                    let mut values = vec![-1.0; 400];
                    for (row, at) in pieces(&RANGES, share.slice(N)) {
                        at.zip(row).for_each(|(at, row)| values[at] = row as f64);
                    }
                    gather(&mut group, &mut values, &RANGES).unwrap();
                    let own: Vec<f64> = share.slice(N).map(|i| i as f64).collect();
                    let mut whole = (group.rank() == size - 1).then(|| vec![-1.0; N]);
                    collect(&mut group, (size - 1, &own), whole.as_deref_mut()).unwrap();
                    (values, whole)
                };
                let ranks = local(size).into_iter().map(|rank| threads.spawn(move || run(rank)));
                let ranks: Vec<_> = ranks.collect();
                ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
            });
            let mut want = vec![-1.0; 400];
            RANGES.into_iter().flatten().enumerate().for_each(|(row, at)| want[at] = row as f64);
            for (rank, (values, whole)) in all.into_iter().enumerate() {
                assert_eq!(values, want, "rank {rank} of {size}");
                let row = (rank == size - 1).then(|| (0..N).map(|i| i as f64).collect());
                assert_eq!(whole, row, "rank {rank} of {size}");
            }
        }
    }
}
