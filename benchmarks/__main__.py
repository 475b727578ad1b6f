"""Run measurements by name and write benchmarks/results/NAME.json."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.machine import describe

MEASUREMENTS = {
    'export': 'exported graphs of each precision against torch',
    'perception': 'question to masks on 640x480 frames',
    'transformers_eager': 'our runtime against generate() of transformers',
    'runtime': 'the runtime against transformers, torch.compile, llama.cpp and itself',
    'experts': 'router and expert layer over a bare pipeline; embeddings; taking turns',
    'expert_node': 'ROS around an expert: action over a bare pipeline, images, cancel',
    'node': 'overhead, memory and flood of the perception node',
    'remote': 'adapters, remote model, JPEG sizes',
    'gpu': 'a GPU: decoding against its memory, questions against torch.compile',
    'training': 'the three stages: speed, waiting for data, memory; LoRAMoE over one LoRA',
}
RESULTS = Path(__file__).parent / 'results'
ASKED_FOR = ('gpu',)
"""Those that not every machine can make: left out where no names are given."""


def main() -> None:
    """Run what was asked for, or everything."""
    listed = '\n'.join(f'  {name:<20} {what}' for name, what in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        prog='scripts/bench',
        description=__doc__,
        epilog=f'measurements:\n{listed}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help='default: all but gpu')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the JSON files')
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(MEASUREMENTS))
    if unknown:
        parser.error(f'no measurement {unknown[0]!r}: choose from {", ".join(MEASUREMENTS)}')
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names or (name for name in MEASUREMENTS if name not in ASKED_FOR):
        machine = describe()
        result = importlib.import_module(f'benchmarks.{name}').run()
        text = json.dumps({'benchmark': name, **result, 'machine': machine}, indent=2)
        (args.out / f'{name}.json').write_text(text + '\n')
        print(text)


if __name__ == '__main__':
    main()
