//! Runs a plan: the only place that knows what memory a `Place` is, and so the seam for another
//! device. In steady state it allocates nothing.

use super::fetch::Wanted;
use super::ranks::Ranks;
use super::share::{gather as gather_from_ranks, pieces};
use super::trace::{Stage, Watched};
use super::variables::{OptimizerState, Variables, each_step};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::kernel::arena::{Arena, Writes};
use crate::kernel::map::{BLOCK, MAX_INPUTS, MAX_OUTPUTS, MAX_SUMS, MapLoop, total};
use crate::kernel::rows::{RowPass, Rows};
use crate::kernel::team::{Pieces, part, part_of};
use crate::kernel::update::all_finite;
use crate::plan::{
    Block, Code, EffectStep, FetchFrom, Guard, Instruction, Operand, Place, Plan, Shared,
};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::{Arg, Cond, MAX_SLOTS, Out, Primitive, Rule, Units, Whole};
use crate::tape::{FeedValue, Graph, NodeId};
use crate::tensor::{Tensor, TensorView};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A plan with the memory it runs in.
#[derive(Debug)]
pub(super) struct Executor<T: Scalar> {
    pub(super) plan: Arc<Plan<T>>,
    floats: Arena<T>,
    indices: Arena<Index>,
    /// The buffers that fetches exchange.
    exchanged: Vec<Vec<T>>,
    /// For each effect, the number of the optimizer step that the run takes.
    step_numbers: Vec<T>,
    /// For each update about to be written, where its state stands.
    begun: Vec<usize>,
}

/// What a run reads from outside its arenas and the variables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feeds<'a, T: Scalar> {
    pub(super) values: &'a [(NodeId, FeedValue<'a, T>)],
    /// What shards have computed together.
    pub(super) combined: &'a [T],
}

impl<T: Scalar> Executor<T> {
    pub(super) fn new(plan: Arc<Plan<T>>) -> Result<Self> {
        let floats = Arena::new(plan.arena).map_err(|e| e.within("arena"))?;
        let indices = Arena::new(plan.index_arena).map_err(|e| e.within("arena"))?;
        let step_numbers = vec![T::lit(0.0); plan.effects.len()];
        let begun = Vec::with_capacity(plan.effects.len());
        let exchanged = vec![Vec::new(); plan.exchanged.len()];
        Ok(Executor { plan, floats, indices, exchanged, step_numbers, begun })
    }

    /// Runs the instructions; then [`Executor::fetch`] finds the values. With `finite`, the first
    /// value that is not a finite number is an error.
    pub(super) fn run(
        &mut self,
        graph: &Graph<T>,
        variables: &Variables<T>,
        feeds: Feeds<'_, T>,
        team: &mut Watched<'_>,
        finite: bool,
    ) -> Result<()> {
        self.begin(variables)?;
        let all = 0..self.plan.instructions.len();
        self.run_some(all, graph, variables, feeds, team, finite)
    }

    /// Comes before the instructions.
    pub(super) fn begin(&mut self, variables: &Variables<T>) -> Result<()> {
        let Executor { plan, exchanged, step_numbers, .. } = self;
        for (buffer, &len) in exchanged.iter_mut().zip(&plan.exchanged) {
            if buffer.len() != len {
                *buffer = Tensor::zeros([len])?.into_vec();
            }
        }
        for (number, effect) in step_numbers.iter_mut().zip(&plan.effects) {
            if let EffectStep::Update { node, .. } = effect {
                *number = T::lit((variables.steps(*node) + 1) as f64);
            }
        }
        Ok(())
    }

