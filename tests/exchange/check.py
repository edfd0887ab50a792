"""Reads with other people's libraries what meristem wrote, and writes for it: check.py npy|safetensors|torch|onnx
FOLDER EXPORTER. Ends with "skipped: ..." where a library is missing."""

import json
import pathlib
import subprocess
import sys

try:
    import numpy as np
except ModuleNotFoundError:
    print("skipped: Python has no numpy; install it to run this check")
    sys.exit(0)

# In units of the largest logit: float32 rounds to 6e-8, and sums of up to 600 products in another order, through twenty
# layers, differ by about sqrt(600 * 20) of that.
TOLERANCE = 1e-5


def main():
    what, folder, exporter = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    try:
        {"npy": check_npy, "safetensors": check_safetensors, "torch": check_torch, "onnx": check_onnx}[what](
            folder, exporter)
    except ModuleNotFoundError as error:
        print(f"skipped: Python has no {error.name}; install it to run this check")


def names(folder):
    found = sorted(path.name[:-len(".onnx")] for path in folder.glob("*.onnx"))
    assert "grown" in found and "every_layer" in found, found
    return found


def compare(name, got, folder, what):
    """Prints and bounds the largest difference between logits."""
    wanted = np.load(folder / f"{name}.logits.npy")
    assert got.shape == wanted.shape and got.dtype == wanted.dtype, (name, got.shape, wanted.shape, got.dtype)
    largest, scale = float(np.abs(got - wanted).max()), float(np.abs(wanted).max())
    assert scale > 1e-3, f"{name}: logits are all next to 0, which compares nothing"
    print(f"{name}: {what}: {len(wanted)} inputs, largest logit {scale:.4g}, largest difference {largest:.3g}")
    assert largest <= TOLERANCE * scale, f"{name}: {what} differs from meristem by {largest}"


def channels_first(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if images.ndim == 4 else images


# .npy


def check_npy(folder, exporter):
    folder = folder / "npy"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(1)
    arrays = {}
    for version in (1, 2, 3):
        for kind in ("f4", "f8", "i4", "i8", "u1"):
            array = (random.normal(size=(3, 1, 5)) * 100).astype(kind)
            arrays[f"{kind}_{version}"] = array
            with open(folder / f"{kind}_{version}.npy", "wb") as file:
                np.lib.format.write_array(file, array, version=(version, 0))
    good = {"scalar": np.float32(2.5), "empty": np.zeros((4, 0, 2), "f4"), "vector": np.arange(7, dtype="f4")}
    bad = {"fortran": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
           "big_endian": np.arange(6, dtype=">f4"),
           "complex": np.arange(6, dtype="c8"),
           "structure": np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])}
    for name, array in {**good, **bad}.items():
        np.save(folder / f"{name}.npy", array)
    output = subprocess.run([exporter, "npy", str(folder)], check=True, capture_output=True, text=True).stdout
    for name, array in {**arrays, **good}.items():
        back = np.load(folder / f"{name}.back.npy")
        assert back.dtype == array.dtype and back.shape == array.shape and (back == array).all(), name
    for name, words in {"fortran": "Fortran order", "big_endian": "'>f4'", "complex": "'<c8'", "structure": "structures",
                        "f8_1": "'<f8'"}.items():
        line = next(line for line in output.splitlines() if line.startswith(name + ": "))
        assert f"{name}.npy" in line and words in line, line
    print(f"{len(arrays) + len(good)} arrays from NumPy {np.__version__} came back the same, {len(bad) + 1} were refused")


# safetensors


def check_safetensors(folder, exporter):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    for name in names(folder):
        for layout in ("", ".pytorch"):
            path = folder / f"{name}{layout}.safetensors"
            tensors = load_file(path)
            with safe_open(path, framework="np") as file:
                metadata = file.metadata()
            assert metadata["meristem.format"] == "meristem-model" and json.loads(metadata["architecture"])["layers"]
            if name == "grown":
                assert json.loads(metadata["history"])["units"] > 0, "the network has not grown"
                assert len(json.loads(metadata["class_names"])) == 10
            save_file(tensors, folder / f"{name}{layout}.again.safetensors", metadata)
    subprocess.run([exporter, "again", str(folder)], check=True)
    for name in names(folder):
        for layout in ("", ".pytorch"):
            again = np.load(folder / f"{name}{layout}.again.logits.npy")
            wanted = np.load(folder / f"{name}.logits.npy")
            assert (again == wanted).all(), f"{name}{layout}: logits change when the official library saves the file"
    print(f"{len(names(folder))} networks in two layouts: read and saved by safetensors, same logits to the last bit")


