#!/usr/bin/env python3
"""growing.py <picture.svg> <log of the program> [<name>=<log of another run> ...]: draws how a network grew.

On the left the hidden widths at the start and after each growth step, on the right test accuracies by epoch, those of
other runs beside. Reads the lines `network .. hidden 1-1-2-..`, `now hidden 3-3-6-..`, `epoch ..`, `result ..` and the
operations that cifar10 prints, and writes an SVG without a background, in colours for light and for dark pages.
"""

import re
import sys
from dataclasses import dataclass, field

TEXT, OLD, ADDED, FAINT, OTHERS = "#7d8590", "#8c959f", "#2da44e", "#7d859055", ("#8250df", "#bf8700", "#0969da")
ROW, BAR, LEFT, TOP, COLUMN, GAP = 22, 14, 78, 46, 80, 26


@dataclass
class Run:
    """What one log says: widths at the start and after each growth step, test accuracies, operations in all."""

    steps: list = field(default_factory=list)  # (title, widths, parameters, accuracy)
    accuracies: list = field(default_factory=list)  # (epoch, %)
    grown_after: list = field(default_factory=list)
    operations: str = ""


def read(path):
    run, epoch = Run(), 0
    with open(path, encoding="utf-8") as log:
        for line in log:
            if match := re.match(r"epoch +(\d+)/.*?([\d.]+) % test", line):
                epoch = int(match[1])
                run.accuracies.append((epoch, float(match[2])))
            if match := re.match(r"growth after epoch (\d+)", line):
                run.grown_after.append(int(match[1]))
            if match := re.search(r"hidden ([\d-]+), ([\d,]+) parameters(?:, test accuracy ([\d.]+) %)?", line):
                if not line.startswith("result"):
                    widths = [int(width) for width in match[1].split("-")]
                    run.steps.append((f"epoch {epoch}" if run.steps else "start", widths, match[2], match[3]))
            if found := re.findall(r"([\d.]+ \w*FLOP) of (?:training|growing)", line):
                run.operations = " + ".join(found)
    if not run.steps or not run.accuracies:
        sys.exit(f"{path}: no lines with hidden widths and test accuracies; is this what the program printed?")
    return run


def text(x, y, content, size=12, anchor="middle", colour=TEXT, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}">{content}</text>')


def line(points, colour, width, dashes="none"):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>'


def widths_of(steps):
    """Rows are layers, columns growth steps; what was there stands in the middle, new units on both sides."""
    out, before = [], None
    layers = len(steps[0][1])
    unit = COLUMN / max(max(step[1]) for step in steps)
    for layer in range(layers):
        name = f"stage {layer // 2 + 1}.{layer % 2 + 1}" if layers == 8 else f"layer {layer + 1}"
        out.append(text(LEFT - 12, TOP + ROW * layer + BAR - 2, name, anchor="end"))
    x = LEFT + GAP / 2
    for title, widths, parameters, accuracy in steps:
        middle = x + COLUMN / 2
        out.append(text(middle, 22, title, 13, weight="bold"))
        for layer, units in enumerate(widths):
            y = TOP + ROW * layer
            old = min(units, before[layer]) if before else units
            new = unit * (units - old) / 2
            out.append(f'<rect x="{middle - unit * old / 2:.2f}" y="{y}" width="{unit * old:.2f}" height="{BAR}" '
                       f'fill="{OLD}"/>')
            if new > 0:
                for start in (middle - unit * units / 2, middle + unit * old / 2):
                    out.append(f'<rect x="{start:.2f}" y="{y}" width="{new:.2f}" height="{BAR}" fill="{ADDED}"/>')
            out.append(text(middle + unit * units / 2 + 3, y + BAR - 3, units, 10, "start",
                            ADDED if new > 0 else TEXT))
        below = TOP + ROW * layers + 16
        out.append(text(middle, below, f"{parameters} weights", 11))
        if accuracy:
            out.append(text(middle, below + 16, f"{accuracy} % correct", 11))
        x += COLUMN + GAP
        before = widths
    return out, x, TOP + ROW * layers + 48


def curves(runs, left, bottom):
    """Test accuracy by epoch. Where runs end stand accuracy and operations, apart where they would overlap."""
    right = left + 330
    epochs = max(run.accuracies[-1][0] for _, run in runs)
    values = [accuracy for _, run in runs for _, accuracy in run.accuracies]
    low, high = 10 * int(min(values) // 10), 10 * -int(-max(values) // 10)
    bottom -= 32

    def at(epoch, accuracy):
        return left + (right - left) * epoch / epochs, bottom - (bottom - TOP) * (accuracy - low) / (high - low)

    out = [text((left + right) / 2, 22, "test accuracy, %", 13, weight="bold")]
    for tick in range(low, high + 1, 10):
        y = at(0, tick)[1]
        out += [line([(left, y), (right, y)], FAINT, 1), text(left - 6, y + 4, tick, 11, "end")]
    for tick in range(0, epochs + 1, 5 if epochs <= 40 else 10):
        out.append(text(at(tick, low)[0], bottom + 16, tick if tick else "epoch 0", 11))
    labels = []
    for i, (name, run) in enumerate(runs):
        colour = ADDED if i == 0 else OTHERS[(i - 1) % len(OTHERS)]
        points = [at(*mark) for mark in run.accuracies]
        out.append(line(points, colour, 2 if i == 0 else 1.5, "none" if i == 0 else "5 3"))
        for epoch, accuracy in run.accuracies:
            if epoch in run.grown_after:
                x, y = at(epoch, accuracy)
                out += [line([(x, y), (x, bottom)], ADDED, 1, "2 3"), text(x + 4, bottom - 5, "grows", 11, "start", ADDED)]
        x, y = points[-1]
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>')
        labels.append((y, name, f"{run.accuracies[-1][1]:.1f} %, {run.operations}", colour))
    y = 0.0
    for end, name, what, colour in sorted(labels):
        y = max(y + 36, end)
        out += [text(right + 10, y, name, 12, "start", colour, "bold"), text(right + 10, y + 15, what, 11, "start")]
    return out, right + 250


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    runs = [("grown", read(sys.argv[2]))]
    for argument in sys.argv[3:]:
        name, _, path = argument.partition("=")
        runs.append((name, read(path)))
    drawing, x, height = widths_of(runs[0][1].steps)
    others, width = curves(runs, x + 50, height)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
            f'height="{height}" font-family="system-ui, sans-serif" role="img">',
            "<title>A ResNet-18 on CIFAR-10: hidden units at the start and after growth, and test accuracy by epoch</title>",
            *drawing, *others, "</svg>\n"]))


main()
