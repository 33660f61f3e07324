//! Rows C9, E1 and E4: readers on the shipped data sets, splits, scaling, metrics against
//! scikit-learn, and an order of batches that depends on nothing but its seed.

use gradtape::data::metrics::{self, ConfusionMatrix};
use gradtape::data::{
    Batch, Dataset, EarlyStopping, Position, Standardizer, Verdict, hstack, mnist,
};
use gradtape::io::{Classes, Csv, Idx, IdxData, Kind, Table};
use gradtape::{ErrorKind, Index, Result, Tensor};
use std::collections::HashMap;
use std::path::PathBuf;

mod support;

#[global_allocator]
static COUNTING: support::Counting = support::Counting;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn table(name: &str) -> Result<Table> {
    Csv::new().read(path(&format!("datasets/{name}/{name}.csv")))
}

/// The numbers 0..n as samples of two features that tell which sample it is, and as labels.
fn numbered(n: usize, classes: Index) -> Dataset<f64, Index> {
    let x = Tensor::from_fn([n, 2], |at| (10 * at[0] + at[1]) as f64).unwrap();
    Dataset::new(x, Tensor::vector((0..n as Index).map(|i| i % classes).collect())).unwrap()
}

/// Which samples of [`numbered`] these are.
fn ids(data: &Dataset<f64, Index>) -> Vec<usize> {
    data.x().unwrap().as_slice()[..data.len()].iter().map(|x| *x as usize / 10).collect()
}

#[test]
fn e1_shipped_tables_have_the_published_content() -> Result<()> {
    let iris = table("iris")?;
    let x = iris.numbers::<f64>(iris.all_except(["species"])?)?;
    assert_eq!(x.shape(), [150, 4].into());
    assert!((x.as_slice()[..150].iter().sum::<f64>() - 876.5).abs() < 1e-9);
    assert_eq!(x.get(&[149, 3]), Some(1.8));
    let species = iris.labels("species", &iris.classes("species")?)?;
    assert_eq!((species.as_slice()[49], species.as_slice()[50]), (0, 1));

    let y = table("diabetes")?.numbers::<f64>(["progression"])?;
    assert_eq!((y.len(), y.as_slice().iter().sum::<f64>()), (442, 67243.0));
    let cancer = table("breast_cancer")?.numbers::<f32>(["benign"])?;
    assert_eq!((cancer.len(), cancer.as_slice().iter().sum::<f32>()), (569, 357.0));
    let freq = table("ucb_admissions")?.numbers::<f64>(["freq"])?;
    assert_eq!((freq.len(), freq.as_slice().iter().sum::<f64>()), (24, 4526.0));
    let svo = table("svo_counts")?;
    assert_eq!(svo.n_rows(), 19152);
    assert_eq!(svo.numbers::<f64>(["count"])?.as_slice().iter().sum::<f64>(), 21961.0);
    assert_eq!(table("longley")?.numbers::<f64>(["year"])?.as_slice()[15], 1962.0);
    assert_eq!((table("digits")?.n_rows(), table("digits")?.names().len()), (1797, 65));
    let cultivar = table("wine")?.numbers::<f64>(["cultivar"])?;
    let counts = [0.0, 1.0, 2.0].map(|c| cultivar.as_slice().iter().filter(|&&y| y == c).count());
    assert_eq!(counts, [59, 71, 48]);
    Ok(())
}

#[test]
fn e1_missing_values_and_categories_of_the_penguins() -> Result<()> {
    let all = table("penguins")?;
    assert_eq!((all.kind("island")?, all.kind("body_mass_g")?), (Kind::Category, Kind::Number));
    assert_eq!((all.n_missing("sex")?, all.n_missing("body_mass_g")?), (11, 2));
    let err = all.numbers::<f64>(["body_mass_g"]).unwrap_err();
    let text = err.to_string();
    assert!(text.contains("penguins.csv, line 5, column \"body_mass_g\""), "{text}");
    let with_nan = all.numbers_or(["body_mass_g"], f64::NAN)?;
    assert_eq!(with_nan.as_slice().iter().filter(|x| x.is_nan()).count(), 2);

    let whole = all.drop_missing(["body_mass_g"])?.drop_missing(["sex", "flipper_length_mm"])?;
    assert_eq!((whole.n_rows(), whole.n_missing("sex")?), (333, 0));
    let mass = whole.numbers::<f64>(["body_mass_g"])?;
    assert!((mass.as_slice().iter().sum::<f64>() / 333.0 - 4207.057057057057).abs() < 1e-9);
    let islands = whole.classes("island")?;
    assert_eq!(islands.names(), ["Biscoe", "Dream", "Torgersen"]);
    let hot = whole.one_hot::<f64>("island", &islands)?;
    assert_eq!([hot.get(&[0, 0]), hot.get(&[0, 2])], [Some(0.0), Some(1.0)]);
    assert_eq!(hot.as_slice().iter().sum::<f64>(), 333.0);
    let x = hstack(&[&mass, &hot])?;
    assert_eq!((x.shape(), x.get(&[0, 3])), ([333, 4].into(), Some(1.0)));
    Ok(())
}

