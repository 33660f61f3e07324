//! What the passes work on: the needed part of the graph with all shapes known.

use super::guard::{Guards, guards};
use crate::kernel::map::Access;
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tape::op::{ById, Leaf, Op, Rule, ScalarOp};
use crate::tape::{ALWAYS, GuardId, NodeId};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The place of a value in a [`Program`].
pub(super) type ValueId = u32;

/// Values in an order in which they can be computed, and what is done with them.
#[derive(Debug)]
pub(super) struct Program<T: Scalar> {
    pub(super) values: Vec<Value<T>>,
    pub(super) fetches: Vec<Fetched>,
    /// What is computed into one block.
    pub(super) partials: Vec<ValueId>,
    pub(super) effects: Vec<EffectValue<T>>,
    /// Nodes of the tape that the fetches need.
    pub(super) n_needed: usize,
    /// What the node stands under whose values are being added: equal values of different branches
    /// are different values, so that each has the guards of its branch.
    pub(super) branch: GuardId,
    branches: Vec<GuardId>,
    guards: Vec<Guards>,
    /// For some values that are not computed, what is read in their place, and how loops do.
    pub(super) parts: Vec<Option<(ValueId, Access)>>,
    seen: HashMap<u64, ValueId>,
}

#[derive(Debug)]
pub(super) struct Value<T: Scalar> {
    pub(super) def: Def<T>,
    pub(super) inputs: Vec<ValueId>,
    pub(super) shape: Shape,
    pub(super) dtype: DType,
    pub(super) source: NodeId,
}

/// How a value comes to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Def<T: Scalar> {
    /// The feed of this number.
    Feed(usize),
    /// What shards have computed together, from this element on.
    Combined(usize),
    /// A variable of the session.
    Variable(NodeId),
    Constant(ById<Tensor<T>>),
    IndexConstant(ById<Tensor<Index>>),
    Literal(u64),
    /// Never computed: an op asks for its shape only.
    Shape,
    /// The memory of the first input under another shape, once the other inputs are computed.
    Alias,
    Op(Op<T>),
}

#[derive(Debug)]
pub(super) enum Fetched {
    Value(ValueId),
    StepOf(usize),
}

#[derive(Debug)]
pub(super) enum EffectValue<T: Scalar> {
    Assign { variable: NodeId, value: ValueId },
    Update { node: NodeId, rule: Arc<dyn Rule<T>>, pairs: Vec<(NodeId, ValueId)> },
}

impl<T: Scalar> Program<T> {
    pub(super) fn new() -> Self {
        Program {
            values: Vec::new(),
            fetches: Vec::new(),
            partials: Vec::new(),
            effects: Vec::new(),
            n_needed: 0,
            branch: ALWAYS,
            branches: Vec::new(),
            guards: Vec::new(),
            parts: Vec::new(),
            seen: HashMap::new(),
        }
    }

    pub(super) fn value(&self, id: ValueId) -> &Value<T> {
        &self.values[id as usize]
    }

    /// Adds a value, or finds the equal one that is there.
    pub(super) fn add(&mut self, value: Value<T>) -> ValueId {
        let branch = match value.def {
            Def::Alias | Def::Op(_) => self.branch,
            _ => ALWAYS,
        };
        let mut hasher = DefaultHasher::new();
        value.def.hash(&mut hasher);
        (&value.inputs, value.shape, branch).hash(&mut hasher);
        let key = hasher.finish();
        if let Some(&id) = self.seen.get(&key) {
            let known = self.value(id);
            let same = (&known.def, &known.inputs) == (&value.def, &value.inputs);
            if same && (known.shape, self.branches[id as usize]) == (value.shape, branch) {
                return id;
            }
        }
        let id = self.values.len() as ValueId;
        self.values.push(value);
        self.branches.push(branch);
        self.seen.insert(key, id);
        id
    }

    pub(super) fn literal(&mut self, x: f64, source: NodeId) -> ValueId {
        self.add(Value {
            def: Def::Literal(x.to_bits()),
            inputs: vec![],
            shape: Shape::SCALAR,
            dtype: DType::Float,
            source,
        })
    }

