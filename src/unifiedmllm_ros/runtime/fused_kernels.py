"""Kernels of a decoding step over one position, in Triton.

Such a step reads every weight once and computes next to nothing with it, so that it takes as long
as memory takes to give the weights, if nothing else is in the way. What is in the way are the many
short operators between the products; here each product does them along with its reading. A layer
is five kernels.

With `CHAINED`, a kernel is started before the one in front has ended, fetches the first of its
weights meanwhile and waits before it touches what that one computes (programmatic dependent launch,
compute capability 9.0 and later).
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import cuda as chain


@triton.jit
def matvec(
    source,
    weight,
    target,
    norm,
    added,
    scale,
    eps,
    N,
    K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    ADDED: tl.constexpr,
    CHAINED: tl.constexpr,
):
    """Products of rows of `weight` (N, K) with `source` (K,), BLOCK_N of them.

    NORM: the source is first brought to root mean square 1 and multiplied by `norm` (K,).
    GATED: the weight has 2N rows, gates first; gives silu(gate) * other.
    ADDED: gives `added` + scale * product. All vectors are float32, except `norm`.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = rows < N
    starts = weight + rows.to(tl.int64)[:, None] * K
    if CHAINED:
        chain.gdc_launch_dependents()
    total = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    gates = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    squares = tl.zeros((BLOCK_K,), tl.float32)
    for start in tl.static_range(0, K, BLOCK_K):
        places = start + tl.arange(0, BLOCK_K)
        known = places < K
        both = inside[:, None] & known[None, :]
        block = tl.load(starts + places[None, :], mask=both, other=0.0)
        if GATED:
            beside = tl.load(starts + N.to(tl.int64) * K + places[None, :], mask=both, other=0.0)
        if NORM:
            factor = tl.load(norm + places, mask=known, other=0.0).to(tl.float32)
        if CHAINED and start == 0:
            chain.gdc_wait()
        values = tl.load(source + places, mask=known, other=0.0)
        if NORM:
            squares += values * values
            values *= factor
        if GATED:
            gates += block.to(tl.float32) * values[None, :]
            total += beside.to(tl.float32) * values[None, :]
        else:
            total += block.to(tl.float32) * values[None, :]
    said = tl.sum(total, 1)
    gate = tl.sum(gates, 1)
    if NORM:
        level = 1.0 / tl.sqrt(tl.sum(squares, 0) / K + eps)
        said *= level
        gate *= level
    if GATED:
        said *= gate / (1.0 + tl.exp(-gate))
    if ADDED:
        said = tl.load(added + rows, mask=inside, other=0.0) + scale * said
    tl.store(target + rows, said, mask=inside)


@triton.jit
def _look(query, keys, values, seen, top, mass, said):
    """Take slots in: their keys and values (S, width), of those seen. The softmax is kept by its
    highest score `top`, its sum `mass` and the sum of values `said`, both relative to that."""
    scores = tl.where(seen, tl.sum(keys.to(tl.float32) * query[None, :], 1), -1.0e30)
    higher = tl.maximum(top, tl.max(scores, 0))
    shares = tl.where(seen, tl.exp(scores - higher), 0.0)
    rest = tl.exp(top - higher)
    said = said * rest + tl.sum(values.to(tl.float32) * shares[:, None], 0)
    return higher, mass * rest + tl.sum(shares, 0), said


