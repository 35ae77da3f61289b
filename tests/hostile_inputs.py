"""Hostile inputs: programs that hand redcomp formulas, options and arguments of any kind.

Every number is an input: the text of a program.  It has to end with a result or with an error of
redcomp's own.  Needs PyTorch, no backend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from hostile_objects import THINGS, array, integers, thing
from random_formulas import Choices, Grammar
from reference_reductions import COMBINATIONS

from redcomp.frontend.language.builders import BUILDERS
from redcomp.ops import SPELLINGS

PREAMBLE = """\
import os
import numpy as np
import torch
import redcomp.numpy, redcomp.torch
import redcomp.numpy.cluster, redcomp.torch.cluster
from redcomp.__main__ import main
"""
LIBRARIES = ("redcomp.numpy", "redcomp.torch")
FORMULA, ALIASES = "Exp(-SqDist(x,y))*b", ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"]
NUMBERS = (
    *("0", "1", "2", "3", "-1", "16", "17", "100", "1000", "4097", "100000", "16777216"),
    *("16777217", "2147483647", "2147483648", "9" * 30, "9" * 350, "1e308", "1e309", "1e-320"),
    *("0.5", "1.", ".5", "00", "1e", "0x10", "1_000", "[]", "[1,2]", "(1,)", "()"),
)
NAMES = ("x", "y", "b", "v2", "p", *sorted(SPELLINGS), *sorted(BUILDERS))
PIECES = (*"+-*/|<>=()[],. \t\n", "**", "==", "<=", "!=", "''", '"', "\\", "\0", "é", "×", "_", "@")
SMALL_DIMS = (1, 2, 3, 4, 5, 8, 16, 17, 33)
WIDE_DIMS = (100, 1000, 1024, 65536, 100_000, 16_777_216)
ENTRIES = 40_000_000  # the most of an argument
TARGETS = ("host", "sm_90", "sm_75", "avx2", "sse2", "neon")


# Kinds that were thought of later have numbers from here on, so that those below stay as they were.
LATER = 1_000_000


def program(seed: int) -> str:
    """The input of a number."""
    choices = Choices(seed)
    kinds = KINDS if seed < LATER else LATER_KINDS
    return PREAMBLE + choices.one_of(kinds)(choices)


# -- formulas --------------------------------------------------------------------------------------


def grown(choices: Choices, formula: str) -> str:
    """A longer formula, by one operation or by many."""
    many = choices.one_of((1, 2, 3, 5, 10, 60, 199, 1000))
    few = min(many, 5)
    name = choices.one_of(NAMES[5:])
    ways: Sequence[Callable[[], str]] = (
        lambda: f"{name}({formula})",
        lambda: f"{name}({formula},{choices.one_of(('x', 'y', formula))})",
        lambda: f"{name}({formula},x,{choices.one_of((*NUMBERS, formula))})",
        lambda: f"{name}(" * min(many, 199) + formula + ")" * min(many, 199),
        lambda: "**".join([choices.one_of(("x", "b", "2"))] * many + [formula]),
        lambda: choices.one_of("+*-/").join([formula] * few + ["x"] * many),
        lambda: choices.one_of("(-+") * many + formula,
        lambda: "(" * many + formula + ")" * many,
        lambda: "Grad(" * few + formula + ",x,1)" * few,
        lambda: f"GradMatrix({formula},{choices.one_of('xyb')})",
        lambda: "Laplacian(" * few + f"Sum({formula})" + ",x)" * few,
        lambda: f"Diff({formula},x,{choices.one_of(('x', '1', formula))})",
        lambda: f"Concat({formula}," * few + "x" + ")" * few,
        lambda: f"TensorProd({formula}," * few + "x" + ")" * few,
        lambda: "Normalize(" * many + formula + ")" * many,
        lambda: f"SymSqNorm({choices.one_of(('b', 'x', 'y'))},{formula})",
        lambda: f"SoftDTW_SqDist({formula},y,{choices.one_of(('1', 'b'))})",
        lambda: f"BSpline(x,{formula},{choices.one_of(NUMBERS)})",
    )
    return choices.one_of(ways)()


def mutated(choices: Choices, text: str) -> str:
    """A text with a piece replaced, taken out, put in, or moved."""
    tokens = re.findall(r"\w+|\s+|.", text) or [""]
    at = choices.below(len(tokens))
    token = tokens[at]
    if token[:1].isdigit() and not choices.once_in(4):
        tokens[at] = choices.one_of(NUMBERS)
    elif token[:1].isalpha() and not choices.once_in(4):
        tokens[at] = choices.one_of(NAMES)
    else:
        other = tokens[choices.below(len(tokens))]
        tokens[at] = choices.one_of(
            ("", token * 2, other, choices.one_of(PIECES), chr(choices.below(500)))
        )
    return "".join(tokens)


def formula(choices: Choices) -> tuple[str, list[str]]:
    """A formula and its aliases, valid or not."""
    wide = choices.once_in(8)
    grammar = Grammar(choices, choices.one_of(WIDE_DIMS if wide else SMALL_DIMS))
    depth = choices.one_of((0, 1, 1, 2, 2, 3, 4))
    made = grammar.formula(choices.one_of((1, grammar.dim)), depth)
    for _ in range(choices.one_of((0, 1, 0, 1, 2))):
        made = grown(choices, made)
    for _ in range(choices.one_of((0, 1, 0, 1, 3))):
        made = mutated(choices, made)
    aliases = [str(a) for a in grammar.arguments]
    while choices.once_in(6):
        at = choices.below(len(aliases))
        aliases[at] = mutated(choices, aliases[at])
    return made[:20_000], aliases


# What makes a longer formula of one that has x's dimension, so that it remains valid.
STOREYS = (
    *("Sin({})", "({})**x", "Normalize({})", "({})*({})", "({})*x", "({})+y", "Square({})"),
    *("-({})", "Grad({},x,y)", "Diff({},x,y)", "IfElse({},x,y)", "({})<y", "Max({})*x"),
    *("x*SqDist({},y)", "Grad(Sum({}),x,1)", "Clamp({},0,1)", "Tanh({})/y", "Concat({},x)*b"),
    *("Extract(Concat({},x),1,{dim})", "MatVecMult(A,{})", "VecMatMult({},A)", "Exp({})*Sum({})"),
    *("SymSqNorm(A,{})*y", "Laplacian(Sum({}),x)*x", "Elem({},0)*x", "TraceOperator({},y)*x"),
    *("GradMatrix(Sum({}),x)", "Extract(GradMatrix({},x),0,{dim})", "ArgMax({})+x", "Powf({},b)"),
    *("Divergence({},x)*x", "Round({},3)*Mod(x,y,b)", "Gather({},b)*y"),
    "BSpline(Concat(Concat({},x),Concat(y,b)),b,1)",
)
HEIGHTS = (1, 2, 3, 4, 6, 10, 20, 60, 150)
TOWER_DIMS = (1, 2, 3, 5, 8, 16, 17, 40, 100, 300, 1000, 4096, 100_000)


def tower(choices: Choices) -> tuple[str, list[str]]:
    """A formula of many storeys, few of which are different, of at most 20,000 characters."""
    dim = choices.one_of(TOWER_DIMS)
    few = [choices.one_of(STOREYS) for _ in range(choices.one_of((1, 1, 2, 3)))]
    made = choices.one_of(("x", "x*y", "x-y", "b*x"))
    for _ in range(choices.one_of(HEIGHTS)):
        higher = choices.one_of(few).replace("{dim}", str(dim)).replace("{}", made)
        if len(higher) > 20_000:
            break
        made = higher
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"]
    if "A" in made:
        aliases.append(f"A = Pm({min(dim, 4096) ** 2})")
    return made, aliases


def reduction(choices: Choices) -> str:
    """Options that say how a formula is reduced."""
    name = choices.one_of(("Sum", "Sum", "LogSumExp", *COMBINATIONS))
    options = f"reduction_op={name!r}, axis={choices.below(2)}"
    if "KM" in name or choices.once_in(30):
        options += f", opt_arg={choices.one_of((1, 2, 3, 10, 100, 4096, 5000))}"
    if "Weight" in name or "SoftMax" in name or choices.once_in(30):
        options += f", formula2={choices.one_of(('x', '1', 'y*b', 'Sin(x'))!r}"
    return options


def of_formula(choices: Choices) -> str:
    """A formula, and a call, a derivative, or a stage of its compilation."""
    made, aliases = choices.one_of((formula, formula, tower))(choices)
    library = choices.one_of(LIBRARIES)
    use = choices.below(6)
    text = f"op = {library}.Genred({made!r}, {aliases!r}, {reduction(choices)})\n"
    if use == 0:
        options = f"{choices.one_of(('float32', 'float64'))!r}, {choices.one_of(TARGETS)!r}"
        return text + choices.one_of((f"op.lower({options}).asm\n", f"op.explain({options})\n"))
    if use > 3:  # what is made of a formula is what most limits are about; it costs little
        return text
    dtype = choices.one_of(("float32", "float64"))
    rows = choices.one_of((1, 2, 3, 7))
    is_torch = library == LIBRARIES[1]
    convert = "torch.from_numpy" if is_torch else ""
    text += (
        "args = []\n"
        "for k, p in enumerate(op.reduction.parameters):\n"
        f"    lead = {{'parameter': (), 'ij': ({rows}, {rows})}}.get(p.kind, ({rows},))\n"
        f"    kind = 'int32' if p.is_integer else {dtype!r}\n"
        f"    assert p.dim <= {ENTRIES // 49}\n"
        "    a = np.sin(np.arange(k, k + int(np.prod((*lead, p.dim))))).reshape((*lead, p.dim))\n"
        f"    args.append({convert}(a.astype(kind)))\n"
    )
    if use > 1 and is_torch:
        text += "args = [a.requires_grad_(a.is_floating_point()) for a in args]\n"
        text += "out = op(*args)\nout = out[0] if isinstance(out, tuple) else out\n"
        text += "wrt = [a for a in args if a.requires_grad]\n"
        text += "more = {'create_graph': True, 'allow_unused': True}\n"
        text += (
            "if out.requires_grad and wrt:\n    g = torch.autograd.grad(out.sum(), wrt, **more)\n"
        )
        if use == 3:
            text += "    s = sum(t.square().sum() for t in g if t is not None)\n"
            text += "    s.requires_grad and torch.autograd.grad(s, wrt, allow_unused=True)\n"
        return text
    return text + "op(*args)\n"


# -- options and arguments -------------------------------------------------------------------------

CONSTRUCTOR = (
    *("reduction_op", "axis", "dtype", "opt_arg", "formula2", "cuda_type", "dtype_acc"),
    *("use_double_acc", "sum_scheme", "enable_chunks", "rec_multVar_highdim", "use_fast_math"),
)
VALID: Mapping[str, str] = {
    "reduction_op": "'ArgKMin'",
    "axis": "1",
    "opt_arg": "2",
    "formula2": "'y'",
    "dtype_acc": "'float64'",
    "use_double_acc": "True",
    "sum_scheme": "'kahan_scheme'",
    "use_fast_math": "True",
    "backend": "'CPU'",
    "eps": "1e-3",
    "rtol": "1e-3",
    "maxiter": "3",
    "alpha": "1.0",
}


def options(choices: Choices, names: Sequence[str], most: int = 3) -> str:
    """Some options, most of them with a value that they may have."""
    chosen = {choices.one_of(names) for _ in range(choices.below(most + 1))}
    return "".join(
        f", {n}={VALID[n] if n in VALID and choices.once_in(2) else thing(choices)}"
        for n in sorted(chosen)
    )


def of_constructor(choices: Choices) -> str:
    """Things in the places of a constructor's arguments."""
    library = choices.one_of(LIBRARIES)
    given = [repr(FORMULA), repr(ALIASES)]
    if choices.once_in(2):
        given[choices.below(2)] = thing(choices)
    more = options(choices, CONSTRUCTOR)
    axis = "" if "axis=" in more else ", axis=1"
    return f"{library}.Genred({', '.join(given)}{more}{axis})\n"