    /// Runs these instructions, after those before them.
    #[inline]
    pub(super) fn run_some(
        &mut self,
        instructions: Range<usize>,
        graph: &Graph<T>,
        variables: &Variables<T>,
        feeds: Feeds<'_, T>,
        team: &mut Watched<'_>,
        finite: bool,
    ) -> Result<()> {
        let Executor { plan, floats, indices, exchanged, .. } = self;
        let variables = variables.values.as_slice();
        let mut memory = Memory { plan, variables, exchanged, feeds };
        for (i, step) in instructions.clone().zip(&plan.instructions[instructions]) {
            if !step.guards.iter().all(|guard| memory.is_so(guard, floats)) {
                continue;
            }
            let event = team.begin(Stage::Instruction(i));
            let at = (&mut *floats, &mut *indices);
            let done = if step.exchanges {
                let mut own: [Vec<T>; MAX_WRITES] = Default::default();
                swap_outputs(step, exchanged, &mut own);
                memory = Memory { plan, variables, exchanged, feeds };
                let done = instruction(step, at, &mut own, &memory, team);
                swap_outputs(step, exchanged, &mut own);
                memory = Memory { plan, variables, exchanged, feeds };
                done
            } else {
                instruction(step, at, &mut [], &memory, team)
            };
            if let Err(e) = done {
                return Err(e.within(graph.describe(step.source)).at(graph.node(step.source).at));
            }
            team.end(event);
            if finite {
                for o in step.outputs.iter().filter(|o| o.dtype == DType::Float) {
                    let written = match o.place {
                        Place::Arena(at) => &floats.as_slice()[at..at + o.len],
                        Place::Exchanged(n) => &exchanged[n],
                        _ => &[],
                    };
                    if let Some(bad) = written.iter().find(|x| !x.is_finite()) {
                        let name = graph.describe(step.source);
                        let text =
                            format!("{name} {}: expected finite numbers, got {bad}", o.shape);
                        let at = graph.node(step.source).at;
                        return Err(Error::new(ErrorKind::NotFinite, text).at(at));
                    }
                }
            }
        }
        Ok(())
    }

    /// The partial results that the instructions so far have computed in place.
    pub(super) fn partials_so_far(&self) -> &[T] {
        &self.floats.as_slice()[self.plan.partials.range()]
    }

    /// The partial results of the run before, one after the other.
    pub(super) fn partials(&mut self, feeds: Feeds<'_, T>) -> &[T] {
        let memory = (&*self.plan, &*self.exchanged, feeds);
        gather(&self.plan.partials, &mut self.floats, memory);
        self.partials_so_far()
    }

    /// Puts the value of fetch number `i` of the run before where it is wanted, once.
    pub(super) fn fetch(
        &mut self,
        i: usize,
        variables: &Variables<T>,
        feeds: Feeds<'_, T>,
        out: Wanted<'_, T>,
    ) -> Result<()> {
        match self.plan.fetches.get(i) {
            Some(FetchFrom::StepOf(effect)) => {
                let number = std::slice::from_ref(&self.step_numbers[*effect]);
                out.copy_from(Arg::Float(TensorView::of(Shape::SCALAR, number)))
            }
            Some(FetchFrom::Value(Operand { place: Place::Exchanged(n), shape, .. })) => {
                out.exchange(*shape, &mut self.exchanged[*n])
            }
            Some(FetchFrom::Value(operand)) => {
                let (variables, exchanged) = (variables.values.as_slice(), &*self.exchanged);
                let memory = Memory { plan: &self.plan, variables, exchanged, feeds };
                out.copy_from(memory.arg(operand, self.of_arena(operand)))
            }
            None => bail!(Tape, "fetch: {} values, asked for one more", self.plan.fetches.len()),
        }
    }

