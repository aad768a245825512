"""The checkpoint's number formats, in torch: FP8 with a scale for each 128 x 128, FP4 for each 1 x 32.

Scales are powers of two. A packed byte holds two FP4 codes, the even column in its low nibble.
"""

import torch

E2M1 = torch.tensor([0.0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
E2M1_MIDPOINTS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def pow2_ceil(x):
    """The smallest power of two >= x, for normal x > 0."""
    bits = x.float().contiguous().view(torch.int32)
    exponent = ((bits >> 23) & 255) + ((bits & 0x7FFFFF) != 0).int()
    return (exponent << 23).view(torch.float32)


def e2m1_codes(x):
    """Codes of the nearest E2M1 values, |x| <= 6, ties to the even code."""
    size = x.abs()
    code = torch.zeros_like(size, dtype=torch.int64)
    for below, middle in enumerate(E2M1_MIDPOINTS):
        code += ((size > middle) | ((size == middle) & (below % 2 == 1))).long()
    return code | ((x < 0).long() << 3)


def to_fp8(weight):
    rows, columns = weight.shape
    block = weight.float().view(rows // 128, 128, columns // 128, 128)
    scale = pow2_ceil(block.abs().amax((1, 3), keepdim=True).clamp_min(1e-12) / 448.0)
    codes = (block / scale).to(torch.float8_e4m3fn).view(rows, columns)
    return codes, scale.view(rows // 128, columns // 128).to(torch.float8_e8m0fnu)


def to_fp4(weight):
    rows, columns = weight.shape
    group = weight.float().view(rows, columns // 32, 32)
    scale = pow2_ceil(group.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 6.0)
    codes = e2m1_codes((group / scale).clamp(-6, 6)).view(rows, columns)
    packed = (codes[:, 0::2] | (codes[:, 1::2] << 4)).to(torch.uint8).view(torch.int8)
    return packed, scale.view(rows, columns // 32).to(torch.float8_e8m0fnu)


def from_either(codes, scale):
    if codes.dtype == torch.int8:
        byte = codes.view(torch.uint8).long()
        value = E2M1[torch.stack([byte & 15, byte >> 4], -1).flatten(-2)]
        return value * scale.float().repeat_interleave(32, -1)
    factor = scale.float().repeat_interleave(128, 0).repeat_interleave(128, 1)
    return codes.float() * factor
