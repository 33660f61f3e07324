//! How long estimators take to fit the shipped data: ours for benches/estimators.py, which runs
//! scikit-learn beside them. Prints `case data milliseconds score`, the least of some rounds.
//!
//!     cargo bench --bench estimators [rounds]

use gradtape::data::Standardizer;
use gradtape::estimators::{
    ElasticNet, HuberRegression, Lasso, LinearRegression, LogisticRegression, MlpClassifier,
    MlpRegressor, PoissonRegression, Ridge, SoftmaxRegression,
};
use gradtape::io::Csv;
use gradtape::{Index, Result};
use nalgebra::{DMatrix, DVector};
use std::path::PathBuf;
use std::time::Instant;

/// Standardized features, and the last column.
fn data(name: &str) -> Result<(DMatrix<f64>, DVector<f64>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let table = Csv::new().read(root.join(format!("datasets/{name}/{name}.csv")))?;
    let n_features = table.names().len() - 1;
    let mut x = table.numbers(&table.names()[..n_features])?;
    let y = table.numbers(&table.names()[n_features..])?;
    Standardizer::fit(&x)?.apply(&mut x)?;
    Ok((x.into_matrix()?, y.reshaped([table.n_rows()])?.into_dvector()?))
}

/// The least time of a fit, and the score of the last.
fn time<M>(
    (case, data): (&str, &str),
    rounds: usize,
    fit: impl Fn() -> Result<M>,
    score: impl Fn(&M) -> Result<f64>,
) -> Result<()> {
    let mut least = f64::INFINITY;
    let mut model = fit()?;
    for _ in 0..rounds {
        let start = Instant::now();
        model = fit()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    println!("{case} {data} {} {}", least * 1e3, score(&model)?);
    Ok(())
}

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(20);
    macro_rules! regressors {
        ($data:literal: $($case:literal $estimator:expr;)*) => {
            let (x, y) = data($data)?;
            $(time(($case, $data), rounds, || $estimator.fit(&x, &y), |m| m.score(&x, &y))?;)*
        };
    }
    regressors! { "diabetes":
        "linear" LinearRegression::new();
        "ridge" Ridge::new(1.0);
        "lasso" Lasso::new(0.5);
        "elastic_net" ElasticNet::new(0.3, 0.4);
        "huber" HuberRegression::new();
        "poisson" PoissonRegression::new(1.0);
    }
    regressors! { "longley": "linear" LinearRegression::new(); "lasso" Lasso::new(0.5); }
    let few = (rounds / 10).max(2);
    macro_rules! classifiers {
        ($data:literal: $($case:literal $rounds:expr, $estimator:expr;)*) => {
            let (x, y) = data($data)?;
            let y = y.map(|y| y as Index);
            $(time(($case, $data), $rounds, || $estimator.fit(&x, &y), |m| m.score(&x, &y))?;)*
        };
    }
    classifiers! { "breast_cancer":
        "logistic" rounds, LogisticRegression::new();
        "mlp_classifier" few, MlpClassifier::new();
    }
    classifiers! { "iris": "softmax" rounds, SoftmaxRegression::new(); }
    classifiers! { "wine": "softmax" rounds, SoftmaxRegression::new(); }
    classifiers! { "digits":
        "softmax" few, SoftmaxRegression::new();
        "mlp_classifier" few, MlpClassifier::new();
    }
    let (x, y) = data("diabetes")?;
    time(
        ("mlp_regressor", "diabetes"),
        few,
        || MlpRegressor::new().fit(&x, &y),
        |m| m.score(&x, &y),
    )
}
