"""The household objects of the simulated table: what each looks like and what people call it.

Names were given after looking at renderings of every asset; the asset's own name is often wrong
about its colour. Plain assets also appear in other colours (`tint` multiplies the texture).
Held-out objects never appear in training scenes, but the words for them (kind, colour) do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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

_BOX = ('turned', 'up')
_STANDING = ('turned',)


def _hope(name: str, *rest: object, **more: object) -> ObjectModel:
    return ObjectModel(f'stable_hope_objects/{name}', *rest, **more)  # type: ignore[arg-type]


def _scanned(name: str, *rest: object, **more: object) -> ObjectModel:
    return ObjectModel(f'stable_scanned_objects/{name}', *rest, **more)  # type: ignore[arg-type]


def _turbo(name: str, *rest: object, **more: object) -> ObjectModel:
    return ObjectModel(f'turbosquid_objects/{name}', *rest, **more)  # type: ignore[arg-type]


def _custom(name: str, *rest: object, **more: object) -> ObjectModel:
    return ObjectModel(f'custom_objects/{name}', *rest, **more)  # type: ignore[arg-type]


def _food() -> dict[str, ObjectModel]:
    soup = ('soup can', 'tin of soup', 'can of soup')
    sauce = ('sauce can', 'can of tomato sauce', 'tin of tomatoes')
    ketchup = ('ketchup', 'sauce bottle')
    dressing = ('salad dressing', 'dressing')
    return {
        'alphabet_soup': _hope(
            'alphabet_soup', 'alphabet soup can', 'can', 'blue', soup, ('eat',), _STANDING
        ),
        'red_alphabet_soup': _hope(
            'red_alphabet_soup', 'red alphabet soup can', 'can', 'red', soup, ('eat',), _STANDING
        ),
        'tomato_sauce': _hope(
            'tomato_sauce', 'tomato sauce can', 'can', 'red', sauce, FLAVOUR, _STANDING
        ),
        'blue_tomato_sauce': _hope(
            'yellow_tomato_sauce',
            'blue tomato sauce can',
            'can',
            'blue',
            sauce,
            FLAVOUR,
            _STANDING,
            held_out=True,
        ),
        'bbq_sauce': _hope(
            'bbq_sauce', 'barbecue sauce bottle', 'bottle', 'brown', ('bbq sauce',), FLAVOUR
        ),
        'green_bbq_sauce': _hope(
            'green_bbq_sauce',
            'green barbecue sauce bottle',
            'bottle',
            'green',
            ('bbq sauce',),
            FLAVOUR,
        ),
        'ketchup': _hope(
            'ketchup', 'ketchup bottle', 'bottle', 'orange', ketchup, FLAVOUR, _STANDING
        ),
        'green_ketchup': _hope(
            'green_ketchup',
            'green ketchup bottle',
            'bottle',
            'green',
            ketchup,
            FLAVOUR,
            _STANDING,
            held_out=True,
        ),
        'blue_bottle': _hope(
            'blue_ketchup',
            'blue squeeze bottle',
            'bottle',
            'blue',
            ('squeeze bottle',),
            (),
            _STANDING,
        ),
        'salad_dressing': _hope(
            'salad_dressing',
            'salad dressing bottle with a green cap',
            'bottle',
            'white',
            dressing,
            FLAVOUR,
            _STANDING,
        ),
        'red_salad_dressing': _hope(
            'red_salad_dressing',
            'salad dressing bottle with a red cap',
            'bottle',
            'white',
            dressing,
            FLAVOUR,
            _STANDING,
        ),
        'milk': _hope('milk', 'red milk carton', 'carton', 'red', ('milk',), DRINK[:1], _STANDING),
        'yellow_milk': _hope(
            'yellow_milk',
            'yellow milk carton',
            'carton',
            'yellow',
            ('milk',),
            DRINK[:1],
            _STANDING,
            held_out=True,
        ),
        'orange_juice': _hope(
            'orange_juice',
            'orange juice carton',
            'carton',
            'yellow',
            ('orange juice', 'juice', 'juice carton'),
            DRINK[:1],
            _STANDING,
        ),
        'red_orange_juice': _hope(
            'red_orange_juice',
            'red juice carton',
            'carton',
            'red',
            ('juice', 'juice carton'),
            DRINK[:1],
            _STANDING,
        ),
        'butter': _hope('butter', 'butter box', 'box', 'orange', ('butter',), FLAVOUR[:1], _BOX),
        'green_butter': _hope(
            'green_butter',
            'green butter box',
            'box',
            'green',
            ('butter',),
            FLAVOUR[:1],
            _BOX,
            held_out=True,
        ),
        'chocolate_pudding': _hope(
            'chocolate_pudding',
            'chocolate pudding box',
            'box',
            'brown',
            ('pudding', 'chocolate pudding', 'pudding box'),
            SNACK,
            _BOX,
        ),
        'green_chocolate_pudding': _hope(
            'green_chocolate_pudding',
            'green pudding box',
            'box',
            'green',
            ('pudding', 'pudding box'),
            SNACK,
            _BOX,
        ),
        'cookies': _hope(
            'cookies',
            'red cookie box',
            'box',
            'red',
            ('cookies', 'biscuits', 'cookie box'),
            SNACK,
            _BOX,
        ),
        'yellow_cookies': _hope(
            'yellow_cookies',
            'yellow cookie box',
            'box',
            'yellow',
            ('cookies', 'biscuits', 'cookie box'),
            SNACK,
            _BOX,
        ),
        'cream_cheese': _hope(
            'cream_cheese',
            'blue cream cheese box',
            'box',
            'blue',
            ('cream cheese', 'cheese'),
            FLAVOUR[:1],
            _BOX,
        ),
        'red_cream_cheese': _hope(
            'red_cream_cheese',
            'red cream cheese box',
            'box',
            'red',
            ('cream cheese', 'cheese'),
            FLAVOUR[:1],
            _BOX,
        ),
        'macaroni_and_cheese': _hope(
            'macaroni_and_cheese',
            'macaroni and cheese box',
            'box',
            'orange',
            ('macaroni', 'mac and cheese', 'pasta box'),
            ('eat',),
            _BOX,
        ),
        'popcorn': _hope('popcorn', 'popcorn box', 'box', 'blue', ('popcorn',), SNACK, _BOX),
    }


def _dishes() -> dict[str, ObjectModel]:
    mug = ('cup', 'coffee mug')
    dish = ('eat from', 'put food in')
    flat = ('eat from', 'put food on')
    made = {
        'grey_mug': _custom('libero_mug', 'grey mug', 'mug', 'grey', mug, DRINK),
        'beige_mug': _custom('libero_mug_yellow', 'beige mug', 'mug', 'beige', mug, DRINK),
        'porcelain_mug': _turbo('porcelain_mug', 'white porcelain mug', 'mug', 'white', mug, DRINK),
        'patterned_mug': _turbo(
            'white_porcelain_mug',
            'patterned yellow mug',
            'mug',
            'yellow',
            (*mug, 'patterned mug'),
            DRINK,
        ),
        'red_coffee_mug': _turbo(
            'red_coffee_mug', 'red coffee mug', 'mug', 'red', mug, DRINK, held_out=True
        ),
        'white_yellow_mug': _turbo(
            'white_yellow_mug', 'white and yellow mug', 'mug', 'white', mug, DRINK
        ),
        'white_bowl': _scanned('white_bowl', 'white bowl', 'bowl', 'white', ('small bowl',), dish),
        'patterned_bowl': _scanned(
            'akita_black_bowl', 'patterned bowl', 'bowl', 'grey', ('black and white bowl',), dish
        ),
        'red_bowl': _scanned('red_akita_black_bowl', 'red bowl', 'bowl', 'red', (), dish),
        'yellow_bowl': _scanned(
            'yellow_bowl', 'yellow bowl', 'bowl', 'yellow', (), dish, held_out=True
        ),
        'plate': _scanned('plate', 'white plate', 'plate', 'white', ('dish',), flat),
        'yellow_plate': _scanned(
            'yellow_plate', 'yellow plate', 'plate', 'yellow', ('dish',), flat, held_out=True
        ),
        'white_ramekin': _scanned(
            'glazed_rim_porcelain_ramekin',
            'white ramekin',
            'ramekin',
            'white',
            ('baking dish', 'small dish'),
            dish,
        ),
        'red_ramekin': _scanned(
            'red_ramekin', 'red ramekin', 'ramekin', 'red', ('baking dish', 'small dish'), dish
        ),
        'frying_pan': _scanned(
            'chefmate_8_frypan',
            'frying pan',
            'pan',
            'black',
            ('frypan', 'skillet'),
            ('cook with', 'fry eggs in'),
        ),
        'place_setting': _turbo(
            'dining_set_group',
            'place mat with cutlery',
            'place mat',
            'white',
            ('cutlery', 'table setting', 'placemat'),
            ('eat with',),
        ),
        'moka_pot': _turbo(
            'moka_pot',
            'silver moka pot',
            'moka pot',
            'silver',
            ('coffee pot', 'coffee maker'),
            ('make coffee',),
        ),
        'yellow_moka_pot': _turbo(
            'yellow_moka_pot',
            'yellow moka pot',
            'moka pot',
            'yellow',
            ('coffee pot', 'coffee maker'),
            ('make coffee',),
            held_out=True,
        ),
        'green_wine_bottle': _turbo(
            'white_bottle',
            'green wine bottle',
            'bottle',
            'green',
            ('wine bottle', 'wine'),
            DRINK[:1],
            scale=1.4,
        ),
        'wine_bottle': _turbo(
            'wine_bottle',
            'dark wine bottle',
            'bottle',
            'black',
            ('wine bottle', 'wine'),
            DRINK[:1],
            scale=1.4,
        ),
    }
    return made


def _household() -> dict[str, ObjectModel]:
    book = ('read',)
    rests = ('up', 'side')
    return {
        'black_book': _turbo('black_book', 'black book', 'book', 'black', (), book, rests),
        'beige_book': _turbo('yellow_book', 'beige book', 'book', 'beige', (), book, rests),
        'red_book': _turbo(
            'red_yellow_book', 'red book', 'book', 'red', (), book, rests, held_out=True
        ),
        'white_basket': _scanned(
            'basket', 'white basket', 'basket', 'white', ('wicker basket',), STORE
        ),
        'red_basket': _scanned(
            'red_basket', 'red basket', 'basket', 'red', ('wicker basket',), STORE
        ),
        'wooden_tray': _turbo(
            'wooden_tray', 'wooden tray', 'tray', 'brown', ('wooden crate', 'crate'), STORE
        ),
        'dish_drainer': _turbo(
            'bowl_drainer',
            'white dish drainer',
            'dish drainer',
            'white',
            ('drainer', 'dish rack'),
            ('dry dishes on',),
            scale=0.8,
        ),
        'peg_rack': _scanned(
            'simple_rack',
            'white peg rack',
            'rack',
            'white',
            ('plate rack',),
            ('dry dishes on',),
            scale=0.7,
        ),
        'wine_rack': _turbo(
            'wine_rack', 'light wooden wine rack', 'wine rack', 'beige', (), STORE[:1], scale=0.6
        ),
        'brown_wine_rack': _turbo(
            'brown_rack', 'brown wine rack', 'wine rack', 'brown', (), STORE[:1], scale=0.6
        ),
        'desk_caddy': _turbo(
            'desk_caddy',
            'brown desk caddy',
            'desk caddy',
            'brown',
            ('desk organiser', 'caddy', 'organizer'),
            STORE,
            scale=0.6,
        ),
        'yellow_desk_caddy': _turbo(
            'yellow_desk_caddy',
            'yellow desk caddy',
            'desk caddy',
            'yellow',
            ('desk organiser', 'caddy', 'organizer'),
            STORE,
            scale=0.6,
        ),
        'red_cylinder': _hope('red_sticker', 'red cylinder', 'cylinder', 'red', ('red block',)),
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
    made = {**_food(), **_dishes(), **_household()}
    return {**made, **_recoloured(made)}


CATALOGUE: dict[str, ObjectModel] = _catalogue()

KNOWN: tuple[str, ...] = tuple(k for k, m in CATALOGUE.items() if not m.held_out)
HELD_OUT: tuple[str, ...] = tuple(k for k, m in CATALOGUE.items() if m.held_out)
