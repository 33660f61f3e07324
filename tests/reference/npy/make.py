"""The arrays that tests/npy.rs and tests/npz.rs read, as NumPy 2.4.6 writes them: `python make.py` in this folder.

Every file holds x[i, j, k] = 6 i + 2 j + k - 3 of shape (2, 3, 2), as its type allows.
"""
import numpy as np
from numpy.lib import format

x = np.arange(12).reshape(2, 3, 2) - 3
for name in ["<f4", ">f4", "<f8", ">f8", "|i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8"]:
    file = {"<": "le", ">": "be", "|": ""}[name[0]]
    np.save(f"{name[1:]}{file}.npy", x.astype(name))
for name in ["|u1", "<u2", ">u4", "<u8", "|b1"]:
    np.save(f"{name[1:]}.npy", (x + 3).astype(name))
np.save("fortran.npy", np.asfortranarray(x.astype("<f8")))
np.save("scalar.npy", np.float64(2.5))
np.save("vector.npy", np.array([1.0, 2.0, 3.0], "<f4"))
np.save("matrix.npy", np.asfortranarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
np.save("empty.npy", np.zeros((0, 3)))
for version in [2, 3]:
    with open(f"version{version}.npy", "wb") as file:
        format.write_array(file, x.astype("<f8"), version=(version, 0))
np.save("object.npy", np.array([None, 1], dtype=object))
np.save("structure.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
np.save("half.npy", np.zeros(2, "<f2"))
np.save("text.npy", np.array(["ab"]))
np.savez("plain.npz", x=x.astype("<f8"), labels=np.array([2, 0, 1], "<i8"))
np.savez_compressed("packed.npz", x=x.astype("<f4"), labels=np.array([2, 0, 1], "|u1"))
