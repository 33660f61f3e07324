//! THE TABLE of cases: every op and every method, on shapes of rank 0 to 4, batches of 0, 1 and
//! more rows, broadcasting and negative axes.

use gradtape::tape::op::ScalarOp;
use gradtape::{
    ANY, Attention, Cell, Conv, Cumulate, Derivative, Expr, Index, IndexExpr, Padding, Pool,
    Primitive, Scalar, Shape, Span, Steps, Tape, Tensor,
};

/// A function that a case is about.
pub type Function<T> = Box<dyn for<'t> Fn(&'t Tape<T>, &[Expr<'t, T>]) -> Expr<'t, T>>;

/// One function on inputs of one list of shapes.
pub struct Case {
    pub name: String,
    pub inputs: Vec<Input>,
    pub wide: Function<f64>,
    pub narrow: Function<f32>,
    /// Whether it can be recorded with an unknown batch.
    pub open: bool,
}

/// The shape of an input and where its elements are drawn from.
#[derive(Clone)]
pub struct Input {
    pub shape: Shape,
    pub domain: &'static [(f64, f64)],
}

const R: &[(f64, f64)] = &[(-2.0, 2.0)];

/// Any number.
fn r<const N: usize>(shape: [usize; N]) -> Input {
    Input { shape: shape.into(), domain: R }
}

/// Numbers well above 0.
fn p<const N: usize>(shape: [usize; N]) -> Input {
    Input { shape: shape.into(), domain: &[(0.3, 2.0)] }
}

/// Numbers within 0 and 1.
fn u<const N: usize>(shape: [usize; N]) -> Input {
    Input { shape: shape.into(), domain: &[(0.1, 0.9)] }
}

fn wide(
    f: impl for<'t> Fn(&'t Tape<f64>, &[Expr<'t, f64>]) -> Expr<'t, f64> + 'static,
) -> Function<f64> {
    Box::new(f)
}

fn narrow(
    f: impl for<'t> Fn(&'t Tape<f32>, &[Expr<'t, f32>]) -> Expr<'t, f32> + 'static,
) -> Function<f32> {
    Box::new(f)
}

/// Indices as a constant.
fn at<'t, T: Scalar, const N: usize>(
    tape: &'t Tape<T>,
    shape: [usize; N],
    indices: &[Index],
) -> IndexExpr<'t, T> {
    tape.index_constant(Tensor::from_rows(shape, indices).expect("as many indices as the shape"))
}

/// The identity matrix.
fn eye<T: Scalar>(tape: &Tape<T>, n: usize) -> Expr<'_, T> {
    let eye = Tensor::from_fn([n, n], |at| T::lit(if at[0] == at[1] { 1.0 } else { 0.0 }));
    tape.constant(eye.expect("a small matrix"))
}

/// X·Xᵀ + 1, which is symmetric and positive definite.
fn spd<'t, T: Scalar>(x: Expr<'t, T>, n: usize) -> Expr<'t, T> {
    x.matmul(x.t()) + eye(x.tape(), n)
}

/// X + 5, which is well-conditioned.
fn regular<'t, T: Scalar>(x: Expr<'t, T>, n: usize) -> Expr<'t, T> {
    x + eye(x.tape(), n) * x.lit(5.0)
}

/// X + diag(5, 10, …), whose eigenvalues and singular values are apart.
fn apart<'t, T: Scalar>(x: Expr<'t, T>, n: usize) -> Expr<'t, T> {
    let steps = (1..=n).map(|i| T::lit(5.0 * i as f64)).collect();
    x + x.tape().constant(Tensor::vector(steps)).diag_matrix()
}

macro_rules! cases {
    ($($mark:ident $name:literal [$($input:expr),*] |$t:ident, $x:ident| $body:expr;)*) => {
        vec![$(Case {
            name: $name.to_string(),
            inputs: vec![$($input),*],
            wide: wide(move |$t, $x| { let _ = $t; $body }),
            narrow: narrow(move |$t, $x| { let _ = $t; $body }),
            open: stringify!($mark) == "open",
        }),*]
    };
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = scalars();
    cases.extend(reductions());
    cases.extend(softmax());
    cases.extend(products());
    cases.extend(images());
    cases.extend(shapes());
    cases.extend(indices());
    cases.extend(losses());
    cases.extend(linear_algebra());
    cases.extend(sequences());
    cases.extend(normalization());
    cases.extend(attention());
    cases
}

/// A row of the scalar table by its method. A new row does not compile until it stands here.
macro_rules! scalar_methods {
    ($($op:ident $name:ident ($($i:literal),*))*) => {
        pub fn record<'t, T: Scalar>(op: ScalarOp, x: &[Expr<'t, T>]) -> Expr<'t, T> {
            match op {
                ScalarOp::Id => x[0].identity(),
                $(ScalarOp::$op => x[0].$name($(x[$i]),*),)*
            }
        }
    };
}
scalar_methods! {
    Neg neg () Exp exp () Expm1 expm1 () Log log () Log1p log1p () Sqrt sqrt () Rsqrt rsqrt ()
    Square square () Abs abs () Sign sign () Sin sin () Cos cos () Tan tan () Asin asin ()
    Acos acos () Atan atan () Sinh sinh () Cosh cosh () Tanh tanh () Sigmoid sigmoid ()
    Softplus softplus () Relu relu () Gelu gelu () GeluTanh gelu_tanh ()
    Silu silu () Erf erf ()
    Floor floor () Ceil ceil () Round round () Reciprocal reciprocal () Not logical_not ()
    IsFinite is_finite () Add add (1) Sub sub (1) Mul mul (1) Div div (1) Pow pow (1) Powi powi (1)
    Atan2 atan2 (1) Hypot hypot (1) Maximum maximum (1) Minimum minimum (1)
    LeakyRelu leaky_relu (1) Elu elu (1)
    GeluTanhSlope gelu_tanh_slope (1) Equal equal (1) NotEqual not_equal (1)
    Greater greater (1) GreaterEqual greater_equal (1) Less less (1) LessEqual less_equal (1)
    And logical_and (1) Or logical_or (1) Xor logical_xor (1) Select select (1, 2)
    Clamp clamp (1, 2)
}

