"""Names unsupported image formats and video containers by their first bytes, for messages."""

from __future__ import annotations

# Brands of ISO base media files (ISO/IEC 14496-12) for still images.
_STILL_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_IMAGES = (
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\0\0\1\0", "Windows icon"),
    (b"<svg", "SVG"),
    (b"FUJIFILM", "camera raw"),
    (b"SIMPLE  =", "FITS"),
)
_VIDEOS = (
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (b"FLV\1", "Flash"),
    (b"\0\0\1\xba", "MPEG"),
    (b"\0\0\1\xb3", "MPEG"),
    (b"OggS", "Ogg"),
    (b".RMF", "RealMedia"),
)


def unsupported_image_format(data: bytes) -> str:
    """The name of an image format that cannot be read here, such as HEIC; empty if the format is unknown."""
    if data[4:8] == b"ftyp":
        return _STILL_BRANDS.get(data[8:12], "")
    return next((name for start, name in _IMAGES if data.startswith(start)), "")


def video_container(data: bytes) -> str:
    """The name of a video container; empty if the format is unknown."""
    if data[4:8] == b"ftyp" and data[8:12] not in _STILL_BRANDS:
        return "MP4 or QuickTime"
    if data[4:8] in (b"moov", b"mdat", b"wide"):
        return "QuickTime"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "AVI"
    # Packets of a transport stream start with 0x47 ("G"); cameras write a timestamp of four bytes before each.
    if any(len(data) > start + 2 * step and data[start::step][:3] == b"GGG" for start, step in ((0, 188), (4, 192))):
        return "MPEG transport stream"
    return next((name for start, name in _VIDEOS if data.startswith(start)), "")