#[test]
fn e1_a_class_seen_only_in_the_test_file_is_an_error() -> Result<()> {
    let train = Csv::new().parse("kind\nb\na\nb\n")?;
    let classes = train.classes("kind")?;
    let test = Csv::new().parse("kind\na\n\nc\n")?;
    let err = test.labels("kind", &classes).unwrap_err();
    assert_eq!(
        err.to_string(),
        "csv, line 4, column \"kind\": expected one of the classes a, b, got \"c\""
    );
    assert!(test.one_hot::<f32>("kind", &classes).is_err());
    assert_eq!(train.labels("kind", &classes)?.as_slice(), [1, 0, 1]);
    let numbers = Csv::new().parse("digit\n10\n9\n-1\n")?;
    assert_eq!(numbers.classes("digit")?.names(), ["-1", "9", "10"]);
    assert!(Classes::new(["a", "a"]).is_err());
    Ok(())
}

#[test]
fn e1_quoting_delimiters_and_line_ends() -> Result<()> {
    let text = "\u{feff}name ,\"a \"\"b\"\"\"\r\n\"x, y\", 1.5\r\"two\nlines\",\t-2e3 \n\nz,+.5";
    let table = Csv::new().parse(text)?;
    assert_eq!(table.names(), ["name", "a \"b\""]);
    assert_eq!(table.classes("name")?.names(), ["two\nlines", "x, y", "z"]);
    assert_eq!(table.numbers::<f64>(["a \"b\""])?.as_slice(), [1.5, -2000.0, 0.5]);

    let continental = Csv::new().delimiter(b';').decimal_comma().parse("a;b\n1,5;x\n-2;y\n")?;
    assert_eq!(continental.numbers::<f64>(["a"])?.as_slice(), [1.5, -2.0]);
    let dot = Csv::new().delimiter(b';').decimal_comma().parse("a;b\n1.500,5;1\n")?;
    assert_eq!(dot.kind("a")?, Kind::Category);

    let bare = Csv::new().header(false).missing(["-9"]).parse("1,NA\n-9,2\n")?;
    assert_eq!(bare.names(), ["0", "1"]);
    assert_eq!((bare.n_missing("0")?, bare.kind("1")?), (1, Kind::Category));
    Ok(())
}

