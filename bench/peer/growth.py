#!/usr/bin/env python3
"""gromo's statistics and solution on the shapes of bench_conv_statistics, bench_covariance and bench_solver.

Variant `gromo` calls the installed package (pip install gromo): compute_s_update, compute_s_growth_update,
compute_m_prev_update and compute_cross_covariance_update of FullConv2dGrowingModule, compute_optimal_added_parameters.
Where it is not installed, variant `formulation` states the same algorithm in PyTorch: unfold and einsum over patches, the
mask tensor T as a dense array, eigh and svd. The set is S, S1, M_prev and P, from which gromo forms N by one small
product; the rows of meristem gather S, S1 and N.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from typing import Any

import torch
from torch.nn import functional

from measure import Bench

try:
    from gromo.modules.conv2d_growing_module import Conv2dGrowingModule, FullConv2dGrowingModule
    from gromo.utils.tools import compute_optimal_added_parameters
    HAS_GROMO = True
except ImportError:
    HAS_GROMO = False


class Pair:
    """Two 3x3 convolutions of c channels on maps of side h, n samples, after forward and backward."""

    def __init__(self, n: int, c: int, h: int, device: torch.device) -> None:
        self.x = torch.randn(n, c, h, h, device=device)
        self.goal = torch.randn(n, c, h, h, device=device)
        self.hidden = torch.randn(n, c, h, h, device=device)
        self.h = h
        if HAS_GROMO:
            common: dict[str, Any] = {"kernel_size": 3, "padding": 1, "input_size": (h, h), "device": device}
            first = Conv2dGrowingModule(c, c, **common)
            self.second = FullConv2dGrowingModule(c, c, previous_module=first, allow_growing=True, **common)
            self.second.init_computation()
            self.second(first(self.x)).backward(self.goal)
            self.second.mask_tensor_t  # noqa: B018: built at the first use and kept

    def s(self) -> Any:
        """S of the second convolution's input."""
        if HAS_GROMO:
            return self.second.compute_s_update()
        patches = self._patches(self.hidden)
        return torch.einsum("iam, ibm -> ab", patches, patches)

    def full_set(self) -> None:
        """S, S1, M_prev and P."""
        if HAS_GROMO:
            self.second.compute_s_growth_update()
            self.second.compute_s_update()
            self.second.compute_m_prev_update()
            self.second.compute_cross_covariance_update()
            return
        mask = self._mask()
        masked = torch.einsum("ial, jel -> ijea", self._patches(self.x), mask)
        torch.einsum("ijea, ijeb -> ab", masked, masked)
        self.s()
        torch.einsum("ixab, icx -> bca", masked, self.goal.flatten(-2))
        torch.einsum("ixab, iex -> abe", masked, self._patches(self.hidden))

    @staticmethod
    def _patches(x: torch.Tensor) -> torch.Tensor:
        patches = functional.unfold(x, 3, padding=1)
        return torch.cat([patches, torch.ones_like(patches[:, :1])], 1)

    def _mask(self) -> torch.Tensor:
        positions = torch.arange(1.0, self.h**2 + 1, device=self.x.device).reshape(1, 1, self.h, self.h)
        read = functional.unfold(positions, 3, padding=1)[0].t()  # (HW, 9): the position read, from 1, 0 outside
        mask = torch.zeros(self.h**2, 9, self.h**2 + 1, device=self.x.device)
        return mask.scatter_(2, read.long()[..., None], 1.0)[..., 1:]


def formulation_units(s: torch.Tensor, n: torch.Tensor, units: int) -> Any:
    """S^{-1/2} by eigh with a threshold of 1e-6, svd of S^{-1/2} N."""
    values, vectors = torch.linalg.eigh(s)
    kept = values > 1e-6
    root = vectors[:, kept] @ torch.diag(torch.rsqrt(values[kept])) @ vectors[:, kept].t()
    u, sigma, v = torch.linalg.svd(root @ n, full_matrices=False)
    scale = torch.sqrt(sigma[:units])
    return (scale * (root @ u[:, :units])).t(), scale[:, None] * v[:units]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--filter", default=".")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    variant = "gromo" if HAS_GROMO else "formulation"
    if not HAS_GROMO:
        print("  gromo is not installed (pip install gromo): its algorithm is restated in PyTorch", file=sys.stderr)
    pattern = re.compile(options.filter)
    bench = Bench("gromo" if HAS_GROMO else "gromo's formulation in PyTorch", options.device, options.quick,
                  lambda name: bool(pattern.search(name)))
    shapes = [(128, 64, 32)] if options.quick else [(128, 64, 32), (128, 128, 16), (128, 256, 8), (128, 512, 4)]
    for n, c, h in shapes:
        name = f"statistics/S1_offsets/n:{n}/c:{c}/h:{h}"
        if bench.wanted(name):
            pair = Pair(n, c, h, bench.device)
            bench.row(name, variant, pair.s)
            del pair
    name = "statistics/set_full_offsets/n:8/c:64/h:32"
    if bench.wanted(name):
        pair = Pair(8, 64, 32, bench.device)
        bench.row(name, variant, pair.full_set)
        del pair
    for n, p in ((1024, 3072), (8192, 256), (32768, 64)):
        x = torch.cat([torch.randn(n, p, device=bench.device), torch.ones(n, 1, device=bench.device)], 1)
        # What LinearGrowingModule.compute_s_update evaluates.
        bench.row(f"covariance/blas/n:{n}/p:{p}", variant, lambda: torch.einsum("ij,ik->jk", x, x))
    for p in (577, 1153) if options.quick else (288, 577, 1153, 2305):
        x = torch.randn(4 * p, p, device=bench.device) + 0.5
        low_rank = x @ torch.randn(p, 32, device=bench.device) @ torch.randn(32, p, device=bench.device) / p**0.5
        s, cross = x.t() @ x / (4 * p), x.t() @ (low_rank + torch.randn(4 * p, p, device=bench.device)) / (4 * p)
        s = (s + s.t()) / 2
        if HAS_GROMO:
            bench.row(f"new_units/cholesky/p:{p}", variant,
                      lambda: compute_optimal_added_parameters(s, cross, maximum_added_neurons=64))
        else:
            bench.row(f"new_units/cholesky/p:{p}", variant, lambda: formulation_units(s, cross, 64))
    bench.write(options.out, " ".join(sys.argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
