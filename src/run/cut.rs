//! Sessions whose batches are cut: into shards, and over the ranks of a group.

use super::meeting::MAX_SHARDS;
use super::ranks::Ranks;
use super::session::Session;
use super::share::Share;
use crate::dist::Group;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::plan::{Cut, is_batch};
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tape::{FeedValue, NodeId};
use std::ops::Range;

impl<T: Scalar> Session<T> {
    /// The session with every batch cut into `n` shards: of equal numbers of rows, up to one. The
    /// threads of the session take shards, each in memory of its own.
    ///
    /// Cut is what is fed for nodes whose rows were left open while recording
    /// ([`ANY`](crate::ANY) as extent 0): all of them have the same number of rows. Each shard
    /// computes what it can of its rows alone; sums, means, maxima over the batch, gradients of
    /// weights, statistics of a normalization are combined along one binary tree over the shards,
    /// with the count of the whole batch. So every value is that of the whole batch up to rounding,
    /// and its bits depend on n, not on the number of threads. Shards without rows stand aside.
    ///
    /// ```
    /// use gradtape::{ANY, Session, Tape};
    /// use nalgebra::DVector;
    /// let tape = Tape::<f64>::new();
    /// let x = tape.placeholder("x", [ANY]);
    /// let mean = x.mean();
    /// let mut session = Session::new(&tape)?.with_shards(8)?.with_threads(2)?;
    /// let xs = DVector::from_fn(1000, |i, _| i as f64);
    /// assert_eq!(session.run(mean, &[x.feed(&xs)])?.item()?, 499.5);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// # Errors
    /// 0 or more than 4096. A *run* fails if an op mixes rows (a sort, a product over the batch
    /// that is not a sum over its rows): the message names it.
    pub fn with_shards(mut self, n: usize) -> Result<Self> {
        if !(1..=MAX_SHARDS).contains(&n) {
            bail!(Argument, "shards: expected 1 to {MAX_SHARDS}, got {n}");
        }
        self.shards = n;
        self.cached.clear();
        Ok(self)
    }

    /// The session as one of several ranks that train together: each is fed its rows of the batch,
    /// those that [`Session::rows`] says. Together they compute what one session with as many
    /// shards would, to the same bits; shards are shared out in runs, so there should be as many as
    /// ranks or a multiple. Set the shards first; every rank sets the same.
    ///
    /// All ranks make the same runs in the same order. What they run, its shapes and shards are
    /// compared before each run; tapes, variables and optimizers before the first one and after
    /// something else than a run has changed them, as [`Session::assign`] or [`Session::load`].
    /// Ranks that disagree all get an error that names both sides. Values that have rows are
    /// fetched as this rank's; everything else is the whole batch's, on every rank.
    ///
    /// ```
    /// use gradtape::dist::{Group, local};
    /// use gradtape::{ANY, Session, Tape, Tensor};
    /// let sums = std::thread::scope(|threads| {
    ///     let run = |rank: gradtape::dist::Local| -> gradtape::Result<f64> {
    ///         let tape = Tape::<f64>::new();
    ///         let x = tape.placeholder("x", [ANY]);
    ///         let sum = x.sum();
    ///         let mut session = Session::new(&tape)?.with_shards(4)?.with_group(rank);
    ///         let own = session.rows(10).map(|row| row as f64).collect();
    ///         session.run(sum, &[x.feed(&Tensor::vector(own))])?.item()
    ///     };
    ///     let ranks: Vec<_> = local(2).into_iter().map(|r| threads.spawn(move || run(r))).collect();
    ///     ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Result<Vec<_>, _>>()
    /// })?;
    /// assert_eq!(sums, [45.0, 45.0]);
    /// # Ok::<(), gradtape::Error>(())
    /// ```
    ///
    /// A *run* fails if ranks disagree, or if one does not answer in time or has failed; an error
    /// of one rank alone ends the group, and the others hear why. What is fed and is no batch must
    /// be the same on every rank. Beside the work itself a run exchanges some bytes, and allocates
    /// lists of as many entries as there are ranks.
    pub fn with_group(mut self, group: impl Group + 'static) -> Self {
        self.ranks = Some(Ranks::new(Box::new(group)));
        self.variables.share = Share::WHOLE;
        self.cached.clear();
        self
    }

    /// The rows of a batch of `n` that this session is fed: all, or those of its rank.
    pub fn rows(&self, n: usize) -> Range<usize> {
        let cut = Cut { rows: n, shards: self.shards };
        match &self.ranks {
            Some(ranks) => cut.rows_of_rank(ranks.group.rank(), ranks.group.size()),
            None => 0..n,
        }
    }

    /// Waits until every rank of the group has come here, each with as many variables and steps: when
    /// one of them alone has written a file, the others then know that it is there, and that it
    /// lives. Without a group it does nothing.
    ///
    /// # Errors
    /// A rank that disagrees, has failed, or does not come in time.
    pub fn barrier(&mut self) -> Result<()> {
        let together = self.together("barrier");
        self.told(together)
    }

    /// Whether batches are cut into shards.
    pub(super) fn is_cut(&self) -> bool {
        self.shards > 1 || self.ranks.is_some()
    }

    /// The rows of the whole batch, of which this rank is fed some; all ranks agree on the run.
    pub(super) fn rows_of_all(
        &mut self,
        feeds: &[(NodeId, FeedValue<'_, T>)],
    ) -> Result<Option<usize>> {
        let Session { graph, fetched, ranks: Some(ranks), shards, variables, .. } = self else {
            return Ok(None);
        };
        ranks.begin(graph, variables, (fetched, feeds), *shards).map(Some)
    }

    /// How a run with these feeds is cut, if it is.
    pub(super) fn cut(&self, fed: &[(NodeId, Shape)]) -> Result<Option<Cut>> {
        let mut batch: Option<(NodeId, usize)> = None;
        for &(id, shape) in fed.iter().filter(|f| is_batch(&self.graph.node(f.0).shape)) {
            let rows = shape.dim(0).unwrap_or(0);
            let (first, n) = *batch.get_or_insert((id, rows));
            if rows != n && self.is_cut() {
                let (a, b) = (self.graph.describe(first), self.graph.describe(id));
                let text =
                    format!("shards: expected as many rows of {b} as of {a}, {n}, got {rows}");
                return Err(Error::new(ErrorKind::Shape, text).at(self.graph.node(id).at));
            }
        }
        let cut = batch.map(|(_, rows)| Cut { rows, shards: self.shards });
        Ok(cut.filter(|_| self.is_cut()))
    }

    /// Tells the other ranks of an error that they cannot know of.
    pub(super) fn told<R>(&mut self, done: Result<R>) -> Result<R> {
        if let (Err(e), Some(ranks)) = (&done, &mut self.ranks) {
            ranks.group.fail(&e.to_string());
        }
        done
    }
}
