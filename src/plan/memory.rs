//! Where every value lives: one arena, shared by values whose lives do not overlap. Gradients of
//! an optimizer step are computed in place in one flat block, in the order of the parameters.

use super::fuse::{self, Compiled, Item};
use super::program::{Def, EffectValue, Fetched, Program, Value, ValueId};
use super::report::Report;
use super::{
    Block, Code, EffectStep, FetchFrom, Guard, Instruction, Layout, Operand, Passes, Place, Plan,
    Shared, share,
};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::arena::Frame;
use crate::kernel::map::{Access, MAX_INPUTS};
use crate::kernel::rows::RowPass;
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Op, Units};
use crate::tape::{Graph, NodeId};
use crate::tensor::Tensor;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// From so many elements on, the copy of a fetched value is worth saving.
const LARGE: usize = 1 << 10;

/// From so many elements on, a loop writes over an input that nothing reads later: what it would
/// write elsewhere had to come into cache first. Fewer are in cache anyway.
const IN_PLACE: usize = 1 << 14;

/// Elements to which pieces are rounded: a cache line of f32.
const GRAIN: usize = 16;

/// Places all values and writes the instructions down.
pub(super) fn place<T: Scalar>(
    graph: &Graph<T>,
    layout: &Layout,
    program: &Program<T>,
    items: &[Item],
    passes: Passes,
    threads: usize,
) -> Result<Plan<T>> {
    let mut loop_of = vec![u32::MAX; program.values.len()];
    for (n, item) in (0..).zip(items) {
        let members = item.members().unwrap_or_default();
        members.iter().for_each(|&id| loop_of[id as usize] = n);
    }
    let is_read = fuse::read_outside(program, &program.used(), &loop_of);
    let compiled = |members| fuse::compile(program, members, |id| is_read[id as usize]);
    let loops: Vec<_> = items.iter().map(|item| item.members().map(compiled)).collect();

    // What each instruction reads and writes, and when each value is read for the last time.
    let steps: Vec<(Vec<ValueId>, Vec<ValueId>)> = items
        .iter()
        .zip(&loops)
        .map(|(item, code)| match (item, code) {
            (Item::One(id), _) => (program.value(*id).inputs.clone(), vec![*id]),
            (Item::Loop(_), Some(c)) => {
                (c.inputs.clone(), [c.outputs.as_slice(), &c.sums].concat())
            }
            (Item::Rows { forward, backward, .. }, Some(c)) => {
                let factors = &program.value(*forward).inputs;
                let own = [*backward, *forward];
                ([factors, c.inputs.as_slice()].concat(), [&own, &*c.outputs, &c.sums].concat())
            }
            (_, None) => (vec![], vec![]),
        })
        .collect();
    let mut last_read = vec![0usize; program.values.len()];
    let guards = |writes: &[ValueId]| writes.first().map_or(&[][..], |&id| program.guards(id));
    for (at, (reads, writes)) in steps.iter().enumerate() {
        let predicates = guards(writes).iter().map(|(id, _)| id);
        let read = reads.iter().chain(predicates);
        read.for_each(|&id| last_read[program.memory(id).0 as usize] = at);
    }
    program.results().for_each(|id| last_read[program.root(id) as usize] = items.len());

    let mut placer = Placer {
        layout,
        program,
        constants: Vec::new(),
        literals: HashMap::new(),
        index_constants: Vec::new(),
        at: vec![None; program.values.len()],
        exchanged: Vec::new(),
    };
    let mut floats = Space::default();
    let mut indices = Space::default();
    let effects = placer.reserve_gradients(graph, &mut floats)?;
    let partials = placer.reserve(&program.partials, &mut floats)?;
    placer.exchange_large();

    let mut instructions = Vec::with_capacity(items.len());
    let mut frees: BTreeMap<usize, Vec<(DType, Range<usize>)>> = BTreeMap::new();
    for (at, ((item, mut code), (reads, writes))) in items.iter().zip(loops).zip(&steps).enumerate()
    {
        if let (Item::Loop(_), Some(code)) = (item, &mut code)
            && code.code.len >= IN_PLACE
            && let Some(dying) = frees.get_mut(&at)
        {
            for (id, piece) in placer.write_over(code, dying) {
                if last_read[id as usize] < items.len() {
                    frees.entry(last_read[id as usize].max(at)).or_default().push(piece);
                }
            }
        }
        for &id in writes {
            if placer.at[id as usize].is_some() {
                continue;
            }
            let value = program.value(id);
            let space = if value.dtype == DType::Float { &mut floats } else { &mut indices };
            let piece = space.take(value.shape.len())?;
            placer.at[id as usize] = Some(Place::Arena(piece.start));
            if passes.share_memory && last_read[id as usize] < items.len() {
                frees.entry(last_read[id as usize].max(at)).or_default().push((value.dtype, piece));
            }
        }
        let mut inputs = reads.iter().map(|&id| placer.operand(id)).collect::<Result<Vec<_>>>()?;
        if let Item::Rows { forward, .. } = item {
            // What it writes itself, block by block, it does not read beforehand.
            let own = reads.iter().map(|&id| program.memory(id).0 == *forward);
            inputs.iter_mut().zip(own).filter(|i| i.1).for_each(|i| i.0.place = Place::Nothing);
        }
        let outputs = writes.iter().map(|&id| placer.operand(id)).collect::<Result<Vec<_>>>()?;
        let guard = |&(id, holds): &(ValueId, bool)| {
            let source = program.value(id).source;
            Ok(Guard { predicate: placer.operand(id)?, holds, source })
        };
        let guards = guards(writes).iter().map(guard).collect::<Result<_>>()?;
        let shapes: Vec<_> = inputs.iter().map(|o| o.shape).collect();
        let is_over = |i: usize| match (item, &code) {
            (Item::Loop(_), Some(c)) => matches!(c.code.inputs[i], Access::Over(_)),
            _ => false,
        };
        let is_over: Vec<bool> = (0..inputs.len()).map(is_over).collect();
        let (code, wanted, sums, source) = match (item, code) {
            (Item::Loop(members), Some(c)) => {
                let (scratch, sums) = (c.code.scratch(), c.code.n_sums * c.code.n_blocks());
                let last = members.last().map_or(0, |&id| program.value(id).source);
                (Code::Map(c.code), scratch, sums, last)
            }
            (Item::One(id), _) => {
                let Def::Op(op) = &program.value(*id).def else { continue };
                let scratch = op.primitive().scratch(&shapes);
                (Code::of(op, &shapes), scratch, 0, program.value(*id).source)
            }
            (Item::Rows { forward, backward, .. }, Some(c)) => {
                let pass = rows(program, *forward, *backward, c).ok_or_else(no_chain)?;
                let scratch = pass.scratch();
                let sums = pass.map.n_sums * pass.map.n_blocks();
                let sums = sums + pass.n_blocks() * pass.backward.units();
                (Code::Rows(Box::new(pass)), scratch, sums, program.value(*backward).source)
            }
            (_, None) => continue,
        };
        let shared = match outputs.first() {
            Some(y) => share::shared(&code, &shapes, y, threads),
            None => Shared { units: Units::Contiguous(1), parts: 1 },
        };
        // A part's scratch begins on a cache line of its own.
        let each = if shared.parts > 1 { wanted.next_multiple_of(GRAIN) } else { wanted };
        let wanted = each.checked_mul(shared.parts).ok_or_else(too_large)?;
        let all = floats.take(wanted + sums)?;
        floats.give(all.clone());
        let scratch = all.start..all.start + wanted;
        let sums = scratch.end..scratch.end + sums;
        let (floats_written, indices_written) = (
            [scratch, sums].into_iter().chain(outputs.iter().map(|o| o.piece(DType::Float))),
            outputs.iter().map(|o| o.piece(DType::Index)),
        );
        let read = |dtype| {
            let beside = |(o, over): (&Operand, &bool)| if *over { 0..0 } else { o.piece(dtype) };
            inputs.iter().zip(&is_over).map(beside).collect()
        };
        instructions.push(Instruction {
            floats: Frame::new(floats_written.collect(), read(DType::Float)),
            indices: Frame::new(indices_written.collect(), read(DType::Index)),
            code,
            inputs,
            exchanges: outputs.iter().any(|o| matches!(o.place, Place::Exchanged(_))),
            outputs,
            shared,
            guards,
            source,
        });
        for (dtype, piece) in frees.remove(&at).unwrap_or_default() {
            if dtype == DType::Float { floats.give(piece) } else { indices.give(piece) }
        }
    }

    let fetches = program
        .fetches
        .iter()
        .map(|f| match f {
            Fetched::Value(id) => Ok(FetchFrom::Value(placer.operand(*id)?)),
            Fetched::StepOf(effect) => Ok(FetchFrom::StepOf(*effect)),
        })
        .collect::<Result<_>>()?;
    let effects = placer.effects(effects, threads)?;
    let partials = placer.block(&program.partials, partials)?;
    let mut reads: Vec<NodeId> = program
        .values
        .iter()
        .zip(program.used())
        .filter_map(|(value, used)| match value.def {
            Def::Variable(id) if used => Some(id),
            _ => None,
        })
        .collect();
    for effect in &program.effects {
        if let EffectValue::Update { pairs, .. } = effect {
            reads.extend(pairs.iter().map(|p| p.0));
        }
    }
    let mut plan = Plan {
        instructions,
        fetches,
        effects,
        constants: placer.constants,
        index_constants: placer.index_constants,
        arena: floats.top,
        index_arena: indices.top,
        exchanged: placer.exchanged,
        partials,
        feeds_read: Vec::new(),
        reads,
        report: Report::default(),
    };
    plan.feeds_read = plan.feeds_read();
    plan.report = Report::of(graph, layout, program, &plan);
    Ok(plan)
}

