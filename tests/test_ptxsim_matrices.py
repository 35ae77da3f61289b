"""Products of matrices by warps in the interpreter of PTX, against NumPy: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from ptxsim import ExecutionError
from ptxsim.snippets import kernel, run

WARPS = 2
LANE, WARP = np.arange(32 * WARPS) % 32, np.arange(32 * WARPS) // 32
QUAD, MEMBER = LANE // 4, LANE % 4

# Rows, columns and depth; for each matrix, the (row, column) of the elements of the threads, as the
# figures of the PTX ISA show them.
SUMS = [
    (QUAD, 2 * MEMBER),
    (QUAD, 2 * MEMBER + 1),
    (QUAD + 8, 2 * MEMBER),
    (QUAD + 8, 2 * MEMBER + 1),
]
OF_TF32 = (
    (16, 8, 8),
    [(QUAD, MEMBER), (QUAD + 8, MEMBER), (QUAD, MEMBER + 4), (QUAD + 8, MEMBER + 4)],
    [(MEMBER, QUAD), (MEMBER + 4, QUAD)],
    SUMS,
)
OF_HALVES = (
    (16, 8, 16),
    [
        (QUAD + row, 2 * MEMBER + column + low)
        for column in (0, 8)
        for row in (0, 8)
        for low in (0, 1)
    ],
    [(2 * MEMBER + row + low, QUAD) for row in (0, 8) for low in (0, 1)],
    SUMS,
)
OF_DOUBLES = ((8, 8, 4), [(QUAD, MEMBER)], [(MEMBER, QUAD)], SUMS[:2])


def code(shape, kinds, registers):
    """A kernel of a product: the registers of each matrix, and how many bits they have."""
    lines, names = ["mov.u32 %r39, %tid.x;"], {}
    for name, prefix, first, count, bits in registers:
        names[name] = [f"{prefix}{first + k}" for k in range(count)]
        step = count * bits // 8
        lines.append(f"ld.param.u64 %rd39, [{name}]; mad.wide.u32 %rd39, %r39, {step}, %rd39;")
        verb = "ld" if name != "d" else ""
        for k, register in enumerate(names[name]):
            if verb:
                lines.append(f"ld.global.b{bits} {register}, [%rd39+{k * bits // 8}];")
    listed = ", ".join("{" + ", ".join(names[name]) + "}" for name in "dabc")
    lines.append(f"mma.sync.aligned.{shape}.row.col.{kinds} {listed};")
    bits = registers[-1][-1]
    for k, register in enumerate(names["d"]):
        lines.append(f"st.global.b{bits} [%rd39+{k * bits // 8}], {register};")
    return kernel("\n".join(lines), ["a", "b", "c", "d"])


def fragments(matrix, places, dtype):
    """(threads, elements) of what each thread holds; `matrix` has one for each warp."""
    return np.stack([matrix[WARP, row, column] for row, column in places], axis=1).astype(dtype)


def matrices(fragment, places, rows, columns):
    made = np.zeros((WARPS, rows, columns))
    for k, (row, column) in enumerate(places):
        made[WARP, row, column] = fragment[:, k]
    return made


def truncated(array):
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)
    return bits.view(np.float32).astype(np.float64)


CASES = {
    "tf32": ("m16n8k8", "f32.tf32.tf32.f32", OF_TF32, np.float32, np.float32, truncated, 32),
    "f16": ("m16n8k16", "f32.f16.f16.f32", OF_HALVES, np.float16, np.float32, np.float64, 32),
    "f64": ("m8n8k4", "f64.f64.f64.f64", OF_DOUBLES, np.float64, np.float64, np.float64, 64),
}


@pytest.mark.parametrize("case", CASES)
def test_product_of_random_matrices(case):
    shape, kinds, (sizes, *places), dtype, wide, read, bits = CASES[case]
    m, n, k = sizes
    random = np.random.default_rng(0)
    a, b, c = (
        random.standard_normal((WARPS, *size)).astype(kind)
        for size, kind in [((m, k), dtype), ((k, n), dtype), ((m, n), wide)]
    )
    prefixes = {"tf32": "%r", "f16": "%r", "f64": "%d"}[case], {32: "%f", 64: "%d"}[bits]
    given = [
        fragments(matrix, own, kind)
        for matrix, own, kind in zip((a, b, c), places, (dtype, dtype, wide), strict=True)
    ]
    counts = [array.nbytes // len(array) * 8 // bits for array in given]
    registers = [
        ("a", prefixes[0], 0, counts[0], bits),
        ("b", prefixes[0], 4, counts[1], bits),
        ("c", prefixes[1], 8, counts[2], bits),
        ("d", prefixes[1], 12, counts[2], bits),
    ]
    result = np.zeros_like(given[2])
    found = run(code(shape, kinds, registers), [*given, result], threads=32 * WARPS)
    assert not found.reports
    expected = np.array([read(x) @ read(y) for x, y in zip(a, b, strict=True)]) + c
    made = matrices(result, places[2], m, n)
    np.testing.assert_allclose(made, expected, rtol=4 * np.finfo(wide).eps, atol=1e-6)
    assert np.abs(made).max() > 1


def test_low_bits_of_operands_are_not_read():
    registers = [("a", "%r", 0, 4, 32), ("b", "%r", 4, 2, 32), ("c", "%f", 8, 4, 32)]
    text = code("m16n8k8", "f32.tf32.tf32.f32", [*registers, ("d", "%f", 12, 4, 32)])
    ones = np.ones((32, 4), np.float32)
    noisy = (ones.view(np.uint32) | np.uint32(0x1FFF)).view(np.float32)
    results = []
    for given in (ones, noisy):
        result = np.zeros((32, 4), np.float32)
        run(text, [given, np.ascontiguousarray(given[:, :2]), np.zeros_like(ones), result])
        results.append(result)
    np.testing.assert_array_equal(results[0], 8.0)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "opcode",
    [
        "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32",
        "mma.sync.aligned.m16n8k8.row.row.f32.tf32.tf32.f32",
    ],
)
def test_other_products_are_refused(opcode):
    body = f"{opcode} {{%f0,%f1,%f2,%f3}}, {{%r0,%r1,%r2,%r3}}, {{%r4,%r5}}, {{%f4,%f5,%f6,%f7}};"
    with pytest.raises(ExecutionError, match="product of matrices"):
        run(kernel(body))


def test_product_waits_for_all_lanes():
    """Lanes that come later by another way take part."""
    product = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
    body = f"""
    mov.u32 %r39, %tid.x; mov.b32 %r0, 0f3F800000; mov.f32 %f0, 0f00000000;
    setp.lt.u32 %p1, %r39, 7; @%p1 bra late; bra meet;
late: mov.b32 %r0, 0f3F800000;
meet: {product} {{%f1,%f2,%f3,%f4}}, {{%r0,%r0,%r0,%r0}}, {{%r0,%r0}}, {{%f0,%f0,%f0,%f0}};
    ld.param.u64 %rd1, [d]; mad.wide.u32 %rd1, %r39, 4, %rd1; st.global.f32 [%rd1], %f4;"""
    result = np.zeros(32, np.float32)
    assert not run(kernel(body, ["d"]), [result]).reports
    np.testing.assert_array_equal(result, 8.0)
