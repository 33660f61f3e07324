//! The variables of a tape, listed and counted for people.

use crate::{Scalar, Shape, Tape};
use std::fmt;

/// The variables of a tape; displayed as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Name and shape of each variable, in the order recorded.
    pub variables: Vec<(String, Shape)>,
}

/// Lists the variables of a tape.
///
/// ```
/// use gradtape::nn::{Activation, Mlp, summary};
/// use gradtape::{Philox, Tape};
/// let tape = Tape::<f64>::new();
/// Mlp::new(&tape, &[4, 16, 3], Activation::Relu, &mut Philox::new(7, 0))?;
/// assert_eq!(summary(&tape).to_string(), "\
/// variable   shape    parameters
/// dense_1/w  [4, 16]          64
/// dense_1/b  [16]             16
/// dense_2/w  [16, 3]          48
/// dense_2/b  [3]               3
/// total                      131
/// ");
/// # Ok::<(), gradtape::Error>(())
/// ```
pub fn summary<T: Scalar>(tape: &Tape<T>) -> Summary {
    let variables = tape.nodes().into_iter().filter(|node| node.op == "variable");
    Summary { variables: variables.map(|node| (node.name, node.shape)).collect() }
}

impl Summary {
    /// The number of numbers in all variables.
    pub fn n_parameters(&self) -> usize {
        self.variables.iter().map(|(_, shape)| shape.len()).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |(name, shape): &(String, Shape)| (name.clone(), *shape, shape.len());
        table(f, ["variable", "shape"], self.variables.iter().map(row))
    }
}

/// Names, shapes and numbers of parameters in columns, with their total.
pub(super) fn table(
    f: &mut fmt::Formatter<'_>,
    head: [&str; 2],
    rows: impl Iterator<Item = (String, Shape, usize)>,
) -> fmt::Result {
    let mut table = vec![[head[0].into(), head[1].into(), "parameters".to_string()]];
    let mut total = 0;
    for (name, shape, n) in rows {
        total += n;
        table.push([name, shape.to_string(), n.to_string()]);
    }
    table.push(["total".into(), String::new(), total.to_string()]);
    let width = |column: usize| {
        table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let (name, shape, count) = (width(0), width(1), width(2));
    for row in &table {
        writeln!(f, "{:name$}  {:shape$}  {:>count$}", row[0], row[1], row[2])?;
    }
    Ok(())
}
