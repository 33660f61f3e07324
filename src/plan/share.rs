//! What is worth another thread: work that takes much longer than waking one, in parts that do not
//! show in any bit.

use super::{Code, Operand, Report, Shared};
use crate::kernel::map::BLOCK;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::Units;

/// Floating-point operations of a product below which a part is not worth a thread: some 10 µs.
const PRODUCT: usize = 1 << 20;
/// The same for elementwise operations and reductions, and for the numbers they move.
const ELEMENTWISE: usize = 1 << 16;
/// Parameters of an optimizer step: each moves up to seven words.
const PARAMETERS: usize = 1 << 14;

/// How a team of `threads` shares an instruction.
pub(super) fn shared<T: Scalar>(
    code: &Code<T>,
    inputs: &[Shape],
    output: &Operand,
    threads: usize,
) -> Shared {
    let (units, worth) = match code {
        Code::Map(code) => {
            let moved = code.inputs.len() + code.n_outputs;
            let work = code.len.saturating_mul(code.steps.len() + moved);
            (Units::Contiguous(code.len.div_ceil(BLOCK)), work / ELEMENTWISE)
        }
        Code::Rows(pass) => {
            (Units::Contiguous(pass.n_blocks()), pass.forward.flops() / ELEMENTWISE)
        }
        Code::Product(product) => (Units::Contiguous(product.units()), product.flops() / PRODUCT),
        Code::Op(op, _) | Code::Reduce(op, _) => {
            let (op, n) = (op.primitive(), output.shape.len());
            let moved = inputs.iter().map(Shape::len).fold(n, usize::saturating_add);
            let flops = op.flops(inputs, &output.shape);
            // Of a value that does not fall into its units, threads share nothing.
            let units = Some(op.units(inputs)).filter(|units| units.of(n).is_some());
            let worth = (flops / PRODUCT).max(moved / ELEMENTWISE);
            (units.unwrap_or(Units::Contiguous(1)), worth)
        }
    };
    Shared { units, parts: threads.min(units.count()).min(worth).max(1) }
}

/// How many threads the work of all shards is worth.
pub(crate) fn worth_threads(report: &Report) -> usize {
    (report.flops / PRODUCT).max(report.bytes_written / size_of::<f32>() / ELEMENTWISE)
}

/// Into how many parts a team shares an optimizer step.
pub(crate) fn parts_of_update(n_parameters: usize, threads: usize) -> usize {
    threads.min(n_parameters / PARAMETERS).max(1)
}
