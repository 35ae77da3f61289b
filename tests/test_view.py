"""The page about a compilation: needs the CPU's backend; what runs the page needs Chromium."""

from __future__ import annotations

import functools
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from redcomp.__main__ import main
from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.llvm_backend import code_generation
from redcomp.numpy import Genred
from redcomp.ptx import assemble as assembler
from redcomp.ptx.assemble import ToolError, assemble, disassemble
from redcomp.ptx.sass import section
from redcomp.view import View, origins, processors
from redcomp.view.sameness import Sameness

pytestmark = pytest.mark.slow

GAUSSIAN = ("Exp(-SqDist(x,y))*b", ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"])
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update --virtual-time-budget=3000"""

CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "Gaussian": (*GAUSSIAN, {}),
    "gradient": ("Grad(Exp(-SqDist(x,y))*b,x,e)", [*GAUSSIAN[1], "e=Vi(1)"], {}),
    "LogSumExp": ("-SqDist(x,y)", GAUSSIAN[1][:2], {"reduction_op": "LogSumExp"}),
    "nearest": ("SqDist(x,y)", GAUSSIAN[1][:2], {"reduction_op": "ArgKMin", "opt_arg": 4}),
    "long vectors": ("SqDist(x,y)", ["x=Vi(40)", "y=Vj(40)"], {}),
    "weights": ("(x|y)", ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)"],
        {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}),
    "products of matrices": ("Exp(-SqDist(x,y))", ["x=Vi(64)", "y=Vj(64)"], {}),
    "several": (["x*y", "(x|y)"], ["x=Vi(3)", "y=Vj(3)"], {}),
}  # fmt: skip


@functools.cache
def operation(name: str) -> Genred:
    formula, aliases, options = CASES[name]
    return Genred(formula, aliases, axis=1, **options)


@functools.cache
def page(name: str, target: str, dtype: str = "float32") -> View:
    """The page of a case; NVIDIA's programs, which take seconds, are hidden but for one."""
    if name == "Gaussian":
        return operation(name).view(dtype, target)
    with mock.patch.object(assembler, "find_program", side_effect=ToolError("hidden")):
        return operation(name).view(dtype, target)


def stage(data: Any, name: str) -> Any:
    return next(stage for stage in data["stages"] if stage["name"] == name)


def program_lines(data: Any, name: str) -> list[tuple[str, int, int]]:
    """The lines of a stage that is a program: text, group and family."""
    return [
        ("".join(text for text, _, _ in pieces), group, family)
        for _, pieces, group, family, _ in stage(data, name)["lines"]
    ]


def groups_of(data: Any, name: str) -> set[int]:
    """The groups of the values in a stage."""
    found = stage(data, name)
    if found["kind"] == "ir":
        return {group for _, group, _ in program_lines(data, name)}
    return {group for f in found["functions"] for _, group, _ in f["lines"]}


def group_of(data: Any, name: str, text: str) -> int:
    """The group of the only value whose line has the text."""
    (group,) = {group for line, group, _ in program_lines(data, name) if text in line}
    return group


# -- the same values -------------------------------------------------------------------------------


def test_values_are_found_in_every_stage_down_to_the_assembly() -> None:
    data = page("Gaussian", "avx512").data
    distance, exponential = group_of(data, "kernel", "scalprod"), group_of(data, "kernel", "= exp ")
    for name in ("kernel", "scalarize", "expand", "legal", "module", "llvm", "asm"):
        assert {distance, exponential} <= groups_of(data, name), name
    # What the exponential expands to is steps of it.
    families = {family for text, _, family in program_lines(data, "legal") if "lookup" in text}
    assert families == {exponential}
    assert data["families"][str(exponential)] == "Exp(-SqDist(x,y))"


@pytest.mark.thorough
def test_values_that_are_moved_and_scaled_are_steps_of_those_that_they_were() -> None:
    """On GPUs points are moved to their middle and scaled, so that no value stays the same."""
    data = page("Gaussian", "sm_90").data
    distance = group_of(data, "kernel", "scalprod")
    assert distance not in groups_of(data, "partition")
    steps = [text for text, _, family in program_lines(data, "partition") if family == distance]
    assert sum("fma" in text for text in steps) == 2
    assert any(f == distance for fn in stage(data, "ptx")["functions"] for _, _, f in fn["lines"])


def test_equal_values_are_one_and_chance_makes_none_equal() -> None:
    lowering = operation("gradient").lower("float32", "avx512")
    sameness = Sameness(lowering.programs)
    first = sameness.stages[0].order
    assert len({sameness.group[value] for value in first}) == len(first)


def test_vectors_and_their_components_are_the_same() -> None:
    data = page("Gaussian", "avx512").data
    difference = group_of(data, "kernel", "subtract")
    components = [t for t, group, _ in program_lines(data, "legal") if group == difference]
    assert len(components) == 3


@pytest.mark.sampled(48)
@pytest.mark.parametrize("target", ["avx512", "sm_90"])
@pytest.mark.parametrize("name", CASES)
def test_the_pair_loop_is_made_of_values(name: str, target: str) -> None:
    """Nearly every arithmetic instruction of the loop says which value it computes."""
    data = page(name, target).data
    if target == "avx512":
        rows = [row for loop in data["loops"] for row in loop["rows"]]
        groups = [r["group"] for r in rows if re.match(r"v(add|mul|sub|fm|fn)", r["text"])]
    else:  # LLVM moves instructions out of loops, which then are of no line
        lines = [line for f in stage(data, "ptx")["functions"] for line in f["lines"]]
        groups = [group for text, group, _ in lines if "fma.rn" in text]
    assert groups
    assert sum(group >= 0 for group in groups) >= 0.95 * len(groups)


# -- the same code ---------------------------------------------------------------------------------


def opcodes(text: str) -> list[str]:
    return re.findall(r"^\t(?:@!?%p\d+ )?([a-z][\w.]*)", text, re.MULTILINE)


@pytest.mark.sampled(24)
@pytest.mark.parametrize("target", ["avx512", "avx2", "sse2", "sm_75", "sm_90"])
@pytest.mark.parametrize("name", CASES)
def test_locations_do_not_change_the_code(name: str, target: str) -> None:
    lowering = operation(name).lower("float32", target)
    located = code_generation.assembly(*origins.located(*lowering.given_llvm))
    assert opcodes(located) == opcodes(lowering.asm)
    assert ".loc" in located


@pytest.mark.thorough
@pytest.mark.ptxas
def test_locations_do_not_change_the_machine_code_of_gpus() -> None:
    lowering = operation("gradient").lower("float32", "sm_90")
    assert isinstance(lowering, GpuLowering)
    located = code_generation.assembly(*origins.located(*lowering.given_llvm))
    marked = disassemble(assemble(located, "sm_90", "-lineinfo").code, "--print-line-info")
    pattern = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;", re.MULTILINE)
    plain, with_lines = (section(text, "redcomp_run") for text in (lowering.sass, marked))
    assert pattern.findall(with_lines) == pattern.findall(plain)


def test_emitters_tell_nothing_outside_of_the_block() -> None:
    with origins.recorded() as recorder:
        made = operation("Gaussian").lower("float32", "avx2").module_text
    again = operation("Gaussian").lower("float32", "avx2").module_text
    assert again == made
    codes = len(recorder.codes)
    assert codes
    assert operation("several").lower("float32", "avx2").module_text
    assert len(recorder.codes) == codes


# -- costs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("\tvfmadd231ps\t12(%r11){1to16}, %zmm3, %zmm0  # comment", "vfmadd231ps m{1to16},z,z"),
        ("\tvmovaps\t%ymm9, 768(%rsp)", "vmovaps y,m"),
        ("\tvscalefps\t%zmm1, %zmm2, %zmm3 {%k1} {z}", "vscalefps z,z,zk"),
        ("\tvcmpltps\t%zmm1, %zmm2, %k1", "vcmpltps z,z,k"),
        ("\taddq\t$2, %rbx", "addq i,r"),
        ("\tjl\t.LBB2_5", "jl"),
        ("\tfmla\tv0.4s, v1.4s, v2.s[1]", "fmla v4s,v4s,vs[]"),
        ("\tldp\tq0, q1, [x8, #32]", "ldp q,q,m"),
        ("\tsubs\tx8, x8, #1", "subs r,r,i"),
        ("\tb.ne\t.LBB0_1", "b.ne"),
    ],
)
def test_forms_of_instructions(line: str, form: str) -> None:
    assert processors.form(line) == form


