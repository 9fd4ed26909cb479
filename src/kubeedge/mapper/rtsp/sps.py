"""How large the pictures are that a sequence parameter set speaks of (H.264, section 7.3.2.1.1). Pure."""

from __future__ import annotations

from kubeedge.errors import PeerError

_HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles that say more
_MAX_SIDE = 16384


class _Bits:
    """Numbers of a bit string, from its most significant bit on."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise PeerError("a sequence parameter set ends too early")
        return self._value >> self._left & (1 << count) - 1

    def unsigned(self) -> int:
        """ue(v): Exp-Golomb."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise PeerError("a sequence parameter set has a number of more than 32 bits")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def size_of(sps: bytes) -> tuple[int, int]:
    """(width, height) of a sequence parameter set, which is a NAL unit. Raises PeerError."""
    bits = _Bits(_plain(sps[1:]))
    profile = bits.take(8)
    bits.take(16)
    bits.unsigned()
    chroma, is_separate = 1, 0
    if profile in _HIGH:
        chroma = bits.unsigned()
        if chroma == 3:
            is_separate = bits.take(1)
        bits.unsigned()
        bits.unsigned()
        bits.take(1)
        if bits.take(1):
            for n in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_list(bits, 16 if n < 6 else 64)
    bits.unsigned()
    _skip_order(bits)
    bits.unsigned()
    bits.take(1)
    width, height = 16 * (bits.unsigned() + 1), bits.unsigned() + 1
    whole = bits.take(1)
    height *= 16 * (2 - whole)
    if not whole:
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        unit_x, unit_y = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}.get(0 if is_separate else chroma, (1, 1))
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        width -= unit_x * (left + right)
        height -= unit_y * (2 - whole) * (top + bottom)
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        raise PeerError(f"pictures of {width} x {height}")
    return width, height


def _skip_order(bits: _Bits) -> None:
    """How pictures are counted."""
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        count = bits.unsigned()
        if count > 255:
            raise PeerError("a sequence parameter set with more than 255 frames in a cycle")
        for _ in range(count):
            bits.signed()


def _skip_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _plain(data: bytes) -> bytes:
    """Without the bytes that keep start codes out (section 7.4.1)."""
    return data.replace(b"\x00\x00\x03", b"\x00\x00")
