//! The samples: what is recorded, and the formula of its value.

use crate::tape::op::Span;
use crate::tape::{Expr, IndexExpr};
use crate::{ANY, Index, Shape, Tensor};

/// An op's value for a position of the result, given the inputs.
pub type Formula = fn(&[Tensor], &[Index], &[usize]) -> f64;

pub struct Sample {
    pub name: &'static str,
    /// The shapes of the float inputs.
    pub shapes: &'static [&'static [usize]],
    /// The shape and the elements of the index input, if there is one.
    pub indices: (&'static [usize], &'static [Index]),
    pub record: for<'t> fn(&[Expr<'t>], IndexExpr<'t>) -> Expr<'t>,
    pub formula: Formula,
    /// Whether axis 0 of all inputs of the last node may be cut.
    pub splits: bool,
}

const NONE: (&[usize], &[Index]) = (&[1], &[0]);

fn at(x: &Tensor, position: &[usize]) -> f64 {
    x.get(position).expect("a position inside")
}

/// The element of x whose place in memory is that of `position` in `shape`.
fn same_place(x: &Tensor, shape: &[usize], position: &[usize]) -> f64 {
    let strides = Shape::new(shape).unwrap().strides();
    x.as_slice()[position.iter().zip(strides).map(|(p, s)| p * s).sum::<usize>()]
}

