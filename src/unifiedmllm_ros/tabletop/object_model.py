"""What is known of one object model, and the short forms in which the catalogue is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RGB = tuple[float, float, float]

DRINK = ('drink', 'drink from')
SNACK = ('eat', 'snack on')
FLAVOUR = ('eat', 'season food', 'put on food')
STORE = ('store things in', 'put things in')


@dataclass(frozen=True)
class ObjectModel:
    """One kind of thing on the table.

    `asset` is the folder below the asset root, `name` a full unambiguous name, `kind` and `colour`
    its noun and main colour, `synonyms` other names people use, `uses` what it is good for
    (verb phrases that complete "something I can ..."). `rests` are poses it may stand in
    (`up`: as modelled, `turned`: a quarter turn about x, `side`: a quarter turn about y).
    `scale` shrinks oversized assets. `tint` recolours; `plain` drops the texture first.
    """

    asset: str
    name: str
    kind: str
    colour: str
    synonyms: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    rests: tuple[str, ...] = ('up',)
    scale: float = 1.0
    tint: RGB | None = None
    held_out: bool = False


BOX_RESTS = ('turned', 'up')
STANDING = ('turned',)


def hope(folder: str, *told: Any, **more: Any) -> ObjectModel:
    """A food package (HOPE objects)."""
    return ObjectModel(f'stable_hope_objects/{folder}', *told, **more)


def scanned(folder: str, *told: Any, **more: Any) -> ObjectModel:
    """A scanned household object."""
    return ObjectModel(f'stable_scanned_objects/{folder}', *told, **more)


def turbosquid(folder: str, *told: Any, **more: Any) -> ObjectModel:
    """A modelled household object."""
    return ObjectModel(f'turbosquid_objects/{folder}', *told, **more)


def custom(folder: str, *told: Any, **more: Any) -> ObjectModel:
    """An object made for the benchmark."""
    return ObjectModel(f'custom_objects/{folder}', *told, **more)
