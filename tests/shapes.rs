//! Shape and indexing ops in compiled plans: the same values as the interpreter's, first and
//! second derivatives too, with a batch that is known only when fed.

use gradtape::{ANY, Index, Result, Session, Span, Tape, Tensor};

fn numbers(shape: &[usize]) -> Result<Tensor> {
    let mut n = 0.0;
    Tensor::from_fn(gradtape::Shape::new(shape)?, |_| {
        n += 1.0;
        f64::sin(n)
    })
}

#[test]
fn plans_equal_the_interpreter() -> Result<()> {
    let tape = Tape::new();
    let x = tape.placeholder("x", [ANY, 4, 3]);
    let labels = tape.index_placeholder("labels", [ANY, 2]);
    let table = tape.variable("table", numbers(&[5, 3])?);
    let words = table.take(0, labels); // [?, 2, 3]
    let rows = x.slice((.., Span::from(..-1).by(2), ..)); // [?, 2, 3]
    let both = tape.concat(&[words, rows, (words * rows).flip(&[-1])], 1); // [?, 6, 3]
    let square = both.reshape([ANY, 3, 6]).swap_axes(1, 2).tril(0) + both.triu(-1);
    let twice = tape.concat(&[square, square.tanh()], 0).tile(&[1, 1, 2]); // [2?, 6, 6]
    let picked = twice.flatten().slice((.., 7..)).pad(&[(0, 0), (1, 2)], 0.5);
    let hot = labels.one_hot(5).permute(&[2, 0, 1]).sum();
    let loss = (picked * picked).sum() + hot + x.broadcast_to([2, ANY, 4, 3]).square().sum();
    let first = tape.gradient(loss, &[x, table])?;
    let slope = (first[0] * first[0]).sum() + (first[1] * first[1]).sum();
    let second = tape.gradient(slope, &[x, table])?;
    let fetches = [loss, picked, first[0], first[1], second[0], second[1]];

    let mut session = Session::new(&tape)?;
    for batch in [3, 1, 0] {
        let x_value = numbers(&[batch, 4, 3])?;
        let label_values = Tensor::from_fn([batch, 2], |at| ((at[0] + 3 * at[1]) % 5) as Index)?;
        let feeds = [x.feed(&x_value), labels.feed(&label_values)];
        let planned = session.run(fetches, &feeds)?;
        let interpreted = session.interpret(fetches, &feeds)?;
        for (i, (p, q)) in planned.iter().zip(&interpreted).enumerate() {
            assert_eq!(p.shape(), q.shape(), "fetch {i} of batch {batch}");
            for (p, q) in p.as_slice().iter().zip(q.as_slice()) {
                assert!((p - q).abs() <= 1e-12 * (1.0 + q.abs()), "fetch {i}: {p} and {q}");
            }
        }
        assert_eq!(planned[1].shape(), [2 * batch, 32].into()); // 6·6 − 7 + 3 columns
    }
    Ok(())
}

#[test]
fn an_index_outside_names_the_node() -> Result<()> {
    let tape = Tape::<f64>::new();
    let table = tape.variable("table", numbers(&[5, 3])?);
    let words = tape.index_placeholder("words", [ANY]);
    let taken = table.take(0, words);
    let mut session = Session::new(&tape)?;
    let far = Tensor::vector(vec![0, 5]);
    let error = session.run(taken, &[words.feed(&far)]).unwrap_err();
    assert_eq!(error.kind(), gradtape::ErrorKind::Index);
    assert_eq!(error.message(), "take: expected an index below 5, got 5 at position 1");
    Ok(())
}