impl<T: Scalar> Code<T> {
    fn of(op: &Op<T>, x: &[Shape]) -> Code<T> {
        match op {
            Op::MatMul(op) => Code::Product(Box::new(op.product(&x[0], &x[1]))),
            Op::FoldedMatMul(op) => Code::Product(Box::new(op.product(&x[0], &x[1]))),
            op => {
                let reducer = match op {
                    Op::Reduce(op) => Some(op.reducer(&x[0])),
                    Op::SumToLike(op) => op.reducer(&x[0], &x[1]),
                    _ => None,
                };
                match reducer {
                    Some(reducer) => Code::Reduce(op.clone(), Box::new(reducer)),
                    None => Code::Op(op.clone(), Op::define()),
                }
            }
        }
    }
}

/// The pass over rows that these two products and the loop between them make.
fn rows<T: Scalar>(
    program: &Program<T>,
    forward: ValueId,
    backward: ValueId,
    between: Compiled<T>,
) -> Option<RowPass<T>> {
    let product = |id: ValueId| match &program.value(id).def {
        Def::Op(Op::MatMul(op)) => {
            let [a, b] = program.value(id).inputs[..] else { return None };
            Some(op.product(&program.value(a).shape, &program.value(b).shape))
        }
        _ => None,
    };
    let mut reads_y = [false; MAX_INPUTS];
    for (reads, &input) in reads_y.iter_mut().zip(&between.inputs) {
        *reads = program.root(input) == forward;
    }
    let r = program.root(program.value(backward).inputs[1]);
    let r = between.outputs.iter().position(|&output| output == r)?;
    let (forward, backward) = (product(forward)?, product(backward)?);
    Some(RowPass { forward, map: between.code, backward, reads_y, r })
}

