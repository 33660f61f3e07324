//! Parts of a value that lie in one piece, and zeros with such a part in them: where loops alone
//! read them, they read them from the value or the part itself, and nothing is copied.

use super::program::{Def, Program, ValueId};
use crate::kernel::map::Access;
use crate::scalar::{DType, Scalar};
use crate::tape::op::{Op, piece};

/// For each value that need not be computed, what to read in its place, and how.
pub(super) fn parts<T: Scalar>(program: &Program<T>) -> Vec<Option<(ValueId, Access)>> {
    let mut parts: Vec<_> = (0..program.values.len() as ValueId)
        .map(|id| part(program, id).filter(|_| program.guards(id).is_empty()))
        .collect();
    program.results().for_each(|id| parts[id as usize] = None);
    for (value, used) in program.values.iter().zip(program.used()) {
        for &input in &value.inputs {
            let in_order = program.value(input).shape == value.shape;
            if used && (value.elementwise().is_none() || !in_order) {
                parts[input as usize] = None;
            }
        }
    }
    parts
}

/// What this value is part of, or has in it.
fn part<T: Scalar>(program: &Program<T>, id: ValueId) -> Option<(ValueId, Access)> {
    let value = program.value(id);
    let Def::Op(op) = &value.def else { return None };
    let &from = value.inputs.first()?;
    let source = program.value(program.root(from));
    // Nothing else, so that no other pass has to know of parts.
    let is_plain = source.elementwise().is_some()
        || !source.is_computed()
        || matches!(source.def, Def::Op(Op::SoftmaxResidual(_)));
    if !is_plain || value.dtype != DType::Float {
        return None;
    }
    let access = match op {
        Op::Slice(op) => Access::Part(piece(&op.spans, &program.value(from).shape)?.start),
        Op::Unslice(op) => Access::Within(piece(&op.spans, &value.shape)?.start),
        _ => return None,
    };
    Some((from, access))
}