    /// The elements of an operand in its arena; none if it is elsewhere.
    fn of_arena(&self, o: &Operand) -> InArena<'_, T> {
        let Place::Arena(at) = o.place else { return (&[], &[]) };
        match o.dtype {
            DType::Float => (&self.floats.as_slice()[at..at + o.len], &[]),
            DType::Index => (&[], &self.indices.as_slice()[at..at + o.len]),
        }
    }

    /// Writes variables: assignments and optimizer steps, in the order they were recorded. All
    /// steps are begun before anything is written, so that an error leaves everything as it was.
    pub(super) fn effects(
        &mut self,
        graph: &Graph<T>,
        variables: &mut Variables<T>,
        feeds: Feeds<'_, T>,
        team: &mut Watched<'_>,
        mut ranks: Option<&mut Ranks>,
    ) -> Result<()> {
        if self.plan.effects.is_empty() {
            return Ok(());
        }
        let event = team.begin(Stage::BeginUpdates);
        self.begin_updates(graph, variables, feeds)?;
        team.end(event);
        let mut begun = self.begun.iter();
        for (i, effect) in self.plan.effects.iter().enumerate() {
            let event = team.begin(Stage::Effect(i));
            match effect {
                EffectStep::Assign { to, from, .. } => {
                    let range = *to..*to + from.len;
                    // Never a variable itself: the plan has copied those.
                    let (plan, exchanged) = (&self.plan, &*self.exchanged);
                    let memory = Memory { plan, variables: &[], exchanged, feeds };
                    let value = memory.arg(from, self.of_arena(from)).float();
                    variables.values.as_mut_slice()[range.clone()].copy_from_slice(value);
                    variables.mark(range);
                }
                EffectStep::Update {
                    rule,
                    gradients: block,
                    variables: ranges,
                    parameters,
                    parts,
                    ..
                } => {
                    let Some(state) = begun.next() else { continue };
                    let gradients = block_of(block, &self.floats, feeds);
                    let state = &mut variables.optimizers[*state];
                    let steps = &state.begun;
                    state.steps += 1;
                    let n_slots = rule.slots().min(MAX_SLOTS);
                    let (share, own) = (state.slots.share(), state.slots.slice());
                    let values = variables.values.as_mut_slice();
                    for (here, at) in pieces(parameters, own.clone()) {
                        let w = &mut values[at];
                        let mut slots: [&mut [T]; MAX_SLOTS] = Default::default();
                        let of_own = here.start - own.start..here.end - own.start;
                        for (slot, all) in slots.iter_mut().zip(state.slots.each_mut()) {
                            *slot = &mut all[of_own.clone()];
                        }
                        let moved = |part: Range<usize>, w: &mut [T], slots: &mut [&mut [T]]| {
                            let g = &gradients[part.clone()];
                            each_step(steps, ranges, part, |step, at| {
                                let mut here: [&mut [T]; MAX_SLOTS] = Default::default();
                                let here = &mut here[..slots.len()];
                                for (here, slot) in here.iter_mut().zip(&mut *slots) {
                                    *here = &mut slot[at.clone()];
                                }
                                rule.update(step, &mut w[at.clone()], &g[at], here);
                            });
                        };
                        if *parts == 1 {
                            moved(here, w, &mut slots[..n_slots]);
                        } else {
                            let w = Pieces::new(w, UPDATE_UNIT, *parts);
                            let slots = slots.map(|s| Pieces::new(s, UPDATE_UNIT, *parts));
                            team.run(*parts, &|i| {
                                let part = part_of(here.len(), UPDATE_UNIT, *parts, i);
                                let part = here.start + part.start..here.start + part.end;
                                let mut slots = slots.each_ref().map(|s| s.take(i));
                                moved(part, w.take(i), &mut slots[..n_slots]);
                            });
                        }
                    }
                    if let (false, Some(ranks)) = (share.is_whole(), &mut ranks) {
                        gather_from_ranks(&mut *ranks.group, values, parameters)?;
                    }
                }
            }
            team.end(event);
        }
        Ok(())
    }

    /// Gathers the gradients of each update, looks that they are finite, and begins its step.
    fn begin_updates(
        &mut self,
        graph: &Graph<T>,
        variables: &mut Variables<T>,
        feeds: Feeds<'_, T>,
    ) -> Result<()> {
        self.begun.clear();
        for effect in &self.plan.effects {
            let EffectStep::Update {
                node,
                rule,
                gradients: block,
                variables: ranges,
                parameters,
                ..
            } = effect
            else {
                continue;
            };
            let memory = (&*self.plan, &*self.exchanged, feeds);
            gather(block, &mut self.floats, memory);
            let state = variables.optimizer(*node, &**rule, ranges)?;
            let t = variables.optimizers[state].steps + 1;
            let fail = |e: Error| {
                let update = graph.describe(*node);
                e.within(format_args!("{update}: step {t}")).at(graph.node(*node).at)
            };
            let gradients = block_of(block, &self.floats, feeds);
            if !all_finite(gradients) {
                return Err(fail(not_finite(graph, variables, gradients, parameters)));
            }
            let values = variables.values.as_slice();
            let optimizer = &mut variables.optimizers[state];
            begin(&**rule, optimizer, values, ranges, gradients).map_err(fail)?;
            self.begun.push(state);
        }
        Ok(())
    }
}