def arguments(choices: Choices, library: str) -> str:
    """Three arguments for the formula, some of them odd."""
    shapes = ["(5, 3)", "(6, 3)", "(6, 1)"]
    make = "np.ones({})" if library == LIBRARIES[0] else "torch.ones({}, dtype=torch.float64)"
    given = [make.format(shape) for shape in shapes]
    for _ in range(choices.one_of((0, 1, 1, 2, 3))):
        at = choices.below(3)
        given[at] = thing(choices) if choices.once_in(2) else array(choices, library, shapes[at])
    if choices.once_in(20):
        given.append(thing(choices))
    return ", ".join(given)


def ranges(choices: Choices) -> str:
    """Six arrays, or what is none."""
    six = ["[[0, 5]]", "[1]", "[[0, 6]]", "[[0, 6]]", "[1]", "[[0, 5]]"]
    six = [f"np.array({a})" for a in six]
    for _ in range(choices.below(3)):
        six[choices.below(6)] = choices.one_of((thing, integers))(choices)
    return f"({', '.join(six)})" if choices.below(6) else thing(choices)


def of_call(choices: Choices) -> str:
    """Odd arguments and options of a call."""
    library = choices.one_of(LIBRARIES)
    text = f"op = {library}.Genred({FORMULA!r}, {ALIASES!r}, 'Sum', 1)\n"
    if choices.once_in(6):
        what = choices.one_of(("lower", "explain"))
        return (
            text
            + f"op.{what}({thing(choices)}, {choices.one_of((thing(choices), repr('sm_90')))})\n"
        )
    more = options(choices, ("backend", "device_id", "out"), 1)
    if choices.once_in(4):
        more += f", ranges={ranges(choices)}"
    return text + f"op({arguments(choices, library)}{more})\n"


