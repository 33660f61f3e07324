//! L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995): quasi-Newton steps inside a box.

use super::bounds::Bounds;
use super::descent::{Limits, Stepper, Vectors, descend, descends, pieces, rounding, try_it};
use super::full_batch::{FullBatch, Method, Objective, Observer};
use super::outcome::{Outcome, Progress, Reason};
use super::search::{Found, Point, Trial, Wolfe};
use crate::error::{Result, bail};
use crate::kernel::arena::Arena;
use crate::kernel::linalg::{lu, lu_solve};
use crate::kernel::vector::{add_scaled, difference, dot, max_norm};
use crate::scalar::Scalar;
use crate::tape::AsNode;
use crate::tensor::Tensor;
use std::ops::ControlFlow;

/// L-BFGS for variables between bounds, some of which may be infinite. The quadratic model
///
/// ```text
/// m(x) = gᵀ(x − w) + ½ (x − w)ᵀB(x − w),   B = θI − W M Wᵀ,   W = [Y, θS],   θ = yᵀy / sᵀy
/// M⁻¹ = [[−D, Lᵀ], [L, θSᵀS]]      (D and L: diagonal and what is below it of SᵀY)
/// ```
///
/// of the last m changes S of variables and Y of gradients is made small in two steps: along the
/// projected path P(w − tg) up to its first minimum, the *generalized Cauchy point*, which says
/// what is at a bound; then over the variables that are not, by the inverse of B on those, whose
/// minimum is projected into the box, or shortened to it where the projection would not descend.
/// A strong-Wolfe search, on the feasible part of the line, goes from w towards that.
///
/// It has converged when ‖P(w − g) − w‖∞ is at most the tolerance. A start outside the box is first
/// projected into it, and no point outside is ever evaluated. Without bounds it takes nearly the
/// steps of [`Lbfgs`](super::Lbfgs), which is cheaper. It ends with a [`Reason`], as that does.
///
/// State: 2m + 9 numbers a variable. An iteration needs about one evaluation and O(m²n + m³)
/// operations, n log n more where many variables meet their bounds.
///
/// Sources: Byrd, Lu, Nocedal and Zhu, *A limited memory algorithm for bound constrained
/// optimization* (1995), algorithm CP and the direct primal method; Morales and Nocedal, *Remark on
/// algorithm 778* (2011), for the projection.
///
/// ```
/// use gradtape::optim::LbfgsB;
/// use gradtape::{Session, Tape, Tensor};
/// let tape = Tape::<f64>::new();
/// let w = tape.variable("w", Tensor::vector(vec![0.5, 0.5]));
/// let loss = (w - Tensor::vector(vec![2.0, 0.25])).square().sum();
/// let fit = LbfgsB::new().minimize(loss)?.with_bounds(w, 0.0, 1.0)?;
/// let mut session = Session::new(&tape)?;
/// assert!(fit.run(&mut session, &[])?.converged());
/// assert_eq!(session.value(w)?.as_slice(), [1.0, 0.25]);
/// # Ok::<(), gradtape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LbfgsB {
    history: usize,
    limits: Limits,
    wolfe: Wolfe,
    bounds: Option<Bounds>,
}

impl LbfgsB {
    /// The defaults that each method here names; no bounds.
    pub fn new() -> Self {
        let wolfe = Wolfe { c1: 1e-4, c2: 0.9 };
        LbfgsB { history: 10, limits: Limits::DEFAULT, wolfe, bounds: None }
    }

    /// With m ≥ 1 pairs of changes kept; the default is 10.
    pub fn with_history(self, history: usize) -> Self {
        LbfgsB { history, ..self }
    }

    /// With these bounds on the flat slice that [`Method::descend`] moves. For variables of a tape
    /// see [`FullBatch::with_bounds`].
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        LbfgsB { bounds: Some(bounds), ..self }
    }
}

descends!(LbfgsB, limits);

