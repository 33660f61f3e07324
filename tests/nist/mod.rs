//! NIST's nonlinear regressions, read from `datasets/nist_strd`: data, two starting points each,
//! parameters, standard errors and residual sum of squares as certified to 11 digits. The models
//! stand here.

use gradtape::Expr;
use std::f64::consts::PI;
use std::fs;
use std::path::Path;

#[allow(dead_code)] // not every test reads all of it
pub struct Problem {
    pub name: &'static str,
    /// One or two predictors.
    pub x: Vec<Vec<f64>>,
    /// What the model predicts: of Nelson the logarithm of what is in the file.
    pub y: Vec<f64>,
    /// Far from the solution, and near it.
    pub starts: [Vec<f64>; 2],
    pub certified: Vec<f64>,
    pub standard_errors: Vec<f64>,
    pub residual_sum_of_squares: f64,
    pub model: Model,
}

/// The prediction at the predictors, with these parameters.
type Model = for<'t> fn(&[Expr<'t>], &[Expr<'t>]) -> Expr<'t>;

const MODELS: [(&str, Model); 27] = [
    ("Bennett5", |x, b| b[0] * (b[1] + x[0]).pow(-1.0 / b[2])),
    ("BoxBOD", |x, b| b[0] * (1.0 - (-b[1] * x[0]).exp())),
    ("Chwirut1", chwirut),
    ("Chwirut2", chwirut),
    ("DanWood", |x, b| b[0] * x[0].pow(b[1])),
    ("ENSO", enso),
    ("Eckerle4", |x, b| b[0] / b[1] * (((x[0] - b[2]) / b[1]).square() * -0.5).exp()),
    ("Gauss1", gauss),
    ("Gauss2", gauss),
    ("Gauss3", gauss),
    ("Hahn1", cubics),
    ("Kirby2", |x, b| {
        let x = x[0];
        ((b[2] * x + b[1]) * x + b[0]) / ((b[4] * x + b[3]) * x + 1.0)
    }),
    ("Lanczos1", lanczos),
    ("Lanczos2", lanczos),
    ("Lanczos3", lanczos),
    ("MGH09", |x, b| {
        let x = x[0];
        b[0] * (x * x + x * b[1]) / (x * x + x * b[2] + b[3])
    }),
    ("MGH10", |x, b| b[0] * (b[1] / (x[0] + b[2])).exp()),
    ("MGH17", |x, b| b[0] + b[1] * (-x[0] * b[3]).exp() + b[2] * (-x[0] * b[4]).exp()),
    ("Misra1a", |x, b| b[0] * (1.0 - (-b[1] * x[0]).exp())),
    ("Misra1b", |x, b| b[0] * (1.0 - (1.0 + b[1] * x[0] / 2.0).powi(-2))),
    ("Misra1c", |x, b| b[0] * (1.0 - (1.0 + b[1] * x[0] * 2.0).pow(-0.5))),
    ("Misra1d", |x, b| b[0] * b[1] * x[0] / (1.0 + b[1] * x[0])),
    ("Nelson", |x, b| b[0] - b[1] * x[0] * (-b[2] * x[1]).exp()),
    ("Rat42", |x, b| b[0] / (1.0 + (b[1] - b[2] * x[0]).exp())),
    ("Rat43", |x, b| b[0] / (1.0 + (b[1] - b[2] * x[0]).exp()).pow(1.0 / b[3])),
    ("Roszman1", |x, b| b[0] - b[1] * x[0] - (b[2] / (x[0] - b[3])).atan() / PI),
    ("Thurber", cubics),
];

fn chwirut<'t>(x: &[Expr<'t>], b: &[Expr<'t>]) -> Expr<'t> {
    (-b[0] * x[0]).exp() / (b[1] + b[2] * x[0])
}

fn enso<'t>(x: &[Expr<'t>], b: &[Expr<'t>]) -> Expr<'t> {
    let turns = x[0] * (2.0 * PI);
    let wave =
        |cos: Expr<'t>, sin: Expr<'t>, angle: Expr<'t>| cos * angle.cos() + sin * angle.sin();
    let (year, own) = (wave(b[1], b[2], turns / 12.0), wave(b[4], b[5], turns / b[3]));
    b[0] + year + own + wave(b[7], b[8], turns / b[6])
}

fn gauss<'t>(x: &[Expr<'t>], b: &[Expr<'t>]) -> Expr<'t> {
    let peak = |b: &[Expr<'t>]| b[0] * (-((x[0] - b[1]) / b[2]).square()).exp();
    b[0] * (-b[1] * x[0]).exp() + peak(&b[2..5]) + peak(&b[5..8])
}

fn cubics<'t>(x: &[Expr<'t>], b: &[Expr<'t>]) -> Expr<'t> {
    let x = x[0];
    let above = ((b[3] * x + b[2]) * x + b[1]) * x + b[0];
    above / (((b[6] * x + b[5]) * x + b[4]) * x + 1.0)
}

fn lanczos<'t>(x: &[Expr<'t>], b: &[Expr<'t>]) -> Expr<'t> {
    let decay = |b: &[Expr<'t>]| b[0] * (-b[1] * x[0]).exp();
    decay(&b[..2]) + decay(&b[2..4]) + decay(&b[4..])
}

/// All 27.
pub fn problems() -> Vec<Problem> {
    MODELS.into_iter().map(|(name, model)| read(name, model)).collect()
}

fn read(name: &'static str, model: Model) -> Problem {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/nist_strd");
    let text = fs::read_to_string(folder.join(format!("{name}.dat"))).unwrap();
    // The same lines in every file: certified values before line 61, data from there.
    let (head, data): (Vec<_>, Vec<_>) = text.lines().enumerate().partition(|&(i, _)| i < 60);
    let numbers = |line: &str| -> Vec<f64> {
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    let rows = head.iter().filter_map(|(_, line)| {
        let (parameter, values) = line.split_once('=')?;
        let number = parameter.trim().strip_prefix('b')?;
        (number.parse::<u32>().is_ok() && values.split_whitespace().count() == 4)
            .then(|| numbers(values))
    });
    let rows: Vec<Vec<f64>> = rows.collect();
    let column = |k: usize| rows.iter().map(|row| row[k]).collect::<Vec<_>>();
    let sum = head.iter().find_map(|(_, line)| line.strip_prefix("Residual Sum of Squares:"));
    let data: Vec<Vec<f64>> = data.iter().map(|(_, line)| numbers(line)).collect();
    let of_data = |k: usize| data.iter().map(|row| row[k]).collect::<Vec<_>>();
    let y = of_data(0);
    Problem {
        name,
        x: (1..data[0].len()).map(of_data).collect(),
        y: if name == "Nelson" { y.iter().map(|y| y.ln()).collect() } else { y },
        starts: [column(0), column(1)],
        certified: column(2),
        standard_errors: column(3),
        residual_sum_of_squares: sum.unwrap().trim().parse().unwrap(),
        model,
    }
}
