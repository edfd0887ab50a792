#!/usr/bin/env python3
"""growing.py <log of the program> <picture.svg>: draws the hidden widths of a growing network, step by step.

Reads the lines `network .. hidden 1-1-2-..`, `now hidden 3-3-6-..`, `epoch ..` and `result ..` that cifar10 prints, and
writes an SVG without a background, in colours that can be read on light and on dark pages.
"""

import re
import sys

TEXT, OLD, ADDED = "#7d8590", "#8c959f", "#2da44e"
ROW, BAR, LEFT, TOP, COLUMN, GAP = 22, 14, 78, 46, 80, 26


def read(lines):
    """[(title, widths, parameters, accuracy)], one for the start, one for each growth step and one for the end."""
    steps, epoch = [], 0
    for line in lines:
        if match := re.match(r"epoch +(\d+)/", line):
            epoch = int(match[1])
        if match := re.search(r"hidden ([\d-]+), ([\d,]+) parameters(?:, test accuracy ([\d.]+) %)?", line):
            widths = [int(width) for width in match[1].split("-")]
            title = f"epoch {epoch}" if steps else "start"
            if end := re.match(r"result +test accuracy ([\d.]+) %", line):
                title = f"end, epoch {epoch}"
            steps.append((title, widths, match[2], end[1] if end else match[3]))
    return steps


def picture(steps):
    layers = len(steps[0][1])
    unit = COLUMN / max(max(step[1]) for step in steps)
    width = LEFT + (COLUMN + GAP) * len(steps) + 12
    height = TOP + ROW * layers + 48

    def text(x, y, content, size=12, anchor="middle", colour=TEXT, weight="normal"):
        return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
                f'font-weight="{weight}">{content}</text>')

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
           f'height="{height}" font-family="system-ui, sans-serif" role="img">',
           "<title>Hidden units of a ResNet-18 on CIFAR-10, at the start and after each growth step</title>"]
    for layer in range(layers):
        name = f"stage {layer // 2 + 1}.{layer % 2 + 1}" if layers == 8 else f"layer {layer + 1}"
        out.append(text(LEFT - 12, TOP + ROW * layer + BAR - 2, name, anchor="end"))
    x, before = LEFT + GAP / 2, None
    for title, widths, parameters, accuracy in steps:
        middle = x + COLUMN / 2
        out.append(text(middle, 22, title, 13, weight="bold"))
        for layer, units in enumerate(widths):
            y = TOP + ROW * layer
            old = min(units, before[layer]) if before else units
            new = unit * (units - old) / 2
            # What was there stands in the middle, new units on both sides.
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
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as log:
        steps = read(log)
    if not steps:
        sys.exit(f"{sys.argv[1]}: no line with hidden widths; is this what the program printed?")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(picture(steps))


main()
