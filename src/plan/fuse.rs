//! The order of instructions, and which elementwise values share one loop.

use super::Passes;
use super::program::{Def, Program, Value, ValueId};
use crate::kernel::map::{
    Access, Instruction, Loop, MAX_INPUTS, MAX_OUTPUTS, MAX_REGISTERS, MAX_SUMS, MapLoop, Slot,
    Target,
};
use crate::kernel::pair::pair;
use crate::scalar::Scalar;
use crate::shape::{MAX_RANK, Shape};
use crate::tape::op::{Op, Reduction, ScalarOp, broadcast_strides};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// One instruction to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// A value by its own kernel.
    One(ValueId),
    /// Elementwise values of one shape in one loop, in order, each perhaps followed by its sum.
    Loop(Vec<ValueId>),
    /// A product X·w, the loop that reads it, and the product Xᵀ·r of what the loop makes.
    Rows { forward: ValueId, members: Vec<ValueId>, backward: ValueId },
}

impl Item {
    /// The values of its loop.
    pub(super) fn members(&self) -> Option<&[ValueId]> {
        match self {
            Item::One(_) => None,
            Item::Loop(members) | Item::Rows { members, .. } => Some(members),
        }
    }
}

/// The instructions in the order they run.
pub(super) fn schedule<T: Scalar>(program: &Program<T>, passes: Passes) -> Vec<Item> {
    let used = program.used();
    let order = order(program, &used);
    let groups = group(program, &order, if passes.fuse { MAX_REGISTERS } else { 1 });
    let mut group_of: Vec<u32> = vec![u32::MAX; program.values.len()];
    for (g, group) in (0..).zip(&groups) {
        group.iter().for_each(|&id| group_of[id as usize] = g);
    }
    let outside = read_outside(program, &used, &group_of);
    let mut items = Vec::with_capacity(order.len());
    for &id in &order {
        match group_of[id as usize] {
            u32::MAX if program.part(id).is_some() => {}
            u32::MAX => items.push(Item::One(id)),
            g => {
                let group = &groups[g as usize];
                // The loop runs where its last member stands: everything that reads it is later.
                if group.last() == Some(&id) {
                    cut(program, group, &outside, &mut items);
                }
            }
        }
    }
    if passes.fuse { join_sums(program, items) } else { items }
}

/// Sums over all elements of what a loop computes join the loop.
fn join_sums<T: Scalar>(program: &Program<T>, items: Vec<Item>) -> Vec<Item> {
    let mut loop_of: HashMap<ValueId, usize> = HashMap::new();
    let mut n_sums: HashMap<usize, usize> = HashMap::new();
    let mut out: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Item::One(id) => {
                let of = summed(program, id).and_then(|of| Some((of, *loop_of.get(&of)?)));
                if let Some((of, at)) = of
                    && program.guards(of) == program.guards(id)
                    && let Item::Loop(members) = &mut out[at]
                    && n_sums.get(&at).is_none_or(|&n| n < MAX_SUMS)
                {
                    *n_sums.entry(at).or_default() += 1;
                    let after = members.iter().position(|&m| m == of).map_or(0, |i| i + 1);
                    members.insert(after, id);
                } else {
                    out.push(Item::One(id));
                }
            }
            Item::Loop(members) => {
                loop_of.extend(members.iter().map(|&m| (m, out.len())));
                out.push(Item::Loop(members));
            }
            Item::Rows { .. } => out.push(item),
        }
    }
    out
}

/// The computed value whose elements this one sums up to one number.
pub(super) fn summed<T: Scalar>(program: &Program<T>, id: ValueId) -> Option<ValueId> {
    let value = program.value(id);
    let is_sum = match &value.def {
        Def::Op(Op::Reduce(reduce)) => reduce.kind == Reduction::Sum,
        Def::Op(Op::SumToLike(_)) => true,
        _ => false,
    };
    (is_sum && value.shape.len() == 1).then(|| program.root(value.inputs[0]))
}

