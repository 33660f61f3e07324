//! Samples and their targets, shared between the parts of a split. Samples lie contiguous in
//! memory; a batch is gathered from them by a blocked transpose. Knows no order of training.

use crate::error::{Result, bail};
use crate::io::{Idx, IdxData};
use crate::scalar::Element;
use crate::{Index, Scalar, Shape, Tensor};
use std::fmt;
use std::sync::Arc;

use super::{Batches, Standardizer};

/// Samples x, shape `[n, …]`, with a target y each, shape `[n, …]`: numbers of type `T`, or class
/// labels with `Y` = [`Index`].
///
/// A part of a data set ([`Dataset::split`], [`Dataset::subset`]) shares its memory, and a clone
/// costs nothing.
///
/// ```
/// use gradtape::{Index, Tensor, data::Dataset};
/// let x = Tensor::from_rows([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let data = Dataset::<f64, Index>::new(x, Tensor::vector(vec![0, 1, 0]))?;
/// let part = data.subset(&[2, 0])?;
/// assert_eq!(part.x()?, Tensor::from_rows([2, 2], &[5.0, 6.0, 1.0, 2.0])?);
/// assert_eq!(part.y()?.as_slice(), [0, 0]);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone)]
pub struct Dataset<T: Scalar = f64, Y: Element = T> {
    pub(super) store: Arc<Store<T, Y>>,
    /// The samples of the store that belong to this part, all of them if `None`.
    rows: Option<Arc<[Index]>>,
}

pub(super) struct Store<T, Y> {
    x: Features<T>,
    /// All samples: `[n, …]`.
    x_shape: Shape,
    pub(super) y: Vec<Y>,
    pub(super) y_shape: Shape,
}

/// Samples one after the other, each of them column-major, as a column of a batch is.
enum Features<T> {
    Numbers(Vec<T>),
    /// Pixels stay bytes until a batch is gathered.
    Bytes {
        bytes: Vec<u8>,
        scale: T,
    },
}

impl<T: Scalar, Y: Element> Dataset<T, Y> {
    /// A data set of samples x, shape `[n, …]`, and targets y, shape `[n]` or `[n, …]`.
    /// Both are copied into an order with contiguous samples.
    ///
    /// # Errors
    /// No axis of samples, different numbers of samples, or more than an [`Index`] can number.
    pub fn new(x: Tensor<T>, y: Tensor<Y>) -> Result<Self> {
        let x_shape = x.shape();
        let (n, width) = count(&x_shape)?;
        let mut samples = Tensor::zeros(x_shape)?.into_vec();
        gather(x.as_slice(), n, width, |feature| feature * n, &mut samples, |x| x);
        Dataset::from_samples(Features::Numbers(samples), x_shape, y)
    }

