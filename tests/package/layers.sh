#!/usr/bin/env bash
# layers.sh <source folder>: fails if a header includes something of a layer below its own or by a relative path, or if two,
# their definitions included, include each other.
set -euo pipefail
cd "$1"

# Data flows down this list: a file includes only its own folder and what stands above it.
layers=(core interop kernels nn models optim grow data io train)
# So do the rooms of grow; the first two know no network. Its values (report.hpp, history.hpp) are open to all of them.
rooms=(statistics solve units methods measure policy)
# Within the backend's inline namespace by a declaration; any other would be opened beside it.
mapfile -t declared < <(sed -n 's/^namespace \([a-z_]*\) {}$/\1/p' include/meristem/core/config.hpp)

# shellcheck disable=SC2016  # awk expands these
find include/meristem kernels/meristem -name '*.hpp' -o -name '*.cuh' | sort | xargs awk -v order="${layers[*]}" \
  -v rooms="${rooms[*]}" -v declared="${declared[*]}" '
  BEGIN {
    count = split(order, names, " "); for (i = 1; i <= count; ++i) rank[names[i]] = i
    count = split(rooms, names, " "); for (i = 1; i <= count; ++i) room[names[i]] = i
    count = split(declared, names, " "); for (i = 1; i <= count; ++i) part[names[i]] = 1
  }
  function complain(what) { print FILENAME ":" FNR ": " what; bad = 1 }
  FNR == 1 {
    ++files
    depth = split(FILENAME, parts, "/")
    layer = depth == 3 ? "entry" : parts[3]
    if (layer != "entry" && !(layer in rank)) complain("folder " layer " is not in the list of layers")
  }
  /^namespace meristem::/ {
    split($0, pieces, /::| /)
    if (!(pieces[3] in part)) complain("core/config.hpp does not declare namespace meristem::" pieces[3])
  }
  # nvcc makes no device code for a function that a unit reaches through a table of virtual functions alone.
  overrides && /kernels::[a-z_]+(<.*>)?\(/ { complain("define a virtual function that starts kernels in an _impl header") }
  { overrides = FILENAME !~ /_impl/ && /override (final )?\{$/ }
  /^[ \t]*#[ \t]*include[ \t]*"/ { complain("write #include <meristem/...>, not a relative path: " $0) }
  /^[ \t]*#[ \t]*include[ \t]*<meristem\// {
    split($0, pieces, /[<>]/)
    target_depth = split(pieces[2], target, "/")
    if (target_depth == 2) complain("the entry header includes this file, not the other way round")
    else if (layer != "entry" && rank[target[2]] > rank[layer])
      complain(layer " stands above " target[2] " and must not include " pieces[2])
    if (layer == "grow" && depth == 5) {
      here = parts[4]
      if (!(here in room)) complain("folder grow/" here " is not in the list of rooms")
      if (room[here] <= 2 && target[2] != "core" && target[2] != "kernels" && target[3] != here)
        complain("grow/" here " needs no network and must not include " pieces[2])
      if (target[2] == "grow" && target_depth == 4 && room[target[3]] > room[here])
        complain("grow/" here " stands above grow/" target[3] " and must not include " pieces[2])
    }
  }
  END {
    print files " files"
    exit bad || files == 0
  }'

# A header and its definitions are one, also where these fill several files, as growth_step_impl.hpp and growth_step_costs_impl.hpp do.
# Two that include each other depend on which comes first.
loops=$(grep -roE '^#include <meristem/[^>]+>' include kernels | sed -E 's#^(include|kernels)/##; s#:\#include <# #; s#>$##' |
  awk '
    function one(path,  name) {
      if (path !~ /_impl\.hpp$/) return path
      name = substr(path, 1, length(path) - 9)
      while (!exists("include/" name ".hpp") && !exists("kernels/" name ".hpp") && sub(/_[a-z]+$/, "", name)) {}
      return name ".hpp"
    }
    function exists(file,  line, found) { found = (getline line <file) > 0; close(file); return found }
    { from = one($1); to = one($2); if (from != to) print from, to }' | tsort 2>&1 >/dev/null) || true
if [[ -n $loops ]]; then
  echo "$loops"
  exit 1
fi
