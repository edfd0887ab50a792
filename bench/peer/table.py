#!/usr/bin/env python3
"""Prints results of meristem beside those of other frameworks: table.py OURS.json PEER.json ... as a Markdown table.

Each cell of a peer is its time and how many times as long as meristem's it is. Exit code 2 for files that do not fit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results import ResultError, Row, load, read_json, rows_of  # noqa: E402


def variants_of(path: str) -> dict[str, dict[str, Row]]:
    """Rows by variant, then by name. Raises ResultError."""
    data = read_json(path)
    names: dict[str, list[dict[str, object]]] = {}
    for entry in data["benchmarks"]:
        names.setdefault(str(entry.get("variant", "?")), []).append(entry)
    found = {}
    for variant, entries in names.items():
        if all(entry.get("error_occurred") for entry in entries):
            continue
        found[variant] = rows_of({"benchmarks": entries}, path)
    return found


def table(ours: dict[str, Row], peers: list[dict[str, dict[str, Row]]]) -> list[str]:
    """Lines of the table: rows that a peer has too. Raises ResultError if there is none."""
    columns: list[tuple[str, dict[str, Row]]] = []
    for peer in peers:
        columns += peer.items()
    rows = [name for name in ours if any(name in column for _, column in columns)]
    if not rows:
        raise ResultError("no row of meristem's is among the peers'; were they run with the same filter?")
    columns = [(title, column) for title, column in columns if any(name in column for name in rows)]
    lines = ["| row | floor, ms | meristem, ms | of floor | " + " | ".join(title for title, _ in columns) + " |",
             "|---|---|---|---|" + "---|" * len(columns)]
    for name in rows:
        mine = ours[name]
        floor = f"{mine.floor_ms:.3g}" if mine.floor_ms else ""
        share = f"{100 * mine.floor_ms / mine.time_ms:.0f} %" if mine.floor_ms else ""
        cells = [name, floor, f"{mine.time_ms:.4g} ± {100 * mine.spread:.0f} %", share]
        for _, column in columns:
            if name in column:
                ratio = column[name].time_ms / mine.time_ms
                cells.append(f"{column[name].time_ms:.4g} ({ratio:.3g}×)")
            else:
                cells.append("")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def different_networks(ours: dict[str, Row], peers: list[dict[str, dict[str, Row]]]) -> list[str]:
    """Rows whose numbers of parameters differ: they would compare different networks."""
    found = []
    for peer in peers:
        for variant, column in peer.items():
            for name, row in column.items():
                mine = ours[name].counters.get("parameters") if name in ours else None
                if mine is not None and row.counters.get("parameters", mine) != mine:
                    found.append(f"{name} ({variant}): {row.counters['parameters']:.0f} parameters, meristem {mine:.0f}")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("peers", nargs="+")
    options = parser.parse_args(arguments)
    try:
        ours, peers = load(options.ours), [variants_of(path) for path in options.peers]
        different = different_networks(ours, peers)
        if different:
            raise ResultError("not the same networks: " + "; ".join(different))
        lines = table(ours, peers)
        for path in options.peers:
            context = read_json(path).get("context", {})
            print(f"{context.get('framework', path)}, torch {context.get('torch', '?')}, {context.get('device', '?')}, "
                  f"{context.get('threads', '?')} threads")
        print()
        print("\n".join(lines))
    except ResultError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
