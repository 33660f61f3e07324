//! Estimators beside scikit-learn on the shipped data (`reference/estimators.py`), and what they
//! say to hostile data.

mod files;

use files::{refused, scratch, written};
use gradtape::data::Standardizer;
use gradtape::estimators::{
    ElasticNet, HuberRegression, Lasso, LinearModel, LinearRegression, LogisticModel,
    LogisticRegression, MlpClassifier, MlpClassifierModel, MlpRegressor, MlpRegressorModel,
    PoissonModel, PoissonRegression, Ridge, SoftmaxModel, SoftmaxRegression,
};
use gradtape::io::Csv;
use gradtape::nn::Activation;
use gradtape::{ErrorKind, Index, Notes, Result, Session, Tape, Tensor};
use nalgebra::{DMatrix, DVector};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Features as they are, and the last column.
fn raw(name: &str) -> (DMatrix<f64>, DVector<f64>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let table = Csv::new().read(root.join(format!("datasets/{name}/{name}.csv"))).unwrap();
    let (last, features) = table.names().split_last().unwrap();
    let matrix = |columns: &[String]| table.numbers(columns).unwrap().into_matrix().unwrap();
    (matrix(features), matrix(std::slice::from_ref(last)).column(0).clone_owned())
}

fn standardized(name: &str) -> (DMatrix<f64>, DVector<f64>) {
    let (x, y) = raw(name);
    let mut x = Tensor::from(x);
    Standardizer::fit(&x).unwrap().apply(&mut x).unwrap();
    (x.into_matrix().unwrap(), y)
}

fn labels(y: &DVector<f64>) -> DVector<Index> {
    y.map(|y| y as Index)
}

/// What scikit-learn found: values by feature and class.
struct Reference(BTreeMap<(String, String), f64>);

impl Reference {
    fn of(case: &str, data: &str) -> Reference {
        let text = include_str!("reference/estimators.csv");
        let line = |line: &str| {
            let parts: Vec<&str> = line.split(',').collect();
            (parts[..2] == [case, data])
                .then(|| ((parts[3].to_string(), parts[4].to_string()), parts[2].parse().unwrap()))
        };
        let values: BTreeMap<_, _> = text.lines().filter_map(line).collect();
        assert!(!values.is_empty(), "{case} {data}");
        Reference(values)
    }

    fn at(&self, feature: &str, class: &str) -> f64 {
        self.0[&(feature.to_string(), class.to_string())]
    }

    /// Coefficients to 10⁻⁶ of the largest, or of themselves if they are larger than 1; the same
    /// score.
    fn equals(&self, case: &str, w: &DMatrix<f64>, b: &[f64], score: f64) {
        let mut n = 0;
        for (k, b) in b.iter().enumerate() {
            let class = k.to_string();
            let mut close = |got: f64, feature: &str| {
                let want = self.at(feature, &class);
                let off = (got - want).abs() / want.abs().max(1.0);
                assert!(
                    off <= 1e-6,
                    "{case}: {feature} of {class}: {got} for {want}, off {off:.1e}"
                );
                n += 1;
            };
            close(*b, "intercept");
            w.column(k).iter().enumerate().for_each(|(j, &w)| close(w, &j.to_string()));
        }
        assert_eq!(n + 1, self.0.len(), "{case}: all that the reference has");
        let want = self.at("score", "all");
        assert!((score - want).abs() < 1e-8, "{case}: score {score} for {want}");
    }
}

fn column(w: &DVector<f64>) -> DMatrix<f64> {
    DMatrix::from_column_slice(w.len(), 1, w.as_slice())
}

