"""The catalogue's promises about names and about what training never shows."""

from __future__ import annotations

from unifiedmllm_ros.tabletop.catalogue import CATALOGUE, HELD_OUT, KNOWN
from unifiedmllm_ros.tabletop.textures import TEST, TRAIN


def test_full_names_are_unique() -> None:
    names = [model.name for model in CATALOGUE.values()]
    assert len(names) == len(set(names)) >= 70


def test_known_and_held_out_share_no_object_and_no_appearance() -> None:
    assert not set(KNOWN) & set(HELD_OUT)
    assert len(HELD_OUT) >= 8
    looks = {(CATALOGUE[name].asset, CATALOGUE[name].tint) for name in KNOWN}
    assert not looks & {(CATALOGUE[name].asset, CATALOGUE[name].tint) for name in HELD_OUT}


def test_the_words_for_held_out_objects_occur_in_training() -> None:
    known = [CATALOGUE[name] for name in KNOWN]
    kinds = {model.kind for model in known}
    colours = {model.colour for model in known}
    for name in HELD_OUT:
        assert CATALOGUE[name].kind in kinds
        assert CATALOGUE[name].colour in colours


def test_no_test_texture_is_in_training() -> None:
    assert not set(TRAIN.names) & set(TEST.names)
    assert len(TEST.table) >= 4
