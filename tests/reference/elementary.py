"""Elementary functions at random points, by mpmath 1.3 in 60 digits.

python tests/reference/elementary.py > tests/reference/elementary.txt

A line is a function, its arguments and its value, f64 as hexadecimal bits, and the value's error
in units of 2^-64 of its last place.
"""

import random
import struct

from mpmath import mp, mpf

mp.dps = 60
random.seed(1)


def bits(x):
    return format(struct.unpack("<Q", struct.pack("<d", x))[0], "016x")


def spread(low, high, negative=True):
    """Sizes from low to high, uniform in the logarithm."""
    size = float(mpf(low) * (mpf(high) / mpf(low)) ** random.random())
    return -size if negative and random.random() < 0.5 else size


# name: (function, arguments)
FUNCTIONS = {
    "exp": (mp.exp, lambda: [spread(1e-12, 708)]),
    "expm1": (mp.expm1, lambda: [spread(1e-12, 709)]),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), lambda: [spread(1e-12, 700)]),
    "log": (mp.log, lambda: [spread(1e-307, 1e308, False)]),
    "log1p": (mp.log1p, lambda: [max(spread(1e-12, 1e20), -random.random())]),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), lambda: [spread(1e-12, 700)]),
    "tanh": (mp.tanh, lambda: [spread(1e-12, 20)]),
    "sinh": (mp.sinh, lambda: [spread(1e-12, 710)]),
    "cosh": (mp.cosh, lambda: [spread(1e-12, 710)]),
    "sin": (mp.sin, lambda: [spread(1e-12, 1.6e6)]),
    "cos": (mp.cos, lambda: [spread(1e-12, 1.6e6)]),
    "tan": (mp.tan, lambda: [spread(1e-12, 1.6e6)]),
    "asin": (mp.asin, lambda: [spread(1e-12, 1)]),
    "acos": (mp.acos, lambda: [spread(1e-12, 1)]),
    "atan": (mp.atan, lambda: [spread(1e-12, 1e12)]),
    "atan2": (mp.atan2, lambda: [spread(1e-12, 1e12), spread(1e-12, 1e12)]),
    "erf": (mp.erf, lambda: [spread(1e-12, 6)]),
    "pow": (mp.power, lambda: powers()),
}


def powers():
    a = spread(1e-300, 1e300, False)
    return [a, float(mpf(random.uniform(-700, 700)) / mp.log(a))]


for name, (f, arguments) in FUNCTIONS.items():
    for _ in range(40):
        x = arguments()
        y = f(*map(mpf, x))
        near = float(y)
        unit = mpf(2) ** (mp.floor(mp.log(abs(y), 2)) - 52)
        rest = int(mp.nint((y - mpf(near)) / unit * mpf(2) ** 64))
        print(name, *map(bits, x), bits(near), rest)
