#!/usr/bin/env python3
"""PyTorch on the shapes of bench_train_step, bench_layers and bench_covariance, rows by the same names.

Variants: eager, channels_last, compile (torch.compile, channels_last) and on the GPU amp (autocast to bfloat16 with
channels_last, a different arithmetic than float32) and amp_compile. float32 products are full precision but in tf32, what
PyTorch does to convolutions unless told otherwise (channels_last).
"""

from __future__ import annotations

import argparse
import re
import sys

import torch
from torch import nn
from torch.nn import functional

from measure import Bench

BATCH = 128


class Block(nn.Module):
    """conv, norm, relu, conv, norm, addition, relu; a 1x1 projection where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if stride == 1 and inputs == width else nn.Sequential(
            nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


def resnet18_strided(channels: int) -> nn.Module:
    """The network of meristem::models::resnet18_strided."""
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    inputs = channels
    for stage in range(4):
        width = channels << stage
        layers += [Block(inputs, width, 1 if stage == 0 else 2), Block(width, width, 1)]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def mlp() -> nn.Module:
    """3072-64-64-10 with ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def train_step(bench: Bench, name: str, make: object, variants: list[str], maps: bool, batch: int = BATCH) -> None:
    """One step of SGD with momentum: forward, loss, backward, update."""
    if not bench.wanted(name):
        return
    for variant in variants:
        torch.manual_seed(1)
        network = make().to(bench.device)
        images = torch.randn(batch, 3, 32, 32, device=bench.device)
        labels = torch.arange(batch, device=bench.device) % 10
        parameters = sum(p.numel() for p in network.parameters())
        if variant != "eager" and maps:
            network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
        called = torch.compile(network) if "compile" in variant else network
        amp = variant.startswith("amp")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant == "tf32"

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=amp):
                loss = functional.cross_entropy(called(images), labels)
            loss.backward()
            optimizer.step()

        bench.row(name, variant, step, parameters=parameters)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def layers(bench: Bench, variants: list[str]) -> None:
    """Forward in training mode, and backward alone with the gradient at the input."""
    maps, rows = (128, 64, 32, 32), (8192, 256)
    cases: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "linear": (nn.Linear(256, 256), rows), "conv3x3": (nn.Conv2d(64, 64, 3, padding=1), maps),
        "batch_norm": (nn.BatchNorm2d(64), maps),
        "batch_norm_relu": (nn.Sequential(nn.BatchNorm2d(64), nn.ReLU()), maps),
        "group_norm": (nn.GroupNorm(8, 64), maps), "layer_norm": (nn.LayerNorm(256), rows), "relu": (nn.ReLU(), maps),
        "gelu": (nn.GELU(), maps), "silu": (nn.SiLU(), maps), "tanh": (nn.Tanh(), maps), "selu": (nn.SELU(), maps),
        "dropout": (nn.Dropout(0.5), maps), "max_pool": (nn.MaxPool2d(2), maps), "average_pool": (nn.AvgPool2d(2), maps),
        "global_pool": (nn.AdaptiveAvgPool2d(1), maps)}
    for name, (layer, shape) in cases.items():
        for variant in variants:
            layer = layer.to(bench.device)
            x = torch.randn(shape, device=bench.device)
            if variant == "channels_last":
                if shape is not maps:
                    continue
                x, layer = x.to(memory_format=torch.channels_last), layer.to(memory_format=torch.channels_last)
            x.requires_grad_(True)
            bench.row(f"layers/{name}/forward", variant, lambda: layer(x))
            y = layer(x)
            gradient = torch.randn_like(y)

            def backward() -> None:
                torch.autograd.grad(y, [x, *layer.parameters()], gradient, retain_graph=True)

            bench.row(f"layers/{name}/backward", variant, backward)
    logits = torch.randn(8192, 10, device=bench.device, requires_grad=True)
    labels = torch.arange(8192, device=bench.device) % 10
    target = torch.randn(8192, 10, device=bench.device)
    bench.row("layers/cross_entropy", "eager",
              lambda: torch.autograd.grad(functional.cross_entropy(logits, labels), logits))
    bench.row("layers/squared_error", "eager", lambda: torch.autograd.grad(functional.mse_loss(logits, target), logits))


def products(bench: Bench) -> None:
    """Matrix products and covariances as a single call."""
    a, b = torch.randn(1024, 1024, device=bench.device), torch.randn(1024, 1024, device=bench.device)
    bench.row("gemm/float32/m:1024/k:1024/n:1024", "eager", lambda: torch.mm(a, b))
    for n, p in ((1024, 3072), (8192, 256), (32768, 64)):
        x = torch.cat([torch.randn(n, p, device=bench.device), torch.ones(n, 1, device=bench.device)], 1)
        total = torch.zeros(p + 1, p + 1, device=bench.device)
        bench.row(f"covariance/blas/n:{n}/p:{p}", "eager", lambda: total.addmm_(x.t(), x))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--filter", default=".")
    options = parser.parse_args()
    pattern = re.compile(options.filter)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    bench = Bench(f"PyTorch {torch.__version__}", options.device, options.quick, lambda name: bool(pattern.search(name)))
    can_compile = hasattr(torch, "compile")
    if not can_compile:
        print("  no torch.compile before PyTorch 2: its columns stay empty", file=sys.stderr)
    gpu = bench.device.type == "cuda"
    variants = ["eager", "channels_last"] + ["compile"] * can_compile
    if gpu:
        variants += ["tf32", "amp"] + ["amp_compile"] * can_compile
    train_step(bench, "train_step/mlp", mlp, [v for v in variants if v != "channels_last"], False)
    train_step(bench, "train_step/resnet18_strided/channels:16", lambda: resnet18_strided(16), variants, True)
    # Compiling takes minutes on few cores and a step of this size runs in the same convolutions.
    wide = [v for v in variants if gpu or not options.quick or v != "compile"]
    train_step(bench, "train_step/resnet18_strided/channels:64", lambda: resnet18_strided(64), wide, True)
    if gpu:
        train_step(bench, "train_step/resnet18_strided/channels:64/batch:1024", lambda: resnet18_strided(64), variants, True,
                   1024)
    products(bench)
    layers(bench, ["eager", "channels_last"])
    bench.write(options.out, " ".join(sys.argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
