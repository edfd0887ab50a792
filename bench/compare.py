#!/usr/bin/env python3
"""Compares two files of results: compare.py A.json B.json prints time(B) / time(A) row by row.

A row is marked where the times differ by more than the spreads of both together. Exit code 0; 1 with --strict if a row
of B is slower by more than that; 2 for files that cannot be compared.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass

from results import ResultError, Row, load


@dataclass
class Difference:
    """One row in both files; `verdict` is 'slower', 'quicker' or 'same'."""

    name: str
    before: Row
    after: Row
    ratio: float
    verdict: str


def judge(before: Row, after: Row, least: float) -> str:
    """Whether the difference stands out from the spread, which is taken to be `least` of the time at least."""
    noise = max(before.spread, least) * before.time_ms + max(after.spread, least) * after.time_ms
    if after.time_ms - before.time_ms > noise:
        return "slower"
    return "quicker" if before.time_ms - after.time_ms > noise else "same"


def compare(before: dict[str, Row], after: dict[str, Row], least: float = 0.01) -> list[Difference]:
    """Rows that both have, in the order of the first. Raises ResultError if there is none."""
    common = [name for name in before if name in after]
    if not common:
        raise ResultError("the two files have no row in common; were they written by the same programs and filter?")
    return [Difference(name, before[name], after[name], after[name].time_ms / before[name].time_ms,
                       judge(before[name], after[name], least)) for name in common]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="A")
    parser.add_argument("after", metavar="B")
    parser.add_argument("--filter", default="", help="regular expression: rows to show")
    parser.add_argument("--least", type=float, default=1.0, help="per cent below which nothing counts (default 1)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a row is slower")
    options = parser.parse_args(arguments)
    try:
        wanted = re.compile(options.filter)
        before, after = load(options.before), load(options.after)
        differences = [d for d in compare(before, after, options.least / 100.0) if wanted.search(d.name)]
    except re.error as error:
        print(f"--filter {options.filter} is no regular expression: {error}", file=sys.stderr)
        return 2
    except ResultError as error:
        print(error, file=sys.stderr)
        return 2
    width = max([len(d.name) for d in differences] + [4])
    print(f"{'row':<{width}}  {'A, ms':>10}  {'±':>5}  {'B, ms':>10}  {'±':>5}  {'B / A':>6}")
    for d in differences:
        mark = "" if d.verdict == "same" else f"  {d.verdict}"
        print(f"{d.name:<{width}}  {d.before.time_ms:10.4g}  {100 * d.before.spread:4.0f}%  {d.after.time_ms:10.4g}  "
              f"{100 * d.after.spread:4.0f}%  {d.ratio:6.3f}{mark}")
    for label, some, other in (("A", before, after), ("B", after, before)):
        alone = [name for name in some if name not in other and wanted.search(name)]
        if alone:
            print(f"only in {label}: {', '.join(alone)}")
    slower = [d.name for d in differences if d.verdict == "slower"]
    print(f"{len(differences)} rows, {len(slower)} slower, "
          f"{sum(d.verdict == 'quicker' for d in differences)} quicker, beyond the spread of both")
    return 1 if slower and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
