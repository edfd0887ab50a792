#!/usr/bin/env bash
# Measures meristem and, on the same shapes right after it, PyTorch and gromo; prints the table and writes it beside the
# files of results: bench/results/peers-<device>.md.
#
#   bench/peer/run.sh --quick          the README's table; --filter REGEX for some rows, --build FOLDER as bench/run.sh
#   PYTHON=/path/to/venv/bin/python    the Python that has PyTorch (python -m venv, then pip install torch gromo)
#   --device cpu|gpu                   by default the GPU if there is one
set -euo pipefail
folder=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
bench=$(dirname "$folder")
python=${PYTHON:-python3}

own=(run) peer=() device='' out=$bench/results
command="bench/peer/run.sh${*:+ $*}"
fail() {
  echo "bench/peer/run.sh: $*" >&2
  exit 2
}
while (($#)); do
  case $1 in
    --quick) own+=(--quick) peer+=(--quick) && shift ;;
    --filter | --build | --device | --out)
      [[ -n ${2:-} ]] || fail "$1 needs a value"
      if [[ $1 == --filter ]]; then own+=("$1" "$2") peer+=("$1" "$2"); fi
      if [[ $1 == --build ]]; then own+=("$1" "$2"); fi
      if [[ $1 == --device ]]; then device=$2; fi
      if [[ $1 == --out ]]; then out=$2; fi
      shift 2
      ;;
    --help)
      sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done
if [[ -z $device ]]; then
  device=cpu
  if nvidia-smi -L >/dev/null 2>&1; then device=gpu; fi
fi
[[ $device =~ ^(cpu|gpu)$ ]] || fail "--device is $device; it is cpu or gpu"

if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "Skipped: $python has no PyTorch, so there is nothing to compare with. Make an environment and name it:"
  echo "  python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch gromo"
  echo "  PYTHON=/tmp/peers/bin/python bench/peer/run.sh --quick"
  echo "On a machine without GPU Debian's python3-torch will do too, without gromo and torch.compile."
  exit 77
fi

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
"$bench/run.sh" "${own[@]:1}" --device "$device" --out "$run/own"
ours=$(echo "$run"/own/*.json)
torch_device=cpu
if [[ $device == gpu ]]; then torch_device=cuda; fi
echo "== PyTorch"
"$python" -B "$folder/pytorch.py" --device $torch_device --out "$run/pytorch.json" "${peer[@]}"
echo "== gromo"
"$python" -B "$folder/growth.py" --device $torch_device --out "$run/growth.json" "${peer[@]}"

mkdir -p "$out"
name=$(basename "$ours" .json)
cp "$ours" "$out/$name.json"
cp "$run/pytorch.json" "$out/peer-pytorch-$name.json"
cp "$run/growth.json" "$out/peer-gromo-$name.json"
"$python" -B "$folder/table.py" "$ours" "$run/pytorch.json" "$run/growth.json" >"$run/table.md"
{
  echo "Written by \`$command\`, $(date -u +%F); times of one run on one machine, in milliseconds. In brackets: how many"
  echo "times as long as meristem."
  echo
  cat "$run/table.md"
} >"$out/peers-$name.md"
cat "$run/table.md"
echo "Wrote $out/peers-$name.md"
