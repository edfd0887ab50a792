"""Reads with other people's libraries what meristem wrote, and writes for it: check.py npy|safetensors|torch|onnx
FOLDER EXPORTER. Ends with "skipped: ..." where a library is missing."""

import json
import pathlib
import subprocess
import sys

# Beside the main program, for its users.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "cifar10"))

try:
    import numpy as np
except ModuleNotFoundError:
    print("skipped: Python has no numpy; install it to run this check")
    sys.exit(0)

# In units of the largest logit: float32 rounds to 6e-8, and sums of up to 600 products in another order, through twenty
# layers, or of 3,072 through three, differ by about sqrt(600 * 20) of that.
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
    assert "every_layer" in found, found
    checkpoints = [path.name[:-len(".checkpoint")] for path in folder.glob("*.checkpoint")]
    assert set(checkpoints) <= set(found), (checkpoints, found)
    return found


def inputs(folder, name, normalization):
    """What the network `name` is asked: of one that the main program grew, pixels, as users have them."""
    pixels = folder / f"{name}.pixels.npy"
    if not pixels.exists():
        return channels_first(np.load(folder / f"{name}.input.npy"))
    mean, stddev = (np.array(normalization[key]) for key in ("mean", "stddev"))
    return channels_first(((np.load(pixels) / 255 - mean) / stddev).astype("f4"))


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
            if name.startswith("grown"):
                steps = [json.loads(line) for line in metadata["history"].splitlines()]
                assert sum(step["added"] for step in steps) > 0, f"{name} has not grown"
                assert len(json.loads(metadata["class_names"])) == 10
                assert json.loads(metadata["sample"]) == [32, 32, 3] and "seed 1" in metadata["note.training"]
            save_file(tensors, folder / f"{name}{layout}.again.safetensors", metadata)
    subprocess.run([exporter, "again", str(folder)], check=True)
    for name in names(folder):
        for layout in ("", ".pytorch"):
            again = np.load(folder / f"{name}{layout}.again.logits.npy")
            wanted = np.load(folder / f"{name}.logits.npy")
            assert (again == wanted).all(), f"{name}{layout}: logits change when the official library saves the file"
    print(f"{len(names(folder))} networks in two layouts: read and saved by safetensors, same logits to the last bit")


# PyTorch


def check_torch(folder, exporter):
    import pytorch_model
    import torch

    checked = 0
    for name in names(folder):
        try:
            module, metadata = pytorch_model.load(folder / f"{name}.pytorch.safetensors")
        except NotImplementedError as error:
            print(f"{name}: {error}; left out")
            continue
        with torch.no_grad():
            logits = module(torch.from_numpy(inputs(folder, name, json.loads(metadata["normalization"]))))
        compare(name, logits.numpy(), folder, f"PyTorch {torch.__version__}")
        checked += 1
    assert checked == len(names(folder)) - 1, checked


# ONNX


def check_onnx(folder, exporter):
    import onnx
    import onnxruntime

    for name in names(folder):
        path = folder / f"{name}.onnx"
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        notes = {entry.key: entry.value for entry in model.metadata_props}
        images = inputs(folder, name, json.loads(notes["normalization"]))
        # In two parts, as the batch is open.
        parts = [session.run(["output"], {"input": part})[0] for part in (images[:1], images[1:])]
        compare(name, np.concatenate(parts), folder, f"onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
