"""Reference values of the metrics, by scikit-learn. Writes metrics_input.csv and metrics.csv here.

python tests/reference/metrics.py   (made with scikit-learn 1.9.1, numpy's PCG64 seed 1)
"""
import pathlib

import numpy as np
from sklearn import metrics as m

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(1)
n = 60
truth = rng.integers(0, 4, n)
truth[truth == 3] = rng.integers(0, 3, (truth == 3).sum())  # class 3 is predicted, never true
predicted = np.where(rng.random(n) < 0.6, truth, rng.integers(0, 4, n))
predicted[predicted == 1] = 0  # class 1 is true, never predicted
binary = rng.integers(0, 2, n)
score = np.round(binary * 0.3 + rng.random(n), 1)  # one decimal: many ties
p = rng.integers(0, 8, (n, 3)) / 8.0
p[:, 2] = 1.0
p[:, 2] += p[:, 0] + p[:, 1]
p = p / p.sum(1, keepdims=True)
p[0], truth[0] = [0.0, 0.5, 0.5], 0  # a probability of 0 for what happens
y = np.round(rng.normal(size=(n, 2)), 3)
z = np.round(y + 0.5 * rng.normal(size=(n, 2)), 3)

columns = [truth, predicted, binary, score, *p.T, *y.T, *z.T]
names = "truth,predicted,binary,score,p0,p1,p2,y0,y1,z0,z1"
rows = [",".join(repr(float(v)) if v.dtype.kind == "f" else str(v) for v in r) for r in zip(*columns)]
(here / "metrics_input.csv").write_text("\n".join([names, *rows]) + "\n")

out = {"accuracy": m.accuracy_score(truth, predicted)}
for average in ["macro", "micro"]:
    scores = m.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
    out |= {f"{average}_{k}": v for k, v in zip(["precision", "recall", "f1"], scores)}
each = m.precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=0)
for k, values in zip(["precision", "recall", "f1"], each):
    out |= {f"{k}_{c}": v for c, v in enumerate(values)}
cm = m.confusion_matrix(truth, predicted, labels=range(4))
out |= {f"count_{i}_{j}": cm[i, j] for i in range(4) for j in range(4)}
out["roc_auc"] = m.roc_auc_score(binary, score)
out["log_loss"] = m.log_loss(truth, p, labels=[0, 1, 2])
out["r2"] = m.r2_score(y, z)
out["rmse"] = np.sqrt(m.mean_squared_error(y, z))
out["mae"] = m.mean_absolute_error(y, z)
(here / "metrics.csv").write_text("name,value\n" + "".join(f"{k},{float(v)!r}\n" for k, v in out.items()))
