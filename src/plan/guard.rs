//! Which values only a branch of a conditional needs. Those wait for its predicate, and are
//! computed only where it says so.

use super::program::{Def, Program, ValueId};
use crate::scalar::Scalar;

/// Predicates, each with whether it has to hold, outer ones first: an inner one is computed only
/// where the outer ones are as they have to be.
pub(super) type Guards = Vec<(ValueId, bool)>;

/// For each value, what all its users stand under; nothing at all without conditionals.
pub(super) fn guards<T: Scalar>(program: &Program<T>) -> Vec<Guards> {
    if !program.values.iter().any(|value| taken_if(&value.def, 1).is_some()) {
        return vec![];
    }
    let mut guards: Vec<Option<Guards>> = vec![None; program.values.len()];
    program.results().for_each(|id| guards[id as usize] = Some(vec![]));
    for (id, value) in program.values.iter().enumerate().rev() {
        let Some(own) = guards[id].take() else { continue };
        for (i, &input) in value.inputs.iter().enumerate() {
            let mut under = own.clone();
            if let Some(holds) = taken_if(&value.def, i) {
                let guard = (program.root(value.inputs[0]), holds);
                if !under.contains(&guard) {
                    under.push(guard);
                }
            }
            match &mut guards[input as usize] {
                // Those that two users share are in either's order: each stands behind what its
                // predicate is computed under, which both have before it.
                Some(known) => known.retain(|guard| under.contains(guard)),
                unknown => *unknown = Some(under),
            }
        }
        guards[id] = Some(own);
    }
    guards.into_iter().map(Option::unwrap_or_default).collect()
}

fn taken_if<T: Scalar>(def: &Def<T>, i: usize) -> Option<bool> {
    match def {
        Def::Op(op) => op.taken_if(i),
        _ => None,
    }
}