def of_solver(choices: Choices) -> str:
    """KernelSolve with odd options."""
    library = choices.one_of(LIBRARIES)
    given = [repr(FORMULA), repr(ALIASES), repr("b")]
    if choices.once_in(3):
        given[choices.below(3)] = thing(choices)
    text = f"op = {library}.KernelSolve({', '.join(given)}, axis=1)\n"
    names = ("alpha", "eps", "rtol", "maxiter", "precondition", "return_info", "backend", "ranges")
    shapes = ("(5, 3)", "(5, 3)", "(5, 1)")
    make = "np.ones({})" if library == LIBRARIES[0] else "torch.ones({}, dtype=torch.float64)"
    args = [make.format(shape) for shape in shapes]
    if choices.once_in(3):
        at = choices.below(3)
        args[at] = choices.one_of((thing(choices), array(choices, library, shapes[at])))
    return text + f"op({', '.join(args)}, alpha=1.0{options(choices, names[1:], 2)})\n"


def of_generic(choices: Choices) -> str:
    """A reduction by its name, with odd outputs and aliases."""
    name = choices.one_of(("generic_sum", "generic_logsumexp", "generic_argmin", "generic_argkmin"))
    output = choices.one_of((f"{mutated(choices, 'a = Vi(1)')!r}", thing(choices), "'a = Vi(1)'"))
    given = [repr(FORMULA), output, *map(repr, ALIASES)]
    if choices.once_in(3):
        given[choices.below(len(given))] = thing(choices)
    more = options(choices, CONSTRUCTOR, 1)
    return f"{choices.one_of(LIBRARIES)}.{name}({', '.join(given)}{more})\n"


