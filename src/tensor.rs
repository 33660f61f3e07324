//! Values: a shape and one contiguous column-major buffer. Rank 2 *is* a `DMatrix`.
//! Knows nothing of tapes.

use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::Element;
use crate::shape::Shape;
use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView, Dyn, VecStorage};
use std::fmt;

/// A value of any rank up to [`MAX_RANK`](crate::MAX_RANK): a [`Shape`] and one contiguous
/// column-major buffer, axis 0 (the batch) fastest.
///
/// `DMatrix` and `DVector` go in and out without a copy, because they are the same memory:
///
/// ```
/// use gradtape::Tensor;
/// use nalgebra::DMatrix;
/// let m = DMatrix::from_row_slice(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let t = Tensor::from(m);
/// assert_eq!(t.shape().extents(), [2, 3]);
/// assert_eq!(t.get(&[1, 2]), Some(6.0));
/// assert_eq!(t.as_slice(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]); // column-major
/// let back: DMatrix<f64> = t.into_matrix()?;
/// assert_eq!(back[(1, 2)], 6.0);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Tensor<T: Element = f64> {
    shape: Shape,
    data: Vec<T>,
}

/// A borrowed tensor: a shape and a slice, column-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'a, T: Element = f64> {
    shape: Shape,
    data: &'a [T],
}

