"""The compiler from a shell: its stages as text or as a page, and its passes one by one.

    python -m redcomp show "Exp(-SqDist(x, y))" "x = Vi(3)" "y = Vj(3)" --stage hoist
    python -m redcomp view "Exp(-SqDist(x, y))" "x = Vi(3)" "y = Vj(3)" --html page.html
    python -m redcomp opt kernel.mlir -p simplify,cse
    python -m redcomp --version

Where redcomp is installed, the command `redcomp` is the same as `python -m redcomp`.

What the user got wrong is told on standard error, with exit status 2.
"""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import llvmlite
import numpy as np

from redcomp import __version__
from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.compile import context_of, lower
from redcomp.errors import ArgumentError, RedcompError
from redcomp.explain import explain
from redcomp.frontend.reductions.genred import ARRAY_DTYPES, checked_target
from redcomp.ir import AnyProgram, Block, Kernel
from redcomp.numpy import Genred
from redcomp.ops.reductions import usual_spellings
from redcomp.passes.pipeline import PASSES, parse_pipeline, run_pipeline
from redcomp.ptx.targets import CAPABILITIES
from redcomp.target import Options
from redcomp.text import parse_program, print_program
from redcomp.text.pretty import listing_of, pretty
from redcomp.text.pretty_parser import parse_pretty

USER_ERROR = 2
# A stage of its own: the machine code of the pair loop alone.
PAIR_LOOP = "pair-loop"
# A shell's status for a program that SIGPIPE ended: whoever read the output has seen enough.
BROKEN_PIPE = 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], str] = options.command
    try:
        print(command(options).rstrip("\n"), flush=True)
    except BrokenPipeError:
        # Python flushes standard output once more at its end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}")
    except (RedcompError, UnicodeDecodeError) as error:
        return _failed(str(error))
    return 0


def _failed(message: str) -> int:
    print(f"redcomp: {message}", file=sys.stderr)
    return USER_ERROR


def show(options: argparse.Namespace) -> str:
    """A formula's compilation: its summary, one stage, or all of them."""
    operation = _operation(options)
    lowering = _compiled(operation, options)
    if options.diff:
        return difference(lowering, operation.spanned, options.diff)
    if options.stage is None:
        return explain(lowering, _title(options))
    if options.stage == PAIR_LOOP:
        return "\n\n".join(map(str, lowering.pair_loops))
    stages = lowering.stages
    if options.pretty:
        stages |= {name: pretty(p, operation.spanned) for name, p in lowering.programs}
    if options.stage == "all":
        return "\n".join(f"==== {name} ====\n{text}" for name, text in stages.items())
    return stages[find_stage(options.stage, stages)]


def difference(lowering: HostLowering | GpuLowering, source: str, wanted: str) -> str:
    """What changes between two stages, as "factor..hoist"; values have the same names in both."""
    from redcomp.view.sameness import Sameness
    from redcomp.view.stages import names_of

    stages = lowering.stages
    names = [find_stage(name, stages) for name in wanted.split("..")]
    if len(names) != 2:
        raise ArgumentError(f"a difference is between two stages, such as a..b, not {wanted!r}")
    sameness = Sameness(lowering.programs)
    lines = {name: text.splitlines() for name, text in stages.items()}
    for stage in sameness.stages:
        listed = listing_of(stage.program, source, names_of(stage, sameness))
        lines[stage.name] = list(map(str, listed))
    before, after = names
    made = difflib.unified_diff(lines[before], lines[after], before, after, lineterm="")
    return "\n".join(made) or f"{before} and {after} are the same"


def view(options: argparse.Namespace) -> str:
    """Write a page about a formula's compilation; where it is."""
    from redcomp.view import view as view_of  # other commands need none of it

    operation = _operation(options)
    made = view_of(_compiled(operation, options), _title(options), operation.spanned)
    return f"{made.save(options.html)}"


def _operation(options: argparse.Namespace) -> Genred:
    return Genred(
        options.formula,
        options.aliases,
        reduction_op=options.reduction,
        axis=options.axis,
        opt_arg=options.opt_arg,
        formula2=options.formula2,
        use_fast_math=options.fast_math,
        allow_tf32=options.allow_tf32,
    )


def _compiled(operation: Genred, options: argparse.Namespace) -> HostLowering | GpuLowering:
    return lowering_of(operation, options.dtype, options.target, options.passes)


def _title(options: argparse.Namespace) -> str:
    return ", ".join(filter(None, (options.formula, options.passes)))


def lowering_of(
    operation: Genred, dtype: str, target: str, passes: str
) -> HostLowering | GpuLowering:
    """The compilation of what some passes make of an operation's kernel, such as its gradient."""
    given, target = operation.reduction.options, checked_target(target)
    stored = operation.reduction.stored_as(ARRAY_DTYPES[dtype])
    kernel = stored.kernel("f64" if ARRAY_DTYPES[dtype] == "f64" else "f32")
    made = run_pipeline(parse_pipeline(passes), kernel, context_of(target, given))
    if not isinstance(made, Kernel):
        raise ArgumentError("the passes that come first must give a kernel, not a nest of loops")
    return lower(made, target, given)