/// The values that something outside their own loop reads. `loop_of` numbers the loops.
pub(super) fn read_outside<T: Scalar>(
    program: &Program<T>,
    used: &[bool],
    loop_of: &[u32],
) -> Vec<bool> {
    let mut outside = vec![false; program.values.len()];
    program.results().for_each(|id| outside[program.root(id) as usize] = true);
    for (id, value) in program.values.iter().enumerate().filter(|(id, _)| used[*id]) {
        let own = loop_of[id];
        for &input in &value.inputs {
            if own == u32::MAX || loop_of[input as usize] != own {
                outside[program.root(input) as usize] = true;
            }
        }
    }
    outside
}

/// Elementwise values of one value that is in memory anyway, read by elementwise values alone. They
/// wait for their first reader, perhaps a loop of the backward pass, instead of being written for
/// it: a mask is as cheap to make as to read.
fn lazy<T: Scalar>(program: &Program<T>, used: &[bool]) -> Vec<bool> {
    let mut in_memory = vec![false; program.values.len()];
    program.results().for_each(|id| in_memory[program.root(id) as usize] = true);
    for (id, value) in (0..).zip(&program.values).filter(|(id, _)| used[*id as usize]) {
        if value.elementwise().is_none() {
            in_memory[id as usize] = true;
            if summed(program, id).is_none() {
                let inputs = value.inputs.iter().map(|&input| program.root(input));
                inputs.for_each(|input| in_memory[input as usize] = true);
            }
        }
    }
    let is_lazy = |(id, value): (usize, &Value<T>)| {
        let is_literal = |id: &&ValueId| matches!(program.value(**id).def, Def::Literal(_));
        let mut read = read_inputs(value).iter().filter(|id| !is_literal(id));
        let first = read.next().filter(|first| read.all(|id| id == *first));
        let reads_memory = first.is_some_and(|&id| in_memory[program.root(id) as usize]);
        value.elementwise().is_some() && !in_memory[id] && reads_memory
    };
    program.values.iter().enumerate().map(is_lazy).collect()
}

/// Computed values in an order that keeps elementwise chains together: among the values that are
/// ready, those that cost nothing and elementwise ones come first, but for those that wait.
fn order<T: Scalar>(program: &Program<T>, used: &[bool]) -> Vec<ValueId> {
    let n = program.values.len();
    let mut waits = vec![0u32; n];
    let mut first_user = vec![0u32; n + 1];
    for id in (0..n).filter(|&id| used[id]) {
        waits[id] = program.waits_for(id as ValueId).count() as u32;
        program.waits_for(id as ValueId).for_each(|i| first_user[i as usize + 1] += 1);
    }
    (0..n).for_each(|i| first_user[i + 1] += first_user[i]);
    let mut users = vec![0; first_user[n] as usize];
    let mut next = first_user.clone();
    for id in (0..n as ValueId).filter(|&id| used[id as usize]) {
        for i in program.waits_for(id) {
            users[next[i as usize] as usize] = id;
            next[i as usize] += 1;
        }
    }

    let is_late = |value: &Value<T>| value.is_computed() && value.elementwise().is_none();
    let key = |id: ValueId| Reverse((is_late(program.value(id)), id));
    let mut ready: BinaryHeap<_> = (0..n as ValueId)
        .filter(|&id| used[id as usize] && waits[id as usize] == 0)
        .map(key)
        .collect();
    let mut order = Vec::with_capacity(n);
    let lazy = lazy(program, used);
    let mut waiting = vec![false; n];
    while let Some(Reverse((_, id))) = ready.pop() {
        if lazy[id as usize] {
            waiting[id as usize] = true;
        } else if program.value(id).is_computed() {
            for input in program.waits_for(id) {
                if std::mem::take(&mut waiting[input as usize]) {
                    order.push(input);
                }
            }
            order.push(id);
        }
        let of = first_user[id as usize] as usize..first_user[id as usize + 1] as usize;
        for &user in &users[of] {
            waits[user as usize] -= 1;
            if waits[user as usize] == 0 {
                ready.push(key(user));
            }
        }
    }
    order
}