fn scalars() -> Vec<Case> {
    let shapes: [&[&[&[usize]]]; 3] = [
        &[&[&[]], &[&[0, 3]], &[&[1, 3]], &[&[2, 1, 3, 2]], &[&[300, 2]]],
        &[
            &[&[], &[]],
            &[&[3, 4], &[4]],
            &[&[3, 1], &[1, 4]],
            &[&[2, 3, 1, 2], &[3, 2, 1]],
            &[&[0, 3], &[3]],
            &[&[1, 3], &[]],
        ],
        &[
            &[&[], &[], &[]],
            &[&[3, 4], &[], &[3, 1]],
            &[&[2, 3], &[3], &[]],
            &[&[0, 2], &[2], &[]],
            &[&[2, 1, 3], &[2, 1], &[1, 2, 1]],
        ],
    ];
    let mut cases = Vec::new();
    for &op in ScalarOp::ALL {
        for shapes in shapes[op.arity() - 1] {
            // An argument that never varies and has no derivative is not an input.
            let fixed = |i: usize| {
                let flat = Primitive::<f64>::derivative(&op, i) == Derivative::Zero;
                let point = op.domains()[i].iter().find(|(low, high)| low == high);
                point.filter(|_| flat).map(|&(x, _)| x)
            };
            let fixed: Vec<_> = (0..op.arity()).map(fixed).collect();
            let inputs = shapes
                .iter()
                .enumerate()
                .filter(|&(i, _)| fixed[i].is_none())
                .map(|(i, shape)| Input {
                    shape: Shape::new(shape).expect("at most 8 axes"),
                    domain: op.domains()[i],
                })
                .collect();
            fn with<'t, T: Scalar>(
                op: ScalarOp,
                fixed: &[Option<f64>],
                tape: &'t Tape<T>,
                x: &[Expr<'t, T>],
            ) -> Expr<'t, T> {
                let mut x = x.iter().copied();
                let arguments: Vec<_> = fixed
                    .iter()
                    .filter_map(|f| f.map_or_else(|| x.next(), |c| Some(tape.literal(c))))
                    .collect();
                record(op, &arguments)
            }
            let same = fixed.clone();
            let name = op.name().to_string();
            cases.push(Case {
                name: format!("{name} {shapes:?}"),
                inputs,
                wide: wide(move |tape, x| with(op, &fixed, tape, x)),
                narrow: narrow(move |tape, x| with(op, &same, tape, x)),
                open: true,
            });
        }
    }
    // A condition that is sometimes false.
    cases.extend(cases! {
        open "select both" [r([4, 3]), r([4, 3]), r([3])]
            |t, x| x[0].greater(x[0].lit(0.3)).select(x[1], x[2]);
        open "a node used often" [p([3])] |t, x| x[0] * x[0] + (x[0] / (x[0] + x[0])).exp() - x[0];
    });
    cases
}

fn reductions() -> Vec<Case> {
    let mut cases = Vec::new();
    macro_rules! each {
        ($($all:ident $some:ident $keep:ident ($($arg:literal)?);)*) => {$(
            cases.extend(cases! {
                open "of a number" [r([])] |t, x| x[0].$all($($arg)?);
                open "all" [r([3, 4])] |t, x| x[0].$all($($arg)?);
                open "all of one row" [r([1, 4])] |t, x| x[0].$all($($arg)?);
                open "all of rank 4" [r([2, 3, 1, 2])] |t, x| x[0].$all($($arg)?);
                open "rows" [r([4, 3])] |t, x| x[0].$some(&[0] $(, $arg)?);
                open "columns" [r([4, 3])] |t, x| x[0].$some(&[-1] $(, $arg)?);
                open "of no rows" [r([0, 3])] |t, x| x[0].$some(&[1] $(, $arg)?);
                open "outer axes" [r([3, 2, 4])] |t, x| x[0].$some(&[-1, 0] $(, $arg)?);
                open "middle axis" [r([3, 4, 2])] |t, x| x[0].$keep(&[1] $(, $arg)?);
                open "rows that stay" [r([70, 2])] |t, x| x[0].$keep(&[0] $(, $arg)?);
                open "normed" [r([3, 4])] |t, x| x[0] - x[0].$keep(&[1] $(, $arg)?);
            }.into_iter().map(|c| Case { name: format!("{} {}", stringify!($all), c.name), ..c })
            // The spread of one number has a kink everywhere.
            .filter(|c| !(matches!(stringify!($all), "std") && c.name.ends_with("of a number"))));
        )*};
    }
    each! {
        sum sum_axes sum_keep ();
        prod prod_axes prod_keep ();
        max max_axes max_keep ();
        min min_axes min_keep ();
        all all_axes all_keep ();
        any any_axes any_keep ();
        mean mean_axes mean_keep ();
        variance variance_axes variance_keep (0);
        std std_axes std_keep (0);
        norm norm_axes norm_keep ();
        norm_l1 norm_l1_axes norm_l1_keep ();
    }
    cases.extend(cases! {
        open "sum over nothing" [r([3, 2])] |t, x| x[0].sum_axes(&[]);
        open "sum of no elements" [r([0, 3])] |t, x| x[0].sum();
        open "prod of no elements" [r([0, 3])] |t, x| x[0].prod_axes(&[0]);
        open "variance of a sample" [r([5, 3])] |t, x| x[0].variance_axes(&[0], 1);
        open "std of a sample" [r([5, 3])] |t, x| x[0].std_keep(&[0], 1);
        open "prod with a zero" [r([3, 4])]
            |t, x| (x[0] * x[0].greater(x[0].lit(-1.5))).prod_axes(&[1]);
        open "cumsum rows" [r([4, 3])] |t, x| x[0].cumsum(0);
        open "cumsum columns" [r([4, 3])] |t, x| x[0].cumsum(-1);
        open "cumsum of rank 4" [r([2, 3, 2, 2])] |t, x| x[0].cumsum(1);
        open "cumsum of no rows" [r([0, 3])] |t, x| x[0].cumsum(0);
        open "cumsum_with reverse" [r([4, 3])]
            |t, x| x[0].cumsum_with(0, Cumulate { reverse: true, exclusive: false });
        open "cumsum_with exclusive" [r([4, 3])]
            |t, x| x[0].cumsum_with(1, Cumulate { reverse: false, exclusive: true });
        open "cumsum_with both" [r([1, 3])]
            |t, x| x[0].cumsum_with(1, Cumulate { reverse: true, exclusive: true });
        open "argmax rows" [r([4, 3])] |t, x| x[0].argmax(0).to_float();
        open "argmax columns" [r([4, 3])] |t, x| x[0] * x[0].argmax(-1).one_hot(3);
        open "argmin middle" [r([2, 4, 3])] |t, x| x[0].argmin(1).to_float();
        open "argmin of no rows" [r([0, 3])] |t, x| x[0].argmin(1).to_float();
    });
    cases
}

