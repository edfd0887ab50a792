#!/usr/bin/env python3
"""Compiles hot_kernels.cpp with nvcc and checks what ptxas reports: registers, shared memory, spills, local memory; and
how many accesses of 16 bytes the PTX of the hot kernels has.

check_resources.py NVCC ARCHITECTURE REPOSITORY. Needs no GPU. Fails if a kernel of the lists below is missing, if any
kernel of the file spills registers or keeps variables in local memory, or if a vector access was lost.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# What training and growth spend their time in, by name, with a limit on registers some way above what they take. Blocks
# resident on a multiprocessor are at most 65536 over registers times threads, so more registers hide less latency.
HOT = [
    ("convolution, forward", r"implicit_gemm_forward_kernel<float", 128),
    ("convolution, gradients", r"implicit_gemm_backward_kernel<float", 128),
    ("covariance and cross covariance", r"row_product_kernel<float", 128),
    ("offset products (patch statistics)", r"offset_products_kernel<float", 168),
    ("sums over channels", r"sum_channel_chunks<", 64),
    ("sums over columns", r"sum_columns<float", 64),
    ("sums of all elements", r"reduce_segments<", 64),
    ("batch normalisation", r"NormalizeChannels<float, kernels::detail::Relu, false, 4>", 64),
    ("batch normalisation, backward", r"BatchNormBackwardChannels<float, true, false, 4>", 64),
    ("layer normalisation", r"layer_norm_rows<float>", 72),
    ("layer normalisation, backward", r"layer_norm_backward_rows<float>", 72),
    ("softmax and cross-entropy", r"softmax_cross_entropy_rows<float", 80),
    ("pooling", r"pool_positions<", 80),
    ("max pooling 2x2", r"QuadForward<kernels::detail::MaxOfQuad<float>, float, 4>", 64),
    ("relu", r"MapPacks<kernels::detail::ActivationForward<kernels::detail::Relu>, float", 64),
    ("gelu", r"MapPacks<kernels::detail::ActivationForward<kernels::detail::Gelu>, float", 64),
    ("dropout", r"DropoutGroup<float, 4>", 64),
    ("SGD with momentum", r"step_chunks<.*MomentumSgd<float>", 64),
    ("AdamW", r"optimizer_detail::AdamW<float>", 64),
]

# Accesses of 16 bytes in the code of a kernel: from and to global memory, asynchronous copies included, and from shared
# memory. Fewer say that the compiler lost sight of alignment or contiguity, and cost a kernel a multiple of its time.
WIDE = [
    ("convolution, forward, large tile", r"implicit_gemm_forward_kernel<float, .*Tile<128, 64, 8, 4>", (6, 8, 26)),
    ("convolution, forward, medium tile", r"implicit_gemm_forward_kernel<float, .*Tile<64, 32, 4, 4>", (6, 4, 24)),
    ("convolution, gradients", r"implicit_gemm_backward_kernel<float", (109, 25, 160)),
    ("covariance and cross covariance", r"row_product_kernel<float", (2, 0, 8)),
    ("offset products (patch statistics)", r"offset_products_kernel<float", (24, 20, 73)),
    ("batch normalisation", r"for_each_in_columns<.*NormalizeChannels<float, kernels::detail::\w+, false, 4>", (5, 1, 0)),
    ("batch normalisation, added", r"for_each_in_columns<.*NormalizeChannels<float, kernels::detail::\w+, true, 4>", (6, 1, 0)),
    ("batch normalisation, backward", r"BatchNormBackwardChannels<float, true, false, 4>", (7, 1, 0)),
    ("relu", r"MapPacks<kernels::detail::ActivationForward<kernels::detail::Relu>, float", (1, 1, 0)),
    ("relu, backward", r"MapPacks<kernels::detail::ActivationBackward<kernels::detail::Relu>, float", (2, 1, 0)),
    ("sums of tensors", r"MapPacks<kernels::detail::Axpy<float>, float", (2, 1, 0)),
    ("dropout", r"DropoutGroup<float, 4>", (1, 1, 0)),
    ("bias", r"AddBiasPacks<float, 4>", (2, 1, 0)),
    ("max pooling 2x2", r"QuadForward<kernels::detail::MaxOfQuad<float>, float, 4>", (4, 1, 0)),
    ("max pooling 2x2, backward", r"QuadBackward<kernels::detail::MaxOfQuad<float>, float, 4>", (5, 4, 0)),
    ("SGD with momentum", r"step_chunks<.*MomentumSgd<float>", (3, 2, 0)),
    ("AdamW", r"step_chunks<.*AdamW<float>", (4, 3, 0)),
]
ACCESSES = (
    ("loads", re.compile(r"\bld(?:\.global\S*)?\.(?:v4\.\w32|v2\.\w64)\b"
                         r"|\bcp\.async\.\S*\s+\[[^\]]*\], *\[[^\]]*\], *16\b")),
    ("stores", re.compile(r"\bst(?:\.global\S*)?\.(?:v4\.\w32|v2\.\w64)\b")),
    ("of shared memory", re.compile(r"\bld\.shared\S*\.(?:v4\.\w32|v2\.\w64)\b")),
)


@dataclass
class Kernel:
    """What ptxas says of one kernel, in bytes."""

    name: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0


def parse(report: str) -> list[Kernel]:
    """Kernels of a report of ptxas -v."""
    kernels: list[Kernel] = []
    for line in report.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            kernels.append(Kernel(found[1]))
        elif not kernels:
            continue
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels[-1].stack = int(found[1])
            kernels[-1].spills = int(found[2]) + int(found[3])
        elif found := re.search(r"Used (\d+) registers", line):
            kernels[-1].registers = int(found[1])
            if shared := re.search(r"(\d+) bytes smem", line):
                kernels[-1].shared = int(shared[1])
    for kernel, name in zip(kernels, demangled([k.name for k in kernels]), strict=True):
        kernel.name = name
    return kernels


def demangled(names: list[str]) -> list[str]:
    """Names as people write them."""
    run = subprocess.run(["c++filt"], input="\n".join(names), text=True, capture_output=True, check=True)
    return [name.replace("meristem::gpu::", "") for name in run.stdout.splitlines()]


def wide_accesses(ptx: str) -> dict[str, tuple[int, ...]]:
    """How often the code of each kernel has each of ACCESSES."""
    parts = re.split(r"^(?:\.visible |\.weak )?\.entry (\w+)", ptx, flags=re.MULTILINE)
    counts = [tuple(len(pattern.findall(body)) for _, pattern in ACCESSES) for body in parts[2::2]]
    return dict(zip(demangled(parts[1::2]), counts, strict=True))


def lost_accesses(found: dict[str, tuple[int, ...]]) -> list[str]:
    """Sentences; none if all is well."""
    lost = []
    for label, pattern, least in WIDE:
        group = {name: counts for name, counts in found.items() if re.search(pattern, name)}
        if not group:
            lost.append(f"{label}: no kernel matches {pattern}; was it renamed? Mend the list in check_resources.py")
        for name, counts in group.items():
            told = ", ".join(f"{n} {what}" for (what, _), n in zip(ACCESSES, counts))
            print(f"{label}: accesses of 16 bytes: {told}")
            lost += [f"{label}: {n} {what} of 16 bytes, {at_least} there were: {name[:120]}"
                     for (what, _), n, at_least in zip(ACCESSES, counts, least) if n < at_least]
    return lost


def problems(kernels: list[Kernel], hot: list[tuple[str, str, int]]) -> list[str]:
    """Sentences; none if all is well."""
    found = []
    for label, pattern, limit in hot:
        group = [kernel for kernel in kernels if re.search(pattern, kernel.name)]
        if not group:
            found.append(f"{label}: no kernel matches {pattern}; was it renamed? Mend the list in check_resources.py")
        found += [f"{label}: {kernel.registers} registers, more than {limit}: {kernel.name[:120]}"
                  for kernel in group if kernel.registers > limit]
    for kernel in kernels:
        if kernel.registers == 0:
            found.append(f"ptxas reported no registers of {kernel.name[:160]}")
        if kernel.spills or kernel.stack:
            found.append(f"{kernel.spills} bytes spilled, {kernel.stack} bytes of local memory: {kernel.name[:160]}")
    return found


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    nvcc, architecture, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++20", f"-arch=sm_{architecture}", "-DNDEBUG", "-I", str(root / "include"), "-I",
                   str(root / "kernels"), "-x", "cu", "-cubin", "-Xptxas", "-v",
                   "--keep", "--keep-dir", folder, str(root / "tests/resources/hot_kernels.cpp"), "-o",
                   f"{folder}/hot.cubin"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            print(f"nvcc failed:\n{run.stdout}{run.stderr}"[:4000])
            return 1
        ptx = "".join(path.read_text() for path in sorted(Path(folder).glob("*.ptx")))
    kernels = parse(run.stdout + run.stderr)
    print(f"sm_{architecture}: {len(kernels)} kernels; the hot ones, largest number of registers of each")
    print(f"{'':<40} {'kernels':>7} {'registers':>9} {'shared':>7} {'spilled':>7} {'local':>6}")
    for label, pattern, _ in HOT:
        group = [kernel for kernel in kernels if re.search(pattern, kernel.name)]
        if group:
            print(f"{label:<40} {len(group):7} {max(k.registers for k in group):9} {max(k.shared for k in group):7} "
                  f"{max(k.spills for k in group):7} {max(k.stack for k in group):6}")
    found = problems(kernels, HOT) + lost_accesses(wide_accesses(ptx))
    print("\n".join(found) if found else "no kernel spills or uses local memory")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