fn no_chain() -> Error {
    Error::new(ErrorKind::Tape, "expected a product, a loop that reads it, and their product")
}

impl Operand {
    /// The piece of the arena of this type that it is; an empty one if it is elsewhere.
    fn piece(&self, dtype: DType) -> Range<usize> {
        match self.place {
            Place::Arena(at) if self.dtype == dtype => at..at + self.len,
            _ => 0..0,
        }
    }
}

/// Free pieces of an arena that grows at its end.
#[derive(Default)]
struct Space {
    /// Start → length, never two that touch.
    free: BTreeMap<usize, usize>,
    top: usize,
}

impl Space {
    /// The smallest free piece that fits, or new space at the end.
    fn take(&mut self, len: usize) -> Result<Range<usize>> {
        let len = len.checked_next_multiple_of(GRAIN).ok_or_else(too_large)?;
        if len == 0 {
            return Ok(0..0);
        }
        let best = self.free.iter().filter(|(_, l)| **l >= len).min_by_key(|(_, l)| **l);
        if let Some((&start, &whole)) = best {
            self.free.remove(&start);
            if whole > len {
                self.free.insert(start + len, whole - len);
            }
            return Ok(start..start + len);
        }
        // A free piece at the end is grown.
        let start = match self.free.last_key_value() {
            Some((&start, &l)) if start + l == self.top => {
                self.free.remove(&start);
                start
            }
            _ => self.top,
        };
        self.top = start
            .checked_add(len)
            .filter(|&t| t < isize::MAX as usize / 8)
            .ok_or_else(too_large)?;
        Ok(start..self.top)
    }

    fn give(&mut self, piece: Range<usize>) {
        let (mut start, mut len) = (piece.start, piece.len());
        if len == 0 {
            return;
        }
        if let Some((&before, &l)) = self.free.range(..start).next_back()
            && before + l == start
        {
            self.free.remove(&before);
            (start, len) = (before, l + len);
        }
        if let Some(l) = self.free.remove(&(start + len)) {
            len += l;
        }
        self.free.insert(start, len);
    }
}

fn too_large() -> Error {
    Error::new(ErrorKind::Memory, "the values of this run do not fit into memory")
}

