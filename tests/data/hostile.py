"""Small files for which a decoder would allocate much memory."""

import io
import struct
import zlib

from PIL import Image

SIDE = 16_000


def tiff(width, height, **tags):
    """A deflated grey TIFF whose tags may claim a larger size than its data."""
    numbers = {"rows": 278, "tile_w": 322, "tile_h": 323}
    data = 324 if "tile_w" in tags else 273
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, data: 0, data + (1 if data == 324 else 6): 99}
    entries |= {numbers[name]: value for name, value in tags.items()}
    entries[data] = 8 + 2 + 12 * len(entries) + 4
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + zlib.compress(bytes(100)).ljust(99, b"\0")


def jpeg2000(container=True, side=64, **options):
    stream = io.BytesIO()
    Image.new("L", (side, side)).save(stream, "JPEG2000", no_jp2=not container, **options)
    return stream.getvalue()


def with_codestream_size(data, side, tile=None):
    """The same JPEG 2000 file with another size of image and tiles in its codestream."""
    start = data.index(b"\xff\x4f\xff\x51")
    changed = bytearray(data)
    changed[start + 8 : start + 16] = struct.pack(">II", side, side)
    changed[start + 24 : start + 32] = struct.pack(">II", tile or side, tile or side)
    return bytes(changed)


def with_container_size(data, side):
    changed = bytearray(data)
    start = data.index(b"ihdr") + 4
    changed[start : start + 8] = struct.pack(">II", side, side)
    return bytes(changed)


def png(side):
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def webp(side):
    body = b"WEBPVP8X" + struct.pack("<IB", 10, 0) + bytes(3) + 2 * (side - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHI", 64, 0, 0, 54, 40, width, height, 1, 24, 0) + bytes(34)


def files():
    """File name -> content and a fragment of the message."""
    too_large = f"has {SIDE}x{SIDE} pixels, more than max_image_pixels"
    return {
        "a.jp2": (with_codestream_size(jpeg2000(), SIDE), too_large),
        "codestream.jpg": (with_codestream_size(jpeg2000(container=False), SIDE), too_large),
        "disguised.jpg": (with_container_size(with_codestream_size(jpeg2000(), SIDE), SIDE), too_large),
        "liar.jp2": (with_container_size(jpeg2000(), SIDE), "is damaged"),
        "tiles.jp2": (with_codestream_size(jpeg2000(), 900, 1), "has 810000 tiles"),
        "a.pgm": (b"P5\n%d %d\n255\n" % (SIDE, SIDE), too_large),
        "plain.jpg": (b"P3\n%d %d\n255\n1 2 3" % (SIDE, SIDE), too_large),
        "hdr.jpg": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (SIDE, SIDE), "format Radiance HDR"),
        "pfm.png": (b"PF\n%d %d\n-1.0\n" % (SIDE, SIDE), "unsupported format PFM: convert it to JPEG or PNG"),
        "sun.jpg": (struct.pack(">8I", 0x59A66A95, SIDE, SIDE, 24, 0, 1, 0, 0), "unsupported format Sun raster"),
        "pam.png": (b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 3\nMAXVAL 255\nENDHDR\n" % (SIDE, SIDE), "unsupported format PAM"),
        "exr.jpg": (b"\x76\x2f\x31\x01\x02\0\0\0" + bytes(99), "unsupported format OpenEXR"),
        "ps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported format PostScript"),
        "a.tiff": (tiff(SIDE, SIDE), too_large),
        "tile.tiff": (tiff(10, 10, tile_w=SIDE, tile_h=SIDE), "has tiles or strips of 256000000 pixels"),
        "strip.tiff": (tiff(16, 10, rows=1 << 24), "has tiles or strips of 268435456 pixels"),
        "a.png": (png(SIDE), too_large),
        "a.webp": (webp(SIDE), too_large),
        "a.bmp": (bmp(SIDE, -SIDE), too_large),
        "zero.bmp": (bmp(0, 10), "has 0x10 pixels"),
        "zero.png": (png(0), "has 0x0 pixels"),
        "zero.tiff": (tiff(0, 9), "has 0x9 pixels"),
        "zero.jpg": (b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x09\x03" + bytes(9) + b"\xff\xd9", "has 9x0 pixels"),
    }  # fmt: skip