# PyTorch: the equivalent module, from the architecture in the file.


def torch_module(layer):
    import torch
    from torch import nn

    activations = {"identity": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh,
                   "selu": nn.SELU}

    def activation(name):
        return activations[name]()

    class ChannelsLast(nn.Module):
        """A layer on the last axis here, which is the second one there."""

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
                self.add_module(layer["name"], torch_module(layer))

        def forward(self, x):
            for name in self.order:
                x = getattr(self, name)(x)
            return x

    class Residual(Sequential):
        def __init__(self, layer):
            super().__init__(layer["body"])
            # A last norm with the activation of the block has it behind the addition, else before.
            last = layer["body"][-1]
            if last["kind"] == "BatchNorm" and last["activation"] == layer["activation"]:
                getattr(self, last["name"]).function = nn.Identity()
            self.shortcut = Sequential(layer["shortcut"])
            self.function = activation(layer["activation"])

        def forward(self, x):
            return self.function(super().forward(x) + self.shortcut(x))

    def window():
        return {"kernel_size": tuple(layer["kernel"]), "stride": tuple(layer["stride"]),
                "padding": tuple(layer["padding"])}

    kind = layer["kind"]
    if kind == "Sequential":
        return Sequential(layer["layers"])
    if kind == "Residual":
        return Residual(layer)
    if kind == "Conv2d":
        return nn.Conv2d(layer["in_channels"], layer["out_channels"], **window(), dilation=tuple(layer["dilation"]),
                         bias=layer["bias"])
    if kind == "Linear":
        return Linear(layer["in_features"], layer["out_features"], bias=layer["bias"])
    if kind == "BatchNorm":
        return BatchNorm(layer["channels"], layer["epsilon"], activation(layer["activation"]))
    if kind == "GroupNorm":
        return nn.GroupNorm(layer["groups"], layer["channels"], eps=layer["epsilon"])
    if kind == "LayerNorm":
        return LayerNorm(layer["channels"], eps=layer["epsilon"])
    if kind == "MaxPool2d":
        return nn.MaxPool2d(**window(), dilation=tuple(layer["dilation"]))
    if kind == "AveragePool2d":
        if layer["dilation"] != [1, 1]:
            return None
        return nn.AvgPool2d(**window(), count_include_pad=False)
    if kind == "GlobalAveragePool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if kind == "Flatten":
        return nn.Flatten()
    if kind == "Dropout":
        return nn.Dropout(layer["probability"])
    if kind == "Activation":
        return activation(layer["function"])
    raise AssertionError(f"no PyTorch module for {kind}")


def check_torch(folder, exporter):
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    checked = 0
    for name in names(folder):
        path = folder / f"{name}.pytorch.safetensors"
        with safe_open(path, framework="np") as file:
            architecture = json.loads(file.metadata()["architecture"])
        module = torch_module(architecture)
        if None in module._modules.values():
            print(f"{name}: PyTorch has no dilated average pooling; left out")
            continue
        missing = module.load_state_dict(load_file(path), strict=False)
        assert not missing.unexpected_keys, missing
        assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys), missing
        module.eval()
        with torch.no_grad():
            logits = module(torch.from_numpy(channels_first(np.load(folder / f"{name}.input.npy"))))
        compare(name, logits.numpy(), folder, f"PyTorch {torch.__version__}")
        checked += 1
    assert checked >= 5, checked


# ONNX


def check_onnx(folder, exporter):
    import onnx
    import onnxruntime

    for name in names(folder):
        path = folder / f"{name}.onnx"
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        images = channels_first(np.load(folder / f"{name}.input.npy"))
        # In two parts, as the batch is open.
        parts = [session.run(["output"], {"input": part})[0] for part in (images[:1], images[1:])]
        compare(name, np.concatenate(parts), folder, f"onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
