"""Source text of odd objects and arrays, for programs of hostile inputs: needs no backend."""

from __future__ import annotations

from random_formulas import Choices

NUMPY, TORCH = "redcomp.numpy", "redcomp.torch"

THINGS = (
    *("None", "True", "False", "0", "1", "2", "-1", "3.5", "float('nan')", "float('inf')", "1j"),
    *("10**400", "-(10**5000)", "2**63", "''", "'x'", "b'x'", "bytearray(3)", "'Sum'", "'float32'"),
    *("[]", "()", "{}", "set()", "[1]", "[[1, 2], [3]]", "{'x': 1}", "[None]", "['x']", "('a', 1)"),
    *("object()", "object", "len", "print", "...", "NotImplemented", "type", "Exception('x')"),
    *("range(3)", "range(10**12)", "iter([1, 2])", "(k for k in 'abc')", "iter(int, 1)"),
    *("slice(3)", "memoryview(b'abc')", "np", "torch", "np.float32", "np.dtype('f4')"),
    *("np.float64(3)", "np.int8(1)", "np.bool_(True)", "np.str_('x')", "np.datetime64('2020')"),
    *("np.array(1)", "np.array([1])", "np.array([0, 1])", "np.ones((3, 2))", "np.array('Sum')"),
    *(
        "np.array(['x', 'y'])",
        "np.zeros(0)",
        "np.zeros((0, 3))",
        "np.zeros((3, 0))",
        "np.array(None)",
    ),
    *("np.float16(1)", "np.longdouble(1)", "np.complex64(1)", "np.ones(2, 'V4')", "np.void(b'ab')"),
    *("torch.tensor(1)", "torch.tensor([1])", "torch.ones(3, 2)", "torch.tensor(True)"),
    *(
        "torch.tensor(1.5, requires_grad=True)",
        "torch.tensor(1j)",
        "torch.zeros(0)",
        "torch.float32",
    ),
    *(
        "torch.device('cpu')",
        "torch.Size([1])",
        "torch.ones(2, device='meta')",
        "torch.Generator()",
    ),
    *("type('Odd', (), {'__index__': lambda s: 10**30})()", "type('Odd', (str,), {})('Sum')"),
    *("type('Odd', (), {'__float__': lambda s: 'x'})()", "type('Odd', (int,), {})(1)"),
    *("type('Odd', (), {'__len__': lambda s: -1, '__getitem__': lambda s, k: k})()",),
    *("type('Odd', (), {'shape': 3, 'dtype': None})()", "type('Odd', (), {'__array__': None})()"),
    *("type('Odd', (), {'__repr__': lambda s: 3})()", "type('Odd', (), {'__hash__': None})()"),
    *("'(3,)f8'", "np.dtype('(3,)f8')", "np.ma.masked", "np.ma.masked_array([1], [True])"),
)

NUMPY_DTYPES = (
    *("f2", "f4", "f8", "g", "c8", "c16", "?", "i1", "u1", "i4", "i8", "u8", ">f4", ">f8", ">i4"),
    *("O", "U3", "S3", "V4", "M8[s]", "m8[D]", "(2,)f8", "f4,f4", "3f8"),
)
NUMPY_CHANGES = (
    *("{}.T", "{}[::-1]", "{}[::2]", "{}[:, ::-1]", "{}[:0]", "{}[None]", "{}.reshape(-1)"),
    *(
        "np.asfortranarray({})",
        "np.broadcast_to({}, (2, 5, 3))",
        "np.broadcast_to({}[:1], {}.shape)",
    ),
    *("np.ma.masked_array({}, np.ones({}.shape, bool))", "np.ma.masked_array({})"),
    *(
        "np.asarray({}).view(type('Sub', (np.ndarray,), {{}}))",
        "{}.view(np.recarray)",
        "{}.tolist()",
    ),
    *("np.frombuffer(bytearray(1 + {}.nbytes), np.uint8)[1:].view({}.dtype).reshape({}.shape)",),
    *("{} * np.nan", "{} * np.inf", "{} * 1e300", "{} * -0.0", "{}.reshape((1,) * 29 + {}.shape)"),
    *("np.lib.stride_tricks.as_strided({}, strides=(0,) * {}.ndim)", "np.stack([{}, {}])"),
)
TORCH_DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "bool", "uint8"),
    *("int8", "int16", "int32", "int64"),
)
TORCH_CHANGES = (
    *(
        "{}.T",
        "{}.flip(0)",
        "{}[::2]",
        "{}[:0]",
        "{}[None]",
        "{}.reshape(-1)",
        "{}.expand(2, 5, 3)",
    ),
    *("{}[:1].expand({}.shape)", "torch.nn.Parameter({}, requires_grad=False)", "{}.tolist()"),
    *("{}.to('meta')", "{}.numpy()", "{} * float('nan')", "{}.double().requires_grad_()"),
    *(
        "{}.as_strided({}.shape, (0,) * {}.ndim)",
        "torch._neg_view({})",
        "{}.reshape((1,) * 29 + {}.shape)",
    ),
    *("torch.stack([{}, {}])", "{}.double().mul(1e300)", "{}.storage()", "{}.unbind()"),
)


def thing(choices: Choices) -> str:
    """An object of any kind."""
    return choices.one_of(THINGS)


def array(choices: Choices, library: str, shape: str) -> str:
    """An array of a library that is nearly one of the shape, or one of the other library."""
    if choices.once_in(12):
        library = TORCH if library == NUMPY else NUMPY
    if library == NUMPY:
        dtype = choices.one_of(("f8", "f8", *NUMPY_DTYPES))
        made, changes = f"np.zeros({shape}, {dtype!r})", NUMPY_CHANGES
    else:
        dtype = choices.one_of(("float64", "float64", *TORCH_DTYPES))
        made, changes = f"torch.zeros({shape}, dtype=torch.{dtype})", TORCH_CHANGES
    if not choices.once_in(3):
        change = choices.one_of(changes)
        made = change.replace("{}", made).replace("{{", "{").replace("}}", "}")
    return made


def integers(choices: Choices) -> str:
    """An array of integers, with some that do not fit."""
    count = choices.one_of((0, 1, 2, 6))
    numbers = (0, 1, 2, 3, 5, 6, -1, 2**31, -(2**63), 2**63 - 1)
    chosen = [numbers[choices.below(6 if choices.below(5) else len(numbers))] for _ in range(count)]
    shape = choices.one_of(("-1", "-1, 2", "2, -1", "1, -1")) if count in (2, 6) else "-1"
    if count == 0:
        shape = choices.one_of(("0", "0, 2"))
    return f"np.array({chosen}, np.int64).reshape({shape})"
