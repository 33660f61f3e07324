"""Values and cotangents of ops from other programs, for tests/ops/reference.rs.

    python tests/reference/ops.py > tests/reference/ops.txt

Needs NumPy, SciPy and PyTorch. A record is the name of a case, the inputs `x`, the value `y`, the
cotangent `c` of the value and the cotangents `g` of the inputs; each with its shape and its
elements column-major (first axis fastest), as gradtape keeps them. `g` is left out where other
programs have another convention. Cotangents come from PyTorch's autograd unless given.
"""

import math

import numpy as np
import scipy.special
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(20200514)
INF, NAN = math.inf, math.nan


def line(letter, a):
    a = np.asarray(a, dtype=np.float64)
    shape = ",".join(map(str, a.shape)) or "-"
    print(letter, shape, *(repr(float(v)) for v in a.flatten(order="F")))


def record(name, inputs, f, gradients=True, cotangents=None):
    x = [torch.tensor(np.asarray(i, dtype=np.float64), requires_grad=True) for i in inputs]
    y = f(*x)
    y = y if isinstance(y, torch.Tensor) else torch.tensor(np.asarray(y, dtype=np.float64))
    print("case", name)
    for i in x:
        line("x", i.detach().numpy())
    line("y", y.detach().numpy())
    if gradients:
        c = torch.tensor(rng.uniform(0.5, 1.5, y.shape))
        line("c", c.numpy())
        if cotangents is None:
            g = torch.autograd.grad(y, x, c, allow_unused=True) if y.requires_grad else [None] * len(x)
            cotangents = [torch.zeros_like(i) if j is None else j for i, j in zip(x, g)]
        else:
            cotangents = [c * torch.tensor(np.asarray(d, dtype=np.float64)) for d in cotangents]
        for g in cotangents:
            line("g", g.detach().numpy())


def r(*shape, low=-2.0, high=2.0):
    return rng.uniform(low, high, shape)


def values_only(name, inputs, y):
    record(name, inputs, lambda *_: y, gradients=False)


# --- elementwise: random points, then special ones ------------------------------------------------

sp = scipy.special
smooth = {
    "neg": (lambda a: -a, -2, 2), "exp": (torch.exp, -2, 2), "expm1": (torch.expm1, -2, 2),
    "log": (torch.log, 0.2, 3), "log1p": (torch.log1p, -0.8, 3), "sqrt": (torch.sqrt, 0.2, 3),
    "rsqrt": (torch.rsqrt, 0.2, 3), "square": (torch.square, -2, 2), "abs": (torch.abs, -2, 2),
    "sign": (torch.sign, -2, 2), "sin": (torch.sin, -3, 3), "cos": (torch.cos, -3, 3),
    "tan": (torch.tan, -1.2, 1.2), "asin": (torch.asin, -0.9, 0.9), "acos": (torch.acos, -0.9, 0.9),
    "atan": (torch.atan, -3, 3), "sinh": (torch.sinh, -2, 2), "cosh": (torch.cosh, -2, 2),
    "tanh": (torch.tanh, -2, 2), "sigmoid": (torch.sigmoid, -3, 3), "softplus": (F.softplus, -3, 3),
    "relu": (torch.relu, -2, 2), "gelu": (F.gelu, -3, 3),
    "gelu_tanh": (lambda a: F.gelu(a, approximate="tanh"), -3, 3), "silu": (F.silu, -3, 3),
    "erf": (torch.erf, -2, 2), "floor": (torch.floor, -3, 3), "ceil": (torch.ceil, -3, 3),
    "round": (torch.round, -3, 3), "reciprocal": (torch.reciprocal, 0.5, 3),
}
for name, (f, low, high) in smooth.items():
    record(name, [r(2, 3, low=low, high=high)], f)

record("identity", [r(3)], lambda a: a * 1)
record("logical_not", [[0.0, 2.0, -0.0, NAN]], lambda a: torch.logical_not(a).double())
record("is_finite", [[0.0, INF, -INF, NAN, 1e308]], lambda a: torch.isfinite(a).double())
two = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "atan2": torch.atan2, "hypot": torch.hypot, "maximum": torch.maximum, "minimum": torch.minimum,
}
for name, f in two.items():
    record(name, [r(3, 2, low=0.3), r(2, low=0.3)], f)
    record(name, [r(3, 1, low=0.3), r(1, 2, low=0.3)], f)
record("leaky_relu", [r(2, 4), [0.01]], lambda a, s: torch.where(a > 0, a, s * a))
record("elu", [r(2, 4), [1.3]], lambda a, s: torch.where(a > 0, a, s * torch.expm1(a)))
same = [[0.0, -0.0, 1.0, NAN, INF, -INF, 2.0], [-0.0, 0.0, 1.0, NAN, INF, INF, 3.0]]
for name, f in {
    "equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge,
    "less": torch.lt, "less_equal": torch.le, "logical_and": torch.logical_and,
    "logical_or": torch.logical_or, "logical_xor": torch.logical_xor,
}.items():
    record(name, same, lambda a, b, f=f: f(a, b).double())