/// An IDX file of shape [2, 3].
fn idx(code: u8, elements: &[u8]) -> Vec<u8> {
    [&[0, 0, code, 2, 0, 0, 0, 2, 0, 0, 0, 3], elements].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn e1_idx_of_every_type_plain_and_gzipped() -> Result<()> {
    let bytes = |f: fn(i8) -> Vec<u8>| [-1, 2, -3, 4, -5, 6].into_iter().flat_map(f).collect();
    let files: [(u8, Vec<u8>, IdxData); 6] = [
        (0x08, vec![255, 2, 253, 4, 251, 6], IdxData::U8(vec![255, 2, 253, 4, 251, 6])),
        (0x09, bytes(|x| x.to_be_bytes().to_vec()), IdxData::I8(vec![-1, 2, -3, 4, -5, 6])),
        (
            0x0b,
            bytes(|x| (300 * i16::from(x)).to_be_bytes().to_vec()),
            IdxData::I16(vec![-300, 600, -900, 1200, -1500, 1800]),
        ),
        (
            0x0c,
            bytes(|x| (70_000 * i32::from(x)).to_be_bytes().to_vec()),
            IdxData::I32(vec![-70_000, 140_000, -210_000, 280_000, -350_000, 420_000]),
        ),
        (
            0x0d,
            bytes(|x| (f32::from(x) / 4.0).to_be_bytes().to_vec()),
            IdxData::F32(vec![-0.25, 0.5, -0.75, 1.0, -1.25, 1.5]),
        ),
        (
            0x0e,
            bytes(|x| (f64::from(x) / 4.0).to_be_bytes().to_vec()),
            IdxData::F64(vec![-0.25, 0.5, -0.75, 1.0, -1.25, 1.5]),
        ),
    ];
    for (code, elements, want) in files {
        let file = idx(code, &elements);
        let plain = Idx::from_bytes(&file)?;
        assert_eq!((plain.shape(), plain.data()), ([2, 3].into(), &want), "type {code:#x}");
        assert_eq!(Idx::from_bytes(&gzip(&file))?, plain);
        let on_disk = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e1-{code}.idx"));
        std::fs::write(&on_disk, &file).unwrap();
        assert_eq!(Idx::read(&on_disk)?, plain);
        // Row-major in the file, the same indices in the tensor and in a batch.
        let last_of_first_row = match want {
            IdxData::U8(v) => f64::from(v[2]),
            IdxData::I8(v) => f64::from(v[2]),
            IdxData::I16(v) => f64::from(v[2]),
            IdxData::I32(v) => f64::from(v[2]),
            IdxData::F32(v) => f64::from(v[2]),
            IdxData::F64(v) => v[2],
        };
        assert_eq!(plain.to_tensor::<f64>()?.get(&[0, 2]), Some(last_of_first_row));
        let data = Dataset::<f64, Index>::from_idx(plain, 2.0, Tensor::vector(vec![0, 1]))?;
        assert_eq!(data.x()?.get(&[0, 2]), Some(2.0 * last_of_first_row));
    }
    Ok(())
}

#[test]
fn e1_images_keep_their_rows_and_columns() -> Result<()> {
    let (n, rows, columns) = (130, 3, 5);
    let pixel = |i: usize, r: usize, c: usize| (i * 7 + r * 50 + c) as u8;
    let mut file = vec![0, 0, 8, 3, 0, 0, 0, n as u8, 0, 0, 0, rows as u8, 0, 0, 0, columns as u8];
    for i in 0..n {
        (0..rows).for_each(|r| (0..columns).for_each(|c| file.push(pixel(i, r, c))));
    }
    let labels = Tensor::vector((0..n as Index).collect());
    let data = Dataset::<f32, Index>::from_idx(Idx::from_bytes(&file)?, 0.5, labels)?;
    let order: Vec<Index> = (0..n as Index).rev().collect();
    let (mut x, mut y) = (Tensor::scalar(0.0), Tensor::scalar(0));
    data.gather_into(&order, &mut x, &mut y)?;
    let want = Tensor::from_fn([n, rows, columns], |at| {
        f32::from(pixel(n - 1 - at[0], at[1], at[2])) * 0.5
    })?;
    assert_eq!(x, want);
    assert_eq!(y.as_slice(), order);
    Ok(())
}

#[test]
fn e1_mnist_is_mnist() -> Result<()> {
    let [train, test] = mnist::<f32>(path("datasets/mnist"))?;
    assert_eq!(
        (train.x_shape(), test.x_shape()),
        ([60_000, 28, 28].into(), [10_000, 28, 28].into())
    );
    let counts = |data: &Dataset<f32, Index>| {
        let mut counts = [0; 10];
        data.y().unwrap().as_slice().iter().for_each(|&label| counts[label as usize] += 1);
        counts
    };
    assert_eq!(counts(&test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    assert_eq!(counts(&train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    // The mean and deviation of the training pixels that everyone uses; numpy has the other digits.
    let (mut sum, mut squares) = (0.0, 0.0);
    for batch in train.batches(1000)? {
        for &pixel in batch.x.as_slice() {
            sum += f64::from(pixel);
            squares += f64::from(pixel).powi(2);
        }
    }
    let n = 60_000.0 * 784.0;
    let (mean, std) = (sum / n, (squares / n - (sum / n) * (sum / n)).sqrt());
    // The pixels are rounded to f32.
    let near = |got: f64, want: f64| (got / want - 1.0).abs() < f64::from(f32::EPSILON);
    assert!(near(mean, 0.1306604762738429) && near(std, 0.30810780385646264), "{mean} {std}");
    Ok(())
}

#[test]
fn c9_split_cuts_into_disjoint_parts_of_the_asked_sizes() -> Result<()> {
    let data = numbered(103, 4);
    let parts = data.split([0.7, 0.15, 0.15], 5)?;
    assert_eq!(parts.each_ref().map(Dataset::len), [72, 16, 15]);
    let mut all: Vec<usize> = parts.iter().flat_map(ids).collect();
    assert_ne!(all, (0..103).collect::<Vec<_>>());
    all.sort_unstable();
    assert_eq!(all, (0..103).collect::<Vec<_>>());
    let x = parts[1].x()?;
    let y = parts[1].y()?;
    for (i, id) in ids(&parts[1]).into_iter().enumerate() {
        assert_eq!((x.get(&[i, 1]), y.as_slice()[i]), (Some((10 * id + 1) as f64), id as u32 % 4));
    }
    assert_eq!(ids(&data.split([0.7, 0.15, 0.15], 5)?[2]), ids(&parts[2]));
    assert_ne!(ids(&data.split([0.7, 0.15, 0.15], 6)?[2]), ids(&parts[2]));
    // A part of a part.
    let [inner, _] = parts[0].split([0.5, 0.5], 1)?;
    assert!(ids(&inner).iter().all(|id| ids(&parts[0]).contains(id)));

    for bad in [[0.5, 0.6], [1.0, 0.0], [f64::NAN, 0.5], [1.5, -0.5], [0.999, 0.001]] {
        assert_eq!(data.split(bad, 0).unwrap_err().kind(), ErrorKind::Argument, "{bad:?}");
    }
    Ok(())
}

#[test]
fn c9_strata_keep_their_shares() -> Result<()> {
    let labels: Vec<Index> = (0..1000).map(|i| [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][i % 10]).collect();
    let data = Dataset::new(Tensor::<f64>::zeros([1000, 1])?, Tensor::vector(labels))?;
    let counts = |part: &Dataset<f64, Index>| {
        let y = part.y().unwrap();
        [0, 1, 2].map(|class| y.as_slice().iter().filter(|&&l| l == class).count() as isize)
    };
    for seed in 0..20 {
        let [train, test] = data.split_stratified([0.87, 0.13], seed)?;
        assert_eq!([train.len(), test.len()], [870, 130]);
        for (got, want) in counts(&test).into_iter().zip([78, 39, 13]) {
            assert!((got - want).abs() <= 1, "seed {seed}: {:?}", counts(&test));
        }
        for [_, validation] in data.k_fold_stratified(7, seed)? {
            for (got, want) in counts(&validation).into_iter().zip([86, 43, 14]) {
                assert!((got - want).abs() <= 1, "seed {seed}: {:?}", counts(&validation));
            }
        }
    }
    // Random within the classes: a plain split of the same seed differs from it.
    assert_ne!(counts(&data.split([0.5, 0.5], 3)?[0]), [300, 150, 50]);
    Ok(())
}

#[test]
fn c9_every_sample_is_validated_once_in_k_folds() -> Result<()> {
    let data = numbered(23, 3);
    for folds in [data.k_fold(5, 2)?, data.k_fold_stratified(5, 2)?] {
        let mut validated: Vec<usize> = folds.iter().flat_map(|[_, v]| ids(v)).collect();
        validated.sort_unstable();
        assert_eq!(validated, (0..23).collect::<Vec<_>>());
        for [train, validation] in &folds {
            assert!(validation.len() == 4 || validation.len() == 5);
            assert_eq!(train.len() + validation.len(), 23);
            assert!(ids(train).iter().all(|id| !ids(validation).contains(id)));
        }
    }
    for bad in [0, 1, 24] {
        assert!(data.k_fold(bad, 0).is_err());
    }
    Ok(())
}

#[test]
fn c9_scaling_is_fitted_on_the_training_part_only() -> Result<()> {
    let wine = table("wine")?;
    let x = wine.numbers::<f64>(wine.all_except(["cultivar"])?)?;
    let y = wine.labels("cultivar", &wine.classes("cultivar")?)?;
    let [train, test] = Dataset::new(x, y)?.split_stratified([0.75, 0.25], 3)?;
    let scale = Standardizer::fit(&train.x()?)?;
    let mean_and_std = |data: &Dataset<f64, Index>| -> Result<Vec<(f64, f64)>> {
        let x = data.standardized(&scale)?.x()?;
        let n = data.len() as f64;
        let column = |c: &[f64]| {
            let mean = c.iter().sum::<f64>() / n;
            (mean, (c.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
        };
        Ok(x.as_slice().chunks_exact(data.len()).map(column).collect())
    };
    for (mean, std) in mean_and_std(&train)? {
        assert!(mean.abs() < 1e-12 && (std - 1.0).abs() < 1e-12, "{mean} {std}");
    }
    assert!(mean_and_std(&test)?.iter().all(|(mean, _)| mean.abs() > 1e-6));

    let mut back = test.standardized(&scale)?.x()?;
    scale.inverse(&mut back)?;
    let error = metrics::rmse(&test.x()?, &back)?;
    assert!(error < 1e-12, "{error}");
    let mut narrow = Tensor::zeros([3, 5])?;
    assert_eq!(scale.apply(&mut narrow).unwrap_err().kind(), ErrorKind::Shape);
    Ok(())
}

#[test]
fn c9_scaling_survives_constants_extremes_and_names_what_is_not_finite() -> Result<()> {
    // 0.1 three times has a sum that rounds; 1e200 squared overflows.
    let x = Tensor::from_rows([3, 3], &[0.1, 1e200, 1.0, 0.1, -1e200, 1.0, 0.1, 0.0, 1.0])?;
    let scale = Standardizer::fit(&x)?;
    assert_eq!((scale.mean()[0], scale.scale()[0], scale.scale()[2]), (0.1, 1.0, 1.0));
    assert!((scale.scale()[1] / 1e200 - (2.0f64 / 3.0).sqrt()).abs() < 1e-15);
    let mut z = x.clone();
    scale.apply(&mut z)?;
    assert_eq!(z.as_slice()[..3], [0.0; 3]);

    let bad = Tensor::from_rows([2, 2], &[1.0, 2.0, 3.0, f64::NAN])?;
    let err = Standardizer::fit(&bad).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFinite);
    assert!(err.to_string().ends_with("got NaN in sample 1, feature 1"), "{err}");
    assert!(Standardizer::fit(&Tensor::<f64>::zeros([0, 3])?).is_err());
    Ok(())
}

#[test]
fn c9_early_stopping_waits_and_remembers_the_best_epoch() {
    let run = |mut rule: EarlyStopping, losses: &[f64]| {
        let stop = losses.iter().position(|&loss| rule.update(loss) == Verdict::Stop);
        (stop, rule.best())
    };
    let losses = [1.0, 0.5, 0.49, 0.48, 0.6, 0.4, 0.45, 0.45, 0.45];
    assert_eq!(run(EarlyStopping::new(3), &losses), (Some(8), Some((5, 0.4))));
    assert_eq!(run(EarlyStopping::new(3).min_delta(0.05), &losses), (Some(4), Some((1, 0.5))));
    assert_eq!(run(EarlyStopping::new(4), &losses), (None, Some((5, 0.4))));
    assert_eq!(run(EarlyStopping::new(2), &[f64::NAN; 3]), (Some(1), None));
    assert_eq!(run(EarlyStopping::new(2), &[f64::NAN, 1.0, f64::NAN]), (None, Some((1, 1.0))));
}

#[test]
fn c9_metrics_equal_those_of_scikit_learn() -> Result<()> {
    let input = Csv::new().read(path("tests/reference/metrics_input.csv"))?;
    let want = std::fs::read_to_string(path("tests/reference/metrics.csv")).unwrap();
    let want: HashMap<&str, f64> = want
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let four = Classes::new(["0", "1", "2", "3"])?;
    let [truth, predicted, binary] =
        ["truth", "predicted", "binary"].map(|column| input.labels(column, &four).unwrap());
    let matrix = ConfusionMatrix::new(&truth, &predicted, 4)?;

    let mut got = HashMap::from([
        ("accuracy".to_string(), metrics::accuracy(&truth, &predicted)?),
        ("roc_auc".to_string(), metrics::roc_auc(&binary, &input.numbers::<f64>(["score"])?)?),
        (
            "log_loss".to_string(),
            metrics::log_loss(&truth, &input.numbers::<f64>(["p0", "p1", "p2"])?)?,
        ),
    ]);
    let [y, z] = [["y0", "y1"], ["z0", "z1"]].map(|c| input.numbers::<f64>(c).unwrap());
    got.insert("r2".to_string(), metrics::r2(&y, &z)?);
    got.insert("rmse".to_string(), metrics::rmse(&y, &z)?);
    got.insert("mae".to_string(), metrics::mae(&y, &z)?);
    let mut add = |name: &str, suffix: &str, scores: metrics::Scores| {
        got.insert(format!("{}precision{}", name, suffix), scores.precision);
        got.insert(format!("{}recall{}", name, suffix), scores.recall);
        got.insert(format!("{}f1{}", name, suffix), scores.f1);
    };
    add("macro_", "", matrix.macro_average());
    add("micro_", "", matrix.micro_average());
    (0..4).for_each(|class| add("", &format!("_{class}"), matrix.class(class)));
    for (i, j) in (0..16).map(|k| (k / 4, k % 4)) {
        got.insert(format!("count_{i}_{j}"), matrix.count(i, j) as f64);
    }
    assert_eq!(got.len(), want.len());
    for (name, got) in got {
        let want = want[name.as_str()];
        assert!((got - want).abs() <= 1e-13 * want.abs(), "{name}: {got}, scikit-learn {want}");
    }
    Ok(())
}

#[test]
fn c9_metrics_refuse_what_has_no_answer() -> Result<()> {
    let labels = |v: &[Index]| Tensor::vector(v.to_vec());
    let numbers = |v: &[f64]| Tensor::vector(v.to_vec());
    let (none, two, three) = (labels(&[]), labels(&[0, 1]), labels(&[0, 1, 1]));
    let errors = [
        metrics::accuracy(&none, &none),
        metrics::accuracy(&two, &three),
        ConfusionMatrix::new(&none, &none, 2).map(|m| m.accuracy()),
        ConfusionMatrix::new(&two, &two, 1).map(|m| m.accuracy()),
        ConfusionMatrix::new(&two, &two, usize::MAX).map(|m| m.accuracy()),
        metrics::roc_auc(&labels(&[1, 1]), &numbers(&[0.1, 0.2])),
        metrics::roc_auc(&labels(&[0, 2]), &numbers(&[0.1, 0.2])),
        metrics::roc_auc(&two, &numbers(&[0.1, f64::NAN])),
        metrics::roc_auc(&two, &numbers(&[0.1])),
        metrics::r2(&numbers(&[2.0, 2.0]), &numbers(&[2.0, 1.0])),
        metrics::rmse(&numbers(&[]), &numbers(&[])),
        metrics::mae(&numbers(&[1.0]), &numbers(&[1.0, 2.0])),
        metrics::log_loss(&two, &Tensor::from_rows([2, 2], &[0.5, 0.5, 0.5, 0.6])?),
        metrics::log_loss(&two, &Tensor::from_rows([2, 2], &[0.5, 0.5, 1.5, -0.5])?),
        metrics::log_loss(&labels(&[0, 2]), &Tensor::full([2, 2], 0.5)?),
        metrics::argmax(&Tensor::from_rows([1, 2], &[1.0, f64::NAN])?).map(|_| 0.0),
        metrics::argmax(&numbers(&[1.0])).map(|_| 0.0),
    ];
    for (i, result) in errors.into_iter().enumerate() {
        let text = result.expect_err(&format!("case {i}")).to_string();
        assert!(text.contains(": ") && !text.ends_with('.'), "{text}");
    }
    let scores = Tensor::from_rows([2, 3], &[1.0, 5.0, 5.0, -2.0, -3.0, -1.0])?;
    assert_eq!(metrics::argmax(&scores)?.as_slice(), [1, 2]);
    Ok(())
}

/// Worked out by tests/reference/shuffle.py from the paper of Philox.
#[test]
fn e4_the_order_is_the_same_everywhere() -> Result<()> {
    let mut batches = numbered(10, 2).batches(10)?.shuffle(7);
    assert_eq!(batches.next_rows(), Some(&[3, 0, 2, 7, 5, 6, 1, 4, 8, 9][..]));
    assert_eq!(batches.next_rows(), None);
    assert_eq!(batches.next_rows(), Some(&[4, 6, 0, 7, 5, 9, 1, 8, 3, 2][..]));
    Ok(())
}

#[test]
fn e4_workers_share_one_order() -> Result<()> {
    let data = numbered(1003, 10);
    let gathered = |n_workers: usize| -> Vec<Vec<f64>> {
        let workers: Vec<_> = (0..n_workers)
            .map(|worker| {
                let mut batches = data.batches(64).unwrap().shuffle(11);
                let data = data.clone();
                std::thread::spawn(move || {
                    let (mut x, mut y) = (Tensor::scalar(0.0), Tensor::scalar(0));
                    let mut parts = Vec::new();
                    for _epoch in 0..2 {
                        while let Some(rows) = batches.next_rows() {
                            let bound = |w| rows.len() * w / n_workers;
                            let mine = &rows[bound(worker)..bound(worker + 1)];
                            data.gather_into(mine, &mut x, &mut y).unwrap();
                            parts.push(x.as_slice()[..mine.len()].to_vec());
                        }
                    }
                    parts
                })
            })
            .collect();
        let parts: Vec<_> = workers.into_iter().map(|w| w.join().unwrap()).collect();
        (0..parts[0].len()).map(|b| parts.iter().flat_map(|p| p[b].clone()).collect()).collect()
    };
    let one = gathered(1);
    assert_eq!(one.len(), 32);
    assert_ne!(one[..16], one[16..]);
    for n_workers in 2..=8 {
        assert!(gathered(n_workers) == one, "{n_workers} workers");
    }
    Ok(())
}

#[test]
fn e4_resuming_in_the_middle_of_an_epoch_continues_it() -> Result<()> {
    let data = numbered(50, 5);
    for drop in [false, true] {
        let batches = || -> Result<_> {
            let batches = data.batches(8)?.shuffle(3);
            if drop { batches.drop_partial() } else { Ok(batches) }
        };
        let mut whole = batches()?;
        let mut seen: Vec<(Position, Option<Batch<f64, Index>>)> = Vec::new();
        for _ in 0..20 {
            seen.push((whole.position(), whole.next()));
        }
        for (at, (position, _)) in seen.iter().enumerate() {
            let mut resumed = batches()?;
            resumed.seek(*position)?;
            for (position, want) in &seen[at..] {
                assert_eq!((resumed.position(), &resumed.next()), (*position, want));
            }
        }
        let beyond = Position { epoch: 0, batch: 8 };
        assert_eq!(whole.seek(beyond).unwrap_err().kind(), ErrorKind::Argument);
    }
    Ok(())
}

#[test]
fn e4_every_epoch_holds_every_sample_once() -> Result<()> {
    let data = numbered(50, 5);
    let mut batches = data.batches(8)?.shuffle(3);
    assert_eq!(batches.n_batches(), 7);
    for _epoch in 0..3 {
        let sizes_and_ids: Vec<(usize, Vec<f64>)> = batches
            .by_ref()
            .map(|batch| (batch.y.len(), batch.x.as_slice()[..batch.y.len()].to_vec()))
            .collect();
        assert_eq!(sizes_and_ids.iter().map(|s| s.0).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 2]);
        let mut ids: Vec<usize> =
            sizes_and_ids.iter().flat_map(|s| &s.1).map(|x| *x as usize / 10).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..50).collect::<Vec<_>>());
    }
    assert_eq!(data.batches(8)?.drop_partial()?.map(|b| b.y.len()).sum::<usize>(), 48);
    assert_eq!(data.batches(usize::MAX)?.map(|b| b.y.len()).collect::<Vec<_>>(), [50]);
    let stored = data.batches(3)?.next().map(|b| b.y.into_vec());
    assert_eq!(stored, Some(vec![0, 1, 2]));
    assert!(data.batches(0).is_err() && data.batches(51)?.drop_partial().is_err());
    assert!(data.gather_into(&[50], &mut Tensor::scalar(0.0), &mut Tensor::scalar(0)).is_err());
    Ok(())
}

#[test]
fn e4_filled_tensors_are_not_allocated_again() -> Result<()> {
    let data = numbered(1000, 5);
    let mut batches = data.batches(64)?.shuffle(3);
    let (mut x, mut y) = (Tensor::scalar(0.0), Tensor::scalar(0));
    assert!(batches.next_into(&mut x, &mut y)?);
    let (filled, _, calls) = support::counted(|| -> Result<usize> {
        let mut filled = 0;
        for _epoch in 0..3 {
            while batches.next_into(&mut x, &mut y)? {
                filled += y.len();
            }
        }
        Ok(filled)
    });
    assert_eq!((filled?, calls), (3000 - 64, 0));
    Ok(())
}
