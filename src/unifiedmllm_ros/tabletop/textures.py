"""Table, wall and floor textures, split by a fixed list: no test texture is ever in training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextureSet:
    """Texture names (files `<name>.png` in the asset folder `textures`) for each surface."""

    table: tuple[str, ...]
    wall: tuple[str, ...]
    floor: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the set, each once, in a fixed order."""
        return tuple(dict.fromkeys(self.table + self.wall + self.floor))


# Near-identical pictures (three light plasters, three plank floors) stay on the same side.
TRAIN = TextureSet(
    table=(
        'martin_novak_wood_table',
        'seamless_wood_planks_floor',
        'dapper_gray_floor',
        'dark_floor_texture',
        'white_marble_floor',
        'ceramic',
        'brown_ceramic_tile',
        'canvas_sky_blue',
        'dark_green_plaster_wall',
        'light_floor',
        'gray_floor',
        'cream-plaster',
    ),
    wall=(
        'cream-plaster',
        'light-gray-plaster',
        'light_grey_plaster',
        'dark_blue_wall',
        'dark_gray_plaster',
        'gray_plaster',
        'stucco_wall',
        'yellow_linen_wall_texture',
        'light_blue_wall',
        'capriccio_sky',
        'dark_green_plaster_wall',
        'brown_ceramic_tile',
    ),
    floor=(
        'dapper_gray_floor',
        'dark_floor_texture',
        'brown_ceramic_tile',
        'gray_floor',
        'light_floor',
        'seamless_wood_planks_floor',
    ),
)

TEST = TextureSet(
    table=(
        'table_light_wood',
        'rustic_floor',
        'marble_floor',
        'kona_gotham',
        'gray_ceramic_tile',
        'grigia_caldera_porcelain_floor',
    ),
    wall=('gray_wall', 'white_wall', 'meeka-beige-plaster', 'gray_ceramic_tile'),
    floor=('rustic_floor', 'marble_floor', 'grigia_caldera_porcelain_floor', 'gray_ceramic_tile'),
)


def textures_of(split: str) -> TextureSet:
    """The texture set of `split`, which is `train` or `test`."""
    return {'train': TRAIN, 'test': TEST}[split]
