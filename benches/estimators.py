"""Fits the shipped data with our estimators and with scikit-learn's, in turn on one core, and prints both times.

taskset -c 0 python benches/estimators.py   (needs numpy and scikit-learn)

scikit-learn runs twice: with its defaults for when to stop, and as many iterations as that takes; and to the digits that
ours gives by default, where a method has a tolerance. Times are the least of all rounds, data standardized and in memory.
"""
import os
import pathlib
import subprocess
import time
import warnings

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
import numpy as np
import sklearn.base
from sklearn import linear_model as lm
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

root = pathlib.Path(__file__).parent.parent
warnings.simplefilter("ignore")
mlp = dict(random_state=0)
cases = [
    ("linear", "diabetes", lm.LinearRegression()),
    ("ridge", "diabetes", lm.Ridge(alpha=1.0)),
    ("lasso", "diabetes", lm.Lasso(alpha=0.5)),
    ("elastic_net", "diabetes", lm.ElasticNet(alpha=0.3, l1_ratio=0.4)),
    ("huber", "diabetes", lm.HuberRegressor(max_iter=10**4)),
    ("poisson", "diabetes", lm.PoissonRegressor(alpha=1.0, max_iter=10**4)),
    ("linear", "longley", lm.LinearRegression()),
    ("lasso", "longley", lm.Lasso(alpha=0.5, max_iter=10**6)),
    ("logistic", "breast_cancer", lm.LogisticRegression(max_iter=10**4)),
    ("mlp_classifier", "breast_cancer", MLPClassifier(**mlp)),
    ("softmax", "iris", lm.LogisticRegression(max_iter=10**4)),
    ("softmax", "wine", lm.LogisticRegression(max_iter=10**4)),
    ("softmax", "digits", lm.LogisticRegression(max_iter=10**4)),
    ("mlp_classifier", "digits", MLPClassifier(**mlp)),
    ("mlp_regressor", "diabetes", MLPRegressor(**mlp)),
]


def ours(rounds):
    command = ["cargo", "bench", "-q", "--bench", "estimators", "--", str(rounds)]
    out = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in out.splitlines()]
    return {(case, data): (float(ms), float(score)) for case, data, ms, score in lines}


def theirs(rounds, exact):
    found = {}
    for case, data, model in cases:
        if exact:
            if "mlp" in case or not hasattr(model, "tol") or case in ("linear", "ridge"):
                continue
            model = sklearn.base.clone(model).set_params(tol=1e-10 if case in ("logistic", "softmax", "poisson") else 1e-12)
        table = np.loadtxt(root / f"datasets/{data}/{data}.csv", delimiter=",", skiprows=1)
        x, y = StandardScaler().fit_transform(table[:, :-1]), table[:, -1]
        if case == "mlp_regressor":
            y = (y - y.mean()) / y.std()  # as ours does by itself
        slow = case.startswith("mlp") or data == "digits"
        times = []
        for _ in range(max(rounds // 10, 2) if slow else rounds):
            start = time.perf_counter()
            model.fit(x, y)
            times.append(time.perf_counter() - start)
        found[case, data] = (min(times) * 1e3, model.score(x, y))
    return found


best = [{}, {}, {}]
runs = (ours, lambda rounds: theirs(rounds, False), lambda rounds: theirs(rounds, True))
for _ in range(3):
    for least, run in zip(best, runs):
        for key, (ms, score) in run(20).items():
            least[key] = (min(ms, least.get(key, (ms,))[0]), score)
print("| fit of | data | gradtape ms | scikit-learn ms | ratio | to equal digits ms | ratio | score, ours | theirs |")
print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
for key, (ms, score) in best[0].items():
    their_ms, their_score = best[1][key]
    exact = best[2].get(key, (None,))[0]
    equal = f"{exact:.3g} | {ms / exact:.2f}" if exact else "|"
    name = " | ".join(key)
    print(f"| {name} | {ms:.3g} | {their_ms:.3g} | {ms / their_ms:.2f} | {equal} | {score:.4f} | {their_score:.4f} |")
