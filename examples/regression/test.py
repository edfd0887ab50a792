#!/usr/bin/env python3
"""test.py <regression> friedman|diabetes: what the program reaches on a problem with known noise, or on scikit-learn's
diabetes data beside linear regression."""
import csv
import math
import random
import re
import subprocess
import sys
import tempfile

program, data = sys.argv[1:]


def run(folder, inputs, targets):
    """R² on the test rows."""
    path = f"{folder}/{data}.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([f"x{i}" for i in range(len(inputs[0]))] + ["target"])
        rows.writerows([*map(repr, map(float, x)), repr(float(y))] for x, y in zip(inputs, targets))
    out = subprocess.run([program, path, "target"], check=True, capture_output=True, text=True).stdout
    return float(re.findall(r"R² (-?[\d.e+-]+)", out)[-1])


def friedman(folder):
    """J. Friedman, "Multivariate adaptive regression splines" (1991): five inputs of ten count."""
    random.seed(1)
    inputs = [[random.random() for _ in range(10)] for _ in range(2000)]
    targets = [
        10 * math.sin(math.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4] + random.gauss(0, 1)
        for x in inputs
    ]
    found = run(folder, inputs, targets)
    print(f"R² {found:.3f}")
    # The variance of the function is 24, that of the noise 1; a plane explains three quarters.
    assert found > 0.9

    # A wrong column ends in a sentence, not in a trace.
    wrong = subprocess.run([program, f"{folder}/friedman.csv", "price"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "there is no column 'price'" in wrong.stderr, wrong


def diabetes(folder):
    try:
        from sklearn.datasets import load_diabetes
        from sklearn.linear_model import LinearRegression
        from sklearn.model_selection import cross_val_score
    except ImportError as error:
        print(f"skipped: {error}; install python3-sklearn")
        return
    inputs, targets = load_diabetes(return_X_y=True)
    found = run(folder, inputs, targets)
    linear = cross_val_score(LinearRegression(), inputs, targets, cv=5).mean()
    print(f"R² {found:.3f}, linear regression {linear:.3f}")
    # 88 test rows: R² of the same model scatters by 0.05 from split to split.
    assert found > linear - 0.05


with tempfile.TemporaryDirectory() as folder:
    {"friedman": friedman, "diabetes": diabetes}[data](folder)