#[test]
fn linear_models_are_those_of_scikit_learn() {
    for name in ["diabetes", "longley"] {
        let (x, y) = standardized(name);
        let (x_raw, _) = raw(name);
        let cases = [
            ("linear", LinearRegression::new().fit(&x, &y), &x),
            ("linear_raw", LinearRegression::new().fit(&x_raw, &y), &x_raw),
            (
                "linear_without_intercept",
                LinearRegression::new().with_intercept(false).fit(&x, &y),
                &x,
            ),
            ("ridge", Ridge::new(2.0).fit(&x, &y), &x),
            ("lasso", Lasso::new(0.5).fit(&x, &y), &x),
            ("elastic_net", ElasticNet::new(0.3, 0.4).fit(&x, &y), &x),
        ];
        for (case, model, x) in cases {
            let model = model.unwrap();
            let score = model.score(x, &y).unwrap();
            let w = column(&model.coefficients);
            Reference::of(case, name).equals(case, &w, &[model.intercept], score);
        }
    }
}

#[test]
fn huber_and_poisson_are_those_of_scikit_learn() {
    let ((x, y), (x_raw, _)) = (standardized("diabetes"), raw("diabetes"));
    let y_small = &y / 77.0;
    let model = HuberRegression::new().with_alpha(0.01).fit(&x, &y_small).unwrap();
    let score = model.score(&x, &y_small).unwrap();
    let w = column(&model.coefficients);
    Reference::of("huber", "diabetes").equals("huber", &w, &[model.intercept], score);
    for (case, x) in [("poisson", &x), ("poisson_raw", &x_raw)] {
        let model = PoissonRegression::new(0.5).fit(x, &y).unwrap();
        let score = model.score(x, &y).unwrap();
        let w = column(&model.coefficients);
        Reference::of(case, "diabetes").equals(case, &w, &[model.intercept], score);
    }
}

#[test]
fn classifiers_are_those_of_scikit_learn() {
    let ((x, y), (x_raw, _)) = (standardized("breast_cancer"), raw("breast_cancer"));
    let y = labels(&y);
    for (case, x, c) in [("logistic", &x, 1.0), ("logistic_raw", &x_raw, 0.1)] {
        let model = LogisticRegression::new().with_c(c).fit(x, &y).unwrap();
        let w = column(&model.coefficients);
        let score = model.score(x, &y).unwrap();
        Reference::of(case, "breast_cancer").equals(case, &w, &[model.intercept], score);
    }
    for name in ["iris", "wine", "digits"] {
        let (x, y) = standardized(name);
        let y = labels(&y);
        let model = SoftmaxRegression::new().fit(&x, &y).unwrap();
        let score = model.score(&x, &y).unwrap();
        let b = model.intercepts.as_slice();
        Reference::of("softmax", name).equals("softmax", &model.coefficients, b, score);
        let p = model.predict_probabilities(&x).unwrap();
        assert!(p.column_sum().iter().all(|sum| (sum - 1.0).abs() < 1e-12));
    }
}

/// Of five rows one is for the test, the first of them.
fn split<Y: nalgebra::Scalar>(x: &DMatrix<f64>, y: &DVector<Y>) -> [(DMatrix<f64>, DVector<Y>); 2] {
    [false, true].map(|test| {
        let rows: Vec<usize> = (0..y.len()).filter(|i| (i % 5 == 0) == test).collect();
        (x.select_rows(&rows), y.select_rows(&rows))
    })
}

#[test]
fn networks_are_as_good_as_those_of_scikit_learn() {
    // Other random weights, so other networks: to within two samples of the test.
    for name in ["iris", "wine", "breast_cancer", "digits"] {
        let (x, y) = standardized(name);
        let [(x, y), (x_test, y_test)] = split(&x, &labels(&y));
        let model = MlpClassifier::new().fit(&x, &y).unwrap();
        let score = model.score(&x_test, &y_test).unwrap();
        let want = Reference::of("mlp_classifier", name).at("score", "all");
        assert!(score >= want - 2.01 / y_test.len() as f64, "{name}: {score} for {want}");
    }
    let (x, y) = standardized("diabetes");
    let [(x, y), (x_test, y_test)] = split(&x, &y);
    let model = MlpRegressor::new().fit(&x, &y).unwrap();
    let score = model.score(&x_test, &y_test).unwrap();
    let want = Reference::of("mlp_regressor", "diabetes").at("score", "all");
    assert!(score >= want - 0.05, "{score} for {want}");
}

