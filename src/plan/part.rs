//! Parts of a value that lie in one piece, and zeros with such a part in them: they are read from the
//! value or the part itself, and nothing is copied.

use super::program::{Def, Program, ValueId};
use crate::kernel::map::Access;
use crate::scalar::{DType, Scalar};
use crate::tape::op::{Op, piece};

/// For each value that need not be computed, what to read in its place, and how.
pub(super) fn parts<T: Scalar>(program: &Program<T>) -> Vec<Option<(ValueId, Access)>> {
    let mut parts: Vec<_> = (0..program.values.len() as ValueId)
        .map(|id| part(program, id).filter(|_| program.guards(id).is_empty()))
        .collect();
    program.results().for_each(|id| parts[program.root(id) as usize] = None);
    for (value, used) in program.values.iter().zip(program.used()) {
        for &input in &value.inputs {
            // Loops find any part; all else, what lies in memory that the plan knows.
            let in_order = program.value(input).shape == value.shape;
            let by_loop = value.elementwise().is_some() && in_order;
            let part = &mut parts[input as usize];
            if used && !by_loop && !part.is_some_and(|(from, how)| is_known(program, from, how)) {
                *part = None;
            }
        }
    }
    parts
}

/// Whether an instruction that is no loop can read this part where it lies.
fn is_known<T: Scalar>(program: &Program<T>, from: ValueId, how: Access) -> bool {
    let of = &program.value(program.root(from)).def;
    matches!(how, Access::Part(_)) && matches!(of, Def::Op(_) | Def::Variable(_) | Def::Combined(_))
}

/// What this value is part of, or has in it.
fn part<T: Scalar>(program: &Program<T>, id: ValueId) -> Option<(ValueId, Access)> {
    let value = program.value(id);
    let Def::Op(op) = &value.def else { return None };
    let &from = value.inputs.first()?;
    // A part of a part is computed.
    let source = &program.value(program.root(from)).def;
    if value.dtype != DType::Float || matches!(source, Def::Op(Op::Slice(_) | Op::Unslice(_))) {
        return None;
    }
    let access = match op {
        Op::Slice(op) => Access::Part(piece(&op.spans, &program.value(from).shape)?.start),
        Op::Unslice(op) => Access::Within(piece(&op.spans, &value.shape)?.start),
        _ => return None,
    };
    Some((from, access))
}
