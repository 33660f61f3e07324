//! Saving a session and going on from there: variables, what optimizers keep, and notes of the
//! training loop. `format.rs` has the bytes, `keep.rs` a folder of the last few. Not to be confused
//! with `Tape::checkpoint`, which computes again instead of keeping.

mod format;
mod keep;

pub use keep::{Checkpoints, Resumed};

use super::session::Session;
use super::variables::{OptimizerState, Variables};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::file;
use crate::kernel::arena::Arena;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::op::{Effect, Op};
use crate::tape::{AsNode, NodeId};
use format::{Contents, Entries, Entry};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

/// What a training loop wants to know again beside the session: names with values, kept as text.
///
/// ```
/// use gradtape::{Notes, data::Position};
/// let notes = Notes::new().with("step", 1200).with("position", Position { epoch: 3, batch: 17 });
/// assert_eq!(notes.get::<u64>("step")?, 1200);
/// assert_eq!(notes.get::<Position>("position")?.batch, 17);
/// assert!(notes.expect("step", 1300).is_err());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<String, String>);

impl Notes {
    /// No notes.
    pub fn new() -> Self {
        Notes::default()
    }

    /// The notes with one more: a step, a [`Position`](crate::data::Position), a seed. Floats come
    /// back with the same bits (NaN apart).
    pub fn with(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.0.insert(name.into(), value.to_string());
        self
    }