def made_up() -> processors.Processor:
    def cost(uops: int, **uses: float) -> processors.Cost:
        return processors.Cost(
            uops, 4, tuple((frozenset(ports), clocks) for ports, clocks in uses.items())
        )

    costs = {"vaddps z,z,z": cost(1, ab=1), "vmulps z,z,z": cost(1, a=1), "nop": cost(1)}
    return processors.Processor("made up", 4, ("a", "b"), costs)


@pytest.mark.parametrize(
    ("adds", "muls", "nops", "clocks", "limit"),
    [(4, 0, 0, 2, "a+b"), (1, 3, 0, 3, "a"), (2, 2, 0, 2, "a"), (0, 1, 20, 21 / 4, "issue")],
)
def test_the_bound_of_a_loop(adds: int, muls: int, nops: int, clocks: float, limit: str) -> None:
    lines = ["\tvaddps %zmm0,%zmm1,%zmm2"] * adds + ["\tvmulps %zmm0,%zmm1,%zmm2"] * muls
    bound = processors.bound(lines + ["\tnop"] * nops, made_up())
    assert bound.clocks == pytest.approx(clocks)
    if adds != 2:  # both are busy all the time there
        assert bound.limit == limit
    assert sum(bound.busy.values()) == pytest.approx(adds + muls)
    assert max(bound.busy.values(), default=0) <= bound.clocks + 1e-4
    assert processors.bound(["\tfrob %zmm0"], made_up()).unknown == ("frob %zmm0",)


