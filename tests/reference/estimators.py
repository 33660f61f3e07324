"""Reference fits of linear models and the accuracy of networks, by scikit-learn. Writes estimators.csv here.

python tests/reference/estimators.py   (made with scikit-learn 1.9.1)

Each estimator with its solver's tolerance as low as it goes, on standardized columns (ddof 0) unless the name says raw.
"""
import pathlib
import warnings

import numpy as np
from scipy.optimize import minimize
from sklearn import linear_model as lm
from sklearn.linear_model._huber import _huber_loss_and_gradient
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

here = pathlib.Path(__file__).parent
warnings.simplefilter("ignore")  # of line searches that end in rounding
rows = ["case,data,value,feature,class"]


def load(name):
    table = np.loadtxt(here / f"../../datasets/{name}/{name}.csv", delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1]


def write(case, data, model, x, y):
    coefficients = np.atleast_2d(model.coef_)
    for c, (w, b) in enumerate(zip(coefficients, np.atleast_1d(model.intercept_))):
        rows.extend(f"{case},{data},{float(v)!r},{i},{c}" for i, v in enumerate(w))
        rows.append(f"{case},{data},{float(b)!r},intercept,{c}")
    rows.append(f"{case},{data},{float(model.score(x, y))!r},score,all")


for data in ["diabetes", "longley"]:
    raw, y = load(data)
    x = StandardScaler().fit_transform(raw)
    write("linear", data, lm.LinearRegression().fit(x, y), x, y)
    write("linear_raw", data, lm.LinearRegression().fit(raw, y), raw, y)
    write("linear_without_intercept", data, lm.LinearRegression(fit_intercept=False).fit(x, y), x, y)
    write("ridge", data, lm.Ridge(alpha=2.0).fit(x, y), x, y)
    write("lasso", data, lm.Lasso(alpha=0.5, tol=1e-15, max_iter=10**6).fit(x, y), x, y)
    write("elastic_net", data, lm.ElasticNet(alpha=0.3, l1_ratio=0.4, tol=1e-15, max_iter=10**6).fit(x, y), x, y)

raw, y = load("diabetes")
x = StandardScaler().fit_transform(raw)
write("poisson", "diabetes", lm.PoissonRegressor(alpha=0.5, solver="newton-cholesky", tol=1e-13, max_iter=1000).fit(x, y), x, y)
write("poisson_raw", "diabetes", lm.PoissonRegressor(alpha=0.5, solver="newton-cholesky", tol=1e-13, max_iter=1000).fit(raw, y), raw, y)
huber = lm.HuberRegressor(alpha=0.01, tol=1e-12, max_iter=10**5).fit(x, y / 77)
# It ends when the loss falls by less than 2e-9; its own loss, from there on, to the end.
at = np.concatenate([huber.coef_, [huber.intercept_, huber.scale_]])
for _ in range(5):
    at = minimize(_huber_loss_and_gradient, at, args=(x, y / 77, 1.35, 0.01, np.ones(len(y))), jac=True, method="BFGS", options=dict(gtol=1e-13)).x
huber.coef_, huber.intercept_ = at[:-2], at[-2]
write("huber", "diabetes", huber, x, y / 77)

newton = dict(solver="newton-cholesky", tol=1e-13, max_iter=1000)
raw, y = load("breast_cancer")
x = StandardScaler().fit_transform(raw)
write("logistic", "breast_cancer", lm.LogisticRegression(C=1.0, **newton).fit(x, y), x, y)
write("logistic_raw", "breast_cancer", lm.LogisticRegression(C=0.1, **newton).fit(raw, y), raw, y)
for data in ["iris", "wine", "digits"]:
    raw, y = load(data)
    x = StandardScaler().fit_transform(raw)
    write("softmax", data, lm.LogisticRegression(C=1.0, **newton).fit(x, y), x, y)

# Networks start from other random weights: only what they reach is comparable.
for data in ["breast_cancer", "iris", "wine", "digits"]:
    raw, y = load(data)
    x = StandardScaler().fit_transform(raw)
    test = np.arange(len(y)) % 5 == 0
    runs = [MLPClassifier(random_state=s).fit(x[~test], y[~test]).score(x[test], y[test]) for s in range(5)]
    rows.append(f"mlp_classifier,{data},{float(np.median(runs))!r},score,all")
raw, y = load("diabetes")
x, y = StandardScaler().fit_transform(raw), (y - y.mean()) / y.std()
test = np.arange(len(y)) % 5 == 0
runs = [MLPRegressor(random_state=s).fit(x[~test], y[~test]).score(x[test], y[test]) for s in range(5)]
rows.append(f"mlp_regressor,diabetes,{float(np.median(runs))!r},score,all")
(here / "estimators.csv").write_text("\n".join(rows) + "\n")
