"""Write the words of redcomp/typing.py that tables have: reductions, targets, backends, kernels.

python scripts/make_words.py            write the module
python scripts/make_words.py --check    only say, by the exit status, whether it is current
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from written_file import write_or_check

from redcomp.frontend.reductions.backends import GPU_BACKENDS, HOST_BACKENDS
from redcomp.frontend.reductions.genred import TARGETS
from redcomp.frontend.reductions.requests import ACCUMULATORS, SCHEMES
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING
from redcomp.torch.nn.chamfer import DIRECTIONS
from redcomp.torch.nn.kernels import KERNELS
from redcomp.torch.nn.losses import FOR_SEVERAL
from redcomp.torch.nn.shared import REDUCTIONS

MODULE = Path(__file__).parents[1] / "redcomp" / "typing.py"
WIDTH = 100
WORDS: Mapping[str, Iterable[str]] = {
    "Backend": HOST_BACKENDS + GPU_BACKENDS,
    "SumScheme": SCHEMES,
    "Accumulator": ACCUMULATORS,
    "Target": TARGETS,
    "Reduction": REDUCTIONS_BY_SPELLING,
    "KernelName": KERNELS,
    "KernelNameOfMMD": FOR_SEVERAL,
    "LossReduction": REDUCTIONS,
    "Directions": DIRECTIONS,
}


def module() -> str:
    """The module, each type with the words that its table has."""
    text = MODULE.read_text(encoding="utf-8")
    for name, words in WORDS.items():
        text = re.sub(rf"^{name} = Literal\[.*?\]", _literal(name, words), text, flags=re.M | re.S)
    return text


def _literal(name: str, words: Iterable[str]) -> str:
    quoted = [f'"{word}"' for word in words]
    line = f"{name} = Literal[{', '.join(quoted)}]"
    if len(line) <= WIDTH:
        return line
    return f"{name} = Literal[\n" + "".join(f"    {word},\n" for word in quoted) + "]"


if __name__ == "__main__":
    sys.exit(write_or_check(MODULE, module, __doc__))