/// Copies what of a block could not be computed in place.
fn gather<T: Scalar>(
    block: &Block,
    floats: &mut Arena<T>,
    (plan, exchanged, feeds): (&Plan<T>, &[Vec<T>], Feeds<'_, T>),
) {
    for (from, frame) in &block.copies {
        let (mut writes, reads) = floats.open(frame);
        // Never a variable itself: the plan has copied those.
        let memory = Memory { plan, variables: &[], exchanged, feeds };
        writes.take().copy_from_slice(memory.arg(from, (reads.get(0), &[])).float());
    }
}

/// The elements of a block.
fn block_of<'a, T: Scalar>(block: &Block, floats: &'a Arena<T>, feeds: Feeds<'a, T>) -> &'a [T] {
    match block.place {
        Place::Combined(_) => &feeds.combined[block.range()],
        _ => &floats.as_slice()[block.range()],
    }
}

/// Begins a step of the update of the variables at these ranges of `values`.
fn begin<T: Scalar>(
    rule: &dyn Rule<T>,
    state: &mut OptimizerState<T>,
    values: &[T],
    ranges: &[Range<usize>],
    gradients: &[T],
) -> Result<()> {
    if state.swapped {
        bail!(Argument, "expected the weights back in their place, got their average");
    }
    let t = state.steps + 1;
    let whole = Whole::new(t, values, ranges, gradients, state.slots.all());
    rule.begin(&whole, &mut state.begun)?;
    for step in state.begun.iter_mut().filter(|_| state.rate_factor != 1.0) {
        step.rate *= state.rate_factor;
        if !T::lit(step.rate).is_finite() {
            let (name, factor) = (T::NAME, state.rate_factor);
            bail!(Argument, "expected a finite rate in {name}, got {} by {factor}", step.rate);
        }
    }
    Ok(())
}

/// Names the first variable whose gradient is not finite.
fn not_finite<T: Scalar>(
    graph: &Graph<T>,
    variables: &Variables<T>,
    gradients: &[T],
    parameters: &[Range<usize>],
) -> Error {
    let elements = parameters.iter().cloned().flatten();
    let text = match gradients.iter().zip(elements).find(|(g, _)| !g.is_finite()) {
        Some((g, at)) => {
            let owner = variables.layout.variables.iter().find(|(_, r)| r.contains(&at));
            let name = owner.map_or(String::new(), |(id, _)| graph.describe(*id));
            format!("expected a finite gradient of {name}, got {g}")
        }
        None => "expected finite gradients".to_string(),
    };
    Error::new(ErrorKind::NotFinite, text)
}

/// What an instruction may read beside the arenas.
struct Memory<'a, T: Scalar> {
    plan: &'a Plan<T>,
    variables: &'a [T],
    exchanged: &'a [Vec<T>],
    feeds: Feeds<'a, T>,
}

/// An operand's elements in the arena of its type.
type InArena<'a, T> = (&'a [T], &'a [Index]);

impl<'a, T: Scalar> Memory<'a, T> {
    /// The numbers of an operand.
    #[inline]
    fn floats(&self, o: &Operand, in_arena: &'a [T]) -> &'a [T] {
        // Most are there.
        if let Place::Arena(_) = o.place { in_arena } else { self.elsewhere(o) }
    }

    /// The numbers of an operand that is not in the arena.
    fn elsewhere(&self, o: &Operand) -> &'a [T] {
        match o.place {
            Place::Variable(at) => &self.variables[at..at + o.len],
            Place::Exchanged(n) => &self.exchanged[n],
            Place::Constant(i) => self.plan.constants[i].as_slice(),
            Place::Combined(at) => &self.feeds.combined[at..at + o.len],
            Place::Feed(i) => match &self.feeds.values[i].1 {
                FeedValue::Float(v) => v.as_slice(),
                FeedValue::Index(_) => &[],
            },
            Place::Arena(_) | Place::Nothing => &[],
        }
    }

