#!/usr/bin/env python3
"""test.py <regression>: what the program reaches on scikit-learn's data, beside linear regression."""
import csv
import re
import subprocess
import sys
import tempfile

try:
    from sklearn.datasets import load_diabetes, make_friedman1
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import cross_val_score
except ImportError as error:
    print(f"skipped: {error}; install python3-sklearn")
    sys.exit(0)

program = sys.argv[1]


def run(folder, name, inputs, targets):
    path = f"{folder}/{name}.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([f"x{i}" for i in range(inputs.shape[1])] + ["target"])
        rows.writerows([*map(repr, map(float, x)), repr(float(y))] for x, y in zip(inputs, targets))
    out = subprocess.run([program, path, "target"], check=True, capture_output=True, text=True).stdout
    found = float(re.findall(r"R² (-?[\d.e+-]+)", out)[-1])
    linear = cross_val_score(LinearRegression(), inputs, targets, cv=5).mean()
    print(f"{name}: R² {found:.3f}, linear regression {linear:.3f}")
    return found, linear


with tempfile.TemporaryDirectory() as folder:
    diabetes = load_diabetes()
    found, linear = run(folder, "diabetes", diabetes.data, diabetes.target)
    # 88 test rows: R² of the same model scatters by 0.05 from split to split.
    assert found > linear - 0.05
    # The variance of the function is 24, that of the noise 1.
    found, linear = run(folder, "friedman", *make_friedman1(2000, noise=1.0, random_state=1))
    assert found > 0.9 > linear + 0.1

    # A wrong column ends in a sentence, not in a trace.
    wrong = subprocess.run([program, f"{folder}/friedman.csv", "price"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "there is no column 'price'" in wrong.stderr, wrong