fn softmax() -> Vec<Case> {
    cases! {
        open "softmax columns" [r([4, 3])] |t, x| x[0].softmax(-1);
        open "softmax rows" [r([4, 3])] |t, x| x[0].softmax(0);
        open "softmax middle" [r([2, 3, 4])] |t, x| x[0].softmax(1);
        open "softmax of one row" [r([1, 3])] |t, x| x[0].softmax(1);
        open "softmax of no rows" [r([0, 3])] |t, x| x[0].softmax(1);
        open "log_softmax columns" [r([4, 3])] |t, x| x[0].log_softmax(-1);
        open "log_softmax rows" [r([4, 3])] |t, x| x[0].log_softmax(0);
        open "log_softmax of rank 4" [r([2, 3, 2, 2])] |t, x| x[0].log_softmax(2);
        open "logsumexp columns" [r([4, 3])] |t, x| x[0].logsumexp(-1);
        open "logsumexp rows" [r([4, 3])] |t, x| x[0].logsumexp(0);
        open "logsumexp of rank 1" [r([5])] |t, x| x[0].logsumexp(0);
        open "logsumexp_keep middle" [r([2, 3, 4])] |t, x| x[0].logsumexp_keep(1);
        open "logsumexp_keep rows" [r([4, 3])] |t, x| x[0] - x[0].logsumexp_keep(0);
    }
}

