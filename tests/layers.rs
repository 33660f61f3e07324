//! Row B4: layers against PyTorch's (`tests/reference/layers.txt`), dropout and its masks, running
//! statistics, masks of attention, and what is refused.

use gradtape::nn::{
    Activation, AvgPool, BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Dense,
    Dropout, Flatten, GlobalPool, GroupNorm, Layer, LayerNorm, MaxPool, MultiHeadAttention,
    RmsNorm, Sequential, Training,
};
use gradtape::optim::{Adam, Sgd};
use gradtape::{
    ANY, Attention, Conv, ErrorKind, Expr, Feed, Padding, Philox, Pool, Scalar, Session, Shape,
    Tape, Tensor, Var,
};
use std::collections::HashMap;

type Record = HashMap<String, Tensor>;

fn records() -> HashMap<String, Record> {
    let mut records: HashMap<String, Record> = HashMap::new();
    let mut name = String::new();
    for line in include_str!("reference/layers.txt").lines() {
        if let Some(next) = line.strip_prefix("case ") {
            name = next.to_string();
            continue;
        }
        let mut words = line.split(' ');
        let key = words.next().unwrap().to_string();
        let extents: Vec<usize> =
            words.next().unwrap().split(',').map(|e| e.parse().unwrap()).collect();
        let elements = words.map(|x| x.parse().unwrap()).collect();
        let tensor = Tensor::new(Shape::new(&extents).unwrap(), elements).unwrap();
        records.entry(name.clone()).or_default().insert(key, tensor);
    }
    records
}

#[track_caller]
fn close(got: &Tensor, want: &Tensor, what: &str) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    for (&got, &want) in got.as_slice().iter().zip(want.as_slice()) {
        assert!((got - want).abs() < 1e-12 * (1.0 + want.abs()), "{what}: {got}, want {want}");
    }
}

/// Value and gradients of a layer with the record's variables, for its cotangent.
#[track_caller]
fn agrees<'t>(
    record: &Record,
    y: Expr<'t, f64>,
    inputs: &[(&str, Expr<'t, f64>)],
    variables: &[(&str, Var)],
) {
    let tape = y.tape();
    let ct = tape.placeholder("c", record["c"].shape());
    let all: Vec<(&str, Expr<f64>)> =
        inputs.iter().copied().chain(variables.iter().map(|&(k, v)| (k, tape.expr(v)))).collect();
    let of: Vec<_> = all.iter().map(|x| x.1).collect();
    let gradients = tape.gradient((y * ct).sum(), &of).unwrap();
    let mut session = Session::new(tape).unwrap();
    for (key, variable) in variables {
        session.assign(*variable, &record[*key]).unwrap();
    }
    let mut feeds: Vec<Feed<f64>> = inputs.iter().map(|(key, x)| x.feed(&record[*key])).collect();
    feeds.push(ct.feed(&record["c"]));
    let (y, gradients) = session.run((y, &gradients), &feeds).unwrap();
    close(&y, &record["y"], "value");
    for ((key, _), got) in all.iter().zip(gradients) {
        close(&got, &record[&format!("d_{key}")], key);
    }
}

fn input<'t>(tape: &'t Tape<f64>, record: &Record, key: &str) -> Expr<'t, f64> {
    tape.placeholder(key, record[key].shape().with_batch())
}

trait WithBatch {
    fn with_batch(self) -> Shape;
}

impl WithBatch for Shape {
    /// With any number of rows.
    fn with_batch(self) -> Shape {
        let mut extents = self.extents().to_vec();
        extents[0] = ANY;
        Shape::new(&extents).unwrap()
    }
}

#[test]
fn b4_normalizations_are_pytorchs() {
    let records = records();
    let tape = Tape::new();
    let norm = LayerNorm::new(&tape, "layer", 5).unwrap();
    let record = &records["layer_norm"];
    let x = input(&tape, record, "x");
    let variables = [("gain", norm.gain), ("bias", norm.bias)];
    agrees(record, norm.forward(x, None), &[("x", x)], &variables);

    let norm = RmsNorm::new(&tape, "rms", 5).unwrap();
    let record = &records["rms_norm"];
    let x = input(&tape, record, "x");
    agrees(record, norm.forward(x, None), &[("x", x)], &[("gain", norm.gain)]);

    let norm = GroupNorm::new(&tape, "group", 2, 4).unwrap();
    let record = &records["group_norm"];
    let x = input(&tape, record, "x");
    let variables = [("gain", norm.gain), ("bias", norm.bias)];
    agrees(record, norm.forward(x, None), &[("x", x)], &variables);
}

