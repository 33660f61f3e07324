//! A window that moves along an axis: which elements of the input each output sees. Knows nothing
//! of what is computed of them.

use std::ops::Range;

/// One axis of an image and the window along it. All extents are known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Axis {
    /// Positions of the input.
    pub input: usize,
    /// Positions of the output.
    pub output: usize,
    /// Positions of the window.
    pub taps: usize,
    /// From a window to the next.
    pub stride: usize,
    /// From a tap to the next.
    pub dilation: usize,
    /// How far the first window reaches before the input.
    pub before: usize,
}

impl Axis {
    /// Where tap `tap` of the window `output` lies on the input; `None` in the border.
    #[inline]
    pub(crate) fn input_of(&self, output: usize, tap: usize) -> Option<usize> {
        let at = output * self.stride + tap * self.dilation;
        at.checked_sub(self.before).filter(|&at| at < self.input)
    }

    /// The window whose tap `tap` lies at `input`, if there is one.
    #[inline]
    pub(crate) fn output_of(&self, input: usize, tap: usize) -> Option<usize> {
        let at = (input + self.before).checked_sub(tap * self.dilation)?;
        (at.is_multiple_of(self.stride) && at / self.stride < self.output)
            .then_some(at / self.stride)
    }

    /// The positions of the input from the first tap of the window `output` to the last.
    pub(crate) fn inputs_of(&self, output: usize) -> Range<usize> {
        let start = (output * self.stride).saturating_sub(self.before);
        let end = (output * self.stride + self.span() + 1).saturating_sub(self.before);
        start..end.min(self.input)
    }

    /// The windows between first and last of which a tap may lie at `input`.
    pub(crate) fn outputs_of(&self, input: usize) -> Range<usize> {
        let at = input + self.before;
        let start = at.saturating_sub(self.span()).div_ceil(self.stride);
        start..(at / self.stride + 1).min(self.output)
    }

    /// From the first tap to the last.
    pub(crate) fn span(&self) -> usize {
        (self.taps - 1) * self.dilation
    }
}
