//! What a plan does, in numbers, before it runs.

use super::program::Program;
use super::{Code, Operand, Place, Plan};
use crate::scalar::{DType, Index, Scalar};
use crate::tape::Graph;
use std::fmt;

/// What a plan does, before it runs; it prints as a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Nodes on the tape.
    pub nodes_recorded: usize,
    /// Nodes whose value the fetches need.
    pub nodes_needed: usize,
    /// Instructions that run, each one kernel.
    pub kernels: usize,
    /// Elementwise ops that run in fused loops, and in how many.
    pub elementwise_ops: usize,
    /// Fused loops.
    pub loops: usize,
    /// Instructions that threads share.
    pub shared: usize,
    /// Bytes that instructions read, each input of an instruction once.
    pub bytes_read: usize,
    /// Bytes that instructions write.
    pub bytes_written: usize,
    /// Bytes of the arenas: the peak memory of a run beside variables, feeds and fetches.
    pub arena_bytes: usize,
    /// A line for each instruction: what it is, and its shapes.
    pub instructions: Vec<String>,
}

impl Report {
    pub(super) fn of<T: Scalar>(graph: &Graph<T>, program: &Program<T>, plan: &Plan<T>) -> Report {
        let bytes = |o: &Operand| match (o.place, o.dtype) {
            (Place::Nothing, _) => 0,
            (_, DType::Float) => o.len * size_of::<T>(),
            (_, DType::Index) => o.len * size_of::<Index>(),
        };
        let mut report = Report {
            nodes_recorded: graph.len(),
            nodes_needed: program.n_needed,
            kernels: plan.instructions.len(),
            arena_bytes: plan.arena * size_of::<T>() + plan.index_arena * size_of::<Index>(),
            ..Report::default()
        };
        for step in &plan.instructions {
            report.shared += usize::from(step.shared.parts > 1);
            report.bytes_read += step.inputs.iter().map(bytes).sum::<usize>();
            report.bytes_written += step.outputs.iter().map(bytes).sum::<usize>();
            let name = match &step.code {
                Code::Op(op) => op.primitive().name().to_string(),
                Code::Product(_) => "matmul".to_string(),
                Code::Rows(pass) => {
                    report.loops += 1;
                    report.elementwise_ops += pass.map.n_ops;
                    format!("rows of matmul, loop of {} ops, matmul", pass.map.n_ops)
                }
                Code::Map(code) => {
                    report.loops += 1;
                    report.elementwise_ops += code.n_ops;
                    format!("loop of {} ops", code.n_ops)
                }
            };
            let shapes = |o: &[Operand]| {
                crate::tape::op::list(&o.iter().map(|o| o.shape).collect::<Vec<_>>())
            };
            report.instructions.push(format!(
                "{name}: {} -> {}",
                shapes(&step.inputs),
                shapes(&step.outputs)
            ));
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.instructions.iter().enumerate() {
            writeln!(f, "{i:4}  {line}")?;
        }
        writeln!(f, "nodes     {} recorded, {} needed", self.nodes_recorded, self.nodes_needed)?;
        writeln!(
            f,
            "kernels   {}, of which {} loops of {} elementwise ops; {} shared by threads",
            self.kernels, self.loops, self.elementwise_ops, self.shared
        )?;
        writeln!(f, "bytes     {} read, {} written", self.bytes_read, self.bytes_written)?;
        write!(f, "memory    {} bytes of arena", self.arena_bytes)
    }
}
