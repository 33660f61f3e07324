"""Reference coefficients of L2-penalized classifiers, by scikit-learn. Writes classifiers.csv here.

python tests/reference/classifiers.py   (made with scikit-learn 1.9.1)

The objective is sum(loss) + ‖W‖²/2 (C = 1), intercept free, on standardized columns (ddof 0).
"""
import pathlib

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

here = pathlib.Path(__file__).parent
rows = ["data,value,feature,class"]
for name in ["breast_cancer", "iris"]:
    table = np.loadtxt(here / f"../../datasets/{name}/{name}.csv", delimiter=",", skiprows=1)
    x, y = StandardScaler().fit_transform(table[:, :-1]), table[:, -1].astype(int)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x, y)
    for c, (w, b) in enumerate(zip(model.coef_, model.intercept_)):
        rows += [f"{name},{float(v)!r},{i},{c}" for i, v in enumerate(w)]
        rows += [f"{name},{float(b)!r},intercept,{c}"]
    rows += [f"{name},{float(model.score(x, y))!r},accuracy,all"]
(here / "classifiers.csv").write_text("\n".join(rows) + "\n")
