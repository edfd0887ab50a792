#!/usr/bin/env bash
# run.sh prepare <exporter> <folder>: a virtual environment with the Python libraries, and what the exporter writes.
# run.sh <npy|safetensors|torch|onnx> <exporter> <folder>: one of the checks.
# Prints "skipped: ..." where a library cannot be had. MERISTEM_CIFAR10_DATA names a folder with CIFAR-10; without it the
# grown network sees built-in images. MERISTEM_PYTHON names a Python, else the system's is taken if it has PyTorch.
set -euo pipefail
what=$1
exporter=$2
folder=$3
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
venv=$folder/venv

prepare() {
  mkdir -p "$folder/models"
  "$exporter" write "$folder/models" ${MERISTEM_CIFAR10_DATA:+"$MERISTEM_CIFAR10_DATA"}
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