@triton.jit
def attend(
    projected,
    keys,
    values,
    visible,
    cosines,
    sines,
    place,
    slot,
    parts,
    arrived,
    target,
    scale,
    PLACES,
    SPAN,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    MOST: tl.constexpr,
    CHAINED: tl.constexpr,
):
    """Attention of one position: a query head in a part of the slots; grid (HEADS, SPLITS).

    projected: queries, keys and values of the position, one behind the other, before rotation by
    `cosines` and `sines` (length, WIDTH) of its `place`. keys, values: (kv heads, PLACES, WIDTH);
    those of the position are written to `slot`. visible: (SPAN,). The parts of a head are put
    together by the last of its programs: `parts` (HEADS, SPLITS, WIDTH + 2), `arrived` (HEADS,),
    zero before and after. target: (HEADS, WIDTH). MOST: a power of two, SPLITS or more.
    """
    head, part = tl.program_id(0), tl.program_id(1)
    shared = head // GROUPS
    column = tl.arange(0, WIDTH)
    other = (column + WIDTH // 2) % WIDTH
    sign = tl.where(column < WIDTH // 2, -1.0, 1.0)
    held = shared.to(tl.int64) * PLACES * WIDTH
    if CHAINED:
        chain.gdc_launch_dependents()
    # Nothing of this comes from the kernel in front. Slots that are not seen hold finite numbers.
    own = tl.load(slot)
    at = tl.load(place)
    slots = part * BLOCK + tl.arange(0, BLOCK)
    there = slots < SPAN
    seen = tl.load(visible + slots, mask=there, other=0) != 0
    at_slots = held + slots[:, None] * WIDTH + column[None, :]
    block = tl.load(keys + at_slots, mask=there[:, None], other=0.0)
    beside = tl.load(values + at_slots, mask=there[:, None], other=0.0)
    cosine = tl.load(cosines + at * WIDTH + column)
    sine = sign * tl.load(sines + at * WIDTH + column)
    if CHAINED:
        chain.gdc_wait()
    begin = projected + head * WIDTH
    query = tl.load(begin + column) * cosine + tl.load(begin + other) * sine
    query *= scale
    begin = projected + (HEADS + shared) * WIDTH
    key = tl.load(begin + column) * cosine + tl.load(begin + other) * sine
    begin = projected + (HEADS + HEADS // GROUPS + shared) * WIDTH
    # As later steps will find them.
    key_kept = key.to(keys.dtype.element_ty)
    value_kept = tl.load(begin + column).to(values.dtype.element_ty)
    if part == 0 and head % GROUPS == 0:
        tl.store(keys + held + own * WIDTH + column, key_kept)
        tl.store(values + held + own * WIDTH + column, value_kept)
    # The position itself belongs to the first part.
    alone = tl.sum(query * key_kept.to(tl.float32), 0)
    top = tl.where(part == 0, alone, -1.0e30)
    mass = tl.where(part == 0, 1.0, 0.0)
    said = tl.where(part == 0, value_kept.to(tl.float32), 0.0)
    top, mass, said = _look(query, block, beside, seen & (slots != own), top, mass, said)
    for start in range((SPLITS + part) * BLOCK, SPAN, SPLITS * BLOCK):
        slots = start + tl.arange(0, BLOCK)
        there = slots < SPAN
        seen = tl.load(visible + slots, mask=there, other=0) != 0
        at_slots = held + slots[:, None] * WIDTH + column[None, :]
        block = tl.load(keys + at_slots, mask=there[:, None], other=0.0)
        beside = tl.load(values + at_slots, mask=there[:, None], other=0.0)
        top, mass, said = _look(query, block, beside, seen & (slots != own), top, mass, said)
    if SPLITS == 1:
        tl.store(target + head * WIDTH + column, said / mass)
    else:
        line = parts + (head * SPLITS + part) * (WIDTH + 2)
        tl.store(line + column, said)
        tl.store(line + WIDTH, top)
        tl.store(line + WIDTH + 1, mass)
        tl.debug_barrier()  # all of it is written before this program counts as arrived
        before = tl.atomic_add(arrived + head, 1)
        if before == SPLITS - 1:
            tl.debug_barrier()
            index = tl.arange(0, MOST)
            real = index < SPLITS
            lines = parts + (head * SPLITS + index) * (WIDTH + 2)
            tops = tl.load(lines + WIDTH, mask=real, other=-1.0e30, cache_modifier='.cg')
            masses = tl.load(lines + WIDTH + 1, mask=real, other=0.0, cache_modifier='.cg')
            weights = tl.exp(tops - tl.max(tops, 0))
            all_said = tl.load(
                lines[:, None] + column[None, :],
                mask=real[:, None],
                other=0.0,
                cache_modifier='.cg',
            )
            whole = tl.sum(all_said * weights[:, None], 0) / tl.sum(masses * weights, 0)
            tl.store(target + head * WIDTH + column, whole)
            tl.store(arrived + head, 0)
