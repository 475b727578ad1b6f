"""The household objects of the simulated table: what each looks like and what people call it.

Names were given after looking at renderings of every asset; the asset's own name is often wrong
about its colour. Plain assets also appear in other colours (`tint` multiplies the texture).
Held-out objects never appear in training scenes, but the words for them (kind, colour) do.
"""

from __future__ import annotations

from dataclasses import replace

from unifiedmllm_ros.tabletop.catalogue_dishes import dishes
from unifiedmllm_ros.tabletop.catalogue_food import food
from unifiedmllm_ros.tabletop.catalogue_household import household
from unifiedmllm_ros.tabletop.object_model import RGB, ObjectModel

__all__ = ['CATALOGUE', 'HELD_OUT', 'KNOWN', 'ObjectModel']

_TINTS: dict[str, RGB] = {
    'red': (0.85, 0.10, 0.10),
    'blue': (0.13, 0.25, 0.85),
    'green': (0.12, 0.62, 0.20),
    'yellow': (0.98, 0.83, 0.12),
    'orange': (1.0, 0.48, 0.06),
    'purple': (0.48, 0.18, 0.66),
    'pink': (1.0, 0.52, 0.68),
    'black': (0.07, 0.07, 0.08),
    'grey': (0.45, 0.45, 0.47),
}

_RECOLOURED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ('grey_mug', 'mug', ('red', 'blue', 'green', 'black', 'orange')),
    ('porcelain_mug', 'mug', ('pink', 'purple', 'blue')),
    ('white_bowl', 'bowl', ('blue', 'green', 'yellow', 'orange', 'pink', 'black')),
    ('plate', 'plate', ('blue', 'green', 'grey')),
    ('white_ramekin', 'ramekin', ('blue', 'yellow')),
    ('moka_pot', 'moka_pot', ('red', 'blue')),
    ('white_basket', 'basket', ('blue', 'green')),
    ('red_book', 'book', ('blue', 'green', 'purple')),
    ('red_cylinder', 'cylinder', ('blue', 'green', 'yellow')),
)


def _recoloured(catalogue: dict[str, ObjectModel]) -> dict[str, ObjectModel]:
    made: dict[str, ObjectModel] = {}
    for base, stem, colours in _RECOLOURED:
        model = catalogue[base]
        for colour in colours:
            key, name = f'{colour}_{stem}', f'{colour} {model.kind}'
            if key in catalogue or key in made:
                word = {'mug': 'tall', 'bowl': 'small'}[model.kind]
                key, name = f'{word}_{key}', f'{word} {name}'
            made[key] = replace(
                model,
                name=name,
                colour=colour,
                synonyms=tuple(word for word in model.synonyms if 'red ' not in word),
                tint=_TINTS[colour],
                held_out=False,
            )
    return made


def _catalogue() -> dict[str, ObjectModel]:
    made = {**food(), **dishes(), **household()}
    return {**made, **_recoloured(made)}


CATALOGUE: dict[str, ObjectModel] = _catalogue()

KNOWN: tuple[str, ...] = tuple(k for k, m in CATALOGUE.items() if not m.held_out)
HELD_OUT: tuple[str, ...] = tuple(k for k, m in CATALOGUE.items() if m.held_out)
