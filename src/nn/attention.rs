//! Multi-head attention with its projections.

use super::{Init, Layer, Training};
use crate::error::{Result, bail};
use crate::{Attention, Expr, Philox, Scalar, Tape, Tensor, Var};

/// Attention of several heads between two affine maps (Vaswani et al. 2017, section 3.2.2):
/// queries, keys and values are x·W + b, and the value is attention(q, k, v)·W' + b'; see
/// [`Expr::attention`]. `(batch, time, features) -> (batch, time, features)`
///
/// ```
/// use gradtape::nn::MultiHeadAttention;
/// use gradtape::{ANY, Attention, Philox, Tape};
/// let tape = Tape::<f32>::new();
/// let (x, memory) = (tape.placeholder("x", [ANY, 7, 8]), tape.placeholder("m", [ANY, 5, 8]));
/// let seen = tape.placeholder("seen", [ANY, 5]);
/// let (form, mut rng) = (Attention::new(2), Philox::new(1, 0));
/// let layer = MultiHeadAttention::new(&tape, "attention", 8, form, &mut rng)?;
/// assert_eq!(layer.forward(x, None).shape(), [ANY, 7, 8].into());
/// assert_eq!(layer.across(x, memory, Some(seen)).shape(), [ANY, 7, 8].into());
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    name: String,
    /// The weights of queries, keys and values as blocks of columns, `[features, 3·features]`.
    pub w_in: Var,
    /// Their biases, `[3·features]`.
    pub b_in: Var,
    /// The weights of what comes out, `[features, features]`.
    pub w_out: Var,
    /// Their biases, `[features]`.
    pub b_out: Var,
    /// The heads, and which keys a query sees.
    pub form: Attention,
    features: usize,
}

impl MultiHeadAttention {
    /// A layer with variables `name/w_in` and `name/w_out`, which start as
    /// [`Init::GlorotUniform`] of each projection, `name/b_in` and `name/b_out`, which start at 0.
    ///
    /// # Errors
    /// Features that do not fall into equal heads; no memory for the weights.
    #[track_caller]
    pub fn new<T: Scalar>(
        tape: &Tape<T>,
        name: &str,
        features: usize,
        form: Attention,
        rng: &mut Philox,
    ) -> Result<Self> {
        if form.heads == 0 || features == 0 || !features.is_multiple_of(form.heads) {
            bail!(Argument, "{name}: expected {features} features in {} equal heads", form.heads);
        }
        let bound = (3.0 / features as f64).sqrt();
        let init = Init::Uniform { low: -bound, high: bound };
        let w_in = init.tensor([features, 3 * features], rng).map_err(|e| e.within(name))?;
        let w_out = init.tensor([features, features], rng).map_err(|e| e.within(name))?;
        let _scope = tape.scope(name);
        Ok(MultiHeadAttention {
            name: name.to_string(),
            w_in: tape.variable("w_in", w_in).var(),
            b_in: tape.variable("b_in", Tensor::zeros([3 * features])?).var(),
            w_out: tape.variable("w_out", w_out).var(),
            b_out: tape.variable("b_out", Tensor::zeros([features])?).var(),
            form,
            features,
        })
    }

    /// Attention of x to itself. The mask, `[batch, time]`, is 0 where nobody looks.
    #[track_caller]
    pub fn forward<'t, T: Scalar>(&self, x: Expr<'t, T>, mask: Option<Expr<'t, T>>) -> Expr<'t, T> {
        let _scope = x.tape().scope(&self.name);
        let joint = x.matmul(self.w_in) + self.b_in;
        joint.self_attention(mask, self.form).matmul(self.w_out) + self.b_out
    }

    /// Attention of x to a memory, `[batch, s, features]`, with a mask of `[batch, s]`.
    #[track_caller]
    pub fn across<'t, T: Scalar>(
        &self,
        x: Expr<'t, T>,
        memory: Expr<'t, T>,
        mask: Option<Expr<'t, T>>,
    ) -> Expr<'t, T> {
        let tape = x.tape();
        let _scope = tape.scope(&self.name);
        let (w, b) = (tape.expr(self.w_in), tape.expr(self.b_in));
        let n = self.features as isize;
        let q = x.matmul(w.slice_axis(-1, ..n)) + b.slice_axis(-1, ..n);
        let k = memory.matmul(w.slice_axis(-1, n..2 * n)) + b.slice_axis(-1, n..2 * n);
        let v = memory.matmul(w.slice_axis(-1, 2 * n..)) + b.slice_axis(-1, 2 * n..);
        q.attention(k, v, mask, self.form).matmul(self.w_out) + self.b_out
    }
}

impl<T: Scalar> Layer<T> for MultiHeadAttention {
    fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn forward<'t>(&self, x: Expr<'t, T>, _: Option<&Training<'t, T>>) -> Expr<'t, T> {
        MultiHeadAttention::forward(self, x, None)
    }

    fn parameters(&self) -> Vec<Var> {
        vec![self.w_in, self.b_in, self.w_out, self.b_out]
    }
}