impl<T: Element> Tensor<T> {
    /// A tensor of this shape over a column-major buffer (axis 0 fastest), which is not copied.
    ///
    /// # Errors
    /// An unknown extent, or a buffer whose length is not the product of the extents.
    pub fn new(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        if checked_len(&shape)? != data.len() {
            bail!(Shape, "tensor: {shape} has {} elements, got {}", shape.len(), data.len());
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of this shape from numbers in reading order (row-major, last axis fastest).
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_rows(shape: impl Into<Shape>, rows: &[T]) -> Result<Self> {
        let shape = shape.into();
        if checked_len(&shape)? != rows.len() {
            bail!(Shape, "tensor: {shape} has {} elements, got {}", shape.len(), rows.len());
        }
        let mut row_major = [0; crate::MAX_RANK];
        let mut step = 1;
        for axis in (0..shape.rank()).rev() {
            row_major[axis] = step;
            step *= shape.extents()[axis];
        }
        Tensor::from_fn(shape, |at| {
            rows[at.iter().zip(row_major).map(|(&i, s)| i * s).sum::<usize>()]
        })
    }

    /// A tensor whose element at each position is `f(position)`.
    ///
    /// # Errors
    /// An unknown extent, or more elements than fit into memory.
    pub fn from_fn(shape: impl Into<Shape>, mut f: impl FnMut(&[usize]) -> T) -> Result<Self> {
        let shape = shape.into();
        let mut data = reserve(checked_len(&shape)?)?;
        let mut at = [0; crate::MAX_RANK];
        for _ in 0..shape.len() {
            data.push(f(&at[..shape.rank()]));
            for (i, &extent) in at.iter_mut().zip(shape.extents()) {
                *i += 1;
                if *i < extent {
                    break;
                }
                *i = 0;
            }
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor that holds `value` everywhere.
    ///
    /// # Errors
    /// An unknown extent, or more elements than fit into memory.
    pub fn full(shape: impl Into<Shape>, value: T) -> Result<Self> {
        let shape = shape.into();
        let n = checked_len(&shape)?;
        let mut data = reserve(n)?;
        data.resize(n, value);
        Ok(Tensor { shape, data })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn zeros(shape: impl Into<Shape>) -> Result<Self> {
        Tensor::full(shape, T::default())
    }

    /// A single number, rank 0.
    pub fn scalar(value: T) -> Self {
        Tensor { shape: Shape::SCALAR, data: vec![value] }
    }

    /// A rank-1 tensor over this buffer, which is not copied.
    pub fn vector(data: Vec<T>) -> Self {
        Tensor { shape: [data.len()].into(), data }
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, axis 0 fastest.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// The elements, axis 0 fastest.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The buffer itself, axis 0 fastest.
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }

    /// The element at a position, `None` outside.
    pub fn get(&self, at: &[usize]) -> Option<T> {
        self.view().get(at)
    }

    /// The only element of a tensor that has one, whatever its rank.
    ///
    /// # Errors
    /// Not exactly one element.
    pub fn item(&self) -> Result<T> {
        match self.data[..] {
            [x] => Ok(x),
            _ => bail!(Shape, "item: expected one element, got {}", self.shape),
        }
    }

    /// The same elements in the same order under another shape; the buffer is not copied.
    ///
    /// # Errors
    /// A different number of elements.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Result<Self> {
        let from = self.shape;
        Tensor::new(shape, self.data).map_err(|e| e.within(format_args!("reshape of {from}")))
    }

    /// Every element mapped through `f`.
    pub fn map<U: Element>(&self, f: impl FnMut(T) -> U) -> Tensor<U> {
        Tensor { shape: self.shape, data: self.data.iter().copied().map(f).collect() }
    }

    /// The tensor, borrowed.
    pub fn view(&self) -> TensorView<'_, T> {
        TensorView { shape: self.shape, data: &self.data }
    }

    /// A nalgebra matrix over the same buffer, not copied.
    ///
    /// # Errors
    /// A rank other than 2.
    pub fn into_matrix(self) -> Result<DMatrix<T>> {
        match self.shape.extents() {
            &[rows, columns] => {
                Ok(DMatrix::from_data(VecStorage::new(Dyn(rows), Dyn(columns), self.data)))
            }
            _ => bail!(Shape, "into_matrix: expected rank 2, got {}", self.shape),
        }
    }

    /// A nalgebra vector over the same buffer, not copied.
    ///
    /// # Errors
    /// A rank other than 1.
    pub fn into_dvector(self) -> Result<DVector<T>> {
        match self.shape.extents() {
            &[n] => {
                Ok(DVector::from_data(VecStorage::new(Dyn(n), nalgebra::Const::<1>, self.data)))
            }
            _ => bail!(Shape, "into_dvector: expected rank 1, got {}", self.shape),
        }
    }

    /// The tensor seen as a matrix: axis 0 by all other axes folded. Rank 0 is 1 × 1.
    pub fn as_matrix(&self) -> DMatrixView<'_, T> {
        self.view().as_matrix()
    }

    /// All elements seen as one nalgebra column.
    pub fn as_dvector(&self) -> DVectorView<'_, T> {
        DVectorView::from_slice(&self.data, self.data.len())
    }

    /// Takes this shape; the memory is kept if the length fits. The contents are stale.
    pub(crate) fn resize_for(&mut self, shape: Shape) -> Result<&mut [T]> {
        if !self.shape.same(&shape) {
            let n = checked_len(&shape)?;
            if self.data.len() != n {
                self.data.clear();
                self.data.try_reserve_exact(n).map_err(|_| no_memory(n))?;
                self.data.resize(n, T::default());
            }
            self.shape = shape;
        }
        Ok(&mut self.data)
    }

    /// Takes this shape and the elements of the buffer, which gets the memory the tensor had, made
    /// to fit. The buffer's contents are then stale.
    pub(crate) fn exchange(&mut self, shape: Shape, buffer: &mut Vec<T>) -> Result<()> {
        self.resize_for(shape)?;
        std::mem::swap(&mut self.data, buffer);
        Ok(())
    }

    /// Becomes a copy of the view; the memory is kept if the length fits.
    pub(crate) fn copy_from(&mut self, view: TensorView<'_, T>) -> Result<()> {
        self.resize_for(view.shape)?.copy_from_slice(view.data);
        Ok(())
    }
}

impl<T: Element> Default for Tensor<T> {
    /// No elements, shape `[0]`.
    fn default() -> Self {
        Tensor::vector(Vec::new())
    }
}

impl<'a, T: Element> TensorView<'a, T> {
    /// A view of a column-major slice.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn new(shape: impl Into<Shape>, data: &'a [T]) -> Result<Self> {
        let shape = shape.into();
        if checked_len(&shape)? != data.len() {
            bail!(Shape, "tensor view: {shape} has {} elements, got {}", shape.len(), data.len());
        }
        Ok(TensorView { shape, data })
    }

