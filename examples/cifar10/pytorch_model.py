"""Loads a model file in PyTorch's layout, as `cifar10 export MODEL --safetensors FILE` writes it, into PyTorch.

    import pytorch_model
    module, metadata = pytorch_model.load("model.safetensors")

    pytorch_model.py MODEL.safetensors        prints the module
"""

import json
import math
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


ACTIVATIONS = {"identity": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh,
               "selu": nn.SELU}


class ChannelsLast(nn.Module):
    """A layer on the last axis in meristem, which is the second one in PyTorch."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if x.dim() == 4 else super().forward(x)


class Linear(ChannelsLast, nn.Linear):
    pass


class LayerNorm(ChannelsLast, nn.LayerNorm):
    pass


class BatchNorm(nn.BatchNorm2d):
    """For maps and for vectors, with its activation."""

    def __init__(self, channels, epsilon, function):
        super().__init__(channels, eps=epsilon)
        self.function = function

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        return self.function(super().forward(x))


class Sequential(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.order = [layer["name"] for layer in layers]
        for layer in layers:
            self.add_module(layer["name"], module_of(layer))

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x


class Residual(Sequential):
    def __init__(self, layer):
        super().__init__(layer["body"])
        # A last norm with the activation of the block has it behind the addition, else before.
        last = layer["body"][-1] if layer["body"] else {"kind": ""}
        if last["kind"] == "BatchNorm" and last["activation"] == layer["activation"]:
            getattr(self, last["name"]).function = nn.Identity()
        self.shortcut = Sequential(layer["shortcut"])
        self.function = ACTIVATIONS[layer["activation"]]()

    def forward(self, x):
        return self.function(super().forward(x) + self.shortcut(x))


class Concatenate(Sequential):
    def forward(self, x):
        return torch.cat([getattr(self, name)(x) for name in self.order], dim=1)


class Slice(nn.Module):
    """Some of the numbers of each row; maps have their channels last there."""

    def __init__(self, first, shape):
        super().__init__()
        self.first, self.shape = first, shape

    def forward(self, x):
        x = x[:, self.first:self.first + math.prod(self.shape)].reshape(-1, *self.shape)
        return x.permute(0, 3, 1, 2) if len(self.shape) == 3 else x


def module_of(layer):
    """The module for one layer of an architecture; the whole is a Sequential."""
    kind = layer["kind"]
    window = {option: tuple(layer[field])
              for option, field in (("kernel_size", "kernel"), ("stride", "stride"), ("padding", "padding"),
                                    ("dilation", "dilation")) if field in layer}
    if kind == "Sequential":
        return Sequential(layer["layers"])
    if kind == "Residual":
        return Residual(layer)
    if kind == "Concatenate":
        return Concatenate(layer["branches"])
    if kind == "Conv2d":
        return nn.Conv2d(layer["in_channels"], layer["out_channels"], **window, bias=layer["bias"])
    if kind == "Linear":
        return Linear(layer["in_features"], layer["out_features"], bias=layer["bias"])
    if kind == "BatchNorm":
        return BatchNorm(layer["channels"], layer["epsilon"], ACTIVATIONS[layer["activation"]]())
    if kind == "GroupNorm":
        return nn.GroupNorm(layer["groups"], layer["channels"], eps=layer["epsilon"])
    if kind == "LayerNorm":
        return LayerNorm(layer["channels"], eps=layer["epsilon"])
    if kind == "MaxPool2d":
        return nn.MaxPool2d(**window)
    if kind == "AveragePool2d":
        if window.pop("dilation") != (1, 1):
            raise NotImplementedError(f"{layer['name']}: PyTorch has no dilated average pooling")
        return nn.AvgPool2d(**window, count_include_pad=False)
    if kind == "GlobalAveragePool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if kind == "Slice":
        return Slice(layer["first"], layer["shape"])
    if kind == "Flatten":
        return nn.Flatten()
    if kind == "Dropout":
        return nn.Dropout(layer["probability"])
    if kind == "Activation":
        return ACTIVATIONS[layer["function"]]()
    raise NotImplementedError(f"{layer['name']}: there is no PyTorch module for the kind {kind} here; add one")


def load(path):
    """The module in evaluation mode, which takes float32 images of shape (batch, channels, height, width), and what the
    file holds besides as strings, such as class_names and normalization (JSON) and history (lines of JSON)."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("layout") != "pytorch":
        raise ValueError(f"{path}: has no layout of PyTorch's; export it with --layout pytorch")
    module = module_of(json.loads(metadata["architecture"]))
    result = module.load_state_dict(load_file(path), strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise ValueError(f"{path}: lacks {missing} and has {result.unexpected_keys}, which are not in the network")
    return module.eval(), metadata


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    loaded, strings = load(sys.argv[1])
    print(loaded)
    print("reads", strings["sample"], "normalised by", strings["normalization"])
    print("tells", strings["class_names"])