#[test]
fn b4_convolutions_are_pytorchs() {
    let records = records();
    let tape = Tape::new();
    let w = |name: &str| records[name]["w"].clone();
    let (none, relu) = (Activation::Identity, Activation::Relu);
    macro_rules! check {
        ($name:literal $layer:ident $conv:expr, $activation:expr) => {{
            let (record, conv) = (&records[$name], $conv);
            let layer = $layer::with_weights(&tape, $name, w($name), conv, $activation).unwrap();
            let x = input(&tape, record, "x");
            let y = layer.forward(x);
            let parameters: Vec<Var> = Layer::<f64>::parameters(&layer);
            assert_eq!(parameters, [layer.w, layer.b]);
            assert_eq!(tape.expr(layer.b).name(), concat!($name, "/b"));
            agrees(record, y, &[("x", x)], &[("w", layer.w), ("b", layer.b)]);
            // A new layer has variables of the same shapes.
            let extents = w($name).shape().extents().try_into().unwrap();
            let again = $layer::new(&tape, "new", extents, conv, relu, &mut Philox::new(1, 0));
            let again = again.unwrap();
            for (a, b) in [(again.w, layer.w), (again.b, layer.b)] {
                assert_eq!(tape.expr(a).shape(), tape.expr(b).shape(), $name);
            }
        }};
    }
    check!("conv1d" Conv1d Conv::valid().with_stride([2]), none);
    check!("conv2d" Conv2d Conv::padded(Padding::Explicit([(1, 1), (1, 1)])), relu);
    check!("conv_transpose1d" ConvTranspose1d Conv::valid().with_stride([2]), none);
    let grouped = Conv::valid().with_stride([2, 2]).with_groups(2);
    check!("conv_transpose2d" ConvTranspose2d grouped, none);
}

/// Weights of a transposed convolution vary with the channels it sums over.
#[test]
fn b4_transposed_weights_start_by_their_own_fan_in() {
    let tape = Tape::<f64>::new();
    let mut rng = Philox::new(3, 0);
    let (conv, relu) = (Conv::valid(), Activation::Relu);
    let layer = ConvTranspose2d::new(&tape, "t", [3, 3, 5, 200], conv, relu, &mut rng).unwrap();
    let w = Session::new(&tape).unwrap().value(layer.w).unwrap();
    let variance = w.as_slice().iter().map(|w| w * w).sum::<f64>() / w.len() as f64;
    assert!((variance * (9.0 * 200.0) / 2.0 - 1.0).abs() < 0.1, "{variance}");
}

#[test]
fn b4_attention_is_pytorchs() {
    let records = records();
    let padding = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
    let padding = Tensor::from_rows([3, 4], &padding).unwrap();
    for name in ["attention", "attention_causal", "attention_masked", "attention_across"] {
        let record = &records[name];
        let tape = Tape::new();
        let mut form = Attention::new(2);
        form.causal = name == "attention_causal";
        let layer = MultiHeadAttention::new(&tape, "mha", 6, form, &mut Philox::new(0, 0)).unwrap();
        let x = input(&tape, record, "x");
        let mask = name.ends_with("masked").then(|| tape.constant(padding.clone()));
        let mut inputs = vec![("x", x)];
        let y = match name {
            "attention_across" => {
                let memory = input(&tape, record, "memory");
                inputs.push(("memory", memory));
                layer.across(x, memory, Some(tape.constant(padding.clone())))
            }
            _ => layer.forward(x, mask),
        };
        let variables = [
            ("w_in", layer.w_in),
            ("b_in", layer.b_in),
            ("w_out", layer.w_out),
            ("b_out", layer.b_out),
        ];
        agrees(record, y, &inputs, &variables);
    }
}

/// Samples that see nothing have the value 0 and gradients 0, of second order too; never NaN.
#[test]
fn b4_a_query_that_sees_nothing_is_zero() {
    fn check<T: Scalar>() {
        let tape = Tape::<T>::new();
        let x = tape.placeholder("x", [ANY, 3, 6]);
        let mask = tape.placeholder("mask", [ANY, 3]);
        let y = x.self_attention(Some(mask), Attention::new(1));
        let dx = tape.gradient(y.square().sum(), &[x]).unwrap()[0];
        let ddx = tape.gradient(dx.square().sum(), &[x]).unwrap()[0];
        let value = Tensor::from_fn([2, 3, 6], |at| T::lit((at[1] * 7 + at[2]) as f64)).unwrap();
        let seen = Tensor::from_rows([2, 3], &[0.0, 0.0, 0.0, 1.0, 0.0, 1.0].map(T::lit)).unwrap();
        let feeds = [x.feed(&value), mask.feed(&seen)];
        let out = Session::new(&tape).unwrap().run([y, dx, ddx], &feeds).unwrap();
        for (i, out) in out.iter().enumerate() {
            let rows = out.as_slice().chunks_exact(2);
            assert!(rows.clone().all(|r| r[0] == T::lit(0.0) && r[1].is_finite()), "{i}: {out:?}");
            assert!(rows.clone().any(|r| r[1] != T::lit(0.0)), "{i}: {out:?}");
        }
    }
    check::<f64>();
    check::<f32>();
}