CLUSTERS: Mapping[str, tuple[str, ...]] = {
    "grid_cluster": ("x", "1.0"),
    "sort_clusters": ("x", "lab"),
    "cluster_ranges": ("lab", "None"),
    "cluster_centroids": ("x", "lab", "None", "w", "None"),
    "cluster_ranges_centroids": ("x", "lab", "w", "0.0"),
    "from_matrix": ("ends", "ends", "keep"),
    "swap_axes": ("None",),
}


def of_cluster(choices: Choices) -> str:
    """A cluster helper with odd arguments."""
    library = choices.one_of(LIBRARIES)
    convert = "torch.as_tensor" if library == LIBRARIES[1] else "np.asarray"
    text = (
        f"x, lab, w = map({convert}, (np.eye(3, 2), np.array([0, 1, 1]), np.ones(3)))\n"
        f"ends, keep = map({convert}, (np.array([[0, 1], [1, 3]]), np.ones((2, 2), bool)))\n"
    )
    name = choices.one_of(tuple(CLUSTERS))
    given = list(CLUSTERS[name])
    for _ in range(choices.one_of((1, 1, 2))):
        at = choices.below(len(given))
        shape = choices.one_of(("(3,)", "(3, 2)", "(2, 2)", "(0,)"))
        odd = (thing(choices), array(choices, library, shape), integers(choices))
        given[at] = choices.one_of(odd)
    return f"{text}{library}.cluster.{name}({', '.join(given)})\n"


