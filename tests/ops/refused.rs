//! Inputs that must be refused, with the op's name, the shapes, and the line of this file.

use super::cases::record;
use gradtape::tape::op::ScalarOp;
use gradtape::{
    ANY, Attention, Cell, Conv, ErrorKind, Expr, Index, IndexExpr, Padding, Pool, Session, Span,
    Steps, Tape, Tensor,
};
use std::panic::Location;

type E<'t> = Expr<'t, f64>;

fn z<const N: usize>(tape: &Tape<f64>, shape: [usize; N]) -> E<'_> {
    tape.placeholder("z", shape)
}

fn i<'t, const N: usize>(tape: &'t Tape<f64>, shape: [usize; N]) -> IndexExpr<'t> {
    tape.index_placeholder("i", shape)
}

/// What differs from the error that is wanted, if anything does.
#[track_caller]
fn row(want: &str, f: impl for<'t> Fn(&'t Tape<f64>) -> E<'t>) -> Option<String> {
    let here = Location::caller();
    let tape = Tape::new();
    f(&tape);
    let Err(e) = tape.check() else { return Some(format!("accepted: {want}")) };
    let at = e.location().map(|l| (l.file(), l.line()));
    let is_here = at.is_some_and(|(file, line)| {
        file == here.file() && (here.line()..here.line() + 6).contains(&line)
    });
    (e.message() != want || !is_here).then(|| format!("wanted {want}\n   got {e}"))
}

