# ruff: noqa
# mypy: ignore-errors
# fmt: off
"""Runs PTX text on a machine with no GPU, with NumPy, and checks what it does to memory.

    m = ptxsim.parse(text)                                   # kernels, funcs, vars, version, target
    r = m.launch("k", grid=(8,), block=(128,), args=[x, ptxsim.Buffer(y, "y", uninit=True), 1000, 0.5])
    r.reports                                                # races, uninitialised reads, divergent barriers, ...
    r.counts, r.lines, r.shared_bytes, r.unwritten           # statistics
    m.loops("k")                                             # natural loops with their static instructions

Arrays are passed as pointers and changed in place; a Buffer adds a name, an uninitialised state (poisoned with 0xFF, reads before
writes are reported), write protection, a misaligned base. By-value `.b8 p[n]` parameters take bytes or an array of n bytes.

Execution. A register is a NumPy array over the threads of a batch of whole blocks; an instruction runs once for a group of threads
at one pc. The group that is deepest in calls, then has the smallest pc, goes first, and groups that meet merge, so divergent
branches and loops reconverge; a group that keeps others waiting for long steps back, so spin loops make progress. Barriers and .sync
warp instructions hold threads until all that must come have come; if nobody can go on, that is a deadlock.

Errors, raised as SimError with .kind and .line: out-of-bounds, misaligned, read-only, deadlock, divergent-barrier, trap, livelock,
unsupported. Findings, collected in Result.reports: shared-race, global-race, uninit-shared, uninit-global, uninit-local, cp.async
(bytes touched before their wait_group), divergent-barrier (part of a warp exited before an aligned barrier), shfl-source,
div-by-zero. Order between threads is kept with clocks: barriers of all kinds and bar.warp.sync order; shuffles, atomics and fences
do not, and threads of one warp are concurrent. Strong (volatile, relaxed, acquire, release) and atomic accesses do not race with
each other. Conflicts of global reads and writes between blocks are judged only in kernels without fences, acquire and release.
Limit: the last two readers of a granule are known, so a write after a read can escape where warp or named barriers ordered some of
several readers; with full barriers none does.

Arithmetic. add, sub, mul, div, fma, sqrt, rcp in f16, bf16, f32, f64 and conversions are rounded once, in the mode asked for (but
fma.{rz,rm,rp}.f64 is refused, and directed f64 takes the error terms not to under- or overflow). What is .approx or .full is computed
in float64 and rounded once: more accurate than hardware; div.approx's flush for |b| > 2^126 is not modelled. NaN payloads are
NumPy's. mma sums in float64 and rounds once. clock counts steps. Not supported: recursion, indirect calls, textures, mbarrier, TMA,
clusters, wgmma, alloca, packed set, prmt modes.
"""
from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

F32, F64, U8, U16, U32, U64, I64 = np.float32, np.float64, np.uint8, np.uint16, np.uint32, np.uint64, np.int64
U = {1: np.dtype(U8), 2: np.dtype(U16), 4: np.dtype(U32), 8: np.dtype(U64), 16: np.dtype("V16")}
TYPES = {k: np.dtype(v) for k, v in dict(
    b8="u1", u8="u1", s8="i1", b16="u2", u16="u2", s16="i2", b32="u4", u32="u4", s32="i4", b64="u8", u64="u8", s64="i8", b128="V16",
    f16="f2", bf16="u2", f32="f4", f64="f8", tf32="u4", f16x2="u4", bf16x2="u4", u16x2="u4", s16x2="u4", f32x2="u8", pred="?").items()}
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "u16x2": "u16", "s16x2": "s16", "f32x2": "f32"}
FLOATS = ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "f32x2")
SPACES = ("param", "global", "shared", "local", "const")
WINDOW = {"shared": 1 << 44, "local": 2 << 44, "param": 3 << 44}      # generic address = window + address in the space
SHARED0, GLOBAL0 = 1024, 4 << 44
SHIFT = 38                                                            # shadow entry: clock << SHIFT | global thread index
GID = (1 << SHIFT) - 1
ALL = slice(None)                                                     # the group of every thread of the batch
POISON = {1: 0xCD, 2: 0xFFCD, 4: 0xFFFFCDCD, 8: 0xFFFFFFFFFFFFCDCD}    # registers never written: a NaN, or a wild integer


class PtxError(Exception):
    """PTX or arguments that this module cannot take."""


class SimError(PtxError):
    """Execution cannot go on; kind says why, line where."""

    def __init__(self, kind, message, i=None):
        super().__init__(f"{kind}: line {i.line}: {i.text}: {message}" if i else f"{kind}: {message}")
        self.kind, self.message, self.line = kind, message, i.line if i else None


@dataclass
class Report:
    """A finding: its kind, the instruction, the first case in words, and how many threads met it there."""
    kind: str
    line: int
    text: str
    message: str
    count: int = 1

    def __str__(self):
        return f"{self.kind}: line {self.line}: {self.text}: {self.message}" + (f" ({self.count} cases)" if self.count > 1 else "")


# ---- parsing -----------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Op:
    """Operand: reg, sreg (special register), imm (int), fimm (bits, bytes), sym, mem, vec, not, pair, sink."""
    kind: str
    val: object
    off: int = 0


@dataclass(eq=False)
class Instr:
    line: int
    text: str
    op: str
    args: list
    guard: tuple | None = None                     # (register, negated)

    def __post_init__(self):
        self.base, *mods = self.op.split(".")
        self.mods = [m.split("::")[0] for m in mods]
        self.types = [m for m in self.mods if m in TYPES]

    def one_of(self, *names):
        return next((m for m in self.mods if m in names), None)


@dataclass(eq=False)
class Var:
    name: str
    space: str
    type: str
    align: int
    size: int
    data: bytes = b""
    array: bool = False


@dataclass(eq=False)
class Func:
    name: str
    entry: bool
    params: list
    rets: list
    vars: dict                                     # name -> Var: parameters, local and shared variables
    regs: dict = field(default_factory=dict)       # register or "prefix<" -> type
    declared: list = field(default_factory=list)   # (type, register or "%r<n>") as written
    code: list | None = None                       # None: only declared
    labels: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)     # label of a .branchtargets -> labels
    limits: dict = field(default_factory=dict)     # maxntid, reqntid, ... -> ints


@dataclass
class Loop:
    """A natural loop: header label, its instructions in program order (those of inner loops included), depth from 1."""
    label: str
    instructions: list
    depth: int
    is_innermost: bool

    opcodes = property(lambda self: [i.op for i in self.instructions])
    histogram = property(lambda self: Counter(self.opcodes))


_TOKEN = re.compile(r'"[^"]*"|\.[A-Za-z_]\w*|[\w%$.]+(?:::[\w.]+)*|\S')
_NUMBER = re.compile(r"(0[fF][\da-fA-F]{8}|0[dD][\da-fA-F]{16}|0[xX][\da-fA-F]+U?|0[bB][01]+U?|\d+U?|\d+\.\d*(?:[eE]\d+)?)$")


class _Parser:
    def __init__(self, text):
        clean = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
        self.src = [line.split("//")[0] for line in clean.split("\n")]
        self.toks = [(m[0], n, m.start()) for n, line in enumerate(self.src, 1) for m in _TOKEN.finditer(line)]
        self.i, self.unique, self.scopes = 0, 0, []

    def peek(self):
        return self.toks[self.i][0] if self.i < len(self.toks) else ""

    def next(self):
        if self.i >= len(self.toks):
            raise PtxError("unexpected end of the PTX text")
        self.i += 1
        return self.toks[self.i - 1][0]

    def accept(self, *tokens):
        return self.next() if self.peek() in tokens else None

    def expect(self, token):
        if self.next() != token:
            self.refuse(f"expected '{token}', found ")

    def refuse(self, why="cannot read "):
        t, line, _ = self.toks[self.i - 1]
        raise PtxError(f"line {line}: {why}'{t}': {self.src[line - 1].strip()}")

    def skip_line(self):
        line = self.toks[self.i - 1][1]
        while self.i < len(self.toks) and self.toks[self.i][1] == line:
            self.i += 1

    def skip_to(self, token):
        while self.next() != token:
            pass

    def module(self):
        m, extern = Module(), False
        while self.i < len(self.toks):
            t = self.next()
            if t == ".version":
                m.version = self.next()
            elif t == ".target":
                m.target = self.next()
                self.skip_line()
            elif t == ".address_size":
                self.next()
            elif t in (".visible", ".weak", ".common", ".extern"):
                extern = t == ".extern"
                continue
            elif t in (".entry", ".func"):
                f = self.function(t == ".entry")
                if f.code is not None or f.name not in m.funcs:
                    (m.kernels if f.entry else m.funcs)[f.name] = f
            elif t[1:] in SPACES:
                v = self.var(t[1:])
                if not (extern and v.name in m.vars):
                    m.vars[v.name] = v
                self.expect(";")
            elif t in (".file", ".loc"):
                self.skip_line()
            elif t in (".section", ".pragma", ".alias"):
                self.skip_to("}" if t == ".section" else ";")
            else:
                self.refuse()
            extern = False
        return m

    def var(self, space):
        """A variable or parameter after its state space: attributes, type, name, dimensions, initialiser."""
        align, ty, vec, pointer = 0, "b8", 1, False
        while self.peek().startswith("."):
            t = self.next()
            if t == ".align":
                n = int(self.next())
                align = align if pointer else n        # after .ptr it is the pointee's
            elif t[1:] in TYPES:
                ty = t[1:]
            elif t in (".v2", ".v4"):
                vec = int(t[2])
            elif t == ".attribute":
                self.skip_to(")")
            pointer |= t == ".ptr"
        name, count, array = self.next(), 1, False
        while self.accept("["):
            array, count = True, count * int(self.next()) if self.peek() != "]" else 0
            self.expect("]")
        size, data = TYPES[ty].itemsize * vec, b""
        if self.accept("="):
            values = [self.operand()]
            while any(v.kind == "vec" for v in values):
                values = [x for v in values for x in items(v)]
            if any(v.kind not in ("imm", "fimm") for v in values):
                self.refuse("initialisers with addresses are not supported: ")
            data = b"".join(literal(v, ty).tobytes() for v in values)
        return Var(name, space, ty, max(align, size), size * count, data, array)

    def var_list(self):
        out = []
        while self.peek() in ("(", ","):
            self.next()
            if self.peek() != ")":
                out.append(self.var(self.next()[1:]))
        self.expect(")")
        return out

    def function(self, entry):
        rets = self.var_list() if self.peek() == "(" else []
        name = self.next()
        params = self.var_list() if self.peek() == "(" else []
        f = self.f = Func(name, entry, params, rets, {v.name: v for v in params + rets})
        self.scopes = [{v: ("sym", v) for v in f.vars}]
        while (t := self.next()) not in ("{", ";"):
            if t.startswith("."):
                f.limits[t[1:]] = values = []
                while self.peek().isdigit() or self.peek() == ",":
                    if (n := self.next()) != ",":
                        values.append(int(n))
        if t == "{":
            f.code = []
            while self.scopes:
                self.statement(f)
        self.scopes = []
        return f

    def declare(self, kind, name):
        """A name of the current scope; in nested scopes, where the same names come again and again, it is made unique."""
        unique = name
        if len(self.scopes) > 1:
            self.unique += 1
            unique = f"{name[:-1]}@{self.unique}_<" if name.endswith("<") else f"{name}@{self.unique}"
        self.scopes[-1][name] = (kind, unique)
        return unique

    def statement(self, f):
        t, line, column = self.toks[min(self.i, len(self.toks) - 1)]
        self.next()
        if t == "{":
            self.scopes.append({})
        elif t == "}":
            self.scopes.pop()
        elif t in (";", ".extern"):
            pass
        elif self.accept(":"):
            f.labels[t] = len(f.code)
            if self.accept(".branchtargets"):
                f.tables[t] = [x for x in iter(self.next, ";") if x != ","]
            elif self.accept(".callprototype"):
                self.skip_to(";")
        elif t == ".reg":
            while (ty := self.next()[1:]) not in TYPES:
                pass
            while (name := self.next()) != ";":
                if name == ",":
                    continue
                written = name
                if self.accept("<"):
                    written, name = f"{name}<{self.next()}>", name + "<"
                    self.expect(">")
                f.declared.append((ty, written))
                f.regs[self.declare("reg", name)] = ty
        elif t[1:] in SPACES:
            v = self.var(t[1:])
            v.name = self.declare("sym", v.name)
            f.vars[v.name] = v
            self.expect(";")
        elif t == ".loc":
            self.skip_line()
        elif t.startswith("."):
            self.skip_to(";")
        else:
            guard = None
            if t == "@":
                neg = bool(self.accept("!"))
                guard, t = (self.operand().val, neg), self.next()
            args = []
            while not self.accept(";"):
                args.append(self.operand())
                if self.peek() != ";":
                    self.expect(",")
            _, end, stop = self.toks[self.i - 1]
            text = self.src[line - 1][column:stop] if end == line else " ".join([self.src[line - 1][column:], *self.src[line:end]])
            f.code.append(Instr(line, " ".join(text.split()), t, args, guard))

    def operand(self):
        t = self.next()
        if t == "[":
            base = self.operand()
            self.expect("]")
            return Op("mem", replace(base, off=0), base.off)
        if t in "{(":
            values = []
            while not self.accept("}", ")"):
                values.append(self.operand())
                self.accept(",")
            return Op("vec", tuple(values))
        if t == "!":
            return Op("not", self.operand())
        if t == "-" or _NUMBER.match(t):
            o = self.number(self.next() if t == "-" else t)
            if t == "-":
                o = Op("imm", -o.val) if o.kind == "imm" else Op("fimm", (o.val[0] ^ 1 << (8 * o.val[1] - 1), o.val[1]))
        elif re.match(r"[A-Za-z_$%]", t):
            o = self.name(t)
        else:
            self.refuse()
        if self.accept("|"):
            return Op("pair", (o, self.operand()))
        while s := self.accept("+", "-"):
            n = self.operand().val
            o = replace(o, off=o.off + (n if s == "+" else -n))
        return o

    @staticmethod
    def number(t):
        if t[:2].lower() in ("0f", "0d"):
            return Op("fimm", (int(t[2:], 16), 4 if t[1] in "fF" else 8))
        if "." in t:
            return Op("fimm", (int(np.float64(t).view(U64)), 8))
        t = t.rstrip("U")
        return Op("imm", int(t, 8) if re.match(r"0\d", t) else int(t, 0))

    def name(self, t):
        if t in ("_", "WARP_SZ"):
            return Op("sink", t) if t == "_" else Op("imm", 32)
        m = re.match(r"(.*?)(\d+)$", t)
        for scope in reversed(self.scopes):
            if t in scope:
                return Op(*scope[t])
            if m and m[1] + "<" in scope:
                unique = scope[m[1] + "<"][1]
                self.f.regs[unique[:-1] + m[2]] = self.f.regs[unique]
                return Op("reg", unique[:-1] + m[2])
        return Op("sreg" if t[0] == "%" else "sym", t)


