//! Two operations of arithmetic in one loop: what the first makes stays in a vector register. Each
//! is rounded as it is alone.

use super::map::{Loop, each3};
use crate::scalar::{Scalar, of_type};

/// An operation of two in one loop. Not all pairs are there: see [`pair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Neg,
    Square,
}

/// The loop y = (a first b) second c, or y = c second (a first b) if the first is `on_right`. A
/// first of one argument does not look at b, nor a second at c. `None` if there is no such loop.
pub(crate) fn pair<T: Scalar>(
    first: Arithmetic,
    second: Arithmetic,
    on_right: bool,
) -> Option<Loop<T>> {
    type Pair<T> = fn(Arithmetic, Arithmetic, bool) -> Option<Loop<T>>;
    of_type::<Pair<T>>(&(pair_of::<f32> as Pair<f32>), &(pair_of::<f64> as Pair<f64>))(
        first, second, on_right,
    )
}

macro_rules! pairs {
    ($first:ident, $second:ident, $on_right:ident;
     $($f:ident |$a:ident, $b:ident| $inner:expr;)*) => {
        match ($first, $second, $on_right) {
            $((Arithmetic::$f, Arithmetic::Add, _) => looped!(|$a, $b, c| $inner + c),
            (Arithmetic::$f, Arithmetic::Sub, false) => looped!(|$a, $b, c| $inner - c),
            (Arithmetic::$f, Arithmetic::Sub, true) => looped!(|$a, $b, c| c - $inner),
            (Arithmetic::$f, Arithmetic::Mul, _) => looped!(|$a, $b, c| $inner * c),
            (Arithmetic::$f, Arithmetic::Neg, _) => looped!(|$a, $b, _c| -$inner),)*
            (_, Arithmetic::Square, _) => None,
        }
    };
}

macro_rules! looped {
    (|$a:ident, $b:ident, $c:ident| $value:expr) => {
        Some(Loop::Three(|a, b, c, y| each3(|$a: T, $b: T, $c: T| $value, a, b, c, y)))
    };
}

fn pair_of<T: Scalar>(first: Arithmetic, second: Arithmetic, on_right: bool) -> Option<Loop<T>> {
    pairs! { first, second, on_right;
        Add |a, b| (a + b);
        Sub |a, b| (a - b);
        Mul |a, b| (a * b);
        Neg |a, _b| (-a);
        Square |a, _b| (a * a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arithmetic::*;

    #[test]
    fn a_pair_has_the_bits_of_its_two() {
        let value = |op, a: f32, b: f32| match op {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Neg => -a,
            Square => a * a,
        };
        let x: Vec<f32> = (0..70).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let (a, b, c) = (&x[..67], &x[1..68], &x[2..69]);
        for first in [Add, Sub, Mul, Neg, Square] {
            for second in [Add, Sub, Mul, Neg] {
                for on_right in [false, true] {
                    let Some(Loop::Three(run)) = pair::<f32>(first, second, on_right) else {
                        panic!("{first:?} {second:?}")
                    };
                    let mut y = [0.0; 67];
                    run(a, b, c, &mut y);
                    for i in 0..67 {
                        let inner = value(first, a[i], b[i]);
                        let want = match on_right {
                            true if second != Neg => value(second, c[i], inner),
                            _ => value(second, inner, c[i]),
                        };
                        assert_eq!(y[i], want, "{first:?} {second:?} {on_right} at {i}");
                    }
                }
            }
        }
        assert!(pair::<f64>(Add, Square, false).is_none());
    }
}
