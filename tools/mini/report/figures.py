"""Lines of the report on Ovi mini, and what its sections have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from .scores import Clip, examined
from .studio import Order, Studio

FIRST_SCENE = 7_000_000


@dataclass(frozen=True)
class Figure:
    """One line of a table: what was measured, its value, the bound it has to meet ("" for none), and the control's."""

    what: str
    value: str
    bound: str = ""
    holds: bool | None = None
    control: str = ""

    @property
    def row(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.holds]
        return f"| {self.what} | {self.value} | {self.bound} | {verdict} | {self.control} |"


Section = Callable[[Studio, int], Iterable[Figure]]


def share(what: str, value: float, least: float, control: str = "") -> Figure:
    return Figure(what, f"{value:.0%}", f"at least {least:.0%}", value >= least, control)


def contrasted(what: str, value: float, least: float, name: str, control: float) -> Figure:
    """A share that holds only where the control, told as ``name``, misses the bound."""
    return Figure(what, f"{value:.0%}", f"at least {least:.0%}", value >= least > control, f"{name} {control:.0%}")


def made(studio: Studio, orders: Sequence[Order], name: str) -> list[Clip]:
    return [examined(order, studio.make(order)) for order in tqdm(orders, desc=name, leave=False)]


def orders(count: int, **settings) -> list[Order]:
    """Held-out scenes one after the other, each with noise of its own."""
    return [Order(FIRST_SCENE + i, noise=i, **settings) for i in range(count)]


def of_kinds(kinds: Sequence[str], count: int, **settings) -> list[Order]:
    """The same, of the named kinds in turn."""
    return [Order(FIRST_SCENE + i, kind=kinds[i % len(kinds)], noise=i, **settings) for i in range(count)]
