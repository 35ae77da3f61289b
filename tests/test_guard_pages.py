"""Nothing outside of the arrays is read or written: needs a CPU and POSIX."""

from __future__ import annotations

import os
import textwrap

import pytest
from array_samples import run_script

pytestmark = pytest.mark.slow

# Arguments lie in read-only pages, flush to an end that nobody may touch, or to a start; results
# and scratch memory end where nobody may touch either.  A wrong access ends the process.
GUARDED = """
    import ctypes, itertools, mmap, sys, threading
    import numpy as np
    from redcomp.numpy import Genred

    libc = ctypes.CDLL(None, use_errno=True)
    PAGE = mmap.PAGESIZE
    NONE, READ = 0, 1
    alive = []
    plain_empty = np.empty

    def inside(array, memory):
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return first <= array.ctypes.data < first + len(memory)

    def protect(address, size, how):
        assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), how) == 0

    def guarded(size, at_end=True):
        pages = -(-max(1, size) // PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        alive.append(memory)
        protect(first, PAGE, NONE)
        protect(first + (pages + 1) * PAGE, PAGE, NONE)
        start = first + PAGE
        offset = pages * PAGE - size if at_end else 0
        return start, pages * PAGE, start + offset

    def filled(array, at_end):
        start, size, address = guarded(array.nbytes, at_end)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        protect(start, size, READ)
        return address

    def view(address, shape, dtype):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)

    def guarded_empty(shape, dtype=float):
        # for results, scratch memory and partial sums
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return view(guarded(size)[2], shape, dtype)

    def call(op, arrays):
        # a thread's first call makes the thread's scratch memory
        results = []
        thread = threading.Thread(target=lambda: results.append(op(*arrays)))
        np.empty = guarded_empty
        thread.start()
        thread.join()
        np.empty = plain_empty
        return several(results[0])

    def several(results):
        return results if isinstance(results, tuple) else (results,)

    FORMULAS = [
        ("Exp(-SqDist(x,y)*g)*b", (3, 3, 2, 1), {}),
        ("Exp(-SqDist(x,y)*g)*b", (20, 20, 1, 1), {}),
        ("Sin(x-y)*g+b", (33, 33, 1, 1), {}),
        ("Exp(-Abs(x-y))*Log(2+b*b)*Cos(x)*g", (1, 1, 1, 1), {}),
        ("SqDist(x,y)*g+b", (3, 3, 1, 1), {"reduction_op": "KMin_ArgKMin", "opt_arg": 5}),
        ("SqDist(x,y)*g+b", (3, 3, 1, 1), {"reduction_op": "KMax_ArgKMax", "opt_arg": 40}),
        ("x*y+b*g", (1, 1, 1, 1), {"reduction_op": "SoftMax", "formula2": "b+x"}),
        ("SqDist(x,y)*g", (3, 3, 20, 1), {"reduction_op": "LogSumExp", "formula2": "b*b"}),
        ("x-y*g+b", (20, 20, 1, 1), {"reduction_op": "Min_ArgMin"}),
        ("x-y*g+b", (2, 2, 1, 1), {"reduction_op": "Prod"}),
    ]
    KINDS = ("Vi", "Vj", "Vj", "Pm")
    SIZES = [(1, 1), (5, 3), (16, 32), (17, 33), (64, 256), (65, 257), (130, 31), (2, 4200)]
    random = np.random.default_rng(0)
    count = 0
    DTYPES, AXES = (np.float32, np.float64), [int(sys.argv[1])]
    for (formula, dims, options), dtype, axis in itertools.product(FORMULAS, DTYPES, AXES):
        aliases = [f"{n} = {k}({d})" for n, k, d in zip("xybg", KINDS, dims)]
        op = Genred(formula, aliases, axis=axis, **options)
        for m, n in SIZES:
            leading = {"Vi": (m,), "Vj": (n,), "Pm": ()}
            shapes = [(*leading[kind], dim) for kind, dim in zip(KINDS, dims)]
            arrays = [random.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
            expected = several(op(*arrays))
            for at_end in (True, False):
                given = [view(filled(a, at_end), a.shape, dtype) for a in arrays]
                for result, right in zip(call(op, given), expected, strict=True):
                    assert any(inside(result, memory) for memory in alive)
                    assert np.array_equal(result, right), (formula, options, dtype, axis, m, n)
                count += 1
    print(count)
"""


@pytest.mark.skipif(os.name != "posix", reason="page protection as POSIX has it")
@pytest.mark.sampled(8)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_outside_the_arrays_is_touched(tmp_path, threads, axis):
    script = tmp_path / "guarded.py"
    script.write_text(textwrap.dedent(GUARDED))
    count = run_script(str(script), str(axis), REDCOMP_NUM_THREADS=str(threads))
    assert int(count) == 10 * 2 * 8 * 2