impl FullBatch<LbfgsB> {
    /// With bounds on one variable: numbers for all its elements, or tensors of its shape;
    /// infinite ones bound nothing. They are in the variable's own units, also with
    /// [`FullBatch::with_start_scales`].
    ///
    /// # Errors
    /// A variable that is not moved; another shape; a lower bound above its upper one; NaN.
    pub fn with_bounds(
        mut self,
        variable: impl AsNode,
        lower: impl Into<Tensor<f64>>,
        upper: impl Into<Tensor<f64>>,
    ) -> Result<Self> {
        let (lower, upper) = (lower.into(), upper.into());
        let bounds = self.method.bounds.take();
        let bounds = Bounds::with(bounds, &self.variables, variable, &lower, &upper);
        self.method.bounds = Some(bounds.map_err(|e| e.within(self.method.name()))?);
        Ok(self)
    }
}

impl Method for LbfgsB {
    fn name(&self) -> &str {
        "lbfgsb"
    }

    fn check<T: Scalar>(&self) -> Result<()> {
        if self.history == 0 {
            bail!(Argument, "expected a history ≥ 1, got 0");
        }
        self.limits.check::<T>()
    }

    fn in_units(&self, units: &[f64]) -> Self {
        let bounds = self.bounds.as_ref().map(|b| b.in_units(units));
        LbfgsB { bounds, ..self.clone() }
    }

    fn descend<T: Scalar>(
        &self,
        f: Objective<'_, T>,
        x: &mut [T],
        observe: Observer<'_>,
    ) -> Result<Outcome> {
        let within = |e: crate::Error| e.within(self.name());
        self.check::<T>().map_err(within)?;
        let n = x.len();
        let bounds = match self.bounds.clone() {
            Some(bounds) => bounds,
            None => Bounds::new(vec![f64::NEG_INFINITY; n], vec![f64::INFINITY; n])?,
        };
        bounds.check_len(n).map_err(within)?;
        bounds.project(x);
        let model = Model::new(self.history, n).map_err(within)?;
        let (wolfe, max_evaluations) = (self.wolfe, self.limits.max_evaluations);
        let vectors = Arena::new(n.saturating_mul(2)).map_err(within)?;
        let mut steps = InBox { bounds: &bounds, model, vectors, wolfe, max_evaluations };
        descend(&self.limits, &mut steps, f, x, observe)
    }
}

/// Steps inside a box.
struct InBox<'a, T: Scalar> {
    bounds: &'a Bounds,
    model: Model<T>,
    /// The Cauchy point, and the way from it to the minimum.
    vectors: Arena<T>,
    wolfe: Wolfe,
    max_evaluations: u64,
}

impl<T: Scalar> Stepper<T> for InBox<'_, T> {
    fn step(
        &mut self,
        f: Objective<'_, T>,
        v: &mut Vectors<'_, T>,
        now: &mut Progress,
    ) -> Result<ControlFlow<Reason>> {
        loop {
            let known = self.model.n_pairs > 0;
            let usable = self.model.direction(self.bounds, v, &mut self.vectors).is_ok();
            let slope = dot(v.g, v.d);
            if known && !(usable && slope < 0.0 && slope.is_finite()) {
                self.model.forget();
                continue;
            }
            if !(slope < 0.0 && slope.is_finite()) {
                return Ok(ControlFlow::Break(Reason::NoProgress));
            }
            let first = match (known, now.iteration) {
                (true, _) => 1.0,
                (false, 0) => (now.loss.abs() / -slope).clamp(T::EPSILON, 1.0),
                (false, _) => now.step,
            };
            let longest = self.longest(v);
            let start = Point { step: 0.0, loss: now.loss, slope };
            let rounding = rounding::<T>(now.loss);
            let found = self.wolfe.search(start, first, longest, rounding, &mut |step| {
                v.trial_w.copy_from_slice(v.w);
                add_scaled(v.trial_w, step, v.d);
                self.bounds.project(v.trial_w);
                if v.trial_w == v.w {
                    return Ok(Trial::Still);
                }
                try_it(f, v, now, self.max_evaluations, step)
            })?;
            let reason = match found {
                Found::Step(point) => {
                    self.model.push(v);
                    difference(v.d, v.trial_w, v.w);
                    now.step = max_norm(v.d);
                    now.loss = point.loss;
                    v.accept();
                    return Ok(ControlFlow::Continue(()));
                }
                Found::Nothing | Found::NotFinite if known => {
                    self.model.forget();
                    continue;
                }
                Found::Nothing => Reason::NoProgress,
                Found::NotFinite => Reason::NotFinite,
                Found::Unbounded => Reason::Unbounded,
                Found::Exhausted => Reason::MaxEvaluations,
            };
            return Ok(ControlFlow::Break(reason));
        }
    }

    fn gradient_norm(&self, w: &[T], g: &[T]) -> f64 {
        self.bounds.gradient_norm(w, g)
    }
}

