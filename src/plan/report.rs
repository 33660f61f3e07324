//! What a plan does, in numbers, before it runs.

use super::program::Program;
use super::{Code, EffectStep, FetchFrom, Layout, Operand, Place, Plan};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::list;
use crate::tape::{Graph, NodeId};
use std::fmt;
use std::panic::Location;

/// What a plan does, before it runs; it prints as a table.
///
/// FLOPs are floating-point operations as the formulas have them: 2·m·k·n of a product, one of an
/// elementwise op for each element whatever the op, one of a reduction for each element it reads,
/// none of a copy; what stands in a branch of a conditional counts as if it ran. Optimizer updates
/// and what users' ops do inside are not counted as FLOPs, but for what
/// [`Primitive::flops`](crate::Primitive::flops) says. Bytes are those of whole inputs and outputs,
/// each once an instruction; what stays inside one (registers, packed blocks) is not counted, and
/// of an op that takes a part of its input (a slice, rows by index) all of that is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Nodes on the tape.
    pub nodes_recorded: usize,
    /// Nodes whose value the fetches need.
    pub nodes_needed: usize,
    /// Values that instructions compute: the nodes needed, without leaves, views, equal nodes, and
    /// what rewrites made superfluous.
    pub nodes_computed: usize,
    /// Instructions that run, each one kernel.
    pub kernels: usize,
    /// Elementwise ops that run in fused loops, and in how many.
    pub elementwise_ops: usize,
    /// Fused loops.
    pub loops: usize,
    /// Instructions that threads share.
    pub shared: usize,
    /// FLOPs of the instructions.
    pub flops: usize,
    /// Bytes that instructions read, each input of an instruction once.
    pub bytes_read: usize,
    /// Bytes that instructions write.
    pub bytes_written: usize,
    /// Bytes of the arenas and of the buffers exchanged for fetches, where instructions write.
    pub arena_bytes: usize,
    /// Bytes of all variables of the session.
    pub variable_bytes: usize,
    /// Bytes of the state of the optimizers that this run steps.
    pub state_bytes: usize,
    /// Bytes of the tensors that the caller gets.
    pub fetched_bytes: usize,
    /// Each instruction, in the order they run.
    pub instructions: Vec<Work>,
    /// What is written to variables after the instructions: optimizer updates and assignments.
    pub effects: Vec<Work>,
}

/// One line of a [`Report`]: an instruction, or a write to variables.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What runs: the op, the loop with its number of ops, the optimizer.
    pub name: String,
    /// The unique name of the node it computes (of a loop the last), or of the variable assigned.
    pub node: String,
    /// The line that recorded that node.
    pub at: &'static Location<'static>,
    /// The shapes of the inputs. An update reads flat words for each parameter: the parameters,
    /// their gradients, and the optimizer's state.
    pub inputs: Vec<Shape>,
    /// The shapes of the outputs; of an update the parameters and the state.
    pub outputs: Vec<Shape>,
    /// FLOPs; 0 of updates, whose FLOPs are not counted.
    pub flops: usize,
    /// Bytes read. An update's gradients are read once more before, to see that they are finite.
    pub bytes_read: usize,
    /// Bytes written.
    pub bytes_written: usize,
    /// Runs only if each of these scalars, by its node's name, is not 0, or is 0, where that is
    /// `false`: it stands in a branch of a conditional.
    pub only_if: Vec<(String, bool)>,
    /// Into how many parts threads share it; 1 if they do not.
    pub parts: usize,
}

