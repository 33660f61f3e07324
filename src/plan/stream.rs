//! A full-batch regression reads its data twice: X·w, then Xᵀ·r of the residuals. Here both and the
//! loop between them become one pass over the rows of X. No bit changes: both products add up in
//! the order that the pass keeps.

use super::fuse::Item;
use super::program::{Def, Program, ValueId};
use crate::kernel::rows::RowPass;
use crate::scalar::{DType, Scalar};
use crate::tape::op::{MatMul, Op};

/// Elements of a matrix that no cache below the last one holds.
const LARGE: usize = 1 << 18;

/// The items with every chain product, loop, transposed product as one.
pub(super) fn stream<T: Scalar>(program: &Program<T>, mut items: Vec<Item>) -> Vec<Item> {
    let mut at = 0;
    while at < items.len() {
        if let Some((forward, backward)) = chain(program, &items, at)
            && let (&Item::One(first), &Item::One(last)) = (&items[forward], &items[backward])
            && let Item::Loop(members) = &mut items[at]
        {
            let members = std::mem::take(members);
            items[at] = Item::Rows { forward: first, members, backward: last };
            items.remove(backward);
            items.remove(forward);
        } else {
            at += 1;
        }
    }
    items
}

/// Around the loop at `at`: the product it reads and the product that reads it.
fn chain<T: Scalar>(program: &Program<T>, items: &[Item], at: usize) -> Option<(usize, usize)> {
    let Item::Loop(members) = &items[at] else { return None };
    let reads = |id: ValueId, of: ValueId| {
        program.value(id).inputs.iter().any(|&input| program.memory(input).0 == of)
    };
    let forward = (0..at).rev().find(|&i| match items[i] {
        Item::One(id) => {
            is_column(program, id, false) && members.iter().any(|&member| reads(member, id))
        }
        _ => false,
    })?;
    let Item::One(first) = items[forward] else { return None };
    let same_guards = |id: ValueId| program.guards(id) == program.guards(members[0]);
    let rows = program.value(first).shape.len();
    if program.value(members[0]).shape.len() != rows || !same_guards(first) {
        return None;
    }
    // The first product moves down to the loop: nothing between may want it, or give to the loop
    // what comes later than it.
    let ids = |item: &Item| match item {
        Item::One(id) => vec![*id],
        Item::Loop(ids) => ids.clone(),
        Item::Rows { forward, members, backward } => {
            [&[*forward], members.as_slice(), &[*backward]].concat()
        }
    };
    if items[forward + 1..at].iter().flat_map(ids).any(|id| reads(id, first)) {
        return None;
    }
    let x = program.value(first).inputs[0];
    let backward = (at + 1..items.len()).find(|&i| match items[i] {
        Item::One(id) => {
            let inputs = &program.value(id).inputs;
            is_column(program, id, true)
                && same_guards(id)
                && inputs[0] == x
                && members.contains(&program.root(inputs[1]))
        }
        _ => false,
    })?;
    Some((forward, backward))
}

/// Whether it is X·w, or Xᵀ·r, of a large matrix and a column.
fn is_column<T: Scalar>(program: &Program<T>, id: ValueId, transposed: bool) -> bool {
    let value = program.value(id);
    let Def::Op(Op::MatMul(MatMul { ta, tb: false })) = value.def else { return false };
    let x = program.value(value.inputs[0]);
    ta == transposed
        && x.dtype == DType::Float
        && x.shape.rank() == 2
        && value.shape.rank() == 2
        && value.shape.dim(1) == Some(1)
        && x.shape.len() >= LARGE
        && x.shape.dim(0) > Some(RowPass::<T>::ROWS)
}