impl<T: Scalar> InBox<'_, T> {
    /// How far w + αd stays in the box, at least to 1, which rounding may hide.
    fn longest(&self, v: &Vectors<'_, T>) -> f64 {
        let to_bound = |i: usize| {
            let (lower, upper) = self.bounds.of::<T>(i);
            let bound = if v.d[i] > T::zero() { upper } else { lower };
            match v.d[i] == T::zero() {
                true => f64::INFINITY,
                false => ((bound - v.w[i]) / v.d[i]).to_f64(),
            }
        };
        (0..v.w.len()).map(to_bound).fold(f64::INFINITY, f64::min).max(1.0)
    }
}

/// From w the projected way of length 1 along −g, in `v.d`.
fn downhill<T: Scalar>(bounds: &Bounds, v: &mut Vectors<'_, T>) {
    let sizes = (0..v.w.len()).filter(|&i| !bounds.holds(i, v.w[i], v.g[i]));
    // So that squares neither overflow nor vanish.
    let size = sizes.map(|i| v.g[i].abs().to_f64()).fold(0.0, f64::max);
    let unit = T::lit(if size > 0.0 { size } else { 1.0 });
    for i in 0..v.w.len() {
        let (lower, upper) = bounds.of::<T>(i);
        // Not the difference of two points, in which a large w leaves nothing of a small step.
        v.d[i] = (-v.g[i] / unit).max(lower - v.w[i]).min(upper - v.w[i]);
    }
}

/// That the small system of the model is singular or not finite.
struct Useless;

/// The model: the last pairs of changes, and what is needed of their products.
struct Model<T: Scalar> {
    /// Of the variables and of the gradient in turn, n numbers each, oldest first from `oldest` on.
    changes: Arena<T>,
    n: usize,
    history: usize,
    n_pairs: usize,
    next: usize,
    theta: f64,
    /// Sᵀ·S and Sᵀ·Y by place in the ring, column-major, history × history.
    ss: Vec<f64>,
    sy: Vec<f64>,
    /// The factors of M⁻¹ and the row exchanges.
    middle: Vec<f64>,
    rows: Vec<f64>,
    /// (t, i): the breakpoints of the projected path.
    breaks: Vec<(f64, usize)>,
    /// Where the path was left: t of each variable.
    times: Vec<f64>,
}

impl<T: Scalar> Model<T> {
    fn new(history: usize, n: usize) -> Result<Self> {
        let changes = Arena::new(history.saturating_mul(2).saturating_mul(n))?;
        let square = history.saturating_mul(history);
        Ok(Model {
            changes,
            n,
            history,
            n_pairs: 0,
            next: 0,
            theta: 1.0,
            ss: vec![0.0; square],
            sy: vec![0.0; square],
            middle: vec![0.0; 4 * square],
            rows: vec![0.0; 2 * history],
            breaks: Vec::with_capacity(n),
            times: vec![0.0; n],
        })
    }

    /// The place in the ring of pair `k`, oldest first.
    fn place(&self, k: usize) -> usize {
        (self.next + self.history - self.n_pairs + k) % self.history
    }

    /// s and y of pair `k`, oldest first.
    fn pair(&self, k: usize) -> (&[T], &[T]) {
        let at = 2 * self.place(k) * self.n;
        self.changes.as_slice()[at..at + 2 * self.n].split_at(self.n)
    }

    /// Row `i` of W.
    fn row(&self, i: usize, out: &mut [f64]) {
        for k in 0..self.n_pairs {
            let (s, y) = self.pair(k);
            out[k] = y[i].to_f64();
            out[self.n_pairs + k] = self.theta * s[i].to_f64();
        }
    }

    /// The factors of M⁻¹.
    fn factor(&mut self) {
        let (k, m) = (self.n_pairs, self.history);
        let size = 2 * k;
        let middle = &mut self.middle[..size * size];
        middle.fill(0.0);
        for a in 0..k {
            let at_a = (self.next + m - k + a) % m;
            middle[a + a * size] = -self.sy[at_a + at_a * m];
            for b in 0..k {
                let at_b = (self.next + m - k + b) % m;
                middle[k + a + (k + b) * size] = self.theta * self.ss[at_a + at_b * m];
                if a > b {
                    let sy = self.sy[at_a + at_b * m];
                    middle[k + a + b * size] = sy;
                    middle[b + (k + a) * size] = sy;
                }
            }
        }
        lu(size, middle, &mut self.rows[..size]);
    }