    /// Whether a guard of an instruction is as it has to be.
    fn is_so(&self, guard: &Guard, arena: &'a Arena<T>) -> bool {
        let in_arena = match guard.predicate.place {
            Place::Arena(at) => &arena.as_slice()[at..=at],
            _ => &[],
        };
        Cond::holds(self.floats(&guard.predicate, in_arena)[0]) == guard.holds
    }

    fn indices(&self, o: &Operand, in_arena: &'a [Index]) -> &'a [Index] {
        match o.place {
            Place::Arena(_) => in_arena,
            Place::Constant(i) => self.plan.index_constants[i].as_slice(),
            Place::Feed(i) => match &self.feeds.values[i].1 {
                FeedValue::Index(v) => v.as_slice(),
                FeedValue::Float(_) => &[],
            },
            _ => &[],
        }
    }

    fn arg(&self, o: &Operand, (floats, indices): InArena<'a, T>) -> Arg<'a, T> {
        match o.dtype {
            DType::Float => Arg::Float(TensorView::of(o.shape, self.floats(o, floats))),
            DType::Index => Arg::Index(TensorView::of(o.shape, self.indices(o, indices))),
        }
    }
}

/// Arguments of long concatenations; past that they go on the heap.
const MANY: usize = 64;

/// The most values an instruction writes: a pass over rows makes two products beside its loop.
const MAX_WRITES: usize = 2 + MAX_OUTPUTS + MAX_SUMS;

/// Swaps the exchanged buffers that an instruction writes with `own`: out, so that others can be
/// read beside them, and back.
fn swap_outputs<T: Scalar>(
    step: &Instruction<T>,
    exchanged: &mut [Vec<T>],
    own: &mut [Vec<T>; MAX_WRITES],
) {
    for (o, own) in step.outputs.iter().zip(own) {
        if let Place::Exchanged(n) = o.place {
            std::mem::swap(&mut exchanged[n], own);
        }
    }
}

/// The float outputs of an instruction, one after the other.
struct Outputs<'a, T> {
    arena: Writes<'a, T>,
    own: std::slice::IterMut<'a, Vec<T>>,
}

impl<'a, T> Outputs<'a, T> {
    #[inline]
    fn take(&mut self) -> &'a mut [T] {
        let in_arena = self.arena.take();
        match self.own.next() {
            Some(own) if !own.is_empty() => own,
            _ => in_arena,
        }
    }
}