def items(o):
    return list(o.val) if o.kind == "vec" else [o]


def symbols(o):
    """The variables, labels and functions that an operand names."""
    if o.kind in ("mem", "not"):
        return symbols(o.val)
    return [o.val] if o.kind == "sym" else [x for v in o.val for x in symbols(v)] if o.kind in ("vec", "pair") else []


def literal(o, ty):
    """A literal operand as a NumPy scalar of the type's storage."""
    dt, value = TYPES[ty], o.val
    if o.kind == "fimm":
        value, width = o.val
        if dt.kind == "f":
            return dt.type(np.array(value, U[width]).view(F32 if width == 4 else F64))
    if dt.kind == "b" or dt.itemsize > 2 and dt.kind == "f":
        return dt.type(value)
    if dt.kind == "V":
        return np.frombuffer(int(value % (1 << 128)).to_bytes(16, "little"), dt)[0]
    return np.array(value & ((1 << 8 * dt.itemsize) - 1), U[dt.itemsize]).view(dt)[()]


def parse(text):
    """Read PTX text. Raises PtxError with the line that cannot be read."""
    return _Parser(text).module()


# ---- arithmetic --------------------------------------------------------------------------------------------------------------

def two_sum(a, b):
    """The float64 sum and its error, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_prod(a, b):
    """The float64 product and its error, exactly while nothing under- or overflows."""
    p = a * b
    ca, cb = a * 134217729.0, b * 134217729.0
    ah, bh = ca - (ca - a), cb - (cb - b)
    al, bl = a - ah, b - bh
    e = ((ah * bh - p) + ah * bl + al * bh) + al * bl
    return p, np.where(np.isfinite(e), e, 0.0)


def to_odd(s, e):
    """s + e (float64, e the rounding error of s) rounded to odd: rounding that once more, to 51 bits or fewer, is exact."""
    fix = (e != 0) & np.isfinite(s) & (np.asarray(s).view(I64) & 1 == 0)
    return np.where(fix, np.nextafter(s, np.copysign(np.inf, e)), s) if np.any(fix) else s


def fma32(a, b, c):
    """Correctly rounded: the product is exact in float64; only a sum half-way between floats, or a small one, needs its error."""
    p, c = a.astype(F64) * b.astype(F64), c.astype(F64)
    s = p + c
    if np.any(((s.view(I64) & 0x1FFFFFFF) == 0x10000000) | (np.abs(s) < 1.2e-38)):
        s = to_odd(*two_sum(p, c))
    return s.astype(F32)


def fma64(a, b, c):
    """Correctly rounded (Boldo and Melquiond's sum rounded to odd); extreme exponents go through exact fractions."""
    a, b, c = np.broadcast_arrays(a, b, c)
    p, pe = two_prod(a, b)
    u, ue = two_sum(c, pe)
    t, te = two_sum(p, u)
    special = np.where(np.isinf(c) & np.isfinite(a) & np.isfinite(b), c, p + c)
    r = np.array(np.where((p == 0) | ~np.isfinite(p + c), special, t + to_odd(*two_sum(te, ue))))
    ap, ab = np.abs(p), np.maximum(np.abs(a), np.abs(b))
    plain = (ap > 1e-270) & (ap < 1e270) & (np.abs(c) < 1e270) & (ab < 1e270) | (a == 0) | (b == 0)
    for k in zip(*np.nonzero(np.atleast_1d(~plain & np.isfinite(a) & np.isfinite(b) & np.isfinite(c)))):
        k = k if r.ndim else ()
        v = Fraction(float(a[k])) * Fraction(float(b[k])) + Fraction(float(c[k]))
        try:
            r[k] = v.numerator / v.denominator
        except OverflowError:
            r[k] = np.inf if v > 0 else -np.inf
    return r


def widen(x, ty):
    """The values of a float type in float64, exactly."""
    if ty == "bf16":
        return (x.astype(U32) << U32(16)).view(F32).astype(F64)
    return (x.view(F32) if ty == "tf32" else x).astype(F64)


def narrow(s, e, ty, mode="rn"):
    """The exact value s + e rounded once to a float type; for f64, s is that sum rounded to nearest."""
    if ty == "f64":
        y, d = s, np.negative(e)                              # d: what rounding to nearest added
    else:
        s = to_odd(s, e) if np.any(e) else s
        y = s.astype(F32 if ty in ("bf16", "tf32") else TYPES[ty])
        d = y.astype(F64) - s
    if ty in ("bf16", "tf32"):
        drop = 16 if ty == "bf16" else 13
        y = np.where(np.isfinite(s) & (np.abs(y.astype(F64)) > np.abs(s)), np.nextafter(y, F32(0)), y)   # cut off,
        u = y.view(U32) | (y.astype(F64) != s)                                                           # with a sticky bit
        if mode != "rz":
            u = u + (U32((1 << drop - 1) - (mode == "rn")) + ((u >> U32(drop)) & U32(mode == "rn")))
        u = np.where(np.isnan(s), U32(0x7FFFFFFF), u) >> U32(drop)
        return u.astype(U16) if ty == "bf16" else u << U32(13)
    if mode == "rn":
        return y
    wrong = {"rz": d * np.sign(s) > 0, "rm": d > 0, "rp": d < 0}[mode] & np.isfinite(s)
    return np.where(wrong, np.nextafter(y, y.dtype.type({"rz": 0, "rm": -np.inf, "rp": np.inf}[mode])), y)


def div_error(x, y):
    q = x / y
    p, pe = two_prod(q, y)
    return q, np.nan_to_num(((x - p) - pe) * np.sign(y), posinf=0, neginf=0)


def sqrt_error(x):
    q = np.sqrt(x)
    p, pe = two_prod(q, q)
    return q, np.nan_to_num((x - p) - pe, posinf=0, neginf=0)


NATIVE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt, "rcp": lambda x: x.dtype.type(1) / x}
EXACT = {"add": two_sum, "sub": lambda x, y: two_sum(x, -y), "mul": two_prod, "fma": lambda x, y, z: two_sum(x * y, z),   # result, error
         "div": div_error, "sqrt": sqrt_error, "rcp": lambda x: div_error(np.ones_like(x), x)}
APPROX = {"ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "sqrt": np.sqrt,
          "rsqrt": lambda x: 1 / np.sqrt(x), "rcp": lambda x: 1 / x}


def float_function(name, ty, mods):
    """The function of a floating-point instruction on arrays of the type, its modifiers included."""
    base = PACKED.get(ty, ty)
    mode = next((m for m in mods if m in ("rn", "rz", "rm", "rp")), "rn")
    if name in ("min", "max"):
        fn = min_max(name, base, "NaN" in mods, "xorsign" in mods)
    elif name in ("neg", "abs"):
        u = U[TYPES[base].itemsize]
        top, dt = u.type(1 << 8 * u.itemsize - 1), TYPES[base]
        fn = (lambda x: (x.view(u) ^ top).view(dt)) if name == "neg" else (lambda x: (x.view(u) & ~top).view(dt))
    elif name in APPROX and (name not in NATIVE or "approx" in mods):
        fn = lambda x: narrow(APPROX[name](widen(x, base)), 0.0, base)
        if base == "f64" and "ftz" in mods:                    # rcp, rsqrt: only the upper half of the result is computed
            fn = lambda x: (APPROX[name](x).view(U64) & U64(0xFFFFFFFF00000000)).view(F64)
    elif base in ("f32", "f64") and mode == "rn":
        fn = NATIVE.get(name) or (fma32 if base == "f32" else fma64)
    elif name == "fma" and base == "f64":
        raise SimError("unsupported", f"fma.{mode}.f64")
    else:
        fn = lambda *x: narrow(*EXACT[name](*(widen(v, base) for v in x)), base, mode)
    if ("sat" in mods or "relu" in mods) and name not in ("min", "max"):
        fn = lambda *x, inner=fn: narrow(clamp(widen(inner(*x), base), mods), 0.0, base)
    if "ftz" in mods and base in ("f32", "f16"):
        fn = lambda *x, inner=fn: flush(inner(*map(flush, x)))
    return per_element(fn, base, ty) if ty in PACKED else fn


def flush(x):
    small = np.abs(x) < np.finfo(x.dtype).smallest_normal
    return np.where(small, np.copysign(x.dtype.type(0), x), x) if np.any(small) else x


def clamp(v, mods):
    """.sat: to [0, 1], NaN to 0. .relu: to 0 at least."""
    return np.fmin(np.fmax(v, 0.0), 1.0) + 0.0 if "sat" in mods else np.where(v <= 0, 0.0, v)


def per_element(fn, part, whole):
    """fn applied to each element of packed registers."""
    def run(*x):
        parts = [np.ascontiguousarray(np.atleast_1d(v)).view(TYPES[part]).reshape(np.size(v), -1) for v in x]
        return np.ascontiguousarray(fn(*parts)).view(TYPES[whole]).reshape(-1)
    return run


def min_max(name, ty, nan, xorsign):
    """IEEE 754-2019 minimumNumber, maximumNumber (.NaN: minimum, maximum): -0 is below +0. Takes two arrays or three."""
    pick = np.fmin if name == "min" else np.fmax
    def two(x, y):
        u = U[x.dtype.itemsize]
        sign = (x.view(u) ^ y.view(u)) & u.type(1 << 8 * u.itemsize - 1)
        if xorsign:
            x, y = np.abs(x), np.abs(y)
        same = x.view(u) | y.view(u) if name == "min" else x.view(u) & y.view(u)
        r = np.where(x == y, same.view(x.dtype), pick(x, y))
        if nan:
            r = np.where(np.isnan(x) | np.isnan(y), x.dtype.type(np.nan), r)
        return (r.view(u) | sign).view(x.dtype) if xorsign else r
    def run(a, *rest):
        for b in rest:
            if ty == "bf16":
                a = (two(*((v.astype(U32) << U32(16)).view(F32) for v in (a, b))).view(U32) >> U32(16)).astype(U16)
            else:
                a = two(np.asarray(a), np.asarray(b))
        return a
    return run