/// Large logits do not overflow, and later keys do not show before their time.
#[test]
fn b4_attention_of_large_scores_and_of_the_future() {
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [1, 3, 3]);
    let y = x.self_attention(None, Attention::new(1).causal());
    let row = |last: f64| {
        let rows = [900.0, 900.0, 1.0, 900.0, -900.0, 2.0, 1e3, last, 3.0];
        Tensor::new([1, 3, 3], (0..9).map(|i| rows[i % 3 * 3 + i / 3]).collect()).unwrap()
    };
    let mut session = Session::new(&tape).unwrap();
    let a = session.run(y, &[x.feed(&row(1e3))]).unwrap();
    let b = session.run(y, &[x.feed(&row(-1e3))]).unwrap();
    assert_eq!(a.as_slice(), [1.0, 1.0, 3.0]);
    assert_eq!(b.as_slice()[..2], a.as_slice()[..2]);
    assert_eq!(b.as_slice()[2], 1.0);
}

#[test]
fn b4_batch_normalization_trains_and_infers_as_pytorch() {
    let records = records();
    let tape = Tape::new();
    let norm = BatchNorm::new(&tape, "norm", 3).unwrap();
    let training = Training::new(&tape);
    let variables = [("gain", norm.gain), ("bias", norm.bias)];
    let mut statistics: Option<(Tensor, Tensor)> = None;
    for name in ["batch_norm_1", "batch_norm_2"] {
        let record = &records[name];
        let x = input(&tape, record, "x");
        let y = norm.forward(x, Some(&training));
        agrees(record, y, &[("x", x)], &variables);
        let updates = training.updates();
        let mut session = Session::new(&tape).unwrap();
        if let Some((mean, variance)) = &statistics {
            session.assign(norm.mean, mean).unwrap();
            session.assign(norm.variance, variance).unwrap();
        }
        let updates = &updates[updates.len() - 2..];
        session.run(updates, &[x.feed(&record["x"])]).unwrap();
        let (mean, variance) = (session.value(norm.mean), session.value(norm.variance));
        let (mean, variance) = (mean.unwrap(), variance.unwrap());
        close(&mean, &record["mean"], "running mean");
        close(&variance, &record["variance"], "running variance");
        statistics = Some((mean, variance));
    }
    let record = &records["batch_norm_inference"];
    let x = input(&tape, record, "x");
    let y = norm.forward(x, None);
    let (mean, variance) = statistics.unwrap();
    let mut session = Session::new(&tape).unwrap();
    for (variable, value) in [
        (norm.mean, &mean),
        (norm.variance, &variance),
        (norm.gain, &record["gain"]),
        (norm.bias, &record["bias"]),
    ] {
        session.assign(variable, value).unwrap();
    }
    close(&session.run(y, &[x.feed(&record["x"])]).unwrap(), &record["y"], "inference");
}

/// Running statistics are trained neither through inference nor through training; one number for
/// each channel is the bias and leaves no NaN.
#[test]
fn b4_running_statistics_are_not_parameters() {
    let tape = Tape::<f64>::new();
    let norm = BatchNorm::new(&tape, "norm", 2).unwrap();
    let x = tape.placeholder("x", [ANY, 2]);
    let training = Training::new(&tape);
    let y = norm.forward(x, Some(&training));
    let train = Sgd::new(0.1).minimize((y - 1.0).square().mean()).unwrap();
    let tuned = Sgd::new(0.1).minimize((norm.forward(x, None) - 1.0).square().mean()).unwrap();
    let updates = training.updates();
    let mut session = Session::new(&tape).unwrap();
    let one = Tensor::from_rows([1, 2], &[3.0, -4.0]).unwrap();
    let (y, _, _) = session.run((y, train, &updates), &[x.feed(&one)]).unwrap();
    assert_eq!(y.as_slice(), [0.0, 0.0]);
    let (mean, variance) = (session.value(norm.mean), session.value(norm.variance));
    close(&mean.unwrap(), &Tensor::vector(vec![0.3, -0.4]), "mean");
    close(&variance.unwrap(), &Tensor::vector(vec![0.9, 0.9]), "variance");
    let before = session.value(norm.variance).unwrap();
    session.run(tuned, &[x.feed(&one)]).unwrap();
    assert_eq!(session.value(norm.variance).unwrap(), before);
    assert_ne!(session.value(norm.bias).unwrap(), Tensor::vector(vec![0.0, 0.0]));
}

