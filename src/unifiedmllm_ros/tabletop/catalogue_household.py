"""The other household things of the catalogue."""

from __future__ import annotations

from unifiedmllm_ros.tabletop.object_model import (
    STORE,
    ObjectModel,
    hope,
    scanned,
    turbosquid,
)


def household() -> dict[str, ObjectModel]:
    """Books, baskets, racks and the like."""
    book = ('read',)
    rests = ('up', 'side')
    return {
        'black_book': turbosquid('black_book', 'black book', 'book', 'black', (), book, rests),
        'beige_book': turbosquid('yellow_book', 'beige book', 'book', 'beige', (), book, rests),
        'red_book': turbosquid(
            'red_yellow_book', 'red book', 'book', 'red', (), book, rests, held_out=True
        ),
        'white_basket': scanned(
            'basket', 'white basket', 'basket', 'white', ('wicker basket',), STORE
        ),
        'red_basket': scanned(
            'red_basket', 'red basket', 'basket', 'red', ('wicker basket',), STORE
        ),
        'wooden_tray': turbosquid(
            'wooden_tray', 'wooden tray', 'tray', 'brown', ('wooden crate', 'crate'), STORE
        ),
        'dish_drainer': turbosquid(
            'bowl_drainer',
            'white dish drainer',
            'dish drainer',
            'white',
            ('drainer', 'dish rack'),
            ('dry dishes on',),
            scale=0.8,
        ),
        'peg_rack': scanned(
            'simple_rack',
            'white peg rack',
            'rack',
            'white',
            ('plate rack',),
            ('dry dishes on',),
            scale=0.7,
        ),
        'wine_rack': turbosquid(
            'wine_rack', 'light wooden wine rack', 'wine rack', 'beige', (), STORE[:1], scale=0.6
        ),
        'brown_wine_rack': turbosquid(
            'brown_rack', 'brown wine rack', 'wine rack', 'brown', (), STORE[:1], scale=0.6
        ),
        'desk_caddy': turbosquid(
            'desk_caddy',
            'brown desk caddy',
            'desk caddy',
            'brown',
            ('desk organiser', 'caddy', 'organizer'),
            STORE,
            scale=0.6,
        ),
        'yellow_desk_caddy': turbosquid(
            'yellow_desk_caddy',
            'yellow desk caddy',
            'desk caddy',
            'yellow',
            ('desk organiser', 'caddy', 'organizer'),
            STORE,
            scale=0.6,
        ),
        'red_cylinder': hope('red_sticker', 'red cylinder', 'cylinder', 'red', ('red block',)),
    }