impl Report {
    pub(super) fn of<T: Scalar>(
        graph: &Graph<T>,
        layout: &Layout,
        program: &Program<T>,
        plan: &Plan<T>,
    ) -> Report {
        let mut report = Report {
            nodes_recorded: graph.len(),
            nodes_needed: program.n_needed,
            kernels: plan.instructions.len(),
            arena_bytes: (plan.arena + plan.exchanged.iter().sum::<usize>()) * size_of::<T>()
                + plan.index_arena * size_of::<Index>(),
            variable_bytes: layout.len * size_of::<T>(),
            ..Report::default()
        };
        let computed = program.values.iter().zip(program.used());
        report.nodes_computed = computed.filter(|(v, used)| *used && v.is_computed()).count();

        for step in &plan.instructions {
            let inputs: Vec<_> = step.inputs.iter().map(|o| o.shape).collect();
            let (name, flops) = match &step.code {
                Code::Op(op, _) | Code::Reduce(op, _) => {
                    let (op, y) = (op.primitive(), step.outputs.first());
                    let flops = y.map_or(0, |y| op.flops(&inputs, &y.shape));
                    (op.name().to_string(), flops)
                }
                Code::Product(product) => ("matmul".to_string(), product.flops()),
                Code::Map(code) => {
                    report.loops += 1;
                    report.elementwise_ops += code.n_ops;
                    (loop_name(code.n_ops), code.flops())
                }
                Code::Rows(pass) => {
                    report.loops += 1;
                    report.elementwise_ops += pass.map.n_ops;
                    let name = format!("rows of matmul, {}, matmul", loop_name(pass.map.n_ops));
                    (name, pass.flops())
                }
            };
            let once = |(i, o): (usize, &Operand)| {
                let mut before = step.inputs[..i].iter();
                let again = before.any(|p| (p.place, p.dtype) == (o.place, o.dtype));
                if again { 0 } else { bytes::<T>(o) }
            };
            report.instructions.push(Work {
                name,
                inputs,
                outputs: step.outputs.iter().map(|o| o.shape).collect(),
                flops,
                bytes_read: step.inputs.iter().enumerate().map(once).sum(),
                bytes_written: step.outputs.iter().map(bytes::<T>).sum(),
                only_if: step.guards.iter().map(|g| (graph.name(g.source), g.holds)).collect(),
                parts: step.shared.parts,
                ..Work::of(graph, step.source)
            });
        }
        let instructions = &report.instructions;
        report.shared = instructions.iter().filter(|work| work.parts > 1).count();
        report.flops = instructions.iter().fold(0, |sum, work| sum.saturating_add(work.flops));
        report.bytes_read = instructions.iter().map(|work| work.bytes_read).sum();
        report.bytes_written = instructions.iter().map(|work| work.bytes_written).sum();

        report.effects = plan.effects.iter().map(|e| Work::of_effect(graph, e)).collect();
        report.state_bytes = plan.effects.iter().map(state_bytes).sum();
        let fetched = plan.fetches.iter().map(|fetch| match fetch {
            FetchFrom::Value(operand) => bytes::<T>(operand),
            FetchFrom::StepOf(_) => size_of::<T>(),
        });
        report.fetched_bytes = fetched.sum();
        report
    }

    /// Puts what another plan does behind this: it runs so many times, in so many arenas.
    pub(crate) fn join(&mut self, other: &Report, times: usize, arenas: usize) {
        let Report { nodes_recorded, variable_bytes, .. } = *other;
        (self.nodes_recorded, self.variable_bytes) = (nodes_recorded, variable_bytes);
        let sums = [
            (&mut self.nodes_needed, other.nodes_needed, 1),
            (&mut self.nodes_computed, other.nodes_computed, 1),
            (&mut self.kernels, other.kernels, times),
            (&mut self.elementwise_ops, other.elementwise_ops, 1),
            (&mut self.loops, other.loops, 1),
            (&mut self.shared, other.shared, 1),
            (&mut self.flops, other.flops, times),
            (&mut self.bytes_read, other.bytes_read, times),
            (&mut self.bytes_written, other.bytes_written, times),
            (&mut self.arena_bytes, other.arena_bytes, arenas),
            (&mut self.state_bytes, other.state_bytes, 1),
            (&mut self.fetched_bytes, other.fetched_bytes, times),
        ];
        for (sum, n, times) in sums {
            *sum = sum.saturating_add(n.saturating_mul(times));
        }
        self.instructions.extend_from_slice(&other.instructions);
        self.effects.extend_from_slice(&other.effects);
    }

    /// The peak memory of a run, beside the session's constants and the feeds: the arenas, the
    /// variables, the optimizers' state, and the tensors fetched.
    pub fn peak_bytes(&self) -> usize {
        self.arena_bytes + self.variable_bytes + self.state_bytes + self.fetched_bytes
    }
}

impl Work {
    /// One of no work, for this node.
    fn of<T: Scalar>(graph: &Graph<T>, node: NodeId) -> Work {
        Work {
            name: String::new(),
            node: graph.name(node),
            at: graph.node(node).at,
            inputs: vec![],
            outputs: vec![],
            flops: 0,
            bytes_read: 0,
            bytes_written: 0,
            only_if: vec![],
            parts: 1,
        }
    }

