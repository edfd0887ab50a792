#!/usr/bin/env python3
"""Pictures drawn at random, read by the library: pictures.py <decode_picture> png|jpeg [count] [seed].

PNG files of every colour type, depth, filter and interlacing, with keys, palettes, optional chunks and odd ends, are
written here; every pixel must be what the specification says. JPEG files come from Pillow and lose or get markers;
what Pillow opens must have its pixels, to the rounding of decoders."""
import io
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

decode, kind_of_file = sys.argv[1:3]
count, seed = (int(word) for word in (sys.argv[3:] + ["400", "1"][len(sys.argv) - 3 :]))
draw = random.Random(seed)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(samples, depth):
    bits = "".join(format(sample, f"0{depth}b") for sample in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def filtered(rows, step):
    out, above = b"", bytes(len(rows[0]))
    for row in rows:
        kind = draw.randrange(5)
        out += bytes([kind])
        for i, value in enumerate(row):
            a, b, c = row[i - step] if i >= step else 0, above[i], above[i - step] if i >= step else 0
            nearest = min((a, b, c), key=lambda p: abs(p - (a + b - c)))  # the first of equals, as Paeth wants
            out += bytes([(value - (0, a, b, (a + b) // 2, nearest)[kind]) & 255])
        above = row
    return out


def exif(orientation, order):
    entry = struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def turned(rows, orientation):
    if orientation in (5, 6, 7, 8):
        rows = [list(column) for column in zip(*rows)]
    if orientation in (2, 3, 6, 7):
        rows = [row[::-1] for row in rows]
    if orientation in (3, 4, 7, 8):
        rows = rows[::-1]
    return rows


def png():
    """The bytes of a file, and rows of the pixels that it shows."""
    kind = draw.choice([0, 2, 3, 4, 6])
    depth = draw.choice({0: [1, 2, 4, 8, 16], 3: [1, 2, 4, 8]}.get(kind, [8, 16]))
    channels, width, height = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind], draw.randint(1, 12), draw.randint(1, 12)
    few = [draw.randrange(1 << depth) for _ in range(3)]
    pixels = [[[draw.choice(few) for _ in range(channels)] for _ in range(width)] for _ in range(height)]
    palette = [[draw.randrange(256) for _ in range(3)] for _ in range(draw.randint(1, 1 << depth))] if kind == 3 else []
    key, head = None, b""
    if kind == 3:
        head = chunk(b"PLTE", bytes(value for colour in palette for value in colour))
        key = bytes(draw.randrange(256) for _ in range(draw.randint(0, len(palette))))
        head += chunk(b"tRNS", key) if key else b""
    elif kind in (0, 2) and draw.random() < 0.6:
        key = draw.choice(draw.choice(pixels))
        head = chunk(b"tRNS", struct.pack(f">{channels}H", *key))

    def shown(pixel):
        eight = [value >> 8 if depth == 16 else value * 255 // ((1 << depth) - 1) for value in pixel]
        if kind == 3:
            index = pixel[0]
            colour = palette[index] if index < len(palette) else [0, 0, 0]
            opaque = key[index] if index < len(key) else 255
        else:
            colour = eight[:3] if kind in (2, 6) else eight[:1] * 3
            opaque = eight[-1] if kind in (4, 6) else 0 if pixel == key else 255
        return [(value * opaque + 255 * (255 - opaque) + 127) // 255 for value in colour]

    interlaced = draw.random() < 0.3
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, dx, dy in passes if interlaced else [(0, 0, 1, 1)]:
        part = [[value for pixel in row[x::dx] for value in pixel] for row in pixels[y::dy]]
        if part and part[0]:
            raw += filtered([packed(row, depth) for row in part], max(1, channels * depth // 8))
    data = zlib.compress(raw, draw.choice([0, 1, 6, 9])) + draw.choice([b"", b"", b"junk"])
    orientation = draw.choice([1] * 6 + list(range(10)))
    if orientation != 1:
        head += chunk(b"eXIf", exif(orientation, draw.choice("<>")))
    optional = {b"gAMA": bytes(4), b"pHYs": bytes(9), b"tEXt": b"a\0b", b"zTXt": b"a\0\0", b"tIME": bytes(7), b"prVt": b"x"}
    before = b"".join(chunk(*item) for item in optional.items() if draw.random() < 0.1)
    cuts = sorted(draw.randint(0, len(data)) for _ in range(draw.choice([0, 0, 1, 3])))
    idats = b"".join(chunk(b"IDAT", data[a:b]) for a, b in zip([0] + cuts, cuts + [len(data)]))
    end = draw.choice([chunk(b"IEND", b"")] * 4 + [b"", chunk(b"IEND", b"")[:6], chunk(b"IEND", b"") + b"more"])
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + ihdr + before + head + idats + end, turned([[shown(p) for p in row] for row in pixels], orientation)


def without(data, markers):
    """A JPEG file without the segments of some markers."""
    out, at = data[:2], 2
    while data[at + 1] != 0xDA:
        length = 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        out += b"" if data[at + 1] in markers else data[at : at + length]
        at += length
    return out + data[at:]


def jpeg():
    """The bytes of a file."""
    mode = draw.choice(["RGB", "RGB", "L", "CMYK"])
    # Of pictures of a few columns libjpeg enlarges the colours otherwise.
    width, height = draw.randint(8, 48), draw.randint(8, 48)
    noise = Image.frombytes(mode, (6, 6), bytes(draw.randrange(256) for _ in range(36 * len(mode))))
    options = {"quality": draw.choice([50, 75, 95]), "progressive": draw.random() < 0.3, "optimize": draw.random() < 0.3}
    if mode == "RGB":
        options["subsampling"] = draw.choice([0, 1, 2])
    if draw.random() < 0.3:
        options["restart_marker_blocks"] = draw.randint(1, 9)
    if draw.random() < 0.4:
        options["exif"] = b"Exif\0\0" + exif(draw.randint(0, 9), draw.choice("<>"))
    if draw.random() < 0.2:
        options["comment"] = b"a comment"
    file = io.BytesIO()
    noise.resize((width, height), Image.BICUBIC).save(file, "JPEG", **options)
    data = file.getvalue()
    if draw.random() < 0.2:
        data = without(data, {0xE0, 0xEE})
    if draw.random() < 0.5:
        zeros, other = bytes(draw.randint(1, 900)), bytes(draw.randrange(255) for _ in range(draw.randint(1, 90)))
        data = draw.choice([data + zeros, data + other, data[:-2], data[:-2] + zeros])
    return data


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = {}
        while len(wanted) < count:
            path = folder / f"{len(wanted)}.{kind_of_file}"
            if kind_of_file == "png":
                data, wanted[path] = png()
                path.write_bytes(data)
                continue
            data = jpeg()
            try:
                picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            except OSError:
                continue  # what Pillow does not open has no pixels to compare with
            path.write_bytes(data)
            pixels = picture.tobytes()
            wanted[path] = [
                [list(pixels[3 * (y * picture.width + x) :][:3]) for x in range(picture.width)] for y in range(picture.height)
            ]
        lines = "".join(f"{path} {path}.raw\n" for path in wanted)
        answers = subprocess.run([decode], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(answers) == len(wanted)
        faults = 0
        for (path, rows), answer in zip(wanted.items(), answers):
            if answer != f"ok {len(rows)} {len(rows[0])}":
                print(f"{path.name}: {answer}; {len(rows)} x {len(rows[0])} pixels are expected")
                faults += 1
                continue
            pixels = [value for row in rows for pixel in row for value in pixel]
            differences = [abs(a - b) for a, b in zip(pixels, Path(f"{path}.raw").read_bytes())]
            # Two inverse cosine transforms of eight bits, the enlarging of colours and the change to RGB round
            # otherwise, each by one at most; the last multiplies a colour's by up to 1.8.
            if max(differences) > (0 if path.suffix == ".png" else 6):
                print(f"{path.name}: differs by {max(differences)}")
                faults += 1
        print(f"{count} {kind_of_file} files, {faults} faults")
        return 1 if faults else 0


if kind_of_file == "jpeg":
    try:
        from PIL import Image, ImageOps
    except ImportError:
        print("skipped: there is no Pillow; install python3-pil")
        sys.exit(0)
sys.exit(main())