def find_stage(wanted: str, stages: Mapping[str, str]) -> str:
    """The full name of a stage: "llvm.4x2.ll" of "llvm"."""
    for name in stages:
        if wanted in (name, short_name(name)):
            return name
    known = ", ".join(dict.fromkeys(map(short_name, stages)))
    raise ArgumentError(f"unknown stage {wanted!r}; known ones: {known}, {PAIR_LOOP}, all")


def short_name(stage: str) -> str:
    """A stage's name without its schedule and its file suffix: "llvm" of "llvm.4x2.ll"."""
    return stage.partition(".")[0]


def opt(options: argparse.Namespace) -> str:
    """A program after some passes."""
    text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text("utf-8")
    asked = Options(use_fast_math=options.fast_math, allow_tf32=options.allow_tf32)
    context = context_of(options.target, asked)
    steps = parse_pipeline(options.passes)
    read = parse_program if text.lstrip().startswith('"') else parse_pretty
    made = run_pipeline(steps, _program(read(text)), context)
    return pretty(made) if options.pretty else print_program(made)


def _program(read: AnyProgram | Block) -> AnyProgram:
    if isinstance(read, Block):
        raise ArgumentError("passes take a kernel, a nest or a partition, not a block")
    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="redcomp", description="Read the compiler: its stages, and its passes one by one."
    )
    parser.add_argument("--version", action="version", version=_versions())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_show(commands.add_parser("show", help="print how a formula is compiled"))
    _add_view(commands.add_parser("view", help="write a page that shows how it is compiled"))
    _add_opt(commands.add_parser("opt", help="run passes on a program in text form"))
    return parser


def _versions() -> str:
    """What a report of an error should say."""
    others = {"Python": platform.python_version(), "NumPy": np.__version__}
    others["llvmlite"] = llvmlite.__version__
    listed = ", ".join(f"{name} {version}" for name, version in others.items())
    return f"redcomp {__version__} ({listed}, {platform.system()} {platform.machine()})"


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=show)
    _add_formula(parser)
    parser.add_argument("--stage", help=f"a stage's name, {PAIR_LOOP} or all; else a summary")
    parser.add_argument("--diff", metavar="A..B", help="what changes from one stage to another")
    _add_pretty(parser)


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=view)
    _add_formula(parser)
    parser.add_argument("--html", metavar="FILE", required=True, help="the page to write")


def _add_formula(parser: argparse.ArgumentParser) -> None:
    """A formula and how it is to be compiled."""
    parser.add_argument("formula", metavar="FORMULA", help='such as "Exp(-SqDist(x, y)) * b"')
    parser.add_argument("aliases", metavar="ALIAS", nargs="*", help='such as "x = Vi(3)"')
    parser.add_argument("--axis", type=int, choices=(0, 1), default=1, help="1 reduces over j")
    spellings = ", ".join(usual_spellings())
    parser.add_argument("--reduction", default="Sum", help=f"one of {spellings}")
    parser.add_argument("--opt-arg", type=int, metavar="K", help="for KMin and similar reductions")
    parser.add_argument(
        "--formula2", help="the weights, for SumSoftMaxWeight and similar reductions"
    )
    parser.add_argument("--dtype", choices=tuple(ARRAY_DTYPES), default="float32")
    first = "passes of opt that come first, such as gradient{wrt=0},cse for a gradient"
    parser.add_argument("-p", "--passes", default="", help=first)
    _add_common(parser)


def _add_opt(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=opt)
    parser.add_argument("file", metavar="FILE", help="a file, or - for standard input")
    known = ", ".join(PASSES)
    options = "with options as in scalarize{states=4}"
    about = f"separated by commas, {options}, of {known}".replace("%", "%%")
    parser.add_argument("-p", "--passes", default="", help=about)
    _add_pretty(parser)
    _add_common(parser)


def _add_pretty(parser: argparse.ArgumentParser) -> None:
    about = "the readable form, which opt parses too, instead of MLIR's generic one"
    parser.add_argument("--pretty", action="store_true", help=about)


def _add_common(parser: argparse.ArgumentParser) -> None:
    gpus = ", ".join(f"sm_{capability.number}" for capability in CAPABILITIES)
    targets = f"host (this machine), avx512, avx2, sse2 or neon; or a GPU: {gpus}"
    parser.add_argument("--target", default="host", help=targets)
    parser.add_argument(
        "--fast-math",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="allow changes of rounding; without it, only on GPUs",
    )
    about = "let tensor cores round factors of products of float32 to TF32"
    parser.add_argument("--allow-tf32", action="store_true", help=about)


if __name__ == "__main__":
    sys.exit(main())
