"""The dishes and kitchen things of the catalogue."""

from __future__ import annotations

from unifiedmllm_ros.tabletop.object_model import (
    DRINK,
    ObjectModel,
    custom,
    scanned,
    turbosquid,
)


def dishes() -> dict[str, ObjectModel]:
    """Mugs, bowls, plates and what else belongs to cooking and laying a table."""
    mug = ('cup', 'coffee mug')
    dish = ('eat from', 'put food in')
    flat = ('eat from', 'put food on')
    return {
        'grey_mug': custom('libero_mug', 'grey mug', 'mug', 'grey', mug, DRINK),
        'beige_mug': custom('libero_mug_yellow', 'beige mug', 'mug', 'beige', mug, DRINK),
        'porcelain_mug': turbosquid(
            'porcelain_mug', 'white porcelain mug', 'mug', 'white', mug, DRINK
        ),
        'patterned_mug': turbosquid(
            'white_porcelain_mug',
            'patterned yellow mug',
            'mug',
            'yellow',
            (*mug, 'patterned mug'),
            DRINK,
        ),
        'red_coffee_mug': turbosquid(
            'red_coffee_mug', 'red coffee mug', 'mug', 'red', mug, DRINK, held_out=True
        ),
        'white_yellow_mug': turbosquid(
            'white_yellow_mug', 'white and yellow mug', 'mug', 'white', mug, DRINK
        ),
        'white_bowl': scanned('white_bowl', 'white bowl', 'bowl', 'white', ('small bowl',), dish),
        'patterned_bowl': scanned(
            'akita_black_bowl', 'patterned bowl', 'bowl', 'grey', ('black and white bowl',), dish
        ),
        'red_bowl': scanned('red_akita_black_bowl', 'red bowl', 'bowl', 'red', (), dish),
        'yellow_bowl': scanned(
            'yellow_bowl', 'yellow bowl', 'bowl', 'yellow', (), dish, held_out=True
        ),
        'plate': scanned('plate', 'white plate', 'plate', 'white', ('dish',), flat),
        'yellow_plate': scanned(
            'yellow_plate', 'yellow plate', 'plate', 'yellow', ('dish',), flat, held_out=True
        ),
        'white_ramekin': scanned(
            'glazed_rim_porcelain_ramekin',
            'white ramekin',
            'ramekin',
            'white',
            ('baking dish', 'small dish'),
            dish,
        ),
        'red_ramekin': scanned(
            'red_ramekin', 'red ramekin', 'ramekin', 'red', ('baking dish', 'small dish'), dish
        ),
        'frying_pan': scanned(
            'chefmate_8_frypan',
            'frying pan',
            'pan',
            'black',
            ('frypan', 'skillet'),
            ('cook with', 'fry eggs in'),
        ),
        'place_setting': turbosquid(
            'dining_set_group',
            'place mat with cutlery',
            'place mat',
            'white',
            ('cutlery', 'table setting', 'placemat'),
            ('eat with',),
        ),
        'moka_pot': turbosquid(
            'moka_pot',
            'silver moka pot',
            'moka pot',
            'silver',
            ('coffee pot', 'coffee maker'),
            ('make coffee',),
        ),
        'yellow_moka_pot': turbosquid(
            'yellow_moka_pot',
            'yellow moka pot',
            'moka pot',
            'yellow',
            ('coffee pot', 'coffee maker'),
            ('make coffee',),
            held_out=True,
        ),
        'green_wine_bottle': turbosquid(
            'white_bottle',
            'green wine bottle',
            'bottle',
            'green',
            ('wine bottle', 'wine'),
            DRINK[:1],
            scale=1.4,
        ),
        'wine_bottle': turbosquid(
            'wine_bottle',
            'dark wine bottle',
            'bottle',
            'black',
            ('wine bottle', 'wine'),
            DRINK[:1],
            scale=1.4,
        ),
    }