def test_no_port_is_busier_than_the_loop_takes() -> None:
    """Sets of ports overlap in chains, so that work has to be moved through ports in between."""
    random = np.random.default_rng(0)
    for _ in range(50):
        sets = [frozenset(random.choice(list("abcdef"), random.integers(1, 4))) for _ in range(5)]
        costs = {
            f"v{n}add z,z,z": processors.Cost(1, 4, ((ports, float(random.integers(1, 9))),))
            for n, ports in enumerate(sets)
        }
        model = processors.Processor("made up", 100, tuple("abcdef"), costs)
        bound = processors.bound([f"\t{form[:5]} %zmm0,%zmm1,%zmm2" for form in costs], model)
        work = sum(clocks for cost in costs.values() for _, clocks in cost.uses)
        assert sum(bound.busy.values()) == pytest.approx(work, rel=1e-4)
        assert max(bound.busy.values()) == pytest.approx(bound.clocks, rel=1e-3)


@pytest.mark.parametrize(
    ("cpu", "vector", "sums"),
    [
        ("znver3", "y", 2),  # ports 0 and 1 multiply, 2 and 3 add
        ("haswell", "y", 0),  # 0 and 1 multiply, 1 adds
        ("skylake-avx512", "z", 0),  # 0 and 5 do both
        ("alderlake", "y", 1),  # 0 and 1 multiply, 1 and 5 add
    ],
)
def test_sums_beside_multiplications(cpu: str, vector: str, sums: float) -> None:
    model = processors.processor(cpu)
    assert model is not None
    product, total = (
        model.costs[f"{name} {vector},{vector},{vector}"] for name in ("vfmadd231ps", "vaddps")
    )
    assert processors.beside(product, total, model.width) == pytest.approx(sums)