#[test]
fn a_fit_has_the_same_bits_each_time_and_features_any_unit() {
    let (x, y) = raw("wine");
    let y = labels(&y);
    let mlp = MlpClassifier::new().with_max_epochs(20).with_batch(16);
    let model = mlp.fit(&x, &y).unwrap();
    assert_eq!(model, mlp.fit(&x, &y).unwrap());
    assert_ne!(model, mlp.with_seed(1).fit(&x, &y).unwrap());
    assert!(model.score(&x, &y).unwrap() > 0.97);
    let p = model.predict_probabilities(&x).unwrap();
    assert!(p.column_sum().iter().all(|sum| (sum - 1.0).abs() < 1e-12));
    let softmax = || SoftmaxRegression::new().fit(&x, &y).unwrap();
    assert_eq!(softmax(), softmax());
}

#[test]
fn models_come_back_from_files_to_the_bit() {
    let (x, y) = raw("iris");
    let classes = labels(&y);
    let binary = classes.map(|class| Index::from(class > 0));
    macro_rules! comes_back {
        ($($name:literal $fit:expr, $model:ident;)*) => {$(
            let (path, model) = (scratch(concat!($name, ".safetensors")), $fit.unwrap());
            model.save(&path).unwrap();
            assert_eq!($model::load(&path).unwrap(), model);
        )*};
    }
    let mlp = MlpRegressor::new().with_hidden(&[5, 4]).with_activation(Activation::Tanh);
    let small = MlpClassifier::new().with_hidden(&[3]).with_max_epochs(3);
    comes_back! {
        "linear" Ridge::new(1.0).fit(&x, &y), LinearModel;
        "logistic" LogisticRegression::new().fit(&x, &binary), LogisticModel;
        "softmax" SoftmaxRegression::new().fit(&x, &classes), SoftmaxModel;
        "poisson" PoissonRegression::new(1.0).fit(&x, &y), PoissonModel;
        "classifier" small.fit(&x, &classes), MlpClassifierModel;
        "regressor" mlp.with_max_epochs(3).fit(&x, &y), MlpRegressorModel;
    }
    refused(LogisticModel::load(scratch("linear.safetensors")), "expected logistic, got linear");
    refused(MlpClassifierModel::load(scratch("regressor.safetensors")), "mlp_regressor");
    let bytes = std::fs::read(scratch("linear.safetensors")).unwrap();
    refused(LinearModel::load(written("cut.safetensors", &bytes[..bytes.len() - 9])), "cut");
    refused(LinearModel::load(scratch("no such file")), "no such file");
    // Sizes that the file has no room for.
    let tape = Tape::<f64>::new();
    tape.variable("coefficients", 0.0);
    for extents in ["1000000000000", "-1", "", "99999999999999999999999"] {
        let notes = Notes::new().with("model", "linear").with("extents", extents);
        let path = scratch("wrong_extents.safetensors");
        Session::new(&tape).unwrap().save(&path, &notes).unwrap();
        refused(LinearModel::load(&path), "extents");
    }
}

/// The errors of all estimators of numbers.
fn errors(x: &DMatrix<f64>, y: &DVector<f64>) -> Vec<(&'static str, ErrorKind)> {
    fn kind<M>(fit: Result<M>) -> ErrorKind {
        match fit {
            Ok(_) => panic!("expected an error"),
            Err(e) => {
                assert!(!e.message().ends_with('.'), "{e}");
                e.kind()
            }
        }
    }
    vec![
        ("linear", kind(LinearRegression::new().fit(x, y))),
        ("ridge", kind(Ridge::new(1.0).fit(x, y))),
        ("lasso", kind(Lasso::new(1.0).fit(x, y))),
        ("elastic_net", kind(ElasticNet::new(1.0, 0.5).fit(x, y))),
        ("huber", kind(HuberRegression::new().fit(x, y))),
        ("poisson", kind(PoissonRegression::new(1.0).fit(x, y))),
        ("mlp", kind(MlpRegressor::new().fit(x, y))),
    ]
}

