"""The tables of docs/tabletop.md, from the catalogue and the texture lists."""

from __future__ import annotations

from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.object_model import ObjectModel
from unifiedmllm_ros.tabletop.textures import TEST, TRAIN, TextureSet


def objects_table() -> str:
    """All objects by kind."""
    lines = ['| name | kind | colour | also called | good to | key |', '|---|---|---|---|---|---|']
    ordered = sorted(CATALOGUE.items(), key=lambda item: (item[1].kind, item[1].name))
    lines += [_object_row(key, thing) for key, thing in ordered]
    return '\n'.join(lines)


def textures_table() -> str:
    """The textures of each surface, by split."""
    lines = ['| split | table | wall | floor |', '|---|---|---|---|']
    lines += [_texture_row(split, chosen) for split, chosen in (('train', TRAIN), ('test', TEST))]
    return '\n'.join(lines)


def _object_row(key: str, thing: ObjectModel) -> str:
    name = f'**{thing.name}** (held out)' if thing.held_out else thing.name
    other, uses = ', '.join(thing.synonyms), ', '.join(thing.uses)
    return f'| {name} | {thing.kind} | {thing.colour} | {other} | {uses} | `{key}` |'


def _texture_row(split: str, chosen: TextureSet) -> str:
    surfaces = (chosen.table, chosen.wall, chosen.floor)
    return f'| {split} | {" | ".join(", ".join(names) for names in surfaces)} |'