# -- kinds that were thought of later --------------------------------------------------------------

SIZES = (0, 1, 2, 5)
NUMPY_LAYOUTS = (
    *("{}", "{}[::-1]", "{}.astype('>f8')", "np.asfortranarray({})", "{}.byteswap().view('>f8')"),
    *("np.lib.stride_tricks.as_strided(np.zeros(1), {}.shape, (0, 0))",),
    *("np.broadcast_to(np.zeros(()), {}.shape)", "np.frombuffer({}.tobytes()).reshape({}.shape)"),
    *("np.lib.stride_tricks.as_strided({}, ({}[:1]).shape, (2**40, 8))",),
    *("np.ones((2, *{}.shape[::-1]))[0].T", "{}.reshape(-1)", "{}[..., :0]", "{}[None, :0]"),
)
TORCH_LAYOUTS = (
    *("{}", "{}.flip(0)", "{}.mT.contiguous().mT", "torch.zeros(()).double().expand({}.shape)"),
    *(
        "torch.empty_strided({}.shape, (2**20, 3)).double()",
        "{}.pin_memory()",
        "{}.share_memory_()",
    ),
    *("torch.from_numpy(np.broadcast_to(np.zeros(()), {}.shape))", "{}.to_sparse()", "{}.T"),
    *("torch.zeros(9, dtype=torch.uint8)[1:].view(torch.uint8)", "{}[..., :0]", "{}[None, :0]"),
    *("{}.untyped_storage().resize_(8) and {}", "{}.set_()", "torch.frombuffer(bytearray(80))"),
)


def given_arrays(choices: Choices, library: str) -> list[str]:
    """Three arrays of many sizes, which may be none, in many layouts."""
    rows, columns = choices.one_of(SIZES), choices.one_of(SIZES)
    shapes = (f"({rows}, 3)", f"({columns}, 3)", f"({columns}, 1)")
    is_torch = library == LIBRARIES[1]
    make = "torch.ones({}, dtype=torch.float64)" if is_torch else "np.ones({})"
    layouts = TORCH_LAYOUTS if is_torch else NUMPY_LAYOUTS
    chosen = [choices.one_of(layouts) if choices.once_in(2) else "{}" for _ in shapes]
    return [c.replace("{}", make.format(s)) for c, s in zip(chosen, shapes, strict=True)]


def of_layout(choices: Choices) -> str:
    """Memory that is empty, shared, read-only or of another byte order; also as `out`."""
    library = choices.one_of(LIBRARIES)
    text = f"op = {library}.Genred({FORMULA!r}, {ALIASES!r}, {reduction(choices)})\n"
    text += f"args = [{', '.join(given_arrays(choices, library))}]\n"
    outs = ("", "", ", out=args[0]", ", out=args[2]", ", out=args[0][:, :1]", ", out=args[1].T")
    call = f"op(*args{choices.one_of(outs)})"
    if library == LIBRARIES[1] and choices.once_in(2):
        text += "args = [a.detach().requires_grad_() for a in args]\n"
        return text + f"torch.autograd.grad({call}.sum(), args, allow_unused=True)\n"
    return text + f"{call}\n"


METHODS = (
    *("__array__", "__array_interface__", "__array_function__", "__array_ufunc__", "__dlpack__"),
    *("__len__", "__getitem__", "__iter__", "__index__", "__float__"),
    *("__eq__", "__hash__", "__bool__", "__repr__", "__str__", "__getattr__"),
)
DOES = (
    *("lambda *a, **k: 1 // 0", "lambda *a, **k: None", "lambda *a, **k: a[0]"),
    *("lambda *a, **k: 'x'", "lambda *a, **k: np.ones((5, 3))", "lambda *a, **k: 10**30"),
    *("lambda *a, **k: -1", "classmethod(lambda *a: a[1])"),
)


