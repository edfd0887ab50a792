"""Samples a piece of work as bench/support.hpp does: a warm-up, caches written over before each sample, the median."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch


class Bench:
    """Rows of one framework on one device, written as JSON in Google Benchmark's shape."""

    def __init__(self, framework: str, device: str, quick: bool, wanted: Callable[[str], bool]) -> None:
        self.framework = framework
        self.device = torch.device(device)
        self.seconds, self.most = (0.1, 20) if quick else (1.0, 200)
        self.wanted = wanted
        self.rows: list[dict[str, Any]] = []
        size = 64 << 20
        if self.device.type == "cuda":
            size = torch.cuda.get_device_properties(self.device).L2_cache_size
        self._other = torch.empty(2 * size // 4, device=self.device)

    def _sample(self, body: Callable[[], Any], prepare: Callable[[], Any] | None) -> float:
        if prepare:
            prepare()
        self._other.fill_(len(self.rows))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            body()
            stop.record()
            stop.synchronize()
            return start.elapsed_time(stop) * 1e-3
        begin = time.perf_counter()
        body()
        return time.perf_counter() - begin

    def row(self, name: str, variant: str, body: Callable[[], Any], prepare: Callable[[], Any] | None = None,
            **counters: float) -> None:
        """Measures `body`; `prepare` runs before each sample and is not timed. What fails becomes a row that says so."""
        if not self.wanted(name):
            return
        try:
            first = self._sample(body, prepare)
            start = time.perf_counter()
            if first < 5 * self.seconds:
                first = self._sample(body, prepare)  # the very first call compiles, allocates and chooses algorithms
            samples = [first] if first > 5 * self.seconds else []
            while not samples or (len(samples) < 3 and time.perf_counter() - start < 5 * self.seconds) or (
                    len(samples) < self.most and time.perf_counter() - start < self.seconds):
                samples.append(self._sample(body, prepare))
        except Exception as error:  # noqa: BLE001: one framework's failure must not end the table
            print(f"  {name} {variant}: failed ({type(error).__name__}: {str(error)[:120]})", file=sys.stderr)
            self.rows.append({"name": name, "variant": variant, "error_occurred": True, "error_message": str(error)[:300]})
            return
        median = statistics.median(samples)
        quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else [median] * 3
        self.rows.append({"name": name, "variant": variant, "run_type": "iteration", "real_time": median * 1e3,
                          "time_unit": "ms", "spread_percent": 50 * (quartiles[2] - quartiles[0]) / median,
                          "samples": len(samples), **counters})
        print(f"  {name:<55} {variant:<16} {median * 1e3:10.3f} ms", flush=True)

    def write(self, path: str, command: str) -> None:
        """Writes all rows with what they depend on."""
        context = {"framework": self.framework, "torch": torch.__version__, "python": platform.python_version(),
                   "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU",
                   "threads": str(torch.get_num_threads()), "processor": processor(), "date": date.today().isoformat(),
                   "load_avg": os.getloadavg(), "command": command}
        Path(path).write_text(json.dumps({"context": context, "benchmarks": self.rows}, indent=1) + "\n", "utf-8")


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown")
