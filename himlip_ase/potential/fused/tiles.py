"""Products of small matrices, the one loop that most of the arithmetic is in: c = a b, and c += a b.

A tile of a few rows and one cache line of columns stays in registers while the inner index runs.  It is
written in LLVM's vector types, which every processor has in some width; all other loops of this package are
left to the compiler.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from himlip_ase.potential.compilation import compiled

LINE_BYTES = 64
"""Width of a tile, a cache line: eight doubles or sixteen single-precision numbers; or half or a quarter."""


def _tile_of(rows: int, width: int) -> Any:
    """A tile of so many rows and bytes of columns, as a function (a, r, b, q, c) within compiled code."""

    @intrinsic
    def tile(typing: Any, a: Any, r: Any, b: Any, q: Any, c: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _build_tile(context, builder, signature, arguments, rows, width)

        return types.void(a, types.intp, b, types.intp, c), build

    return tile


def _build_tile(
    context: Any, builder: Any, signature: Any, arguments: Any, rows: int, width: int
) -> ir.Value:
    """Code of one tile: Σ_k a[r + n, k] b[k, q …] for n below `rows`, added to c."""
    number = context.get_data_type(signature.args[4].dtype)
    size = context.get_abi_sizeof(number)
    line = ir.VectorType(number, width // size)
    undefined, zeros = ir.Constant(line, ir.Undefined), ir.VectorType(ir.IntType(32), line.count)(None)
    a, b, c = (
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[::2], arguments[::2], strict=True)
    )
    first, column = arguments[1], arguments[3]
    (a_row, a_inner), (b_inner, _), (c_row, _) = (
        cgutils.unpack_tuple(builder, array.strides, 2) for array in (a, b, c)
    )
    inner = cgutils.unpack_tuple(builder, b.shape, 2)[0]
    offset = builder.mul(column, column.type(size))

    def row_of(array: Any, stride: Any, n: int, *more: Any) -> Any:
        place = cgutils.pointer_add(
            builder, array.data, builder.mul(stride, builder.add(first, first.type(n)))
        )
        for step in more:
            place = cgutils.pointer_add(builder, place, step)
        return place

    def as_line(place: Any) -> Any:
        return builder.bitcast(place, line.as_pointer())

    starts = [row_of(a, a_row, n) for n in range(rows)]
    ends = [as_line(row_of(c, c_row, n, offset)) for n in range(rows)]
    above = cgutils.pointer_add(builder, b.data, offset)
    before = [builder.load(end, align=size) for end in ends]
    sums = [cgutils.alloca_once_value(builder, value) for value in before]
    with cgutils.for_range(builder, inner) as loop:
        down = cgutils.pointer_add(builder, above, builder.mul(b_inner, loop.index))
        factors = builder.load(as_line(down), align=size)
        for start, total in zip(starts, sums, strict=True):
            factor = builder.load(cgutils.pointer_add(builder, start, builder.mul(a_inner, loop.index)))
            spread = builder.insert_element(undefined, factor, ir.IntType(32)(0))
            spread = builder.shuffle_vector(spread, undefined, zeros)
            product = builder.fmul(spread, factors, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
    for end, total in zip(ends, sums, strict=True):
        builder.store(builder.load(total), end, align=size)
    return context.get_dummy_value()


def _strip_of(width: int) -> Any:
    """Adds the columns from q on, so many bytes of them, of a b to those of c."""
    add_1, add_2, add_4 = (_tile_of(rows, width) for rows in (1, 2, 4))

    @compiled
    def strip(a, b, q, c):
        rows, r = len(c), 0
        while r + 4 <= rows:
            add_4(a, r, b, q, c)
            r += 4
        if r + 2 <= rows:
            add_2(a, r, b, q, c)
            r += 2
        if r < rows:
            add_1(a, r, b, q, c)

    return strip


_whole, _half, _quarter = (_strip_of(LINE_BYTES // parts) for parts in (1, 2, 4))


@compiled
def add_product(a, b, c):
    """Adds a b to c; columns beyond quarters of cache lines go one by one.

    Parameters
    ----------
    a : ndarray (R, K)
        Any strides.
    b : ndarray (K, Q)
        With contiguous rows, as c.
    c : ndarray (R, Q)
    """
    rows, columns = c.shape
    line, q = LINE_BYTES // c.itemsize, 0
    while q + line <= columns:
        _whole(a, b, q, c)
        q += line
    if q + line // 2 <= columns:
        _half(a, b, q, c)
        q += line // 2
    if q + line // 4 <= columns:
        _quarter(a, b, q, c)
        q += line // 4
    if q < columns:
        for r in range(rows):
            for k in range(b.shape[0]):
                for p in range(q, columns):
                    c[r, p] += a[r, k] * b[k, p]


@compiled
def product(a, b, c):
    """Stores a b in c; see `add_product`.

    Parameters
    ----------
    a : ndarray (R, K)
    b : ndarray (K, Q)
    c : ndarray (R, Q)
    """
    c[:, :] = 0
    add_product(a, b, c)