/// The errors of all estimators of classes.
fn label_errors(x: &DMatrix<f64>, y: &[Index]) -> Vec<(&'static str, ErrorKind)> {
    let y = &DVector::from_column_slice(y);
    vec![
        ("logistic", LogisticRegression::new().fit(x, y).unwrap_err().kind()),
        ("softmax", SoftmaxRegression::new().fit(x, y).unwrap_err().kind()),
        ("mlp", MlpClassifier::new().fit(x, y).unwrap_err().kind()),
    ]
}

fn all(got: Vec<(&'static str, ErrorKind)>, want: ErrorKind) {
    got.into_iter().for_each(|(name, kind)| assert_eq!(kind, want, "{name}"));
}

#[test]
fn hostile_data_are_errors() {
    let x = DMatrix::from_fn(6, 2, |i, j| ((3 * i + j * j + i * i * j) % 7) as f64);
    let y = DVector::from_column_slice(&[1.0, 2.0, 0.0, 4.0, 2.0, 1.0]);
    for bad in [f64::NAN, f64::INFINITY] {
        let mut x_bad = x.clone();
        x_bad[(4, 1)] = bad;
        all(errors(&x_bad, &y), ErrorKind::NotFinite);
        all(label_errors(&x_bad, &[0, 1, 0, 1, 0, 1]), ErrorKind::NotFinite);
        let mut y_bad = y.clone();
        y_bad[2] = bad;
        all(errors(&x, &y_bad), ErrorKind::NotFinite);
    }
    let none = DVector::zeros(0);
    all(errors(&DMatrix::zeros(0, 2), &none), ErrorKind::Shape);
    all(errors(&DMatrix::zeros(6, 0), &y), ErrorKind::Shape);
    all(errors(&x, &none), ErrorKind::Shape);
    all(errors(&x, &DVector::zeros(5)), ErrorKind::Shape);
    all(label_errors(&DMatrix::zeros(0, 2), &[]), ErrorKind::Shape);
    all(label_errors(&x, &[0, 1, 0]), ErrorKind::Shape);
    // One class, a class that is missing, a label that no memory would hold the classes of.
    for y in [[0; 6], [1; 6], [0, 2, 0, 2, 0, 2], [0, 1, Index::MAX, 0, 1, 0]] {
        all(label_errors(&x, &y), ErrorKind::Argument);
    }
    let three = DVector::from_column_slice(&[0, 1, 2, 0, 1, 2]);
    let error = LogisticRegression::new().fit(&x, &three).unwrap_err();
    assert!(error.message().contains("SoftmaxRegression"), "{error}");
}

#[test]
fn columns_that_say_nothing_are_found_or_left_out() {
    let x = DMatrix::from_fn(8, 3, |i, j| match j {
        0 => (i * i % 5) as f64,
        1 => 0.1, // whose mean is not 0.1 to the bit
        _ => i as f64,
    });
    let y = DVector::from_fn(8, |i, _| (i % 3) as f64 + i as f64 / 10.0);
    let error = LinearRegression::new().fit(&x, &y).unwrap_err();
    assert!(error.kind() == ErrorKind::Singular && error.message().ends_with("one: 1"), "{error}");
    let mut twice = x.clone();
    twice.set_column(1, &(x.column(0) * 2.0 - x.column(2)));
    let error = LinearRegression::new().fit(&twice, &y).unwrap_err();
    assert!(error.message().contains("expected features of rank 3, got 2"), "{error}");
    let wide =
        LinearRegression::new().fit(&x.rows(0, 3).clone_owned(), &y.rows(0, 3).clone_owned());
    assert_eq!(wide.unwrap_err().kind(), ErrorKind::Singular);
    assert_eq!(Ridge::new(0.0).fit(&x, &y).unwrap_err().kind(), ErrorKind::Singular);

    let classes = DVector::from_fn(8, |i, _| (i % 2) as Index);
    let of_constant = [
        Ridge::new(1.0).fit(&x, &y).unwrap().coefficients[1],
        Lasso::new(0.01).fit(&x, &y).unwrap().coefficients[1],
        HuberRegression::new().fit(&x, &y).unwrap().coefficients[1],
        PoissonRegression::new(0.1).fit(&x, &y).unwrap().coefficients[1],
        LogisticRegression::new().fit(&x, &classes).unwrap().coefficients[1],
        SoftmaxRegression::new().fit(&x, &classes).unwrap().coefficients[(1, 0)],
    ];
    assert_eq!(of_constant, [0.0; 6]);
    // Two columns that are one: the penalty shares.
    let model = Ridge::new(1.0).fit(&DMatrix::from_fn(8, 2, |i, _| x[(i, 0)]), &y).unwrap();
    assert!((model.coefficients[0] - model.coefficients[1]).abs() < 1e-12);
    let model = Lasso::new(0.01).fit(&DMatrix::from_fn(8, 2, |i, _| x[(i, 0)]), &y).unwrap();
    assert!(model.coefficients.amax() > 0.0);
}

#[test]
fn fits_without_a_minimum_and_wrong_hyperparameters_are_errors() {
    let x = DMatrix::from_fn(8, 1, |i, _| i as f64);
    let separated = DVector::from_fn(8, |i, _| Index::from(i > 3));
    let unpenalized = LogisticRegression::new().with_c(f64::INFINITY);
    assert_eq!(unpenalized.fit(&x, &separated).unwrap_err().kind(), ErrorKind::NotConverged);
    let unpenalized = SoftmaxRegression::new().with_c(f64::INFINITY);
    assert_eq!(unpenalized.fit(&x, &separated).unwrap_err().kind(), ErrorKind::NotConverged);
    let unpenalized = LogisticRegression::new().with_c(f64::INFINITY);
    let mixed = DVector::from_column_slice(&[0, 0, 1, 0, 1, 0, 1, 1]);
    assert!(unpenalized.fit(&x, &mixed).unwrap().coefficients[0] > 0.0);
    let line = DVector::from_fn(8, |i, _| 3.0 * i as f64 + 1.0);
    // No scale is the least, but the line is that of the limit.
    let exact = HuberRegression::new().with_alpha(0.0).fit(&x, &line).unwrap();
    assert!((exact.coefficients[0] - 3.0).abs() < 1e-6 && (exact.intercept - 1.0).abs() < 1e-6);
    assert!(HuberRegression::new().fit(&x, &DVector::repeat(8, 2.0)).is_err());
    assert!(PoissonRegression::new(0.0).fit(&x, &DVector::zeros(8)).is_err());
    assert!(PoissonRegression::new(0.0).fit(&x, &DVector::repeat(8, -1.0)).is_err());
    let argument = |e: gradtape::Error| assert_eq!(e.kind(), ErrorKind::Argument, "{e}");
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        argument(Ridge::new(bad).fit(&x, &line).unwrap_err());
        argument(Lasso::new(bad).fit(&x, &line).unwrap_err());
        argument(PoissonRegression::new(bad).fit(&x, &line).unwrap_err());
        argument(HuberRegression::new().with_alpha(bad).fit(&x, &line).unwrap_err());
        argument(ElasticNet::new(1.0, bad).fit(&x, &line).unwrap_err());
        argument(MlpRegressor::new().with_alpha(bad).fit(&x, &line).unwrap_err());
    }
    argument(LogisticRegression::new().with_c(0.0).fit(&x, &mixed).unwrap_err());
    argument(SoftmaxRegression::new().with_c(f64::NAN).fit(&x, &mixed).unwrap_err());
    argument(HuberRegression::new().with_epsilon(0.5).fit(&x, &line).unwrap_err());
    argument(MlpClassifier::new().with_batch(0).fit(&x, &mixed).unwrap_err());
    argument(MlpClassifier::new().with_hidden(&[3, 0]).fit(&x, &mixed).unwrap_err());
    assert!(MlpClassifier::new().with_rate(-1.0).fit(&x, &mixed).is_err());
    let model = LinearRegression::new().fit(&x, &line).unwrap();
    assert_eq!(model.predict(&DMatrix::zeros(2, 2)).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(model.score(&x, &DVector::zeros(3)).unwrap_err().kind(), ErrorKind::Shape);
}
