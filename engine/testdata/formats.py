"""Number formats of the checkpoint and the roundings of the official inference, in numpy.

Everything works on float32 arrays; a rounding returns the float32 value that the format can hold.
"""

import numpy as np

E2M1 = np.array(
    [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32
)
E2M1_MIDPOINTS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def _e4m3_table():
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    value = np.where(
        exponent > 0, np.ldexp(8.0 + mantissa, exponent - 10), np.ldexp(1.0 * mantissa, -9)
    )
    value[code & 127 == 127] = np.nan
    return np.where(code < 128, value, -value).astype(np.float32)


E4M3 = _e4m3_table()


def bf16_bits(x):
    """Nearest BF16, ties to even, as uint16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def bf16(x):
    return from_bf16(bf16_bits(x))


def pow2_ceil(x):
    """The smallest power of two >= x, for normal x > 0."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    exponent = (bits >> 23 & 255) + ((bits & 0x7FFFFF) != 0)
    return (exponent << 23).astype(np.uint32).view(np.float32)


def e8m0_bits(scale):
    """A power of two as its exponent byte."""
    return (np.ascontiguousarray(scale, np.float32).view(np.uint32) >> 23).astype(np.uint8)


def from_e8m0(bits):
    return np.ldexp(np.float32(1), bits.astype(np.int32) - 127).astype(np.float32)


def e4m3(x):
    """Nearest E4M3 value, ties to even; beyond 448 it saturates."""
    size = np.minimum(np.abs(x), np.float32(448))
    exponent = np.maximum(np.frexp(size)[1] - 1, -6)
    step = np.ldexp(np.float32(1), exponent - 3).astype(np.float32)
    return np.copysign(np.rint(size / step) * step, x).astype(np.float32)


def e4m3_bits(x):
    """E4M3 codes of values that e4m3 has rounded."""
    size = np.abs(x)
    code = np.searchsorted(E4M3[:127], size)
    assert np.array_equal(E4M3[code], size)
    return (code | (np.signbit(x).astype(int) << 7)).astype(np.uint8)


def e2m1_codes(x):
    """Codes of the nearest E2M1 values, |x| <= 6, ties to the even code."""
    size = np.abs(x)
    code = np.zeros(x.shape, np.int64)
    for below, middle in enumerate(E2M1_MIDPOINTS):
        code += (size > middle) | ((size == middle) & (below % 2 == 1))
    return code | ((x < 0).astype(np.int64) << 3)


def _groups(x, size):
    return x.reshape(*x.shape[:-1], -1, size)


def fake_fp8(x, group):
    """x as FP8 with a power-of-two scale for each `group` values of the last axis would hold it."""
    y = _groups(x, group)
    peak = np.maximum(np.abs(y).max(-1, keepdims=True), np.float32(1e-4))
    scale = pow2_ceil(peak * np.float32(1 / 448))
    return (e4m3(y / scale) * scale).reshape(x.shape)


def fake_fp4(x, group=32):
    y = _groups(x, group)
    peak = np.maximum(np.abs(y).max(-1, keepdims=True), np.float32(6 * 2.0**-126))
    scale = pow2_ceil(peak * np.float32(1 / 6))
    return (E2M1[e2m1_codes(np.clip(y / scale, -6, 6))] * scale).reshape(x.shape)


def quantise_fp8(weight):
    """[out, in] -> E4M3 codes and one E8M0 scale for each block of 128 x 128."""
    rows, columns = weight.shape
    block = weight.reshape(rows // 128, 128, columns // 128, 128)
    peak = np.maximum(np.abs(block).max((1, 3), keepdims=True), np.float32(1e-12))
    scale = pow2_ceil(peak / np.float32(448))
    codes = e4m3_bits(e4m3(block / scale)).reshape(rows, columns)
    return codes, e8m0_bits(scale.reshape(rows // 128, columns // 128))


def quantise_fp4(weight):
    """[out, in] -> two E2M1 codes a byte, low nibble first, and an E8M0 scale for each 1 x 32."""
    rows, columns = weight.shape
    group = weight.reshape(rows, columns // 32, 32)
    peak = np.maximum(np.abs(group).max(-1, keepdims=True), np.float32(1e-12))
    scale = pow2_ceil(peak / np.float32(6))
    codes = e2m1_codes(np.clip(group / scale, -6, 6)).reshape(rows, columns)
    packed = (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8).view(np.int8)
    return packed, e8m0_bits(scale.reshape(rows, columns // 32))


def dequantise(dtype, data, scale=None):
    """A stored tensor as float32; scale: the E8M0 bytes of a quantised one."""
    if dtype == "F32":
        return np.asarray(data, np.float32)
    if dtype == "BF16":
        return from_bf16(np.asarray(data))
    factor = from_e8m0(np.asarray(scale))
    if dtype == "I8":
        byte = np.asarray(data).view(np.uint8)
        codes = np.stack([byte & 15, byte >> 4], -1).reshape(byte.shape[0], -1)
        return E2M1[codes] * np.repeat(factor, 32, -1)
    assert dtype == "F8_E4M3", dtype
    return E4M3[np.asarray(data)] * np.repeat(np.repeat(factor, 128, 0), 128, 1)