def convert(x, sty, dty, mods=()):
    """cvt of an array from one type to another."""
    sdt, ddt = TYPES[sty], TYPES[dty]
    mode = next((m for m in mods if m in ("rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna")), "rn")
    if sty not in FLOATS and dty not in FLOATS:
        if "sat" in mods:
            info, own = np.iinfo(ddt), np.iinfo(sdt)
            x = np.clip(x, sdt.type(max(info.min, own.min)), sdt.type(min(info.max, own.max)))
        return x.astype(ddt)
    if sty not in FLOATS:
        if sdt.itemsize < 8:
            return narrow(x.astype(F64), 0.0, dty, mode)
        if mode == "rn" and dty in ("f32", "f64"):
            return x.astype(ddt)
        high, low = (x >> sdt.type(32)).astype(F64) * 2.0 ** 32, (x & sdt.type(0xFFFFFFFF)).astype(F64)
        return narrow(*two_sum(high, low), dty, mode)
    v = widen(flush(x) if "ftz" in mods and sty == "f32" else x, sty)
    if mode in ("rni", "rzi", "rmi", "rpi"):
        v, mode = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode](v), "rn"
    if dty in FLOATS or dty == "tf32":
        if "sat" in mods or "relu" in mods:
            v = clamp(v, mods)
        if "satfinite" in mods and dty in ("f16", "bf16"):
            top = 65504.0 if dty == "f16" else 3.3895313892515355e38
            v = np.where(np.isnan(v), v, np.clip(v, -top, top))
        y = narrow(v, 0.0, dty, mode)
        return flush(y) if "ftz" in mods and dty == "f32" else y
    info, high = np.iinfo(ddt), 2.0 ** (8 * ddt.itemsize - (ddt.kind == "i"))
    y = np.where((v >= info.min) & (v < high), v, 0.0).astype(ddt)
    y = np.where(v >= high, ddt.type(info.max), np.where(v < info.min, ddt.type(info.min), y))
    nan = 1 << (8 * ddt.itemsize - 1) if sty == "f64" or ddt.itemsize == 8 else 0
    return np.where(np.isnan(v), literal(Op("imm", nan), dty), y)


def mul_hi(a, b):
    dt = a.dtype
    if dt.itemsize < 8:
        wide = np.dtype(f"{dt.kind}{2 * dt.itemsize}")
        return (a.astype(wide) * b.astype(wide) >> wide.type(8 * dt.itemsize)).astype(dt)
    x, y, m, s = a.view(U64), b.view(U64), U64(0xFFFFFFFF), U64(32)
    mid = (x >> s) * (y & m) + ((x & m) * (y & m) >> s)
    hi = (x >> s) * (y >> s) + (mid >> s) + ((x & m) * (y >> s) + (mid & m) >> s)
    if dt.kind == "i":
        hi = hi - np.where(a < 0, y, U64(0)) - np.where(b < 0, x, U64(0))
    return hi.view(dt)


def quotient(a, b):
    """Integer division towards zero; by zero, all ones."""
    one = np.where(b == 0, b.dtype.type(1), b)
    return np.where(b == 0, ~a.dtype.type(0), (a - np.fmod(a, one)) // one)


def remainder(a, b):
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, b.dtype.type(1), b)))


def shift_left(a, n):
    bits = 8 * a.dtype.itemsize
    return np.where(n < bits, a << np.minimum(n, U32(bits - 1)).astype(a.dtype), a.dtype.type(0))


def shift_right(a, n):
    bits = 8 * a.dtype.itemsize
    r = a >> np.minimum(n, U32(bits - 1)).astype(a.dtype)
    return r if a.dtype.kind == "i" else np.where(n < bits, r, a.dtype.type(0))


def funnel(left, wrap):
    def fn(a, b, n):
        n = (n & U32(31) if wrap else np.minimum(n, U32(32))).astype(U64)
        v = b.astype(U64) << U64(32) | a
        return ((v << n) >> U64(32) if left else v >> n).astype(U32)
    return fn


def bit_reverse(x):
    w = x.dtype.itemsize
    x = np.ascontiguousarray(np.atleast_1d(x)).view(U8).reshape(-1, w)[:, ::-1]
    return np.packbits(np.unpackbits(x, axis=1, bitorder="little"), axis=1, bitorder="big").view(U[w])[:, 0]


def leading_zeros(x):
    r, bits = np.zeros(np.shape(x), U32), 8 * x.dtype.itemsize
    for k in (32, 16, 8, 4, 2, 1):
        if k < bits:
            top = x >> x.dtype.type(bits - k) == 0
            r, x = r + top * U32(k), np.where(top, x << x.dtype.type(k), x)
    return np.where(x == 0, U32(bits), r)


def find_bit(amount):
    def fn(x):
        v = (np.where(x < 0, ~x, x) if x.dtype.kind == "i" else x).view(U[x.dtype.itemsize])
        n = leading_zeros(v)
        return np.where(v == 0, U32(0xFFFFFFFF), n if amount else U32(8 * x.dtype.itemsize - 1) - n)
    return fn


def extract_bits(a, pos, n):
    pos, n, bits = pos & U32(255), n & U32(255), U32(8 * a.dtype.itemsize)
    keep = bits - np.minimum(n, bits)
    v = shift_right(shift_left(shift_right(a, pos), keep), keep)     # beyond the top, bits are copies of the sign, or zero
    return np.where(n == 0, a.dtype.type(0), v)


def insert_bits(a, b, pos, n):
    one, pos = b.dtype.type(1), pos & U32(255)
    mask = shift_left(shift_left(np.broadcast_to(one, np.shape(n)), n & U32(255)) - one, pos)
    return b & ~mask | shift_left(a, pos) & mask


def permute_bytes(a, b, sel):
    v, out = b.astype(U64) << U64(32) | a, 0
    for k in range(4):
        s = sel >> U32(4 * k) & U32(15)
        byte = (v >> (s & U32(7)).astype(U64) * U64(8)).astype(U32) & U32(255)
        out = out | np.where(s & U32(8), np.where(byte & U32(128), U32(255), U32(0)), byte) << U32(8 * k)
    return out


def lookup3(table):
    def fn(a, b, c):
        terms = [(a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c) for k in range(8) if table >> k & 1]
        return np.bitwise_or.reduce(terms) if terms else a & U32(0)
    return fn


COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
           "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}


def comparison(name, ty, mods):
    """The relation of setp and set on arrays of a type: false on NaN, or, with the name's u, true."""
    if ty not in FLOATS:
        return COMPARE[name]
    value = (lambda x: widen(x, "bf16")) if ty == "bf16" else flush if "ftz" in mods else (lambda x: x)
    def fn(a, b):
        a, b = value(a), value(b)
        nan = np.isnan(a) | np.isnan(b)
        if name in ("num", "nan"):
            return nan if name == "nan" else ~nan
        return COMPARE[name[:-1]](a, b) | nan if name[-1] == "u" else COMPARE[name](a, b) & ~nan
    return fn


# ---- memory and launches -------------------------------------------------------------------------------------------------------