    /// Sees, when all values are there, under which guards each is needed.
    pub(super) fn guard(&mut self) {
        self.guards = guards(self);
    }

    /// The predicates that have to hold, or not to, for the value to be computed, outer ones first.
    pub(super) fn guards(&self, id: ValueId) -> &[(ValueId, bool)] {
        self.guards.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// What has to be computed before the value: its inputs, and the predicates of its guards.
    pub(super) fn waits_for(&self, id: ValueId) -> impl Iterator<Item = ValueId> + '_ {
        let predicates = self.guards(id).iter().map(|guard| guard.0);
        self.value(id).inputs.iter().copied().chain(predicates)
    }

    /// What is read in place of the value, if it is not computed, and how loops read it.
    pub(super) fn part(&self, id: ValueId) -> Option<(ValueId, Access)> {
        self.parts.get(id as usize).copied().flatten()
    }

    /// The value whose memory this is.
    pub(super) fn root(&self, mut id: ValueId) -> ValueId {
        while let Def::Alias = self.value(id).def {
            id = self.value(id).inputs[0];
        }
        id
    }

    /// The value in whose memory this one lies, and from which element on.
    pub(super) fn memory(&self, id: ValueId) -> (ValueId, usize) {
        let root = self.root(id);
        match self.part(root) {
            Some((from, Access::Part(start))) => (self.root(from), start),
            _ => (root, 0),
        }
    }

    /// Every value that something uses, for each: fetches and effects, and what those need.
    pub(super) fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.values.len()];
        self.results().for_each(|id| used[id as usize] = true);
        for id in (0..self.values.len()).rev() {
            if used[id] {
                self.values[id].inputs.iter().for_each(|&i| used[i as usize] = true);
            }
        }
        used
    }

    /// The values that outlive the instructions: fetched ones, partial results, and those that
    /// effects write.
    pub(super) fn results(&self) -> impl Iterator<Item = ValueId> + '_ {
        let fetched = self.fetches.iter().filter_map(|f| match f {
            Fetched::Value(id) => Some(*id),
            Fetched::StepOf(_) => None,
        });
        fetched.chain(self.partials.iter().copied()).chain(self.effects.iter().flat_map(
            |e| match e {
                EffectValue::Assign { value, .. } => vec![*value],
                EffectValue::Update { pairs, .. } => pairs.iter().map(|p| p.1).collect(),
            },
        ))
    }
}

impl<T: Scalar> Value<T> {
    /// The elementwise op this is, with broadcasting as the identity.
    pub(super) fn elementwise(&self) -> Option<ScalarOp> {
        match self.def {
            Def::Op(Op::Scalar(op)) => Some(op),
            Def::Op(Op::BroadcastLike(_)) => Some(ScalarOp::Id),
            _ => None,
        }
    }

    /// Whether an instruction computes it.
    pub(super) fn is_computed(&self) -> bool {
        matches!(self.def, Def::Op(_))
    }
}

impl<T: Scalar> Hash for Def<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Def::Feed(i) | Def::Combined(i) => i.hash(state),
            Def::Variable(id) => id.hash(state),
            Def::Constant(value) => value.hash(state),
            Def::IndexConstant(value) => value.hash(state),
            Def::Literal(bits) => bits.hash(state),
            Def::Shape | Def::Alias => {}
            Def::Op(op) => op.hash(state),
        }
    }
}

/// Makes a leaf of the tape a definition; placeholders have none.
pub(super) fn leaf<T: Scalar>(id: NodeId, leaf: &Leaf<T>) -> Option<Def<T>> {
    Some(match leaf {
        Leaf::Placeholder { .. } => return None,
        Leaf::Variable(_) => Def::Variable(id),
        Leaf::Constant(value) => Def::Constant(value.clone()),
        Leaf::IndexConstant(value) => Def::IndexConstant(value.clone()),
        Leaf::Literal(bits) => Def::Literal(*bits),
        Leaf::Place => {
            Def::IndexConstant(ById(Arc::new(Tensor::from_fn(2, |_| 0).unwrap_or_default())))
        }
    })
}