#[test]
fn b4_dropout_keeps_the_mean_and_its_mask_for_the_gradient() {
    const N: usize = 100_000;
    let tape = Tape::<f64>::new();
    let x = tape.placeholder("x", [ANY, 10]);
    let step = tape.placeholder("step", []);
    let ones = Tensor::full([N / 10, 10], 1.0).unwrap();
    for p in [0.1, 0.5, 0.9] {
        let y = x.dropout(p, 3, step);
        let dx = tape.gradient((y * 2.0).sum(), &[x]).unwrap()[0];
        let feeds = [x.feed(&ones), step.feed(&5.0)];
        let (y, dx) = Session::new(&tape).unwrap().run((y, dx), &feeds).unwrap();
        let kept = y.as_slice().iter().filter(|y| **y != 0.0).count() as f64;
        let (n, sd) = (N as f64, (N as f64 * p * (1.0 - p)).sqrt());
        assert!((kept - n * (1.0 - p)).abs() < 4.0 * sd, "{p}: {kept}");
        let mask: Vec<f64> = dx.as_slice().iter().map(|d| d / 2.0).collect();
        assert_eq!(y.as_slice(), mask);
        // Neighbors go together as often as by chance, along both axes.
        for apart in [1, 2, 64, N / 10] {
            let gone = |i: usize| mask[i] == 0.0 && mask[i + apart] == 0.0;
            let pairs = (0..N - apart).filter(|&i| gone(i)).count() as f64;
            let want = (N - apart) as f64 * p * p;
            assert!((pairs - want).abs() < 8.0 * sd, "{p}: {pairs} pairs {apart} apart");
        }
    }
}

/// A mask is a function of seed, step and position: whatever the threads, and after a restart.
#[test]
fn b4_the_same_counters_give_the_same_mask() {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [ANY, 50]);
    let step = tape.variable("step", 0.0);
    let count = tape.assign_add(step, 1.0);
    let (a, b) = (x.dropout(0.3, 1, step), x.dropout(0.3, 2, step));
    let value = Tensor::full([4001, 50], 1.5).unwrap();
    let run = |session: &mut Session<f32>| session.run((a, b, count), &[x.feed(&value)]).unwrap();
    let mut single = Session::new(&tape).unwrap();
    let mut team = Session::new(&tape).unwrap().with_threads(3).unwrap();
    let steps: Vec<_> = (0..3).map(|_| run(&mut single)).collect();
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(&run(&mut team), step);
        assert_ne!(step.0, step.1);
        assert!(i == 0 || steps[i - 1].0 != step.0);
    }
    let mut resumed = Session::new(&tape).unwrap();
    resumed.assign(step, &2.0).unwrap();
    assert_eq!(run(&mut resumed), steps[2]);
}

#[test]
fn b4_dropout_of_nothing_and_of_impossible_numbers() {
    let tape = Tape::<f32>::new();
    let x = tape.placeholder("x", [3]);
    let y = x.dropout(0.0, 1, tape.literal(0.0));
    assert_eq!(y.name(), x.name());
    let step = tape.placeholder("step", []);
    let y = x.dropout(0.5, 1, step);
    let mut session = Session::new(&tape).unwrap();
    let value = Tensor::vector(vec![f32::NAN, -0.0, f32::INFINITY]);
    for bad in [-1.0, 0.5, f32::NAN, 8_388_608.0, f32::INFINITY] {
        let e = session.run(y, &[x.feed(&value), step.feed(&bad)]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Argument, "{e}");
        assert!(e.to_string().contains("expected a step that is a whole number"), "{e}");
    }
    session.run(y, &[x.feed(&value), step.feed(&8_388_607.0)]).unwrap();
    for p in [1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
        let tape = Tape::<f32>::new();
        let _ = tape.placeholder("x", [3]).dropout(p, 1, 0.0);
        let e = tape.check().unwrap_err();
        let want = format!("dropout: [3]: expected a probability from 0 to below 1, got {p}");
        assert_eq!(e.message(), want);
    }
}