    /// A data set of the samples of an IDX array, each number times `scale`; bytes stay bytes in
    /// memory until a batch is gathered.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn from_idx(x: Idx, scale: f64, y: Tensor<Y>) -> Result<Self> {
        let shape = x.shape();
        match x.into_data() {
            IdxData::U8(mut bytes) => {
                columns_first(&mut bytes, &shape);
                let scale = T::lit(scale);
                Dataset::from_samples(Features::Bytes { bytes, scale }, shape, y)
            }
            IdxData::I8(v) => Dataset::from_row_major(v, shape, scale, y),
            IdxData::I16(v) => Dataset::from_row_major(v, shape, scale, y),
            IdxData::I32(v) => Dataset::from_row_major(v, shape, scale, y),
            IdxData::F32(v) => Dataset::from_row_major(v, shape, scale, y),
            IdxData::F64(v) => Dataset::from_row_major(v, shape, scale, y),
        }
    }

    fn from_row_major<E: Element + Into<f64>>(
        x: Vec<E>,
        shape: Shape,
        scale: f64,
        y: Tensor<Y>,
    ) -> Result<Self> {
        let mut numbers: Vec<T> = x.into_iter().map(|x| T::lit(x.into() * scale)).collect();
        columns_first(&mut numbers, &shape);
        Dataset::from_samples(Features::Numbers(numbers), shape, y)
    }

    fn from_samples(x: Features<T>, x_shape: Shape, y: Tensor<Y>) -> Result<Self> {
        let y_shape = y.shape();
        let ((n, _), (n_targets, width)) = (count(&x_shape)?, count(&y_shape)?);
        if n != n_targets {
            bail!(
                Shape,
                "data set: expected as many targets as samples, got x {x_shape}, y {y_shape}"
            );
        }
        let mut targets = Tensor::zeros(y_shape)?.into_vec();
        gather(y.as_slice(), n, width, |column| column * n, &mut targets, |y| y);
        let store = Store { x, x_shape, y: targets, y_shape };
        Ok(Dataset { store: Arc::new(store), rows: None })
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        match &self.rows {
            Some(rows) => rows.len(),
            None => self.store.x_shape.extents()[0],
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of all samples together, `[n, …]`.
    pub fn x_shape(&self) -> Shape {
        self.store.x_shape.with(0, self.len())
    }

    /// The shape of all targets together, `[n]` or `[n, …]`.
    pub fn y_shape(&self) -> Shape {
        self.store.y_shape.with(0, self.len())
    }

    /// All samples as one tensor, shape `[n, …]`.
    ///
    /// # Errors
    /// No memory.
    pub fn x(&self) -> Result<Tensor<T>> {
        let mut x = Tensor::zeros(self.x_shape())?;
        self.gather_x(self.len(), |i| i, x.as_mut_slice());
        Ok(x)
    }

    /// All targets as one tensor, shape `[n]` or `[n, …]`.
    ///
    /// # Errors
    /// No memory.
    pub fn y(&self) -> Result<Tensor<Y>> {
        let mut y = Tensor::zeros(self.y_shape())?;
        self.gather_y(self.len(), |i| i, y.as_mut_slice());
        Ok(y)
    }

    /// The samples with these numbers, in this order. The memory of the samples is shared.
    ///
    /// # Errors
    /// A number that is not below [`Dataset::len`].
    pub fn subset(&self, rows: &[Index]) -> Result<Self> {
        self.check(rows)?;
        Ok(self.part(rows.iter().copied()))
    }

    /// As [`Dataset::subset`], of rows that are there.
    pub(super) fn part(&self, rows: impl Iterator<Item = Index>) -> Self {
        let rows = rows.map(|row| self.stored(row as usize) as Index).collect();
        Dataset { store: Arc::clone(&self.store), rows: Some(rows) }
    }

    /// Fills x and y with the samples of these numbers, in this order: a batch. The tensors are
    /// given the shape of the batch; their memory is reused if it suffices.
    ///
    /// # Errors
    /// A number that is not below [`Dataset::len`], or no memory.
    pub fn gather_into(&self, rows: &[Index], x: &mut Tensor<T>, y: &mut Tensor<Y>) -> Result<()> {
        self.check(rows)?;
        let x = x.resize_for(self.store.x_shape.with(0, rows.len()))?;
        let y = y.resize_for(self.store.y_shape.with(0, rows.len()))?;
        self.gather_x(rows.len(), |i| rows[i] as usize, x);
        self.gather_y(rows.len(), |i| rows[i] as usize, y);
        Ok(())
    }

    /// The data set in batches of `size` samples, in the order they are stored. See [`Batches`].
    ///
    /// # Errors
    /// A size of 0.
    pub fn batches(&self, size: usize) -> Result<Batches<T, Y>> {
        Batches::new(self.clone(), size)
    }

    /// The data set with every feature standardized; it has memory of its own.
    ///
    /// # Errors
    /// A standardizer of samples of another shape, or no memory.
    pub fn standardized(&self, by: &Standardizer<T>) -> Result<Self> {
        let mut x = self.x()?;
        by.apply(&mut x)?;
        Dataset::new(x, self.y()?)
    }

    /// The number in the store of a sample of this part.
    pub(super) fn stored(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows[row] as usize)
    }

    fn gather_x(&self, n: usize, row: impl Fn(usize) -> usize, out: &mut [T]) {
        let width = self.store.x_shape.extents()[1..].iter().product();
        let start = |i| self.stored(row(i)) * width;
        match &self.store.x {
            Features::Numbers(numbers) => gather(numbers, width, n, start, out, |x| x),
            Features::Bytes { bytes, scale } => {
                gather(bytes, width, n, start, out, |b| T::lit(f64::from(b)) * *scale);
            }
        }
    }

    fn gather_y(&self, n: usize, row: impl Fn(usize) -> usize, out: &mut [Y]) {
        let width = self.store.y_shape.extents()[1..].iter().product();
        gather(&self.store.y, width, n, |i| self.stored(row(i)) * width, out, |y| y);
    }

    fn check(&self, rows: &[Index]) -> Result<()> {
        match rows.iter().find(|&&row| row as usize >= self.len()) {
            Some(row) => bail!(Index, "data set: expected rows below {}, got {row}", self.len()),
            None => Ok(()),
        }
    }
}