/// Runs one instruction over these arenas. `own` has the exchanged buffers among its outputs, each
/// in its place.
fn instruction<T: Scalar>(
    step: &Instruction<T>,
    (floats, indices): (&mut Arena<T>, &mut Arena<Index>),
    own: &mut [Vec<T>],
    memory: &Memory<'_, T>,
    team: &mut Watched<'_>,
) -> Result<()> {
    let (mut arena, reads) = floats.open(&step.floats);
    let (scratch, sums) = (arena.take(), arena.take());
    let mut writes = Outputs { arena, own: own.iter_mut() };
    let input = |i: usize| memory.floats(&step.inputs[i], reads.get(i));
    match &step.code {
        Code::Map(code) => {
            let mut inputs: [&[T]; MAX_INPUTS] = [&[]; MAX_INPUTS];
            let inputs = &mut inputs[..step.inputs.len()];
            let mut outputs: [&mut [T]; MAX_OUTPUTS] = Default::default();
            outputs[..code.n_outputs].iter_mut().for_each(|y| *y = writes.take());
            let all = 0..code.len;
            if step.shared.parts == 1 {
                let whole = |(i, x): (usize, &mut _)| *x = code.cut(i, input(i), &all);
                inputs.iter_mut().enumerate().for_each(whole);
                code.run(all, inputs, &mut outputs[..code.n_outputs], sums, scratch);
            } else {
                inputs.iter_mut().enumerate().for_each(|(i, x)| *x = input(i));
                map_in_parts(code, step.shared.parts, inputs, outputs, (sums, scratch), team);
            }
            for i in 0..code.n_sums {
                writes.take()[0] = total(sums, code.n_sums, i);
            }
        }
        Code::Product(product) => {
            let (a, b, c) = (input(0), input(1), writes.take());
            let (units, parts) = (step.shared.units.count(), step.shared.parts);
            if parts == 1 {
                product.run(a, b, c, 0..units, scratch);
            } else {
                let (c_unit, scratch_unit) = (c.len() / units, unit_of(scratch, parts));
                let c = Pieces::new(c, c_unit, parts);
                let scratch = Pieces::new(scratch, scratch_unit, parts);
                team.run(parts, &|i| {
                    product.run(a, b, c.take(i), part(units, parts, i), scratch.take(i));
                });
            }
        }
        Code::Reduce(_, reducer) => reducer.run(input(0), writes.take()),
        Code::Rows(pass) => rows(pass, step.shared, &input, &mut writes, (sums, scratch), team),
        Code::Op(op, define) => {
            let (mut index_writes, index_reads) = indices.open(&step.indices);
            let y = (writes.take(), index_writes.take());
            let arg = |i: usize| {
                let o = &step.inputs[i];
                match o.dtype {
                    DType::Float => Arg::Float(TensorView::of(o.shape, input(i))),
                    DType::Index => memory.arg(o, (&[], index_reads.get(i))),
                }
            };
            let op = define(op);
            let run = |args: &[_]| forward(op, step, args, y, scratch, team);
            match step.inputs.len() {
                1 => run(&[arg(0)])?,
                2 => run(&[arg(0), arg(1)])?,
                3 => run(&[arg(0), arg(1), arg(2)])?,
                n => with_args(n, arg, run)?,
            }
        }
    }
    Ok(())
}