class Region:
    """Bytes at a generic address, with shadow state. Shared and local memory hold one copy an owner (block or thread)."""

    def __init__(self, space, name, base, size, owners=1, owner=None, lead=0, readonly=False):
        self.space, self.name, self.base, self.size, self.owner, self.lead = space, name, base, size, owner, lead
        self.readonly, self.written, self.stride = readonly, False, -(-max(size + lead, 1) // 32) * 32
        self.init = None                                       # a flag a byte: has it been written? None: all have
        self.data = np.full(self.stride * owners, 0xFF, U8)
        self.reset()

    def reset(self):
        """Forget who accessed what: w last writer, r1 and r2 last readers, a last atomic or strong writer, pend cp.async under way."""
        self.w = self.r1 = self.r2 = self.a = self.pend = None
        self.views = {}

    def rows(self, size, vec):
        """The bytes as unsigned integers, or rows of vec of them."""
        if (size, vec) not in self.views:
            v = self.data.view(U[size])
            self.views[size, vec] = v if vec == 1 else v.reshape(-1, vec)
        return self.views[size, vec]

    def fetch(self):
        self.reset()

    def store(self):
        pass

    def shadow(self, name, granule):
        if getattr(self, name) is None:
            setattr(self, name, np.zeros(len(self.data) // granule, I64))
        return getattr(self, name)


class Buffer(Region):
    """A global allocation for an array. address: where kernels see it. uninit: its bytes count as never written (and are set to
    0xFF) until a kernel writes them; that lasts over launches. misalign: bytes between a 256-byte boundary and the address."""
    free = GLOBAL0

    def __init__(self, array, name="buffer", uninit=False, readonly=False, misalign=0, space="global"):
        if not isinstance(array, np.ndarray):
            raise PtxError(f"{name}: a Buffer holds a NumPy array, not {type(array).__name__}")
        self.array, self.address = array, Buffer.free + misalign
        super().__init__(space, name, self.address, array.nbytes, lead=misalign, readonly=readonly or not array.flags.writeable)
        Buffer.free += len(self.data) + (2 << 20) >> 20 << 20         # at least 1 MiB between two buffers
        self.init = np.zeros(len(self.data), bool) if uninit else None

    def fetch(self):
        self.reset()
        self.data[self.lead:self.lead + self.size] = np.ascontiguousarray(self.array).reshape(-1).view(U8)
        if self.init is not None:
            self.data[~self.init] = 0xFF

    def store(self):
        if not self.readonly and (self.written or self.init is not None):
            flat = self.data[self.lead:self.lead + self.size].copy()
            self.array[...] = flat.view(self.array.dtype).reshape(self.array.shape)


@dataclass
class Result:
    """What a launch did. counts: opcode -> thread instructions issued (those predicated off included); lines: the same by line;
    unwritten: bytes of each uninit Buffer still not written; traffic (with profile=True): line -> (warp requests, shared wavefronts or
    global 32-byte sectors, the least that these bytes need)."""
    counts: Counter
    lines: dict
    reports: list
    warnings: list
    shared_bytes: int
    local_bytes: int
    steps: int
    barriers: int
    unwritten: dict
    traffic: dict

    ok = property(lambda self: not self.reports)

    def __str__(self):
        head = f"{self.steps} steps, {sum(self.counts.values())} thread instructions, {self.shared_bytes} B shared, {self.local_bytes} B local"
        return "\n".join([head, *map(str, self.reports), *("warning: " + w for w in self.warnings)])


class Module:
    def __init__(self):
        self.version, self.target, self.kernels, self.funcs, self.vars, self.buffers = "", "", {}, {}, {}, {}

    def launch(self, kernel, grid, block, args=(), shared_bytes=0, check_races=True, buffers=(), names=(), batch_threads=4096,
               max_steps=50_000_000, strict=False, profile=False, freed=()):
        """Run a kernel. args follow its parameters (names name the arrays among them); buffers are further Buffers, reachable through
        addresses in args; batch_threads bounds how many threads (of whole blocks) run in lock-step; strict raises at the first report."""
        if kernel not in self.kernels:
            raise PtxError(f"no kernel '{kernel}'; there are: {', '.join(self.kernels) or 'none'}")
        f = self.kernels[kernel]
        grid, block = ((*map(int, np.atleast_1d(v)), 1, 1)[:3] for v in (grid, block))
        threads, blocks = int(np.prod(block)), int(np.prod(grid))
        if not 1 <= threads <= 1024 or blocks < 1:
            raise PtxError(f"{threads} threads a block, {blocks} blocks: need 1 to 1024 and at least 1")
        for limit in ("maxntid", "reqntid"):
            n = int(np.prod(f.limits.get(limit, [threads])))
            if threads > n or limit == "reqntid" and threads != n:
                raise PtxError(f"{threads} threads a block, but the kernel's .{limit} is {n}")
        for v in self.vars.values():
            if v.space in ("global", "const") and v.name not in self.buffers:
                array = np.frombuffer(v.data.ljust(v.size, b"\0"), U8).copy()
                self.buffers[v.name] = Buffer(array, v.name, readonly=v.space == "const", space=v.space)
        params, found = self.pack(f, list(args), names)
        regions = list({id(b): b for b in [*self.buffers.values(), *found, *buffers]}.values())
        out = SimpleNamespace(reports={}, warnings={}, hits=Counter(), traffic={}, steps=0, barriers=0, strict=strict)
        for b in regions:
            b.fetch()
        try:
            with np.errstate(all="ignore"):
                per = max(1, batch_threads // threads)
                for first in range(0, blocks, per):
                    m = Machine(self, f, grid, block, np.arange(first, min(first + per, blocks)), params, regions, out,
                                shared_bytes, check_races, max_steps, profile)
                    m.freed = freed
                    m.run()
        finally:
            for b in regions:
                b.store()
        counts, lines = Counter(), Counter()
        for (line, name), n in out.hits.items():
            counts[name] += n
            lines[line] += n
        unwritten = {b.name: int((~b.init[b.lead:b.lead + b.size]).sum()) for b in regions if b.init is not None}
        return Result(counts, dict(lines), list(out.reports.values()), list(out.warnings.values()), m.shared_bytes, m.local_bytes,
                      out.steps, out.barriers, unwritten, out.traffic)

    def pack(self, f, args, names):
        """The parameter block as bytes, and the buffers that pointer arguments stand for."""
        if len(args) != len(f.params):
            raise PtxError(f"{f.name} takes {len(f.params)} arguments ({', '.join(p.name for p in f.params)}), got {len(args)}")
        data, found = b"", {}
        for k, (p, a) in enumerate(zip(f.params, args)):
            dt = TYPES[p.type]
            if p.array:
                raw = a.tobytes() if isinstance(a, np.ndarray) else bytes(a)
                if len(raw) != p.size:
                    raise PtxError(f"{p.name} takes {p.size} bytes, got {len(raw)}")
            elif isinstance(a, Region) or isinstance(a, np.ndarray) and a.ndim:
                if dt.itemsize != 8 or dt.kind == "f":
                    raise PtxError(f"{p.name} is .{p.type}, not a pointer, got an array")
                if not isinstance(a, Region):                   # the same array twice is one buffer
                    where = a.__array_interface__["data"][0], a.nbytes
                    a = found.get(where) or found.setdefault(where, Buffer(a, names[k] if k < len(names) else p.name))
                found[id(a)] = a
                raw = a.address.to_bytes(8, "little")
            elif dt.kind == "f":
                raw = dt.type(a).tobytes()
            elif isinstance(a, (float, np.floating)):
                if not isinstance(a, np.floating) or a.dtype.itemsize != dt.itemsize or isinstance(a, float):
                    raise PtxError(f"{p.name} is .{p.type}, got the float {a!r}")
                raw = a.tobytes()
            elif not -(1 << 8 * dt.itemsize - 1) <= int(a) < 1 << 8 * dt.itemsize:
                raise PtxError(f"{p.name} is .{p.type}, {a} does not fit")
            else:
                raw = literal(Op("imm", int(a)), f"b{8 * dt.itemsize}").tobytes()
            p.offset = -(-len(data) // p.align) * p.align
            data = data.ljust(p.offset, b"\0") + raw
        return np.frombuffer(data, U8), [*found.values()]

    def loops(self, name):
        """The natural loops of a kernel or function: back edges to a dominator, bodies merged by header."""
        f = self.kernels.get(name) or self.funcs[name]
        code, at, leave = f.code, {pc: label for label, pc in reversed(f.labels.items())}, ("bra", "brx", "ret", "exit", "trap")
        starts = sorted({0, *f.labels.values(), *(k + 1 for k, i in enumerate(code) if i.base in leave)} - {len(code)})
        blocks = [range(a, b) for a, b in zip(starts, [*starts[1:], len(code)])]
        number, succ = {b.start: n for n, b in enumerate(blocks)}, []
        for n, b in enumerate(blocks):
            last = code[b[-1]]
            to = [last.args[0].val] if last.base == "bra" else f.tables[last.args[1].val] if last.base == "brx" else []
            succ.append([number[f.labels[x]] for x in to if f.labels[x] < len(code)])
            if (last.guard or last.base not in leave) and n + 1 < len(blocks):
                succ[n].append(n + 1)
        pred = [[p for p in range(len(blocks)) if n in succ[p]] for n in range(len(blocks))]
        dom, old = [{0}, *[set(range(len(blocks)))] * (len(blocks) - 1)], None
        while dom != old:
            old, dom = dom, [{n} | (set.intersection(*(dom[p] for p in pred[n])) if n and pred[n] else set()) for n in range(len(blocks))]
        bodies = {}
        for n in range(len(blocks)):
            for head in succ[n]:
                if head in dom[n]:
                    body, todo = bodies.setdefault(head, {head}), [n]
                    while todo:
                        if (b := todo.pop()) not in body:
                            body.add(b)
                            todo += pred[b]
        return [Loop(at.get(blocks[h].start, f"line {code[blocks[h].start].line}"), [code[k] for b in sorted(body) for k in blocks[b]],
                     sum(h in other for other in bodies.values()), not any(o in body for o in bodies if o != h))
                for h, body in sorted(bodies.items())]


# ---- the machine: a batch of blocks ----------------------------------------------------------------------------------------------

class Machine:
    def __init__(self, mod, kern, grid, block, blocks, params, regions, out, dynamic, races, max_steps, profile):
        self.mod, self.grid, self.block, self.blocks, self.out = mod, grid, block, blocks, out
        self.params, self.dynamic, self.races, self.max_steps, self.profile = params, dynamic, races, max_steps, profile
        self.per, self.nb = int(np.prod(block)), len(blocks)           # threads a block, blocks here
        self.n = self.per * self.nb
        self.tid = np.arange(self.n)
        self.loc, self.blk = self.tid % self.per, self.tid // self.per
        self.lane, self.warp = self.loc % 32, self.blk * -(-self.per // 32) + self.loc // 32
        self.gid = blocks[self.blk] * self.per + self.loc
        self.first = self.gid - self.loc                               # global index of the block's first thread
        self.alive, self.alive_n = np.ones(self.n, bool), np.full(self.nb, self.per)
        self.lanes = self.lane_bits(self.tid)                          # warp -> mask of threads that have not exited
        self.floor, self.clock, self.vc = np.zeros(self.nb, I64), np.ones(self.n, I64), None
        self.stamp()
        self.groups, self.parked, self.ret, self.regs, self.pvars = {}, {}, {}, {}, {}
        self.bar_id, self.bar_pc, self.bar_depth, self.bar_need = (np.full(self.n, -1) for _ in range(4))
        self.bar_value, self.bar_end, self.arrivals = np.zeros(self.n, bool), {}, {}
        self.copies, self.committed, self.carry = [], np.zeros(self.n, I64), np.zeros(self.n, bool)
        self.special, self.funcs = self.special_registers(), self.reachable(kern, [])
        self.layout(regions, dynamic)
        self.assemble()

    def special_registers(self):
        (bx, by, bz), (gx, gy, gz), b, t = self.block, self.grid, self.blocks[self.blk], self.loc
        bit, every = 1 << self.lane, (1 << 32) - 1
        s = {"%tid.x": t % bx, "%tid.y": t // bx % by, "%tid.z": t // (bx * by), "%ctaid.x": b % gx, "%ctaid.y": b // gx % gy,
             "%ctaid.z": b // (gx * gy), "%ntid.x": bx, "%ntid.y": by, "%ntid.z": bz, "%nctaid.x": gx, "%nctaid.y": gy, "%nctaid.z": gz,
             "%laneid": self.lane, "%warpid": t // 32, "%nwarpid": -(-self.per // 32), "%smid": b % 132, "%nsmid": 132, "%gridid": 1,
             "%lanemask_eq": bit, "%lanemask_lt": bit - 1, "%lanemask_le": 2 * bit - 1, "%lanemask_ge": every + 1 - bit,
             "%lanemask_gt": every + 1 - 2 * bit, "%cluster_ctaid.x": 0, "%cluster_nctaid.x": 1, "%cluster_ctarank": 0}
        return {k: np.broadcast_to(np.asarray(v), self.n).astype(U32) for k, v in s.items()}

    def reachable(self, f, stack):
        """A function and those it calls, each once; recursion is refused."""
        out = [f]
        for i in f.code:
            if i.base == "call":
                g = self.mod.funcs.get(callee(i)[1])
                if g is None or g.code is None or g in (*stack, f):
                    raise SimError("unsupported", "a recursive call" if g in (*stack, f) else "no body for the function called", i)
                out += [x for x in self.reachable(g, [*stack, f]) if x not in out]
        return out

    def layout(self, regions, dynamic):
        """Addresses of shared variables, red zones between them, and of local ones; the table of regions by address."""
        code = [i for f in self.funcs for i in f.code]
        used = {x for i in code for o in i.args for x in symbols(o)}
        shared = [v for v in self.mod.vars.values() if v.space == "shared" and v.name in used]
        shared += [v for f in self.funcs for v in f.vars.values() if v.space == "shared"]
        static, ext = [v for v in shared if v.size], [v for v in shared if not v.size]
        tail = [Var(ext[0].name, "shared", "b8", max([16, *(v.align for v in ext)]), dynamic)] if ext else []
        self.address, self.spots, zones, end, packed = {}, [], [], SHARED0, 0
        for v in static + tail:
            start = -(-(end + 16 * bool(self.spots)) // v.align) * v.align
            zones.append((end - SHARED0, start - SHARED0))
            self.spots.append((start, v.name))
            self.address.update((x.name, start) for x in ([v] if v.size and v not in tail else ext))
            end, packed = start + v.size, -(-packed // v.align) * v.align + v.size if v.size else packed
        self.shared_bytes = packed if ext else packed + dynamic
        size = end - SHARED0 if ext else end - SHARED0 + dynamic
        if sum(v.size for v in static) > 48 << 10 or self.shared_bytes > 227 << 10:
            self.warn("size", f"{self.shared_bytes} B of shared memory, more than hardware takes (48 KiB static, 227 KiB in all)")
        self.granule = min([4] + [TYPES[i.types[-1]].itemsize for i in code
                                  if i.base in ("ld", "st", "atom", "red") and "param" not in i.mods and i.types])
        self.lg = self.granule.bit_length() - 1
        self.smem = Region("shared", "shared memory", WINDOW["shared"] + SHARED0, size, self.nb, self.blk)
        w = self.smem.shadow("w", self.granule).reshape(self.nb, -1)
        for a, b in zones:
            w[:, -(-a // self.granule):b // self.granule] = -1
        at = 16
        for f in self.funcs:
            for v in f.vars.values():
                if v.space == "local":
                    at = -(-at // v.align) * v.align
                    self.address[f.name, v.name] = at
                    at += v.size
        self.local_bytes = at - 16
        lmem = Region("local", "local memory", WINDOW["local"] + 16, self.local_bytes, self.n, self.tid)
        lmem.init = np.zeros(len(lmem.data), bool)
        pmem = Region("param", "parameters", WINDOW["param"], len(self.params), readonly=True)
        pmem.data[:len(self.params)] = self.params
        self.regions = sorted([*regions, self.smem, lmem, pmem], key=lambda r: r.base)
        self.bases, self.ends = (np.array(x, U64) for x in zip(*((r.base, r.base + r.size) for r in self.regions)))
        self.fenced = any(i.base in ("membar", "fence") or {"acquire", "release", "acq_rel"} & set(i.mods) for i in code)

    def assemble(self):
        """One code list for all functions; each entry is (function of a group | None, control function | None, Instr)."""
        self.code, self.entry, listing = [], {}, []
        for f in self.funcs:
            self.entry[f.name], f.pcs = len(listing), []
            for i in f.code:
                f.pcs.append(len(listing))
                listing += [(f, i)] + [(f, replace(i, op="call_end", guard=None))] * (i.base == "call")
            f.pcs.append(len(listing))
            listing.append((f, Instr(f.code[-1].line if f.code else 0, "(end of function)", "ret", [])))
        for self.pc, (self.f, i) in enumerate(listing):
            try:
                if i.base not in OPS and i.base not in CONTROL:
                    raise SimError("unsupported", "unknown instruction", i)
                fn = OPS[i.base](self, i) if i.base in OPS else None
                ctl = CONTROL[i.base](self, i) if fn is None else None
            except SimError as e:
                raise e if e.line else SimError(e.kind, e.message, i) from None
            except Exception as e:
                raise SimError("unsupported", f"cannot be interpreted ({type(e).__name__}: {e})", i) from e
            self.code.append((*(self.guarded(i, fn, ctl) if i.guard else (fn, ctl)), i))
        self.hits = [0] * len(self.code)

    def guarded(self, i, fn, ctl):
        p, neg, pc = self.reg(i.guard[0]), i.guard[1], self.pc
        def split(idx):
            m, t = p[idx] ^ neg, self.tid[idx]
            return (idx, None) if m.all() else (t[m] if m.any() else None, t[~m])
        def plain(idx):
            if (yes := split(idx)[0]) is not None:
                fn(yes)
        def control(idx, depth):
            yes, no = split(idx)
            if yes is None or no is None:
                return ctl(idx, depth) if no is None else (pc + 1, idx)
            self.push(depth, pc + 1, no)
            if r := ctl(yes, depth):
                self.push(depth, *r)
        return (plain, None) if fn else (None, control)

    # -- scheduling --

    def push(self, depth, pc, idx):
        if (old := self.groups.get((-depth, pc))) is not None:
            idx = np.sort(np.concatenate([old, self.tid[idx]]))
        self.groups[-depth, pc] = ALL if idx is not ALL and len(idx) == self.n else idx

    def run(self):
        self.push(0, 0, ALL)
        code, hits, held, steps, i = self.code, self.hits, set(), self.out.steps, None
        try:
            while self.groups:
                if not self.groups.keys() - held:
                    held.clear()
                key = min(self.groups.keys() - held)
                depth, pc, idx = -key[0], key[1], self.groups.pop(key)
                limit = min((k[1] for k in self.groups if k[0] == key[0] and k[1] > pc), default=1 << 60)
                n, patience = self.n if idx is ALL else len(idx), 2000
                while True:
                    fn, ctl, i = code[pc]
                    hits[pc] += n
                    steps += 1
                    if fn is not None:
                        fn(idx)
                        pc += 1
                    else:
                        self.out.steps = steps
                        if (r := ctl(idx, depth)) is None:
                            break
                        if r[1] is not idx:
                            n = self.n if r[1] is ALL else len(r[1])
                        pc, idx = r
                        patience -= 1
                        if patience < 0 and self.groups:                # others wait: let them go first for a while
                            held.add((-depth, pc))
                            limit = pc
                        if steps > self.max_steps:
                            raise SimError("livelock", f"still running after {steps} steps (max_steps)", i)
                    if pc >= limit:
                        self.push(depth, pc, idx)
                        break
        except SimError:
            raise
        except Exception as e:
            raise SimError("internal", f"{type(e).__name__}: {e}", i) from e
        finally:
            self.out.steps = steps
            for (_, _, i), n in zip(code, hits):
                if n and i.base != "call_end":
                    self.out.hits[i.line, i.op] += n
        if self.alive.any():
            self.deadlock()
        if self.copies:
            self.warn("cp.async", f"line {self.copies[0].i.line}: threads exit with cp.async copies never waited for")

    def deadlock(self):
        where = {("warp instruction", pc): self.tid[idx] for (_, pc), idx in self.parked.items()}
        for t in np.flatnonzero(self.alive & (self.bar_id >= 0)):
            where.setdefault((f"barrier {self.bar_id[t]}", self.bar_pc[t]), []).append(t)
        text = "; ".join(f"{len(ts)} threads, first {self.who(ts[0])}, wait at {what}, line {self.code[pc][2].line} "
                         f"({self.code[pc][2].text})" for (what, pc), ts in where.items())
        raise SimError("deadlock", f"{text}; {int((~self.alive).sum())} threads of the batch have exited")

    def exit(self, idx):
        t = self.tid[idx]
        self.alive[t] = False
        self.alive_n = self.alive_n - np.bincount(self.blk[t], minlength=self.nb)
        self.lanes = self.lanes & ~self.lane_bits(t)
        if self.alive.any():                                           # somebody may have waited for these threads only
            self.release(np.unique(self.blk[t]))
            parked, self.parked = self.parked, {}
            for key, idx in parked.items():
                self.push(*key, idx)

    def lane_bits(self, t):
        return np.bincount(self.warp[t], 2.0 ** self.lane[t], minlength=self.warp[-1] + 1).astype(I64)

    def collective(self, fn, mask):
        """A .sync warp instruction: runs for the warps whose named, still running lanes are all here; the others are parked."""
        pc = self.pc
        def ctl(idx, depth):
            if (old := self.parked.pop((depth, pc), None)) is not None:
                idx = np.sort(np.concatenate([old, self.tid[idx]]))
            if idx is not ALL or not self.alive.all():
                t = self.tid[idx]
                m = np.broadcast_to(mask(idx), len(t)).astype(I64)
                wait = (m & self.lanes[self.warp[t]] & ~self.lane_bits(t)[self.warp[t]]) != 0
                if wait.any():
                    self.parked[depth, pc], idx = t[wait], t[~wait]
                    if wait.all():
                        return None
            fn(idx)
            return pc + 1, idx
        return ctl

    # -- barriers and order --

    def stamp(self):
        """The shadow entry of each thread's accesses from now on, and the newest entry that a full barrier put before them."""
        self.key = self.clock << SHIFT | self.gid
        self.thr = ((self.floor + 1) << SHIFT)[self.blk] - 1

    def order_blocks(self, blocks):
        """A full barrier in these blocks (a mask): all so far comes before all that follows."""
        self.out.barriers += int(blocks.sum())
        top = self.clock.reshape(self.nb, -1).max(1)
        self.floor = np.where(blocks, top, self.floor)
        self.clock = np.where(blocks[self.blk], (top + 1)[self.blk], self.clock)
        self.stamp()

    def history(self, t):
        """What threads t of one block know together: for each thread of the block, the clock up to which all it did is ordered."""
        if self.vc is None:
            self.vc = np.zeros((self.nb, self.per, self.per), np.int32)
        row = self.vc[self.blk[t[0]], self.loc[t]].max(0)
        row[self.loc[t]] = np.maximum(row[self.loc[t]], self.clock[t])
        return row

    def order_threads(self, t, before=0):
        """A barrier of threads t of one block, after what the row `before` tells."""
        row = np.maximum(self.history(t), before)
        self.vc[self.blk[t[0]], self.loc[t]] = np.maximum(self.vc[self.blk[t[0]], self.loc[t]], row)
        self.tick(t)

    def tick(self, t):
        self.clock[t] += 1
        self.stamp()

    def release(self, blocks):
        """Let go the barriers of these blocks at which all have arrived."""
        for b in blocks:
            mine, here = self.blk == b, np.arange(self.nb) == b
            for name in np.unique(self.bar_id[mine & (self.bar_id >= 0)]):
                t = np.flatnonzero(mine & (self.bar_id == name))
                need, pcs, bits = int(self.bar_need[t].max()), self.bar_pc[t], self.lane_bits(t)
                i = self.code[pcs[0]][2]
                early, row = self.arrivals.get((b, name), (0, 0))
                came = len(t) if need < 0 else int(((bits != 0) & (bits == self.lanes)).sum()) * 32 + early      # by whole warps
                total = self.alive_n[b] if need < 0 else need
                if came > total:
                    raise SimError("deadlock", f"{came} threads arrive at barrier {name}, which takes {total}", i)
                if came < total:
                    continue
                if i.base == "bar" or "aligned" in i.mods:
                    if (np.diff(pcs)[np.diff(self.warp[t]) == 0] != 0).any():
                        lines = sorted({self.code[pc][2].line for pc in pcs})
                        raise SimError("divergent-barrier", f"the warp of {self.who(t[0])} waits at barriers at lines {lines}", i)
                    self.check_exited(i, here)
                if need < 0:
                    self.order_blocks(here)
                else:
                    self.out.barriers += 1
                    self.order_threads(t, row)
                    self.arrivals.pop((b, name), None)
                self.bar_id[t] = -1
                for pc, depth in {*zip(pcs.tolist(), self.bar_depth[t].tolist())}:
                    s = t[(pcs == pc) & (self.bar_depth[t] == depth)]
                    if pc in self.bar_end:
                        self.bar_end[pc](s, self.bar_value[t])
                    self.push(depth, pc + 1, s)

    def check_exited(self, i, blocks):
        """At an aligned barrier: report threads whose warp waits there while they have exited."""
        if (blocks & (self.alive_n < self.per)).any():
            part = ~self.alive & blocks[self.blk] & (self.lanes[self.warp] != 0)
            self.found("divergent-barrier", i, part, self.tid, lambda n: "has exited while others of its warp wait at an aligned barrier")
            if not part.any():
                self.warn(("exit", i.line), f"line {i.line}: {i.text}: some warps exited before this barrier")

    # -- reports --

    def who(self, t):
        return self.name(int(self.gid[t]))

    def name(self, gid):
        (bx, by, _), (gx, gy, _), (b, t) = self.block, self.grid, divmod(gid, self.per)
        return f"thread {(t % bx, t // bx % by, t // (bx * by))} of block {(b % gx, b // gx % gy, b // (gx * gy))}"

    def warn(self, key, text):
        self.out.warnings.setdefault(key, text)

    def found(self, kind, i, bad, t, say):
        """Report that a check failed where bad, for threads t; say(n) words the case of the n-th."""
        if not bad.any():
            return
        bad = bad.any(1) if bad.ndim > 1 else bad
        if (r := self.out.reports.get((kind, i.line))) is not None:
            r.count += int(bad.sum())
            return
        n = int(np.argmax(bad))
        r = self.out.reports[kind, i.line] = Report(kind, i.line, i.text, f"{self.who(t[n])} {say(n)}", int(bad.sum()))
        if self.out.strict:
            raise SimError(kind, r.message, i)

    def place(self, r, off):
        """A byte of a region, given its index in the region's data, in words."""
        off = int(off) % r.stride if r.owner is not None else int(off) - r.lead
        at, name = max([(a, v) for a, v in self.spots if a <= off + SHARED0], default=(SHARED0, r.name)) if r.space == "shared" else (0, r.name)
        return f"{name}+{off + SHARED0 - at if at else off}"

    # -- memory --

    def places(self, i, addr, nbytes, t, space, last):
        """[(region, indices of the first bytes in its data, selection or ALL, all one address)]; bounds and alignment checked.
        last: a list of one, the region that this instruction hit before."""
        lo, hi, r = int(addr.min()), int(addr.max()), last[0]
        if r is None or lo < r.base or hi + nbytes > r.base + r.size:
            k, end = np.searchsorted(self.bases, addr, "right") - 1, addr + U64(nbytes)
            out = (k < 0) | (end > self.ends[k]) | (end < addr)
            if space:
                out |= np.array([x.space for x in self.regions])[k] != space
            if out.any():
                n, shift = int(np.argmax(out)), WINDOW.get(space, 0)
                a = int(addr[n])
                gone = next((x for x in self.freed if x.base <= a < x.base + x.size), None)
                if gone is not None:
                    raise SimError("out-of-bounds", f"{self.who(t[n])}: {nbytes} bytes at {a:#x}: '{gone.name}' has been released", i)
                near = min(self.regions, key=lambda x: max(x.base - a, a + nbytes - x.base - x.size, 0) + (x.space in WINDOW) * (1 << 30))
                raise SimError("out-of-bounds", f"{self.who(t[n])}: {nbytes} bytes at {space or 'generic'} address {a - shift:#x}: nearest is "
                               f"'{near.name}' (base {near.base - shift:#x}, {near.size} bytes), offset {a - near.base}; {int(out.sum())} of "
                               f"{len(t)} threads are out of bounds", i)
            r = last[0] = self.regions[k[0]] if k.min() == k.max() else None
        if np.bitwise_or.reduce(addr) & U64(nbytes - 1):
            n = int(np.argmax(addr & U64(nbytes - 1) != 0))
            raise SimError("misaligned", f"{self.who(t[n])}: address {int(addr[n]):#x} is not a multiple of {nbytes}", i)
        if r is not None:
            return [(r, self.index(r, addr, t), ALL, lo == hi)]
        return [(self.regions[j], self.index(self.regions[j], addr[k == j], t[k == j]), k == j, False) for j in np.unique(k)]

    @staticmethod
    def index(r, addr, t):
        off = (addr - U64(r.base)).astype(I64)
        return off + r.owner[t] * r.stride if r.owner is not None else off + r.lead if r.lead else off

    def load(self, i, addr, size, vec, t, space, last, kind="r"):
        """Unsigned integers of that size, (threads,) or (threads, vec)."""
        n, out = size * vec, None
        for r, off, sel, same in self.places(i, addr, n, t, space, last):
            self.track(r, off, n, t[sel], i, kind, same)
            v = r.rows(size, vec)[off // n]
            if sel is ALL:
                return v
            out = np.zeros((len(t), *v.shape[1:]), v.dtype) if out is None else out
            out[sel] = v
        return out

    def save(self, i, addr, values, size, vec, t, space, last, kind="w"):
        n = size * vec
        for r, off, sel, _ in self.places(i, addr, n, t, space, last):
            self.track(r, off, n, t[sel], i, kind)
            r.rows(size, vec)[off // n] = values[sel]

    def track(self, r, off, nbytes, t, i, kind, same=False):
        """The shadow work of an access: r(ead), n(on-coherent read), s(trong read), w(rite), a (strong write), m (atomic), c(p.async)."""
        reads, writes = kind in "rnsm", kind in "wamc"
        at = lambda n: self.place(r, off[n])
        if self.profile and r.space in ("shared", "global"):
            self.measure(r, off, nbytes, t, i)
        if writes:
            if r.readonly:
                raise SimError("read-only", f"{self.who(t[0])} writes {at(0)}", i)
            r.written = True
        if r.init is not None:
            cells = off[:, None] + np.arange(nbytes)
            if reads:
                self.found(f"uninit-{r.space}", i, ~r.init[cells], t, lambda n: f"reads {at(n)}, which nothing has written")
            if writes:
                r.init[cells] = True
        if r.space not in ("shared", "global") or r.readonly or not (self.races or r.space == "shared"):
            return
        if same and r.space == "shared" and kind in "rns" and self.vc is None:
            b = self.blk[t]                                     # one address: the first and last thread of each block stand for all
            cut = np.flatnonzero(b[1:] != b[:-1])
            pick = np.sort(np.concatenate([[0], cut, cut + 1, [len(t) - 1]]))
            off, t = off[pick], t[pick]
        g, key, writer = (off >> self.lg)[:, None] + np.arange(max(nbytes >> self.lg, 1)), self.key[t][:, None], r.shadow("w", self.granule)
        w = writer[g]
        if r.space == "shared":
            low = int(w.min())
            if low < 0:
                n = int(np.argmax((w < 0).any(1)))
                raise SimError("out-of-bounds", f"{self.who(t[n])}: {at(n)} lies between shared variables (red zone)", i)
            if low == 0 and reads:
                self.found("uninit-shared", i, (w == 0) & (r.a is None or r.a[g] == 0), t, lambda n: f"reads {at(n)}, which nothing has written")
            if r.pend is not None:
                self.found("cp.async", i, r.pend[g] != 0, t, lambda n: f"touches {at(n)}, to which a cp.async copy is still under way")
        elif kind == "n":
            self.found("global-race", i, w != 0, t, lambda n: f"reads {at(n)} by ld.global.nc though this launch has written it")
        if self.races:
            for x, what in ((w, "write"), (r.a, "atomic access"), (r.r1, "read"), (r.r2, "read")):
                if x is not None and not (what == "read" and not writes or what[0] == "a" and kind in "sam"):
                    self.clash(x if x is w else x[g], what, kind, r, off, t, key, i)
        if kind in "am":
            r.shadow("a", self.granule)[g] = key
        elif writes:
            writer[g] = key
            if self.races and len(t) > 1 and (other := (now := writer[g]) != key).any():
                self.found(f"{r.space}-race", i, other, t, lambda n: f"and {self.name(int(now[n][other[n].argmax()] & GID))} write {at(n)} at the same time")
        elif self.races and kind in "rn":
            r1, r2 = r.shadow("r1", self.granule), r.shadow("r2", self.granule)
            old = r1[g]
            r1[g] = key                                         # of threads that read one granule together the last stays,
            new = r1[g]
            second = np.where(new != key, key, np.where((old ^ key) & GID != 0, old, r2[g]))
            r2[g[::-1].copy()] = second[::-1].copy()            # and the first, or one before (copies: NumPy would turn the views round)

    def clash(self, x, what, kind, r, off, t, key, i):
        """Report where the shadow entry x is of another thread and not ordered before this access."""
        bad, first = x > self.thr[t][:, None], self.first[t][:, None]
        if r.space == "global" and x.any():
            far = (x != 0) & (((x & GID) < first) | ((x & GID) >= first + self.per))
            bad = bad & ~far | far & (not self.fenced or what == "write" and kind in "wc")
        if not bad.any():
            return
        bad &= ((x ^ key) & GID) != 0
        if self.vc is not None and bad.any():
            other = (x & GID) - first
            known = self.vc[self.blk[t][:, None], self.loc[t][:, None], np.clip(other, 0, self.per - 1)]
            bad &= (other < 0) | (other >= self.per) | ((x >> SHIFT) > known)
        verb = {"w": "writes", "a": "writes", "m": "changes", "c": "copies to"}.get(kind, "reads")
        def say(n):
            a = int(bad[n].argmax())
            return (f"{verb} {self.place(r, off[n] + a * self.granule)} after a{'n' * (what[0] == 'a')} {what} by "
                    f"{self.name(int(x[n, a]) & GID)} with nothing that orders the two")
        self.found(f"{r.space}-race", i, bad, t, say)

    def measure(self, r, off, nbytes, t, i):
        """Shared wavefronts (32 banks of 4 bytes; 8- and 16-byte accesses go by half and quarter warps) or global sectors, a warp."""
        old, span = self.out.traffic.get(i.line, (0, 0, 0)), max(nbytes // 4, 1)
        group = self.warp[t] * span + self.lane[t] * span // 32 if r.space == "shared" else self.warp[t]
        words = np.unique(np.stack([np.repeat(group, span), (off[:, None] // 4 + np.arange(span)).ravel()], 1), axis=0)
        if r.space == "shared":
            banks = np.bincount(words[:, 0] * 32 + words[:, 1] % 32, minlength=(group.max() + 1) * 32).reshape(-1, 32)
            cost, best = int(banks.max(1).sum()), len(np.unique(group))
        else:
            sectors = np.unique(np.stack([words[:, 0], words[:, 1] // 8], 1), axis=0)
            cost, best = len(sectors), int((-(-np.bincount(words[:, 0]) // 8)).sum())
        self.out.traffic[i.line] = (old[0] + len(np.unique(self.warp[t])), old[1] + cost, old[2] + best)

    def land(self, t, keep):
        """cp.async copies of threads t arrive: those of all but the newest `keep` committed groups, or, if keep is None, all."""
        mine = np.isin(self.tid, t)
        for c in self.copies:
            done = mine[c.t] & (keep is None or c.group < self.committed[c.t] - keep)
            if done.any():
                at = c.off[done][:, None] + np.arange(c.data.shape[1])
                g = at[:, ::self.granule] >> self.lg
                self.smem.data[at], self.smem.w[g], self.smem.pend[g] = c.data[done], self.key[c.t[done]][:, None], 0
                c.t, c.off, c.data, c.group = (v[~done] for v in (c.t, c.off, c.data, c.group))
        self.copies = [c for c in self.copies if len(c.t)]

    # -- operands --

    def reg(self, name):
        if (self.f.name, name) not in self.regs:
            dt = TYPES[self.f.regs[name]]
            new = np.zeros(self.n, dt) if dt.kind in "bV" else np.full(self.n, POISON[dt.itemsize], U[dt.itemsize])
            self.regs[self.f.name, name] = new
        return self.regs[self.f.name, name]

    def src(self, o, ty):
        """A function from a group to the operand's values."""
        dt = TYPES[ty]
        if o.kind == "not":
            p = self.src(o.val, "pred")
            return lambda idx: ~p(idx)
        if o.kind in ("imm", "fimm", "sym"):
            c = literal(Op("imm", self.symbol(o)) if o.kind == "sym" else o, ty)
            return lambda idx: c
        if o.kind == "sreg":
            if o.val in ("%clock", "%clock64", "%clock_hi", "%globaltimer"):
                return lambda idx: dt.type(self.out.steps)
            if o.val in ("%dynamic_smem_size", "%total_smem_size"):
                return lambda idx, c=dt.type(self.shared_bytes if "total" in o.val else self.dynamic): c
            if o.val not in self.special:
                raise SimError("unsupported", f"special register {o.val}")
            a = self.special[o.val].astype(U[dt.itemsize])
        else:
            a = self.reg(o.val)
        if a.dtype == dt:
            return lambda idx: a[idx]
        if a.dtype.kind in "bV" or dt.kind in "bV" or a.dtype.itemsize < dt.itemsize:
            raise SimError("unsupported", f".{ty} operand in the {8 * a.dtype.itemsize}-bit register {o.val}")
        if a.dtype.itemsize == dt.itemsize:
            return lambda idx: a[idx].view(dt)
        low = U[dt.itemsize]
        return lambda idx: a[idx].astype(low).view(dt)

    def dst(self, o, ty):
        """A function that stores values of the type for a group; wider registers are sign- or zero-extended."""
        if o.kind == "sink":
            return lambda idx, v: None
        a, dt = self.reg(o.val), TYPES[ty]
        wide, same = np.dtype(f"{'i' if dt.kind == 'i' else 'u'}{a.dtype.itemsize}" if a.dtype.kind == "u" else a.dtype), U.get(dt.itemsize)
        if a.dtype != dt and (a.dtype.kind in "bV" or dt.kind in "bV" or a.dtype.itemsize < dt.itemsize):
            raise SimError("unsupported", f".{ty} result in the {8 * a.dtype.itemsize}-bit register {o.val}")
        def put(idx, v):
            a[idx] = v
        def put_viewed(idx, v):
            a[idx] = v.view(a.dtype)
        def put_extended(idx, v):
            a[idx] = (v.astype(wide) if dt.kind != "f" else v.view(same)).astype(a.dtype)
        return put if a.dtype == dt else put_viewed if a.dtype.itemsize == dt.itemsize else put_extended

    def symbol(self, o):
        """The address of a variable in its own state space."""
        for key in ((self.f.name, o.val), o.val):
            if key in self.address:
                return self.address[key] + o.off
        if o.val in self.mod.buffers:
            return self.mod.buffers[o.val].base + o.off
        if self.f.entry and o.val in self.f.vars:
            return self.f.vars[o.val].offset + o.off
        raise SimError("unsupported", f"no address is known for '{o.val}'")

    def addr(self, o, space):
        """A function from a group to the generic addresses of a memory operand."""
        base, add = o.val, o.off + WINDOW.get(space, 0)
        if base.kind != "reg":
            add += self.symbol(base) if base.kind == "sym" else base.val
            return lambda idx: np.full(len(self.tid[idx]), add % (1 << 64), U64)
        a, c = self.reg(base.val), U64(add % (1 << 64))
        return lambda idx: a[idx].astype(U64, copy=False) + c

    def pvar(self, f, name):
        """A .param variable of a call: its bytes for each thread."""
        if (f.name, name) not in self.pvars:
            self.pvars[f.name, name] = np.zeros((self.n, -(-f.vars[name].size // 16) * 16), U8)
        return self.pvars[f.name, name]

    def values(self, o, ty):
        """Like src, but always with one value a thread."""
        get = self.src(o, ty)
        return lambda idx: np.broadcast_to(get(idx), len(self.tid[idx]))

    def elementwise(self, i, fn, out, ins):
        """The instruction that stores fn of its operands."""
        if len(i.args) <= len(ins):
            raise SimError("unsupported", "too few operands")
        d, s = self.dst(i.args[0], out), [self.src(a, t) for a, t in zip(i.args[1:], ins)]
        if len(s) == 1:
            return lambda idx, a=s[0]: d(idx, fn(a(idx)))
        if len(s) == 2:
            return lambda idx, a=s[0], b=s[1]: d(idx, fn(a(idx), b(idx)))
        return lambda idx: d(idx, fn(*(x(idx) for x in s)))


# ---- instructions --------------------------------------------------------------------------------------------------------------
# A builder takes the machine and an instruction and returns run(group). A control builder returns ctl(group, depth), which returns
# (pc, group) to go on with, or None.

OPS, CONTROL = {}, {}


def op(*names, table=OPS):
    return lambda build: [table.update(dict.fromkeys(names, build)), build][1]


def control(*names):
    return op(*names, table=CONTROL)


# opcode: (instruction -> function of arrays, result type, operand types); t is the last type of the opcode, d the first
ELEMENTWISE = {
    "not": (lambda i: np.invert if i.types[-1] != "pred" else np.logical_not, "t", "t"),
    "and": (lambda i: np.bitwise_and, "t", "t t"), "or": (lambda i: np.bitwise_or, "t", "t t"), "xor": (lambda i: np.bitwise_xor, "t", "t t"),
    "cnot": (lambda i: lambda x: (x == 0).astype(x.dtype), "t", "t"), "lop3": (lambda i: lookup3(i.args[4].val), "b32", "b32 b32 b32"),
    "shl": (lambda i: shift_left, "t", "t u32"), "shr": (lambda i: shift_right, "t", "t u32"),
    "shf": (lambda i: funnel("l" in i.mods, "wrap" in i.mods), "b32", "u32 u32 u32"), "rem": (lambda i: remainder, "t", "t t"),
    "popc": (lambda i: lambda x: np.bitwise_count(x).astype(U32), "u32", "t"), "clz": (lambda i: leading_zeros, "u32", "t"),
    "bfind": (lambda i: find_bit("shiftamt" in i.mods), "u32", "t"), "brev": (lambda i: bit_reverse, "t", "t"),
    "bfe": (lambda i: extract_bits, "t", "t u32 u32"), "bfi": (lambda i: insert_bits, "t", "t t u32 u32"),
    "prmt": (lambda i: permute_bytes, "b32", "b32 b32 b32"), "sad": (lambda i: lambda a, b, c: np.where(a > b, a - b, b - a) + c, "t", "t t t"),
    "selp": (lambda i: lambda a, b, p: np.where(p, a, b), "t", "t t pred"),
    "slct": (lambda i: lambda a, b, c: np.where(c >= 0, a, b), "d", "d d t"), "copysign": (lambda i: lambda a, b: np.copysign(b, a), "t", "t t"),
    "testp": (lambda i: {"finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan,
                         "normal": lambda x: np.isfinite(x) & (flush(x) != 0), "subnormal": lambda x: (x != 0) & (flush(x) == 0)}[i.mods[0]], "pred", "t"),
    "cvta": (lambda i: lambda x, w=U64(WINDOW.get(space_of(i), 0)): x - w if "to" in i.mods else x + w, "u64", "u64"),
    "isspacep": (lambda i: lambda x, w=WINDOW.get(space_of(i), GLOBAL0): np.minimum(x >> U64(44), U64(GLOBAL0 >> 44)) == w >> 44, "pred", "u64"),
    **{name: (lambda i: float_function(i.base, i.types[-1], i.mods), "t", "t") for name in APPROX}}


@op(*ELEMENTWISE)
def build_elementwise(M, i):
    if i.base == "prmt" and i.mods != ["b32"]:
        raise SimError("unsupported", "prmt modes")
    make, out, ins = ELEMENTWISE[i.base]
    types = {"t": i.types[-1] if i.types else "", "d": i.types[0] if i.types else ""}
    return M.elementwise(i, make(i), types.get(out, out), [types.get(x, x) for x in ins.split()])


@op("add", "sub", "mul", "div", "min", "max", "neg", "abs", "mad", "fma", "addc", "subc", "madc")
def build_arithmetic(M, i):
    ty, name, n = i.types[-1], i.base, len(i.args) - 1
    dt = TYPES[ty]
    if ty in FLOATS:
        if i.types[0] == "f32" and ty in ("f16", "bf16"):            # mixed: all but the last operand are of 16 bits
            full = float_function(name, "f32", i.mods)
            return M.elementwise(i, lambda *x: full(*(convert(v, ty, "f32") for v in x[:-1]), x[-1]), "f32", [ty] * (n - 1) + ["f32"])
        return M.elementwise(i, float_function({"mad": "fma"}.get(name, name), ty, i.mods), ty, [ty] * n)
    if "cc" in i.mods or name in ("addc", "subc", "madc"):
        return build_carry(M, i)
    if name in ("mul", "mad"):
        wide = f"{ty[0]}{2 * int(ty[1:])}" if "wide" in i.mods else ty
        mul = mul_hi if "hi" in i.mods else np.multiply if wide == ty else lambda a, b: a.astype(TYPES[wide]) * b.astype(TYPES[wide])
        fn = mul if name == "mul" else lambda a, b, c: mul(a, b) + c
        return M.elementwise(i, fn, wide, [ty, ty, wide][:n])
    fn = {"add": np.add, "sub": np.subtract, "div": quotient, "min": np.minimum, "max": np.maximum, "neg": np.negative, "abs": np.abs}[name]
    if ty in PACKED:
        fn = per_element(fn, PACKED[ty], ty)
    if "sat" in i.mods:
        fn = lambda a, b, inner=fn: np.clip(inner(a.astype(I64), b.astype(I64)), -(1 << 31), (1 << 31) - 1).astype(dt)
    if "relu" in i.mods:
        fn = lambda a, b, inner=fn: np.maximum(inner(a, b), dt.type(0))
    run = M.elementwise(i, fn, ty, [ty] * n)
    if name == "div":
        divisor = M.values(i.args[2], ty)
        def checked(idx):
            M.found("div-by-zero", i, divisor(idx) == 0, M.tid[idx], lambda n: "divides an integer by zero")
            run(idx)
        return checked
    return run


def build_carry(M, i):
    """add.cc, addc, sub.cc, subc, mad.cc, madc: extended precision through one carry flag a thread. As in hardware, the flag of a
    subtraction is the carry of a + ~b + 1, that is, no borrow (nvcc's 128-bit division mixes the two)."""
    ty = f"u{TYPES[i.types[-1]].itemsize * 8}"
    d, s = M.dst(i.args[0], ty), [M.values(a, ty if "hi" not in i.mods or k == 2 else i.types[-1]) for k, a in enumerate(i.args[1:])]
    minus = i.base.startswith("sub")
    def run(idx):
        *x, b = (g(idx) for g in s)
        a = x[0] if len(x) == 1 else mul_hi(*x).view(TYPES[ty]) if "hi" in i.mods else x[0] * x[1]
        c = (M.carry[idx] ^ minus).astype(a.dtype) if i.base.endswith("c") else np.zeros_like(a)
        r = a - b - c if minus else a + b + c
        if "cc" in i.mods:
            M.carry[idx] = (a > b) | ((a == b) & (c == 0)) if minus else (r < a) | ((r == a) & (c != 0))
        d(idx, r)
    return run


@op("cvt")
def build_cvt(M, i):
    dty, sty = i.types[:2]
    if dty in PACKED:                                            # two sources: the first goes to the upper half
        half = lambda x: np.atleast_1d(convert(x, sty, PACKED[dty], i.mods)).view(U16).astype(U32)
        return M.elementwise(i, lambda a, b: half(a) << U32(16) | half(b), dty, [sty, sty])
    return M.elementwise(i, lambda x: convert(x, sty, dty, i.mods), dty, [sty])


@op("setp", "set")
def build_set(M, i):
    ty = i.types[-1]
    part, dty = PACKED.get(ty, ty), "pred" if i.base == "setp" else i.types[0]
    fn, a, b = comparison(i.mods[0], part, i.mods), M.values(i.args[1], ty), M.values(i.args[2], ty)
    join = next(({"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[m] for m in i.mods[1:] if m in ("and", "or", "xor")), None)
    c = M.src(i.args[3], "pred") if join else None
    outs = [M.dst(o, dty) for o in (i.args[0].val if i.args[0].kind == "pair" else [i.args[0]])]
    if i.base == "set" and ty in PACKED:
        raise SimError("unsupported", "packed set")
    yes, no = (TYPES[dty].type(1) if TYPES[dty].kind in "fb" else literal(Op("imm", -1), dty)), TYPES[dty].type(0)
    def run(idx):
        x, y, z = a(idx), b(idx), c(idx) if join else None
        if ty in PACKED:                                         # two predicates: one an element
            x, y = (np.ascontiguousarray(v).view(TYPES[part]).reshape(-1, 2).T for v in (x, y))
        r = fn(x, y)
        for put, v in zip(outs, r if ty in PACKED else (r, ~r)):
            v = join(v, z) if join else v
            put(idx, v if dty == "pred" else np.where(v, yes, no))
    return run


@op("mov")
def build_mov(M, i):
    ty, (d, s) = i.types[-1], i.args
    if s.kind != "vec" and d.kind != "vec":
        return M.elementwise(i, lambda x: x, ty, [ty])
    whole, parts = TYPES[ty], items(d if d.kind == "vec" else s)
    sub = f"b{8 * whole.itemsize // len(parts)}"
    if s.kind == "vec":
        put, get = M.dst(d, ty), [M.values(x, sub) for x in parts]
        return lambda idx: put(idx, np.stack([g(idx) for g in get], 1).view(whole)[:, 0])
    get, puts = M.values(s, ty), [M.dst(x, sub) for x in parts]
    def unpack(idx):
        for p, v in zip(puts, np.array(get(idx)).view(TYPES[sub]).reshape(-1, len(puts)).T):
            p(idx, v)
    return unpack


def space_of(i):
    return i.one_of(*SPACES) or ""


@op("ld", "ldu")
def build_ld(M, i):
    space, ty, mem, outs = space_of(i), i.types[-1], i.args[1], items(i.args[0])
    dt, vec, puts = TYPES[ty], len(outs), [M.dst(o, ty) for o in outs]
    size = dt.itemsize
    if space == "param" and mem.val.kind == "sym":
        var = M.f.vars[mem.val.val]
        if not 0 <= mem.off <= var.size - size * vec:
            raise SimError("out-of-bounds", f"'{var.name}' has {var.size} bytes", i)
        if M.f.entry and any(var is p for p in M.f.params):
            values = M.params[var.offset + mem.off:][:size * vec].copy().view(dt)
            return lambda idx: [put(idx, v) for put, v in zip(puts, values)]
        a = M.pvar(M.f, mem.val.val)
        columns = [a[:, mem.off + k * size:][:, :size] for k in range(vec)]
        return lambda idx: [put(idx, c[idx].copy().view(dt)[:, 0]) for put, c in zip(puts, columns)]
    addr, last = M.addr(mem, space), [None]
    kind = "s" if i.one_of("volatile", "relaxed", "acquire", "mmio") else "n" if "nc" in i.mods else "r"
    def run(idx):
        v = M.load(i, addr(idx), size, vec, M.tid[idx], space, last, kind)
        if vec == 1:
            puts[0](idx, v.view(dt))
        else:
            for k, put in enumerate(puts):
                put(idx, v[:, k].view(dt))
    return run


@op("st")
def build_st(M, i):
    space, ty, mem, ins = space_of(i), i.types[-1], i.args[0], items(i.args[1])
    size, vec = TYPES[ty].itemsize, len(ins)
    get = [M.values(o, f"b{8 * size}") for o in ins]
    if space == "param":
        a = M.pvar(M.f, mem.val.val)
        def run_param(idx):
            for at, g in zip(range(mem.off, mem.off + size * vec, size), get):
                a[idx, at:at + size] = np.ascontiguousarray(g(idx)).view(U8).reshape(-1, size)
        return run_param
    addr, last, kind = M.addr(mem, space), [None], "a" if i.one_of("volatile", "relaxed", "release", "mmio") else "w"
    def run(idx):
        v = [g(idx) for g in get]
        M.save(i, addr(idx), v[0] if vec == 1 else np.stack(v, 1), size, vec, M.tid[idx], space, last, kind)
    return run


@op("atom", "red")
def build_atomic(M, i):
    space, ty, args = space_of(i), i.types[-1], list(i.args)
    dt, name = TYPES[ty], i.one_of("add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec")
    fn = {"exch": lambda o, b: b, "cas": lambda o, b, c: np.where(o == b, c, o),
          "inc": lambda o, b: np.where(o >= b, dt.type(0), o + dt.type(1)),
          "dec": lambda o, b: np.where((o == 0) | (o > b), b, o - dt.type(1))}.get(name)
    fn = fn or (float_function(name, ty, ["rn"]) if ty in FLOATS else
                {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[name])
    puts = [M.dst(o, ty) for o in items(args.pop(0))] if i.base == "atom" else []
    addr, last, ins = M.addr(args[0], space), [None], [[M.values(x, ty) for x in items(a)] for a in args[1:]]
    vec = len(ins[0])
    def run(idx):
        t, operands = M.tid[idx], [[g(idx) for g in v] for v in ins]
        old = np.zeros((len(t), vec), dt)
        for r, off, sel, _ in M.places(i, addr(idx), dt.itemsize * vec, t, space, last):
            mine = np.arange(len(t))[sel]
            M.track(r, off, dt.itemsize * vec, t[sel], i, "m")
            cells, at = r.rows(dt.itemsize, 1).view(dt), off // dt.itemsize
            order, every = np.argsort(at, kind="stable"), np.arange(len(at))     # threads on one cell take turns, in thread order
            turn = every - np.maximum.accumulate(np.where(np.r_[True, np.diff(at[order]) != 0], every, 0))
            for k in range(int(turn.max()) + 1):
                s = order[turn == k]
                for v in range(vec):
                    old[mine[s], v] = was = cells[at[s] + v]
                    cells[at[s] + v] = fn(was, *(x[v][mine[s]] for x in operands))
        for v, put in enumerate(puts):
            put(idx, old[:, v])
    return run


@op("cp")
def build_cp(M, i):
    if i.mods[0] != "async" or i.one_of("bulk", "mbarrier"):
        raise SimError("unsupported", "only cp.async{.ca,.cg}, commit_group, wait_group and wait_all")
    if "commit_group" in i.mods:
        return lambda idx: np.add.at(M.committed, M.tid[idx], 1)
    if "wait_group" in i.mods or "wait_all" in i.mods:
        return lambda idx: M.land(M.tid[idx], i.args[0].val if i.args else None)
    n = i.args[2].val
    if n not in ((16,) if "cg" in i.mods else (4, 8, 16)):
        raise SimError("unsupported", f"cp.async of {n} bytes")
    to, source, last, last2, count = M.addr(i.args[0], "shared"), M.addr(i.args[1], "global"), [None], [None], lambda idx: n
    if len(i.args) > 3 and (i.args[3].kind != "reg" or M.f.regs[i.args[3].val] != "pred"):
        count = M.src(i.args[3], "u32")
    elif len(i.args) > 3:                                        # ignore-src
        ignore = M.src(i.args[3], "pred")
        count = lambda idx: np.where(ignore(idx), 0, n)
    M.smem.shadow("pend", M.granule)
    def run(idx):
        t, a, d = M.tid[idx], to(idx), source(idx)
        c, data = np.broadcast_to(count(idx), len(t)).astype(I64), np.zeros((len(t), n), U8)
        if (c > n).any():
            raise SimError("out-of-bounds", f"src-size {c.max()} is more than {n}", i)
        if (bad := d & U64(n - 1) != 0).any():
            raise SimError("misaligned", f"{M.who(t[bad][0])}: the source {int(d[bad][0]):#x} is not a multiple of {n}", i)
        ((r, off, _, _),) = M.places(i, a, n, t, "shared", last)
        for size in np.unique(c[c > 0]).tolist():                # only the bytes really read must be there
            s, unit = c == size, size & -size
            for k in range(0, size, unit):
                data[s, k:k + unit] = M.load(i, d[s] + U64(k), unit, 1, t[s], "global", last2).reshape(-1, 1).view(U8)
        M.track(r, off, n, t, i, "c")
        r.pend[(off[:, None] + np.arange(0, n, M.granule)) >> M.lg] = t[:, None] + 1
        M.copies.append(SimpleNamespace(i=i, t=t, off=off, data=data, group=M.committed[t]))
    return run


@op("membar", "fence", "prefetch", "prefetchu", "nanosleep", "griddepcontrol", "applypriority", "discard", "pmevent", "setmaxnreg")
def build_nothing(M, i):
    return lambda idx: None


@op("activemask")
def build_activemask(M, i):
    d = M.dst(i.args[0], "b32")
    return lambda idx: d(idx, M.lane_bits(M.tid[idx])[M.warp[idx]].astype(U32))


# -- control --

@control("bra", "brx")
def build_bra(M, i):
    f = M.f
    if i.base == "bra":
        to = f.pcs[f.labels[i.args[0].val]]
        return lambda idx, depth: (to, idx)
    which, targets = M.values(i.args[0], "u32"), [f.pcs[f.labels[x]] for x in f.tables[i.args[1].val]]
    def ctl(idx, depth):
        k = which(idx)
        if k.max() >= len(targets):
            raise SimError("out-of-bounds", f"index {k.max()} of {len(targets)} targets", i)
        for v in np.unique(k):
            M.push(depth, targets[v], M.tid[idx][k == v])
    return ctl


@control("ret", "exit")
def build_ret(M, i):
    def ctl(idx, depth):
        if depth == 0 or i.base == "exit":
            return M.exit(idx)
        t = M.tid[idx]
        back = M.ret[depth - 1][t]
        for pc in np.unique(back).tolist():
            M.push(depth - 1, pc, t[back == pc])
    return ctl


@control("trap", "brkpt")
def build_trap(M, i):
    def ctl(idx, depth):
        raise SimError("trap", M.who(M.tid[idx][0]), i)
    return ctl


def callee(i):
    """The position and name of the function called."""
    return next(((k, a.val) for k, a in enumerate(i.args) if a.kind == "sym"), (0, None))


@control("call")
def build_call(M, i):
    (at, name), pc = callee(i), M.pc
    g, given = M.mod.funcs[name], items(i.args[at + 1]) if len(i.args) > at + 1 else []
    pairs = [(M.pvar(M.f, a.val), M.pvar(g, p.name)) for a, p in zip(given, g.params)]
    def ctl(idx, depth):
        for a, p in pairs:
            p[idx] = a[idx]
        M.ret.setdefault(depth, np.zeros(M.n, I64))[idx] = pc + 1
        M.push(depth + 1, M.entry[name], idx)
    return ctl


@op("call_end")
def build_call_end(M, i):
    at, name = callee(i)
    pairs = [(M.pvar(M.f, a.val), M.pvar(M.mod.funcs[name], p.name)) for a, p in zip(items(i.args[0]) if at else [], M.mod.funcs[name].rets)]
    def run(idx):
        for a, p in pairs:
            a[idx] = p[idx]
    return run


@control("bar", "barrier")
def build_bar(M, i):
    pc, args = M.pc, list(i.args)
    if "warp" in i.mods:
        def order(idx):
            t = M.tid[idx]
            for w in np.unique(M.warp[t]):
                M.order_threads(t[M.warp[t] == w])
        return M.collective(order, M.src(args[0], "u32"))
    if "cluster" in i.mods:
        raise SimError("unsupported", "cluster barriers")
    put = M.dst(args.pop(0), i.types[-1]) if "red" in i.mods else None
    value = M.src(args.pop(), "pred") if put else None
    name, count = M.values(args[0], "u32"), M.values(args[1], "u32") if len(args) > 1 else None
    if put:
        M.bar_end[pc] = lambda t, v: put(t, U32(v.sum()) if "popc" in i.mods else v.all() if "and" in i.mods else v.any())
    simple, aligned = not put and count is None and args[0].kind == "imm", i.base == "bar" or "aligned" in i.mods
    def ctl(idx, depth):
        t = M.tid[idx]
        here = np.bincount(M.blk[t], minlength=M.nb)
        if simple and ((here == M.alive_n) | (here == 0)).all():      # all threads of these blocks that still run are here
            if aligned:
                M.check_exited(i, here > 0)
            M.order_blocks(here > 0)
            return pc + 1, idx
        names, need = name(idx).astype(I64), count(idx).astype(I64) if count else np.full(len(t), -1)
        if names.max() > 15 or count and (need % 32 + (need == 0)).any():
            raise SimError("divergent-barrier", "barriers are 0 to 15 and thread counts positive multiples of 32", i)
        if "arrive" not in i.mods:
            M.bar_id[t], M.bar_pc[t], M.bar_depth[t], M.bar_need[t], M.bar_value[t] = names, pc, depth, need, value(idx) if value else False
        else:
            for b, k in {*zip(M.blk[t].tolist(), names.tolist())}:
                s = t[(M.blk[t] == b) & (names == k)]
                n, row = M.arrivals.get((b, k), (0, 0))
                M.arrivals[b, k] = n + 32 * len(np.unique(M.warp[s])), np.maximum(M.history(s), row)
                M.tick(s)
        M.release(np.unique(M.blk[t]))
        return (pc + 1, idx) if "arrive" in i.mods else None
    return ctl


@control("shfl")
def build_shfl(M, i):
    d, p = i.args[0].val if i.args[0].kind == "pair" else (i.args[0], Op("sink", "_"))
    put, put_p, mode = M.dst(d, "b32"), M.dst(p, "pred"), i.one_of("up", "down", "bfly", "idx")
    a, b, c, mask = (M.values(x, "u32") for x in (*i.args[1:4], i.args[4] if "sync" in i.mods else Op("imm", -1)))
    def fn(idx):
        t = M.tid[idx]
        lane, step, limit = M.lane[t], b(idx).astype(I64) & 31, c(idx).astype(I64)
        seg = limit >> 8 & 31
        j = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": lane & seg | step & ~seg}[mode]
        high = lane & seg | limit & 31 & ~seg
        good = j >= high if mode == "up" else j <= high
        j = np.where(good, j, lane)
        source, value, here = t - lane + j, np.zeros(M.n + 32, U32), np.zeros(M.n + 32, bool)
        value[t], here[t] = a(idx), True
        lost = ~here[source] | (M.warp[np.minimum(source, M.n - 1)] != M.warp[t]) | (mask(idx).astype(I64) >> j & 1 == 0)
        M.found("shfl-source", i, lost, t, lambda n: f"reads lane {j[n]}, which takes no part")
        put(idx, np.where(lost, U32(POISON[4]), value[source]))
        put_p(idx, good)
    return M.collective(fn, mask)


@control("vote", "match", "redux", "elect")
def build_vote(M, i):
    """Collectives whose result is a function of the values of the lanes named in the mask."""
    mask = M.values(i.args[-1] if "sync" in i.mods else Op("imm", -1), "u32")
    ty = "pred" if i.base == "vote" else i.types[-1] if i.types else "b32"
    value = M.values(i.args[1], ty) if i.base != "elect" else mask
    outs = i.args[0].val if i.args[0].kind == "pair" else (i.args[0],)
    put = M.dst(outs[0], {"vote": "b32" if "ballot" in i.mods else "pred", "redux": ty}.get(i.base, "b32"))
    put_p = M.dst(outs[1], "pred") if len(outs) > 1 else None
    name = i.one_of("add", "min", "max", "and", "or", "xor")
    fold = float_function(name, ty, i.mods) if ty in FLOATS else {
        "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}.get(name)
    def result(x, lane):
        """The values of the lanes that take part -> the result, and the predicate or None."""
        bits = 1 << lane
        if i.base == "vote":
            return U32((bits * x).sum()) if "ballot" in i.mods else {"all": x.all(), "any": x.any()}.get(i.mods[1], x.all() or not x.any()), None
        if i.base == "match":
            r, every = np.array([(bits * (x == y)).sum() for y in x], U32), (x == x[0]).all()
            return (np.where(every, r, U32(0)), every) if "all" in i.mods else (r, None)
        if i.base == "elect":
            return U32(lane.min()), lane == lane.min()
        r = x[:1]
        for k in range(1, len(x)):
            r = fold(r, x[k:k + 1])
        return r[0], None
    def fn(idx):
        t, v, m = M.tid[idx], value(idx), mask(idx).astype(I64)
        group = M.warp[t] << 32 | m
        for k in np.unique(group[m >> M.lane[t] & 1 == 1]):
            s = (group == k) & (m >> M.lane[t] & 1 == 1)
            r, flag = result(v[s], M.lane[t[s]])
            put(t[s], r)
            if put_p and flag is not None:
                put_p(t[s], flag)
    return M.collective(fn, mask)


def whole_warps(M, idx, i):
    t = M.tid[idx]
    if len(t) % 32 or (M.lane[t] != np.tile(np.arange(32), len(t) // 32)).any():
        raise SimError("divergent-barrier", f"{M.who(t[0])}: needs all 32 lanes of the warp", i)
    return t


@control("ldmatrix")
def build_ldmatrix(M, i):
    if "m8n8" not in i.mods or "b16" not in i.mods:
        raise SimError("unsupported", "only ldmatrix m8n8 b16")
    puts, addr, last = [M.dst(o, "b32") for o in items(i.args[0])], M.addr(i.args[1], "shared"), [None]
    k = len(puts)
    def fn(idx):
        t = whole_warps(M, idx, i).reshape(-1, 32)[:, :8 * k].ravel()
        rows = M.load(i, addr(idx).reshape(-1, 32)[:, :8 * k].ravel(), 8, 2, t, "shared", last)
        m = np.ascontiguousarray(rows).view(U16).reshape(-1, k, 8, 8)                     # warp, matrix, row, column
        for n, put in enumerate(puts):
            v = m[:, n].transpose(0, 2, 1) if "trans" in i.mods else m[:, n]
            put(idx, np.ascontiguousarray(v).view(U32).ravel())
    return M.collective(fn, lambda idx: U32(0xFFFFFFFF))


@control("mma")
def build_mma(M, i):
    """mma.sync of m16n8 (and m8n8k4 f64) shapes: a and b of 16-, 8-, 32- (tf32) or 64-bit elements."""
    m, n, k = map(int, next(filter(None, (re.fullmatch(r"m(\d+)n(\d+)k(\d+)", x) for x in i.mods))).groups())
    dty, aty, bty, cty = i.types[-4:]
    if n != 8 or i.one_of("sp", "xor", "satfinite"):
        raise SimError("unsupported", "this form of mma")
    g, q = np.divmod(np.arange(32), 4)
    def elements(ty, o, position):
        """(machine values of each register as elements, their (row, column) by lane)."""
        e = max(4 // TYPES[ty].itemsize, 1)
        get = [M.values(x, f"b{max(32, 8 * TYPES[ty].itemsize)}") for x in items(o)]
        cells = [position(r, h, e) for r in range(len(get)) for h in range(e)]
        def matrix(idx, rows, columns):
            out = np.zeros((len(M.tid[idx]) // 32, rows, columns))
            raw = np.stack([x for v in get for x in np.array(v(idx)).view(TYPES[ty]).reshape(-1, e).T])
            for (row, column), x in zip(cells, raw):
                x = x & U32(0xFFFFE000) if ty == "tf32" else x
                out[:, row, column] = (widen(x, ty) if ty in FLOATS or ty == "tf32" else x.astype(F64)).reshape(-1, 32)
            return out
        return matrix
    place_a = lambda r, h, e: (g + 8 * (r % (m // 8)), q * e + h + 4 * e * (r // (m // 8)))
    place_b = lambda r, h, e: (q * e + h + 4 * e * r, g)
    place_c = lambda r, h, e: (g + 8 * r, q * 2 + h) if e == 2 else (g + 8 * (r >> 1), q * 2 + (r & 1))
    a, b, c = (elements(*x) for x in ((aty, i.args[1], place_a), (bty, i.args[2], place_b), (cty, i.args[3], place_c)))
    e, puts = max(4 // TYPES[dty].itemsize, 1), [M.dst(o, f"b{max(32, 8 * TYPES[dty].itemsize)}") for o in items(i.args[0])]
    def fn(idx):
        whole_warps(M, idx, i)
        s = np.einsum("wmk,wkn->wmn", a(idx, m, k), b(idx, k, n)) + c(idx, m, n)
        d = narrow(s, 0.0, dty) if dty in FLOATS else s.astype(TYPES[dty])
        for r, put in enumerate(puts):
            v = np.stack([d[:, *place_c(r, h, e)].ravel() for h in range(e)], 1)
            put(idx, np.ascontiguousarray(v).view(U[max(4, TYPES[dty].itemsize)]).ravel())
    return M.collective(fn, lambda idx: U32(0xFFFFFFFF))


def main(argv):
    if len(argv) != 2:
        print("usage: python ptxsim.py FILE.ptx", file=sys.stderr)
        return 2
    with open(argv[1]) as file:
        m = parse(file.read())
    print(f"PTX {m.version}, target {m.target}")
    for v in m.vars.values():
        print(f"  .{v.space} {v.name}: {v.size or 'dynamic'} bytes, align {v.align}")
    for f in [*m.kernels.values(), *(f for f in m.funcs.values() if f.code is not None)]:
        print(f"\n{'kernel' if f.entry else 'function'} {f.name}({', '.join(f'.{p.type} {p.name}' + f'[{p.size}]' * p.array for p in f.params)})")
        print("  registers: " + ", ".join(f".{t} {n}" for t, n in f.declared))
        for v in f.vars.values():
            if v.space in ("shared", "local"):
                print(f"  .{v.space} {v.name}: {v.size} bytes, align {v.align}")
        print(f"  {len(f.code)} instructions: " + ", ".join(f"{n} {o}" for o, n in Counter(i.op for i in f.code).most_common()))
        for loop in m.loops(f.name):
            print(f"  {'innermost ' * loop.is_innermost}loop {loop.label}, depth {loop.depth}, {len(loop.instructions)} instructions: "
                  + ", ".join(f"{n} {o}" for o, n in loop.histogram.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
