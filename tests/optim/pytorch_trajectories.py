"""Trajectories of PyTorch's optimisers, with every option alone and together, for the tests of ours.

  pytorch_trajectories.py           writes pytorch_trajectories.hpp beside this file
  pytorch_trajectories.py --check   computes them anew and compares; prints "skipped: ..." without PyTorch

Weights of 3 elements take 6 steps along fixed gradients, all in double precision. In the cases that grow, 2 more
elements join before step 4 as a parameter of their own, which is what a growth slice is.
"""
import itertools
import pathlib
import re
import sys

try:
    import torch
except ImportError:
    print("skipped: this Python has no PyTorch; set MERISTEM_PYTHON to one that has it")
    sys.exit(0)

STEPS, JOINS = 6, 3
START = [0.5, -1.25, 2.0, 0.75, -0.3]
GRADIENTS = [
    [0.3, -0.02, 1.5, 9.0, 9.0],
    [-0.2, 0.05, 1.1, 9.0, 9.0],
    [0.1, 0.01, -2.5, 9.0, 9.0],
    [0.25, -0.3, 0.4, 0.6, -0.07],
    [0.0, 0.15, 0.8, -0.9, 0.02],
    [-0.6, 0.001, 1e-4, 0.35, 0.4],
]
RATES = [1.0, 0.7, 0.7, 0.2, 1.3, 0.0]


def trajectory(make, rate, changing, grows):
    first = torch.nn.Parameter(torch.tensor(START[:3], dtype=torch.float64))
    parameters = [first]
    optimizer = make(parameters, rate)
    path = []
    for step in range(STEPS):
        if grows and step == JOINS:
            second = torch.nn.Parameter(torch.tensor(START[3:], dtype=torch.float64))
            parameters.append(second)
            optimizer.add_param_group({"params": [second]})
        for group in optimizer.param_groups:
            group["lr"] = rate * (RATES[step] if changing else 1.0)
        first.grad = torch.tensor(GRADIENTS[step][:3], dtype=torch.float64)
        if len(parameters) > 1:
            second.grad = torch.tensor(GRADIENTS[step][3:], dtype=torch.float64)
        optimizer.step()
        for parameter in parameters:
            path += parameter.detach().tolist()
    return path


def cases():
    sgd, adamw = [], []
    for momentum, dampening, decay, nesterov, changing, grows in itertools.product(
            [0.0, 0.9, 1.0], [0.0, 0.5, 1.0], [0.0, 0.05], [False, True], [False, True], [False, True]):
        if nesterov and (momentum == 0.0 or dampening != 0.0):
            continue
        if momentum == 1.0 and (decay != 0.0 or grows):
            continue
        path = trajectory(lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=momentum, dampening=dampening,
                                                        weight_decay=decay, nesterov=nesterov), 0.1, changing, grows)
        sgd.append(([0.1, momentum, dampening, decay, nesterov, changing, grows], path))
    for beta1, beta2, epsilon, decay, changing, grows in itertools.product(
            [0.0, 0.9], [0.0, 0.999], [1e-8, 0.1], [0.0, 0.5], [False, True], [False, True]):
        path = trajectory(lambda p, lr: torch.optim.AdamW(p, lr=lr, betas=(beta1, beta2), eps=epsilon,
                                                          weight_decay=decay), 0.02, changing, grows)
        adamw.append(([0.02, beta1, beta2, epsilon, decay, changing, grows], path))
    return sgd, adamw


def literal(value):
    return ("false", "true")[value] if isinstance(value, bool) else f"{value:.15g}"


def table(kind, rows):
    text = f"const std::vector<{kind}> {kind.lower()}_trajectories = {{\n"
    for options, path in rows:
        numbers = ", ".join(literal(v) for v in path)
        text += f"    {{{', '.join(literal(v) for v in options)}, {{{numbers}}}}},\n"
    return text + "};\n"


def main():
    header = pathlib.Path(__file__).with_suffix(".hpp")
    sgd, adamw = cases()
    if "--check" in sys.argv:
        kept = re.findall(r"[-\d.]+(?:e[-+]?\d+)?(?=[,}])", header.read_text().split("_trajectories = ", 1)[1])
        kept = [float(v) for v in kept]
        now = [float(v) for options, path in sgd + adamw
               for v in [o for o in options if not isinstance(o, bool)] + path]
        if len(kept) != len(now):
            sys.exit(f"{header.name} has {len(kept)} numbers, PyTorch {torch.__version__} gives {len(now)}")
        worst = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(kept, now))
        print(f"{len(now)} numbers, PyTorch {torch.__version__}: {worst:.1e} apart at most")
        sys.exit(0 if worst <= 1e-13 else f"{header.name} differs from PyTorch")
    lists = lambda rows: "{" + ", ".join("{" + ", ".join(literal(v) for v in row) + "}" for row in rows) + "}"
    header.write_text(f"""\
// Trajectories of PyTorch's optimisers, written by pytorch_trajectories.py (PyTorch {torch.__version__.split('+')[0]}).
#pragma once

#include <vector>

// clang-format off
namespace pytorch {{

const std::vector<double> start = {{{", ".join(literal(v) for v in START)}}};
const std::vector<std::vector<double>> gradients = {lists(GRADIENTS)};
/// Factors of the learning rate by step, where it changes.
const std::vector<double> rates = {{{", ".join(literal(v) for v in RATES)}}};
/// Steps before two more elements join, in the cases that grow.
constexpr int joins = {JOINS};

struct Sgd {{
  double learning_rate, momentum, dampening, weight_decay;
  bool nesterov, changing, grows;
  std::vector<double> path;  ///< all elements after each step
}};
struct AdamW {{
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  bool changing, grows;
  std::vector<double> path;
}};

{table("Sgd", sgd)}
{table("AdamW", adamw)}
}}  // namespace pytorch
// clang-format on
""")


main()