/// Calls `run` with n arguments. Apart, as this wants more of the stack than all else.
#[inline(never)]
fn with_args<'a, T: Scalar>(
    n: usize,
    arg: impl Fn(usize) -> Arg<'a, T>,
    run: impl FnOnce(&[Arg<'a, T>]) -> Result<()>,
) -> Result<()> {
    let empty = Arg::Float(TensorView::of(Shape::SCALAR, &[]));
    let (mut many, mut more);
    let args = match n {
        ..=MANY => {
            many = [empty; MANY];
            &mut many[..n]
        }
        _ => {
            more = vec![empty; n];
            &mut more[..]
        }
    };
    args.iter_mut().enumerate().for_each(|(i, to)| *to = arg(i));
    run(args)
}

/// An op, by as many threads as are to share it, into the memory of its type.
fn forward<T: Scalar>(
    op: &dyn Primitive<T>,
    step: &Instruction<T>,
    args: &[Arg<'_, T>],
    (y, y_indices): (&mut [T], &mut [Index]),
    scratch: &mut [T],
    team: &mut Watched<'_>,
) -> Result<()> {
    let (Operand { dtype, shape, .. }, Shared { units, parts }) = (&step.outputs[0], step.shared);
    // Small ops would notice the divisions.
    let cut = if parts > 1 { units.of(y.len()) } else { None };
    match (dtype, cut) {
        (DType::Float, Some((period, unit))) => {
            let scratch_unit = unit_of(scratch, parts);
            let y = Pieces::strided(y, period, unit, parts);
            let scratch = Pieces::new(scratch, scratch_unit, parts);
            let failed = Mutex::new(None);
            team.run(parts, &|i| {
                let out = match units {
                    Units::Contiguous(_) => Out::Float(*shape, y.take(i)),
                    Units::Strided { .. } => Out::Runs(*shape, y.take_runs(i)),
                };
                let units = part(units.count(), parts, i);
                if let Err(e) = op.forward_units(args, out, scratch.take(i), units) {
                    keep_first(&failed, i, e);
                }
            });
            let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
            failed.map_or(Ok(()), |(_, e)| Err(e))
        }
        (DType::Float, _) => op.forward(args, Out::Float(*shape, y), scratch),
        (DType::Index, _) => op.forward(args, Out::Index(*shape, y_indices), scratch),
    }
}

/// A loop that threads share.
fn map_in_parts<T: Scalar>(
    code: &MapLoop<T>,
    parts: usize,
    inputs: &[&[T]],
    outputs: [&mut [T]; MAX_OUTPUTS],
    (sums, scratch): (&mut [T], &mut [T]),
    team: &mut Watched<'_>,
) {
    let outputs = outputs.map(|y| Pieces::new(y, BLOCK, parts));
    let sums = Pieces::new(sums, code.n_sums.max(1), parts);
    let scratch_unit = unit_of(scratch, parts);
    let scratch = Pieces::new(scratch, scratch_unit, parts);
    team.run(parts, &|i| {
        let mut outputs = outputs.each_ref().map(|y| y.take(i));
        let (range, sums) = (part_of(code.len, BLOCK, parts, i), sums.take(i));
        let mut cut: [&[T]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        for (i, (cut, x)) in cut.iter_mut().zip(inputs).enumerate() {
            *cut = code.cut(i, x, &range);
        }
        let (inputs, outputs) = (&cut[..inputs.len()], &mut outputs[..code.n_outputs]);
        code.run(range, inputs, outputs, sums, scratch.take(i));
    });
}

/// A pass over rows, by as many threads as are to share it.
fn rows<'a, T: Scalar>(
    pass: &RowPass<T>,
    Shared { units, parts }: Shared,
    input: &dyn Fn(usize) -> &'a [T],
    writes: &mut Outputs<'a, T>,
    (sums, scratch): (&mut [T], &mut [T]),
    team: &mut Watched<'_>,
) {
    let (g, y, map) = (writes.take(), writes.take(), &pass.map);
    let mut inputs: [&[T]; MAX_INPUTS] = [&[]; MAX_INPUTS];
    let inputs = &mut inputs[..map.inputs.len()];
    for (i, x) in inputs.iter_mut().enumerate().filter(|(i, _)| !pass.reads_y[*i]) {
        *x = input(i + 2);
    }
    let inputs = &*inputs;
    let mut outputs: [&mut [T]; MAX_OUTPUTS] = Default::default();
    outputs[..map.n_outputs].iter_mut().for_each(|y| *y = writes.take());
    let (sums, partial) = sums.split_at_mut(map.n_sums * map.n_blocks());
    let (rows, units, scratch_unit) = (RowPass::<T>::ROWS, units.count(), unit_of(scratch, parts));
    let (x, w) = (input(0), input(1));
    let block_sums = rows / BLOCK * map.n_sums;
    {
        let y = Pieces::new(y, rows, parts);
        let outputs = outputs.map(|y| Pieces::new(y, rows, parts));
        let sums = Pieces::new(&mut *sums, block_sums.max(1), parts);
        let partial = Pieces::new(&mut *partial, g.len(), parts);
        let scratch = Pieces::new(scratch, scratch_unit, parts);
        team.run(parts, &|i| {
            pass.run(Rows {
                blocks: part(units, parts, i),
                x,
                w,
                inputs,
                y: y.take(i),
                outputs: outputs.each_ref().map(|y| y.take(i)),
                sums: sums.take(i),
                partial: partial.take(i),
                scratch: scratch.take(i),
            });
        });
    }
    pass.finish(partial, g);
    for i in 0..map.n_sums {
        writes.take()[0] = total(sums, map.n_sums, i);
    }
}

/// The elements of scratch of one part.
fn unit_of<T>(scratch: &[T], parts: usize) -> usize {
    (scratch.len() / parts).max(1)
}

/// Of the errors of several parts, that of the first part.
fn keep_first(failed: &Mutex<Option<(usize, Error)>>, part: usize, e: Error) {
    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.as_ref().is_none_or(|(first, _)| part < *first) {
        *failed = Some((part, e));
    }
}

/// Parameters between which threads share an optimizer step: whole cache lines and pages.
const UPDATE_UNIT: usize = 1024;
