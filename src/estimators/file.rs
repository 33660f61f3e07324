//! Fitted models as checkpoints: parameters as variables; the notes say which model, of what size.

use crate::error::{Result, bail};
use crate::{ErrorKind, Notes, Session, Shape, Tape, Tensor};
use std::path::Path;

const MODEL: &str = "model";
const EXTENTS: &str = "extents";

/// Parameters by name.
pub(super) type Parameters = Vec<(String, Tensor<f64>)>;

/// Saves a model of this kind; its extents say what shapes its parameters have.
pub(super) fn save(
    path: impl AsRef<Path>,
    kind: &str,
    extents: &[usize],
    notes: Notes,
    parameters: Parameters,
) -> Result<()> {
    let tape = Tape::new();
    for (name, value) in parameters {
        tape.variable(&name, value);
    }
    let extents: Vec<String> = extents.iter().map(usize::to_string).collect();
    let notes = notes.with(MODEL, kind).with(EXTENTS, extents.join(","));
    Session::new(&tape)?.save(path, &notes)
}

/// The parameters of a saved model of this kind, in the order in which `shapes` names them for its
/// extents, of which there are at least `n_extents`.
pub(super) fn load(
    path: impl AsRef<Path>,
    kind: &str,
    n_extents: usize,
    shapes: impl FnOnce(&[usize]) -> Vec<(String, Shape)>,
) -> Result<(Notes, Vec<Tensor<f64>>)> {
    let path = path.as_ref();
    let notes = Notes::read(path)?;
    let within = |e: crate::Error| e.within(path.display());
    notes.expect(MODEL, kind).map_err(within)?;
    let text: String = notes.get(EXTENTS).map_err(within)?;
    let extents: Option<Vec<usize>> = text.split(',').map(|e| e.parse().ok()).collect();
    let Some(extents) = extents.filter(|e| e.len() >= n_extents) else {
        bail!(Format, "{}: expected {n_extents} extents or more, got {text:?}", path.display());
    };
    let shapes = shapes(&extents);
    // A file of some bytes is no reason to take memory for any number of parameters.
    let bytes = std::fs::metadata(path).map_err(|e| crate::Error::io(path.display(), &e))?.len();
    let numbers = shapes.iter().try_fold(0usize, |n, (_, s)| n.checked_add(s.checked_len()?));
    if numbers.is_none_or(|n| n as u64 > bytes / 8) {
        bail!(Format, "{}: expected extents of {bytes} bytes, got {text:?}", path.display());
    }
    let tape = Tape::new();
    let variables: Vec<_> =
        shapes.iter().map(|(name, shape)| tape.uninitialized(name, *shape).var()).collect();
    let mut session = Session::new(&tape)?;
    session.load(path)?;
    let values: Result<Vec<_>> = variables.into_iter().map(|v| session.value(v)).collect();
    Ok((notes, values.map_err(|e| crate::Error::new(ErrorKind::Format, e.message()))?))
}

/// w, `[p]`, and b of a model with one output.
pub(super) fn save_one(
    path: impl AsRef<Path>,
    kind: &str,
    coefficients: &nalgebra::DVector<f64>,
    intercept: f64,
) -> Result<()> {
    let parameters =
        vec![(W.into(), coefficients.clone().into()), (B.into(), Tensor::scalar(intercept))];
    save(path, kind, &[coefficients.len()], Notes::new(), parameters)
}

/// What [`save_one`] has saved.
pub(super) fn load_one(
    path: impl AsRef<Path>,
    kind: &str,
) -> Result<(nalgebra::DVector<f64>, f64)> {
    let shapes = |p: &[usize]| vec![(W.into(), p[0].into()), (B.into(), Shape::SCALAR)];
    match <[_; 2]>::try_from(load(path, kind, 1, shapes)?.1) {
        Ok([w, b]) => Ok((w.into_dvector()?, b.item()?)),
        Err(got) => bail!(Format, "{kind}: expected two parameters, got {}", got.len()),
    }
}

/// The names of the parameters of linear models.
pub(super) const W: &str = "coefficients";
pub(super) const B: &str = "intercept";

/// `save` and `load` of a model with one output.
macro_rules! one_output_file {
    ($model:ident, $kind:literal) => {
        impl $model {
            /// Saves the model as a safetensors file with `coefficients` and `intercept`, as
            /// [`Session::save`](crate::Session::save).
            ///
            /// # Errors
            /// The file cannot be written; then it is as it was.
            pub fn save(&self, path: impl AsRef<std::path::Path>) -> $crate::Result<()> {
                super::file::save_one(path, $kind, &self.coefficients, self.intercept)
            }

            /// The model that was saved there, to the bit.
            ///
            /// # Errors
            /// As [`Session::load`](crate::Session::load); also a file of another model.
            pub fn load(path: impl AsRef<std::path::Path>) -> $crate::Result<Self> {
                let (coefficients, intercept) = super::file::load_one(path, $kind)?;
                Ok($model { coefficients, intercept })
            }
        }
    };
}
pub(super) use one_output_file;
