"""Rendered scenery: same seed, same bytes; captions say what labels say; files read back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.scenery.__main__ import main
from training.scenery.captions import (
    ATTRIBUTES,
    PHRASES,
    WORDS,
    attributes,
    caption,
    parse,
    phrases,
    vocabulary,
)
from training.scenery.dataset import (
    HELD_OUT_SEEDS,
    TRAIN_SEEDS,
    arrays,
    caption_of,
    preview,
    write_folder,
    write_shards,
)
from training.scenery.render import render
from training.scenery.sampling import EDITIONS, sample_scene
from training.scenery.scene import TREE_COUNTS, labels

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(300)


def digest(seeds: range) -> str:
    images, captions = arrays(seeds, 64)
    return hashlib.sha256(images.tobytes() + "\n".join(captions).encode()).hexdigest()


def test_a_seed_fixes_the_bytes_also_in_another_process() -> None:
    code = (
        "import hashlib\nfrom training.scenery.dataset import arrays\n"
        "i, c = arrays(range(6), 64)\n"
        "print(hashlib.sha256(i.tobytes() + '\\n'.join(c).encode()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(range(6))


def test_rendering_leaves_no_trace_from_one_scene_to_the_next() -> None:
    alone = render(sample_scene(7), 64)
    for seed in range(4):
        render(sample_scene(seed), 64)
    assert np.array_equal(render(sample_scene(7), 64), alone)


def test_other_seeds_give_other_pictures() -> None:
    images, _ = arrays(range(40), 32)
    assert len({image.tobytes() for image in images}) == 40


@pytest.mark.parametrize("seed", SEEDS[::3])
def test_labels_take_allowed_values_and_captions_agree_with_them(seed: int) -> None:
    for edition in EDITIONS:
        scene = sample_scene(seed, edition)
        values = labels(scene)
        assert values.keys() == ATTRIBUTES.keys()
        assert all(value in ATTRIBUTES[name] for name, value in values.items())
        named = parse(caption_of(seed, edition))
        assert named
        assert named.items() <= values.items()
        assert named.keys() <= attributes(edition).keys()
        whole = parse(", ".join(phrases(scene)))
        # what a full caption leaves unsaid is absent from the picture
        assert all(values[name] in ("none", "no") for name in values.keys() - whole.keys())


def test_the_second_edition_adds_to_the_first_and_moves_nothing() -> None:
    for seed in SEEDS:
        first, second = sample_scene(seed), sample_scene(seed, 2)
        added = {
            "weather": "none", "birds": (), "bridge": None, "lighthouse": None, "tufts": (),
            "treeline": (), "wood": "none", "boat": first.boat,
        }  # fmt: skip
        assert dataclasses.replace(second, **added) == first
        assert second.boat in (first.boat, None)
    with pytest.raises(ValueError, match="edition=3 is none of"):
        sample_scene(0, 3)


def test_the_second_edition_makes_sense_and_can_be_drawn() -> None:
    kinds: set[str] = set()
    for seed in SEEDS:
        scene = sample_scene(seed, 2)
        assert (scene.weather == "snowfall") <= (scene.ground == "snow")
        assert (scene.bridge is not None) <= (scene.water == "lake" and scene.boat is None)
        assert (scene.lighthouse is not None) <= (scene.water == "sea")
        assert bool(scene.birds) <= (scene.time != "night" and scene.weather != "rain")
        if scene.lighthouse and scene.house:
            assert abs(scene.lighthouse.x - scene.house.x) > scene.house.width / 2
        kinds |= {tuft.kind for tuft in scene.tufts}
        if any((scene.weather != "none", scene.birds, scene.bridge, scene.lighthouse, scene.tufts)):
            plain = render(sample_scene(seed), 32)
            assert not np.array_equal(render(scene, 32), plain)
    assert kinds == {"grass", "flower", "stone", "reed"}


def test_scenes_make_sense() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed)
        found = labels(scene)
        assert (found["body"] == "moon") <= (found["time"] == "night")
        assert (found["body"] == "sun") <= (found["time"] != "night")
        assert (found["stars"] == "yes") <= (found["time"] == "night")
        assert (found["trees"] == "palm") <= (found["ground"] in ("sand", "grass"))
        assert (found["boat"] == "yes") <= (found["water"] != "none")
        assert (found["body"] == "none") == (found["side"] == "none")
        if scene.trees:
            low, high = TREE_COUNTS[scene.tree_count]
            assert low <= len(scene.trees) <= high


def test_every_value_occurs_among_scenes() -> None:
    seen: dict[str, set[str]] = {name: set() for name in ATTRIBUTES}
    for seed in SEEDS:
        for name, value in labels(sample_scene(seed, 2)).items():
            seen[name].add(value)
    assert seen == {name: set(values) for name, values in ATTRIBUTES.items()}


@pytest.mark.parametrize("phrase", PHRASES)
def test_every_phrase_names_something_and_survives_spacing_and_case(phrase: str) -> None:
    named = parse(phrase)
    assert named
    assert parse(f"  {phrase.upper().replace(' ', '   ')} , a dragon") == named


def test_vocabulary_holds_every_phrase_once() -> None:
    flat = [phrase for group in vocabulary(2).values() for phrase in group]
    assert flat == list(PHRASES)
    assert len(set(flat)) == len(flat)
    assert 40 <= len(WORDS) <= 60
    added = set(flat) - {phrase for group in vocabulary(1).values() for phrase in group}
    assert added == {"birds", "rain", "mist", "snowfall", "bridge", "lighthouse"}


def test_captions_shuffle_and_drop_but_are_never_empty() -> None:
    scene = sample_scene(1)
    every = set(phrases(scene))
    rng = np.random.default_rng(0)
    texts = [caption(scene, rng) for _ in range(200)]
    kept = [text.split(", ") for text in texts]
    assert all(names and set(names) <= every for names in kept)
    assert len({names[0] for names in kept}) > 3
    share = np.mean([len(names) / len(every) for names in kept])
    assert share == pytest.approx(0.9, abs=0.03)
    assert all(caption(scene, rng, drop=0.999) for _ in range(50))


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_wrong_drop_is_refused(drop: float) -> None:
    with pytest.raises(ValueError, match="chance below 1"):
        caption(sample_scene(0), np.random.default_rng(0), drop=drop)


@pytest.mark.parametrize(
    ("size", "shape"),
    [(32, (32, 32, 3)), (128, (128, 128, 3)), (256, (256, 256, 3)), ((96, 48), (48, 96, 3))],
)
def test_sizes(size: int | tuple[int, int], shape: tuple[int, int, int]) -> None:
    image = render(sample_scene(3), size)
    assert image.dtype == np.uint8
    assert image.shape == shape


@pytest.mark.parametrize("seed", range(12))
def test_a_larger_picture_shows_the_same_scene(seed: int) -> None:
    scene = sample_scene(seed)
    small = render(scene, 64).astype(float)
    large = render(scene, 256).astype(float).reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.sqrt(np.mean((small - large) ** 2)) < 10


def test_scenes_are_frozen_and_bad_input_is_refused() -> None:
    scene = sample_scene(0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.time = "day"  # type: ignore[misc]
    with pytest.raises(ValueError, match="negative"):
        sample_scene(-1)
    with pytest.raises(ValueError, match="sides of 8"):
        render(scene, 4)


def test_train_and_held_out_seeds_are_apart() -> None:
    assert TRAIN_SEEDS.stop <= HELD_OUT_SEEDS.start


def test_folder_reads_back(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", count=3, seed=11, size=32)
    images, captions = arrays(range(11, 14), 32)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row, image, text in zip(rows, images, captions, strict=True):
        path = folder / row["file_name"]
        assert np.array_equal(np.asarray(Image.open(path)), image)
        assert path.with_suffix(".txt").read_text().strip() == row["text"] == text
        assert row["labels"] == labels(sample_scene(row["seed"]))


def test_shards_are_deterministic_and_split_by_count(tmp_path: Path) -> None:
    first = write_shards(tmp_path / "a", count=5, seed=2, size=32, per_shard=2)
    second = write_shards(tmp_path / "b", count=5, seed=2, size=32, per_shard=2)
    assert [path.name for path in first] == [f"scenery-0000{i}.tar" for i in range(3)]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with tarfile.open(first[2]) as tar:
        names = tar.getnames()
    assert names == ["000000006.png", "000000006.txt", "000000006.json"]
    with pytest.raises(ValueError, match="per_shard=0"):
        write_shards(tmp_path, count=1, per_shard=0)


def test_command_line(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["--count", "3", "--size", "32", "--preview", str(sheet)]) == 0
    assert Image.open(sheet).size == (256, 32)
    args = ["--out", str(tmp_path / "out"), "--count", "3", "--size", "32", "--shards", "2"]
    assert main(args) == 0
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2
    with pytest.raises(SystemExit):
        main(["--count", "3"])


def test_preview_pads_the_last_row() -> None:
    sheet = preview(range(3), size=32, columns=2)
    assert sheet.shape == (64, 64, 3)
    assert (sheet[32:, 32:] == 255).all()
