"""Where a compressed recording is damaged. Its decoder passes over that in silence; the structure of the file tells."""

from __future__ import annotations

import re
import zlib
from typing import BinaryIO

_OGG_HEADER = 27
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_SEARCH = 2**20  # bytes in which MPEG frames are looked for after damage
_LARGEST_FRAME = 1441  # bytes, of layer III

# Of MPEG 1 (version 3), 2 (2) and 2.5 (0); ISO/IEC 11172-3, 2.4.2.3 and ISO/IEC 13818-3.
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MPEG_KILOBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def ogg(file: BinaryIO, start: int, rate: float) -> float | None:
    """Time of the first Ogg page that is missing or damaged.

    Pages are counted, carry a checksum, and say how many samples end with them (RFC 3533).

    Parameters
    ----------
    file : binary file object
        Seekable; is left anywhere.
    start : int
        Where its first page begins.
    rate : float
        In which the samples are counted, in Hz.

    Returns
    -------
    float or None
        In seconds; None if all pages follow each other.
    """
    file.seek(start)
    samples = count = 0
    while head := file.read(_OGG_HEADER):
        table = file.read(head[26] if len(head) == _OGG_HEADER else 0)
        body = file.read(sum(table))
        intact = head[:5] == b"OggS\0" and len(table) == head[26] and len(body) == sum(table)
        if (
            not intact
            or int.from_bytes(head[18:22], "little") != count
            or _ogg_checksum(head[:22] + bytes(4) + head[26:] + table + body) != int.from_bytes(head[22:26], "little")
        ):
            return max(samples, 0) / rate
        ended = int.from_bytes(head[6:14], "little", signed=True)
        samples, count = (ended if ended >= 0 else samples), count + 1
    return None


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 of zlib's polynomial, but of bits in the reverse order, and inverted neither before nor after."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def mpeg(file: BinaryIO, start: int) -> float | None:
    """Time of the first frame of an MP3 that is missing or damaged, if others follow it.

    Each frame's header tells where the next one begins.

    Parameters
    ----------
    file : binary file object
        Seekable; is left anywhere.
    start : int
        Where its first frame begins.

    Returns
    -------
    float or None
        In seconds; None if all frames follow each other.
    """
    place, seconds = start, 0.0
    while True:
        file.seek(place)
        length, lasts = _mpeg_frame(file.read(4))
        if not length:
            break
        place, seconds = place + length, seconds + lasts
    file.seek(place)
    rest = file.read(_SEARCH)
    for found in re.finditer(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", rest):
        length, _ = _mpeg_frame(rest[found.start() : found.start() + 4])
        following = rest[found.start() + length :][:4]
        if length and _mpeg_frame(following)[0]:
            return seconds
    return None


def mpeg_header_alone(head: bytes, size: int) -> tuple[int, int] | None:
    """Whether an MP3 ends before its first frame of sound does; the frame before that is a header.

    Parameters
    ----------
    head : bytes
        The first ones of the sound.
    size : int
        In bytes, of all of it.

    Returns
    -------
    tuple of int, or None
        Sample rate in Hz and channels; None if there is sound, or this is no such file.
    """
    length, _ = _mpeg_frame(head[:4])
    following, _ = _mpeg_frame(head[length:][:4])
    if not length or not re.search(rb"Xing|Info", head[:256]) or size - length >= (following or _LARGEST_FRAME):
        return None
    return _MPEG_RATES[head[1] >> 3 & 3][head[2] >> 2 & 3], 1 if head[3] >> 6 == 3 else 2


def _mpeg_frame(header: bytes) -> tuple[int, float]:
    """Bytes and seconds of the frame of layer III with this header; no bytes if it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0, 0.0
    version, bits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bits in (0, 15) or rate == 3:
        return 0, 0.0
    samples = 1152 if version == 3 else 576
    hertz = _MPEG_RATES[version][rate]
    kilobits = _MPEG_KILOBITS[3 if version == 3 else 2][bits - 1]
    return samples // 8 * 1000 * kilobits // hertz + (header[2] >> 1 & 1), samples / hertz
