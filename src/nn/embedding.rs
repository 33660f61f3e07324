//! A table with a row of numbers for each index.

use super::Init;
use crate::error::{Result, bail};
use crate::{Expr, IndexExpr, Philox, Scalar, Tape, Tensor, Var};

/// A layer that looks indices up in a table `[n, features]`: `(…) -> (…, features)`. Its gradient
/// adds up the rows of indices that come more than once.
///
/// ```
/// use gradtape::nn::{Embedding, Init};
/// use gradtape::{ANY, Philox, Tape};
/// let tape = Tape::<f64>::new();
/// let words = tape.index_placeholder("words", [ANY, 20]);
/// let mut rng = Philox::new(1, 0);
/// let layer = Embedding::new(&tape, "words", [1000, 16], Init::Normal { std: 1.0 }, &mut rng)?;
/// assert_eq!(layer.forward(words).shape(), [ANY, 20, 16].into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    name: String,
    /// The table, `[n, features]`.
    pub table: Var,
}

impl Embedding {
    /// A table of `[n, features]`, the variable `name/table`.
    ///
    /// # Errors
    /// No memory for the table.
    #[track_caller]
    pub fn new<T: Scalar>(
        tape: &Tape<T>,
        name: &str,
        extents: [usize; 2],
        init: Init,
        rng: &mut Philox,
    ) -> Result<Self> {
        let table = init.tensor(extents, rng).map_err(|e| e.within(name))?;
        Embedding::with_table(tape, name, table)
    }

    /// A table that starts as this tensor of `[n, features]`.
    ///
    /// # Errors
    /// A table of a rank other than 2.
    #[track_caller]
    pub fn with_table<T: Scalar>(tape: &Tape<T>, name: &str, table: Tensor<T>) -> Result<Self> {
        if table.rank() != 2 {
            bail!(Shape, "{name}: expected a table [n, features], got {}", table.shape());
        }
        let _scope = tape.scope(name);
        let table = tape.variable("table", table).var();
        Ok(Embedding { name: name.to_string(), table })
    }

    /// The row of each index, recorded in the scope of the layer's name.
    #[track_caller]
    pub fn forward<'t, T: Scalar>(&self, indices: IndexExpr<'t, T>) -> Expr<'t, T> {
        let tape = indices.as_node_expr().tape();
        let _scope = tape.scope(&self.name);
        tape.expr(self.table).take(0, indices)
    }
}
