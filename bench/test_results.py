"""Tests of what reads, merges and compares files of results; python3 -m unittest in this folder."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import compare
import results
from peer import table


def entry(name: str, time: float, **more: object) -> dict[str, object]:
    return {"name": name, "run_type": "iteration", "real_time": time, "time_unit": "ms", **more}


class Files(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name: str, *rows: dict[str, object], **context: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps({"context": context, "benchmarks": list(rows)}), encoding="utf-8")
        return path

    def run_compare(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = compare.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_names_lose_what_says_how_they_ran(self) -> None:
        self.assertEqual(results.plain_name("gemm/float32/m:4/iterations:1/repeats:3/manual_time"), "gemm/float32/m:4")

    def test_units_become_milliseconds(self) -> None:
        row = entry("a", 3.0)
        row["time_unit"] = "s"
        self.assertEqual(results.load(self.write("a.json", row))["a"].time_ms, 3000.0)

    def test_repetitions_become_their_median_and_their_range_the_spread(self) -> None:
        path = self.write("a.json", entry("a", 9.0), entry("a", 10.0), entry("a", 13.0),
                          {**entry("a_mean", 99.0), "run_type": "aggregate"})
        row = results.load(path)["a"]
        self.assertEqual(row.time_ms, 10.0)
        self.assertAlmostEqual(row.spread, 0.2)

    def test_differences_within_the_spread_are_none(self) -> None:
        a = self.write("a.json", entry("x", 10.0, spread_percent=5.0), entry("y", 10.0, spread_percent=1.0),
                       entry("z", 10.0, spread_percent=1.0), entry("gone", 1.0))
        b = self.write("b.json", entry("x", 10.9, spread_percent=5.0), entry("y", 10.9, spread_percent=1.0),
                       entry("z", 5.0, spread_percent=1.0))
        code, out, _ = self.run_compare(str(a), str(b))
        self.assertEqual(code, 0)
        lines = {line.split()[0]: line for line in out.splitlines()}
        self.assertNotIn("slower", lines["x"])
        self.assertIn("1.090  slower", lines["y"])
        self.assertIn("0.500  quicker", lines["z"])
        self.assertIn("only in A: gone", out)
        self.assertIn("3 rows, 1 slower, 1 quicker", out)
        self.assertEqual(self.run_compare(str(a), str(b), "--strict")[0], 1)
        self.assertEqual(self.run_compare(str(a), str(b), "--strict", "--filter", "^[xz]$")[0], 0)

    def test_bad_files_are_named_with_what_to_do(self) -> None:
        good = str(self.write("good.json", entry("a", 1.0)))
        other = str(self.write("other.json", entry("b", 1.0)))
        empty = str(self.write("empty.json"))
        zero = str(self.write("zero.json", entry("a", 0.0)))
        nameless = str(self.write("nameless.json", {"real_time": 1.0}))
        (self.folder / "cut.json").write_text('{"benchmarks": [', encoding="utf-8")
        (self.folder / "list.json").write_text("[]", encoding="utf-8")
        for path, words in ((str(self.folder / "none.json"), "cannot be read"),
                            (str(self.folder / "cut.json"), "is not JSON"),
                            (str(self.folder / "list.json"), "no list 'benchmarks'"), (empty, "has no rows"),
                            (zero, "a time is positive"), (nameless, "without a name"), (other, "no row in common")):
            with self.subTest(path=path):
                code, out, err = self.run_compare(good, path)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(words, err)
                if path != other:
                    self.assertIn(path, err)
        self.assertIn("no regular expression", self.run_compare(good, good, "--filter", "(")[2])

    def test_merging_keeps_rows_rates_and_what_wrote_them(self) -> None:
        a = self.write("gemm.json", entry("a", 1.0), device="CPU, 2 threads", copy_gbps="9.1", date="x")
        b = self.write("solver.json", entry("b", 2.0), device="CPU, 2 threads", copy_gbps="8.1", date="y")
        merged = results.merge([a, b], "bench/run.sh --quick", "2001-02-03")
        self.assertEqual([row["program"] for row in merged["benchmarks"]], ["gemm", "solver"])
        self.assertEqual(merged["command"], "bench/run.sh --quick")
        self.assertEqual(merged["rates"]["solver"]["copy_gbps"], "8.1")
        self.assertEqual(merged["context"], {"device": "CPU, 2 threads"})
        with self.assertRaisesRegex(results.ResultError, "no program wrote a row"):
            results.merge([self.write("none.json")], "", "")

    def test_devices_name_files(self) -> None:
        self.assertEqual(results.device_slug({"device": "GPU 0: NVIDIA H100 80GB HBM3, 132 multiprocessors"}),
                         "nvidia-h100-80gb-hbm3")
        self.assertEqual(results.device_slug({"device": "CPU, 2 threads", "processor": "AMD EPYC", "threads": "2"}),
                         "amd-epyc-2-threads")

    def run_table(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = table.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_peers_stand_beside_the_floor(self) -> None:
        ours = str(self.write("a.json", entry("x/iterations:1/manual_time", 2.0, floor_ms=1.5, spread_percent=3.0),
                              entry("alone", 1.0)))
        peer = str(self.write("b.json", entry("x", 5.0, variant="eager"), entry("x", 4.0, variant="compile"),
                              {"name": "x", "variant": "amp", "error_occurred": True}, framework="F"))
        code, out, err = self.run_table(ours, peer)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("| x | 1.5 | 2 ± 3 % | 75 % | 5 (2.5×) | 4 (2×) |", out)
        self.assertNotIn("alone", out)

    def test_different_networks_are_refused(self) -> None:
        ours = str(self.write("a.json", entry("x", 2.0, parameters=10)))
        peer = str(self.write("b.json", entry("x", 5.0, variant="eager", parameters=11)))
        code, _, err = self.run_table(ours, peer)
        self.assertEqual(code, 2)
        self.assertIn("not the same networks: x (eager): 11 parameters, meristem 10", err)


if __name__ == "__main__":
    unittest.main()