impl<T: Scalar, Y: Element> fmt::Debug for Dataset<T, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset x {} y {}", self.x_shape(), self.y_shape())
    }
}

/// Matrices of equal numbers of rows side by side: `[n, a]`, `[n, b]`, … give `[n, a + b + …]`.
///
/// # Errors
/// No matrix, a rank other than 2, different numbers of rows.
pub fn hstack<T: Element>(parts: &[&Tensor<T>]) -> Result<Tensor<T>> {
    let Some(first) = parts.first() else {
        bail!(Argument, "hstack: expected at least one matrix, got none");
    };
    let (n, mut columns, mut data) = (first.shape().dim(0), 0, Vec::new());
    for part in parts {
        match part.shape().extents() {
            &[rows, width] if Some(rows) == n => columns += width,
            _ => bail!(Shape, "hstack: expected matrices, got {} {}", first.shape(), part.shape()),
        }
        data.extend_from_slice(part.as_slice());
    }
    Tensor::new([n.unwrap_or(0), columns], data)
}

/// The number of samples and that of the elements of one.
fn count(shape: &Shape) -> Result<(usize, usize)> {
    let [n, sample @ ..] = shape.extents() else {
        bail!(Shape, "data set: expected an axis of samples, got {shape}");
    };
    if Index::try_from(*n).is_err() {
        bail!(Shape, "data set: expected at most {} samples, got {n}", Index::MAX);
    }
    Ok((*n, sample.iter().product()))
}

/// `out[i + n·j] = convert(samples[start(i) + j])` for i < n and j < width, in blocks that stay in
/// the first-level cache on both sides.
pub(super) fn gather<S: Copy, D>(
    samples: &[S],
    width: usize,
    n: usize,
    start: impl Fn(usize) -> usize,
    out: &mut [D],
    convert: impl Fn(S) -> D,
) {
    const BLOCK: usize = 64;
    let mut starts = [0; BLOCK];
    for i in (0..n).step_by(BLOCK) {
        let rows = BLOCK.min(n - i);
        (0..rows).for_each(|k| starts[k] = start(i + k));
        for j in 0..width {
            let column = &mut out[j * n + i..][..rows];
            for (out, &start) in column.iter_mut().zip(&starts) {
                *out = convert(samples[start + j]);
            }
        }
    }
}

/// Reorders every sample from row-major to column-major, in place.
fn columns_first<E: Element>(samples: &mut [E], shape: &Shape) {
    let extents = shape.extents().get(1..).unwrap_or(&[]);
    let width: usize = extents.iter().product();
    if width <= 1 || extents.len() <= 1 {
        return;
    }
    let from: Vec<usize> = (0..width)
        .map(|to| {
            // Takes the column-major position apart and puts it together row-major.
            let (mut rest, mut stride, mut at) = (to, width, 0);
            for &extent in extents {
                stride /= extent;
                at += rest % extent * stride;
                rest /= extent;
            }
            at
        })
        .collect();
    let mut old = vec![E::default(); width];
    for sample in samples.chunks_exact_mut(width) {
        old.copy_from_slice(sample);
        sample.iter_mut().zip(&from).for_each(|(new, &at)| *new = old[at]);
    }
}