    /// M·x in place of x.
    fn apply(&self, x: &mut [f64]) -> Result<(), Useless> {
        let size = x.len();
        let (middle, rows) = (&self.middle[..size * size], &self.rows[..size]);
        lu_solve(size, middle, rows, false, x).map_err(|_| Useless)
    }

    fn forget(&mut self) {
        self.n_pairs = 0;
    }

    /// The way to the model's minimum in the box, in `v.d`.
    fn direction(
        &mut self,
        bounds: &Bounds,
        v: &mut Vectors<'_, T>,
        vectors: &mut Arena<T>,
    ) -> Result<(), Useless> {
        if self.n_pairs == 0 {
            downhill(bounds, v);
            return Ok(());
        }
        self.factor();
        let [cauchy, free] = pieces(vectors.as_mut_slice(), self.n);
        let (end, c) = self.cauchy_point(bounds, v.w, v.g, cauchy)?;
        self.minimum(bounds, v, cauchy, free, end, c)
    }

    /// Algorithm CP: the first minimum of the model along P(w − tg), at t; also Wᵀ(x − w).
    fn cauchy_point(
        &mut self,
        bounds: &Bounds,
        w: &[T],
        g: &[T],
        x: &mut [T],
    ) -> Result<(f64, Vec<f64>), Useless> {
        let size = 2 * self.n_pairs;
        let (mut row, mut p, mut c) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
        let (mut dd, mut n_moving) = (0.0, 0);
        self.breaks.clear();
        for i in 0..self.n {
            let (lower, upper) = bounds.of::<T>(i);
            let bound = if g[i] < T::zero() { upper } else { lower };
            let t = match g[i] == T::zero() {
                true => f64::INFINITY,
                false => ((w[i] - bound) / g[i]).to_f64().max(0.0),
            };
            self.times[i] = t;
            x[i] = w[i];
            if t > 0.0 && g[i] != T::zero() {
                let g = g[i].to_f64();
                dd += g * g;
                n_moving += 1;
                self.row(i, &mut row);
                add_scaled(&mut p, -g, &row);
                if t < f64::INFINITY {
                    self.breaks.push((t, i));
                }
            }
        }
        let mut mp = p.clone();
        self.apply(&mut mp)?;
        let mut slope = -dd;
        let mut curvature = self.theta * dd - dot(&p, &mp);
        let least = T::EPSILON * self.theta * dd;
        let mut t = 0.0;
        self.breaks.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let breaks = std::mem::take(&mut self.breaks);
        let mut left = None;
        for &(next, i) in &breaks {
            let to_minimum = -slope / curvature.max(least);
            if to_minimum < next - t {
                left = Some(t + to_minimum.max(0.0));
                break;
            }
            let (step, g_i) = (next - t, g[i].to_f64());
            let (lower, upper) = bounds.of::<T>(i);
            x[i] = if g[i] < T::zero() { upper } else { lower };
            let z = (x[i] - w[i]).to_f64();
            add_scaled(&mut c, step, &p);
            self.row(i, &mut row);
            let mut m_row = row.clone();
            self.apply(&mut m_row)?;
            slope += step * curvature + g_i * g_i + self.theta * g_i * z - g_i * dot(&m_row, &c);
            curvature -= self.theta * g_i * g_i
                + 2.0 * g_i * dot(&m_row, &p)
                + g_i * g_i * dot(&row, &m_row);
            add_scaled(&mut p, g_i, &row);
            t = next;
        }
        let end = match left {
            Some(end) => end,
            None if n_moving == breaks.len() => t,
            None => t + (-slope / curvature.max(least)).max(0.0),
        };
        self.breaks = breaks;
        add_scaled(&mut c, end - t, &p);
        for i in 0..self.n {
            if self.times[i] > end {
                x[i] = T::lit(w[i].to_f64() - end * g[i].to_f64());
            }
        }
        Ok((end, c))
    }

