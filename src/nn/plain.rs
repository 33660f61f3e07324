//! Layers without variables: dropout, poolings, folding.

use super::{Layer, Training};
use crate::{Expr, Philox, Pool, Scalar};

/// In training each number is 0 with probability p and else divided by 1 − p; in inference all stay
/// as they are. See [`Expr::dropout`].
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability of 0, from 0 to below 1.
    pub p: f64,
    /// Which numbers go, with the number of the step. Each layer of a model has its own.
    pub seed: u64,
}

impl Dropout {
    /// With a seed from this generator.
    pub fn new(p: f64, rng: &mut Philox) -> Self {
        Dropout { p, seed: rng.below(u64::MAX) }
    }
}

impl<T: Scalar> Layer<T> for Dropout {
    fn name(&self) -> &str {
        "dropout"
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, training: Option<&Training<'t, T>>) -> Expr<'t, T> {
        match training {
            Some(training) => x.dropout(self.p, self.seed, training.step()),
            None => x,
        }
    }
}

macro_rules! plain {
    ($($(#[doc = $doc:literal])+ $layer:item
       $name:ident $text:literal |$own:pat, $x:ident| $y:expr;)*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $layer

        impl<T: Scalar> Layer<T> for $name {
            fn name(&self) -> &str {
                $text
            }

            #[track_caller]
            fn forward<'t>(&self, $x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
                let $own = self;
                $y
            }
        }
    )*};
}

plain! {
    /// The largest number of each window; see [`Expr::max_pool2d`].
    pub struct MaxPool(pub Pool);
    MaxPool "max_pool" |MaxPool(pool), x| x.max_pool2d(*pool);

    /// The mean of each window; see [`Expr::avg_pool2d`].
    pub struct AvgPool(pub Pool);
    AvgPool "avg_pool" |AvgPool(pool), x| x.avg_pool2d(*pool);

    /// One number for each channel of an image.
    pub enum GlobalPool {
        /// The largest; see [`Expr::global_max_pool2d`].
        Max,
        /// The mean; see [`Expr::global_avg_pool2d`].
        Mean,
    }
    GlobalPool "global_pool" |own, x| match own {
        GlobalPool::Max => x.global_max_pool2d(),
        GlobalPool::Mean => x.global_avg_pool2d(),
    };

    /// All axes but the first folded into one, in the order of memory; see [`Expr::flatten`].
    pub struct Flatten;
    Flatten "flatten" |Flatten, x| x.flatten();
}
