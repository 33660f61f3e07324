//! A hash of what a graph records: the same in every process and on every machine, because no
//! address goes into it.

use super::Graph;
use super::op::{Leaf, Op};
use crate::scalar::Scalar;
use crate::shape::ANY;

impl<T: Scalar> Graph<T> {
    /// A hash of the ops, what parameterizes them, their inputs, shapes, guards and given names.
    /// The values of variables and constants and the hyperparameters of optimizers are not part of
    /// it, nor is what a user's op keeps inside. Cost: a line of text a node.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.text(T::NAME);
        for node in &self.nodes {
            hash.text(node.op.family());
            hash.text(node.op.primitive().name());
            match &node.op {
                Op::Leaf(Leaf::Literal(bits)) => hash.number(*bits),
                Op::Leaf(_) | Op::Effect(_) | Op::Custom(_) => {}
                op => hash.text(&format!("{op:?}")),
            }
            hash.numbers(node.inputs.iter().map(|&i| u64::from(i)));
            let extents = node.shape.extents().iter();
            hash.numbers(extents.map(|&e| if e == ANY { u64::MAX } else { e as u64 }));
            hash.number(node.dtype as u64);
            hash.number(u64::from(node.guard));
            hash.text(node.name.as_deref().unwrap_or_default());
        }
        for guard in &self.guards {
            let of = [guard.outer, guard.predicate, u32::from(guard.holds)];
            hash.numbers(of.into_iter().map(u64::from));
        }
        hash.0
    }
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo), because std's hashes may change with its version.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, x: u64) {
        self.bytes(&x.to_le_bytes());
    }

    /// The length last, so that no list is the beginning of another.
    fn numbers(&mut self, list: impl Iterator<Item = u64>) {
        let mut n = 0;
        for x in list {
            self.number(x);
            n += 1;
        }
        self.number(n);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.number(text.len() as u64);
    }
}
