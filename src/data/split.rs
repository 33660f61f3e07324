//! Parts of a data set, drawn with a seed: for training, validation and test, or k folds; with
//! equal shares of every class if wanted.

use super::{Dataset, stream};
use crate::error::{Result, bail};
use crate::scalar::Element;
use crate::{Index, Philox, Scalar};

impl<T: Scalar, Y: Element> Dataset<T, Y> {
    /// The samples in a random order, cut into parts of these fractions, which add up to 1.
    /// The sizes are exact to one sample; the seed alone decides which are where.
    ///
    /// ```
    /// # use gradtape::{Tensor, data::Dataset};
    /// # let [x, y] = [2, 1].map(|k| Tensor::<f64>::zeros([150, k]).unwrap());
    /// let [train, validation, test] = Dataset::new(x, y)?.split([0.6, 0.2, 0.2], 42)?;
    /// assert_eq!([train.len(), validation.len(), test.len()], [90, 30, 30]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// Fractions that are not positive or do not add up to 1, or a part without a sample.
    pub fn split<const N: usize>(&self, fractions: [f64; N], seed: u64) -> Result<[Self; N]> {
        self.cut(&self.shuffled(seed, stream::SPLIT), fractions)
    }

    /// k pairs `[train, validation]`: the samples in a random order, cut into k parts of equal
    /// size (to one sample), of which each is the validation part once.
    ///
    /// # Errors
    /// Fewer than 2 folds, or more folds than samples.
    pub fn k_fold(&self, k: usize, seed: u64) -> Result<Vec<[Self; 2]>> {
        self.fold(&self.shuffled(seed, stream::FOLD), k)
    }

    fn shuffled(&self, seed: u64, stream: u64) -> Vec<Index> {
        let mut order: Vec<Index> = (0..self.len() as Index).collect();
        Philox::new(seed, stream).shuffle(&mut order);
        order
    }

    fn cut<const N: usize>(&self, order: &[Index], fractions: [f64; N]) -> Result<[Self; N]> {
        let total: f64 = fractions.iter().sum();
        // Written decimals add up to 1 within rounding; anything else is a mistake.
        if fractions.iter().any(|f| f.is_nan() || *f <= 0.0) || (total - 1.0).abs() > 1e-9 {
            bail!(Argument, "split: expected positive fractions of sum 1, got {fractions:?}");
        }
        let n = order.len();
        let mut ends = [n; N];
        let (mut sum, mut start) = (0.0, 0);
        for (i, end) in ends.iter_mut().enumerate() {
            sum += fractions[i];
            if i + 1 < N {
                *end = ((sum * n as f64).round() as usize).min(n);
            }
            if *end <= start {
                bail!(Argument, "split: {} of {n} samples leave a part empty", fractions[i]);
            }
            start = *end;
        }
        let mut start = 0;
        Ok(ends.map(|end| {
            let rows = &order[std::mem::replace(&mut start, end)..end];
            self.part(rows.iter().copied())
        }))
    }

    fn fold(&self, order: &[Index], k: usize) -> Result<Vec<[Self; 2]>> {
        let n = order.len();
        if k < 2 || k > n {
            bail!(Argument, "k_fold: expected 2 to {n} folds, as there are samples, got {k}");
        }
        let bound = |fold: usize| (fold as u64 * n as u64 / k as u64) as usize;
        Ok((0..k)
            .map(|fold| {
                let (start, end) = (bound(fold), bound(fold + 1));
                let train = order[..start].iter().chain(&order[end..]);
                [self.part(train.copied()), self.part(order[start..end].iter().copied())]
            })
            .collect())
    }
}

impl<T: Scalar> Dataset<T, Index> {
    /// As [`Dataset::split`], with the share of every class in every part as in the whole, to
    /// about one sample.
    ///
    /// # Errors
    /// As [`Dataset::split`], or targets that are not one label a sample.
    pub fn split_stratified<const N: usize>(
        &self,
        fractions: [f64; N],
        seed: u64,
    ) -> Result<[Self; N]> {
        self.cut(&self.stratified(seed, stream::SPLIT)?, fractions)
    }

    /// As [`Dataset::k_fold`], with the share of every class in every fold as in the whole, to
    /// about one sample.
    ///
    /// # Errors
    /// As [`Dataset::k_fold`], or targets that are not one label a sample.
    pub fn k_fold_stratified(&self, k: usize, seed: u64) -> Result<Vec<[Self; 2]>> {
        self.fold(&self.stratified(seed, stream::FOLD)?, k)
    }

    /// A random order in which every class is spread evenly: the r-th of the m samples of a class
    /// stands at (r + ½) / m of the way. Any stretch of it holds all classes in proportion.
    fn stratified(&self, seed: u64, stream: u64) -> Result<Vec<Index>> {
        if self.y_shape().rank() != 1 {
            bail!(Shape, "stratified: expected labels of shape [n], got {}", self.y_shape());
        }
        let label = |row: Index| self.store.y[self.stored(row as usize)];
        let mut order = self.shuffled(seed, stream);
        // Stable: samples of a class keep their random order.
        order.sort_by_key(|&row| label(row));
        let mut placed = Vec::with_capacity(order.len());
        for class in order.chunk_by(|&a, &b| label(a) == label(b)) {
            let m = class.len() as f64;
            placed.extend(class.iter().enumerate().map(|(r, &row)| ((r as f64 + 0.5) / m, row)));
        }
        // Equal places are taken by row, which says nothing of the class.
        placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok(placed.into_iter().map(|(_, row)| row).collect())
    }
}
