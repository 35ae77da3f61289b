"""Records are what frozen dataclasses with slots are: needs no backend."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from redcomp.records import record


@record
class Ours:
    """A class with all that records in the package have."""

    shared: ClassVar[int] = 7
    first: int
    second: str = "b"
    third: list[int] = field(default_factory=list, compare=False)
    hidden: int = field(default=3, repr=False, hash=False)
    derived: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", 2 * self.first)


@dataclass(frozen=True, slots=True)
class Theirs:
    """The same, made by Python."""

    shared: ClassVar[int] = 7
    first: int
    second: str = "b"
    third: list[int] = field(default_factory=list, compare=False)
    hidden: int = field(default=3, repr=False, hash=False)
    derived: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", 2 * self.first)


@record
class Longer(Ours):
    """One more field, and a method that is kept."""

    last: float = 0.5

    def __repr__(self) -> str:
        return f"longer {self.last}"


CASES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1,), {"second": "c", "hidden": 4}),
    ((2, "b", [1]), {}),
]


@pytest.mark.parametrize(("args", "named"), CASES)
def test_values_texts_and_hashes(args: Any, named: Any) -> None:
    ours, theirs = Ours(*args, **named), Theirs(*args, **named)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert hash(ours) == hash(theirs)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert Ours.__match_args__ == Theirs.__match_args__
    for other, named_otherwise in CASES:
        is_equal = Theirs(*other, **named_otherwise) == theirs
        assert (Ours(*other, **named_otherwise) == ours) is is_equal
    assert ours != theirs


def test_nothing_can_be_set() -> None:
    made: Any = Ours(1)
    for name in ("first", "another"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"'{name}'"):
            setattr(made, name, 2)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"'{name}'"):
            delattr(made, name)
    assert not hasattr(made, "__dict__")
    assert made.third is not Ours(1).third


def test_copies_and_files() -> None:
    made = Ours(2, "c", [1])
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert (again.third, again.derived) == ([1], 4)
    assert dataclasses.replace(made, first=5).derived == 10


def test_a_record_of_a_record() -> None:
    made = Longer(1, last=2.0)
    assert (made.first, made.second, made.last) == (1, "b", 2.0)
    assert repr(made) == "longer 2.0"
    assert made != Longer(1, last=3.0)


@pytest.mark.parametrize(
    ("args", "named"), [((), {}), ((1,), {"fourth": 2}), ((1, 2, 3, 4, 5), {})]
)
def test_wrong_arguments(args: Any, named: Any) -> None:
    with pytest.raises(TypeError, match="__init__"):
        Ours(*args, **named)