    /// Stands where there is no view yet.
    pub(crate) const NONE: TensorView<'static, T> = TensorView { shape: Shape::SCALAR, data: &[] };

    /// A view whose length the caller has checked; shape-only inputs have an empty slice.
    pub(crate) fn of(shape: Shape, data: &'a [T]) -> Self {
        debug_assert!(data.is_empty() || data.len() == shape.len());
        TensorView { shape, data }
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, axis 0 fastest.
    pub fn as_slice(&self) -> &'a [T] {
        self.data
    }

    /// The element at a position, `None` outside.
    pub fn get(&self, at: &[usize]) -> Option<T> {
        if at.len() != self.shape.rank() || at.iter().zip(self.shape.extents()).any(|(i, e)| i >= e)
        {
            return None;
        }
        let strides = self.shape.strides();
        self.data.get(at.iter().zip(strides).map(|(&i, s)| i * s).sum::<usize>()).copied()
    }

    /// The view as a matrix: axis 0 by all other axes folded. Rank 0 is 1 × 1.
    pub fn as_matrix(&self) -> DMatrixView<'a, T> {
        let rows = self.shape.dim(0).unwrap_or(1);
        let columns = self.shape.extents().iter().skip(1).product();
        DMatrixView::from_slice(self.data, rows, columns)
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Tensor<T> {
        Tensor { shape: self.shape, data: self.data.to_vec() }
    }
}

fn checked_len(shape: &Shape) -> Result<usize> {
    match shape.checked_len() {
        Some(n) => Ok(n),
        None if shape.is_known() => {
            bail!(Memory, "tensor: {shape} has more elements than memory can hold")
        }
        None => bail!(Shape, "tensor: {shape} has an unknown extent"),
    }
}

fn reserve<T>(n: usize) -> Result<Vec<T>> {
    let mut data = Vec::new();
    data.try_reserve_exact(n).map_err(|_| no_memory(n))?;
    Ok(data)
}

fn no_memory(n: usize) -> Error {
    Error::new(ErrorKind::Memory, format!("tensor: no memory for {n} elements"))
}

impl<T: Element> From<DMatrix<T>> for Tensor<T> {
    /// Rank 2; the buffer moves, nothing is copied.
    fn from(m: DMatrix<T>) -> Self {
        let shape = [m.nrows(), m.ncols()].into();
        Tensor { shape, data: m.data.into() }
    }
}

impl<T: Element> From<DVector<T>> for Tensor<T> {
    /// Rank 1; the buffer moves, nothing is copied.
    fn from(v: DVector<T>) -> Self {
        Tensor::vector(v.data.into())
    }
}

impl<T: Element> From<T> for Tensor<T> {
    fn from(x: T) -> Self {
        Tensor::scalar(x)
    }
}

impl<'a, T: Element> From<&'a Tensor<T>> for TensorView<'a, T> {
    fn from(t: &'a Tensor<T>) -> Self {
        t.view()
    }
}

impl<'a, T: Element> From<&'a DMatrix<T>> for TensorView<'a, T> {
    fn from(m: &'a DMatrix<T>) -> Self {
        TensorView { shape: [m.nrows(), m.ncols()].into(), data: m.as_slice() }
    }
}

impl<'a, T: Element> From<&'a DVector<T>> for TensorView<'a, T> {
    fn from(v: &'a DVector<T>) -> Self {
        TensorView { shape: [v.len()].into(), data: v.as_slice() }
    }
}

impl<'a, T: Element> From<&'a T> for TensorView<'a, T> {
    fn from(x: &'a T) -> Self {
        TensorView { shape: Shape::SCALAR, data: std::slice::from_ref(x) }
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    /// The shape and the first numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        write!(f, "Tensor {} {:?}", self.shape, &self.data[..self.data.len().min(SHOWN)])?;
        if self.data.len() > SHOWN { f.write_str(" …") } else { Ok(()) }
    }
}
