//! Adapters of rows: map, filter, beside, shuffle.

use super::Rows;
use crate::data::stream;
use crate::error::{Result, bail};
use crate::{Philox, Scalar};

/// Rows made of others; see [`Rows::map`].
#[derive(Clone, Debug)]
pub struct Map<T, R, F> {
    rows: R,
    f: F,
    row: Vec<T>,
}

impl<T: Scalar, R: Rows<T>, F: FnMut(&[T], &mut [T])> Map<T, R, F> {
    pub(super) fn new(rows: R, width: usize, f: F) -> Self {
        Map { rows, f, row: vec![T::zero(); width] }
    }
}

impl<T: Scalar, R: Rows<T>, F: FnMut(&[T], &mut [T])> Rows<T> for Map<T, R, F> {
    fn width(&self) -> usize {
        self.row.len()
    }

    fn advance(&mut self) -> Result<bool> {
        let any = self.rows.advance()?;
        if any {
            self.row.fill(T::zero());
            (self.f)(self.rows.row(), &mut self.row);
        }
        Ok(any)
    }

    fn row(&self) -> &[T] {
        &self.row
    }

    fn skip(&mut self, n: u64) -> Result<()> {
        self.rows.skip(n)
    }
}

/// Some of the rows; see [`Rows::filter`].
#[derive(Clone, Debug)]
pub struct Filter<R, F> {
    rows: R,
    f: F,
}

impl<R, F> Filter<R, F> {
    pub(super) fn new(rows: R, f: F) -> Self {
        Filter { rows, f }
    }
}

impl<T: Scalar, R: Rows<T>, F: FnMut(&[T]) -> bool> Rows<T> for Filter<R, F> {
    fn width(&self) -> usize {
        self.rows.width()
    }

    fn advance(&mut self) -> Result<bool> {
        while self.rows.advance()? {
            if (self.f)(self.rows.row()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn row(&self) -> &[T] {
        self.rows.row()
    }
}

/// Rows side by side; see [`Rows::beside`].
#[derive(Clone, Debug)]
pub struct Beside<T, L, R> {
    left: L,
    right: R,
    row: Vec<T>,
    n_rows: u64,
}

impl<T: Scalar, L: Rows<T>, R: Rows<T>> Beside<T, L, R> {
    pub(super) fn new(left: L, right: R) -> Self {
        Beside { left, right, row: Vec::new(), n_rows: 0 }
    }
}

impl<T: Scalar, L: Rows<T>, R: Rows<T>> Rows<T> for Beside<T, L, R> {
    fn width(&self) -> usize {
        self.left.width() + self.right.width()
    }

    fn advance(&mut self) -> Result<bool> {
        let any = self.left.advance()?;
        if any != self.right.advance()? {
            let (n, side) = (self.n_rows, if any { "left" } else { "right" });
            bail!(Shape, "beside: expected as many rows on both sides, got {n} and more {side}");
        }
        if any {
            self.n_rows += 1;
            self.row.clear();
            self.row.extend_from_slice(self.left.row());
            self.row.extend_from_slice(self.right.row());
        }
        Ok(any)
    }

    fn row(&self) -> &[T] {
        &self.row
    }

    fn skip(&mut self, n: u64) -> Result<()> {
        self.n_rows = self.n_rows.saturating_add(n);
        self.left.skip(n)?;
        self.right.skip(n)
    }
}

/// Rows in a random order; see [`Rows::shuffle`].
#[derive(Clone, Debug)]
pub struct Shuffle<T, R> {
    rows: R,
    n_rows: usize,
    rng: Philox,
    /// Rows that wait, one after the other.
    waiting: Vec<T>,
    /// How many: they may have no columns.
    n_waiting: usize,
    row: Vec<T>,
    /// Whether all rows have come.
    ended: bool,
}

impl<T: Scalar, R: Rows<T>> Shuffle<T, R> {
    pub(super) fn new(rows: R, n_rows: usize, seed: u64) -> Self {
        Shuffle {
            rows,
            n_rows: n_rows.max(1),
            rng: Philox::new(seed, stream::ROWS),
            waiting: Vec::new(),
            n_waiting: 0,
            row: Vec::new(),
            ended: false,
        }
    }

    fn fill(&mut self) -> Result<()> {
        while self.n_waiting < self.n_rows && !self.ended {
            // An error ends it, too.
            self.ended = true;
            if self.rows.advance()? {
                self.ended = false;
                self.waiting.extend_from_slice(self.rows.row());
                self.n_waiting += 1;
            }
        }
        Ok(())
    }
}

impl<T: Scalar, R: Rows<T>> Rows<T> for Shuffle<T, R> {
    fn width(&self) -> usize {
        self.rows.width()
    }

    fn advance(&mut self) -> Result<bool> {
        if let Err(e) = self.fill() {
            self.n_waiting = 0;
            return Err(e);
        }
        let Some(last) = self.n_waiting.checked_sub(1) else { return Ok(false) };
        let (width, taken) = (self.rows.width(), self.rng.below(self.n_waiting as u64) as usize);
        let place = taken * width..(taken + 1) * width;
        self.row.clear();
        self.row.extend_from_slice(&self.waiting[place.clone()]);
        self.waiting.copy_within(last * width.., place.start);
        self.waiting.truncate(last * width);
        self.n_waiting = last;
        Ok(true)
    }

    fn row(&self) -> &[T] {
        &self.row
    }
}
