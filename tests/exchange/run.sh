#!/usr/bin/env bash
# run.sh prepare <exporter> <folder> [<main program>]: a virtual environment with the Python libraries, what the exporter
# writes, and networks that the main program trains, grows and exports.
# run.sh <npy|safetensors|torch|onnx> <exporter> <folder>: one of the checks.
# Prints "skipped: ..." where a library cannot be had. MERISTEM_CIFAR10_DATA names a folder with CIFAR-10; without it the
# program sees built-in images. MERISTEM_PYTHON names a Python, else the system's is taken if it has PyTorch.
set -euo pipefail
what=$1
exporter=$2
folder=$3
program=${4:-}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
venv=$folder/venv

# grow <name> <options...>: a run of the main program, its network exported in both layouts, and its logits.
grow() {
  local base=$folder/models/$1
  "$program" "${data[@]}" --images 1000 --batch 50 --significance 0 --seed 1 --checkpoint "$base.checkpoint" "${@:2}"
  "$program" export "$base.checkpoint" --safetensors "$base.pytorch.safetensors" --onnx "$base.onnx"
  "$program" export "$base.checkpoint" --safetensors "$base.safetensors" --layout meristem
  "$exporter" logits "$folder/models" "$1" "${data[@]:1}"
}

prepare() {
  rm -rf "$folder/models"
  mkdir -p "$folder/models"
  "$exporter" write "$folder/models"
  if [[ -n $program ]]; then
    # 1,000 images to train on and 1,000 to test, of 1 + 3 * 32 * 32 bytes each.
    data=()
    if [[ -n ${MERISTEM_CIFAR10_DATA:-} ]]; then
      data=(--data "$folder/cifar")
      mkdir -p "$folder/cifar"
      for batch in 1 2 3 4 5; do
        head -c $((200 * 3073)) "$MERISTEM_CIFAR10_DATA/data_batch_$batch.bin" >"$folder/cifar/data_batch_$batch.bin"
      done
      head -c $((1000 * 3073)) "$MERISTEM_CIFAR10_DATA/test_batch.bin" >"$folder/cifar/test_batch.bin"
    fi
    grow grown_resnet18 --channels 8 --epochs 2 --units 3 --statistics-samples 200 --search-samples 100
    grow grown_mlp --model mlp --epochs 3 --statistics-samples 500 --search-samples 200
  else
    echo "the main program was not built: no network that it grew is checked"
  fi
  if [[ -x $venv/bin/python ]] && "$venv/bin/python" -c 'import numpy, onnx, onnxruntime, safetensors' 2>/dev/null; then
    return
  fi
  local python=${MERISTEM_PYTHON:-}
  for candidate in /usr/bin/python3 python3; do
    [[ -z $python ]] && "$candidate" -c 'import torch' 2>/dev/null && python=$candidate
  done
  python=${python:-python3}
  rm -rf "$venv"
  # PyTorch from the system: the wheels of PyPI bring gigabytes for GPUs. Its NumPy is of version 1.
  if ! "$python" -m venv --system-site-packages "$venv" ||
    ! "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 20 'numpy<2' onnx onnxruntime safetensors; then
    echo "pip could not install numpy, onnx, onnxruntime and safetensors; the checks that need them will be skipped"
  fi
}

if [[ $what == prepare ]]; then
  prepare
elif [[ ! -x $venv/bin/python ]]; then
  echo "skipped: python3 cannot make virtual environments here; install python3-venv"
else
  exec "$venv/bin/python" "$here/check.py" "$what" "$folder/models" "$exporter"
fi
