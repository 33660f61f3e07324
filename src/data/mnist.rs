//! MNIST and the data sets in its form: four IDX files in one folder.

use super::Dataset;
use crate::error::{Result, bail};
use crate::io::Idx;
use crate::{Index, Scalar};
use std::path::{Path, PathBuf};

/// The training and the test part of MNIST (LeCun, Bottou, Bengio and Haffner 1998) or of a data
/// set in its form: images `[n, 28, 28]` as numbers from 0 to 1, labels `[n]` below 10.
///
/// The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`,
/// each plain or with `.gz`. Pixels stay bytes in memory, 55 MB in all.
///
/// ```no_run
/// let [train, test] = gradtape::data::mnist::<f32>("datasets/mnist")?;
/// assert_eq!((train.len(), test.len()), (60_000, 10_000));
/// # Ok::<(), gradtape::Error>(())
/// ```
///
/// # Errors
/// A file that is not there or refused by [`Idx::read`], other than three axes of images, different
/// numbers of images and labels, a label above 9.
pub fn mnist<T: Scalar>(folder: impl AsRef<Path>) -> Result<[Dataset<T, Index>; 2]> {
    let folder = folder.as_ref();
    let part = |name: &str| {
        let images = find(folder, &format!("{name}-images-idx3-ubyte"))?;
        let labels = find(folder, &format!("{name}-labels-idx1-ubyte"))?;
        let y = Idx::read(&labels)?.labels(10).map_err(|e| e.within(labels.display()))?;
        let x = Idx::read(&images)?;
        if x.shape().rank() != 3 {
            bail!(Shape, "{}: expected [n, row, column], got {}", images.display(), x.shape());
        }
        Dataset::from_idx(x, 1.0 / 255.0, y).map_err(|e| e.within(images.display()))
    };
    Ok([part("train")?, part("t10k")?])
}

fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = folder.join(name);
    let packed = folder.join(format!("{name}.gz"));
    match [plain, packed].into_iter().find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => bail!(Io, "{}: expected a file {name} or {name}.gz", folder.display()),
    }
}
