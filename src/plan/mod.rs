//! COMPILE: fetches and fed shapes become a straight list of instructions over one arena.
//! Each pass is a function in its own file; knows nothing of how instructions are run.

mod fuse;
mod guard;
mod layout;
mod lower;
mod memory;
mod part;
mod program;
mod report;
mod shard;
mod share;
mod simplify;
mod stream;

pub(crate) use layout::Layout;
pub(crate) use lower::{Need, needs, not_fed, run_shape};
pub use report::{Report, Work};
pub(crate) use shard::{Cut, FeedFrom, FetchedAt, Level, OncePlan, Sharded, is_batch, shard};
pub(crate) use share::{parts_of_update, worth_threads};

use crate::error::Result;
use crate::kernel::arena::Frame;
use crate::kernel::gemm::Product;
use crate::kernel::map::MapLoop;
use crate::kernel::reduce::Reducer;
use crate::kernel::rows::RowPass;
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Define, Op, Rule, Units};
use crate::tape::{Graph, NodeId};
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Which passes run; tests switch them off one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Passes {
    /// Rewrites that keep every value: neutral elements, broadcasts to the own shape, constants.
    pub simplify: bool,
    /// Elementwise chains in one loop.
    pub fuse: bool,
    /// Buffers share memory when their lives do not overlap.
    pub share_memory: bool,
    /// A matrix that is multiplied by a vector, and then its transpose by what a loop makes of
    /// the product, is read once, block of rows by block of rows.
    pub stream: bool,
}

impl Passes {
    /// All of them.
    pub const ALL: Passes = Passes { simplify: true, fuse: true, share_memory: true, stream: true };
    /// Only what a plan cannot do without: pruning.
    pub const NONE: Passes =
        Passes { simplify: false, fuse: false, share_memory: false, stream: false };
}

/// What a run computes, for these fetches and shapes: a list of instructions and where every
/// value lives. Made by [`Session`](crate::Session), which keeps it for the next run.
#[derive(Debug)]
pub(crate) struct Plan<T: Scalar> {
    pub(crate) instructions: Vec<Instruction<T>>,
    pub(crate) fetches: Vec<FetchFrom>,
    pub(crate) effects: Vec<EffectStep<T>>,
    pub(crate) constants: Vec<Arc<Tensor<T>>>,
    pub(crate) index_constants: Vec<Arc<Tensor<Index>>>,
    /// Elements of the arenas.
    pub(crate) arena: usize,
    pub(crate) index_arena: usize,
    /// Elements of the buffers that are exchanged for the memory of fetches.
    pub(crate) exchanged: Vec<usize>,
    /// What was asked for as partial results.
    pub(crate) partials: Block,
    /// Whether each feed's elements are read; those past the end are not.
    pub(crate) feeds_read: Vec<bool>,
    /// Variables that must have a value.
    pub(crate) reads: Vec<NodeId>,
    pub(crate) report: Report,
}

/// One call of a kernel.
#[derive(Debug)]
pub(crate) struct Instruction<T: Scalar> {
    pub(crate) code: Code<T>,
    pub(crate) inputs: Vec<Operand>,
    pub(crate) outputs: Vec<Operand>,
    /// Whether one of the outputs is a buffer that is exchanged.
    pub(crate) exchanges: bool,
    /// Of the float arena: what it writes is its scratch (for all parts), the sums of a loop's
    /// blocks, then its outputs; what it reads is its inputs, empty where they are elsewhere.
    pub(crate) floats: Frame,
    /// Of the index arena: the output, and the inputs in the same way.
    pub(crate) indices: Frame,
    pub(crate) shared: Shared,
    /// It runs only if these are so; to be looked at in this order, as the first that is not so
    /// may leave the others without a value.
    pub(crate) guards: Box<[Guard]>,
    /// The node it comes from (the last one, of a fused loop), for messages.
    pub(crate) source: NodeId,
}

/// A scalar that must not be 0, or must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) predicate: Operand,
    pub(crate) holds: bool,
    /// The node of the predicate, for reports.
    pub(crate) source: NodeId,
}

/// How threads share an instruction: `units` of its work, cut into `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) units: Units,
    pub(crate) parts: usize,
}

#[derive(Debug)]
pub(crate) enum Code<T: Scalar> {
    /// This op, and what finds its definition: a small op takes no longer than that is looked for.
    Op(Op<T>, Define<T>),
    /// This op, as a kernel that knows its shapes.
    Reduce(Op<T>, Box<Reducer>),
    Map(MapLoop<T>),
    Product(Box<Product>),
    Rows(Box<RowPass<T>>),
}

/// A value: where it is and its shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Operand {
    pub(crate) place: Place,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    /// The number of elements.
    pub(crate) len: usize,
}