fn products() -> Vec<Case> {
    cases! {
        open "matmul" [r([3, 4]), r([4, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul of one row" [r([1, 4]), r([4, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul of no rows" [r([0, 4]), r([4, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul over nothing" [r([3, 0]), r([0, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul larger" [r([19, 33]), r([33, 9])] |t, x| x[0].matmul(x[1]);
        open "matmul left transposed" [r([4, 3]), r([4, 2])] |t, x| x[0].t().matmul(x[1]);
        open "matmul right transposed" [r([3, 4]), r([2, 4])] |t, x| x[0].matmul(x[1].t());
        open "matmul both transposed" [r([4, 3]), r([2, 4])] |t, x| x[0].t().matmul(x[1].t());
        open "matmul gram" [r([4, 3])] |t, x| x[0].t().matmul(x[0]);
        open "matmul vector right" [r([3, 4]), r([4])] |t, x| x[0].matmul(x[1]);
        open "matmul vector left" [r([4]), r([4, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul vectors" [r([4]), r([4])] |t, x| x[0].matmul(x[1]);
        open "matmul batched" [r([2, 3, 4]), r([2, 4, 5])] |t, x| x[0].matmul(x[1]);
        open "matmul batch broadcast" [r([2, 1, 3, 4]), r([3, 4, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul folded" [r([2, 3, 4]), r([4, 5])] |t, x| x[0].matmul(x[1]);
        open "matmul folded of rank 4" [r([2, 2, 3, 4]), r([4, 2])] |t, x| x[0].matmul(x[1]);
        open "matmul of a shared left" [r([3, 4]), r([2, 4, 5])] |t, x| x[0].matmul(x[1]);
        open "matmul batched transposed" [r([2, 4, 3]), r([2, 4, 5])]
            |t, x| x[0].t().matmul(x[1]);
        open "dot" [r([5]), r([5])] |t, x| x[0].dot(x[1]);
        open "outer" [r([3]), r([4])] |t, x| x[0].outer(x[1]);
        open "a layer" [r([5, 3]), r([3, 4]), r([4])] |t, x| (x[0].matmul(x[1]) + x[2]).tanh();
    }
}

fn images() -> Vec<Case> {
    let wide = Conv::<2>::valid().with_dilation([2, 3]);
    let sides = Conv::padded(Padding::Explicit([(2, 0), (1, 3)]));
    let overlapping = Pool::new([3, 2]).with_stride([2, 1]);
    let padded = overlapping.with_padding(Padding::Explicit([(1, 2), (1, 0)]));
    cases! {
        open "conv2d" [r([3, 5, 4, 2]), r([3, 2, 2, 3])] |t, x| x[0].conv2d(x[1], Conv::valid());
        open "conv2d same" [r([2, 4, 5, 2]), r([3, 2, 2, 2])]
            |t, x| x[0].conv2d(x[1], Conv::same());
        open "conv2d strided" [r([3, 6, 7, 1]), r([3, 2, 1, 2])]
            |t, x| x[0].conv2d(x[1], Conv::valid().with_stride([2, 3]));
        open "conv2d strided same" [r([2, 5, 4, 1]), r([3, 3, 1, 2])]
            |t, x| x[0].conv2d(x[1], Conv::same().with_stride([3, 2]));
        open "conv2d dilated" [r([2, 6, 8, 1]), r([3, 2, 1, 2])]
            |t, x| x[0].conv2d(x[1], wide);
        open "conv2d explicit" [r([2, 3, 3, 2]), r([2, 3, 2, 1])]
            |t, x| x[0].conv2d(x[1], sides);
        open "conv2d in groups" [r([2, 4, 3, 4]), r([2, 2, 2, 6])]
            |t, x| x[0].conv2d(x[1], Conv::same().with_groups(2));
        open "conv2d depthwise" [r([2, 4, 4, 3]), r([3, 3, 1, 3])]
            |t, x| x[0].conv2d(x[1], Conv::same().with_groups(3).with_stride([2, 1]));
        open "conv2d all at once" [r([3, 7, 6, 2]), r([2, 3, 1, 4])]
            |t, x| x[0].conv2d(
                x[1], sides.with_stride([3, 2]).with_dilation([2, 2]).with_groups(2));
        open "conv2d of one sample" [r([1, 5, 4, 1]), r([2, 2, 1, 1])]
            |t, x| x[0].conv2d(x[1], Conv::valid());
        open "conv2d of no samples" [r([0, 4, 4, 2]), r([2, 2, 2, 3])]
            |t, x| x[0].conv2d(x[1], Conv::same());
        open "conv2d of many samples" [r([37, 3, 3, 2]), r([2, 2, 2, 9])]
            |t, x| x[0].conv2d(x[1], Conv::valid());
        open "conv1d" [r([3, 7, 2]), r([3, 2, 2])]
            |t, x| x[0].conv1d(x[1], Conv::valid().with_stride([2]));
        open "conv1d causal" [r([2, 6, 1]), r([3, 1, 2])]
            |t, x| x[0].conv1d(
                x[1], Conv::padded(Padding::Explicit([(4, 0)])).with_dilation([2]));
        open "conv_transpose2d" [r([2, 3, 2, 3]), r([3, 2, 2, 3])]
            |t, x| x[0].conv_transpose2d(x[1], Conv::valid(), [0, 0]);
        open "conv_transpose2d strided" [r([2, 3, 2, 2]), r([3, 3, 1, 2])]
            |t, x| x[0].conv_transpose2d(
                x[1],
                Conv::padded(Padding::Explicit([(1, 1), (0, 1)])).with_stride([3, 2]),
                [2, 1],
            );
        open "conv_transpose2d same" [r([2, 2, 3, 2]), r([3, 2, 1, 4])]
            |t, x| x[0].conv_transpose2d(
                x[1].slice_axis(3, ..2), Conv::same().with_stride([2, 3]), [0, 0]);
        open "conv_transpose1d" [r([2, 4, 2]), r([3, 1, 2])]
            |t, x| x[0].conv_transpose1d(x[1], Conv::valid().with_stride([2]), 1);
        open "max_pool2d" [r([3, 4, 6, 2])] |t, x| x[0].max_pool2d(Pool::new([2, 3]));
        open "max_pool2d overlapping" [r([2, 5, 4, 2])] |t, x| x[0].max_pool2d(overlapping);
        open "max_pool2d padded" [r([2, 5, 4, 1])] |t, x| x[0].square().max_pool2d(padded);
        open "max_pool2d same" [r([2, 5, 4, 1])]
            |t, x| x[0].max_pool2d(Pool::new([2, 2]).with_padding(Padding::Same)).exp();
        open "max_pool2d of no samples" [r([0, 4, 4, 2])] |t, x| x[0].max_pool2d(Pool::new([2, 2]));
        open "max_pool2d of many samples" [r([70, 2, 4, 1])]
            |t, x| x[0].max_pool2d(Pool::new([2, 2]));
        open "avg_pool2d" [r([3, 4, 6, 2])] |t, x| x[0].avg_pool2d(Pool::new([2, 3]));
        open "avg_pool2d padded" [r([2, 5, 4, 1])] |t, x| x[0].avg_pool2d(padded).exp();
        open "avg_pool2d without border" [r([2, 5, 4, 2])]
            |t, x| x[0].avg_pool2d(padded.without_border());
        open "avg_pool2d of no samples" [r([0, 4, 4, 2])] |t, x| x[0].avg_pool2d(Pool::new([2, 2]));
        open "global_avg_pool2d" [r([3, 2, 4, 2])] |t, x| x[0].global_avg_pool2d().exp();
        open "global_max_pool2d" [r([3, 2, 4, 2])] |t, x| x[0].global_max_pool2d().exp();
    }
}

fn shapes() -> Vec<Case> {
    cases! {
        open "reshape" [r([3, 4])] |t, x| x[0].reshape([2, 6]);
        open "reshape rows stay" [r([3, 4])] |t, x| x[0].reshape([ANY, 2, 2]);
        open "reshape to any" [r([6, 2])] |t, x| x[0].square().reshape([2, ANY]);
        open "reshape a number" [r([])] |t, x| x[0].reshape([1, 1]);
        open "reshape_like" [r([3, 4]), r([2, 6])] |t, x| x[0].square().reshape_like(x[1]);
        open "flatten" [r([2, 3, 2])] |t, x| x[0].sin().flatten();
        open "flatten rank 1" [r([3])] |t, x| x[0].sin().flatten();
        open "expand_dims" [r([3, 4])] |t, x| x[0].square().expand_dims(&[0, -1]);
        open "squeeze" [r([3, 1, 4, 1])] |t, x| x[0].square().squeeze(&[1, -1]);
        open "permute" [r([2, 3, 1, 4])] |t, x| x[0].square().permute(&[2, 0, -1, 1]);
        open "permute rows stay" [r([3, 2, 4])] |t, x| x[0].permute(&[0, 2, 1]);
        open "t" [r([3, 4])] |t, x| x[0].square().t();
        open "swap_axes" [r([2, 3, 4])] |t, x| x[0].square().swap_axes(0, -1);
        open "broadcast_to" [r([3, 1])] |t, x| x[0].square().broadcast_to([2, ANY, 4]);
        open "broadcast_to rows stay" [r([3, 1])] |t, x| x[0].broadcast_to([ANY, 4]);
        open "broadcast_to from a number" [r([])] |t, x| x[0].sin().broadcast_to([2, 3]);
        open "broadcast_like" [r([1, 4]), r([3, 4])] |t, x| x[0].sin().broadcast_like(x[1]);
        open "broadcast_like of more axes" [r([4]), r([3, 4])]
            |t, x| x[0].sin().broadcast_like(x[1]);
        open "sum_to_like" [r([3, 4]), r([4])] |t, x| x[0].sin().sum_to_like(x[1]);
        open "sum_to_like rows stay" [r([3, 4]), r([3, 1])] |t, x| x[0].sin().sum_to_like(x[1]);
        open "slice" [r([5, 6])] |t, x| x[0].slice((1..4, Span::from(..-1).by(2)));
        open "slice rows stay" [r([4, 5])] |t, x| x[0].square().slice((.., ..-1));
        open "slice backwards" [r([4, 5])] |t, x| x[0].square().slice([Span::ALL.by(-2)]);
        open "slice to nothing" [r([4, 5])] |t, x| x[0].slice((.., 5..));
        open "slice_axis" [r([2, 5, 3])] |t, x| x[0].square().slice_axis(-2, 1..4);
        open "index_axis" [r([4, 5])] |t, x| x[0].square().index_axis(1, -1);
        open "index_axis rows" [r([4, 5])] |t, x| x[0].square().index_axis(0, 2);
        open "flip" [r([4, 3])] |t, x| x[0].square().flip(&[0, -1]);
        open "split" [r([3, 6])] |t, x| {
            let parts = x[0].split(1, &[1, ANY, 2]);
            parts[0] * parts[1] - parts[2].sum_keep(&[1])
        };
        fixed "split rows" [r([5, 2])] |t, x| {
            let parts = x[0].split(0, &[2, 3]);
            parts[0].matmul(parts[1].t())
        };
        open "concat columns" [r([3, 2]), r([3, 4])] |t, x| t.concat(&[x[0], x[1], x[0]], 1).sin();
        open "concat rows" [r([3, 2]), r([2, 2])] |t, x| t.concat(&[x[0], x[1]], 0).sin();
        open "concat of no rows" [r([0, 2]), r([3, 2])] |t, x| t.concat(&[x[0], x[1]], 0).sin();
        open "stack" [r([3, 2]), r([3, 2])] |t, x| t.stack(&[x[0], x[1]], -1).sin();
        open "stack first" [r([2]), r([2])] |t, x| t.stack(&[x[0], x[1]], 0).sin();
        open "pad" [r([3, 2])] |t, x| x[0].square().pad(&[(1, 0), (0, 2)], 1.5);
        open "pad rows stay" [r([3, 2])] |t, x| x[0].square().pad(&[(0, 0), (1, 1)], 0.0);
        open "tile" [r([2, 3])] |t, x| x[0].square().tile(&[2, 3]);
        open "tile rows stay" [r([2, 3])] |t, x| x[0].square().tile(&[1, 2]);
        open "tril" [r([3, 4])] |t, x| x[0].square().tril(0);
        open "tril batched" [r([2, 3, 3])] |t, x| x[0].square().tril(-1);
        open "triu" [r([4, 3])] |t, x| x[0].square().triu(1);
        open "triu batched" [r([2, 1, 2, 3])] |t, x| x[0].square().triu(-1);
        open "custom_gradient" [r([3])]
            |t, x| t.custom_gradient(&[x[0]], x[0].sin(), |x, _, ct| vec![ct * x[0].cos()]);
        open "checkpoint" [r([3, 2]), r([2, 2]), r([2])] |t, x| {
            let h = x[0].matmul(x[1]).tanh();
            h * t.checkpoint(&[h, x[0]], |h| (h[0].matmul(x[1]) * h[1] + x[2]).exp()).sin()
        };
        open "checkpoint nested" [r([3]), r([])] |t, x| {
            t.checkpoint(&[x[0], x[0]], |a| {
                let inner = t.checkpoint(&[a[0].sin()], |b| (b[0] * x[1] + a[1]).exp());
                inner.square() + a[0]
            })
        };
        open "cond" [r([3, 2]), r([2, 2]), p([])] |t, x| {
            let (x, w, p) = (x[0], x[1], x[2]);
            let y = t.cond(p, || x.matmul(w).exp(), || x - w.sum());
            y * t.cond(p.less(p.lit(0.0)), || w, || w.sin()).mean()
        };
        open "cond nested" [r([3]), p([]), p([])] |t, x| {
            let (x, p, q) = (x[0], x[1].greater(9.0), x[2].greater(0.1));
            let y = t.cond(p, || x.exp(), || {
                let h = x.tanh();
                h * t.cond(q, || h * x, || x.log())
            });
            t.cond(q, || y.square(), || x)
        };
        open "cond in checkpoint" [r([3]), p([])] |t, x| {
            let w = x[1];
            t.checkpoint(&[x[0]], |h| t.cond(w.square(), || (h[0] * w.exp()).sin(), || h[0])) * w
        };
        open "scan" [r([2, 3, 2]), r([2, 2]), r([2, 2])] |t, x| {
            let (last, all) = t.scan(&[x[2]], &[x[0]], |h, now| {
                let h = (now[0] + h[0].matmul(x[1])).tanh();
                (vec![h], vec![h])
            });
            all[0] * last[0].sum()
        };
        open "stop_gradient" [r([3])] |t, x| x[0] * t.literal(2.0).stop_gradient();
    }
}

fn indices() -> Vec<Case> {
    cases! {
        open "take rows" [r([5, 3])] |t, x| x[0].square().take(0, at(t, [4], &[4, 0, 4, 1]));
        open "take columns" [r([3, 4])] |t, x| x[0].square().take(-1, at(t, [2, 2], &[3, 0, 0, 1]));
        open "take with one index" [r([5, 3])] |t, x| x[0].square().take(0, at(t, [], &[2]));
        open "take middle" [r([2, 4, 3])] |t, x| x[0].square().take(1, at(t, [3], &[1, 1, 3]));
        open "take nothing" [r([5, 3])] |t, x| x[0].take(0, at(t, [0], &[]));
        open "gather columns" [r([3, 4])] |t, x| x[0].square().gather(1, at(t, [3, 1], &[3, 0, 2]));
        open "gather rows" [r([3, 2])] |t, x| x[0].square().gather(0, at(t, [2, 2], &[2, 0, 2, 1]));
        open "gather of rank 3" [r([2, 2, 3])]
            |t, x| x[0].gather(-1, at(t, [2, 2, 2], &[0, 0, 2, 1, 1, 2, 0, 2])).exp();
        open "scatter_add" [r([4, 2]), r([3, 2])]
            |t, x| x[0].scatter_add(0, at(t, [3], &[3, 0, 3]), x[1]).square();
        open "scatter_add columns" [r([3, 4]), r([3, 2])]
            |t, x| x[0].scatter_add(1, at(t, [2], &[2, 2]), x[1]).square();
        open "one_hot" [r([3, 4])] |t, x| x[0] * at(t, [3], &[1, 3, 0]).one_hot(4);
        open "to_float" [r([3])] |t, x| x[0] * at(t, [3], &[1, 3, 0]).to_float();
        open "index equal" [r([3])]
            |t, x| x[0] * at(t, [3], &[1, 3, 0]).equal(at(t, [3], &[1, 2, 0]));
        open "index views" [r([5, 3])] |t, x| {
            let i = at(t, [2, 2], &[4, 0, 1, 2]);
            let j = i.expand_dims(&[1]).squeeze(&[1]).permute(&[1, 0]).flip(&[0]).flatten();
            let k = t.concat(&[j.reshape([4]).slice((1..3,)), j.index_axis(1, 0)], 0);
            let k = k.tile(&[2]).pad(&[(1, 0)], 3).take(0, at(t, [3], &[0, 4, 2]));
            let k = k.gather(0, at(t, [2], &[1, 2])).broadcast_to([3, 2]).slice_axis(0, 1..);
            x[0].take(0, k).square()
        };
    }
}

fn losses() -> Vec<Case> {
    cases! {
        open "squared_error" [r([3, 2]), r([3, 2])] |t, x| x[0].squared_error(x[1]);
        open "squared_error of no rows" [r([0, 2]), r([0, 2])] |t, x| x[0].squared_error(x[1]);
        open "absolute_error" [r([3, 2]), r([3, 2])] |t, x| x[0].absolute_error(x[1]);
        open "huber_loss" [r([4, 3]), r([4, 3])] |t, x| x[0].huber_loss(x[1], 0.7);
        open "logistic_loss" [r([4, 3]), u([4, 3])] |t, x| x[0].logistic_loss(x[1]);
        open "logistic_loss of one label" [r([3]), u([])] |t, x| x[0].logistic_loss(x[1]);
        open "hinge_loss" [r([4, 3])] |t, x| {
            let sign = t.literal(1.0) - at(t, [4, 1], &[0, 2, 2, 0]).to_float();
            x[0].hinge_loss(sign.broadcast_like(x[0]))
        };
        open "poisson_loss" [r([3, 2]), p([3, 2])] |t, x| x[0].poisson_loss(x[1]);
        open "poisson_loss_full" [r([5, 2]), p([5, 2])] |t, x| x[0].poisson_loss_full(x[1]);
        open "softmax_cross_entropy" [r([3, 4])]
            |t, x| x[0].softmax_cross_entropy(at(t, [3], &[2, 0, 3]));
        open "softmax_cross_entropy of rank 1" [r([4])]
            |t, x| x[0].softmax_cross_entropy(at(t, [], &[2]));
        open "softmax_cross_entropy of rank 3" [r([2, 2, 3])]
            |t, x| x[0].softmax_cross_entropy(at(t, [2, 2], &[2, 0, 1, 2]));
        open "softmax_cross_entropy of no rows" [r([0, 3])]
            |t, x| x[0].softmax_cross_entropy(at(t, [0], &[]));
        open "softmax_cross_entropy_soft" [r([3, 4]), u([3, 4])]
            |t, x| x[0].softmax_cross_entropy_soft(x[1]);
        open "kl_divergence" [r([3, 4]), u([3, 4])] |t, x| x[0].kl_divergence(x[1]);
        open "multiclass_hinge_loss" [r([3, 4])]
            |t, x| x[0].multiclass_hinge_loss(at(t, [3], &[2, 0, 3]));
    }
}

fn linear_algebra() -> Vec<Case> {
    cases! {
        open "diag" [r([3, 3])] |t, x| x[0].square().diag();
        open "diag wide" [r([2, 4])] |t, x| x[0].square().diag();
        open "diag batched" [r([2, 3, 2])] |t, x| x[0].square().diag();
        open "diag of no rows" [r([0, 3])] |t, x| x[0].square().diag();
        open "diag_matrix" [r([3])] |t, x| x[0].square().diag_matrix();
        open "diag_matrix batched" [r([2, 2, 3])] |t, x| x[0].square().diag_matrix();
        open "trace" [r([3, 3])] |t, x| x[0].square().trace();
        open "trace batched" [r([2, 2, 3])] |t, x| x[0].square().trace();
        open "cholesky" [r([3, 3])] |t, x| spd(x[0], 3).cholesky();
        open "cholesky of one" [p([1, 1])] |t, x| x[0].cholesky();
        open "cholesky of nothing" [r([0, 0])] |t, x| x[0].cholesky();
        open "cholesky of a symmetric part" [r([2, 2])]
            |t, x| (x[0] + eye(t, 2) * t.literal(6.0)).cholesky();
        open "cholesky batched" [r([2, 3, 3])] |t, x| spd(x[0], 3).cholesky();
        open "cholesky of no matrices" [r([0, 2, 2])] |t, x| spd(x[0], 2).cholesky();
        open "cholesky log-determinant" [r([4, 4])]
            |t, x| spd(x[0], 4).cholesky().diag().log().sum();
        open "solve_lower_triangular" [r([3, 3]), r([3, 2])]
            |t, x| regular(x[0], 3).solve_lower_triangular(x[1]);
        open "solve_lower_triangular of a vector" [r([3, 3]), r([3])]
            |t, x| regular(x[0], 3).solve_lower_triangular(x[1]);
        open "solve_lower_triangular transposed" [r([3, 3]), r([3, 2])]
            |t, x| regular(x[0], 3).t().solve_lower_triangular(x[1]);
        open "solve_upper_triangular" [r([3, 3]), r([3, 2])]
            |t, x| regular(x[0], 3).solve_upper_triangular(x[1]);
        open "solve_upper_triangular transposed" [r([3, 3]), r([3])]
            |t, x| regular(x[0], 3).t().solve_upper_triangular(x[1]);
        open "solve_upper_triangular batched" [r([2, 3, 3]), r([2, 3, 2])]
            |t, x| regular(x[0], 3).solve_upper_triangular(x[1]);
        open "solve_lower_triangular broadcast" [r([2, 2]), r([3, 2, 1])]
            |t, x| regular(x[0], 2).solve_lower_triangular(x[1]);
        open "solve" [r([3, 3]), r([3, 2])] |t, x| regular(x[0], 3).solve(x[1]);
        open "solve of a vector" [r([3, 3]), r([3])] |t, x| regular(x[0], 3).solve(x[1]);
        open "solve with exchanges" [r([3, 3]), r([3])]
            |t, x| regular(x[0], 3).flip(&[0]).solve(x[1]);
        open "solve of nothing" [r([0, 0]), r([0, 2])] |t, x| x[0].solve(x[1]);
        open "solve batched" [r([2, 3, 3]), r([2, 3, 2])]
            |t, x| regular(x[0], 3).solve(x[1]);
        open "solve broadcast" [r([2, 1, 2, 2]), r([3, 2, 2])]
            |t, x| regular(x[0], 2).solve(x[1]);
        open "solve of a shared matrix" [r([2, 2]), r([3, 2, 1])]
            |t, x| regular(x[0], 2).solve(x[1]);
        open "solve_spd" [r([3, 3]), r([3, 2])] |t, x| spd(x[0], 3).solve_spd(x[1]);
        open "solve_spd of a symmetric part" [r([2, 2]), r([2])]
            |t, x| regular(x[0], 2).solve_spd(x[1]);
        open "solve_spd batched" [r([2, 3, 3]), r([3, 2])] |t, x| spd(x[0], 3).solve_spd(x[1]);
        open "inverse" [r([3, 3])] |t, x| regular(x[0], 3).inverse();
        open "inverse batched" [r([2, 2, 2])] |t, x| regular(x[0], 2).inverse();
        open "det" [r([3, 3])] |t, x| x[0].det();
        open "det with exchanges" [r([4, 4])] |t, x| regular(x[0], 4).flip(&[0]).det();
        open "det of nothing" [r([0, 0])] |t, x| x[0].det();
        open "det batched" [r([3, 2, 2])] |t, x| x[0].det();
        open "log_det" [r([3, 3])] |t, x| x[0].log_det();
        open "log_det batched" [r([2, 3, 3])] |t, x| regular(x[0], 3).log_det();
        open "slogdet" [r([3, 3])] |t, x| {
            let (sign, log_abs) = x[0].slogdet();
            sign * log_abs.exp()
        };
        open "matrix_power" [u([3, 3])] |t, x| x[0].matrix_power(5);
        open "matrix_power of nothing" [u([2, 2])] |t, x| x[0].matrix_power(0) * x[0];
        open "matrix_power negative" [r([2, 2])] |t, x| regular(x[0], 2).matrix_power(-3);
        open "matrix_power batched" [u([2, 2, 2])] |t, x| x[0].matrix_power(3);
        open "kron" [r([2, 3]), r([3, 2])] |t, x| x[0].kron(x[1]);
        open "kron batched" [r([2, 2, 1]), r([2, 1, 2])] |t, x| x[0].kron(x[1]);
        open "qr" [r([4, 3])] |t, x| {
            let (q, r) = x[0].qr();
            t.concat(&[q, r], 0)
        };
        open "qr square" [r([3, 3])] |t, x| {
            let (q, r) = x[0].qr();
            q.exp() * r
        };
        open "qr of one row" [p([1, 1])] |t, x| x[0].qr().1;
        open "qr of no columns" [r([3, 0])] |t, x| x[0].qr().1;
        open "qr batched" [r([2, 3, 2])] |t, x| {
            let (q, r) = x[0].qr();
            t.concat(&[q, r], -2)
        };
        fixed "qr wide" [r([4, 2])] |t, x| {
            let (q, r) = x[0].t().qr();
            t.concat(&[q, r], -1)
        };
        open "qr wide batched" [r([2, 3, 4])] |t, x| {
            let (q, r) = x[0].qr();
            q.exp().matmul(r)
        };
        fixed "qr of a row" [p([3, 1])] |t, x| x[0].t().qr().1;
        fixed "qr of no rows" [r([3, 0])] |t, x| x[0].t().qr().1;
        open "lstsq" [r([4, 2]), r([4, 3])] |t, x| x[0].lstsq(x[1]);
        open "lstsq of a vector" [r([4, 2]), r([4])] |t, x| x[0].lstsq(x[1]);
        open "lstsq batched" [r([2, 3, 2]), r([3, 1])] |t, x| x[0].lstsq(x[1]);
        open "eigh" [r([3, 3])] |t, x| {
            let (w, v) = apart(x[0], 3).eigh();
            t.concat(&[v.square(), w.expand_dims(&[-1])], -1)
        };
        open "eigh of one" [r([1, 1])] |t, x| x[0].eigh().0;
        open "eigh of nothing" [r([0, 0])] |t, x| x[0].eigh().1;
        open "eigh exponential" [r([3, 3])] |t, x| {
            let (w, v) = apart(x[0], 3).eigh();
            (v * (w * w.lit(0.2)).exp()).matmul(v.t())
        };
        open "eigh batched" [r([2, 3, 3])] |t, x| {
            let (w, v) = apart(x[0], 3).eigh();
            (v * w.square().expand_dims(&[-2])).matmul(v.t())
        };
        open "svd" [r([3, 3])] |t, x| {
            let (u, s, vt) = apart(x[0], 3).svd();
            t.concat(&[u.square(), s.expand_dims(&[0]), vt.t().square()], 0)
        };
        fixed "svd tall" [r([4, 2])] |t, x| {
            let (u, s, vt) = x[0].svd();
            t.concat(&[u.square(), s.expand_dims(&[0]), vt.t().square()], 0)
        };
        fixed "svd wide" [r([2, 4])] |t, x| {
            let (u, s, vt) = x[0].svd();
            (u * s.exp()).matmul(vt)
        };
        open "svd batched" [r([2, 3, 2])] |t, x| {
            let (u, s, vt) = x[0].svd();
            (u * s.exp().expand_dims(&[-2])).matmul(vt)
        };
        fixed "svd values" [r([3, 2])] |t, x| x[0].svd().1;
        fixed "norm2" [r([3, 2])] |t, x| x[0].norm2();
        open "norm2 batched" [r([2, 2, 3])] |t, x| x[0].norm2();
        fixed "pinv tall" [r([4, 2])] |t, x| x[0].pinv();
        fixed "pinv wide" [r([2, 3])] |t, x| x[0].pinv();
        fixed "pinv of lower rank" [r([3, 1]), r([1, 4])] |t, x| x[0].matmul(x[1]).pinv();
        open "pinv batched" [r([2, 2, 3])] |t, x| x[0].pinv();
    }
}

/// Outputs and last states side by side, so that cotangents of both come together.
fn with_last<'t, T: Scalar>(
    x: Expr<'t, T>,
    cell: Cell,
    wh: Expr<'t, T>,
    steps: &Steps<'t, T>,
) -> Expr<'t, T> {
    let (y, last) = x.recurrent_states(cell, wh, steps);
    let last: Vec<_> = last.into_iter().map(|h| h.expand_dims(&[1])).collect();
    x.tape().concat(&[vec![y], last].concat(), 1)
}

fn sequences() -> Vec<Case> {
    cases! {
        open "lstm" [r([3, 4, 8]), r([2, 8])]
            |t, x| x[0].recurrent(Cell::Lstm, x[1], &Steps::new());
        open "lstm reversed" [r([2, 3, 8]), r([2, 8])]
            |t, x| x[0].recurrent(Cell::Lstm, x[1], &Steps::new().reversed());
        open "lstm from states" [r([2, 3, 8]), r([2, 8]), r([2, 2]), r([2, 2])]
            |t, x| with_last(x[0], Cell::Lstm, x[1], &Steps::new().with_initial(&x[2..]));
        fixed "lstm of lengths" [r([3, 3, 8]), r([2, 8]), r([3, 2]), r([3, 2])] |t, x| {
            let steps = Steps::new().with_lengths(at(t, [3], &[3, 1, 2]));
            with_last(x[0], Cell::Lstm, x[1], &steps.with_initial(&x[2..]))
        };
        fixed "lstm of lengths reversed" [r([3, 3, 8]), r([2, 8]), r([3, 2]), r([3, 2])] |t, x| {
            let steps = Steps::new().reversed().with_lengths(at(t, [3], &[3, 1, 2]));
            with_last(x[0], Cell::Lstm, x[1], &steps.with_initial(&x[2..]))
        };
        fixed "lstm of lengths with an empty one" [r([3, 2, 4]), r([1, 4]), r([3, 1]), r([3, 1])]
            |t, x| {
                let steps = Steps::new().with_lengths(at(t, [3], &[1, 0, 0]));
                with_last(x[0], Cell::Lstm, x[1], &steps.with_initial(&x[2..]))
            };
        open "lstm last from zeros" [r([2, 2, 4]), r([1, 4])]
            |t, x| x[0].recurrent_states(Cell::Lstm, x[1], &Steps::new().reversed()).1[1];
        open "lstm of no samples" [r([0, 3, 4]), r([1, 4])]
            |t, x| x[0].recurrent(Cell::Lstm, x[1], &Steps::new());
        open "lstm of one sample" [r([1, 3, 12]), r([3, 12])]
            |t, x| x[0].recurrent(Cell::Lstm, x[1], &Steps::new());
        open "lstm of no steps" [r([2, 0, 4]), r([1, 4]), r([2, 1]), r([2, 1])]
            |t, x| with_last(x[0], Cell::Lstm, x[1], &Steps::new().with_initial(&x[2..]));
        open "lstm of no steps from zeros" [r([2, 0, 4]), r([1, 4])]
            |t, x| with_last(x[0], Cell::Lstm, x[1], &Steps::new());
        fixed "lstm twice" [r([2, 2, 8]), r([2, 8])] |t, x| {
            let y = x[0].recurrent(Cell::Lstm, x[1], &Steps::new());
            y.matmul(x[1]).recurrent(Cell::Lstm, x[1], &Steps::new().reversed())
        };
        open "gru" [r([3, 4, 6]), r([2, 6])]
            |t, x| x[0].recurrent(Cell::Gru, x[1], &Steps::new());
        open "gru with a bias" [r([2, 3, 6]), r([2, 6]), r([2]), r([2, 2])] |t, x| {
            let steps = Steps::new().with_hidden_bias(x[2]).with_initial(&x[3..]);
            with_last(x[0], Cell::Gru, x[1], &steps)
        };
        fixed "gru of lengths" [r([3, 3, 6]), r([2, 6]), r([2])] |t, x| {
            let steps = Steps::new().with_lengths(at(t, [3], &[1, 3, 2]));
            with_last(x[0], Cell::Gru, x[1], &steps.with_hidden_bias(x[2]))
        };
        fixed "gru of lengths reversed" [r([3, 3, 6]), r([2, 6]), r([3, 2])] |t, x| {
            let steps = Steps::new().with_lengths(at(t, [3], &[1, 3, 2])).reversed();
            with_last(x[0], Cell::Gru, x[1], &steps.with_initial(&x[2..]))
        };
        fixed "gru of no lengths reversed" [r([2, 2, 3]), r([1, 3]), r([2, 1])] |t, x| {
            let steps = Steps::new().with_lengths(at(t, [2], &[0, 1])).reversed();
            with_last(x[0], Cell::Gru, x[1], &steps.with_initial(&x[2..]))
        };
        open "rnn tanh" [r([3, 4, 3]), r([3, 3])]
            |t, x| x[0].recurrent(Cell::Tanh, x[1], &Steps::new());
        open "rnn relu" [r([3, 2, 3]), r([3, 3])]
            |t, x| x[0].recurrent(Cell::Relu, x[1], &Steps::new());
        open "rnn reversed from states" [r([2, 3, 2]), r([2, 2]), r([2, 2])] |t, x| {
            let steps = Steps::new().reversed().with_initial(&x[2..]);
            with_last(x[0], Cell::Tanh, x[1], &steps)
        };
        fixed "rnn of lengths" [r([2, 3, 2]), r([2, 2]), r([2, 2])] |t, x| {
            let steps = Steps::new().with_lengths(at(t, [2], &[3, 1])).with_initial(&x[2..]);
            with_last(x[0], Cell::Tanh, x[1], &steps)
        };
    }
}

fn normalization() -> Vec<Case> {
    cases! {
        open "standardize columns" [r([4, 3])] |t, x| x[0].standardize(&[-1], 1e-5);
        open "standardize rows" [r([5, 3])] |t, x| x[0].standardize(&[0], 1e-5);
        open "standardize middle" [r([3, 4, 2])] |t, x| x[0].standardize(&[1], 1e-3);
        open "standardize neighbors" [r([2, 3, 2, 3])] |t, x| x[0].standardize(&[1, 2], 1e-5);
        open "standardize apart" [r([2, 3, 2, 3])] |t, x| x[0].standardize(&[1, 3], 1e-5);
        open "standardize channels" [r([3, 2, 2, 2])] |t, x| x[0].standardize(&[0, 1, 2], 1e-5);
        open "standardize of one row" [r([1, 5])] |t, x| x[0].standardize(&[1], 1e-5);
        open "standardize of one number" [r([3, 1])] |t, x| x[0].standardize(&[1], 1e-5);
        open "standardize of no rows" [r([0, 3])] |t, x| x[0].standardize(&[1], 1e-5);
        open "rms_normalize columns" [r([4, 3])] |t, x| x[0].rms_normalize(&[-1], 1e-5);
        open "rms_normalize rows" [r([4, 3])] |t, x| x[0].rms_normalize(&[0], 1e-5);
        open "rms_normalize neighbors" [r([2, 3, 2])] |t, x| x[0].rms_normalize(&[1, 2], 1e-5);
        open "group_standardize" [r([3, 6])] |t, x| x[0].group_standardize(2, 1e-5);
        open "group_standardize of an image" [r([2, 2, 3, 4])]
            |t, x| x[0].group_standardize(2, 1e-5);
        open "group_standardize one by one" [r([2, 3, 2])] |t, x| x[0].group_standardize(2, 1e-5);
        open "dropout" [r([9, 15])] |t, x| x[0].dropout(0.3, 11, t.literal(4.0));
        open "dropout of a cube" [r([2, 3, 2])] |t, x| x[0].square().dropout(0.5, 1 << 40, x[0].lit(0.0));
        open "dropout of nothing" [r([3, 2])] |t, x| x[0].exp().dropout(0.0, 1, x[0].lit(0.0));
    }
}

fn attention() -> Vec<Case> {
    let (one, two) = (Attention::new(1), Attention::new(2));
    cases! {
        open "attention" [r([2, 3, 4]), r([2, 5, 4]), r([2, 5, 6])]
            |t, x| x[0].attention(x[1], x[2], None, two);
        open "attention causal" [r([3, 4, 2]), r([3, 4, 2]), r([3, 4, 1])]
            |t, x| x[0].attention(x[1], x[2], None, one.causal());
        open "attention masked" [r([3, 2, 2]), r([3, 4, 2]), r([3, 4, 2])] |t, x| {
            let seen = x[1].index_axis(-1, 0).greater(x[1].lit(-0.5));
            x[0].attention(x[1], x[2], Some(seen), two)
        };
        open "attention of one sample" [r([1, 3, 2]), r([1, 2, 2]), r([1, 2, 2])]
            |t, x| x[0].attention(x[1], x[2], None, one);
        open "attention of no samples" [r([0, 3, 2]), r([0, 2, 2]), r([0, 2, 2])]
            |t, x| x[0].attention(x[1], x[2], None, one);
        open "self_attention" [r([2, 3, 12])] |t, x| x[0].self_attention(None, two);
        open "self_attention of many" [r([17, 2, 3])] |t, x| x[0].self_attention(None, one);
        open "self_attention causal and masked" [r([3, 4, 6])] |t, x| {
            let seen = x[0].index_axis(-1, 2).greater(x[0].lit(-1.0));
            x[0].self_attention(Some(seen), one.causal())
        };
    }
}