pub const SAMPLES: &[Sample] = &[
    Sample {
        name: "reshape of rows",
        shapes: &[&[5, 3, 4]],
        indices: NONE,
        record: |x, _| x[0].reshape([ANY, 4, 3]),
        formula: |x, _, p| same_place(&x[0], &[5, 4, 3], p),
        splits: true,
    },
    Sample {
        name: "reshape that infers the columns",
        shapes: &[&[4, 6]],
        indices: NONE,
        record: |x, _| x[0].reshape([8, ANY]),
        formula: |x, _, p| same_place(&x[0], &[8, 3], p),
        splits: false,
    },
    Sample {
        name: "reshape that infers the rows",
        shapes: &[&[4, 6]],
        indices: NONE,
        record: |x, _| x[0].reshape([ANY, 3]),
        formula: |x, _, p| same_place(&x[0], &[8, 3], p),
        splits: false,
    },
    Sample {
        name: "flatten",
        shapes: &[&[5, 2, 3, 2]],
        indices: NONE,
        record: |x, _| x[0].flatten(),
        formula: |x, _, p| same_place(&x[0], &[5, 12], p),
        splits: true,
    },
    Sample {
        name: "reshape_like",
        shapes: &[&[4, 6], &[4, 3, 2]],
        indices: NONE,
        record: |x, _| x[0].reshape_like(x[1]),
        formula: |x, _, p| same_place(&x[0], &[4, 3, 2], p),
        splits: true,
    },
    Sample {
        name: "permute that keeps rows",
        shapes: &[&[5, 3, 4]],
        indices: NONE,
        record: |x, _| x[0].permute(&[0, -1, 1]),
        formula: |x, _, p| at(&x[0], &[p[0], p[2], p[1]]),
        splits: true,
    },
    Sample {
        name: "permute in a cycle",
        shapes: &[&[2, 3, 4]],
        indices: NONE,
        record: |x, _| x[0].permute(&[2, 0, 1]),
        formula: |x, _, p| at(&x[0], &[p[1], p[2], p[0]]),
        splits: false,
    },
    Sample {
        name: "transpose",
        shapes: &[&[9, 11]],
        indices: NONE,
        record: |x, _| x[0].t(),
        formula: |x, _, p| at(&x[0], &[p[1], p[0]]),
        splits: false,
    },
    Sample {
        name: "broadcast_to with new axes",
        shapes: &[&[3, 1]],
        indices: NONE,
        record: |x, _| x[0].broadcast_to([2, ANY, 4]),
        formula: |x, _, p| at(&x[0], &[p[1], 0]),
        splits: false,
    },
    Sample {
        name: "broadcast_to of columns",
        shapes: &[&[5, 1, 2]],
        indices: NONE,
        record: |x, _| x[0].broadcast_to([ANY, 3, 2]),
        formula: |x, _, p| at(&x[0], &[p[0], 0, p[2]]),
        splits: true,
    },
    Sample {
        name: "broadcast_to of one row",
        shapes: &[&[1, 2]],
        indices: NONE,
        record: |x, _| x[0].broadcast_to([3, 2]),
        formula: |x, _, p| at(&x[0], &[0, p[1]]),
        splits: false,
    },
    Sample {
        name: "slice of columns",
        shapes: &[&[4, 7]],
        indices: NONE,
        record: |x, _| x[0].slice((.., Span::new(1, -2))),
        formula: |x, _, p| at(&x[0], &[p[0], p[1] + 1]),
        splits: true,
    },
    Sample {
        name: "slice with steps both ways",
        shapes: &[&[7, 8]],
        indices: NONE,
        record: |x, _| x[0].slice((Span::from(1..).by(3), Span::new(-2, 0).by(-2))),
        formula: |x, _, p| at(&x[0], &[1 + 3 * p[0], 6 - 2 * p[1]]),
        splits: false,
    },
    Sample {
        name: "slice of nothing",
        shapes: &[&[4, 3]],
        indices: NONE,
        record: |x, _| x[0].slice((.., 3..)),
        formula: |_, _, _| unreachable!("no elements"),
        splits: true,
    },
    Sample {
        name: "index_axis from the end",
        shapes: &[&[4, 3, 2]],
        indices: NONE,
        record: |x, _| x[0].index_axis(1, -1),
        formula: |x, _, p| at(&x[0], &[p[0], 2, p[1]]),
        splits: true,
    },
    Sample {
        name: "flip",
        shapes: &[&[3, 4, 2]],
        indices: NONE,
        record: |x, _| x[0].flip(&[0, -1]),
        formula: |x, _, p| at(&x[0], &[2 - p[0], p[1], 1 - p[2]]),
        splits: false,
    },
    Sample {
        name: "middle of a split",
        shapes: &[&[4, 7]],
        indices: NONE,
        record: |x, _| x[0].split(1, &[2, ANY, 1, 0])[1],
        formula: |x, _, p| at(&x[0], &[p[0], p[1] + 2]),
        splits: true,
    },
    Sample {
        name: "part of a split after the open one",
        shapes: &[&[9, 2]],
        indices: NONE,
        record: |x, _| x[0].split(0, &[ANY, 3, 1])[1],
        formula: |x, _, p| at(&x[0], &[p[0] + 5, p[1]]),
        splits: false,
    },
    Sample {
        name: "empty end of a split",
        shapes: &[&[4, 7]],
        indices: NONE,
        record: |x, _| x[0].split(1, &[2, ANY, 0])[2],
        formula: |_, _, _| unreachable!("no elements"),
        splits: true,
    },
    Sample {
        name: "concat of columns",
        shapes: &[&[4, 2], &[4, 1], &[4, 3]],
        indices: NONE,
        record: |x, _| x[0].tape().concat(x, -1),
        formula: |x, _, p| match p[1] {
            0..2 => at(&x[0], p),
            2 => at(&x[1], &[p[0], 0]),
            j => at(&x[2], &[p[0], j - 3]),
        },
        splits: true,
    },
    Sample {
        name: "concat of rows",
        shapes: &[&[2, 3], &[4, 3]],
        indices: NONE,
        record: |x, _| x[0].tape().concat(x, 0),
        formula: |x, _, p| match p[0] {
            0..2 => at(&x[0], p),
            i => at(&x[1], &[i - 2, p[1]]),
        },
        splits: false,
    },
    Sample {
        name: "concat of as many rows",
        shapes: &[&[3, 2], &[3, 2]],
        indices: NONE,
        record: |x, _| x[0].tape().concat(x, 0),
        formula: |x, _, p| at(&x[p[0] / 3], &[p[0] % 3, p[1]]),
        splits: false,
    },
    Sample {
        name: "stack",
        shapes: &[&[4, 3], &[4, 3]],
        indices: NONE,
        record: |x, _| x[0].tape().stack(x, 1),
        formula: |x, _, p| at(&x[p[1]], &[p[0], p[2]]),
        splits: true,
    },
    Sample {
        name: "pad",
        shapes: &[&[4, 3, 2]],
        indices: NONE,
        record: |x, _| x[0].pad(&[(0, 0), (1, 2), (3, 0)], 0.0),
        formula: |x, _, p| match (p[1], p[2]) {
            (1..4, 3..) => at(&x[0], &[p[0], p[1] - 1, p[2] - 3]),
            _ => 0.0,
        },
        splits: true,
    },
    Sample {
        name: "pad of rows",
        shapes: &[&[4, 3]],
        indices: NONE,
        record: |x, _| x[0].pad(&[(2, 1), (0, 0)], 0.0),
        formula: |x, _, p| if (2..6).contains(&p[0]) { at(&x[0], &[p[0] - 2, p[1]]) } else { 0.0 },
        splits: false,
    },
    Sample {
        name: "tile",
        shapes: &[&[4, 3]],
        indices: NONE,
        record: |x, _| x[0].tile(&[1, 3]),
        formula: |x, _, p| at(&x[0], &[p[0], p[1] % 3]),
        splits: true,
    },
    Sample {
        name: "tile of rows",
        shapes: &[&[2, 3]],
        indices: NONE,
        record: |x, _| x[0].tile(&[4, 2]),
        formula: |x, _, p| at(&x[0], &[p[0] % 2, p[1] % 3]),
        splits: false,
    },
    Sample {
        name: "take of columns",
        shapes: &[&[4, 5]],
        indices: (&[2, 3], &[4, 0, 1, 4, 4, 2]),
        record: |x, indices| x[0].take(1, indices),
        formula: |x, indices, p| at(&x[0], &[p[0], indices[p[1] + 2 * p[2]] as usize]),
        splits: false,
    },
    Sample {
        name: "take of rows, some twice: an embedding",
        shapes: &[&[4, 5]],
        indices: (&[2, 3], &[3, 0, 1, 3, 3, 2]),
        record: |x, indices| x[0].take(0, indices),
        formula: |x, indices, p| at(&x[0], &[indices[p[0] + 2 * p[1]] as usize, p[2]]),
        splits: false,
    },
    Sample {
        name: "take of rows by one index",
        shapes: &[&[4, 5]],
        indices: (&[], &[3]),
        record: |x, indices| x[0].take(0, indices),
        formula: |x, _, p| at(&x[0], &[3, p[0]]),
        splits: false,
    },
    Sample {
        name: "gather",
        shapes: &[&[4, 5]],
        indices: (&[4, 2], &[4, 0, 1, 4, 4, 2, 0, 0]),
        record: |x, indices| x[0].gather(1, indices),
        formula: |x, indices, p| at(&x[0], &[p[0], indices[p[0] + 4 * p[1]] as usize]),
        splits: true,
    },
    Sample {
        name: "gather along rows",
        shapes: &[&[4, 2, 2]],
        indices: (&[3, 2, 2], &[3, 3, 0, 1, 2, 3, 0, 0, 0, 3, 1, 1]),
        record: |x, indices| x[0].gather(-3, indices),
        formula: |x, indices, p| {
            at(&x[0], &[indices[p[0] + 3 * p[1] + 6 * p[2]] as usize, p[1], p[2]])
        },
        splits: false,
    },
    Sample {
        name: "scatter_add",
        shapes: &[&[4, 2], &[3, 2]],
        indices: (&[3], &[3, 1, 3]),
        record: |x, indices| x[0].scatter_add(0, indices, x[1]),
        formula: |x, indices, p| {
            let hits = (0..3).filter(|&j| indices[j] as usize == p[0]);
            at(&x[0], p) + hits.map(|j| at(&x[1], &[j, p[1]])).sum::<f64>()
        },
        splits: true,
    },
    Sample {
        name: "tril of matrices",
        shapes: &[&[3, 4, 5]],
        indices: NONE,
        record: |x, _| x[0].tril(1),
        formula: |x, _, p| if p[2] <= p[1] + 1 { at(&x[0], p) } else { 0.0 },
        splits: true,
    },
    Sample {
        name: "triu of a matrix",
        shapes: &[&[4, 5]],
        indices: NONE,
        record: |x, _| x[0].triu(-1),
        formula: |x, _, p| if p[1] + 1 >= p[0] { at(&x[0], p) } else { 0.0 },
        splits: false,
    },
];