    fn of_effect<T: Scalar>(graph: &Graph<T>, effect: &EffectStep<T>) -> Work {
        match effect {
            EffectStep::Assign { node, from, .. } => Work {
                name: "assign".to_string(),
                inputs: vec![from.shape],
                outputs: vec![from.shape],
                bytes_read: bytes::<T>(from),
                bytes_written: bytes::<T>(from),
                ..Work::of(graph, *node)
            },
            EffectStep::Update { node, rule, gradients, parts, .. } => {
                let (n, slots) = (gradients.len, rule.slots());
                let bytes = |words: usize| words.saturating_mul(n).saturating_mul(size_of::<T>());
                Work {
                    name: rule.name().to_string(),
                    inputs: vec![[n].into(); 2 + slots],
                    outputs: vec![[n].into(); 1 + slots],
                    bytes_read: bytes(2 + slots),
                    bytes_written: bytes(1 + slots),
                    parts: *parts,
                    ..Work::of(graph, *node)
                }
            }
        }
    }

    /// FLOPs for each byte read or written: below what the machine does in the time it moves a
    /// byte, memory is the limit.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / (self.bytes_read + self.bytes_written).max(1) as f64
    }
}

/// What an operand holds in memory; nothing, if only its shape is asked for.
fn bytes<T: Scalar>(o: &Operand) -> usize {
    match (o.place, o.dtype) {
        (Place::Nothing, _) => 0,
        (_, DType::Float) => o.len * size_of::<T>(),
        (_, DType::Index) => o.len * size_of::<Index>(),
    }
}

fn loop_name(n_ops: usize) -> String {
    format!("loop of {n_ops} op{}", if n_ops == 1 { "" } else { "s" })
}

fn state_bytes<T: Scalar>(effect: &EffectStep<T>) -> usize {
    match effect {
        EffectStep::Assign { .. } => 0,
        EffectStep::Update { rule, gradients, .. } => {
            rule.slots().saturating_mul(gradients.len).saturating_mul(size_of::<T>())
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   #   FLOPs    read written  FLOP/B")?;
        for (i, work) in self.instructions.iter().chain(&self.effects).enumerate() {
            writeln!(f, "{i:4}  {work}")?;
        }
        let [recorded, needed] = [self.nodes_recorded, self.nodes_needed];
        writeln!(
            f,
            "nodes     {recorded} recorded, {needed} needed, {} computed",
            self.nodes_computed
        )?;
        writeln!(
            f,
            "kernels   {}, of which {} loops of {} elementwise ops; {} shared by threads",
            self.kernels, self.loops, self.elementwise_ops, self.shared
        )?;
        writeln!(f, "FLOPs     {}", Short(self.flops))?;
        let [read, written] = [self.bytes_read, self.bytes_written].map(Short);
        writeln!(f, "bytes     {read} read, {written} written by instructions")?;
        let [read, written] = [|w: &Work| w.bytes_read, |w: &Work| w.bytes_written]
            .map(|of| Short(self.effects.iter().map(of).sum()));
        writeln!(f, "          {read} read, {written} written by updates and assignments")?;
        let [arena, variables] = [self.arena_bytes, self.variable_bytes].map(Short);
        let [state, fetched] = [self.state_bytes, self.fetched_bytes].map(Short);
        writeln!(f, "memory    {arena} of arenas")?;
        writeln!(f, "          {variables} of variables")?;
        writeln!(f, "          {state} of optimizer state")?;
        writeln!(f, "          {fetched} fetched")?;
        write!(f, "          {} at most", Short(self.peak_bytes()))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [flops, read, written] =
            [self.flops, self.bytes_read, self.bytes_written].map(|n| Short(n).to_string());
        write!(f, "{flops:>6}  {read:>6}  {written:>6}  {:>6.2}", self.intensity())?;
        write!(f, "  {}: {} -> {}", self.name, list(&self.inputs), list(&self.outputs))?;
        self.only_if.iter().try_for_each(|(predicate, holds)| {
            write!(f, "{} {predicate}", if *holds { ", if" } else { ", unless" })
        })
    }
}

/// A number in three digits: `512`, `25.7M`.
struct Short(usize);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return write!(f, "{}", self.0);
        }
        // What rounds to 1000 is written in the next unit.
        let (mut x, mut units) = (self.0 as f64 / 1e3, ['k', 'M', 'G', 'T', 'P'].iter());
        let mut unit = units.next().unwrap_or(&'k');
        while x >= 999.5 {
            let Some(next) = units.next() else { break };
            (x, unit) = (x / 1e3, next);
        }
        let digits = if x < 9.995 { 2 } else { usize::from(x < 99.95) };
        write!(f, "{x:.digits$}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::Short;

    #[test]
    fn numbers_are_written_in_three_digits() {
        for (n, want) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (9_994, "9.99k"),
            (9_996, "10.0k"),
            (99_960, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (25_690_112, "25.7M"),
            (3_000_000_000, "3.00G"),
        ] {
            assert_eq!(Short(n).to_string(), want);
        }
    }
}