/// Elementwise values grouped into loops of at most `most` members. A value joins the groups of
/// its inputs if they have its shape and guards and nothing outside has read them yet; so what a
/// group reads never depends on what it writes, and its readers all come after its last member.
fn group<T: Scalar>(program: &Program<T>, order: &[ValueId], most: usize) -> Vec<Vec<ValueId>> {
    struct Group {
        members: Vec<ValueId>,
        inputs: Vec<ValueId>,
        sealed: bool,
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of: HashMap<ValueId, usize> = HashMap::new();
    for &id in order {
        let value = program.value(id);
        let mut joins: Vec<usize> = Vec::new();
        let mut inputs: Vec<ValueId> = Vec::new();
        let mut size = 1;
        if value.elementwise().is_some() {
            for &input in read_inputs(value) {
                let own = group_of
                    .get(&input)
                    .copied()
                    .filter(|&g| !groups[g].sealed && program.value(input).shape == value.shape)
                    .filter(|_| program.guards(input) == program.guards(id));
                let mut joined = inputs.clone();
                let fits = own.is_some_and(|g| {
                    let new = !joins.contains(&g);
                    if new {
                        joined.extend(&groups[g].inputs);
                        joined.sort_unstable();
                        joined.dedup();
                    }
                    let members = if new { groups[g].members.len() } else { 0 };
                    let fits = size + members <= most && joined.len() <= MAX_INPUTS - 3;
                    if fits && new {
                        size += members;
                        joins.push(g);
                    }
                    fits
                });
                match fits {
                    true => inputs = joined,
                    false if !inputs.contains(&input) => inputs.push(input),
                    false => {}
                }
            }
        }
        // A loop whose memory it also reads under another shape must be done before it.
        let seen_as_view = |id: &ValueId| {
            let of = group_of.get(&program.root(*id)).filter(|_| program.root(*id) != *id);
            of.is_some_and(|g| joins.contains(g))
        };
        if value.inputs.iter().any(seen_as_view) {
            joins.clear();
            inputs = read_inputs(value).to_vec();
        }
        // What it reads from outside is sealed: nothing may join those loops any more.
        for input in program.waits_for(id) {
            if let Some(&g) = group_of.get(&program.root(input))
                && !joins.contains(&g)
            {
                groups[g].sealed = true;
            }
        }
        if value.elementwise().is_none() {
            continue;
        }
        let target = joins.first().copied().unwrap_or_else(|| {
            groups.push(Group { members: vec![], inputs: vec![], sealed: false });
            groups.len() - 1
        });
        for &g in joins.iter().skip(1) {
            let moved = std::mem::take(&mut groups[g].members);
            group_of.extend(moved.iter().map(|&m| (m, target)));
            groups[target].members.extend(moved);
        }
        groups[target].members.push(id);
        groups[target].inputs = inputs;
        group_of.insert(id, target);
    }
    let mut position = vec![0u32; program.values.len()];
    (0..).zip(order).for_each(|(at, &id)| position[id as usize] = at);
    let mut members: Vec<Vec<ValueId>> = groups.into_iter().map(|g| g.members).collect();
    members.retain(|m| !m.is_empty());
    members.iter_mut().for_each(|m| m.sort_unstable_by_key(|&id| position[id as usize]));
    members
}

/// The inputs whose elements are read: of a broadcast, not the shape it broadcasts to.
fn read_inputs<T: Scalar>(value: &Value<T>) -> &[ValueId] {
    match value.elementwise() {
        Some(op) => &value.inputs[..op.arity()],
        None => &value.inputs,
    }
}

/// Cuts a group in two until no loop has more inputs or outputs than a loop may have.
fn cut<T: Scalar>(
    program: &Program<T>,
    group: &[ValueId],
    outside: &[bool],
    items: &mut Vec<Item>,
) {
    let mut rest = group;
    while !rest.is_empty() {
        // The longest prefix that fits; a member read by the rest is an output, too.
        let outputs = |n: usize| {
            let (head, tail) = rest.split_at(n);
            let read_later = |id: &ValueId| {
                outside[*id as usize] || tail.iter().any(|&t| program.value(t).inputs.contains(id))
            };
            head.iter().filter(|id| read_later(id)).count()
        };
        // What an earlier part of the group wrote is an input, too.
        let inputs = |n: usize| {
            let read = rest[..n].iter().flat_map(|&id| read_inputs(program.value(id)));
            read.filter(|id| !rest[..n].contains(id)).collect::<BTreeSet<_>>().len()
        };
        let fits = |&n: &usize| outputs(n) <= MAX_OUTPUTS && inputs(n) <= MAX_INPUTS;
        let n = (1..=rest.len()).rev().find(fits).unwrap_or(1);
        items.push(Item::Loop(rest[..n].to_vec()));
        rest = &rest[n..];
    }
}

/// A loop's program, the values it reads and those it writes.
pub(super) struct Compiled<T> {
    pub(super) code: MapLoop<T>,
    pub(super) inputs: Vec<ValueId>,
    pub(super) outputs: Vec<ValueId>,
    /// Sums of what it computes, each one number.
    pub(super) sums: Vec<ValueId>,
}

/// Compiles the members of a loop. `is_read` tells which values something outside reads.
pub(super) fn compile<T: Scalar>(
    program: &Program<T>,
    members: &[ValueId],
    is_read: impl Fn(ValueId) -> bool,
) -> Compiled<T> {
    let shape = program.value(members[0]).shape;
    let mut inputs: Vec<ValueId> = Vec::new();
    let mut access: Vec<Access> = Vec::new();
    let mut outputs: Vec<ValueId> = Vec::new();
    let mut sums: Vec<ValueId> = Vec::new();
    let mut code: Vec<Instruction<T>> = Vec::new();
    let mut slots: HashMap<ValueId, Slot> = HashMap::new();
    let mut n_registers = 0;
    let mut free: Vec<u8> = Vec::new();

    let pairs = pairs(program, members, &is_read);
    let inlined: BTreeSet<ValueId> = pairs.values().map(|pair| pair.inner).collect();
    let reads = |id: ValueId| -> Vec<ValueId> {
        match pairs.get(&id) {
            Some(pair) => pair.reads.to_vec(),
            None if inlined.contains(&id) => vec![],
            None => read_inputs(program.value(id)).to_vec(),
        }
    };
    let mut last_read: HashMap<ValueId, usize> = HashMap::new();
    for (at, &id) in members.iter().enumerate() {
        let read = if summed(program, id).is_some() { vec![] } else { reads(id) };
        last_read.extend(read.into_iter().chain(summed(program, id)).map(|i| (i, at)));
    }
    for (at, &id) in members.iter().enumerate() {
        let value = program.value(id);
        let mut args = [Slot::Input(0); 3];
        let Some(op) = value.elementwise() else {
            let of = summed(program, id).unwrap_or(id);
            args[0] = slots[&of];
            code.push(Instruction { run: Loop::Sum, args, to: Target::Sum(sums.len() as u8) });
            sums.push(id);
            if let (Slot::Register(r), true) = (args[0], last_read[&of] == at) {
                free.push(r);
            }
            continue;
        };
        if inlined.contains(&id) {
            continue;
        }
        for (arg, input) in args.iter_mut().zip(reads(id)) {
            *arg = *slots.entry(input).or_insert_with(|| {
                let own = program.value(input).shape;
                let part = program.part(input).filter(|_| own == shape);
                let (from, how) = part.unwrap_or_else(|| (input, layout(&own, &shape)));
                inputs.push(from);
                access.push(how);
                Slot::Input(inputs.len() as u8 - 1)
            });
        }
        if op == ScalarOp::Id && !is_read(id) && matches!(args[0], Slot::Input(_)) {
            // A broadcast that only this loop reads: its readers read the input itself.
            slots.insert(id, args[0]);
            continue;
        }
        let (to, slot) = if is_read(id) {
            outputs.push(id);
            let o = outputs.len() as u8 - 1;
            (Target::Output(o), Slot::Output(o))
        } else {
            let r = free.pop().unwrap_or_else(|| {
                n_registers += 1;
                n_registers as u8 - 1
            });
            (Target::Register(r), Slot::Register(r))
        };
        let run = pairs.get(&id).map_or_else(|| op.kernel(), |pair| pair.run);
        code.push(Instruction { run, args, to });
        slots.insert(id, slot);
        for input in reads(id).into_iter().filter(|i| last_read[i] == at) {
            if let Some(Slot::Register(r)) = slots.get(&input)
                && !free.contains(r)
            {
                free.push(*r);
            }
        }
    }
    let (n_outputs, n_sums) = (outputs.len(), sums.len());
    let n_ops = code.len() - n_sums + pairs.len();
    let len = shape.len();
    let code = MapLoop::new(&code, access, (n_outputs, n_registers), n_sums, n_ops, len);
    Compiled { code, inputs, outputs, sums }
}

/// Two members in one instruction.
struct Pair<T> {
    /// The first of them, which only the second reads.
    inner: ValueId,
    /// What the instruction reads.
    reads: [ValueId; 3],
    run: Loop<T>,
}

/// The members that take over the one that makes an argument of theirs, where there is an
/// instruction for both.
fn pairs<T: Scalar>(
    program: &Program<T>,
    members: &[ValueId],
    is_read: impl Fn(ValueId) -> bool,
) -> HashMap<ValueId, Pair<T>> {
    let mut n_reads: HashMap<ValueId, usize> = HashMap::new();
    for &id in members {
        let read = read_inputs(program.value(id)).iter().copied();
        let sum = summed(program, id);
        read.chain(sum).for_each(|input| *n_reads.entry(input).or_default() += 1);
    }
    let arithmetic = |id: ValueId| program.value(id).elementwise().and_then(ScalarOp::arithmetic);
    let mut pairs: HashMap<ValueId, Pair<T>> = HashMap::new();
    for &id in members {
        let Some(second) = arithmetic(id) else { continue };
        let (a, b) = match *read_inputs(program.value(id)) {
            [a] => (a, a),
            [a, b] => (a, b),
            _ => continue,
        };
        for (inner, other, on_right) in [(a, b, false), (b, a, true)] {
            let alone = members.contains(&inner) && n_reads[&inner] == 1 && !is_read(inner);
            if !alone || pairs.contains_key(&inner) {
                continue;
            }
            let run = arithmetic(inner).and_then(|first| pair(first, second, on_right));
            let Some(run) = run else { continue };
            let (x, y) = match *read_inputs(program.value(inner)) {
                [x] => (x, x),
                [x, y] => (x, y),
                _ => continue,
            };
            let other = if other == inner { x } else { other };
            pairs.insert(id, Pair { inner, reads: [x, y, other], run });
            break;
        }
    }
    pairs
}

/// How an input of shape `from` lies under a loop over `to`: adjacent axes folded where the
/// strides allow it.
fn layout(from: &Shape, to: &Shape) -> Access {
    let all = broadcast_strides(from, to);
    let (mut extents, mut strides, mut rank) = ([1; MAX_RANK], [0; MAX_RANK], 0);
    for (&extent, &stride) in to.extents().iter().zip(&all).filter(|(e, _)| **e != 1) {
        if rank > 0 && stride == strides[rank - 1] * extents[rank - 1] {
            extents[rank - 1] *= extent;
        } else {
            (extents[rank], strides[rank]) = (extent, stride);
            rank += 1;
        }
    }
    match (rank, strides[0]) {
        // One number under one is read where it is.
        (0, _) if to.len() == 1 => Access::Dense,
        (0, _) | (1, 0) => Access::Splat,
        (1, 1) => Access::Dense,
        _ => Access::Strided { rank: rank as u8, extents, strides },
    }
}
