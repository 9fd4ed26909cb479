"""kubeedge.kit.dataclasses does what the standard library does, class by class; and that is what the product uses."""

from __future__ import annotations

import copy
import dataclasses as standard
import pickle
import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from kubeedge.kit import dataclasses as ours

SOURCE = Path(__file__).parents[3] / "src/kubeedge"
Item = TypeVar("Item")


def made(library: ModuleType) -> dict[str, type]:
    """The same classes by either library, of every kind that is used here."""
    dataclass, field = library.dataclass, standard.field

    @dataclass(frozen=True, slots=True)
    class Point:
        """Two places."""

        x: int
        y: int = 2
        KIND: ClassVar[str] = "point"

        @property
        def total(self) -> int:
            return self.x + self.y

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        name: str
        labels: dict[str, str] = field(default_factory=dict)
        secret: str = field(default="", repr=False)
        seen: bool = field(default=False, compare=False)

    @dataclass(slots=True)
    class Counter:
        count: int = 0
        parts: list[Any] = field(default_factory=list)

    @dataclass
    class Plain:
        size: int
        unit: str = field(default="MB", metadata={"doc": "of what"})

    @dataclass(eq=False, slots=True)
    class Identity:
        number: int

    @dataclass(frozen=True, slots=True, repr=False)
    class Hidden:
        token: str

        def __str__(self) -> str:
            return "hidden"

    @dataclass(frozen=True, slots=True)
    class Of(Generic[Item]):
        item: Item

    @dataclass(frozen=True, slots=True)
    class Cube(Point):
        z: int = 3
        y: int = 20

    @dataclass(frozen=True)
    class Open:
        a: int = 1

    return {name: value for name, value in locals().items() if isinstance(value, type)}


STANDARD, OURS = made(standard), made(ours)

#: class, arguments by place, by name
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Point", (1,), {}), ("Point", (1, 5), {}), ("Point", (), {"y": 3, "x": 4}), ("Point", (1,), {"y": 2}),
    ("Point", (), {}), ("Point", (1, 2, 3), {}), ("Point", (1,), {"x": 2}), ("Point", (1,), {"z": 2}), ("Point", (1, 2), {"y": 2}),
    ("Named", (), {"name": "a"}), ("Named", (), {"name": "a", "secret": "s", "seen": True}), ("Named", ("a",), {}), ("Named", (), {}),
    ("Named", (), {"name": "a", "labels": {"b": "c"}}), ("Counter", (), {}), ("Counter", (1, [2]), {}), ("Counter", (), {"parts": [1]}),
    ("Plain", (3,), {}), ("Plain", (3, "kB"), {}), ("Identity", (7,), {}), ("Hidden", ("t",), {}), ("Of", ((1, 2),), {}), ("Of", ([1],), {}),
    ("Cube", (1,), {}), ("Cube", (1, 2, 3), {}), ("Cube", (), {"x": 1, "z": 2}), ("Cube", (), {"z": 2}), ("Open", (), {}),
]  # fmt: skip


def outcome(call: Any) -> Any:
    """What it returns; the kind of what it raises."""
    try:
        return call()
    except Exception as exc:
        return type(exc)


def seen(value: Any) -> Any:
    """All that can be seen of an object from outside."""
    if isinstance(value, type):
        return value
    cls = type(value)
    shown = repr(value) if cls.__repr__ is not object.__repr__ else ""
    return (
        [getattr(value, field.name) for field in standard.fields(value)],
        re.sub(r"made\.<locals>\.", "", shown),
        str(value) if cls.__str__ is not object.__str__ else "",
        outcome(lambda: hash(value)) if cls.__hash__ is not object.__hash__ else "identity",
        outcome(lambda: standard.asdict(value)),
    )


@pytest.mark.parametrize(("name", "places", "names"), CALLS)
def test_an_object_is_made_as_by_the_standard_library(
    name: str, places: tuple[Any, ...], names: dict[str, Any]
) -> None:
    one, other = (outcome(lambda of=of: of[name](*places, **names)) for of in (STANDARD, OURS))
    assert seen(one) == seen(other)