@pytest.mark.parametrize("cpu", ["skylake-avx512", "znver4", "haswell", "neoverse-n1", "apple-m1"])
def test_processors_have_models_of_the_loops(cpu: str) -> None:
    model = processors.processor(cpu)
    assert model is not None
    multiply = model.cost("\tvfmadd231ps %ymm0, %ymm1, %ymm2") or model.cost(
        "\tfmla v0.4s, v1.4s, v2.4s"
    )
    assert multiply is not None
    assert multiply.latency in (3, 4, 5, 8)
    assert all(clocks > 0 and ports <= set(model.ports) for ports, clocks in multiply.uses)


def test_costs_of_the_gaussian_on_a_host() -> None:
    lowering = operation("Gaussian").lower("float32", "avx512")
    assert isinstance(lowering, HostLowering)
    data = page("Gaussian", "avx512").data
    (loop,) = data["loops"]
    assert [row["text"].split() for row in loop["rows"]] == [
        line.split() for line in lowering.pair_loop.lines
    ]
    assert loop["pairs"] == 128
    assert loop["unknown"] == []
    assert loop["clocks"] >= loop["uops"] / loop["width"]
    roofs = {roof["label"]: roof for roof in data["roofline"]["roofs"]}
    assert 0 < data["roofline"]["share"] <= 1
    assert len(roofs) == 3


@pytest.mark.ptxas
def test_costs_of_the_gaussian_on_a_gpu() -> None:
    data = page("Gaussian", "sm_90").data
    (loop,) = data["loops"]
    assert loop["busy"]["fma"] == sum(
        r["clocks"] for r in loop["rows"] if r["ports"][0][0] == "fma"
    )
    assert loop["busy"]["issue"] == pytest.approx(len(loop["rows"]) / 4)
    assert loop["limit"] == "issue"
    assert loop["spills"] == 0
    assert 0.9 < data["roofline"]["share"] <= 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["Gaussian", "LogSumExp", "nearest", "gradient"])
def test_no_loop_is_above_the_roof(name: str) -> None:
    """Adjustments are rare, and are neither in the loop that is counted nor in its operations."""
    roofline = page(name, "avx512").data["roofline"]
    assert 0 < roofline["share"] <= 1
    assert (
        max(roof["rate"] for roof in roofline["roofs"] if "rate" in roof)
        > roofline["point"]["rate"]
    )


def test_the_schedule_says_what_was_considered() -> None:
    (blocks,) = page("Gaussian", "avx512").data["schedule"]["considered"]
    assert [block["taken"] for block in blocks] == [True, False, False]
    (blocks,) = page("Gaussian", "sm_90").data["schedule"]["considered"]
    taken = [block["clocks"] for block in blocks if block["taken"]]
    assert taken == [min(block["clocks"] for block in blocks)]


# -- the page --------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page and the text of each by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.current = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.current = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self.current] = self.texts.get(self.current, "") + data


def test_the_page_is_one_file_that_loads_nothing() -> None:
    view = page("Gaussian", "avx512")
    parsed = Page(view.html)
    assert json.loads(parsed.texts["data"]) == view.data
    assert not any({"src", "href"} & set(attributes) for _, attributes in parsed.tags)
    assert "default-src 'none'" in view.html
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", view.html)


def test_formulas_cannot_become_markup() -> None:
    hostile = "x</script><script>alert(1)</script>&amp;"
    view = View({**page("Gaussian", "avx512").data, "formula": hostile, "target": "<b>"})
    parsed = Page(view.html)
    assert json.loads(parsed.texts["data"])["formula"] == hostile
    assert parsed.texts["title"].strip() == f"redcomp: {hostile} on <b>"
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2
    frame = Page(view._repr_html_())
    ((tag, attributes),) = frame.tags
    assert (tag, attributes["sandbox"], attributes["srcdoc"]) == (
        "iframe",
        "allow-scripts",
        view.html,
    )
    assert html.escape("</script>") in view._repr_html_()