    /// The notes of a checkpoint of any program: what to record before it is loaded.
    ///
    /// # Errors
    /// As [`Session::load`], the graph apart.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        let about = Contents::parse_checkpoint(&bytes).map(|(_, about)| about);
        about.and_then(|a| texts(a.get("notes"))).map(Notes).map_err(|e| e.within(path.display()))
    }

    /// The value noted under this name.
    ///
    /// # Errors
    /// No such note, or one that is no `V`.
    pub fn get<V: FromStr>(&self, name: &str) -> Result<V> {
        let Some(text) = self.0.get(name) else {
            bail!(Argument, "notes: expected {name:?}, got {:?}", self.0.keys());
        };
        text.parse().or_else(|_| {
            let want = std::any::type_name::<V>();
            bail!(Argument, "notes: {name:?}: expected a value of {want}, got {text:?}")
        })
    }

    /// That this value is noted: for what must not change between runs, as the size of batches.
    ///
    /// # Errors
    /// No such note, or another value.
    pub fn expect(&self, name: &str, value: impl Display) -> Result<()> {
        let (want, got) = (value.to_string(), self.get::<String>(name)?);
        match want == got {
            true => Ok(()),
            false => bail!(Argument, "notes: {name:?}: expected {want}, got {got}"),
        }
    }

    /// All notes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<T: Scalar> Session<T> {
    /// Saves the variables, the steps and state of every optimizer, and `notes`, so that a run
    /// that goes on from [`Session::load`] has the same bits as one that was never stopped, on any
    /// number of threads or ranks. Of several ranks one saves, and each loads; if they
    /// [share out](Session::with_sharded_state) state, it is gathered first.
    ///
    /// The file is written beside `path`, to the disk, and then takes its name: whenever the
    /// process or the machine stops, `path` holds the old checkpoint or the new one.
    ///
    /// It is a safetensors file, which other programs read: the variables by name, row-major, so
    /// that NumPy sees the same element at `[i, j]`; the state of a train op as `name#slot`, flat,
    /// in the order of its variables. Metadata `gradtape` is a JSON text with the notes, steps and
    /// rate factors, the number of shards, the [graph's hash](Session::graph_hash), a version, and
    /// a CRC-32 over the whole file. Memory: a copy of all that is saved.
    ///
    /// ```
    /// use gradtape::{Notes, Session, Tape, optim::Adam};
    /// let path = std::env::temp_dir().join(format!("w-{}.safetensors", std::process::id()));
    /// let tape = Tape::<f64>::new();
    /// let w = tape.variable("w", 0.0);
    /// let train = Adam::new(0.1).minimize((w - 3.0).square())?;
    /// let mut session = Session::new(&tape)?;
    /// session.run(train, &[])?;
    /// session.save(&path, &Notes::new().with("epoch", 1))?;
    ///
    /// let mut other = Session::new(&tape)?; // in another process, from the same program
    /// let notes = other.load(&path)?;
    /// assert_eq!(notes.get::<u64>("epoch")?, 1);
    /// assert_eq!((other.value(w)?, other.steps(train)?), (session.value(w)?, 1));
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// The file cannot be written; one rank's share of state alone. Then `path` is as it was.
    pub fn save(&self, path: impl AsRef<Path>, notes: &Notes) -> Result<()> {
        file::replace(path.as_ref(), &self.checkpoint(notes)?)
    }

    /// Takes all values from a checkpoint of the same program and returns its notes. Variables and
    /// optimizers become what they were when it was saved, also those without a value or a step.
    /// Memory: the file, and all that it holds once more.
    ///
    /// # Errors
    /// By [kind](Error::kind); then nothing changes:
    /// - [`ErrorKind::Io`]: not a regular file that can be read;
    /// - [`ErrorKind::Format`]: cut short, damaged, or no checkpoint;
    /// - [`ErrorKind::Version`]: written by a newer version of this crate;
    /// - [`ErrorKind::Tape`]: of another graph or another type of numbers;
    /// - [`ErrorKind::Argument`]: of another number of shards, by which the bits would differ.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<Notes> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        self.restore(&bytes).map_err(|e| e.within(path.display()))
    }

    /// Takes the values of all variables, by name, from any safetensors file: a checkpoint of
    /// another graph, or weights that another program has saved. Other tensors of the file are
    /// passed over, and optimizers stay as they are. Sessions of f64 take f32, too.
    ///
    /// # Errors
    /// As [`Session::load`], the graph apart; a variable that the file lacks, or has in another
    /// shape or type. Then nothing changes.
    pub fn load_parameters(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let ids: Vec<NodeId> = self.variables.layout.variables.iter().map(|v| v.0).collect();
        self.load_named(path.as_ref(), &ids)
    }

    /// As [`Session::load_parameters`], for these variables only.
    ///
    /// # Errors
    /// As [`Session::load_parameters`]; also something that is not a variable of this session.
    pub fn load_parameters_of(
        &mut self,
        path: impl AsRef<Path>,
        variables: &[impl AsNode],
    ) -> Result<()> {
        let ids: Result<Vec<NodeId>> =
            variables.iter().map(|v| Ok(self.variable(v.node())?.0)).collect();
        self.load_named(path.as_ref(), &ids?)
    }

    /// A hash of the recorded graph: ops, shapes, names, not the values of variables and constants
    /// nor the hyperparameters of optimizers. The same in every process that records the same.
    /// Cost: a line of text a node.
    pub fn graph_hash(&self) -> u64 {
        self.graph.hash()
    }

    /// The bytes of a checkpoint.
    fn checkpoint(&self, notes: &Notes) -> Result<Vec<u8>> {
        let Variables { layout, values, has_value, optimizers, share: _, changes: _ } =
            &self.variables;
        let (graph, values) = (&self.graph, values.as_slice());
        let mut entries = Entries::new();
        for ((id, range), _) in layout.variables.iter().zip(has_value).filter(|v| *v.1) {
            let entry = Entry { shape: graph.node(*id).shape, values: &values[range.clone()] };
            entries.insert(graph.name(*id), entry);
        }
        let mut states = Map::new();
        for state in optimizers {
            // `begun` is of one step and made anew in each.
            let OptimizerState { node, steps, rate_factor, swapped, begun: _, slots } = state;
            let name = graph.name(*node);
            let Some(values) = slots.each() else {
                bail!(
                    Argument,
                    "checkpoint: expected all state of {name}, got one rank's; gather_state"
                );
            };
            for (slot, values) in values.enumerate() {
                let entry = Entry { shape: Shape::from(values.len()), values };
                if entries.insert(slot_name(&name, slot), entry).is_some() {
                    bail!(Argument, "checkpoint: two tensors are named {name}#{slot}");
                }
            }
            // As a text, a float comes back with its bits.
            let rate_factor = rate_factor.to_string();
            let state = json!({"rate_factor": rate_factor, "steps": steps, "swapped": swapped});
            states.insert(name, state);
        }
        let mut about = Map::new();
        about.insert("graph".to_string(), format!("{:016x}", graph.hash()).into());
        let notes = notes.iter().map(|(name, value)| (name.to_string(), value.into()));
        about.insert("notes".to_string(), Value::Object(notes.collect()));
        about.insert("optimizers".to_string(), Value::Object(states));
        about.insert("scalar".to_string(), T::NAME.into());
        about.insert("shards".to_string(), self.shards.into());
        format::write(entries, about)
    }

    /// Takes all values from a checkpoint. What can fail comes first.
    fn restore(&mut self, bytes: &[u8]) -> Result<Notes> {
        let (contents, about) = Contents::parse_checkpoint(bytes)?;
        let text = |key: &str| about.get(key).and_then(Value::as_str).unwrap_or_default();
        let (want, got) = (T::NAME, text("scalar"));
        if want != got {
            bail!(Tape, "expected a checkpoint of {want}, got one of {got}");
        }
        let (want, got) = (format!("{:016x}", self.graph.hash()), text("graph"));
        if want != got {
            bail!(
                Tape,
                "expected a checkpoint of this graph ({want}), got one of another ({got}); \
                 load_parameters takes variables by name"
            );
        }
        let (want, got) = (self.shards, about.get("shards").unwrap_or(&Value::Null));
        if *got != want {
            bail!(
                Argument,
                "expected a checkpoint of {want} shards, got one of {got}; with_shards"
            );
        }
        let notes = Notes(texts(about.get("notes"))?);
        let (optimizers, mut used) = self.restored_optimizers(&contents, &about)?;
        let (graph, layout) = (&self.graph, &self.variables.layout);
        let mut values = Arena::new(layout.len)?;
        let mut has_value = vec![false; layout.variables.len()];
        for ((id, range), has) in layout.variables.iter().zip(&mut has_value) {
            let out = &mut values.as_mut_slice()[range.clone()];
            *has = contents.take(&graph.name(*id), graph.node(*id).shape, out)?;
            used += usize::from(*has);
        }
        if used != contents.len() {
            bail!(Format, "expected {used} tensors, got {}", contents.len());
        }
        let variables = &mut self.variables;
        (variables.values, variables.has_value) = (values, has_value);
        variables.optimizers = optimizers;
        variables.changes += 1;
        Ok(notes)
    }

    /// What a checkpoint has of optimizers, and how many of its tensors that is.
    fn restored_optimizers(
        &self,
        contents: &Contents<'_>,
        about: &Map<String, Value>,
    ) -> Result<(Vec<OptimizerState<T>>, usize)> {
        let (graph, none) = (&self.graph, Map::new());
        let states = about.get("optimizers").and_then(Value::as_object).unwrap_or(&none);
        let (mut optimizers, mut used) = (Vec::new(), 0);
        for node in 0..graph.len() as NodeId {
            let Op::Effect(Effect::Update(rule)) = &graph.node(node).op else { continue };
            let name = graph.name(node);
            let Some(saved) = states.get(&name) else { continue };
            let rate_factor = saved["rate_factor"].as_str().and_then(|text| text.parse().ok());
            let (Some(steps), Some(rate_factor), Some(swapped)) =
                (saved["steps"].as_u64(), rate_factor, saved["swapped"].as_bool())
            else {
                bail!(Format, "metadata: expected the state of {name}, got {saved}");
            };
            let share = self.variables.share;
            let blank = OptimizerState::new(node, &*rule.0, &self.updated_by(node), share)?;
            let mut state = OptimizerState { steps, rate_factor, swapped, ..blank };
            state.slots.fill(|slot, out| {
                used += 1;
                require(contents, &slot_name(&name, slot), Shape::from(out.len()), out)
            })?;
            optimizers.push(state);
        }
        match optimizers.len() == states.len() {
            true => Ok((optimizers, used)),
            false => {
                let (want, got) = (optimizers.len(), states.len());
                bail!(Format, "metadata: expected the state of {want} train ops, got {got}")
            }
        }
    }

    /// Takes the values of these variables by name.
    fn load_named(&mut self, path: &Path, ids: &[NodeId]) -> Result<()> {
        let bytes = file::read(path)?;
        let within = |e: Error| e.within(path.display());
        let contents = Contents::parse(&bytes).map_err(within)?;
        let Variables { layout, values, .. } = &self.variables;
        let mut new = Arena::new(layout.len)?;
        new.as_mut_slice().copy_from_slice(values.as_slice());
        let found: Vec<_> = ids.iter().filter_map(|&id| Some((id, layout.find(id)?))).collect();
        for (id, (_, range)) in &found {
            let (name, shape) = (self.graph.name(*id), self.graph.node(*id).shape);
            let out = &mut new.as_mut_slice()[range.clone()];
            require(&contents, &name, shape, out).map_err(within)?;
        }
        self.variables.values = new;
        found.iter().for_each(|(_, (i, _))| self.variables.has_value[*i] = true);
        self.variables.changes += 1;
        Ok(())
    }
}

fn require<T: Scalar>(
    contents: &Contents<'_>,
    name: &str,
    shape: Shape,
    out: &mut [T],
) -> Result<()> {
    match contents.take(name, shape, out)? {
        true => Ok(()),
        false => bail!(Format, "expected a tensor {name} of {shape}, got none"),
    }
}

/// The parameters of an update.
/// No name that was given has a `#`, so this is no variable's.
fn slot_name(update: &str, slot: usize) -> String {
    format!("{update}#{slot}")
}

fn texts(value: Option<&Value>) -> Result<BTreeMap<String, String>> {
    let wrong = || Error::new(ErrorKind::Format, "metadata: expected notes that are texts");
    let notes = value.and_then(Value::as_object).ok_or_else(wrong)?;
    let text = |(name, value): (&String, &Value)| {
        Ok((name.clone(), value.as_str().ok_or_else(wrong)?.to_string()))
    };
    notes.iter().map(text).collect()
}
