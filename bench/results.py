"""Files of results: one JSON for a device, rows by name, whichever program or framework wrote them."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What Google Benchmark appends to a name, which says how a row was run and not what it is.
_SUFFIXES = re.compile(r"/(iterations:\d+|repeats:\d+|manual_time|real_time)")
_MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


class ResultError(Exception):
    """A file of results that cannot be used; the message says which, why and what to do."""


@dataclass
class Row:
    """One row: times in milliseconds, spread as a share of the time, floor_ms None where there is none."""

    name: str
    time_ms: float
    spread: float
    floor_ms: float | None
    counters: dict[str, float]


def plain_name(name: str) -> str:
    """The name without what says how often it ran."""
    return _SUFFIXES.sub("", name)


def read_json(path: str | Path) -> dict[str, Any]:
    """The file's object. Raises ResultError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error.strerror}); bench/run.sh writes such files") from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}); was the run that wrote it cut off?"
        ) from error
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise ResultError(f"{path} has no list 'benchmarks'; it was not written by bench/run.sh or Google Benchmark")
    return data


def rows_of(data: dict[str, Any], path: str | Path) -> dict[str, Row]:
    """Rows by plain name; repetitions of a row become one, the median. Raises ResultError."""
    found: dict[str, list[Row]] = {}
    for entry in data["benchmarks"]:
        if not isinstance(entry, dict) or entry.get("run_type") == "aggregate" or entry.get("error_occurred"):
            continue
        name, time, unit = entry.get("name"), entry.get("real_time"), entry.get("time_unit", "ns")
        if not isinstance(name, str) or not isinstance(time, (int, float)) or unit not in _MILLISECONDS:
            raise ResultError(f"{path} has a row without a name, a time or a known unit: {json.dumps(entry)[:120]}")
        if not time > 0:
            raise ResultError(f"{path}: the time of {name} is {time}; a time is positive")
        counters = {key: float(value) for key, value in entry.items()
                    if isinstance(value, (int, float)) and not isinstance(value, bool)}
        found.setdefault(plain_name(name), []).append(
            Row(plain_name(name), time * _MILLISECONDS[unit], counters.get("spread_percent", 0.0) / 100.0,
                counters.get("floor_ms"), counters))
    if not found:
        raise ResultError(f"{path} has no rows; did the filter match any benchmark?")
    result = {}
    for name, rows in found.items():
        times = [row.time_ms for row in rows]
        middle = statistics.median(times)
        best = min(rows, key=lambda row: abs(row.time_ms - middle))
        between = (max(times) - min(times)) / 2 / middle
        spread = max(statistics.median(row.spread for row in rows), between)
        result[name] = Row(name, middle, spread, best.floor_ms, best.counters)
    return result


def load(path: str | Path) -> dict[str, Row]:
    """Rows of a file by plain name. Raises ResultError."""
    return rows_of(read_json(path), path)


def device_slug(context: dict[str, Any]) -> str:
    """A file name for the device that a program's context describes."""
    device = str(context.get("device", "unknown device"))
    if device.startswith("GPU"):
        device = device.split(":", 1)[-1].split(",")[0]
    else:
        device = f"{context.get('processor', 'cpu')} {context.get('threads', '')} threads"
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def merge(paths: list[str | Path], command: str, date: str) -> dict[str, Any]:
    """One object from the files that the programs wrote, in their order. Raises ResultError."""
    benchmarks: list[dict[str, Any]] = []
    contexts: dict[str, Any] = {}
    for path in paths:
        data = read_json(path)
        program = Path(path).stem
        contexts[program] = data.get("context", {})
        for entry in data["benchmarks"]:
            benchmarks.append({"program": program, **entry})
    if not benchmarks:
        raise ResultError("no program wrote a row; does the filter match any benchmark? --list shows their names")
    first = next(iter(contexts.values()))
    varying = {"date", "host_name", "load_avg", "executable", "gemm_gflops_float32", "copy_gbps"}
    rates = {program: {key: context[key] for key in ("gemm_gflops_float32", "copy_gbps", "load_avg") if key in context}
             for program, context in contexts.items()}
    context = {key: value for key, value in first.items() if key not in varying}
    return {"command": command, "date": date, "context": context, "rates": rates, "benchmarks": benchmarks}