record("select", [[1.0, 0.0, NAN, -0.0], [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
       lambda s, a, b: torch.where(s != 0, a, b))
record("clamp", [r(3, 4), [-1.0], [0.5]], torch.clamp)
base, n = np.array([-2.0, -0.5, 0.0, 1.5, 3.0, 2.0]), np.array([3.0, -2.0, 2.0, -1.0, 0.0, 1.0])
record("powi", [base, n], lambda a, n: torch.pow(a, n.detach()) + 0 * n)

ends = [0.0, -0.0, INF, -INF, NAN]
for name, f in {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt,
    "square": np.square, "abs": np.abs, "sin": np.sin, "cos": np.cos, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "sigmoid": sp.expit, "softplus": lambda a: np.logaddexp(a, 0.0), "relu": lambda a: np.maximum(a, 0.0),
    "erf": sp.erf, "floor": np.floor, "ceil": np.ceil, "round": np.round, "reciprocal": np.reciprocal,
    "sign": np.sign, "rsqrt": lambda a: 1 / np.sqrt(a),
}.items():
    with np.errstate(all="ignore"):
        values_only(name, [ends], f(np.array(ends)))
tiny, huge = 5e-324, 1.7e308
for name, points, f in [
    ("exp", [709.7, 710.0, -745.0, -746.0, 1e-300], np.exp),
    ("expm1", [1e-10, -1e-300, tiny, 709.0, -40.0], np.expm1),
    ("log", [tiny, 1e-308, huge, 1.0, -1.0], np.log),
    ("log1p", [1e-10, -1e-300, -1.0, tiny, huge], np.log1p),
    ("softplus", [1e4, -1e4, 40.0, -40.0, 700.0, -700.0, 0.0], lambda a: np.logaddexp(a, 0.0)),
    ("sigmoid", [1e4, -1e4, 40.0, -40.0, 700.0, -700.0], sp.expit),
    ("tanh", [1e4, -1e4, 20.0, 1e-10, tiny, -1e-300], np.tanh),
    ("erf", [6.0, -6.0, 1e-10, tiny, 1e4], sp.erf),
    ("round", [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994], np.round),
    ("sqrt", [tiny, huge, -1.0], np.sqrt),
]:
    with np.errstate(all="ignore"):
        values_only(name, [points], f(np.array(points)))
with np.errstate(all="ignore"):
    values_only("hypot", [[1e300, tiny, INF, 3.0], [1e300, 0.0, NAN, -4.0]], np.array([math.hypot(1e300, 1e300), tiny, INF, 5.0]))
    values_only("pow", [[0.0, 0.0, INF, -2.0, -2.0, NAN, 1.0], [0.0, 2.0, -1.0, 3.0, 0.5, 0.0, NAN]],
                np.power([0.0, 0.0, INF, -2.0, -2.0, NAN, 1.0], [0.0, 2.0, -1.0, 3.0, 0.5, 0.0, NAN]))
    values_only("atan2", [[0.0, -0.0, 0.0, -0.0, 1.0, INF], [0.0, 0.0, -0.0, -0.0, 0.0, -INF]],
                np.arctan2([0.0, -0.0, 0.0, -0.0, 1.0, INF], [0.0, 0.0, -0.0, -0.0, 0.0, -INF]))
    for name, f in [("maximum", np.maximum), ("minimum", np.minimum)]:
        a, b = [NAN, 1.0, NAN, INF], [1.0, NAN, NAN, -INF]
        values_only(name, [a, b], f(a, b))

# Kinks: the subgradients that gradtape documents, at the kink and on both sides of it.
e = 1e-9
record("abs", [[-e, 0.0, -0.0, e]], torch.abs, cotangents=[[-1.0, 0.0, 0.0, 1.0]])
record("relu", [[-e, 0.0, -0.0, e]], torch.relu, cotangents=[[0.0, 0.0, 0.0, 1.0]])
record("leaky_relu", [[-e, 0.0, e], [0.1, 0.1, 0.1]], lambda a, s: torch.where(a > 0, a, s * a),
       cotangents=[[0.1, 0.1, 1.0], [-e, 0.0, 0.0]])
record("elu", [[-e, 0.0, e], [0.5, 0.5, 0.5]], lambda a, s: torch.where(a > 0, a, s * torch.expm1(a)),
       cotangents=[[0.5 * math.exp(-e), 0.5, 1.0], [math.expm1(-e), 0.0, 0.0]])
record("maximum", [[1.0, 1.0, 1.0], [1.0 - e, 1.0, 1.0 + e]], torch.maximum,
       cotangents=[[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
record("minimum", [[1.0, 1.0, 1.0], [1.0 - e, 1.0, 1.0 + e]], torch.minimum,
       cotangents=[[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
record("clamp", [[-1.0 - e, -1.0, -1.0 + e, 1.0 - e, 1.0, 1.0 + e], [-1.0] * 6, [1.0] * 6], torch.clamp,
       cotangents=[[0, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
record("hypot", [[0.0, 3.0], [0.0, 4.0]], torch.hypot, cotangents=[[0.0, 0.6], [0.0, 0.8]])
record("pow", [[0.0, 0.0, 2.0], [0.0, 2.0, 0.0]], torch.pow,
       cotangents=[[0.0, 0.0, 0.0], [0.0, 0.0, math.log(2.0)]])
record("softplus", [[1e4, -1e4, 0.0]], lambda a: torch.logaddexp(a, 0 * a), cotangents=[[1.0, 0.0, 0.5]])
record("sigmoid", [[1e4, -1e4]], torch.sigmoid, cotangents=[[0.0, 0.0]])
record("tanh", [[1e4, -1e4]], torch.tanh, cotangents=[[0.0, 0.0]])

# --- reductions, softmax --------------------------------------------------------------------------

reductions = {
    "sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin,
    "norm": lambda a, d, keepdim: torch.sqrt(torch.sum(a * a, d, keepdim=keepdim)),
    "norm_l1": lambda a, d, keepdim: torch.sum(a.abs(), d, keepdim=keepdim),
    "variance": lambda a, d, keepdim: torch.var(a, d, correction=0, keepdim=keepdim),
    "std": lambda a, d, keepdim: torch.std(a, d, correction=0, keepdim=keepdim),
    "all": lambda a, d, keepdim: torch.tensor(np.all(a.detach().numpy() != 0, axis=d, keepdims=keepdim).astype(float)),
    "any": lambda a, d, keepdim: torch.tensor(np.any(a.detach().numpy() != 0, axis=d, keepdims=keepdim).astype(float)),
}


def prod(a, d, keepdim):
    for axis in sorted((i % a.ndim for i in d), reverse=True):
        a = torch.prod(a, axis, keepdim=keepdim)
    return a


for name, f in {**reductions, "prod": prod}.items():
    record(f"{name} all", [r(3, 4)], lambda a: f(a, (0, 1), keepdim=False))
    record(f"{name} rows", [r(4, 3)], lambda a: f(a, (0,), keepdim=False))
    record(f"{name} columns", [r(4, 3)], lambda a: f(a, (1,), keepdim=False))
    record(f"{name} outer axes", [r(3, 2, 4)], lambda a: f(a, (0, 2), keepdim=False))
    record(f"{name} middle axis", [r(3, 4, 2)], lambda a: f(a, (1,), keepdim=True))
tied = [[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]]
record("max columns", [tied], lambda a: torch.amax(a, 1))
record("min columns", [tied], lambda a: torch.amin(a, 1))
record("norm columns", [[[0.0, 0.0], [3.0, 4.0]]], lambda a: torch.linalg.vector_norm(a, dim=1))
record("norm_l1 columns", [[[0.0, -2.0], [3.0, 0.0]]], lambda a: a.abs().sum(1))
record("prod columns", [[[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]], lambda a: torch.prod(a, 1))
values_only("max columns", [[[NAN, 1.0], [1.0, NAN], [-INF, -INF], [INF, 1.0]]], [NAN, NAN, -INF, INF])
values_only("min columns", [[[NAN, 1.0], [1.0, NAN], [-INF, 2.0], [INF, INF]]], [NAN, NAN, -INF, INF])
values_only("all columns", [[[NAN, 1.0], [0.0, NAN], [-0.0, 2.0]]], [1.0, 0.0, 0.0])
values_only("any columns", [[[NAN, 0.0], [0.0, -0.0]]], [1.0, 0.0])
values_only("variance columns", [[[1e9 + 1, 1e9 + 2, 1e9 + 3]]], [2.0 / 3.0])
record("variance of a sample", [r(5, 3)], lambda a: torch.var(a, 0, correction=1))
record("std of a sample", [r(5, 3)], lambda a: torch.std(a, 0, correction=1, keepdim=True))
record("cumsum rows", [r(4, 3)], lambda a: torch.cumsum(a, 0))
record("cumsum columns", [r(4, 3)], lambda a: torch.cumsum(a, 1))
record("cumsum_with reverse", [r(4, 3)], lambda a: torch.cumsum(a.flip(0), 0).flip(0))
record("cumsum_with exclusive", [r(4, 3)], lambda a: torch.cumsum(a, 1) - a)
record("argmax rows", [r(4, 3)], lambda a: torch.argmax(a, 0).double())
values_only("argmax rows", [[[1.0, 2.0, -INF], [1.0, NAN, -INF], [0.0, 3.0, -INF]]], [0.0, 1.0, 0.0])
record("argmin middle", [r(2, 4, 3)], lambda a: torch.argmin(a, 1).double())

for name, f in [("softmax", torch.softmax), ("log_softmax", torch.log_softmax), ("logsumexp", torch.logsumexp)]:
    record(f"{name} columns", [r(4, 3)], lambda a: f(a, 1))
    record(f"{name} rows", [r(4, 3)], lambda a: f(a, 0))
    record(f"{name} columns", [[[1e4, 0.0, -1e4], [700.0, 700.0, -700.0], [-1e4, -1e4, -1e4 + 1]]], lambda a: f(a, 1))
    record(f"{name} rows", [[[-INF, 1.0], [0.0, 2.0]]], lambda a: f(a, 0), gradients=False)
record("logsumexp_keep middle", [r(2, 3, 4)], lambda a: torch.logsumexp(a, 1, keepdim=True))
values_only("logsumexp columns", [[[-INF, -INF], [INF, 1.0], [NAN, 1.0]]], [-INF, INF, NAN])

# --- products -------------------------------------------------------------------------------------

record("matmul", [r(3, 4), r(4, 2)], torch.matmul)
record("matmul larger", [r(19, 33), r(33, 9)], torch.matmul)
record("matmul left transposed", [r(4, 3), r(4, 2)], lambda a, b: a.T @ b)
record("matmul right transposed", [r(3, 4), r(2, 4)], lambda a, b: a @ b.T)
record("matmul both transposed", [r(4, 3), r(2, 4)], lambda a, b: a.T @ b.T)
for name, a, b in [
    ("vector right", (3, 4), (4,)), ("vector left", (4,), (4, 2)), ("vectors", (4,), (4,)),
    ("batched", (2, 3, 4), (2, 4, 5)), ("batch broadcast", (2, 1, 3, 4), (3, 4, 2)),
    ("folded", (2, 3, 4), (4, 5)), ("of a shared left", (3, 4), (2, 4, 5)),
]:
    record(f"matmul {name}", [r(*a), r(*b)], torch.matmul)
values_only("matmul", [[[0.0, 1.0]], [[INF], [1.0]]], [[NAN]])
record("matmul over nothing", [np.zeros((3, 0)), np.zeros((0, 2))], torch.matmul)
record("dot", [r(5), r(5)], torch.dot)
record("outer", [r(3), r(4)], torch.outer)

# --- shapes: reshape is column-major, which is NumPy's order="F" ----------------------------------


def fold(a, *shape):
    """Reshape with the first axis fastest."""
    back = lambda t: t.permute(*reversed(range(t.ndim)))
    return back(back(a).reshape(*reversed(shape)))


record("reshape", [r(3, 4)], lambda a: fold(a, 2, 6))
record("reshape rows stay", [r(3, 4)], lambda a: fold(a, 3, 2, 2))
record("flatten", [r(2, 3, 2)], lambda a: fold(a.sin(), 2, 6))
record("expand_dims", [r(3, 4)], lambda a: (a * a)[None, :, :, None])
record("squeeze", [r(3, 1, 4, 1)], lambda a: (a * a)[:, 0, :, 0])
record("permute", [r(2, 3, 1, 4)], lambda a: (a * a).permute(2, 0, 3, 1))
record("t", [r(3, 4)], lambda a: (a * a).T)
record("swap_axes", [r(2, 3, 4)], lambda a: (a * a).transpose(0, 2))
record("broadcast_to", [r(3, 1)], lambda a: (a * a).expand(2, 3, 4))
record("slice", [r(5, 6)], lambda a: a[1:4, :-1:2])
record("slice rows stay", [r(4, 5)], lambda a: (a * a)[:, :-1])
record("slice backwards", [r(4, 5)], lambda a: (a * a).flip(0)[::2])
record("slice_axis", [r(2, 5, 3)], lambda a: (a * a)[:, 1:4])
record("index_axis", [r(4, 5)], lambda a: (a * a)[:, -1])
record("flip", [r(4, 3)], lambda a: (a * a).flip(0, 1))
record("split", [r(3, 6)], lambda a: a[:, :1] * a[:, 1:4] - a[:, 4:].sum(1, keepdim=True))
record("concat columns", [r(3, 2), r(3, 4)], lambda a, b: torch.cat([a, b, a], 1).sin())
record("concat rows", [r(3, 2), r(2, 2)], lambda a, b: torch.cat([a, b], 0).sin())
record("stack", [r(3, 2), r(3, 2)], lambda a, b: torch.stack([a, b], -1).sin())
record("pad", [r(3, 2)], lambda a: F.pad(a * a, (0, 2, 1, 0), value=1.5))
record("tile", [r(2, 3)], lambda a: torch.tile(a * a, (2, 3)))
record("tril", [r(3, 4)], lambda a: torch.tril(a * a))
record("triu", [r(4, 3)], lambda a: torch.triu(a * a, 1))
record("tril batched", [r(2, 3, 3)], lambda a: torch.tril(a * a, -1))
record("sum_to_like", [r(3, 4), r(4)], lambda a, b: a.sin().sum(0))
record("stop_gradient", [r(3)], lambda a: a * 2)

# --- indices and losses; the indices are those of tests/ops/cases.rs ------------------------------

record("take rows", [r(5, 3)], lambda a: (a * a)[[4, 0, 4, 1]])
record("take columns", [r(3, 4)], lambda a: (a * a)[:, [[3, 0], [0, 1]]])
record("take middle", [r(2, 4, 3)], lambda a: (a * a)[:, [1, 1, 3]])
record("gather columns", [r(3, 4)], lambda a: torch.gather(a * a, 1, torch.tensor([[3], [0], [2]])))
record("gather rows", [r(3, 2)], lambda a: torch.gather(a * a, 0, torch.tensor([[2, 0], [2, 1]])))
record("scatter_add", [r(4, 2), r(3, 2)], lambda a, b: a.index_add(0, torch.tensor([3, 0, 3]), b).square())
record("one_hot", [r(3, 4)], lambda a: a * F.one_hot(torch.tensor([1, 3, 0]), 4))

record("squared_error", [r(3, 2), r(3, 2)], lambda a, b: (a - b) ** 2)
record("absolute_error", [r(3, 2), r(3, 2)], lambda a, b: F.l1_loss(a, b, reduction="none"))
record("huber_loss", [r(4, 3), r(4, 3)], lambda a, b: F.huber_loss(a, b, delta=0.7, reduction="none"))
bce = lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction="none")
record("logistic_loss", [r(4, 3), r(4, 3, low=0.1, high=0.9)], bce)
record("logistic_loss", [[1e4, -1e4, 1e4, -1e4], [1.0, 0.0, 0.0, 1.0]], bce)
sign = torch.tensor([[1.0], [-1.0], [-1.0], [1.0]])
record("hinge_loss", [r(4, 3)], lambda a: torch.relu(1 - sign * a))
record("poisson_loss", [r(3, 2), r(3, 2, low=0.3)], lambda a, b: F.poisson_nll_loss(a, b, reduction="none"))
poisson = lambda a, b: F.poisson_nll_loss(a, b, full=True, reduction="none")
record("poisson_loss_full", [r(3, 2), [[0.5, 1.0], [2.0, 3.0], [7.0, 100.0]]], poisson)
record("poisson_loss_full", [r(2), [0.0, 1.0]], poisson, gradients=False)  # its slope at 0 is NaN
labels = torch.tensor([2, 0, 3])
record("softmax_cross_entropy", [r(3, 4)], lambda a: F.cross_entropy(a, labels, reduction="none"))
record("softmax_cross_entropy", [[[1e4, 0.0, -1e4, 1.0], [-1e4, 1e4, 0.0, 0.0], [1.0, 2.0, 3.0, 1e4]]],
       lambda a: F.cross_entropy(a, labels, reduction="none"))
record("softmax_cross_entropy_soft", [r(3, 4), r(3, 4, low=0.1, high=0.9)],
       lambda a, p: F.cross_entropy(a, p, reduction="none"))
record("kl_divergence", [r(3, 4), r(3, 4, low=0.1, high=0.9)],
       lambda a, p: F.kl_div(torch.log_softmax(a, 1), p, reduction="none").sum(1))
values_only("kl_divergence", [[[0.0, 0.0]], [[1.0, 0.0]]], [math.log(2.0)])
record("multiclass_hinge_loss", [r(3, 4)],
       lambda a: torch.relu((1 + a - a.gather(1, labels[:, None])).masked_fill(F.one_hot(labels, 4) == 1, -INF).amax(1)))

# --- linear algebra; the matrices are made regular as in tests/ops/cases.rs -----------------------

L = torch.linalg
spd = lambda x: x @ x.mT + torch.eye(x.shape[-1])
regular = lambda x: x + 5 * torch.eye(x.shape[-1])

record("diag wide", [r(2, 4)], lambda a: torch.diagonal(a * a, dim1=-2, dim2=-1))
record("diag batched", [r(2, 3, 2)], lambda a: torch.diagonal(a * a, dim1=-2, dim2=-1))
record("diag_matrix batched", [r(2, 2, 3)], lambda a: torch.diag_embed(a * a))
record("trace batched", [r(2, 2, 3)], lambda a: torch.diagonal(a * a, dim1=-2, dim2=-1).sum(-1))
record("cholesky", [r(3, 3)], lambda a: L.cholesky(spd(a)))
record("cholesky batched", [r(2, 3, 3)], lambda a: L.cholesky(spd(a)))
record("cholesky of a symmetric part", [r(2, 2)],
       lambda a: L.cholesky((a + a.mT) / 2 + 6 * torch.eye(2)))
lower = lambda a, b: L.solve_triangular(torch.tril(a), b, upper=False)
upper = lambda a, b: L.solve_triangular(torch.triu(a), b, upper=True)
record("solve_lower_triangular", [r(3, 3), r(3, 2)], lambda a, b: lower(regular(a), b))
record("solve_lower_triangular transposed", [r(3, 3), r(3, 2)], lambda a, b: lower(regular(a).mT, b))
record("solve_upper_triangular", [r(3, 3), r(3, 2)], lambda a, b: upper(regular(a), b))
record("solve_upper_triangular batched", [r(2, 3, 3), r(2, 3, 2)], lambda a, b: upper(regular(a), b))
record("solve", [r(3, 3), r(3, 2)], lambda a, b: L.solve(regular(a), b))
record("solve with exchanges", [r(3, 3), r(3)], lambda a, b: L.solve(regular(a).flip(0), b))
record("solve broadcast", [r(2, 1, 2, 2), r(3, 2, 2)], lambda a, b: L.solve(regular(a), b))
record("solve_spd", [r(3, 3), r(3, 2)], lambda a, b: L.solve(spd(a), b))
record("inverse", [r(3, 3)], lambda a: L.inv(regular(a)))
record("det", [r(3, 3)], L.det)
record("det with exchanges", [r(4, 4)], lambda a: L.det(regular(a).flip(0)))
record("log_det", [r(3, 3)], lambda a: L.slogdet(a)[1])
record("log_det batched", [r(2, 3, 3)], lambda a: L.slogdet(regular(a))[1])
record("slogdet", [r(3, 3)], lambda a: L.slogdet(a)[0] * L.slogdet(a)[1].exp())
record("matrix_power", [r(3, 3, low=0.1, high=0.9)], lambda a: L.matrix_power(a, 5))
record("matrix_power negative", [r(2, 2)], lambda a: L.matrix_power(regular(a), -3))
record("kron", [r(2, 3), r(3, 2)], torch.kron)
apart = lambda x: x + torch.diag(5.0 * torch.arange(1, x.shape[-1] + 1))
eigh = lambda x: L.eigh((apart(x) + apart(x).mT) / 2)
svd = lambda x: L.svd(x, full_matrices=False)
record("qr", [r(4, 3)], lambda a: torch.cat(L.qr(a), 0))
record("qr square", [r(3, 3)], lambda a: L.qr(a)[0].exp() * L.qr(a)[1])
record("qr batched", [r(2, 3, 2)], lambda a: torch.cat(L.qr(a), -2))
record("lstsq", [r(4, 2), r(4, 3)], lambda a, b: L.solve(a.T @ a, a.T @ b))
record("lstsq batched", [r(2, 3, 2), r(3, 1)], lambda a, b: L.solve(a.mT @ a, a.mT @ b))
record("eigh", [r(3, 3)], lambda a: torch.cat([eigh(a)[1] ** 2, eigh(a)[0][:, None]], -1))
record("eigh exponential", [r(3, 3)], lambda a: L.matrix_exp(0.1 * (apart(a) + apart(a).mT)))
record("eigh batched", [r(2, 3, 3)], lambda a: L.matrix_power((apart(a) + apart(a).mT) / 2, 2))


def squares(x):
    u, s, vt = svd(x)
    return torch.cat([u ** 2, s[None], vt.T ** 2], 0)


def exponential(x):
    u, s, vt = svd(x)
    return (u * s.exp()[..., None, :]) @ vt


record("svd", [r(3, 3)], lambda a: squares(apart(a)))
record("svd tall", [r(4, 2)], squares)
record("svd wide", [r(2, 4)], exponential)
record("svd batched", [r(2, 3, 2)], exponential)
record("svd values", [r(3, 2)], L.svdvals)
record("norm2", [r(3, 2)], lambda a: L.matrix_norm(a, 2))
record("norm2 batched", [r(2, 2, 3)], lambda a: L.matrix_norm(a, 2))
record("pinv tall", [r(4, 2)], L.pinv)
record("pinv wide", [r(2, 3)], L.pinv)
record("pinv of lower rank", [r(3, 1), r(1, 4)], lambda a, b: L.pinv(a @ b))
record("pinv batched", [r(2, 2, 3)], L.pinv)

# --- images: PyTorch's are [batch, channel, row, column], its weights [out, in, row, column] ----------


def nchw(f):
    """A function of PyTorch's layout on [batch, row, column, channel] and weights of [row, column, in, out]."""
    return lambda a, *w: f(a.permute(0, 3, 1, 2), *(v.permute(3, 2, 0, 1).contiguous() for v in w)).permute(0, 2, 3, 1)


def padded(a, before, after):
    """Zeros around the rows and columns of [batch, channel, row, column]."""
    return F.pad(a, (before[1], after[1], before[0], after[0]))


conv = F.conv2d
record("conv2d", [r(3, 5, 4, 2), r(3, 2, 2, 3)], nchw(conv))
record("conv2d same", [r(2, 4, 5, 2), r(3, 2, 2, 2)], nchw(lambda a, w: conv(a, w, padding="same")))
record("conv2d strided", [r(3, 6, 7, 1), r(3, 2, 1, 2)], nchw(lambda a, w: conv(a, w, stride=(2, 3))))
record("conv2d dilated", [r(2, 6, 8, 1), r(3, 2, 1, 2)], nchw(lambda a, w: conv(a, w, dilation=(2, 3))))
record("conv2d explicit", [r(2, 3, 3, 2), r(2, 3, 2, 1)], nchw(lambda a, w: conv(padded(a, (2, 1), (0, 3)), w)))
record("conv2d in groups", [r(2, 4, 3, 4), r(2, 2, 2, 6)],
       nchw(lambda a, w: conv(a, w, padding="same", groups=2)))
record("conv2d all at once", [r(3, 7, 6, 2), r(2, 3, 1, 4)],
       nchw(lambda a, w: conv(padded(a, (2, 1), (0, 3)), w, stride=(3, 2), dilation=(2, 2), groups=2)))
record("conv1d", [r(2, 7, 2), r(3, 2, 2)],
       lambda a, w: F.conv1d(a.permute(0, 2, 1), w.permute(2, 1, 0).contiguous(), stride=2).permute(0, 2, 1))
record("conv1d causal", [r(2, 6, 1), r(3, 1, 2)],
       lambda a, w: F.conv1d(F.pad(a.permute(0, 2, 1), (4, 0)), w.permute(2, 1, 0).contiguous(), dilation=2).permute(0, 2, 1))
transposed = F.conv_transpose2d
record("conv_transpose2d", [r(2, 3, 2, 3), r(3, 2, 2, 3)], nchw(transposed))
record("conv_transpose2d strided", [r(2, 3, 2, 2), r(3, 3, 1, 2)],
       nchw(lambda a, w: transposed(a, w, stride=(3, 2), output_padding=(2, 1))[:, :, 1:-1, :-1]))
record("conv_transpose1d", [r(2, 4, 2), r(3, 1, 2)],
       lambda a, w: F.conv_transpose1d(a.permute(0, 2, 1), w.permute(2, 1, 0).contiguous(), stride=2, output_padding=1)
       .permute(0, 2, 1))
record("max_pool2d", [r(3, 4, 6, 2)], nchw(lambda a: F.max_pool2d(a, (2, 3))))
ties = np.array([[1.0, 1.0, 0.0, 2.0], [1.0, 0.5, 2.0, 2.0], [-1.0, -1.0, -3.0, -3.0], [-1.0, -1.0, -3.0, -2.0]])
record("max_pool2d of many samples", [ties[:2].reshape(1, 2, 4, 1)], nchw(lambda a: F.max_pool2d(a, 2)))
record("max_pool2d overlapping", [ties.reshape(1, 4, 4, 1)], nchw(lambda a: F.max_pool2d(a, (3, 2), stride=(2, 1))))
values_only("max_pool2d", [np.array([[NAN, 1.0, 2.0], [3.0, 1.0, 2.0]]).reshape(1, 2, 3, 1)], np.full((1, 1, 1, 1), NAN))
values_only("max_pool2d", [np.full((1, 2, 3, 1), -INF)], np.full((1, 1, 1, 1), -INF))
record("avg_pool2d", [r(3, 4, 6, 2)], nchw(lambda a: F.avg_pool2d(a, (2, 3))))
mean = lambda a: F.avg_pool2d(padded(a, (1, 1), (2, 0)), (3, 2), stride=(2, 1))
record("avg_pool2d padded", [r(2, 5, 4, 1)], lambda a: nchw(mean)(a).exp())
record("avg_pool2d without border", [r(2, 5, 4, 2)], nchw(lambda a: mean(a) / mean(torch.ones_like(a))))
record("global_avg_pool2d", [r(3, 2, 4, 2)], lambda a: a.mean((1, 2)).exp())
record("global_max_pool2d", [r(3, 2, 4, 2)], lambda a: a.amax((1, 2)).exp())

# --- sequences: with unit input weights, PyTorch's inputs are the pre-activations -----------------

CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


def sequence(cell, lengths=None, reverse=False, states=0, bias=False, last=False, **options):
    def run(x, wh, *others):
        columns, hidden = x.shape[2], wh.shape[0]
        others = list(others)
        hidden_bias = torch.zeros(columns)
        if bias:
            hidden_bias = torch.cat([torch.zeros(2 * hidden), others.pop(0)])
        weights = {"weight_ih": torch.eye(columns), "weight_hh": wh.T, "bias_ih": torch.zeros(columns),
                   "bias_hh": hidden_bias}
        weights = {f"{k}_l0{side}": v for k, v in weights.items() for side in ("", "_reverse")}
        module = CELLS[cell](columns, hidden, batch_first=True, bidirectional=True, **options)
        initial = [torch.stack([h, h]) for h in others[:states]]
        initial = None if not initial else tuple(initial) if cell == "lstm" else initial[0]
        if lengths is not None:
            x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), True, False)
        y, final = torch.func.functional_call(module, weights, (x, initial))
        if lengths is not None:
            y = torch.nn.utils.rnn.pad_packed_sequence(y, True)[0]
        y = y[..., hidden:] if reverse else y[..., :hidden]
        final = final if cell == "lstm" else (final,)
        return torch.cat([y] + [h[int(reverse)][:, None] for h in final], 1) if last else y
    return run


record("lstm", [r(3, 4, 8), r(2, 8)], sequence("lstm"))
record("lstm", [r(5, 9, 20), r(5, 20)], sequence("lstm"))
record("lstm reversed", [r(2, 3, 8), r(2, 8)], sequence("lstm", reverse=True))
record("lstm from states", [r(2, 3, 8), r(2, 8), r(2, 2), r(2, 2)], sequence("lstm", states=2, last=True))
record("lstm of lengths", [r(3, 3, 8), r(2, 8), r(3, 2), r(3, 2)], sequence("lstm", [3, 1, 2], states=2, last=True))
record("lstm of lengths reversed", [r(3, 3, 8), r(2, 8), r(3, 2), r(3, 2)],
       sequence("lstm", [3, 1, 2], True, states=2, last=True))
record("gru", [r(3, 4, 6), r(2, 6)], sequence("gru"))
record("gru", [r(5, 9, 15), r(5, 15)], sequence("gru"))
record("gru with a bias", [r(2, 3, 6), r(2, 6), r(2), r(2, 2)], sequence("gru", states=1, bias=True, last=True))
record("gru of lengths", [r(3, 3, 6), r(2, 6), r(2)], sequence("gru", [1, 3, 2], bias=True, last=True))
record("gru of lengths reversed", [r(3, 3, 6), r(2, 6), r(3, 2)],
       sequence("gru", [1, 3, 2], True, states=1, last=True))
record("rnn tanh", [r(3, 4, 3), r(3, 3)], sequence("rnn"))
record("rnn relu", [r(3, 2, 3), r(3, 3)], sequence("rnn", nonlinearity="relu"))
record("rnn reversed from states", [r(2, 3, 2), r(2, 2), r(2, 2)],
       sequence("rnn", reverse=True, states=1, last=True))
record("rnn of lengths", [r(2, 3, 2), r(2, 2), r(2, 2)], sequence("rnn", [3, 1], states=1, last=True))

# --- normalization, dropout, attention --------------------------------------------------------------


def standardize(a, axes, eps):
    return (a - a.mean(axes, keepdim=True)) / (a.var(axes, correction=0, keepdim=True) + eps).sqrt()


channels_second = lambda a: a.movedim(-1, 1)
record("standardize columns", [r(4, 3)], lambda a: F.layer_norm(a, (3,), eps=1e-5))
record("standardize rows", [r(5, 3)], lambda a: F.batch_norm(a, None, None, training=True, eps=1e-5))
record("standardize middle", [r(3, 4, 2)], lambda a: standardize(a, 1, 1e-3))
record("standardize neighbors", [r(2, 3, 2, 3)], lambda a: F.instance_norm(channels_second(a), eps=1e-5).movedim(1, -1))
record("standardize apart", [r(2, 3, 2, 3)], lambda a: standardize(a, (1, 3), 1e-5))
record("standardize channels", [r(3, 2, 2, 2)],
       lambda a: F.batch_norm(channels_second(a), None, None, training=True, eps=1e-5).movedim(1, -1))
record("standardize of one number", [r(3, 1)], lambda a: F.layer_norm(a, (1,), eps=1e-5))
record("rms_normalize columns", [r(4, 3)], lambda a: F.rms_norm(a, (3,), eps=1e-5))
record("rms_normalize neighbors", [r(2, 3, 2)], lambda a: F.rms_norm(a, (3, 2), eps=1e-5))
group = lambda a: F.group_norm(channels_second(a), 2, eps=1e-5).movedim(1, -1)
record("group_standardize", [r(3, 6)], group)
record("group_standardize of an image", [r(2, 2, 3, 4)], group)
record("group_standardize one by one", [r(2, 3, 2)], group)


def philox(counter, stream, key):
    """Four words of Philox4x32-10 (Salmon et al. 2011)."""
    low = 0xFFFFFFFF
    c, k = [counter & low, counter >> 32, stream & low, stream >> 32], [key & low, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & low, p >> 32 ^ c[3] ^ k[1], p & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c


def dropout(a, p, seed, step):
    words = [philox(16 * (i // 64) + i % 16, step, seed)[i % 64 // 16] for i in range(a.numel())]
    stays = np.array([w >= int(p * 2 ** 32) for w in words]).reshape(a.shape, order="F")
    return torch.where(torch.tensor(stays), a / (1 - p), 0.0)


record("dropout", [r(9, 15)], lambda a: dropout(a, 0.3, 11, 4))
record("dropout of a cube", [r(2, 3, 2)], lambda a: dropout(a ** 2, 0.5, 1 << 40, 0))
record("dropout of nothing", [r(3, 2)], torch.exp)


def attention(q, k, v, heads, mask=None, causal=False):
    split = lambda x: x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)
    if mask is not None:
        mask = mask[:, None, None, :] & (torch.ones(q.shape[1], k.shape[1]).tril() > 0 if causal else True)
    y = F.scaled_dot_product_attention(split(q), split(k), split(v), mask, is_causal=causal and mask is None)
    return y.transpose(1, 2).reshape(*q.shape[:2], -1)


record("attention", [r(2, 3, 4), r(2, 5, 4), r(2, 5, 6)], lambda q, k, v: attention(q, k, v, 2))
record("attention causal", [r(3, 4, 2), r(3, 4, 2), r(3, 4, 1)], lambda q, k, v: attention(q, k, v, 1, causal=True))
keys = r(3, 4, 2)
keys[:, 0, 0] = abs(keys[:, 0, 0])
record("attention masked", [r(3, 2, 2), keys, r(3, 4, 2)],
       lambda q, k, v: attention(q, k, v, 2, k[..., 0] > -0.5))
record("attention of one sample", [r(1, 3, 2), r(1, 2, 2), r(1, 2, 2)], lambda q, k, v: attention(q, k, v, 1))
joint = r(3, 4, 6)
joint[:, 0, 2] = abs(joint[:, 0, 2])
record("self_attention", [r(2, 3, 12)], lambda a: attention(*a.chunk(3, -1), 2))
record("self_attention of many", [r(17, 2, 3)], lambda a: attention(*a.chunk(3, -1), 1))
record("self_attention causal and masked", [joint],
       lambda a: attention(*a.chunk(3, -1), 1, a[..., 2] > -1.0, causal=True))


def gelu_tanh_slope(a, b):
    return torch.autograd.grad(F.gelu(a, approximate="tanh"), a, b, create_graph=True)[0]


record("gelu_tanh_slope", [r(2, 3, low=-3, high=3), r(2, 3)], gelu_tanh_slope)

# --- later additions: at the end, so that the random numbers of the others stay as they are --------

record("qr wide", [r(4, 2)], lambda a: torch.cat(L.qr(a.mT), -1))
record("qr wide batched", [r(2, 3, 4)], lambda a: L.qr(a)[0].exp() @ L.qr(a)[1])
