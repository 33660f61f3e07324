//! How windows of convolutions and poolings are laid over rows and columns: padding, and the
//! geometry that follows from it.

use crate::error::{Result, bail};
use crate::kernel::window::Axis;
use crate::shape::ANY;

/// What lies around an image, for each of the `N` axes a window moves along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding<const N: usize> {
    /// Nothing: windows lie within the image.
    Valid,
    /// As much that n positions with stride s have ⌈n / s⌉ windows; what is odd is after the
    /// image, as in TensorFlow.
    Same,
    /// So many positions before and after.
    Explicit([(usize, usize); N]),
}

impl Padding<1> {
    /// The same along rows, with one column.
    pub(super) fn on_rows(self) -> Padding<2> {
        match self {
            Padding::Valid => Padding::Valid,
            Padding::Same => Padding::Same,
            Padding::Explicit([rows]) => Padding::Explicit([rows, (0, 0)]),
        }
    }
}

/// One axis of a window: its extent, and how it moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moves {
    /// "rows" or "columns", for messages.
    pub what: &'static str,
    pub taps: usize,
    pub stride: usize,
    pub dilation: usize,
    pub padding: Padding<1>,
}

impl Moves {
    /// Both axes of windows of these extents.
    pub(super) fn both(
        taps: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        padding: Padding<2>,
    ) -> [Moves; 2] {
        [("rows", 0), ("columns", 1)].map(|(what, i)| Moves {
            what,
            taps: taps[i],
            stride: stride[i],
            dilation: dilation[i],
            padding: match padding {
                Padding::Valid => Padding::Valid,
                Padding::Same => Padding::Same,
                Padding::Explicit(sides) => Padding::Explicit([sides[i]]),
            },
        })
    }

    /// From the first tap to the last, of a window that has at least one.
    fn span(&self) -> Result<usize> {
        let Moves { what, taps, stride, dilation, .. } = *self;
        if stride == 0 || dilation == 0 {
            bail!(Shape, "expected a positive stride and dilation, got {stride} and {dilation}");
        }
        match taps.checked_sub(1).map(|taps| taps.checked_mul(dilation)) {
            Some(Some(span)) if span < ANY / 4 => Ok(span),
            _ => bail!(Shape, "expected a window of some {what}, got {taps}"),
        }
    }

    /// Positions before and after `input` ones.
    fn sides(&self, input: usize, span: usize) -> (usize, usize) {
        match self.padding {
            Padding::Valid => (0, 0),
            Padding::Same => {
                let reach = (input.div_ceil(self.stride).max(1) - 1) * self.stride + span + 1;
                let total = reach.saturating_sub(input);
                (total / 2, total - total / 2)
            }
            Padding::Explicit([sides]) => sides,
        }
    }

    /// The windows over `input` known positions.
    pub(super) fn axis(&self, input: usize) -> Result<Axis> {
        let Moves { what, taps, stride, dilation, .. } = *self;
        let span = self.span()?;
        let (before, after) = self.sides(input, span);
        let padded = before.checked_add(after).and_then(|sides| sides.checked_add(input));
        match padded.filter(|&padded| padded < ANY / 4) {
            Some(padded) if padded > span => {
                let output = (padded - span - 1) / stride + 1;
                Ok(Axis { input, output, taps, stride, dilation, before })
            }
            Some(padded) => {
                bail!(Shape, "expected at least {} {what}, got {padded} with padding", span + 1)
            }
            None => bail!(Shape, "expected fewer {what}, got {input} + {before} + {after}"),
        }
    }

    /// How many windows there are, [`ANY`] if that is not known.
    pub(super) fn outputs(&self, input: usize) -> Result<usize> {
        if self.taps == ANY {
            return Ok(ANY);
        }
        self.span()?;
        if input == ANY { Ok(ANY) } else { Ok(self.axis(input)?.output) }
    }

    /// The positions over which there are `output` windows, and `extra` ones after them.
    pub(super) fn inputs(&self, output: usize, extra: usize) -> Result<usize> {
        let Moves { what, stride, .. } = *self;
        if extra >= stride.max(1) {
            bail!(Shape, "expected fewer extra {what} than the stride of {stride}, got {extra}");
        }
        if self.taps == ANY {
            return Ok(ANY);
        }
        let span = self.span()?;
        if output == ANY {
            return Ok(ANY);
        }
        let end = output.checked_mul(stride).and_then(|end| end.checked_add(span + 1));
        let Some(end) = end.filter(|&end| output > 0 && end < ANY / 4) else {
            bail!(Shape, "expected some {what}, got {output}")
        };
        let input = match self.padding {
            Padding::Same if extra == 0 => Some(output * stride),
            Padding::Same => bail!(Shape, "expected no extra {what} with same padding"),
            _ => {
                let (before, after) = self.sides(0, span);
                (end - stride + extra).checked_sub(before.saturating_add(after))
            }
        };
        match input {
            Some(input) => Ok(input),
            None => bail!(Shape, "expected less padding than {} {what}", end - stride + extra),
        }
    }
}

/// Whether two extents may be the same.
pub(super) fn fits(a: usize, b: usize) -> bool {
    a == b || a == ANY || b == ANY
}