    /// The minimum over the variables that are not at a bound at the Cauchy point, in `v.d` as a
    /// change of w.
    fn minimum(
        &self,
        bounds: &Bounds,
        v: &mut Vectors<'_, T>,
        cauchy: &[T],
        free: &mut [T],
        end: f64,
        mut c: Vec<f64>,
    ) -> Result<(), Useless> {
        let size = 2 * self.n_pairs;
        let is_free = |i: usize| self.times[i] > end;
        self.apply(&mut c)?;
        let (mut row, mut u) = (vec![0.0; size], vec![0.0; size]);
        let mut products = vec![0.0; size * size];
        // The reduced gradient r, and WᵀZr and WᵀZZᵀW.
        for i in 0..self.n {
            free[i] = T::zero();
            if is_free(i) {
                self.row(i, &mut row);
                let r =
                    v.g[i].to_f64() + self.theta * (cauchy[i] - v.w[i]).to_f64() - dot(&row, &c);
                free[i] = T::lit(r);
                add_scaled(&mut u, r, &row);
                for (column, &w) in products.chunks_exact_mut(size.max(1)).zip(&row) {
                    add_scaled(column, w / self.theta, &row);
                }
            }
        }
        self.apply(&mut u)?;
        // (I − M WᵀZZᵀW / θ)⁻¹ on it.
        for (j, column) in products.chunks_exact_mut(size.max(1)).enumerate() {
            self.apply(column)?;
            column.iter_mut().for_each(|x| *x = -*x);
            column[j] += 1.0;
        }
        let mut rows = vec![0.0; size];
        lu(size, &mut products, &mut rows);
        lu_solve(size, &products, &rows, false, &mut u).map_err(|_| Useless)?;
        for (i, free) in free.iter_mut().enumerate().filter(|(i, _)| is_free(*i)) {
            self.row(i, &mut row);
            *free = T::lit(-free.to_f64() / self.theta - dot(&row, &u) / (self.theta * self.theta));
        }
        // The projected minimum, or if that is no descent the part of the way inside the box.
        v.d.copy_from_slice(cauchy);
        add_scaled(v.d, 1.0, free);
        bounds.project(v.d);
        v.d.iter_mut().zip(&*v.w).for_each(|(d, &w)| *d -= w);
        if dot(v.g, v.d) < 0.0 {
            return Ok(());
        }
        let mut part = 1.0f64;
        for i in (0..self.n).filter(|&i| free[i] != T::zero()) {
            let (lower, upper) = bounds.of::<T>(i);
            let bound = if free[i] > T::zero() { upper } else { lower };
            part = part.min(((bound - cauchy[i]) / free[i]).to_f64().max(0.0));
        }
        difference(v.d, cauchy, v.w);
        add_scaled(v.d, part, free);
        Ok(())
    }

    /// Keeps the change of variables and gradient to the point tried last, if they have curvature.
    fn push(&mut self, v: &Vectors<'_, T>) {
        let (at, n, m) = (self.next, self.n, self.history);
        let pair = &mut self.changes.as_mut_slice()[2 * at * n..2 * (at + 1) * n];
        let (s, y) = pair.split_at_mut(n);
        difference(s, v.trial_w, v.w);
        difference(y, v.trial_g, v.g);
        let (sy, ss, yy) = (dot(s, y), dot(s, s), dot(y, y));
        // The search may have ended at a bound, where sᵀy can be anything.
        if !(sy > T::EPSILON * yy && sy > T::EPSILON * ss.sqrt() * yy.sqrt() && yy.is_finite()) {
            // The place still counts as the oldest pair's if all are taken.
            self.n_pairs = self.n_pairs.min(m - 1);
            return;
        }
        self.theta = yy / sy;
        self.next = (at + 1) % m;
        self.n_pairs = (self.n_pairs + 1).min(m);
        let new = self.n_pairs - 1;
        for k in 0..self.n_pairs {
            let other = self.place(k);
            let ((s, y), (s_new, y_new)) = (self.pair(k), self.pair(new));
            let (ss, new_old, old_new) = (dot(s, s_new), dot(s_new, y), dot(s, y_new));
            self.ss[at + other * m] = ss;
            self.ss[other + at * m] = ss;
            self.sy[at + other * m] = new_old;
            self.sy[other + at * m] = old_new;
        }
    }
}
