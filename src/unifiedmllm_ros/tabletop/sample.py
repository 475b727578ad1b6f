"""The scene of the sample recording under samples/tabletop: a set table in a test room."""

from __future__ import annotations

import argparse
from pathlib import Path

from unifiedmllm_ros.tabletop.camera_path import hover
from unifiedmllm_ros.tabletop.recording import Recording, record
from unifiedmllm_ros.tabletop.scene import Lamp, Placement, Room, Scene, Sensor, Surface

SAMPLE = Recording(
    Scene(
        split='test',
        seed=0,
        room=Room(
            table=Surface('table_light_wood', 0.9),
            wall=Surface('meeka-beige-plaster', 1.2, (0.82, 0.84, 0.86)),
            floor=Surface('rustic_floor', 1.0),
            half_size=(0.72, 0.5),
            wall_distance=0.5,
        ),
        camera=hover(0.0, fovy=42.0),
        lamps=(
            Lamp((-0.9, -0.6, 1.7), (0.44, 0.29, -0.85), (0.42, 0.41, 0.38), True, shadow=True),
            Lamp((0.9, -0.9, 1.6), (-0.44, 0.44, -0.78), (0.16, 0.16, 0.18), True),
            Lamp((0.0, 0.5, 1.8), (0.0, -0.27, -0.96), (0.08, 0.08, 0.08), True),
        ),
        ambient=(0.5, 0.5, 0.5),
        objects=(
            Placement('red_mug', 0, 'up', -0.19, -0.12, 0.6),
            Placement('blue_mug', 0, 'up', 0.20, -0.02, 2.4),
            Placement('orange_juice', 0, 'turned', -0.13, 0.15, 0.5),
            Placement('alphabet_soup', 0, 'turned', 0.03, 0.06, 0.2),
            Placement('green_bowl', 0, 'up', 0.07, -0.16, 0.0),
            Placement('frying_pan', 0, 'up', 0.27, 0.2, 2.6),
            Placement('yellow_cookies', 0, 'turned', -0.31, 0.06, -0.4),
        ),
        sensor=Sensor(noise=1.2),
    ),
    questions=(
        ('segment the red mug', ('red_mug',)),
        ('find all mugs', ('red_mug', 'blue_mug')),
        ('where is the orange juice?', ('orange_juice',)),
        ('segment the green bowl', ('green_bowl',)),
        ('show me the frying pan', ('frying_pan',)),
        ('find the hammer', ()),
    ),
)


def main() -> int:
    """Record the sample again: `python -m unifiedmllm_ros.tabletop.sample DIR`."""
    parser = argparse.ArgumentParser(description='Record the sample of samples/tabletop.')
    parser.add_argument('out', type=Path, metavar='DIR')
    frames = record(SAMPLE, parser.parse_args().out)
    print(f'{frames} frames')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