def odd_class(choices: Choices, base: str) -> str:
    """A class with methods that do what they should not."""
    chosen = {choices.one_of(METHODS): choices.one_of(DOES) for _ in range(choices.below(3) + 1)}
    body = ", ".join(f"{name!r}: {does}" for name, does in chosen.items())
    return f"type('Odd', ({base}), {{{body}}})"


def of_class(choices: Choices) -> str:
    """Objects, arrays, numbers and texts of classes that misbehave, in any place."""
    library = choices.one_of(LIBRARIES)
    kinds = (
        f"{odd_class(choices, '')}()",
        f"np.ones((5, 3)).view({odd_class(choices, 'np.ndarray,')})",
        f"torch.ones(5, 3).double().as_subclass({odd_class(choices, 'torch.Tensor,')})",
        f"{odd_class(choices, 'str,')}({choices.one_of((FORMULA, 'x=Vi(3)', 'Sum'))!r})",
        f"{odd_class(choices, 'int,')}({choices.below(3)})",
        f"{odd_class(choices, 'list,')}({ALIASES!r})",
    )
    text = f"odd = {choices.one_of(kinds)}\n"
    make = "np.ones({})" if library == LIBRARIES[0] else "torch.ones({}, dtype=torch.float64)"
    arrays = [make.format(shape) for shape in ("(5, 3)", "(5, 3)", "(5, 1)")]
    given = [repr(FORMULA), repr(ALIASES), "'Sum'", "1"]
    chosen = (arrays, arrays, given)[choices.below(3)]
    chosen[choices.below(len(chosen))] = "odd"
    more = choices.one_of(("", "", ", backend=odd", ", ranges=[odd] * 6", ", device_id=odd"))
    text += f"op = {library}.Genred({', '.join(given)})\n"
    return text + f"op({', '.join(arrays)}{more})\n"


def of_copy(choices: Choices) -> str:
    """Copies, pickles and threads of what is made of formulas, valid and not."""
    library = choices.one_of(LIBRARIES)
    aliases = choices.one_of((
        repr(ALIASES), f"(a for a in {ALIASES!r})", f"iter({ALIASES!r})", f"tuple({ALIASES!r})",
        f"dict.fromkeys({ALIASES!r})", f"(1 // (a == 0) for a in {ALIASES!r})", "map(print, 'ab')",
    ))  # fmt: skip
    makes = (
        f"{library}.Genred({FORMULA!r}, {aliases}, {reduction(choices)})",
        f"{library}.KernelSolve({FORMULA!r}, {aliases}, 'b', axis=1)",
    )
    text = f"import copy, pickle, threading\nop = {choices.one_of(makes)}\n"
    copies = (
        *("op = copy.copy(op)\n", "op = copy.deepcopy(op)\n", "str(op), repr(op), dir(op)\n"),
        *("op = pickle.loads(pickle.dumps(op))\n", "op = copy.replace(op, axis=0)\n", "hash(op)\n"),
        *("pickle.loads(pickle.dumps(op)[:-5])\n", "op.axis = 7\n", "op.x = op\n"),
    )
    text += "".join(choices.one_of(copies) for _ in range(choices.below(3)))
    args = ", ".join(given_arrays(choices, library))
    if choices.once_in(2):
        return text + f"op({args})\n"
    return text + (
        f"args = [{args}]\nfailed = []\ndef work():\n    try:\n        op(*args)\n"
        "    except Exception as error:\n        failed.append(error)\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[t.start() for t in threads]\n[t.join() for t in threads]\n"
        "if failed:\n    raise failed[0]\n"
    )