/// Knows the place of every value.
struct Placer<'p, T: Scalar> {
    layout: &'p Layout,
    program: &'p Program<T>,
    constants: Vec<Arc<Tensor<T>>>,
    literals: HashMap<u64, usize>,
    index_constants: Vec<Arc<Tensor<Index>>>,
    /// Where each computed value is that has a place.
    at: Vec<Option<Place>>,
    /// Elements of the buffers that fetches exchange.
    exchanged: Vec<usize>,
}

/// An effect, where the block of its gradients begins, and its parameters.
type Reserved<'p, T> = (&'p EffectValue<T>, Place, Vec<Range<usize>>);

impl<'p, T: Scalar> Placer<'p, T> {
    /// Sets aside the block of each update's gradients.
    fn reserve_gradients(
        &mut self,
        graph: &Graph<T>,
        floats: &mut Space,
    ) -> Result<Vec<Reserved<'p, T>>> {
        let mut reserved = Vec::new();
        for effect in &self.program.effects {
            let EffectValue::Update { pairs, .. } = effect else {
                reserved.push((effect, Place::Nothing, vec![]));
                continue;
            };
            let range =
                |p: &(NodeId, _)| self.layout.find(p.0).ok_or_else(|| not_variable(graph, p.0));
            let ranges = pairs.iter().map(|p| Ok(range(p)?.1)).collect::<Result<Vec<_>>>()?;
            let gradients: Vec<_> = pairs.iter().map(|p| p.1).collect();
            reserved.push((effect, self.reserve(&gradients, floats)?, ranges));
        }
        Ok(reserved)
    }

    /// Where a block of these values begins: where shards have left it, if they have, or else in
    /// the arena, with those values placed in it that can be computed there.
    fn reserve(&mut self, values: &[ValueId], floats: &mut Space) -> Result<Place> {
        let combined = |id| match self.program.value(self.program.root(id)).def {
            Def::Combined(at) => Some(at),
            _ => None,
        };
        if let Some(start) = values.first().copied().and_then(combined) {
            let mut end = start;
            let all = values.iter().all(|&id| {
                let next = combined(id) == Some(end);
                end += self.program.value(id).shape.len();
                next
            });
            if all {
                return Ok(Place::Combined(start));
            }
        }
        let len = |&id: &ValueId| self.program.value(id).shape.len();
        let start = floats.take(values.iter().map(len).sum())?.start;
        let mut at = start;
        for id in values {
            let root = self.program.root(*id);
            let value = self.program.value(root);
            if value.is_computed() && value.shape.len() == len(id) {
                self.at[root as usize].get_or_insert(Place::Arena(at));
            }
            at += len(id);
        }
        Ok(Place::Arena(start))
    }

    /// The block that was set aside for these values, once all have a place.
    fn block(&mut self, values: &[ValueId], place: Place) -> Result<Block> {
        let mut block = Block { place, len: 0, copies: Vec::new() };
        for &id in values {
            let from = self.operand(id)?;
            if let Place::Arena(start) = place
                && from.place != Place::Arena(start + block.len)
            {
                let to = start + block.len..start + block.len + from.len;
                let frame = Frame::new([to].into(), [from.piece(DType::Float)].into());
                block.copies.push((from, frame));
            }
            block.len += from.len;
        }
        Ok(block)
    }

    /// Places outputs of a loop over inputs of it whose memory is about to be free, the last
    /// recorded first: what was computed last is in cache. Takes their pieces from `dying`, and
    /// gives them with the outputs.
    fn write_over(
        &mut self,
        code: &mut Compiled<T>,
        dying: &mut Vec<(DType, Range<usize>)>,
    ) -> Vec<(ValueId, (DType, Range<usize>))> {
        let program = self.program;
        let roots: Vec<_> = code.inputs.iter().map(|&id| program.memory(id).0).collect();
        let whole = |i: &usize| {
            let alone = roots.iter().filter(|&&root| root == roots[*i]).count() == 1;
            alone
                && code.code.inputs[*i] == Access::Dense
                && program.value(roots[*i]).shape.len() == code.code.len
        };
        let mut whole: Vec<usize> = (0..roots.len()).filter(whole).collect();
        whole.sort_unstable_by_key(|&i| Reverse(roots[i]));
        let mut placed = Vec::new();
        let outputs = (0..).zip(&code.outputs).filter(|(_, id)| self.at[**id as usize].is_none());
        let mut outputs = outputs.collect::<Vec<(u8, &ValueId)>>().into_iter();
        for i in whole {
            let piece = dying.iter().position(|(dtype, piece)| {
                *dtype == DType::Float
                    && self.at[roots[i] as usize] == Some(Place::Arena(piece.start))
            });
            let Some(piece) = piece else { continue };
            let Some((o, &id)) = outputs.next() else { break };
            let piece = dying.swap_remove(piece);
            self.at[id as usize] = Some(Place::Arena(piece.1.start));
            code.code.inputs[i] = Access::Over(o);
            placed.push((id, piece));
        }
        placed
    }

    /// Gives large values a buffer of their own that are fetched, once, and that no effect reads,
    /// as that comes after the fetch.
    fn exchange_large(&mut self) {
        let mut n_reads = vec![0u32; self.program.values.len()];
        self.program.results().for_each(|id| n_reads[self.program.root(id) as usize] += 1);
        // A part of such a buffer would have no place.
        let parts = self.program.parts.iter().flatten();
        parts.for_each(|&(from, _)| n_reads[self.program.root(from) as usize] += 1);
        for fetch in &self.program.fetches {
            let Fetched::Value(id) = fetch else { continue };
            let root = self.program.root(*id);
            let value = self.program.value(root);
            let large = value.dtype == DType::Float && value.shape.len() >= LARGE;
            let at = &mut self.at[root as usize];
            if value.is_computed() && large && n_reads[root as usize] == 1 && at.is_none() {
                *at = Some(Place::Exchanged(self.exchanged.len()));
                self.exchanged.push(value.shape.len());
            }
        }
    }

    fn effects(
        &mut self,
        reserved: Vec<Reserved<'p, T>>,
        threads: usize,
    ) -> Result<Vec<EffectStep<T>>> {
        let mut steps = Vec::with_capacity(reserved.len());
        for (effect, place, variables) in reserved {
            steps.push(match effect {
                EffectValue::Assign { variable, value } => {
                    let to = self.layout.find(*variable).map_or(0, |v| v.1.start);
                    EffectStep::Assign { node: *variable, to, from: self.operand(*value)? }
                }
                EffectValue::Update { node, rule, pairs } => {
                    let gradients: Vec<_> = pairs.iter().map(|p| p.1).collect();
                    let gradients = self.block(&gradients, place)?;
                    let mut parameters: Vec<Range<usize>> = Vec::new();
                    for range in &variables {
                        match parameters.last_mut() {
                            Some(last) if last.end == range.start => last.end = range.end,
                            _ => parameters.push(range.clone()),
                        }
                    }
                    let parts = share::parts_of_update(gradients.len, threads);
                    let (node, rule) = (*node, Arc::clone(rule));
                    EffectStep::Update { node, rule, gradients, variables, parameters, parts }
                }
            });
        }
        Ok(steps)
    }

    fn operand(&mut self, id: ValueId) -> Result<Operand> {
        let (value, (root, start)) = (self.program.value(id), self.program.memory(id));
        let place = match &self.program.value(root).def {
            Def::Feed(i) => Place::Feed(*i),
            Def::Combined(at) => Place::Combined(at + start),
            Def::Variable(node) => {
                Place::Variable(self.layout.find(*node).map_or(0, |v| v.1.start) + start)
            }
            Def::Constant(t) => Place::Constant(push(&mut self.constants, &t.0)),
            Def::IndexConstant(t) => Place::Constant(push(&mut self.index_constants, &t.0)),
            Def::Literal(bits) => {
                let constants = &mut self.constants;
                Place::Constant(*self.literals.entry(*bits).or_insert_with(|| {
                    constants.push(Arc::new(Tensor::scalar(T::lit(f64::from_bits(*bits)))));
                    constants.len() - 1
                }))
            }
            Def::Shape | Def::Alias => Place::Nothing,
            Def::Op(_) => match self.at[root as usize].unwrap_or(Place::Arena(0)) {
                Place::Arena(at) => Place::Arena(at + start),
                place => place,
            },
        };
        let Value { dtype, shape, .. } = *value;
        Ok(Operand { place, dtype, shape, len: shape.len() })
    }
}

/// The number of a shared tensor in the list, added if it is new.
fn push<E: crate::Element>(list: &mut Vec<Arc<Tensor<E>>>, tensor: &Arc<Tensor<E>>) -> usize {
    match list.iter().position(|t| Arc::ptr_eq(t, tensor)) {
        Some(i) => i,
        None => {
            list.push(Arc::clone(tensor));
            list.len() - 1
        }
    }
}

fn not_variable<T: Scalar>(graph: &Graph<T>, id: NodeId) -> Error {
    let text = format!("update: expected a variable, got {}", graph.describe(id));
    Error::new(ErrorKind::Tape, text).at(graph.node(id).at)
}
