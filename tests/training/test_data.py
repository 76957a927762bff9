"""Sources over files: same pictures from folder and shards, broken ones skipped and counted, exact keys."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcm_studio.data.listing import DataError
from tests.data.conftest import make_folder, picture, png, write_tar  # noqa: F401
from tests.data.test_doctor import Canary
from training.config import TrainConfig
from training.data.encodings import Encodings
from training.data.files import folder_source, hub_source, shard_source
from training.data.load import open_source
from training.data.source import BadSample
from training.data.tolerant import Tolerant, content
from training.errors import TrainingFault
from training.rng import order

MakeFolder = Callable[..., Path]


def test_folder_and_shards_give_the_same_examples(make_folder: MakeFolder, tmp_path: Path) -> None:  # noqa: F811
    folder = make_folder(4)
    members = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    write_tar(tmp_path / "x-0.tar", dict(list(members.items())[:4]))
    write_tar(tmp_path / "x-1.tar", dict(list(members.items())[4:]))
    plain = folder_source(folder, size=32)
    shards = shard_source(str(tmp_path / "x-{0..1}.tar"), size=32)
    assert len(plain) == len(shards) == 4
    for index in range(4):
        a, b = plain.item(index), shards.item(index)
        assert a.image.shape == (32, 32, 3) and a.image.dtype == np.uint8
        assert (a.image == b.image).all()
        assert a.caption == b.caption == f"caption {index}"
        assert content(plain, index) == content(shards, index)
    assert plain.key == shards.key


def test_the_centre_square_is_what_remains(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (folder_source(tmp_path, size=20).item(0).image == 200).all()


def test_exif_rotation_alpha_and_16_bit(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8), 32896, np.uint16)).save(tmp_path / "b.png")
    source = folder_source(tmp_path, size=8)
    assert (source.item(0).image == 255).all()
    assert (source.item(1).image == 128).all()


def test_the_key_follows_content_captions_and_crop(make_folder: MakeFolder) -> None:  # noqa: F811
    folder = make_folder(3)
    first = folder_source(folder, size=32)
    assert folder_source(folder, size=32).key == first.key
    assert folder_source(folder, size=24).key != first.key
    (folder / "001.txt").write_text("another caption")
    assert folder_source(folder, size=32).key != first.key
    before = content(first, 1)
    (folder / "001.png").write_bytes(png(99))
    assert content(folder_source(folder, size=32), 1) != before


def test_broken_pictures_are_skipped_counted_and_listed(make_folder: MakeFolder) -> None:  # noqa: F811
    folder = make_folder(20)
    (folder / "004.png").write_bytes(png(4)[:100])
    source = folder_source(folder, size=32)
    with pytest.raises(BadSample, match=r"004\.png"):
        source.item(4)
    told: list[str] = []
    tolerant = Tolerant(source, told.append)
    assert (tolerant.item(4).image == source.item(5).image).all()
    assert tolerant.caption(4, 0) == "caption 5"
    assert tolerant.content(4) == content(source, 5)
    assert list(tolerant.bad) == [4] and len(told) == 1 and "004.png" in told[0]


def test_too_many_broken_pictures_end_the_run_with_reason_data(make_folder: MakeFolder) -> None:  # noqa: F811
    folder = make_folder(20)
    for index in range(3):
        (folder / f"{index:03d}.png").write_bytes(b"no picture")
    tolerant = Tolerant(folder_source(folder, size=32), lambda message: None)
    with pytest.raises(TrainingFault, match=r"3 of 20 .* data doctor") as raised:
        for index in range(20):
            tolerant.item(index)
    assert raised.value.reason == "data"


def test_a_replacement_does_not_depend_on_what_was_read_before(make_folder: MakeFolder) -> None:  # noqa: F811
    """A resumed run begins in the middle: it must get what the uninterrupted one got."""
    folder = make_folder(40)
    for index in (7, 8):
        (folder / f"{index:03d}.png").write_bytes(b"no")

    def quiet() -> Tolerant:
        return Tolerant(folder_source(folder, size=32), lambda message: None)

    whole = quiet()
    expected = [whole.item(i).caption for i, _ in order(0, 80, 40, seed=3)]
    resumed = quiet()
    assert [resumed.item(i).caption for i, _ in order(33, 47, 40, seed=3)] == expected[33:]


def test_order_is_exact_at_any_position_and_differs_between_ranks_and_seeds() -> None:
    whole = order(0, 300, 100, seed=1)
    for start in (0, 1, 99, 100, 257):
        assert order(start, 43, 100, seed=1) == whole[start : start + 43]
    assert sorted(i for i, _ in whole[:100]) == list(range(100))
    assert whole[:100] != whole[100:200] and order(0, 100, 100, seed=2) != whole[:100]
    ranks = [order(rank * 8, 8, 100, seed=1) for rank in range(4)]
    assert len({pair for rank in ranks for pair in rank}) == 32, "no two ranks share an example"


def test_pickles_in_shards_are_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(canary))
    write_tar(
        tmp_path / "x.tar", {"a.png": png(1), "a.pkl": payload, "a.pyd": payload, "a.txt": b"t"}
    )
    source = shard_source(str(tmp_path / "x.tar"), size=16)
    assert source.item(0).caption == "t"
    assert not canary.exists()
    monkeypatch.chdir(tmp_path)
    for hostile in ("pipe:touch canary", "pipe:touch canary;.tar", "http://127.0.0.1/x.tar"):
        with pytest.raises(DataError, match="never opened"):
            shard_source(hostile, size=16)
    assert not canary.exists()


def test_nothing_outside_the_folder_is_read(make_folder: MakeFolder) -> None:  # noqa: F811
    folder = make_folder(2)
    outside = folder.parent / "outside"
    outside.mkdir()
    picture(5).save(outside / "secret.png")
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "../outside/secret.png", "text": "x"}\n{"file_name": "/etc/passwd", "text": "y"}\n'
    )
    assert len(folder_source(folder, size=16)) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "folder"}, "needs data.path"),
        ({"kind": "folder", "path": "/no/such/folder"}, "there is no folder"),
        ({"kind": "webdataset", "path": "pipe:touch canary"}, "never opened"),
        ({"kind": "huggingface", "path": "owner/name"}, "HF_HUB_OFFLINE"),
        ({"kind": "huggingface", "path": "../../etc"}, "not like owner/name"),
    ],
)
def test_what_cannot_be_opened_has_reason_data(fields: dict, words: str) -> None:
    config = TrainConfig.model_validate({"data": fields})
    with pytest.raises(TrainingFault, match=words) as raised:
        open_source(config)
    assert raised.value.reason == "data"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no PNG"):
        folder_source(tmp_path, size=16)
    with pytest.raises(DataError):
        hub_source("a b/c", size=16, cache=tmp_path)


class TestEncodings:
    """The cache of rows keyed by content."""

    def _encode(self, log: list[int]):
        def encode(places):
            log.extend(places)
            return np.stack([np.full((2, 3), place, np.float32) for place in places])

        return encode

    def test_each_content_is_encoded_once(self, tmp_path: Path) -> None:
        log: list[int] = []
        cache = Encodings(tmp_path, "vae", (2, 3))
        assert cache.fill(["a", "b", "a", "c"], self._encode(log), batch=2) == 3
        assert log == [0, 1, 3]
        assert cache.rows(["c", "a", "a"])[:, 0, 0].tolist() == [3, 0, 0]
        again = Encodings(tmp_path, "vae", (2, 3))
        assert again.fill(["b", "c", "d"], self._encode(log)) == 1
        assert len(again) == 4
        assert len(Encodings(tmp_path, "another vae", (2, 3))) == 0

    def test_a_crash_between_row_and_key_loses_nothing_else(self, tmp_path: Path) -> None:
        cache = Encodings(tmp_path, "vae", (2, 3))
        cache.fill(["a", "b"], self._encode([]))
        rows, keys = next(tmp_path.glob("*.rows")), next(tmp_path.glob("*.keys"))
        rows.write_bytes(rows.read_bytes() + b"\x07" * 24)  # a row whose key never came
        keys.write_bytes(keys.read_bytes() + b"half a key")
        later = Encodings(tmp_path, "vae", (2, 3))
        assert len(later) == 2
        later.fill(["c"], lambda places: np.full((1, 2, 3), 9, np.float32))
        assert later.rows(["a", "b", "c"])[:, 0, 0].tolist() == [0, 1, 9]
        assert Encodings(tmp_path, "vae", (2, 3)).rows(["c"])[0, 0, 0] == 9

    @pytest.mark.parametrize("dies_at", range(4))
    def test_a_killed_fill_goes_on_with_the_same_batches(
        self, tmp_path: Path, dies_at: int
    ) -> None:
        """Last bits may depend on the batch that a row was computed in."""
        keys = [f"{i % 11}" for i in range(25)]

        def encode(places: Sequence[int], limit: int = 99) -> np.ndarray:
            if len(seen) == limit:
                raise KeyboardInterrupt
            seen.append(tuple(keys[p] for p in places))
            return np.full((len(places), 2), hash(seen[-1]) % 1000, np.float32)

        whole: list[tuple[str, ...]] = []
        seen = whole
        Encodings(tmp_path / "whole", "e", (2,)).fill(keys, encode, batch=3)
        seen = []
        with pytest.raises(KeyboardInterrupt):
            Encodings(tmp_path / "half", "e", (2,)).fill(
                keys, lambda places: encode(places, dies_at), batch=3
            )
        again = Encodings(tmp_path / "half", "e", (2,))
        again.fill(keys, encode, batch=3)
        assert seen == whole
        assert (again.rows(keys) == Encodings(tmp_path / "whole", "e", (2,)).rows(keys)).all()

    def test_two_writers_take_turns(self, tmp_path: Path) -> None:
        one, two = Encodings(tmp_path, "vae", (2, 3)), Encodings(tmp_path, "vae", (2, 3))
        one.fill(["a"], lambda places: np.full((1, 2, 3), 1, np.float32))
        two.fill(["b"], lambda places: np.full((1, 2, 3), 2, np.float32))
        one.fill(["c"], lambda places: np.full((1, 2, 3), 3, np.float32))
        fresh = Encodings(tmp_path, "vae", (2, 3))
        assert fresh.rows(["a", "b", "c"])[:, 0, 0].tolist() == [1, 2, 3]
