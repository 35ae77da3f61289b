"""products: find the products of vectors of rows with vectors of columns that a pair needs.

    (x | y)                      p = (x | y)
    |x - y|^2                    p + |u|^2 + |v|^2,   p = (-2 u | v),  u = x - o,  v = y - o
    sum_k w_k (x_k - y_k)^2      the same with w u in place of u, and its weighted norms

A target that multiplies matrices computes p for a whole tile of pairs at once, so p becomes one of
the nest's products: a contraction, which the steps know by a variable.  A factor of the product
that does not change with every pair is multiplied into one of the vectors.  Gradients may need two:
those of f(x, y) * b with many columns b are multiples of (b | e), where e is a row's cotangent.

The sum of a distance cancels where points are near each other and far from the common origin o
(`origin`): its error is that of |u|^2, not that of the distance.  So it is for fast math only, and
for distances that go into exponentials, whose relative error is the absolute error of their
exponent.  It is made 0 where rounding gives it the other sign.  Components beyond a limit count in
the norms only, so that points infinitely far away stay so; see docs/fast-math.md.

It runs before `scalarize`, which would hide the vectors.  Targets say for how many components this
pays (`Target.product_dims`); where it does not, the nest stays as it is.  Vectors that are stored
in half precision are factors as they are, of products that cost less; and where a caller allows
TF32, vectors are rounded to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from redcomp.ir import (
    I_BIT,
    J_BIT,
    Hoisted,
    Nest,
    Type,
    Value,
    compare,
    constant,
    contraction,
    elementwise,
    factors_of,
    select,
    stored_of,
    topological,
    variable,
    with_roots,
)
from redcomp.passes.cse import cse
from redcomp.passes.origin import moved, with_samples
from redcomp.passes.registry import compiler_pass
from redcomp.passes.tf32 import rounded
from redcomp.passes.updates import fits, with_updates
from redcomp.records import record
from redcomp.target import Context

_PAIR = I_BIT | J_BIT
# Larger components of a distance are left out of the product: the sum of such products overflows.
_LIMITS = {"f32": 2.0**60, "f64": 2.0**508}
# Components of a row's results, and of other vectors that pairs may read.
_SHORT = 8
# What errs by no more than what it is made of; and what distances are for.
_SUMS = frozenset({"negate", "add", "subtract", "excess", "less_of", "greater_of"})
_EXPONENTIALS = frozenset({"exp", "exp2"})


@compiler_pass
def products(nest: Nest, context: Context) -> Nest:
    """Let the nest have the products that its pairs need, if the target wants them.

    Nests in which pairs need anything else of long vectors stay as they are, and so do those whose
    columns cannot be reduced in parts, or whose steps ask for the number of a column.
    """
    wanted = context.target.product_dims
    if not context.use_fast_math or context.height == "few" or not wanted:
        return nest
    return with_samples(_with_all(nest, context) or _with_products(nest, wanted, context))


def _with_all(nest: Nest, context: Context) -> Nest | None:
    """The nest with updates of all its wide states, and the products that its pairs need.

    None where it has no wide states, or where they cannot be updated so.
    """
    made = with_updates(cse(nest, context), context, _SHORT)
    if not made.updates or not _is_simple(made):
        return None
    # A product costs less than vectors of pairs once matrices are multiplied anyway.
    wanted = {
        (use, factors): (_SHORT + 1, most)
        for use in ("product", "distance")
        for (_, factors), (_, most) in context.target.product_dims.items()
    }
    found = _with_products(made, wanted, context)
    return None if _reads_vectors(found) or not fits(found, context.target.update_limits) else found


def _with_products(
    nest: Nest, wanted: Mapping[tuple[str, str], tuple[int, int]], context: Context
) -> Nest:
    """The nest with the products that its pairs need; itself if it still reads long vectors."""
    if not _is_simple(nest):
        return nest
    found: Nest | None = nest
    while found is not None and (candidate := next(_candidates(found, wanted, context), None)):
        found = _with_product(found, candidate)
    if found is None or found is nest or _reads_vectors(found):
        return nest
    if not _have_room(found, context.target.kept_dims) or any(map(_needs_many, found.products)):
        return nest
    return _with_contractions(found)


def _have_room(nest: Nest, kept: Mapping[str, int]) -> bool:
    """Whether there is only one product, or all together are no longer than what is kept of one."""
    made = [product.definition for product in nest.products]
    return len(made) == 1 or sum(d.args[0].dim / kept[factors_of(d)] for d in made) <= 1


def _is_simple(nest: Nest) -> bool:
    """Whether its states are few numbers that several threads can share the columns of."""
    kinds = {v["kind"] for v in nest.pair_variables}
    are_floats = all(s.variable.type.is_float for s in nest.states)
    are_few = sum(s.variable.dim for s in nest.states if s.step.op != "update") <= _SHORT
    has_numbers = not kinds.isdisjoint(("column", "j_index", "tile"))
    return nest.can_split and are_floats and are_few and not has_numbers


@record
class _Candidate:
    """A value of pairs that is a product, or the sum of the weighted squares of a difference."""

    value: Value
    a: Value
    b: Value
    is_distance: bool = False
    weight: Value | None = None
    allow_tf32: bool = False

    @property
    def stored(self) -> str:
        """The format in which both vectors are stored, if that is the product's.

        Points have more bits from a common origin than they are stored in.
        """
        stored = stored_of(self.a)
        return stored if stored == stored_of(self.b) and not self.is_distance else ""

    @property
    def factors(self) -> str:
        """The format of the product's vectors.

        Points are rounded before norms are taken, so that near ones stay near: which weights, that
        only one side has, would make impossible.
        """
        rounds = self.allow_tf32 and self.value.dtype == "f32" and self.weight is None
        return self.stored or ("tf32" if rounds else self.value.dtype)

    @property
    def takes_factors(self) -> bool:
        """Whether a vector may be a multiple: of what has few bits, that has more."""
        is_rounded_point = self.is_distance and self.factors == "tf32"
        return not self.stored and not is_rounded_point

    def rewritten(self, factor: Value | None, number: int) -> tuple[Hoisted, Value] | None:
        """The product of a number, and what stands for factor * value; None without an origin."""
        if not self.is_distance:
            rows, columns = (self.a, self.b) if self.a.dependence == I_BIT else (self.b, self.a)
            if factor is not None and factor.dependence == J_BIT:
                columns = columns * factor
            elif factor is not None:
                rows = rows * factor
            product = self._product(self._rounded(rows), self._rounded(columns), number)
            return product, product.variable
        sides = moved(self.a - self.b)
        if sides is None:
            return None
        u, v = map(self._rounded, sides if self.a.dependence == I_BIT else sides[::-1])
        product = self._product(self._scaled(_bounded(u), factor) * -2.0, _bounded(v), number)
        norms = [contraction(self._scaled(w, factor), w) for w in (u, v)]
        distance = product.variable + norms[0] + norms[1]
        # Weights may be negative, and the distance then too.
        return product, distance if self.weight is not None else _with_sign(distance, factor)

    def _scaled(self, vector: Value, factor: Value | None) -> Value:
        for scale in (self.weight, factor):
            vector = vector if scale is None else vector * scale
        return vector

    def _rounded(self, vector: Value) -> Value:
        return rounded(vector) if self.factors == "tf32" else vector

    def _product(self, rows: Value, columns: Value, number: int) -> Hoisted:
        made = variable(f"product{number}", "product", number, Type(rows.dtype))
        factors = self.factors if self.factors != rows.dtype else ""
        return Hoisted(made, contraction(rows, columns, factors))


def _with_sign(distance: Value, factor: Value | None) -> Value:
    """A multiple of a distance, 0 where rounding has given it the other sign; NaN stays."""
    is_negative = factor is not None and factor["value"] < 0
    return select(compare("ogt" if is_negative else "olt", distance, 0.0), 0.0, distance)


def _bounded(vector: Value) -> Value:
    """The vector with zeros in place of components that are too large, or no numbers."""
    is_small = compare("olt", elementwise("abs", vector), _LIMITS[vector.dtype])
    return select(is_small, vector, 0.0)


# -- finding ---------------------------------------------------------------------------------------


def _candidates(
    nest: Nest, wanted: Mapping[tuple[str, str], tuple[int, int]], context: Context
) -> Iterator[_Candidate]:
    """What could be the product, with as many components as the target wants."""
    for value in nest.pair_values:
        found = _candidate(value) if value.dependence == _PAIR else None
        if found is None:
            continue
        candidate = replace(found, allow_tf32=context.allow_tf32)
        use = "distance" if candidate.is_distance else "product"
        least, most = wanted.get((use, candidate.factors), (1, 0))
        if candidate.a.dim == candidate.b.dim and least <= candidate.a.dim <= most:
            yield candidate


def _candidate(value: Value) -> _Candidate | None:
    if value.op == "scalprod":
        a, b = value.args
        if a is b:
            return _of_difference(value, a)
        return _Candidate(value, a, b) if _are_sides(a, b) else None
    if value.op != "sum" or value.args[0].op != "multiply":
        return None
    a, b = value.args[0].args
    if _are_sides(a, b):
        return _Candidate(value, a, b)
    for weight, square in ((a, b), (b, a)):
        if square.op == "square" and not weight.dependence:
            return _of_difference(value, square.args[0], weight)
    return None


def _of_difference(value: Value, vector: Value, weight: Value | None = None) -> _Candidate | None:
    """The sum of the squares of a difference of rows and columns."""
    if vector.op != "subtract" or not _are_sides(*vector.args):
        return None
    a, b = vector.args
    return _Candidate(value, a, b, is_distance=True, weight=weight)


def _are_sides(a: Value, b: Value) -> bool:
    """Whether one is of the row and the other of the column."""
    return {a.dependence, b.dependence} == {I_BIT, J_BIT}


def _users(nest: Nest) -> Mapping[Value, list[Value]]:
    """The values of the pairs that use each of them; a step that is no operation uses itself."""
    users: dict[Value, list[Value]] = {value: [] for value in nest.pair_values}
    for value in nest.pair_values:
        for arg in dict.fromkeys(value.args):
            users[arg].append(value)
    for state in nest.states:
        users[state.step].append(state.step)
    return users


def _is_exponent(nest: Nest, value: Value, users: Mapping[Value, list[Value]]) -> bool:
    """Whether all that is made of a distance are exponentials, and guards, which change nothing."""
    reached, seen = [value], {value}
    while reached:
        part = reached.pop()
        for user in users[part]:
            if user.op in _EXPONENTIALS or user in nest.guards:
                continue
            if user in seen or not _is_linear(user, part):
                return False
            seen.add(user)
            reached.append(user)
    return True


def _is_linear(value: Value, part: Value) -> bool:
    """Whether it is a sum or an extremum, or a multiple by what does not change with each pair."""
    others = [arg for arg in value.args if arg is not part]
    if value.op == "divide" and value.args[1] is part:
        return False
    if value.op in ("multiply", "divide"):
        return len(others) == 1 and others[0].dependence != _PAIR
    return value.op in _SUMS


def _with_factors(
    candidate: _Candidate, users: Mapping[Value, list[Value]]
) -> tuple[Value, Value | None]:
    """The value with the factors that it alone is multiplied by, and their product.

    Those of products may change with rows or with columns, those of distances are constants.
    """
    value, factor = candidate.value, None
    while len(users[value]) == 1 and users[value] != [value]:
        (user,) = users[value]
        own = _factor_of(user, value)
        following = own if factor is None or own is None else _times(factor, own)
        if following is None or following.dependence == _PAIR:
            break
        if candidate.is_distance and not following.is_constant:  # its sign is not known
            break
        value, factor = user, following
    return value, factor


def _times(a: Value, b: Value) -> Value:
    if a.is_constant and b.is_constant:
        return constant(a["value"] * b["value"], a.dtype)
    return a * b


def _factor_of(user: Value, value: Value) -> Value | None:
    """The number that a value is multiplied by, if its user does nothing else."""
    if user.op == "negate":
        return constant(-1.0, value.dtype)
    others = [arg for arg in user.args if arg is not value]
    return others[0] if user.op == "multiply" and user.dim == len(others) == 1 else None


# -- replacing -------------------------------------------------------------------------------------


def _with_product(nest: Nest, candidate: _Candidate) -> Nest | None:
    """The nest with one more product; None where it cannot be."""
    users = _users(nest)
    if candidate.is_distance and not _is_exponent(nest, candidate.value, users):
        return None
    place, factor = candidate.value, None
    if candidate.takes_factors:
        place, factor = _with_factors(candidate, users)
    made = candidate.rewritten(factor, len(nest.products))
    if made is None:
        return None
    product, value = made
    found = _replaced(nest, {place: value})
    return replace(found, products=(*found.products, product))


def _replaced(nest: Nest, made: Mapping[Value, Value]) -> Nest:
    """The nest with some of its values replaced."""
    done: dict[Value, Value] = {}
    for value in nest.values:
        args = tuple([done[arg] for arg in value.args])
        done[value] = made[value] if value in made else value.with_args(args)
    return with_roots(nest, done)


def _with_contractions(nest: Nest) -> Nest:
    """The nest whose products of long vectors of one index are computed by several threads too."""
    return _replaced(
        nest,
        {
            value: contraction(value.args[0], value.args[1])
            for value in nest.pair_values
            if value.op == "scalprod"
            and value.dependence in (I_BIT, J_BIT)
            and value.args[0].dim == value.args[1].dim > _SHORT
        },
    )


def _needs_many(product: Hoisted) -> bool:
    """Whether the vector of a column is made from more than two: tiles would be too large."""
    _, vector = product.definition.args
    read = [v.dim for v in topological([vector]) if v.op == "variable" and v["kind"] == "j"]
    return sum(read) > 2 * vector.dim + _SHORT


def _reads_vectors(nest: Nest) -> bool:
    """Whether values of the pair are long vectors, or made from some, but for wide states."""
    wide = {v for s in nest.states if s.step.op == "update" for v in (s.variable, s.adjust, s.step)}
    return any(
        value.dependence == _PAIR and any(v.dim > _SHORT for v in (value, *value.args))
        for value in nest.pair_values
        if value not in wide
    )
