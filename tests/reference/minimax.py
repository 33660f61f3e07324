"""The polynomials of src/kernel/math, by Remez exchange in 60 digits (mpmath 1.3).

python tests/reference/minimax.py        prints each as Rust, with its largest weighted error

Each line of POLYNOMIALS: what the polynomial stands for, of which variable over which interval,
the weight that turns its error into one relative to the function's value, and the coefficients
for f32 and for f64.
"""

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
TINY = mpf(10) ** -18


def even(f):
    """The same function of z = x^2."""
    return lambda z: f(mp.sqrt(z))


def exp_tail(r):
    return (mp.expm1(r) - r) / r**2 if abs(r) > TINY else mpf(1) / 2


def log_tail(s):
    return (2 * mp.atanh(s) / s - 2) / s**2 if s > TINY else mpf(2) / 3


def pow_tail(s):
    if s > mpf(10) ** -9:
        return (log_tail(s) - mpf(2) / 3) / s**2
    return mpf(2) / 5


def sin_tail(x):
    return (mp.sin(x) / x - 1) / x**2 if x > TINY else mpf(-1) / 6


def cos_tail(x):
    return (mp.cos(x) - 1 + x**2 / 2) / x**4 if x > TINY else mpf(1) / 24


def sinh_tail(x):
    return (mp.sinh(x) / x - 1) / x**2 if x > TINY else mpf(1) / 6


def erf_head(x):
    return mp.erf(x) / x - 1 if x > TINY else 2 / mp.sqrt(mp.pi) - 1


def erfcx(x):
    return mp.erfc(x) * mp.exp(x * x)


def atan_tail(x):
    return (mp.atan(x) / x - 1) / x**2 if x > TINY else mpf(-1) / 3


def asin_tail(x):
    return (mp.asin(x) / x - 1) / x**2 if x > TINY else mpf(1) / 6


HALF_LN2, QUARTER_PI = mp.log(2) / 2 * mpf("1.001"), mp.pi / 4 * mpf("1.0001")
LOG_S = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
TAN_PI_8 = (mp.sqrt(2) - 1) ** 2
# name: (function, low, high, weight, coefficients for f32, for f64)
POLYNOMIALS = {
    "EXP: (e^r - 1 - r) / r^2": (exp_tail, -HALF_LN2, HALF_LN2, lambda r: abs(r), 5, 10),
    "LOG: (2 atanh(s) / s - 2) / s^2 of s^2": (even(log_tail), 0, LOG_S, lambda z: z / 2, 3, 7),
    "POW: (LOG - 2/3) / s^2 of s^2": (even(pow_tail), 0, LOG_S, lambda z: z * z / 2, None, 8),
    "SIN: (sin(x) / x - 1) / x^2 of x^2": (even(sin_tail), 0, QUARTER_PI**2, lambda z: z, 3, 6),
    "COS: (cos(x) - 1 + x^2 / 2) / x^4 of x^2": (
        even(cos_tail), 0, QUARTER_PI**2, lambda z: z * z, 3, 6),
    "SINH: (sinh(x) / x - 1) / x^2 of x^2": (even(sinh_tail), 0, 1, lambda z: z, 3, 7),
    "ERF: erf(x) / x - 1 of x^2": (
        even(erf_head), 0, 1, lambda z: 1 / (1 + even(erf_head)(z)), 7, 12),
    "ERFCX: e^(x^2) erfc(x) of x - 2, 1 <= x <= 4": (
        lambda u: erfcx(u + 2), -1, 2, lambda u: mp.exp(-((u + 2) ** 2)), 9, None),
    "ERFCX: e^(x^2) erfc(x) of x - 2, 1 <= x <= 6": (
        lambda u: erfcx(u + 2), -1, 4, lambda u: mp.exp(-((u + 2) ** 2)), None, 22),
    "ATAN: (atan(x) / x - 1) / x^2 of x^2": (even(atan_tail), 0, TAN_PI_8, lambda z: z, 5, 11),
    "ASIN: (asin(x) / x - 1) / x^2 of x^2": (even(asin_tail), 0, mpf(1) / 4, lambda z: z, 5, 13),
}


def value(c, x):
    y = mpf(0)
    for a in reversed(c):
        y = y * x + a
    return y


def remez(f, low, high, weight, n):
    """The n coefficients, lowest first, and the largest weighted error."""
    low, high = mpf(low), mpf(high)
    nodes = [mp.cos(mp.pi * i / (40 * n)) for i in range(40 * n + 1)]
    grid = [(low + high) / 2 - (high - low) / 2 * node for node in nodes]
    table = [(x, f(x), weight(x)) for x in grid]
    table = [t for t in table if t[2] > TINY]
    points = [table[round(i * (len(table) - 1) / n)] for i in range(n + 1)]
    for _ in range(12):
        rows = [[x**k for k in range(n)] + [(-1) ** i / w] for i, (x, _, w) in enumerate(points)]
        c = list(mp.lu_solve(mp.matrix(rows), mp.matrix([y for _, y, _ in points])))[:n]
        errors = [(w * (value(c, x) - y)) for x, y, w in table]
        # One extremum from each run of errors of one sign.
        runs = []
        for t, e in zip(table, errors):
            if not runs or (e > 0) != (runs[-1][1] > 0):
                runs.append((t, e))
            elif abs(e) > abs(runs[-1][1]):
                runs[-1] = (t, e)
        while len(runs) > n + 1:
            runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
        if len(runs) < n + 1:
            break
        points = [t for t, _ in runs]
    return c, max(map(abs, errors))


def show(kind, name, c, error):
    kind = {"f32": np.float32, "f64": np.float64}[kind]
    print(f"// {name}, error 2^{float(mp.log(error, 2)):.1f}")
    print("&[" + ", ".join(repr(kind(float(mp.nstr(a, 30)))).split("(")[1][:-1] for a in c) + "],")


if __name__ == "__main__":
    for name, (f, low, high, weight, single, double) in POLYNOMIALS.items():
        for kind, n in ("f32", single), ("f64", double):
            if n:
                show(kind, f"{kind} {name}", *remez(f, low, high, weight, n))
