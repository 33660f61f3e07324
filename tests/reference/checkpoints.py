"""Writes checkpoints/numpy.safetensors for tests/resume.rs, with elements 100 i + 10 j + k, and
checks that NumPy sees the same ones in checkpoints/gradtape.safetensors, which that test compares
with what it saves.  Needs numpy and safetensors 0.6 or newer.
"""
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

folder = Path(__file__).parent / "checkpoints"


def digits(*shape):
    return sum(10 ** (len(shape) - 1 - axis) * at for axis, at in enumerate(np.indices(shape)))


want = {"v": digits(3), "m": digits(3, 4), "block/c": digits(2, 3, 4)}
extra = {"passed over": np.arange(5)}
save_file(
    {name: x.astype(np.float32) for name, x in want.items()} | extra,
    folder / "numpy.safetensors",
    metadata={"format": "np"},
)

ours = folder / "gradtape.safetensors"
got = load_file(ours)
assert got.keys() == want.keys()
for name, x in want.items():
    assert got[name].dtype == np.float64 and np.array_equal(got[name], x), name
with safe_open(ours, "numpy") as file:
    assert json.loads(file.metadata()["gradtape"])["notes"] == {"epoch": "3"}
print("equal")
