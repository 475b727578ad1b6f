"""The packaged food of the catalogue."""

from __future__ import annotations

from unifiedmllm_ros.tabletop.object_model import (
    BOX_RESTS,
    DRINK,
    FLAVOUR,
    SNACK,
    STANDING,
    ObjectModel,
    hope,
)


def food() -> dict[str, ObjectModel]:
    """Cans, bottles, cartons and boxes with something to eat or drink."""
    soup = ('soup can', 'tin of soup', 'can of soup')
    sauce = ('sauce can', 'can of tomato sauce', 'tin of tomatoes')
    ketchup = ('ketchup', 'sauce bottle')
    dressing = ('salad dressing', 'dressing')
    return {
        'alphabet_soup': hope(
            'alphabet_soup', 'alphabet soup can', 'can', 'blue', soup, ('eat',), STANDING
        ),
        'red_alphabet_soup': hope(
            'red_alphabet_soup', 'red alphabet soup can', 'can', 'red', soup, ('eat',), STANDING
        ),
        'tomato_sauce': hope(
            'tomato_sauce', 'tomato sauce can', 'can', 'red', sauce, FLAVOUR, STANDING
        ),
        'blue_tomato_sauce': hope(
            'yellow_tomato_sauce',
            'blue tomato sauce can',
            'can',
            'blue',
            sauce,
            FLAVOUR,
            STANDING,
            held_out=True,
        ),
        'bbq_sauce': hope(
            'bbq_sauce', 'barbecue sauce bottle', 'bottle', 'brown', ('bbq sauce',), FLAVOUR
        ),
        'green_bbq_sauce': hope(
            'green_bbq_sauce',
            'green barbecue sauce bottle',
            'bottle',
            'green',
            ('bbq sauce',),
            FLAVOUR,
        ),
        'ketchup': hope(
            'ketchup', 'ketchup bottle', 'bottle', 'orange', ketchup, FLAVOUR, STANDING
        ),
        'green_ketchup': hope(
            'green_ketchup',
            'green ketchup bottle',
            'bottle',
            'green',
            ketchup,
            FLAVOUR,
            STANDING,
            held_out=True,
        ),
        'blue_bottle': hope(
            'blue_ketchup',
            'blue squeeze bottle',
            'bottle',
            'blue',
            ('squeeze bottle',),
            (),
            STANDING,
        ),
        'salad_dressing': hope(
            'salad_dressing',
            'salad dressing bottle with a green cap',
            'bottle',
            'white',
            dressing,
            FLAVOUR,
            STANDING,
        ),
        'red_salad_dressing': hope(
            'red_salad_dressing',
            'salad dressing bottle with a red cap',
            'bottle',
            'white',
            dressing,
            FLAVOUR,
            STANDING,
        ),
        'milk': hope('milk', 'red milk carton', 'carton', 'red', ('milk',), DRINK[:1], STANDING),
        'yellow_milk': hope(
            'yellow_milk',
            'yellow milk carton',
            'carton',
            'yellow',
            ('milk',),
            DRINK[:1],
            STANDING,
            held_out=True,
        ),
        'orange_juice': hope(
            'orange_juice',
            'orange juice carton',
            'carton',
            'yellow',
            ('orange juice', 'juice', 'juice carton'),
            DRINK[:1],
            STANDING,
        ),
        'red_orange_juice': hope(
            'red_orange_juice',
            'red juice carton',
            'carton',
            'red',
            ('juice', 'juice carton'),
            DRINK[:1],
            STANDING,
        ),
        'butter': hope(
            'butter', 'butter box', 'box', 'orange', ('butter',), FLAVOUR[:1], BOX_RESTS
        ),
        'green_butter': hope(
            'green_butter',
            'green butter box',
            'box',
            'green',
            ('butter',),
            FLAVOUR[:1],
            BOX_RESTS,
            held_out=True,
        ),
        'chocolate_pudding': hope(
            'chocolate_pudding',
            'chocolate pudding box',
            'box',
            'brown',
            ('pudding', 'chocolate pudding', 'pudding box'),
            SNACK,
            BOX_RESTS,
        ),
        'green_chocolate_pudding': hope(
            'green_chocolate_pudding',
            'green pudding box',
            'box',
            'green',
            ('pudding', 'pudding box'),
            SNACK,
            BOX_RESTS,
        ),
        'cookies': hope(
            'cookies',
            'red cookie box',
            'box',
            'red',
            ('cookies', 'biscuits', 'cookie box'),
            SNACK,
            BOX_RESTS,
        ),
        'yellow_cookies': hope(
            'yellow_cookies',
            'yellow cookie box',
            'box',
            'yellow',
            ('cookies', 'biscuits', 'cookie box'),
            SNACK,
            BOX_RESTS,
        ),
        'cream_cheese': hope(
            'cream_cheese',
            'blue cream cheese box',
            'box',
            'blue',
            ('cream cheese', 'cheese'),
            FLAVOUR[:1],
            BOX_RESTS,
        ),
        'red_cream_cheese': hope(
            'red_cream_cheese',
            'red cream cheese box',
            'box',
            'red',
            ('cream cheese', 'cheese'),
            FLAVOUR[:1],
            BOX_RESTS,
        ),
        'macaroni_and_cheese': hope(
            'macaroni_and_cheese',
            'macaroni and cheese box',
            'box',
            'orange',
            ('macaroni', 'mac and cheese', 'pasta box'),
            ('eat',),
            BOX_RESTS,
        ),
        'popcorn': hope('popcorn', 'popcorn box', 'box', 'blue', ('popcorn',), SNACK, BOX_RESTS),
    }