def test_places_of_the_template_are_not_looked_for_in_the_data() -> None:
    view = View({**page("Gaussian", "avx512").data, "formula": "@SCRIPT@ @DATA@ @CSS@"})
    assert json.loads(Page(view.html).texts["data"])["formula"] == "@SCRIPT@ @DATA@ @CSS@"


def test_view_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    arguments = ["view", GAUSSIAN[0], *GAUSSIAN[1], "--target", "avx2", "--dtype", "float64"]
    assert main([*arguments, "-p", "gradient{wrt=0},cse", "--html", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    data = json.loads(Page(target.read_text("utf-8")).texts["data"])
    assert data["formula"] == f"{GAUSSIAN[0]}, gradient{{wrt=0}},cse"
    assert data["facts"]["target"].endswith("f64")
    assert main([*arguments, "--html", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_operations_show_themselves(tmp_path: Path) -> None:
    view = page("Gaussian", "avx512")
    assert view.save(tmp_path / "page.html").read_text("utf-8") == view.html
    assert GAUSSIAN[0] in repr(view)


def test_pieces_of_formulas_stand_beside_values_where_there_is_one_text() -> None:
    texts = [text for text, _, _ in program_lines(page("Gaussian", "avx512").data, "kernel")]
    assert any(text.endswith("// SqDist(x,y)") for text in texts)
    for name in ("several", "weights"):
        assert not any(
            "//" in text for text, _, _ in program_lines(page(name, "avx512").data, "kernel")
        )


def test_who_computes_loads_nothing_of_the_page() -> None:
    program = (
        "import sys, redcomp.numpy\n"
        "assert not [name for name in sys.modules if name.startswith('redcomp.view')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium to run the page's script")
@pytest.mark.parametrize(
    ("name", "target"),
    [("Gaussian", "avx512"), ("nearest", "sm_90"), ("long vectors", "avx512")],
)
def test_the_page_in_chromium(name: str, target: str, tmp_path: Path) -> None:
    """The script runs to its end, and a value that is pointed at is found in all panes."""
    view = page(name, target)
    probe = """<script>
      const note = (key, value) => document.body.setAttribute("data-" + key, value);
      window.addEventListener("error", (event) => note("error", event.message));
      window.addEventListener("load", () => {
        const key = (name) => document.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
        note("cards", document.getElementById("cards").textContent);
        note("panes", document.querySelectorAll(".pane").length);
        note("loop", document.querySelectorAll(".ln.inloop").length);
        key("ArrowDown"); key("ArrowDown"); key("Enter");
        note("status", document.getElementById("status").textContent);
        const ticks = [...document.querySelectorAll(".ticks")];
        note("ticks", ticks.map((t) => t.children.length).join());
        key("ArrowRight"); key("-");
        const panes = document.querySelectorAll(".pane").length;
        note("after", panes + document.querySelector("select").value);
      });
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(view.html.replace("</body>", probe), "utf-8")
    flags = FLAGS.split()
    command = [
        CHROMIUM,
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = dict(next(attrs for tag, attrs in Page(done.stdout).tags if tag == "body"))
    assert "data-error" not in found
    assert found["data-panes"] == "3"
    assert ("per component of" in (found["data-cards"] or "")) == (name == "long vectors")
    assert found["data-after"] == "2simplify"
    assert "SqDist(x,y)" in (found["data-status"] or "")
    assert all(int(count) for count in (found["data-ticks"] or "").split(","))
    instructions = sum(len(loop["rows"]) for loop in view.data["loops"])
    assert int(found["data-loop"] or 0) == instructions
