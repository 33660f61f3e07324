//! RECORD: the tape, its expressions and its ops. Computes nothing.

mod expr;
mod graph;
mod guard;
mod handle;
mod hash;
pub mod op;
mod scan;
mod show;

pub use expr::{Expr, IndexExpr, Operand};
pub use graph::NodeInfo;
pub(crate) use graph::{Graph, Node, NodeId};
pub(crate) use guard::{ALWAYS, GuardId};
pub(crate) use handle::FeedValue;
pub use handle::{AsNode, Feed, Fetch, NodeRef, Placeholder, Var};
pub use scan::Scanned;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::{DType, Index, Scalar};
use crate::shape::Shape;
use crate::tensor::Tensor;
use op::{ById, Effect, Leaf, Op, Pass, Primitive, VariableInit, VjpRule};
use std::cell::{Cell, RefCell};
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The id of an expression that stands for a mistake.
const POISON: NodeId = NodeId::MAX;

/// A record of ops in the order they were written: TensorFlow's graph, Wengert's list.
///
/// Recording computes nothing and never fails: the first mistake is kept, and returned by the
/// first call that has a [`Result`] ([`Tape::gradient`], [`Session::new`](crate::Session::new),
/// [`Tape::check`]), with the line that made it. Equal nodes are recorded once.
///
/// ```
/// use gradtape::{Session, Tape};
/// let tape = Tape::<f64>::new();
/// let b = tape.placeholder("b", []);
/// let c = tape.placeholder("c", []);
/// let a = (b + c) * (c + 2.0);
/// let da = tape.gradient(a, &[b, c])?;
/// let mut session = Session::new(&tape)?;
/// let feeds = [b.feed(&2.0), c.feed(&1.0)];
/// let (a, db, dc) = session.run((a, da[0], da[1]), &feeds)?;
/// assert_eq!([a.item()?, db.item()?, dc.item()?], [9.0, 3.0, 6.0]);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Debug)]
pub struct Tape<T: Scalar = f64> {
    id: u64,
    graph: RefCell<Arc<Graph<T>>>,
    recorder: RefCell<Recorder>,
    /// While a VJP is recorded: the line of the node it belongs to.
    on_behalf_of: Cell<Option<&'static Location<'static>>>,
    /// The guards that what is recorded now stands under.
    guard: Cell<GuardId>,
}

/// What recording needs beside the graph.
#[derive(Debug)]
struct Recorder {
    /// Hash of (op, inputs) → node, for recording equal nodes once.
    seen: HashMap<u64, NodeId, BuildHasherDefault<Identity>>,
    /// With the last suffix that each has had.
    names: HashMap<Arc<str>, u32>,
    /// The scopes that are open, by number, each with what tells it from others; the last counts.
    open: Vec<(u64, u32)>,
    n_opened: u64,
    mistake: Option<Error>,
}

impl Recorder {
    fn scope(&self) -> u32 {
        self.open.last().map_or(0, |s| s.1)
    }
}

/// The keys of `seen` are hashes already.
#[derive(Debug, Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.0 = self.0 << 8 | u64::from(b));
    }
    fn write_u64(&mut self, x: u64) {
        self.0 = x;
    }
}

/// A scope that ends when dropped; names of nodes recorded meanwhile begin with it.
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Scope<'t, T: Scalar> {
    tape: &'t Tape<T>,
    opened: u64,
}

impl<T: Scalar> Drop for Scope<'_, T> {
    fn drop(&mut self) {
        // Scopes may be dropped in any order.
        self.tape.recorder.borrow_mut().open.retain(|s| s.0 != self.opened);
    }
}

impl<T: Scalar> Default for Tape<T> {
    fn default() -> Self {
        Tape::new()
    }
}

impl<T: Scalar> Tape<T> {
    /// An empty tape.
    pub fn new() -> Self {
        static TAPES: AtomicU64 = AtomicU64::new(0);
        let id = TAPES.fetch_add(1, Ordering::Relaxed);
        Tape {
            id,
            graph: RefCell::new(Arc::new(Graph {
                tape: id,
                nodes: Vec::new(),
                scopes: vec!["".into()],
                guards: Vec::new(),
            })),
            recorder: RefCell::new(Recorder {
                seen: HashMap::default(),
                names: HashMap::new(),
                open: Vec::new(),
                n_opened: 0,
                mistake: None,
            }),
            on_behalf_of: Cell::new(None),
            guard: Cell::new(ALWAYS),
        }
    }