@pytest.mark.parametrize("name", STANDARD)
def test_classes_look_alike(name: str) -> None:
    one, other = STANDARD[name], OURS[name]
    assert standard.is_dataclass(other)
    assert one.__match_args__ == other.__match_args__  # type: ignore[attr-defined]
    assert getattr(one, "__slots__", None) == getattr(other, "__slots__", None)
    assert (one.__qualname__, one.__module__) == (other.__qualname__, other.__module__)
    assert (one.__hash__ is None) == (other.__hash__ is None)
    for theirs, own in zip(standard.fields(one), standard.fields(other), strict=True):
        for what in ("name", "type", "default", "repr", "compare", "kw_only", "metadata"):
            assert getattr(theirs, what) == getattr(own, what), (theirs.name, what)
        assert (theirs.default_factory is standard.MISSING) == (own.default_factory is standard.MISSING)


def test_equality_is_by_class_and_by_the_fields_that_are_compared() -> None:
    for of in (STANDARD, OURS):
        point, named, cube = of["Point"], of["Named"], of["Cube"]
        assert point(1) == point(1, 2) != point(2, 2)
        assert point(1, 2) != cube(1, 2) and point(1) != (1, 2) and point(1) is not None
        assert named(name="a", seen=True) == named(name="a") != named(name="a", secret="x")
        assert len({point(1), point(1, 2), point(3)}) == 2
        nan = float("nan")
        assert point(nan) == point(nan)  # one object is equal to itself, as in a tuple
        one = of["Identity"](1)
        assert one == one and one != of["Identity"](1)


@pytest.mark.parametrize("name", ["Point", "Hidden", "Open", "Cube"])
def test_a_frozen_object_does_not_change(name: str) -> None:
    it = OURS[name](1)
    (first, *_) = standard.fields(it)
    before = seen(it)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field"):
        setattr(it, first.name, 5)
    with pytest.raises(FrozenInstanceError, match="cannot delete field"):
        delattr(it, first.name)
    with pytest.raises(FrozenInstanceError):
        it.other = 1
    assert seen(it) == before


def test_an_object_that_is_not_frozen_changes_and_has_its_own_lists() -> None:
    one, other = OURS["Counter"](), OURS["Counter"]()
    one.count += 1
    one.parts.append(2)
    assert (one.count, other.count, other.parts) == (1, 0, [])
    with pytest.raises(AttributeError):
        one.new = 1


def test_replace_copy_and_pickle() -> None:
    it = OURS["Point"](1, 2)
    assert standard.replace(it, x=5) == OURS["Point"](5, 2)
    assert copy.copy(it) == copy.deepcopy(it) == it
    with pytest.raises(TypeError):
        standard.replace(it, other=1)
    assert pickle.loads(pickle.dumps(Kept(1, ("a",)))) == Kept(1, ("a",))


@ours.dataclass(frozen=True, slots=True)
class Kept:
    number: int
    names: tuple[str, ...] = ()


def test_patterns_and_objects_that_are_part_of_themselves() -> None:
    match Kept(1, ("x",)):
        case Kept(number, (name,)):
            assert (number, name) == (1, "x")
        case _:
            raise AssertionError
    it = OURS["Counter"]()
    it.parts.append(it)
    assert repr(it).endswith("Counter(count=0, parts=[...])")


def test_a_class_of_the_standard_library_extends_one_of_ours() -> None:
    @standard.dataclass(frozen=True)
    class More(Kept):
        more: int = 0

    assert More(1, ("a",), 2) == More(number=1, names=("a",), more=2)
    assert [field.name for field in standard.fields(More)] == ["number", "names", "more"]
    with pytest.raises(TypeError):

        @standard.dataclass
        class _Thawed(Kept):
            pass


def test_one_list_for_all_objects_is_refused() -> None:
    for library in (standard, ours):
        with pytest.raises(ValueError, match="mutable default"):

            @library.dataclass
            class _Shared:
                parts: list[int] = []


def test_what_is_not_given_and_what_is_not_known_is_named() -> None:
    with pytest.raises(TypeError, match=r"Point.__init__\(\) missing a required argument: 'x'"):
        OURS["Point"]()
    with pytest.raises(TypeError, match="unexpected keyword argument 'zz'"):
        OURS["Point"](1, zz=1)
    with pytest.raises(TypeError, match="multiple values for argument 'x'"):
        OURS["Point"](1, x=1)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        OURS["Point"](1, 2, 3)


def test_the_agent_uses_it_everywhere() -> None:
    """A class of the standard library's is some 6 KB of methods; a few are no harm."""
    found = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(r"^\s*(from dataclasses import|import dataclasses)", path.read_text(), re.MULTILINE)
    ]
    assert len(found) <= 20, found
