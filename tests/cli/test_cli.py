"""The `unifiedmllm` command: verbs, errors, and what each imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from unifiedmllm_ros.cli import VERBS, main


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, '--help'])
    assert stop.value.code == 0
    assert verb in capsys.readouterr().out


def test_help_imports_neither_torch_nor_ros() -> None:
    code = (
        'import sys; from unifiedmllm_ros.cli import main\n'
        'try: main(["ask", "--help"])\n'
        'except SystemExit: pass\n'
        'assert not {"torch", "rclpy", "onnxruntime"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_picture_that_is_none_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no image')
    assert main(['ask', 'find the mug', '--image', str(broken)]) == 1
    error = capsys.readouterr().err
    assert str(broken) in error
    assert 'Traceback' not in error


def test_ask_answers_and_writes_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.sample_frames import sample_frames

    frame = sample_frames(90)[0].image
    picture = tmp_path / 'frame.png'
    cv2.imwrite(str(picture), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    out = tmp_path / 'out'
    asked = ['ask', 'segment the red mug', '--image', str(picture), '--out', str(out)]
    assert main(asked) == 0
    assert '<p>red mug</p><box>[' in capsys.readouterr().out
    masks = cv2.imread(str(out / 'masks.png'), cv2.IMREAD_UNCHANGED)
    assert masks is not None
    assert masks.max() >= 1
    assert (out / 'overlay.jpg').stat().st_size > 0


def test_experts_are_listed_with_their_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['experts', 'list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith('mask_network') and 'seg' in line for line in lines)


def test_experts_check_loads_what_tasks_are_bound_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['experts', 'check']) == 0
    assert 'seg: mask_network is ready' in capsys.readouterr().out
    config = tmp_path / 'experts.yaml'
    config.write_text(
        'experts:\n'
        '  lost: {implementation: "unifiedmllm_ros.experts.segmentation:MaskNetwork",\n'
        '         kind: segmentation, weights: nowhere.onnx}\n'
        'tasks: {seg: lost}\n'
    )
    assert main(['experts', '--config', str(config), 'check']) == 1
    assert 'nowhere.onnx' in capsys.readouterr().out


def test_export_writes_graphs_of_a_saved_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('torch', reason='needs the extra [train]')
    pytest.importorskip('onnxscript', reason='needs the extra [export]')
    from tests.model.twin import twin_model, twin_processor

    processor = twin_processor()
    twin_model(processor).save_pretrained(tmp_path / 'twin')
    processor.save_pretrained(tmp_path / 'twin')
    assert main(['export', str(tmp_path / 'twin')]) == 0
    assert 'decoder' in capsys.readouterr().out
    manifest = json.loads((tmp_path / 'twin' / 'onnx' / 'manifest.json').read_text())
    assert manifest['vocab'] == processor.vocab_size


def test_export_of_no_model_says_what_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'empty').mkdir()
    assert main(['export', str(tmp_path / 'empty')]) == 1
    assert 'config.json' in capsys.readouterr().err


def test_up_speaks_to_the_node_in_ros_arguments() -> None:
    import argparse

    from unifiedmllm_ros.cli import up

    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    args = parser.parse_args(
        ['--namespace', '/head', '--compressed', '--instruction', 'find "it"', '--image', '/cam']
    )
    words = up.ros_arguments(args)
    assert '__ns:=/head' in words
    assert 'image/compressed:=/cam/compressed' in words
    assert 'input:="compressed"' in words
    assert 'instruction:="find \\"it\\""' in words
