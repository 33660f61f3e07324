//! Rows A1 and A2: tensors of every rank over nalgebra's memory, typed ops.

use gradtape::io::Csv;
use gradtape::{DType, ErrorKind, Index, MAX_RANK, Session, Tape, Tensor};
use nalgebra::{DMatrix, DVector};

#[test]
fn a1_a_scalar_has_rank_0_and_a_3_vector_rank_1() {
    let scalar = Tensor::scalar(2.5);
    assert_eq!(
        (scalar.rank(), scalar.shape().extents(), scalar.item().unwrap()),
        (0, &[][..], 2.5)
    );
    let vector = Tensor::vector(vec![1.0, 2.0, 3.0]);
    assert_eq!((vector.rank(), vector.shape().dim(0), vector.shape().dim(1)), (1, Some(3), None));
}

#[test]
fn a1_matrices_and_vectors_go_in_and_out_without_a_copy() {
    let m = DMatrix::<f64>::from_fn(40, 30, |i, j| (i * 100 + j) as f64);
    let (at, copy) = (m.as_ptr(), m.clone());
    let t = Tensor::from(m);
    assert_eq!((t.as_slice().as_ptr(), t.get(&[7, 3])), (at, Some(703.0)));
    let back = t.into_matrix().unwrap();
    assert_eq!((back.as_ptr(), &back), (at, &copy));

    let v = DVector::<f32>::from_fn(1000, |i, _| i as f32);
    let (at, copy) = (v.as_ptr(), v.clone());
    let back = Tensor::from(v).into_dvector().unwrap();
    assert_eq!((back.as_ptr(), back), (at, copy));

    let err = Tensor::scalar(1.0).into_matrix().unwrap_err();
    assert_eq!(err.to_string(), "into_matrix: expected rank 2, got []");
}

#[test]
fn a1_any_rank_is_seen_as_a_matrix_with_the_other_axes_folded() {
    let t = Tensor::from_fn([2, 3, 4], |at| (at[0] * 100 + at[1] * 10 + at[2]) as f64).unwrap();
    let m = t.as_matrix();
    assert_eq!((m.nrows(), m.ncols()), (2, 12));
    assert_eq!((m[(1, 2 + 3 * 3)], t.get(&[1, 2, 3])), (123.0, Some(123.0)));
    assert_eq!(Tensor::scalar(7.0).as_matrix()[(0, 0)], 7.0);
}

#[test]
fn a1_the_mean_over_rgb_of_an_image() {
    let image = Tensor::from_fn([4, 5, 3], |at| (at[0] + 10 * at[1] + 100 * at[2]) as f64).unwrap();
    let tape = Tape::new();
    let gray = tape.constant(image).mean_axes(&[2]);
    let gray = Session::new(&tape).unwrap().run(gray, &[]).unwrap();
    assert_eq!(gray, Tensor::from_fn([4, 5], |at| (at[0] + 10 * at[1] + 100) as f64).unwrap());
}

#[test]
fn a1_the_marginal_over_subjects_of_counted_triples() {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/svo_counts/svo_counts_top_30x20x40.csv");
    let table = Csv::new().read(path).unwrap();
    let axes = ["verb", "subject", "object"].map(|c| table.classes(c).unwrap());
    let columns = ["verb", "subject", "object"];
    let at: Vec<Tensor<Index>> =
        columns.iter().zip(&axes).map(|(c, classes)| table.labels(c, classes).unwrap()).collect();
    let count = table.numbers::<f64>(["count"]).unwrap();
    let extents = [axes[0].len(), axes[1].len(), axes[2].len()];
    let mut counts = Tensor::zeros(extents).unwrap();
    let strides = counts.shape().strides();
    let mut expected = std::collections::HashMap::new();
    for row in 0..table.n_rows() {
        let [v, s, o] = [0, 1, 2].map(|c| at[c].as_slice()[row] as usize);
        counts.as_mut_slice()[v * strides[0] + s * strides[1] + o * strides[2]] +=
            count.as_slice()[row];
        *expected.entry((v, o)).or_insert(0.0) += count.as_slice()[row];
    }
    let total: f64 = count.as_slice().iter().sum();

    let tape = Tape::new();
    let marginal = tape.constant(counts).sum_axes(&[1]);
    let all = marginal.sum();
    let (marginal, all) = Session::new(&tape).unwrap().run((marginal, all), &[]).unwrap();
    assert_eq!(marginal.shape().extents(), [extents[0], extents[2]]);
    assert_eq!(all.item().unwrap(), total);
    for v in 0..extents[0] {
        for o in 0..extents[2] {
            let want = expected.get(&(v, o)).copied().unwrap_or(0.0);
            assert_eq!(marginal.get(&[v, o]), Some(want), "verb {v}, object {o}");
        }
    }
}

#[test]
fn a1_lengths_and_ranks_that_do_not_fit_are_errors() {
    let err = Tensor::new([2, 3], vec![0.0; 5]).unwrap_err();
    assert_eq!(err.to_string(), "tensor: [2, 3] has 6 elements, got 5");
    assert_eq!(Tensor::<f64>::zeros([1 << 40, 1 << 40]).unwrap_err().kind(), ErrorKind::Memory);
    assert!(gradtape::Shape::new(&[1; MAX_RANK + 1]).is_err());
    assert!(Tensor::<f64>::zeros([gradtape::ANY]).is_err());
    let nine = Tape::<f64>::new();
    let x = nine.constant(Tensor::zeros([1; MAX_RANK]).unwrap()).expand_dims(&[0]);
    assert_eq!(nine.gradient(x.sum(), &[x]).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn a2_f32_f64_and_index_tensors() {
    fn mean_of_squares<T: gradtape::Scalar>() -> f64 {
        let tape = Tape::<T>::new();
        let x = tape.variable("x", Tensor::from_fn([10], |at| T::lit(at[0] as f64)).unwrap());
        let y = x.square().mean();
        Session::new(&tape).unwrap().run(y, &[]).unwrap().item().unwrap().to_f64()
    }
    assert_eq!((mean_of_squares::<f32>(), mean_of_squares::<f64>()), (28.5, 28.5));

    let tape = Tape::<f32>::new();
    let labels = tape.index_placeholder("labels", [3]);
    let twice = labels.to_float() * 2.0;
    let fed = Tensor::<Index>::vector(vec![3, 0, 9]);
    let mut session = Session::new(&tape).unwrap();
    let (same, twice) = session.run((labels, twice), &[labels.feed(&fed)]).unwrap();
    assert_eq!((same, twice.as_slice()), (fed, &[6.0, 0.0, 18.0][..]));
    let info = labels.as_node_expr().info().unwrap();
    assert_eq!((info.dtype, info.name.as_str()), (DType::Index, "labels"));
}

/// Numbers where indices belong do not compile (see the `compile_fail` test of `IndexExpr`);
/// through handles, which have no type, they are an error naming both nodes.
#[test]
fn a2_a_type_mismatch_names_both_nodes() {
    let tape = Tape::<f64>::new();
    let labels = tape.index_placeholder("labels", [3]);
    let x = tape.placeholder("x", [3]);
    let wrong = x + gradtape::Placeholder::from(labels);
    let err = tape.gradient(wrong.sum(), &[x]).unwrap_err();
    assert!(
        err.to_string().starts_with("add(x, labels): expected floats, got indices as input 1"),
        "{err}"
    );
    assert!(err.to_string().contains("tests/values.rs:"), "{err}");
}
