//! Forward mode against central differences and against reverse mode.

use super::difference::{Agreement, Claim, Direction, largest, relative};
use super::place;
use super::record::Values;
use crate::Session;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::scalar::Scalar;
use crate::tensor::Tensor;

/// Checks the tangents of the value and of its gradients. Returns the largest relative error
/// of a tangent, and the largest difference between the modes; `first` is the claim of reverse mode
/// about the value.
pub(super) fn check<T: Scalar>(
    session: &mut Session<T>,
    first: &Claim<'_, '_, T>,
    values: &Values<T>,
    tolerance: f64,
) -> Result<(f64, f64)> {
    let title = first.of.title();
    let Some(y) = &values.y else { return Ok((0.0, 0.0)) };
    if first.gradients.iter().all(Option::is_none) {
        return Ok((0.0, 0.0));
    }
    let Some(dy) = &values.tangent else {
        bail!(Check, "{title}: expected a tangent in forward mode, got none");
    };
    if dy.shape() != y.shape() {
        bail!(Check, "{title}: tangent: expected the shape {}, got {}", y.shape(), dy.shape());
    }
    let (_, found) = first.tangent(session, &direction(first, None), dy, tolerance)?;
    if found.error > tolerance {
        return Err(locate(session, first, tolerance)?);
    }
    let (got, size) = inner(dy, &first.weights);
    let along = |i: usize| first.of.directions[i].map(|at| &first.point[at]);
    let reverse =
        first.gradients.iter().enumerate().filter_map(|(i, g)| Some((g.as_ref()?, along(i)?)));
    let (mut want, mut scale) = (0.0, size.max(inner(y, &first.weights).1));
    for (g, u) in reverse {
        let weights: Vec<f64> = u.as_slice().iter().map(|u| u.to_f64()).collect();
        let (part, size) = inner(g, &weights);
        want += part;
        scale = scale.max(size);
    }
    let error = relative(want - got, scale);
    if error > tolerance {
        bail!(
            Check,
            "{title}: tangent: expected {want:.8} times the cotangent as in reverse mode, got \
             {got:.8}, relative error {error:.1e}"
        );
    }
    Ok((found.error, error.max(second_order(first, values, tolerance)?)))
}

/// H·u in forward over reverse mode against reverse over reverse mode.
fn second_order<T: Scalar>(
    first: &Claim<'_, '_, T>,
    values: &Values<T>,
    tolerance: f64,
) -> Result<f64> {
    let mut worst = 0.0;
    // There is a tangent for each gradient that exists.
    let exist = (0..first.gradients.len()).filter(|&i| first.gradients[i].is_some());
    for (i, forward) in exist.zip(&values.curvature) {
        let reverse = values.second[i].as_ref();
        let all = forward.iter().chain(reverse).chain(&first.gradients[i]);
        let scale = all.map(largest).fold(0.0, f64::max);
        let n = first.point[i].len();
        let at = |x: Option<&Tensor<T>>, k: usize| x.map_or(0.0, |x| x.as_slice()[k].to_f64());
        for k in 0..n {
            let (want, got) = (at(reverse, k), at(forward.as_ref(), k));
            let error = relative(want - got, scale);
            if error > tolerance {
                let (title, at) = (first.of.title(), place(&first.point[i].shape(), k));
                bail!(
                    Check,
                    "{title}: tangent of the derivative in input {i} at {at}: expected {want:.8} \
                     as in reverse mode, got {got:.8}, relative error {error:.1e}"
                );
            }
            worst = f64::max(worst, error);
        }
    }
    Ok(worst)
}

/// The failure of the tangent, with the input and the element that is most wrong.
fn locate<T: Scalar>(
    session: &mut Session<T>,
    first: &Claim<'_, '_, T>,
    tolerance: f64,
) -> Result<Error> {
    let title = first.of.title();
    let whole = "tangent along a random direction: expected that of central differences";
    let mut worst = (0.0, format!("{title}: {whole}"));
    let directions = &first.of.directions;
    for (i, tangent) in (0..first.of.n_x).filter_map(|i| Some((i, first.of.tangent?))) {
        // Along this input alone.
        let Some(own) = directions[i] else { continue };
        let mut point = first.point.to_vec();
        for &at in directions.iter().flatten().filter(|&&at| at != own) {
            point[at] = Tensor::zeros(point[at].shape())?;
        }
        let dy = session.run(tangent, &first.of.feeds(&point))?;
        let (k, found) = first.tangent(session, &direction(first, Some(i)), &dy, tolerance)?;
        if found.error > tolerance && found.error > worst.0 {
            let (at, Agreement { want, got, error }) = (place(&dy.shape(), k), found);
            let text = format!(
                "{title}: tangent from input {i} at {at}: expected {want:.8} from central \
                 differences, got {got:.8}, relative error {error:.1e}"
            );
            worst = (error, text);
        }
    }
    Ok(Error::new(ErrorKind::Check, worst.1))
}

/// The random direction of one input, or of all that have one.
fn direction<T: Scalar>(of: &Claim<'_, '_, T>, only: Option<usize>) -> Direction {
    let along = |(i, at): (usize, &Option<usize>)| match at {
        Some(at) if only.is_none_or(|only| only == i) => {
            of.point[*at].as_slice().iter().map(|u| u.to_f64()).collect()
        }
        _ => vec![],
    };
    of.of.directions.iter().enumerate().map(along).collect()
}

/// Σ x·w and Σ |x·w|.
fn inner<T: Scalar>(x: &Tensor<T>, weights: &[f64]) -> (f64, f64) {
    let terms = x.as_slice().iter().zip(weights).map(|(x, w)| x.to_f64() * w);
    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
}
