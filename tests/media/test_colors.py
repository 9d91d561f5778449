"""Pictures of every color space in every container come in as sRGB, or the message names what they are.

The truth is a chart of 24 colors. Profiles are made here: matrix and curve, gray, and a CMYK table.
"""

import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from flashworld_core.errors import FlashWorldError
from flashworld_core.media.images import open_image

CHART = np.array(
    [(115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177), (103, 189, 170), (214, 126, 44),
     (80, 91, 166), (193, 90, 99), (94, 60, 108), (157, 188, 64), (224, 163, 46), (56, 61, 150), (70, 148, 73),
     (175, 54, 60), (231, 199, 31), (187, 86, 149), (20, 133, 161), (243, 243, 242), (200, 200, 200), (160, 160, 160),
     (122, 122, 121), (85, 85, 85), (52, 52, 52)], np.uint8,
)  # fmt: skip
PIXELS = np.repeat(np.repeat(CHART.reshape(4, 6, 3), 16, 0), 16, 1)
PRIMARIES = {
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "p3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "bt2020": ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
}
D50, D65 = np.array([0.9642, 1, 0.8249]), np.array([0.3127 / 0.329, 1, 0.3583 / 0.329])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def decode_srgb(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def encode_srgb(v):
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055)


def to_xyz(space):
    """3x3, linear values of a D65 space to XYZ."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[space]]).T
    return columns * np.linalg.solve(columns, D65)


def numbers(space, encode, levels=255):
    """The chart in another space."""
    linear = decode_srgb(PIXELS / 255) @ (np.linalg.inv(to_xyz(space)) @ to_xyz("srgb")).T
    return np.rint(encode(linear.clip(0, 1)) * levels).astype(np.uint16 if levels > 255 else np.uint8)


def meant(space, decode, pixels):
    """The sRGB chart that numbers [H, W, 3] of another space stand for."""
    light = decode(pixels / np.iinfo(pixels.dtype).max) @ (np.linalg.inv(to_xyz("srgb")) @ to_xyz(space)).T
    return 255 * encode_srgb(light.clip(0, 1))


def s15(*values):
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def profile(space, gamma, kind=b"RGB ", name="test"):
    """An ICC v2 profile: primaries of ``space`` adapted to D50 and a gamma, or only a gamma for gray."""
    text = name.encode() + b"\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * (4 + 4 + 2 + 1 + 67)),
        (b"cprt", b"text\0\0\0\0none\0"),
        (b"wtpt", b"XYZ \0\0\0\0" + s15(*D50)),
    ]
    if kind == b"RGB ":
        adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ D65)) @ BRADFORD
        columns = (adapt @ to_xyz(space)).T
        tags += [
            (tag, b"XYZ \0\0\0\0" + s15(*xyz)) for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
        ]
        tags += [(tag, curve) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    else:
        tags.append((b"kTRC", curve))
    return packed_profile(kind, tags, b"mntr", b"XYZ ")


def packed_profile(kind, tags, use, pcs):
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for tag, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"test", 0x02400000, use, kind, pcs) + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + s15(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def cmyk_profile():
    """A printer whose inks take away light, C red and so on, each color the product of what four inks leave."""
    steps = np.linspace(0, 1, 9)
    c, m, y, k = np.meshgrid(steps, steps, steps, steps, indexing="ij")
    rgb = np.stack([(1 - c) * (1 - k), (1 - m) * (1 - k), (1 - y) * (1 - k)], -1)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ D65)) @ BRADFORD
    xyz = decode_srgb(rgb) @ (adapt @ to_xyz("srgb")).T / D50
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
    codes = np.rint((lab + [0, 128, 128]) * [652.8, 256, 256]).clip(0, 65535).astype(">u2")
    ramp = np.linspace(0, 65535, 2).astype(">u2").tobytes()
    a2b = b"mft2\0\0\0\0" + bytes([4, 3, 9, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">HH", 2, 2)
    a2b += ramp * 4 + codes.tobytes() + ramp * 3
    b2a = b"mft2\0\0\0\0" + bytes([3, 4, 2, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">HH", 2, 2)
    b2a += ramp * 3 + bytes(2 * 4 * 8) + ramp * 4
    name = b"Test press\0"
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78),
        (b"cprt", b"text\0\0\0\0none\0"),
        (b"wtpt", b"XYZ \0\0\0\0" + s15(*D50)),
        (b"A2B0", a2b),
        (b"A2B1", a2b),
        (b"B2A0", b2a),
    ]
    return packed_profile(b"CMYK", tags, b"prtr", b"Lab ")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels, *chunks):
    """8 or 16 bit RGB PNG with chunks before its pixels."""
    depth = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(f">u{pixels.dtype.itemsize}").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, 2, 0, 0, 0)
    body = b"".join(chunk(kind, data) for kind, data in chunks)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def chrm(space):
    values = [0.3127, 0.3290, *(v for xy in PRIMARIES[space] for v in xy)]
    return b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in values))


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def opened(data, tmp_path, name="a.img"):
    (tmp_path / name).write_bytes(data)
    return np.asarray(open_image(tmp_path / name))


def assert_chart(got, expected=PIXELS, limit=3.0):
    """Middles of the patches: what a lossy container does at their edges is not what is tested."""
    difference = [p.reshape(4, 16, 6, 16, 3)[:, 4:12, :, 4:12].mean((1, 3)).reshape(-1, 3) for p in (got, expected)]
    worst = np.abs(difference[0] - difference[1]).max(1)
    assert worst.max() <= limit, worst


CONTAINERS = {
    "JPEG": {"quality": 98, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("kind", list(CONTAINERS))
@pytest.mark.parametrize(("space", "gamma"), [("p3", 2.2), ("adobe", 563 / 256), ("bt2020", 2.4), ("srgb", 1.8)])
def test_icc_profiles_in_every_container(tmp_path, kind, space, gamma):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    pixels = numbers(space, lambda v: v ** (1 / gamma))
    data = encoded(Image.fromarray(pixels), kind, icc_profile=profile(space, gamma), **CONTAINERS[kind])
    with Image.open(io.BytesIO(data)) as picture:
        stored = np.asarray(picture.convert("RGB"))  # with what a lossy container did to the numbers
    assert_chart(opened(data, tmp_path), meant(space, lambda v: v ** (round(gamma * 256) / 256), stored))
    assert_chart(opened(data, tmp_path), limit=25.0)  # near the gamut's edge a lossy container errs by so much


def test_a_profile_that_is_srgb_changes_no_number(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).integers(0, 256, PIXELS.shape, dtype=np.uint8)
    assert np.array_equal(opened(encoded(Image.fromarray(noise), "PNG", icc_profile=srgb), tmp_path), noise)


def test_gray_and_palette_profiles(tmp_path):
    gray = np.repeat(np.arange(0, 256, 3, dtype=np.uint8)[None], 20, 0)
    expected = np.rint(encode_srgb((gray / 255) ** 1.8) * 255)
    data = encoded(Image.fromarray(gray), "PNG", icc_profile=profile("srgb", 1.8, b"GRAY"))
    assert np.abs(opened(data, tmp_path)[..., 0] - expected).max() <= 3
    palette = Image.fromarray(numbers("p3", lambda v: v ** (1 / 2.2))).quantize(24)
    assert_chart(opened(encoded(palette, "PNG", icc_profile=profile("p3", 2.2)), tmp_path))


def test_cmyk_with_a_profile_goes_through_it_and_without_says_so(tmp_path, caplog):
    k = 1 - PIXELS.max(-1, keepdims=True) / 255
    cmy = 1 - PIXELS / 255 / (1 - k)
    picture = Image.fromarray(np.rint(np.concatenate([cmy, k], -1) * 255).astype(np.uint8), mode="CMYK")
    for kind in ("TIFF", "JPEG"):
        options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
        data = encoded(picture, kind, icc_profile=cmyk_profile(), **options)
        assert_chart(opened(data, tmp_path), limit=8.0 if kind == "JPEG" else 3.0)
    assert not caplog.records
    opened(encoded(picture, "JPEG"), tmp_path, "plain.jpg")
    assert "plain.jpg is CMYK without a color profile" in caplog.text


@pytest.mark.parametrize("levels", [255, 65535])
@pytest.mark.parametrize(
    ("space", "gamma"), [("srgb", 1.0), ("p3", 1.0), ("adobe", 2.2), ("srgb", 1.8), ("srgb", None)]
)
def test_gama_and_chrm(tmp_path, levels, space, gamma):
    encode = encode_srgb if gamma is None else lambda v: v ** (1 / gamma)
    stated = round(100_000 / (gamma or 2.2))
    pixels = numbers(space, encode, levels)
    got = opened(png(pixels, (b"gAMA", struct.pack(">I", stated)), chrm(space)), tmp_path)
    assert_chart(got, meant(space, decode_srgb if gamma is None else lambda v: v**gamma, pixels))
    if levels > 255:  # of 8 bits a linear sample is a step of 13 in the darkest sRGB ones
        assert_chart(got)


def test_srgb_chunk_beats_gama(tmp_path):
    data = png(PIXELS, (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455)), chrm("srgb"))
    assert np.array_equal(opened(data, tmp_path), PIXELS)
    assert np.array_equal(opened(png(PIXELS, (b"gAMA", struct.pack(">I", 45455))), tmp_path), PIXELS)


@pytest.mark.parametrize("levels", [255, 65535])
@pytest.mark.parametrize(
    ("space", "codes", "encode"),
    [
        ("p3", (12, 13), encode_srgb),
        ("srgb", (1, 13), encode_srgb),
        ("bt2020", (9, 1), lambda v: np.where(v < 0.018, 4.5 * v, 1.099 * v**0.45 - 0.099)),
        ("p3", (12, 4), lambda v: v ** (1 / 2.2)),
    ],
)
def test_cicp(tmp_path, space, codes, encode, levels):
    data = png(numbers(space, encode, levels), (b"cICP", bytes([*codes, 0, 1])), (b"gAMA", struct.pack(">I", 100_000)))
    assert_chart(opened(data, tmp_path))


@pytest.mark.parametrize(("codes", "word"), [((9, 16), "PQ"), ((9, 18), "HLG"), ((22, 13), "primaries 22")])
def test_what_cannot_be_brought_to_srgb_is_named(tmp_path, codes, word):
    with pytest.raises(FlashWorldError, match=word):
        opened(png(PIXELS, (b"cICP", bytes([*codes, 0, 1]))), tmp_path)


def test_cameras_adobe_rgb_without_a_profile(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    picture = Image.fromarray(numbers("adobe", lambda v: v ** (256 / 563)))
    assert_chart(opened(encoded(picture, "JPEG", exif=exif, quality=98, subsampling=0), tmp_path), limit=6.0)


@pytest.mark.parametrize("icc", [b"no profile at all", profile("p3", 2.2)[:200], cmyk_profile()])
def test_a_profile_that_cannot_be_used_is_named_and_the_picture_read(tmp_path, caplog, icc):
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(opened(encoded(Image.fromarray(PIXELS), "PNG", icc_profile=icc), tmp_path), PIXELS)
    assert "color profile" in caplog.text


def test_a_picture_already_open_is_managed_too(tmp_path):
    picture = Image.fromarray(numbers("p3", lambda v: v ** (1 / 2.2)))
    picture.info["icc_profile"] = profile("p3", 2.2)
    assert_chart(np.asarray(open_image(picture)))


@pytest.mark.parametrize("icc", [None, profile("p3", 2.2)])
def test_cut_outs_lie_over_the_background_with_no_fringe(tmp_path, icc):
    """A gray disc with a soft edge whose hidden pixels are green: no pixel may be greener than disc and background."""
    y, x = np.mgrid[:96, :96]
    alpha = np.clip(40.5 - np.hypot(x - 47.5, y - 47.5), 0, 1)
    rgba = np.zeros((96, 96, 4), np.uint8)
    rgba[...] = (0, 255, 0, 0)
    rgba[alpha > 0, :3] = 120
    rgba[..., 3] = np.rint(alpha * 255)
    data = encoded(Image.fromarray(rgba), "PNG", **({"icc_profile": icc} if icc else {}))
    (tmp_path / "a.png").write_bytes(data)
    for background in ((255, 255, 255), (10, 20, 200)):
        got = open_image(tmp_path / "a.png", background)
        assert got.getpixel((0, 0)) == background
        small = np.asarray(got.resize((24, 24), Image.Resampling.BICUBIC)).astype(int)
        disc = np.asarray(got)[48, 48].astype(int)
        low, high = np.minimum(disc, background), np.maximum(disc, background)
        assert (small >= low - 8).all() and (small <= high + 8).all()