/// Where a value lives. Only the executor knows what memory that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this element of the arena of its type.
    Arena(usize),
    /// The buffer of this number, floats, which a fetch exchanges for the caller's memory: large
    /// values are not copied.
    Exchanged(usize),
    /// At this element of the flat variables.
    Variable(usize),
    /// The constant of this number, of its type.
    Constant(usize),
    /// The feed of this number.
    Feed(usize),
    /// At this element of what shards have computed together.
    Combined(usize),
    /// Nowhere: only its shape is asked for.
    Nothing,
}

/// Where a fetch finds its value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FetchFrom {
    Value(Operand),
    /// The number of the optimizer step that the effect of this number takes.
    StepOf(usize),
}

impl<T: Scalar> Plan<T> {
    /// Whether a run reads the elements of this feed.
    pub(crate) fn reads_feed(&self, i: usize) -> bool {
        self.feeds_read.get(i).is_some_and(|&read| read)
    }

    /// After how many instructions these partial results, counted from the first, are there; none
    /// if they are gathered at the end.
    pub(crate) fn partials_after(&self, part: &Range<usize>) -> Option<usize> {
        let start = self.partials.range().start;
        let part = start + part.start..start + part.end;
        match self.partials.copies.iter().any(|(_, frame)| frame.writes_any(&part)) {
            true => None,
            false => {
                let last = self.instructions.iter().rposition(|i| i.floats.writes_any(&part));
                Some(last.map_or(0, |i| i + 1))
            }
        }
    }

    /// Sees which feeds are read.
    fn feeds_read(&self) -> Vec<bool> {
        let mut read = Vec::new();
        let mut see = |o: &Operand| {
            if let Place::Feed(i) = o.place {
                if read.len() <= i {
                    read.resize(i + 1, false);
                }
                read[i] = true;
            }
        };
        for step in &self.instructions {
            step.inputs.iter().for_each(&mut see);
            step.guards.iter().for_each(|guard| see(&guard.predicate));
        }
        for fetch in &self.fetches {
            if let FetchFrom::Value(operand) = fetch {
                see(operand);
            }
        }
        self.partials.copies.iter().for_each(|(from, _)| see(from));
        for effect in &self.effects {
            match effect {
                EffectStep::Assign { from, .. } => see(from),
                EffectStep::Update { gradients, .. } => {
                    gradients.copies.iter().for_each(|(from, _)| see(from));
                }
            }
        }
        read
    }
}

/// Values one after the other.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where it begins: in the arena or in what shards have computed together.
    pub(crate) place: Place,
    pub(crate) len: usize,
    /// Values that could not be computed in place, and where in the arena each goes.
    pub(crate) copies: Vec<(Operand, Frame)>,
}

impl Block {
    /// Its elements, in whatever memory that is.
    pub(crate) fn range(&self) -> Range<usize> {
        match self.place {
            Place::Arena(at) | Place::Combined(at) => at..at + self.len,
            _ => 0..0,
        }
    }
}

/// A write to variables, after everything else.
#[derive(Debug)]
pub(crate) enum EffectStep<T: Scalar> {
    Assign {
        /// The variable.
        node: NodeId,
        to: usize,
        from: Operand,
    },
    Update {
        /// The node, under which the session keeps the optimizer's state.
        node: NodeId,
        rule: Arc<dyn Rule<T>>,
        /// All gradients.
        gradients: Block,
        /// Where each variable lies among the flat ones, in the order of the gradients.
        variables: Vec<Range<usize>>,
        /// The same, neighbors as one.
        parameters: Vec<Range<usize>>,
        /// Into how many parts threads share it.
        parts: usize,
    },
}

/// What a plan is to compute, and from what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) fetches: &'a [NodeId],
    /// Floats that are computed into one block, one after the other.
    pub(crate) partials: &'a [NodeId],
    /// Nodes that are not computed.
    pub(crate) given: &'a [Given],
    pub(crate) passes: Passes,
    pub(crate) threads: usize,
}

/// A node whose value comes from outside the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) node: NodeId,
    pub(crate) shape: Shape,
    pub(crate) from: Origin,
}

/// Where the value of a given node comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    /// The feed of this number.
    Feed(usize),
    /// What shards have computed together, from this element on.
    Combined(usize),
    /// One number, as the bits of an f64.
    Literal(u64),
}

/// Compiles what was asked for.
///
/// # Errors
/// A placeholder that is needed and not fed; shapes that do not fit once they are known; more
/// memory than there is.
pub(crate) fn compile<T: Scalar>(
    graph: &Graph<T>,
    layout: &Layout,
    request: Request<'_>,
) -> Result<Plan<T>> {
    let Request { passes, threads, .. } = request;
    let mut program = lower::lower(graph, request)?;
    if passes.fuse {
        program.parts = part::parts(&program);
    }
    let mut schedule = fuse::schedule(&program, passes);
    if passes.stream {
        schedule = stream::stream(&program, schedule);
    }
    memory::place(graph, layout, &program, &schedule, passes, threads)
}