fn none_differ(rows: &[Option<String>]) {
    let wrong: Vec<&str> = rows.iter().flatten().map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn elementwise() {
    for &op in ScalarOp::ALL {
        let name = op.name();
        let tape = Tape::<f64>::new();
        let shapes: [&[usize]; 3] = [&[2, 3], &[4], &[3]];
        let x = shapes.map(|s| tape.placeholder("x", gradtape::Shape::new(s).unwrap()));
        record(op, &x);
        let want = match op.arity() {
            1 => None,
            2 => Some(format!("{name}: [2, 3], [4]: extents do not broadcast")),
            _ => Some(format!("{name}: [2, 3], [4], [3]: extents do not broadcast")),
        };
        assert_eq!(tape.check().err().map(|e| e.message().to_string()), want);

        let tape = Tape::<f64>::new();
        let x = tape.index_placeholder("i", [3]).as_node_expr();
        record(op, &[x, tape.literal(1.0), tape.literal(1.0)]);
        let text = tape.check().unwrap_err().to_string();
        assert!(text.starts_with(&format!("{name}(i")), "{text}");
        assert!(text.contains("expected floats, got indices as input 0"), "{text}");
    }
}

#[test]
fn reductions_and_softmax() {
    macro_rules! each {
        ($($all:ident $some:ident $keep:ident ($($arg:literal)?);)*) => {$(
            let name = stringify!($all);
            none_differ(&[
                row(
                    &format!("{name}: [?, 3]: expected an axis of [?, 3], which has 2, got axis 2"),
                    |t| z(t, [ANY, 3]).$some(&[2] $(, $arg)?),
                ),
                row(
                    &format!("{name}: [4, 3]: axis -2 is named twice"),
                    |t| z(t, [4, 3]).$keep(&[0, -2] $(, $arg)?),
                ),
            ]);
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
    none_differ(&[
        row("max: [0, 3]: expected at least one element along axes [0]", |t| {
            z(t, [0, 3]).max_axes(&[0])
        }),
        row("min: [3, 0]: expected at least one element along axes [0, 1]", |t| z(t, [3, 0]).min()),
        row("cumsum: []: expected an axis of [], which has 0, got axis 0", |t| z(t, []).cumsum(0)),
        row("softmax: [3]: expected an axis of [3], which has 1, got axis 1", |t| {
            z(t, [3]).softmax(1)
        }),
        row("log_softmax: [3]: expected an axis of [3], which has 1, got axis -2", |t| {
            z(t, [3]).log_softmax(-2)
        }),
        row("logsumexp: []: expected an axis of [], which has 0, got axis -1", |t| {
            z(t, []).logsumexp_keep(-1)
        }),
        row("argmax: [?]: expected an axis of [?], which has 1, got axis 1", |t| {
            z(t, [ANY]).argmax(1).to_float()
        }),
        row("argmin: [0, 3]: expected 1 to 2³² elements along axis 0", |t| {
            z(t, [0, 3]).argmin(0).to_float()
        }),
    ]);
}

#[test]
fn products() {
    none_differ(&[
        row("matmul: [2, 4] · [3, 2]: inner extents 4 and 3 differ", |t| {
            z(t, [2, 4]).matmul(z(t, [3, 2]))
        }),
        row("matmul: [?, 4] · [3, 2]: inner extents 4 and 3 differ", |t| {
            z(t, [ANY, 4]).matmul(z(t, [3, 2]))
        }),
        row("matmul: [2, 4]ᵀ · [3, 2]: inner extents 2 and 3 differ", |t| {
            z(t, [2, 4]).t().matmul(z(t, [3, 2]))
        }),
        row("matmul: [] · [3, 2]: expected rank 2 or more", |t| z(t, []).matmul(z(t, [3, 2]))),
        row("matmul: [2, 3, 4] · [5, 4, 2]: batch extents [2] and [5] do not broadcast", |t| {
            z(t, [2, 3, 4]).matmul(z(t, [5, 4, 2]))
        }),
        row("dot: [2, 3]: expected two vectors, got [3] beside it", |t| {
            z(t, [2, 3]).dot(z(t, [3]))
        }),
        row("outer: [3]: expected two vectors, got [] beside it", |t| z(t, [3]).outer(2.0)),
    ]);
}

#[test]
fn images() {
    let conv = Conv::<2>::valid();
    let pool = Pool::new([2, 2]);
    none_differ(&[
        row(
            "conv2d: [5, 5, 1], [2, 2, 1, 3]: expected an image of [batch, rows, columns, \
             channels]",
            |t| z(t, [5, 5, 1]).conv2d(z(t, [2, 2, 1, 3]), conv),
        ),
        row(
            "conv2d: [?, 5, 5, 1], [2, 2, 3]: expected weights of [rows, columns, channels, \
             channels]",
            |t| z(t, [ANY, 5, 5, 1]).conv2d(z(t, [2, 2, 3]), conv),
        ),
        row("conv2d: [?, 5, 5, 2], [2, 2, 3, 4]: expected 3 channels, got 2", |t| {
            z(t, [ANY, 5, 5, 2]).conv2d(z(t, [2, 2, 3, 4]), conv)
        }),
        row("conv2d: [1, 5, 5, 3], [2, 2, 3, 4]: expected 6 channels, got 3", |t| {
            z(t, [1, 5, 5, 3]).conv2d(z(t, [2, 2, 3, 4]), conv.with_groups(2))
        }),
        row(
            "conv2d: [1, 5, 5, 6], [2, 2, 2, 4]: expected output channels in 3 equal groups, got 4",
            |t| z(t, [1, 5, 5, 6]).conv2d(z(t, [2, 2, 2, 4]), conv.with_groups(3)),
        ),
        row(
            "conv2d: [1, 5, 5, 2], [2, 2, 2, 4]: expected output channels in 0 equal groups, got 4",
            |t| z(t, [1, 5, 5, 2]).conv2d(z(t, [2, 2, 2, 4]), conv.with_groups(0)),
        ),
        row("conv2d: [1, 5, 5, 0], [2, 2, 0, 4]: expected weights for at least one channel", |t| {
            z(t, [1, 5, 5, 0]).conv2d(z(t, [2, 2, 0, 4]), conv)
        }),
        row(
            "conv2d: [?, 5, 3, 1], [2, 3, 1, 1]: expected at least 5 columns, got 4 with padding",
            |t| {
                let sides = Padding::Explicit([(0, 0), (0, 1)]);
                let conv = Conv::padded(sides).with_dilation([1, 2]);
                z(t, [ANY, 5, 3, 1]).conv2d(z(t, [2, 3, 1, 1]), conv)
            },
        ),
        row("conv2d: [1, 5, 5, 1], [0, 2, 1, 1]: expected a window of some rows, got 0", |t| {
            z(t, [1, 5, 5, 1]).conv2d(z(t, [0, 2, 1, 1]), conv)
        }),
        row(
            "conv2d: [1, 5, 5, 1], [2, 2, 1, 1]: expected a positive stride and dilation, got 0 \
             and 1",
            |t| z(t, [1, 5, 5, 1]).conv2d(z(t, [2, 2, 1, 1]), conv.with_stride([1, 0])),
        ),
        row(
            "conv2d: [1, 5, 5, 1], [2, 2, 1, 1]: expected fewer rows, got 5 + \
             18446744073709551615 + 0",
            |t| {
                let sides = Padding::Explicit([(usize::MAX, 0), (0, 0)]);
                z(t, [1, 5, 5, 1]).conv2d(z(t, [2, 2, 1, 1]), Conv::padded(sides))
            },
        ),
        row(
            "conv1d: [3, 4]: expected [batch, length, channels] and weights of [length, channels, \
             channels], got [2, 1, 1] beside it",
            |t| z(t, [3, 4]).conv1d(z(t, [2, 1, 1]), Conv::valid()),
        ),
        row(
            "conv_transpose1d: [3, 4, 1]: expected [batch, length, channels] and weights of \
             [length, channels, channels], got [2, 1] beside it",
            |t| z(t, [3, 4, 1]).conv_transpose1d(z(t, [2, 1]), Conv::valid(), 0),
        ),
        row("conv_transpose2d: [1, 2, 2, 3], [2, 2, 3, 4]: expected 4 channels, got 3", |t| {
            z(t, [1, 2, 2, 3]).conv_transpose2d(z(t, [2, 2, 3, 4]), conv, [0, 0])
        }),
        row(
            "conv_transpose2d: [1, 2, 2, 1], [2, 2, 1, 1]: expected fewer extra columns than the \
             stride of 2, got 2",
            |t| {
                let conv = conv.with_stride([2, 2]);
                z(t, [1, 2, 2, 1]).conv_transpose2d(z(t, [2, 2, 1, 1]), conv, [1, 2])
            },
        ),
        row(
            "conv_transpose2d: [1, 1, 2, 1], [2, 2, 1, 1]: expected less padding than 2 rows",
            |t| {
                let conv = Conv::padded(Padding::Explicit([(2, 1), (0, 0)]));
                z(t, [1, 1, 2, 1]).conv_transpose2d(z(t, [2, 2, 1, 1]), conv, [0, 0])
            },
        ),
        row("max_pool2d: [?, 4, 4]: expected an image of [batch, rows, columns, channels]", |t| {
            z(t, [ANY, 4, 4]).max_pool2d(pool)
        }),
        row("max_pool2d: [?, 1, 4, 2]: expected at least 2 rows, got 1 with padding", |t| {
            z(t, [ANY, 1, 4, 2]).max_pool2d(pool)
        }),
        row(
            "avg_pool2d: [?, 4, 4, 2]: expected less padding than the window of [2, 2], got [(0, \
             0), (2, 0)]",
            |t| {
                let sides = Padding::Explicit([(0, 0), (2, 0)]);
                z(t, [ANY, 4, 4, 2]).avg_pool2d(pool.with_padding(sides))
            },
        ),
    ]);
}

#[test]
fn shapes() {
    none_differ(&[
        row("reshape: [3, 4]: expected as many elements as [5, ?] has", |t| {
            z(t, [3, 4]).reshape([5, ANY])
        }),
        row("reshape: [3, 4]: expected at most one unknown extent, got [?, ?]", |t| {
            z(t, [3, 4]).reshape([ANY, ANY])
        }),
        row("reshape_like: [3, 4]: expected as many elements as [5] has", |t| {
            z(t, [3, 4]).reshape_like(z(t, [5]))
        }),
        row("reshape: []: expected rows of as many elements as [?, ?] has", |t| z(t, []).flatten()),
        row("expand_dims: [3]: axis -2 is named twice", |t| z(t, [3]).expand_dims(&[1, -2])),
        row("squeeze: [3, 1]: expected extent 1 on axis 0", |t| z(t, [3, 1]).squeeze(&[0])),
        row("permute: [3, 4]: expected each axis once, got [0]", |t| z(t, [3, 4]).permute(&[0])),
        row("swap_axes: [3]: expected an axis of [3], which has 1, got axis -2", |t| z(t, [3]).t()),
        row("broadcast_to: [3, 2]: does not broadcast to [?, 4]", |t| {
            z(t, [3, 2]).broadcast_to([3, 4])
        }),
        row("broadcast_like: [3] does not broadcast to [2]", |t| {
            z(t, [3]).broadcast_like(z(t, [2]))
        }),
        row("sum_to_like: [2, 3] is not [2] broadcast", |t| z(t, [2, 3]).sum_to_like(z(t, [2]))),
        row("slice: [3]: expected at most 1 ranges, got 2", |t| z(t, [3]).slice((.., ..))),
        row("slice: [3, 4]: expected 2:5 within an axis of extent 4", |t| {
            z(t, [3, 4]).slice((.., 2..5))
        }),
        row("slice: [?]: expected a step other than 0", |t| z(t, [ANY]).slice([Span::ALL.by(0)])),
        row("slice_axis: [3]: expected an axis of [3], which has 1, got axis 1", |t| {
            z(t, [3]).slice_axis(1, ..)
        }),
        row("slice: [3, 4]: expected 4:5 within an axis of extent 4", |t| {
            z(t, [3, 4]).index_axis(1, 4)
        }),
        row("flip: [3]: expected an axis of [3], which has 1, got axis 1", |t| {
            z(t, [3]).flip(&[1])
        }),
        row("split: [3, 4]: expected sizes that add up to 4, got 1 + 2", |t| {
            z(t, [3, 4]).split(1, &[1, 2])[0]
        }),
        row("concat: expected at least one part, got none", |t| t.concat::<E<'_>>(&[], 0)),
        row("concat: [3, 4], [2, 4]: expected equal extents but on axis 1", |t| {
            t.concat(&[z(t, [3, 4]), z(t, [2, 4])], 1)
        }),
        row("stack: [3]: expected an axis of [1, 1], which has 2, got axis 2", |t| {
            t.stack(&[z(t, [3]), z(t, [3])], 2)
        }),
        row("concat: [1, 3], [1, 4]: expected equal extents but on axis 0", |t| {
            t.stack(&[z(t, [3]), z(t, [4])], 0)
        }),
        row("pad: [3]: expected 1 pairs of widths, got 2", |t| {
            z(t, [3]).pad(&[(1, 1), (0, 0)], 0.0)
        }),
        row("tile: [3]: expected 1 repeats, got 0", |t| z(t, [3]).tile(&[])),
        row("tril: [3]: expected at least 2 axes", |t| z(t, [3]).tril(0)),
        row("triu: []: expected at least 2 axes", |t| z(t, []).triu(0)),
    ]);
}

#[test]
fn indices_and_losses() {
    none_differ(&[
        row("take: [3]: expected an axis of [3], which has 1, got axis 1", |t| {
            z(t, [3]).take(1, i(t, [2]))
        }),
        row("gather: [3, 4], [2, 1]: expected equal extents but on axis 1", |t| {
            z(t, [3, 4]).gather(1, i(t, [2, 1]))
        }),
        row("take_add: [5, 2], [4], [3, 2]: expected [4, 2] first", |t| {
            z(t, [3, 2]).scatter_add(0, i(t, [4]), z(t, [5, 2]))
        }),
        row("index_equal: [3], [4]: expected equal shapes", |t| i(t, [3]).equal(i(t, [4]))),
        row("squared_error: [3, 1], [3]: expected targets of shape [3, 1]", |t| {
            z(t, [3, 1]).squared_error(z(t, [3]))
        }),
        row("absolute_error: [4], [3]: expected targets of shape [4]", |t| {
            z(t, [4]).absolute_error(z(t, [3]))
        }),
        row("huber_loss: [3]: expected a positive finite delta, got 0", |t| {
            z(t, [3]).huber_loss(z(t, [3]), 0.0)
        }),
        row("logistic_loss: [4], [3]: expected targets of shape [4]", |t| {
            z(t, [4]).logistic_loss(z(t, [3]))
        }),
        row("hinge_loss: [4], [3]: expected targets of shape [4]", |t| {
            z(t, [4]).hinge_loss(z(t, [3]))
        }),
        row("poisson_loss: [4], [3]: expected targets of shape [4]", |t| {
            z(t, [4]).poisson_loss(z(t, [3]))
        }),
        row("poisson_loss_full: [4], [3]: expected targets of shape [4]", |t| {
            z(t, [4]).poisson_loss_full(z(t, [3]))
        }),
        row("softmax_cross_entropy: [3, 4], [4]: expected labels of shape [3]", |t| {
            z(t, [3, 4]).softmax_cross_entropy(i(t, [4]))
        }),
        row("softmax_cross_entropy_soft: [3, 4], [3]: expected targets of shape [3, 4]", |t| {
            z(t, [3, 4]).softmax_cross_entropy_soft(z(t, [3]))
        }),
        row("kl_divergence: [3, 4], [3]: expected targets of shape [3, 4]", |t| {
            z(t, [3, 4]).kl_divergence(z(t, [3]))
        }),
        row("multiclass_hinge_loss: [3, 4], [4]: expected labels of shape [3]", |t| {
            z(t, [3, 4]).multiclass_hinge_loss(i(t, [4]))
        }),
    ]);
}

#[test]
fn linear_algebra() {
    none_differ(&[
        row("diag: [3]: expected at least 2 axes", |t| z(t, [3]).diag()),
        row("diag_matrix: []: expected at least 1 axis", |t| z(t, []).diag_matrix()),
        row("diag: [3]: expected at least 2 axes", |t| z(t, [3]).trace()),
        row("cholesky: [2, 3]: expected square matrices", |t| z(t, [2, 3]).cholesky()),
        row("cholesky: [2]: expected square matrices", |t| z(t, [2]).cholesky()),
        row("solve_lower_triangular: [?, 3], [2, 4]: expected 3 rows on the right", |t| {
            z(t, [ANY, 3]).solve_lower_triangular(z(t, [2, 4]))
        }),
        row("solve_upper_triangular: [2, 3]: expected square matrices", |t| {
            z(t, [2, 3]).solve_upper_triangular(z(t, [2]))
        }),
        row("solve: [2, 3]: expected square matrices", |t| z(t, [2, 3]).solve(z(t, [2]))),
        row("solve: [3, 3], [2, 1]: expected 3 rows on the right", |t| {
            z(t, [3, 3]).solve(z(t, [2]))
        }),
        row("solve: [2, 3, 3], [4, 3, 1]: batch extents do not broadcast", |t| {
            z(t, [2, 3, 3]).solve(z(t, [4, 3, 1]))
        }),
        row("solve_spd: [3, 3], []: expected 3 rows on the right", |t| {
            z(t, [3, 3]).solve_spd(z(t, []))
        }),
        row("inverse: [2, 3]: expected square matrices", |t| z(t, [2, 3]).inverse()),
        row("det: [3]: expected square matrices", |t| z(t, [3]).det()),
        row("log_det: [2, 3]: expected square matrices", |t| z(t, [2, 3]).log_det()),
        row("slogdet: [2, 3]: expected square matrices", |t| z(t, [2, 3]).slogdet().0),
        row("matrix_power: [2, 3]: expected square matrices", |t| z(t, [2, 3]).matrix_power(0)),
        row("kron: [3]: expected two matrices, got [2, 2] beside it", |t| {
            z(t, [3]).kron(z(t, [2, 2]))
        }),
        row("qr: [3]: expected at least 2 axes", |t| z(t, [3]).qr().1),
        row("qr: [3, ?]: expected a known number of columns", |t| z(t, [3, ANY]).qr().1),
        row("lstsq: [3, 2]: expected a matrix with as many rows on the right, got [4, 1]", |t| {
            z(t, [3, 2]).lstsq(z(t, [4]))
        }),
        row("lstsq: [2, 3]: expected at least as many rows as columns", |t| {
            z(t, [2, 3]).lstsq(z(t, [2]))
        }),
        row("eigh: [2, 3]: expected square matrices", |t| z(t, [2, 3]).eigh().1),
        row("svd: [3]: expected at least 2 axes", |t| z(t, [3]).svd().1),
        row("svd: [?, 3]: expected matrices of known extents", |t| z(t, [ANY, 3]).norm2()),
        row("pinv: [2, ?]: expected matrices of known extents", |t| z(t, [2, ANY]).pinv()),
        row("slice: [0]: expected 0:1 within an axis of extent 0", |t| z(t, [0, 3]).norm2()),
    ]);
}

/// Matrices that have no factor, no solution, no logarithm: an error by both ways of running, with
/// the op, the pivot and the line, never NaN.
#[test]
fn singular_matrices() {
    fn run(want: &str, record: impl for<'t> Fn(E<'t>) -> E<'t>, shape: &[usize], rows: &[f64]) {
        let tape = Tape::<f64>::new();
        let shape = gradtape::Shape::new(shape).unwrap();
        let x = tape.placeholder("x", shape);
        let y = record(x);
        let mut session = Session::new(&tape).unwrap();
        let value = Tensor::from_rows(shape, rows).unwrap();
        let feeds = [x.feed(&value)];
        for e in [session.run(y, &feeds), session.interpret(y, &feeds)].map(Result::unwrap_err) {
            assert_eq!((e.message(), e.kind()), (want, ErrorKind::Singular));
            assert_eq!(e.location().map(Location::file), Some(file!()));
        }
    }
    let singular = [1.0, 2.0, 2.0, 4.0];
    let (is_spd, is_regular) =
        ("expected a positive definite matrix", "expected an invertible matrix");
    let batch = [4.0, 0.0, 0.0, 4.0, 1.0, 0.0, 0.0, -0.5];
    run(&format!("cholesky: {is_spd}, got pivot 1 of 0"), |x| x.cholesky(), &[2, 2], &singular);
    run(&format!("cholesky: {is_spd}, got pivot 0 of NaN"), |x| x.cholesky(), &[1, 1], &[f64::NAN]);
    run(
        &format!("cholesky: {is_spd}, got pivot 1 of -0.5 in matrix 1 of the batch"),
        |x| x.cholesky(),
        &[2, 2, 2],
        &batch,
    );
    run(&format!("cholesky: {is_spd}, got pivot 1 of 0"), |x| x.solve_spd(x), &[2, 2], &singular);
    run(&format!("solve: {is_regular}, got pivot 1 of 0"), |x| x.solve(x), &[2, 2], &singular);
    run(&format!("inverse: {is_regular}, got pivot 1 of 0"), |x| x.inverse(), &[2, 2], &singular);
    run(
        &format!("inverse: {is_regular}, got pivot 0 of NaN"),
        |x| x.matrix_power(-1),
        &[1, 1],
        &[f64::NAN],
    );
    run(
        &format!("solve_lower_triangular: {is_regular}, got pivot 0 of 0"),
        |x| x.solve_lower_triangular(x),
        &[1, 1],
        &[0.0],
    );
    run(
        &format!("solve_upper_triangular: {is_regular}, got pivot 1 of 0 in matrix 1 of the batch"),
        |x| x.t().solve_upper_triangular(x),
        &[2, 2, 2],
        &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
    );
    run(&format!("log_det: {is_regular}, got pivot 1 of 0"), |x| x.log_det(), &[2, 2], &singular);
    run(
        &format!("solve_upper_triangular: {is_regular}, got pivot 1 of 0"),
        |x| x.lstsq(x),
        &[2, 2],
        &[1.0, 0.0, 0.0, 0.0],
    );
    // The determinant is 0; its gradient is not found by this formula.
    run(
        &format!("inverse: {is_regular}, got pivot 1 of 0"),
        |x| x.tape().gradient(x.det(), &[x]).unwrap()[0],
        &[2, 2],
        &singular,
    );
    // Rotations do not start on what is not finite.
    for bad in [f64::NAN, f64::INFINITY] {
        let tape = Tape::<f64>::new();
        let x = tape.placeholder("x", [2, 2, 2]);
        let results = [x.qr().0, x.eigh().0, x.svd().1, x.pinv()];
        let value = Tensor::from_rows([2, 2, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, bad, 1.0]);
        let value = value.unwrap();
        for (y, name) in results.into_iter().zip(["qr", "eigh", "svd", "svd"]) {
            let e = Session::new(&tape).unwrap().run(y, &[x.feed(&value)]).unwrap_err();
            let text = "expected finite numbers, got";
            let want = format!("{name}: {text} {bad} at [1, 0] of matrix 1 of the batch");
            assert_eq!((e.message(), e.kind()), (&want[..], ErrorKind::NotFinite));
        }
    }
    let tape = Tape::<f64>::new();
    let x = tape.constant(Tensor::from_rows([2, 2], &singular).unwrap());
    let (det, (sign, _)) = (x.det(), x.slogdet());
    let values = Session::new(&tape).unwrap().run((det, sign), &[]).unwrap();
    assert_eq!(values, (0.0.into(), 0.0.into()));
}

#[test]
fn sequences() {
    let steps = Steps::new;
    none_differ(&[
        row("lstm: [2, 8], [2, 8]: expected pre-activations of [batch, time, 4 × hidden]", |t| {
            z(t, [2, 8]).recurrent(Cell::Lstm, z(t, [2, 8]), &steps())
        }),
        row("gru: [?, 3, 6], [2, 8]: expected weights of [hidden, 3 × hidden]", |t| {
            z(t, [ANY, 3, 6]).recurrent(Cell::Gru, z(t, [2, 8]), &steps())
        }),
        row("rnn: [?, 3, 6], [2, 2]: expected 1 × 2 pre-activations, got 6", |t| {
            z(t, [ANY, 3, 6]).recurrent(Cell::Tanh, z(t, [2, 2]), &steps())
        }),
        row("lstm: [1, 3, 8]: expected 2 first states, got 1", |t| {
            let steps = steps().with_initial(&[z(t, [1, 2])]);
            z(t, [1, 3, 8]).recurrent_states(Cell::Lstm, z(t, [2, 8]), &steps).0
        }),
        row("rnn: [4, 3, 2], [2, 2], [3, 2]: expected first states of [batch, hidden]", |t| {
            let steps = steps().with_initial(&[z(t, [3, 2])]);
            z(t, [4, 3, 2]).recurrent(Cell::Relu, z(t, [2, 2]), &steps)
        }),
        row("gru: [4, 3, 6], [2, 6], [6]: expected a bias of [hidden]", |t| {
            let steps = steps().with_hidden_bias(z(t, [6]));
            z(t, [4, 3, 6]).recurrent(Cell::Gru, z(t, [2, 6]), &steps)
        }),
        row("lstm: [4, 3, 8]: expected no hidden bias but for a GRU", |t| {
            let steps = steps().with_hidden_bias(z(t, [2]));
            z(t, [4, 3, 8]).recurrent_states(Cell::Lstm, z(t, [2, 8]), &steps).1[0]
        }),
        row("lstm: [4, 3, 8]: expected weights of known extents", |t| {
            z(t, [4, 3, 8]).recurrent(Cell::Lstm, z(t, [ANY, ANY]), &steps())
        }),
        row("gru: [4, 3, 6], [2, 6], [3]: expected lengths of [batch]", |t| {
            let steps = steps().with_lengths(i(t, [3]));
            z(t, [4, 3, 6]).recurrent(Cell::Gru, z(t, [2, 6]), &steps)
        }),
    ]);
}

/// A second derivative unrolls the steps, so it must know how many there are.
#[test]
fn second_derivatives_of_unknown_time() {
    let tape = Tape::<f64>::new();
    let (x, wh) = (z(&tape, [2, ANY, 3]), z(&tape, [3, 3]));
    let loss = x.recurrent(Cell::Tanh, wh, &Steps::new()).square().sum();
    let slope = tape.gradient(loss, &[wh]).unwrap()[0].square().sum();
    let e = tape.gradient(slope, &[x]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Gradient);
    let text = "expected a known number of steps for a second derivative";
    assert!(e.message().contains("rnn_gradient") && e.message().ends_with(text), "{e}");
}

/// What only a run can see: indices and labels that mean nothing, fed shapes that do not fit.
#[test]
fn while_running() {
    fn run(
        want: &str,
        record: impl for<'t> Fn(E<'t>, IndexExpr<'t>) -> E<'t>,
        z: &Tensor,
        i: &[Index],
    ) {
        let tape = Tape::<f64>::new();
        let (x, indices) = (tape.placeholder("z", [ANY, 3]), tape.index_placeholder("i", [ANY]));
        let y = record(x, indices);
        let mut session = Session::new(&tape).unwrap();
        let i = Tensor::vector(i.to_vec());
        let feeds = [x.feed(z), indices.feed(&i)];
        let (planned, slow) = (session.run(y, &feeds), session.interpret(y, &feeds));
        // Both ways of running fail alike.
        assert_eq!(planned.unwrap_err().message(), want);
        let e = slow.unwrap_err();
        assert_eq!(e.message(), want);
        assert_eq!(e.location().map(Location::file), Some(file!()));
    }
    let x = Tensor::full([2, 3], 0.5).unwrap();
    run("take: expected an index below 2, got 2 at position 1", |z, i| z.take(0, i), &x, &[0, 2]);
    run(
        "gather: expected an index below 3, got 9 at position 0",
        |z, i| z.gather(1, i.expand_dims(&[1])),
        &x,
        &[9, 2],
    );
    run(
        "one_hot: expected an index below 2, got 2 at position 1",
        |_, i| i.one_hot(2),
        &x,
        &[0, 2],
    );
    run(
        "softmax_cross_entropy: expected an index below 3, got 3 at position 0",
        |z, i| z.softmax_cross_entropy(i),
        &x,
        &[3, 0],
    );
    run(
        "rnn: expected lengths of at most 3, got 4 at position 1",
        |z, i| {
            let (x, wh) = (z.expand_dims(&[2]), z.tape().literal(0.5).broadcast_to([1, 1]));
            x.recurrent(Cell::Tanh, wh, &Steps::new().with_lengths(i))
        },
        &x,
        &[3, 4],
    );
    run(
        "qr: [2, 3]: expected at least as many rows as columns, or a number of rows that is known \
         while recording",
        |z, _| z.qr().1,
        &x,
        &[],
    );
    // The factorization that these share leaves it to each of them.
    run("solve: [2, 3]: expected square matrices", |z, _| z.solve(z), &x, &[]);
    run("inverse: [2, 3]: expected square matrices", |z, _| z.inverse(), &x, &[]);
    run("det: [2, 3]: expected square matrices", |z, _| z.det(), &x, &[]);
    run("log_det: [2, 3]: expected square matrices", |z, _| z.log_det(), &x, &[]);
    run("hinge_loss: expected -1 or 1, got 0.5 at position 0", |z, _| z.hinge_loss(z), &x, &[0, 0]);
    run(
        "softmax_cross_entropy: [2, 3], [3]: expected labels of shape [2]",
        |z, i| z.softmax_cross_entropy(i),
        &x,
        &[0, 1, 2],
    );
    run(
        "add: [2, 3], [5, 3]: extents do not broadcast",
        |z, i| z + z.take(0, i),
        &x,
        &[0, 1, 0, 1, 0],
    );
}

#[test]
fn normalization_and_attention() {
    let form = Attention::new(2);
    none_differ(&[
        row("standardize: [2, 3]: expected an axis of [2, 3], which has 2, got axis 2", |t| {
            z(t, [2, 3]).standardize(&[2], 0.0)
        }),
        row("standardize: [2, 3]: expected an eps from 0 up, got -1", |t| {
            z(t, [2, 3]).standardize(&[1], -1.0)
        }),
        row("rms_normalize: [2, 3]: expected an eps from 0 up, got NaN", |t| {
            z(t, [2, 3]).rms_normalize(&[1], f64::NAN)
        }),
        row(
            "group_standardize: [2, 3, 4]: expected (batch, …, channels) in 3 equal groups",
            |t| z(t, [2, 3, 4]).group_standardize(3, 1e-5),
        ),
        row("group_standardize: [4]: expected (batch, …, channels) in 2 equal groups", |t| {
            z(t, [4]).group_standardize(2, 1e-5)
        }),
        row("dropout: [3], [3]: expected one number as the step", |t| {
            z(t, [3]).dropout(0.5, 1, z(t, [3]))
        }),
        row("attention: [2, 6]: expected [batch, time, features], got [2, 6]", |t| {
            z(t, [2, 6]).self_attention(None, form)
        }),
        row(
            "attention: [2, 3, 7]: expected queries, keys and values as equal blocks of columns",
            |t| z(t, [2, 3, 7]).self_attention(None, form),
        ),
        row("attention: [2, 3, 9]: expected features in 2 equal heads", |t| {
            z(t, [2, 3, 9]).self_attention(None, form)
        }),
        row("attention: [2, 3, 6]: expected features in 0 equal heads", |t| {
            z(t, [2, 3, 6]).self_attention(None, Attention::new(0))
        }),
        row("attention: [2, 3, 12], [3, 2]: expected a mask of [2, 3], got [3, 2]", |t| {
            z(t, [2, 3, 12]).self_attention(Some(z(t, [3, 2])), form)
        }),
        row(
            "attention: [2, 3, 4], [2, 5, 4], [2, 4, 4]: expected [b, t, f], [b, s, f], [b, s, g] as \
             queries, keys and values",
            |t| z(t, [2, 3, 4]).attention(z(t, [2, 5, 4]), z(t, [2, 4, 4]), None, form),
        ),
        row(
            "attention: [2, 3, 4], [2, 5, 4], [2, 5, 4]: expected as many queries as keys, got 3 \
             and 5",
            |t| z(t, [2, 3, 4]).attention(z(t, [2, 5, 4]), z(t, [2, 5, 4]), None, form.causal()),
        ),
    ]);
}