    /// A value that is fed at each run. Extents may be [`ANY`](crate::ANY): usually axis 0.
    #[track_caller]
    pub fn placeholder(&self, name: &str, shape: impl Into<Shape>) -> Expr<'_, T> {
        self.leaf(Some(name), self.new_placeholder(shape.into(), DType::Float))
    }

    /// Indices that are fed at each run: class labels, positions.
    #[track_caller]
    pub fn index_placeholder(&self, name: &str, shape: impl Into<Shape>) -> IndexExpr<'_, T> {
        self.leaf(Some(name), self.new_placeholder(shape.into(), DType::Index)).as_index()
    }

    fn new_placeholder(&self, shape: Shape, dtype: DType) -> Leaf<T> {
        Leaf::Placeholder { shape, dtype, serial: self.graph.borrow().len() as u32 }
    }

    /// A value that sessions own and that survives runs, with what each session starts it with.
    #[track_caller]
    pub fn variable(&self, name: &str, initial: impl Into<Tensor<T>>) -> Expr<'_, T> {
        let value = initial.into();
        let init = VariableInit { shape: value.shape(), value: Some(value) };
        self.leaf(Some(name), Leaf::Variable(ById(Arc::new(init))))
    }

    /// A variable that must be assigned before it is read.
    #[track_caller]
    pub fn uninitialized(&self, name: &str, shape: impl Into<Shape>) -> Expr<'_, T> {
        let shape = shape.into();
        if shape.checked_len().is_none() {
            let text =
                format!("variable `{name}`: expected known extents that fit memory, got {shape}");
            return self.mistake(Error::new(ErrorKind::Shape, text).at(Location::caller()));
        }
        self.leaf(Some(name), Leaf::Variable(ById(Arc::new(VariableInit { shape, value: None }))))
    }

    /// A value that never changes. It is shared by all sessions and plans, not copied.
    #[track_caller]
    pub fn constant(&self, value: impl Into<Tensor<T>>) -> Expr<'_, T> {
        let value = value.into();
        match value.shape() {
            Shape::SCALAR => self.literal(value.as_slice()[0].to_f64()),
            _ => self.leaf(None, Leaf::Constant(ById(Arc::new(value)))),
        }
    }

    /// Indices that never change.
    #[track_caller]
    pub fn index_constant(&self, value: impl Into<Tensor<Index>>) -> IndexExpr<'_, T> {
        self.leaf(None, Leaf::IndexConstant(ById(Arc::new(value.into())))).as_index()
    }

    /// One number, rank 0.
    #[track_caller]
    pub fn literal(&self, x: f64) -> Expr<'_, T> {
        self.leaf(None, Leaf::literal(x))
    }

    /// Which rows of the batch a shard has.
    #[track_caller]
    pub(crate) fn place(&self) -> Expr<'_, T> {
        self.apply(Leaf::Place, &[])
    }

    #[track_caller]
    fn leaf(&self, name: Option<&str>, leaf: Leaf<T>) -> Expr<'_, T> {
        let expr = self.apply(leaf, &[]);
        match name {
            Some(name) => expr.named(name),
            None => expr,
        }
    }

    /// Records a user's op; see [`Primitive`].
    #[track_caller]
    pub fn custom(&self, op: impl Primitive<T> + 'static, inputs: &[Expr<'_, T>]) -> Expr<'_, T> {
        self.apply(Op::Custom(ById(Arc::new(op))), inputs)
    }

    /// The value `y`, with `vjp` as its derivative in `x` instead of what y is made of. `vjp` gets
    /// the x, y and the cotangent of y, and returns a cotangent for each x.
    ///
    /// ```
    /// use gradtape::{Session, Tape};
    /// let tape = Tape::<f64>::new();
    /// let x = tape.variable("x", 0.4);
    /// // Straight-through estimator: round forwards, identity backwards.
    /// let y = tape.custom_gradient(&[x], x.round(), |_x, _y, ct| vec![ct]);
    /// let dx = tape.gradient(y, &[x])?[0];
    /// assert_eq!(Session::new(&tape)?.run((y, dx), &[])?, (0.0.into(), 1.0.into()));
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    #[track_caller]
    pub fn custom_gradient(
        &self,
        x: &[Expr<'_, T>],
        y: Expr<'_, T>,
        vjp: impl for<'t> Fn(&[Expr<'t, T>], Expr<'t, T>, Expr<'t, T>) -> Vec<Expr<'t, T>>
        + Send
        + Sync
        + 'static,
    ) -> Expr<'_, T> {
        let rule = VjpRule::new(vec![], move |at| {
            Ok(vjp(at.x, at.y, at.ct).into_iter().map(Some).collect())
        });
        let inputs: Vec<_> = std::iter::once(y.node()).chain(x.iter().map(|x| x.node())).collect();
        self.record(Pass::WithVjp(rule).into(), &inputs)
    }

    /// Gives a variable a value when the result is fetched, after everything that a run reads: all
    /// reads of a run see the values from before it. The result is the new value.
    #[track_caller]
    pub fn assign<'t>(
        &'t self,
        variable: impl Operand<'t, T>,
        value: impl Operand<'t, T>,
    ) -> Expr<'t, T> {
        let (variable, value) = (variable.on(self), value.on(self));
        if let Ok(id) = self.resolve(variable.node())
            && id != POISON
            && !self.graph.borrow().is_variable(id)
        {
            let text = format!("assign: expected a variable, got {}", variable.name());
            return self.mistake(Error::new(ErrorKind::Tape, text).at(Location::caller()));
        }
        self.apply(Effect::Assign, &[variable, value])
    }

    /// Adds to a variable; see [`Tape::assign`].
    #[track_caller]
    pub fn assign_add<'t>(
        &'t self,
        variable: impl Operand<'t, T>,
        value: impl Operand<'t, T>,
    ) -> Expr<'t, T> {
        let variable = variable.on(self);
        self.assign(variable, variable + value)
    }

    /// Names of nodes recorded while the result lives begin with `name/`. Scopes nest.
    ///
    /// ```
    /// use gradtape::Tape;
    /// let tape = Tape::<f64>::new();
    /// let w = {
    ///     let _layer = tape.scope("layer1");
    ///     tape.variable("w", 0.0)
    /// };
    /// assert_eq!(w.name(), "layer1/w");
    /// ```
    #[track_caller]
    pub fn scope(&self, name: &str) -> Scope<'_, T> {
        if let Err(e) = check_name(name) {
            self.mistake(e.within("scope").at(Location::caller()));
        }
        let mut recorder = self.recorder.borrow_mut();
        let mut graph = self.graph.borrow_mut();
        let mut scope = recorder.scope();
        let mut path = graph.scopes[scope as usize].to_string();
        // `a/b` is a scope in a scope, so that drawings know both.
        for part in name.split('/') {
            path += part;
            path.push('/');
            scope = match graph.scopes.iter().position(|s| **s == *path) {
                Some(known) => known as u32,
                None => {
                    let graph = Arc::make_mut(&mut graph);
                    graph.scopes.push(path.as_str().into());
                    graph.scopes.len() as u32 - 1
                }
            };
        }
        recorder.n_opened += 1;
        let opened = recorder.n_opened;
        recorder.open.push((opened, scope));
        Scope { tape: self, opened }
    }

    /// The expression of a handle of this tape, for operators.
    #[track_caller]
    pub fn expr(&self, node: impl AsNode) -> Expr<'_, T> {
        match self.resolve(node.node()) {
            Ok(id) => Expr { tape: self, id },
            Err(e) => self.mistake(e.at(Location::caller())),
        }
    }

    /// The first mistake made while recording, if any.
    ///
    /// # Errors
    /// That mistake.
    pub fn check(&self) -> Result<()> {
        match &self.recorder.borrow().mistake {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    /// Every op on the tape with its name, kind, shape, type, inputs and source line.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let graph = self.graph.borrow();
        (0..graph.len() as NodeId).map(|id| graph.info(id)).collect()
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.graph.borrow().len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records one op of the table on these inputs.
    #[track_caller]
    pub(crate) fn apply(&self, op: impl Into<Op<T>>, inputs: &[Expr<'_, T>]) -> Expr<'_, T> {
        // Three inputs at most, but for concatenations: no allocation on the common path.
        match *inputs {
            [a] => self.record(op.into(), &[a.node()]),
            [a, b] => self.record(op.into(), &[a.node(), b.node()]),
            _ => self.record(op.into(), &inputs.iter().map(|e| e.node()).collect::<Vec<_>>()),
        }
    }

    #[track_caller]
    fn record(&self, op: Op<T>, inputs: &[NodeRef]) -> Expr<'_, T> {
        let at = self.on_behalf_of.get().unwrap_or(Location::caller());
        match self.try_record(op, inputs, at) {
            Ok(id) => Expr { tape: self, id },
            Err(Some(e)) => self.mistake(e.at(at)),
            Err(None) => Expr { tape: self, id: POISON },
        }
    }

    /// `Err(None)`: an input is poisoned, so the mistake is known already.
    fn try_record(
        &self,
        op: Op<T>,
        inputs: &[NodeRef],
        at: &'static Location<'static>,
    ) -> Result<NodeId, Option<Error>> {
        if inputs.iter().any(|r| r.tape == self.id && r.id == POISON) {
            return Err(None);
        }
        let name = || op.primitive().name().to_string();
        let inputs: Box<[NodeId]> = inputs
            .iter()
            .map(|&r| self.resolve(r))
            .collect::<Result<_>>()
            .map_err(|e| e.within(name()))?;

        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((&op, &inputs));
        // Leaves cost nothing, and may be used anywhere.
        let guard = if matches!(op, Op::Leaf(_)) { ALWAYS } else { self.guard.get() };
        // An equal node serves under its own guards and more.
        let mut outer = Some(guard);
        while let Some(guard) = outer {
            let known = self.recorder.borrow().seen.get(&key(hash, guard)).copied();
            let graph = self.graph.borrow();
            if let Some(id) = known {
                let node = graph.node(id);
                if (&node.op, &node.inputs, node.guard) == (&op, &inputs, guard) {
                    return Ok(id);
                }
            }
            outer = graph.guard(guard).map(|guard| guard.outer);
        }
        self.check_guards(&op, &inputs, guard).map_err(Some)?;

        // Nothing is borrowed while a user's op is asked: it may look at this tape.
        let (shapes, dtypes): (Vec<Shape>, Vec<DType>) = {
            let graph = self.graph.borrow();
            inputs.iter().map(|&i| (graph.node(i).shape, graph.node(i).dtype)).unzip()
        };
        let primitive = op.primitive();
        let dtype = primitive.dtype(&dtypes).map_err(|e| {
            let graph = self.graph.borrow();
            let names: Vec<_> = inputs.iter().map(|&i| graph.name(i)).collect();
            e.within(format_args!("{}({})", name(), names.join(", ")))
        })?;
        let shape = primitive.shape(&shapes).map_err(|e| e.within(name()))?;
        if shape.is_known() && shape.checked_len().is_none() {
            let text = format!("{}: {shape} has more elements than memory can hold", name());
            return Err(Some(Error::new(ErrorKind::Memory, text)));
        }
        let mut recorder = self.recorder.borrow_mut();
        let mut graph = self.graph.borrow_mut();
        if graph.len() >= POISON as usize {
            return Err(Some(Error::new(ErrorKind::Memory, "tape: more than 2³² − 1 nodes")));
        }
        let id = graph.len() as NodeId;
        let scope = recorder.scope();
        Arc::make_mut(&mut graph).nodes.push(Node {
            op,
            inputs,
            shape,
            dtype,
            scope,
            guard,
            name: None,
            at,
        });
        if let Entry::Vacant(free) = recorder.seen.entry(key(hash, guard)) {
            free.insert(id);
        }
        Ok(id)
    }

    /// Keeps the first mistake and returns the expression that stands for it.
    pub(crate) fn mistake(&self, e: Error) -> Expr<'_, T> {
        self.recorder.borrow_mut().mistake.get_or_insert(e);
        Expr { tape: self, id: POISON }
    }

    /// The node of a handle.
    ///
    /// # Errors
    /// It is of another tape, or stands for a mistake.
    pub(crate) fn resolve(&self, node: NodeRef) -> Result<NodeId> {
        if node.tape != self.id {
            bail!(Tape, "expected a node of this tape, got one of another");
        }
        if node.id == POISON {
            self.check()?;
        }
        Ok(node.id)
    }

    /// Gives a node a name, made unique by a suffix; the first name stays.
    fn set_name(&self, id: NodeId, name: &str) -> Result<()> {
        check_name(name)?;
        let mut recorder = self.recorder.borrow_mut();
        let mut graph = self.graph.borrow_mut();
        if graph.node(id).name.is_some() {
            return Ok(());
        }
        let scope = &graph.scopes[graph.node(id).scope as usize];
        let wanted: Arc<str> = format!("{scope}{name}").into();
        let mut unique = Arc::clone(&wanted);
        let mut n = recorder.names.get(&wanted).copied().unwrap_or(0);
        while recorder.names.contains_key(&unique) {
            n += 1;
            unique = format!("{wanted}_{n}").into();
        }
        recorder.names.insert(wanted, n);
        recorder.names.entry(Arc::clone(&unique)).or_insert(0);
        Arc::make_mut(&mut graph).nodes[id as usize].name = Some(unique);
        Ok(())
    }

    /// The graph as it is now, shared.
    pub(crate) fn snapshot(&self) -> Arc<Graph<T>> {
        Arc::clone(&self.graph.borrow())
    }

    /// Runs `f` with the nodes it records marked with the line that recorded node `id`, and under
    /// the guards of that node beside those that hold here.
    pub(crate) fn on_behalf_of<R>(&self, id: NodeId, f: impl FnOnce() -> R) -> R {
        let at = self.graph.borrow().node(id).at;
        let outer = self.on_behalf_of.replace(Some(at));
        let result = self.under(self.guards_with(id), f);
        self.on_behalf_of.set(outer);
        result
    }
}

/// What an op with this hash is found by among those under the same guards.
fn key(hash: u64, guard: GuardId) -> u64 {
    // An odd factor: other guards have other keys (Knuth's multiplicative hashing).
    hash ^ u64::from(guard).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// `#` is for the names that nodes get which have none.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(['#', '\n']) {
        bail!(
            Argument,
            "name: expected some characters, none of them `#` or a line end, got {name:?}"
        );
    }
    Ok(())
}
