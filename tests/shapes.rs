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

#[test]
fn parts_in_one_piece_are_read_where_they_lie() -> Result<()> {
    let tape = Tape::new();
    let x = tape.placeholder("x", [ANY, 4]);
    let table = tape.variable("table", numbers(&[4, 6])?);
    let y = x.matmul(table); // a product, fetched
    let z = y.tanh(); // a loop
    let (left, right) = (z.slice((.., ..3)), z.slice((.., 3..)));
    let first = table.slice((.., 0..2)); // of a variable
    let column = y.slice((.., 5..)).reshape([ANY]); // seen as another shape
    let products = left.matmul(right.t()).matmul(x.matmul(first)); // [?, 2]
    let sums = column.sum() + left.sum_axes(&[0]).square().sum() + right.max_axes(&[1]).sum();
    let same = (left * 2.0 + right).exp().sum() + (products + column.reshape([ANY, 1])).sum();
    let value = sums + same + left.argmax(1).one_hot(3).sum();
    let gradient = tape.gradient(value, &[table])?[0];
    let fetches = [value, gradient, y, z.slice((.., 1..2)), x.slice((.., 1..)).t().matmul(x)];

    let mut session = Session::new(&tape)?;
    for batch in [3, 1, 600, 0] {
        if batch == 0 && session.run(value, &[x.feed(&numbers(&[0, 4])?)]).is_err() {
            continue; // argmax and max of nothing
        }
        let x_value = numbers(&[batch, 4])?;
        let feeds = [x.feed(&x_value)];
        let planned = session.run(fetches, &feeds)?;
        let interpreted = session.interpret(fetches, &feeds)?;
        for (i, (p, q)) in planned.iter().zip(&interpreted).enumerate() {
            assert_eq!(p.shape(), q.shape(), "fetch {i} of batch {batch}");
            for (p, q) in p.as_slice().iter().zip(q.as_slice()) {
                assert!((p - q).abs() <= 1e-12 * (1.0 + q.abs()), "fetch {i}: {p} and {q}");
            }
        }
        // What is fetched is copied, and what a product reads of a feed.
        let report = session.report(fetches, &feeds)?.to_string();
        let copies = report.lines().filter(|line| line.contains(" slice: ")).count();
        assert_eq!(copies, if batch == 0 { 5 } else { 2 }, "{report}"); // nothing is in no piece
    }
    Ok(())
}