def of_blocks(choices: Choices) -> str:
    """Ranges with any reduction, solver, backend and size, right and nearly right."""
    library = choices.one_of(LIBRARIES)
    rows, columns = choices.one_of(SIZES), choices.one_of(SIZES)
    cuts = [choices.one_of((0, 1, rows, columns, rows + 1, -1)) for _ in range(4)]
    blocks = f"[[0, {cuts[0]}], [{cuts[0]}, {rows}]]", f"[[0, {cuts[1]}], [{cuts[1]}, {columns}]]"
    slices = choices.one_of(("[1, 2]", "[0, 2]", "[2, 2]", f"[{cuts[2]}, {cuts[3]}]"))
    dtype = choices.one_of(("int64", "int64", "int32", "uint8", "float64", "bool"))
    convert = choices.one_of(("np.array", "torch.tensor", "np.array"))
    made = [
        f"{convert}({a}).astype('{dtype}')" if convert[0] == "n" else f"{convert}({a})"
        for a in (blocks[0], slices, blocks[1], blocks[1], slices, blocks[0])
    ]
    container = choices.one_of(
        ("({},)", "[{}]", "iter([{}])", "({}, None)", "np.array([{}], object)")
    )
    is_torch = library == LIBRARIES[1]
    make = "torch.ones({}, dtype=torch.float64)" if is_torch else "np.ones({})"
    args = ", ".join(make.format(s) for s in (f"({rows}, 3)", f"({columns}, 3)", f"({columns}, 1)"))
    backend = choices.one_of(("'auto'", "'CPU'", "'GPU'", "'CPU_1D'", "None", "'GPU_2D'"))
    more = f"ranges={container.format(', '.join(made))}, backend={backend}"
    if choices.once_in(4):
        odd = choices.one_of(("eps=0", "eps=-1.", "maxiter=0", "rtol=float('nan')", "alpha=-1.0"))
        return (
            f"op = {library}.KernelSolve({FORMULA!r}, {ALIASES!r}, 'b', axis=1)\n"
            f"op({args}, {more}, {odd})\n"
        )
    text = f"op = {library}.Genred({FORMULA!r}, {ALIASES!r}, {reduction(choices)})\n"
    return text + f"op({args}, {more})\n"


# -- the environment and the command line ----------------------------------------------------------

VARIABLES = ("NUM_THREADS", "DEBUG", "DUMP", "OVERRIDE", "CACHE_DIR", "VERIFY", "TARGET")
VALUES = (
    *("", "0", "1", "2", "-1", "1e3", "nan", "off", "yes", "9" * 30, "9" * 5000, "é", "~nobody/x"),
    *("/dev/null", "/dev/null/x", "/proc/self/mem", "x" * 5000, "sm_90", "avx512", "avx2", "neon"),
)


def of_environment(choices: Choices) -> str:
    """A call with odd settings."""
    text = "".join(
        f"os.environ['REDCOMP_{choices.one_of(VARIABLES)}'] = {choices.one_of(VALUES)!r}\n"
        for _ in range(choices.one_of((1, 1, 2, 3)))
    )
    text += f"op = {choices.one_of(LIBRARIES)}.Genred({FORMULA!r}, {ALIASES!r}, axis=1)\n"
    target = choices.one_of(TARGETS)
    ends = (
        "op(*(t(s) for s in ((5, 3), (6, 3), (6, 1)) for t in [getattr(op, 'none', np.ones)]))\n",
        f"op.lower('float64', {target!r}).asm\n",
        f"op.explain('float64', {target!r})\n",
    )
    return text + choices.one_of(ends)


def of_command_line(choices: Choices) -> str:
    """The command line."""
    made, aliases = formula(choices) if choices.once_in(2) else (FORMULA, ALIASES)
    given = ["show", made, *aliases]
    flags = ("--axis", "--reduction", "--opt-arg", "--formula2", "--dtype", "--stage", "--target")
    words = (
        *TARGETS,
        "0",
        "1",
        "-1",
        "Sum",
        "KMin",
        "all",
        "ptx",
        "llvm",
        "hoist",
        "float64",
        "f16",
        "é",
    )
    for _ in range(choices.below(3)):
        given += [choices.one_of(flags), choices.one_of(words)]
    if choices.once_in(4):
        given = [
            "opt",
            choices.one_of(("/dev/null", "nowhere", "/", ".", "-p")),
            "-p",
            "simplify,x",
        ]
    if choices.once_in(8):
        given[choices.below(len(given))] = choices.one_of((*flags, *words, "--help", ""))
    return f"main({given!r})\n"


KINDS: Sequence[Callable[[Choices], str]] = (
    *([of_formula] * 10),
    *([of_constructor] * 2),
    *([of_call] * 4),
    *([of_cluster] * 2),
    *(of_solver, of_generic, of_environment, of_command_line),
)
LATER_KINDS: Sequence[Callable[[Choices], str]] = (of_layout, of_class, of_copy, of_blocks)
__all__ = ["LATER", "THINGS", "program"]
