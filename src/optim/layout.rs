//! Variables one after the other in a flat slice: from a session, to it, and as feeds.

use crate::error::{Result, bail};
use crate::run::Session;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::{AsNode, Expr, Feed, Placeholder, Var};
use crate::tensor::TensorView;
use std::ops::Range;

/// Which variables, and where each begins and ends.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    variables: Vec<Var>,
    places: Vec<(Shape, Range<usize>)>,
}

impl Layout {
    pub(super) fn of<T: Scalar>(variables: &[Expr<'_, T>]) -> Self {
        let mut end = 0;
        let place = |w: &Expr<'_, T>| {
            let start = end;
            end += w.shape().len();
            (w.shape(), start..end)
        };
        let places = variables.iter().map(place).collect();
        Layout { variables: variables.iter().map(|w| w.var()).collect(), places }
    }

    pub(super) fn variables(&self) -> &[Var] {
        &self.variables
    }

    /// The number of elements of all.
    pub(super) fn len(&self) -> usize {
        self.places.last().map_or(0, |(_, range)| range.end)
    }

    /// The shape and place of a variable.
    pub(super) fn find(&self, variable: impl AsNode) -> Result<(Shape, Range<usize>)> {
        match self.variables.iter().position(|w| w.node() == variable.node()) {
            Some(at) => Ok(self.places[at].clone()),
            None => bail!(Argument, "expected one of the variables that are moved, got another"),
        }
    }

    /// The variables' present values.
    pub(super) fn gather<T: Scalar>(&self, session: &Session<T>) -> Result<Vec<T>> {
        let mut x = Vec::with_capacity(self.len());
        for &variable in &self.variables {
            x.extend_from_slice(session.view(variable)?.as_slice());
        }
        Ok(x)
    }

    /// Gives each variable its part of `w`.
    pub(super) fn assign<T: Scalar>(&self, session: &mut Session<T>, w: &[T]) -> Result<()> {
        for (&variable, (shape, range)) in self.variables.iter().zip(&self.places) {
            session.assign(variable, TensorView::of(*shape, &w[range.clone()]))?;
        }
        Ok(())
    }

    /// To each placeholder its variable's part of `v`.
    pub(super) fn feeds<'a, T: Scalar>(
        &'a self,
        placeholders: &'a [Placeholder],
        v: &'a [T],
    ) -> impl Iterator<Item = Feed<'a, T>> {
        let part =
            |(shape, range): &(Shape, Range<usize>)| TensorView::of(*shape, &v[range.clone()]);
        placeholders.iter().zip(self.places.iter().map(part)).map(|(p, part)| p.feed(part))
    }
}