#[test]
fn b4_impossible_layers_are_refused() {
    let tape = Tape::<f64>::new();
    let mut rng = Philox::new(0, 0);
    for (features, heads) in [(6, 4), (6, 0), (0, 1)] {
        let form = Attention::new(heads);
        let e = MultiHeadAttention::new(&tape, "a", features, form, &mut rng).unwrap_err();
        let want = format!("a: expected {features} features in {heads} equal heads");
        assert_eq!(e.message(), want);
    }
    let flat = Tensor::<f64>::zeros([3]).unwrap();
    let e = Conv2d::with_weights(&tape, "c", flat, Conv::valid(), Activation::Relu).unwrap_err();
    let want = "c: expected weights `[rows, columns, inputs / groups, outputs]`, got [3]";
    assert_eq!(e.message(), want);
}

/// A model of many kinds of layers learns, again with the same bits, and is itself in inference.
#[test]
fn b4_a_model_of_all_layers_learns() {
    let tape = Tape::<f64>::new();
    let mut rng = Philox::new(5, 0);
    let mut model = Sequential::new();
    let (relu, none) = (Activation::Relu, Activation::Identity);
    let conv = Conv2d::new(&tape, "conv", [3, 3, 1, 4], Conv::same(), none, &mut rng);
    model.push(conv.unwrap());
    model.push(BatchNorm::new(&tape, "batch", 4).unwrap());
    model.push(relu);
    model.push(MaxPool(Pool::new([2, 2])));
    let up = Conv::valid().with_stride([2, 2]);
    let transposed = ConvTranspose2d::new(&tape, "up", [2, 2, 4, 4], up, none, &mut rng);
    model.push(transposed.unwrap());
    model.push(GroupNorm::new(&tape, "group", 2, 4).unwrap());
    model.push(AvgPool(Pool::new([2, 2])));
    model.push(Flatten);
    model.push(Dropout::new(0.1, &mut rng));
    model.push(Dense::new(&tape, "hidden", [16, 8], Activation::GeluTanh, &mut rng).unwrap());
    model.push(LayerNorm::new(&tape, "layer", 8).unwrap());
    model.push(Dense::new(&tape, "out", [8, 2], none, &mut rng).unwrap());

    let x = tape.placeholder("x", [ANY, 4, 4, 1]);
    let labels = tape.index_placeholder("labels", [ANY]);
    let training = Training::new(&tape);
    let logits = model.forward(x, Some(&training));
    let loss = logits.softmax_cross_entropy(labels).mean();
    let train = Adam::new(1e-2).minimize_over(loss, &model.parameters()).unwrap();
    let inferred = model.forward(x, None).softmax_cross_entropy(labels).mean();
    let updates = training.updates();
    assert_eq!(updates.len(), 3);

    let summary = model.summary(x);
    let n: usize = model.parameters().iter().map(|&v| tape.expr(v).shape().len()).sum();
    assert_eq!((summary.n_parameters(), summary.rows.len()), (n, 12));
    assert_eq!(summary.rows[7], ("flatten".to_string(), [ANY, 16].into(), 0));
    let (pooled, of) = (GlobalPool::Mean, GlobalPool::Max);
    assert_eq!(Layer::<f64>::forward(&pooled, x, None).shape(), [ANY, 1].into());
    assert_eq!(Layer::<f64>::forward(&of, x, None).shape(), [ANY, 1].into());

    // Bright above or bright below.
    let images = Tensor::from_fn([20, 4, 4, 1], |at| {
        let noise = (at[0] * 31 + at[1] * 17 + at[2] * 7) % 10;
        f64::from(u8::from((at[1] < 2) == (at[0] % 2 == 0))) + noise as f64 / 10.0
    });
    let images = images.unwrap();
    let classes = Tensor::vector((0..20).map(|i| i % 2).collect());
    let feeds = [x.feed(&images), labels.feed(&classes)];
    let mut session = Session::new(&tape).unwrap();
    let first = session.run(inferred, &feeds).unwrap().item().unwrap();
    let mut losses = vec![];
    for _ in 0..60 {
        let (loss, _, _) = session.run((loss, train, &updates), &feeds).unwrap();
        losses.push(loss.item().unwrap());
    }
    assert_eq!(session.value(training.step()).unwrap().item().unwrap(), 60.0);
    let (last, again) = (session.run(inferred, &feeds), session.run(inferred, &feeds));
    let last = last.unwrap().item().unwrap();
    assert_eq!(last, again.unwrap().item().unwrap());
    assert!(first > 0.4 && last < 0.1, "{first} {last}");
    // Masks differ from step to step, and are those of a second session.
    let mut second = Session::new(&tape).unwrap();
    for want in &losses[..3] {
        let (loss, _, _) = second.run((loss, train, &updates), &feeds).unwrap();
        assert_eq!(loss.item().unwrap(), *want);
    }
}
