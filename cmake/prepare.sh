# For the run scripts, which source it: installs missing packages and configures a build folder.
# shellcheck shell=bash

# shellcheck disable=SC2034  # the scripts that source this use it
library_packages=(g++ cmake ninja-build libopenblas-openmp-dev liblapacke-dev libboost-context-dev)

# install_packages <Debian package>...: installs those that are missing, or names them and exits. Compilers and build
# tools count as there if their command is. Elsewhere than on Debian and Ubuntu, CMake says what it misses.
install_packages() {
  command -v dpkg-query >/dev/null || return 0
  local -A command_of=([g++]=g++ [cmake]=cmake [ninja-build]=ninja)
  local package missing=()
  for package in "$@"; do
    [[ -n ${command_of[$package]:-} ]] && command -v "${command_of[$package]}" >/dev/null && continue
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      echo "Missing packages; install them and start again:" >&2
      echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  echo "Installing ${missing[*]}" >&2
  if ! { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } >&2; then
    echo "The packages could not be installed; do it by hand and start again:" >&2
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
}

# True if programs can be compiled for the GPU and run on it.
has_cuda() {
  { command -v nvcc || [[ -x /usr/local/cuda/bin/nvcc ]]; } >/dev/null && nvidia-smi -L >/dev/null 2>&1
}
