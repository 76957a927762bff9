"""What is cached is what the networks say: posteriors, captions, and the view that an epoch shows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests import tiny
from tests.data.conftest import picture, write_tar
from training.config import DataConfig, TrainConfig
from training.data.files import folder_source, shard_source
from training.data.latents import Encoded, open_latents, to_signed
from training.data.source import CENTRE, View
from training.data.texts import CachedTexts
from training.data.tolerant import Tolerant
from training.data.views import Views
from training.loop import Trainer
from training.recipes import find
from training.recipes.base import Draw
from training.recipes.latents import posterior, sample
from training.recipes.prompts import unet_arguments
from training.rng import generator, order

SIZE = 64


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, wide, high and square, smaller and larger than SIZE; two share a caption."""
    folder = tmp_path_factory.mktemp("pictures")
    shapes = [(96, 64), (64, 128), (64, 64), (200, 100), (40, 48), (70, 65)]
    for i, (width, height) in enumerate(shapes):
        picture(i, width, height).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"{'lake' if i % 2 else 'sea'} {i // 2}")
    return folder


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teachers")
    for kind in ("sd-plain", "sdxl"):
        tiny.save(kind, root / kind)
    return root


def trainer(name: str, folder: Path, teacher: Path, data: dict[str, Any], **fields: Any) -> Trainer:
    recipe = find(name)
    config = recipe.Config(
        **{"steps": 6, "batch_size": 2, "log_every": 3, "resolution": SIZE, "device": "cpu"}
        | {"teacher": str(teacher), "checkpoint_every": 3, "ema_decay": 0.5}
        | {"data": {"kind": "folder"} | data}
        | fields
    )
    made = Trainer(recipe(config, torch.device("cpu")), folder, quiet=True)
    made.prepare()
    return made


def draw(epoch: int = 0, count: int = 4) -> Draw:
    examples = tuple((i, epoch) for i in range(count))
    return Draw(step=0, examples=examples, generator=generator("test", epoch))


class TestPosterior:
    """Mean and standard deviation are kept; every draw samples from them."""

    def test_a_draw_is_that_of_diffusers(self) -> None:
        vae = tiny.vae()
        x = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
        with torch.no_grad():
            spread = vae.encode(x).latent_dist
            rows = posterior(vae, x)
        for seed in range(3):
            wanted = spread.sample(torch.Generator().manual_seed(seed)) * vae.config.scaling_factor
            found = sample(rows, torch.Generator().manual_seed(seed), spread=True)
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)

    def test_a_tiny_autoencoder_has_no_spread_and_draws_nothing(self) -> None:
        vae = tiny.vae(tiny=True)
        x = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
        g = torch.Generator().manual_seed(0)
        before = g.get_state()
        with torch.no_grad():
            found = sample(posterior(vae, x), g, spread=False)
            wanted = vae.encode(x).latents * vae.config.scaling_factor
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)  # channels last there
        assert torch.equal(g.get_state(), before)

    @pytest.mark.parametrize("name", ["sd-plain", "sdxl"])
    def test_cached_and_online_draw_the_same_latents(
        self, name: str, teachers: Path, pictures: Path, tmp_path: Path
    ) -> None:
        made: list[Any] = [
            trainer(
                "lcd",
                tmp_path / how,
                teachers / name,
                {"path": str(pictures), "cache": str(tmp_path), "latents": how, "flip": True},
            ).recipe
            for how in ("cached", "online")
        ]
        images = np.stack([made[0].source.item(i).image for i in range(4)])
        with torch.no_grad():
            spread = made[0].vae.encode(to_signed(images)).latent_dist
        for epoch in range(3):
            (a, told), (b, same) = (recipe.sized_x0(draw(epoch)) for recipe in made)
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            if name == "sdxl":
                assert torch.equal(told, same)
            flips = [made[0].latents._views.at(i, epoch).flip for i in range(4)]
            wanted = spread.sample(draw(epoch).generator) * made[0].vae.config.scaling_factor
            for i in range(4):
                near = torch.allclose(a[i], wanted[i], rtol=1e-4, atol=1e-5)
                assert near != flips[i]
        assert made[0].latents.shape == made[1].latents.shape == (6, 4, 8, 8)

    def test_latents_of_half_precision_are_near_and_kept_apart(
        self, teachers: Path, pictures: Path, tmp_path: Path
    ) -> None:
        rows = []
        for precision in ("fp32", "bf16", "fp32"):
            data = {"path": str(pictures), "cache": str(tmp_path), "latents_precision": precision}
            made: Any = trainer("lcd", tmp_path / "run", teachers / "sd-plain", data).recipe
            rows.append(made.x0(draw()))
        exact, half, again = rows
        assert torch.equal(exact, again) and not torch.equal(exact, half)
        assert float((half - exact).std() / exact.std()) < 0.05

    def test_a_resumed_run_draws_the_same(
        self, teachers: Path, pictures: Path, tmp_path: Path
    ) -> None:
        data = {"path": str(pictures), "cache": str(tmp_path), "crop": "random", "flip": True}
        ends = []
        for again in (False, True):
            folder = tmp_path / str(again)
            last = trainer("lcd", folder, teachers / "sd-plain", data)
            assert last.run()
            if again:
                shutil.rmtree(folder / "checkpoints" / "step-00000006")
                last = trainer("lcd", folder, teachers / "sd-plain", data)
                assert last.resume() and last.state.step == 3 and last.run()
            ends.append([p.detach().clone() for p in last.state.parameters])
        assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class TestTexts:
    """Embeddings read from disk are those that the encoder would compute."""

    @pytest.mark.parametrize("name", ["lcd", "lcm-lora"])
    @pytest.mark.parametrize("kind", ["sd-plain", "sdxl"])
    def test_the_loss_is_the_same_and_the_encoder_rests(
        self,
        name: str,
        kind: str,
        teachers: Path,
        pictures: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        losses = []
        for how in ("online", "cached"):
            data = {"path": str(pictures), "cache": str(tmp_path), "text": how}
            # a large epsilon: AdamW's own would make a learning rate's step of a gradient that is rounding
            more = {"ema_decay": 0.0, "adam_epsilon": 1e-3}
            made = trainer(name, tmp_path / how, teachers / kind, data, **more)
            calls: list[int] = []
            recipe: Any = made.recipe
            for encoder in recipe.prompts.encoders:
                encoder.register_forward_hook(lambda *call, calls=calls: calls.append(1))
            found = []
            for number in range(3):
                found.append(made.micro_step(made.batch(number)).item())
                made.state.advance()
            losses.append(found)
            assert bool(calls) == (how == "online")
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    def test_captions_that_redraw_are_all_there(self, teachers: Path, tmp_path: Path) -> None:
        data = {"kind": "scenes", "count": 5, "cache": str(tmp_path)}
        made: Any = trainer("lcd", tmp_path, teachers / "sd-plain", data).recipe
        read: list[str] = []
        monitored = made.prompts.encode
        made.prompts.encode = lambda tokens: read.append("encoded") or monitored(tokens)
        for index, epoch in order(0, 12, 5, seed=0):
            made.texts([made.source.caption(index, epoch)])
        assert not read

    def test_rows_are_found_by_tokens_and_by_the_encoder(
        self, teachers: Path, tmp_path: Path
    ) -> None:
        from training.recipes.prompts import Prompts

        one = Prompts(teachers / "sdxl", torch.device("cpu"))
        cache = CachedTexts(one, tmp_path, limit_mb=1)
        assert cache.fill(["lake", "LAKE", "sea", "lake"]) == 0
        assert len(cache._store) == 2  # the tokenizer reads in small letters
        found, wanted = cache(["sea", "night", "lake"]), one(["sea", "night", "lake"])
        assert found.keys() == wanted.keys() == {"context", "pooled"}
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
        other = Prompts(teachers / "sdxl", torch.device("cpu"))
        assert other.key == one.key
        with torch.no_grad():
            next(other.encoders[1].parameters()).add_(1e-3)
        again = Prompts(teachers / "sdxl", torch.device("cpu"))
        again.encoders[0].config.hidden_act = "gelu"
        changed = Prompts(teachers / "sdxl", torch.device("cpu"))
        changed.encoders[1] = other.encoders[1]
        assert len({one.key, again.key, changed.key}) == 3

    def test_what_does_not_fit_is_encoded_in_the_step(self, teachers: Path, tmp_path: Path) -> None:
        from training.recipes.prompts import Prompts

        prompts = Prompts(teachers / "sd-plain", torch.device("cpu"))
        cache = CachedTexts(prompts, tmp_path, limit_mb=0)
        assert cache.fill(["lake", "sea", "lake"]) == 2
        assert not any(path.stat().st_size for path in tmp_path.glob("*.rows"))
        torch.testing.assert_close(cache(["sea"])["context"], prompts(["sea"])["context"])

    def test_half_precision_only_where_the_encoder_has_it(
        self, teachers: Path, tmp_path: Path
    ) -> None:
        from training.recipes.prompts import Prompts

        prompts = Prompts(teachers / "sd-plain", torch.device("cpu"))
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            prompts.encoders[0].to(dtype)
            cache = CachedTexts(prompts, tmp_path / str(dtype), limit_mb=1)
            cache.fill(["lake"])
            found = cache(["lake"])["context"]
            assert found.dtype == (dtype if dtype == torch.float16 else torch.float32)
            assert torch.equal(found.float(), prompts(["lake"])["context"].float())


class TestViews:
    """Crops and flips are functions of (seed, index, epoch), and caches know them apart."""

    def test_they_are_drawn_anew_for_every_epoch_and_seed(self) -> None:
        views = Views(random=True, flip=True, seed=1)
        seen = {views.at(i, epoch) for i in range(20) for epoch in range(20)}
        assert len(seen) == 400
        assert 150 < sum(view.flip for view in seen) < 250
        assert abs(np.mean([view.across for view in seen]) - 0.5) < 0.1
        assert all(0 <= v.across <= 1 and 0 <= v.down <= 1 for v in seen)
        assert views.at(3, 4) == Views(random=True, flip=True, seed=1).at(3, 4)
        assert views.at(3, 4) != Views(random=True, flip=True, seed=2).at(3, 4)
        assert {Views().at(i, epoch) for i in range(5) for epoch in range(5)} == {CENTRE}
        with pytest.raises(ValueError, match="number of crops"):
            _ = views.count

    def test_cached_crops_are_taken_in_turn(self) -> None:
        views = Views(random=True, flip=True, crops=3)
        assert views.count == 6
        for i in range(4):
            assert [views.number(i, epoch) // 2 for epoch in range(7)] == [0, 1, 2, 0, 1, 2, 0]
        assert {views.number(i, e) % 2 for i in range(9) for e in range(9)} == {0, 1}
        assert len({views.view("a", n) for n in range(6)}) == 6
        assert views.view("a", 0) != views.view("b", 0)

    def test_a_view_is_what_cropping_and_mirroring_by_hand_give(self, tmp_path: Path) -> None:
        wide = np.arange(20 * 60 * 3, dtype=np.uint32).reshape(20, 60, 3).astype(np.uint8)
        Image.fromarray(wide).save(tmp_path / "a.png")
        Image.fromarray(wide.transpose(1, 0, 2).copy()).save(tmp_path / "b.png")
        source = folder_source(tmp_path, size=20)
        for place in (0.0, 0.25, 1.0):
            at = int(place * 40)
            item = source.item(0, View(across=place))
            assert (item.image == wide[:, at : at + 20]).all()
            assert item.sizes() == (20, 60, 0, at)
            flipped = source.item(0, View(across=place, flip=True))
            assert (flipped.image == item.image[:, ::-1]).all()
            # as if the whole picture was mirrored first
            assert flipped.sizes() == (20, 60, 0, 40 - at)
            assert (wide[:, ::-1][:, 40 - at : 60 - at] == flipped.image).all()
            assert source.item(1, View(down=place)).sizes() == (60, 20, at, 0)

    def test_folder_and_shards_show_the_same_view(self, pictures: Path, tmp_path: Path) -> None:
        members = {path.name: path.read_bytes() for path in sorted(pictures.iterdir())}
        write_tar(tmp_path / "x.tar", members)
        plain = folder_source(pictures, size=32)
        shards = shard_source(str(tmp_path / "x.tar"), size=32)
        view = View(across=0.2, down=0.9, flip=True)
        for i in range(6):
            a, b = plain.item(i, view), shards.item(i, view)
            assert (a.image == b.image).all() and a.sizes() == b.sizes()

    def test_each_content_and_view_is_encoded_once(self, pictures: Path, tmp_path: Path) -> None:
        seen: list[int] = []

        def encode(x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x.mean((1, 2, 3)).reshape(-1, 1, 1, 1).expand(-1, 2, 1, 1)

        def opened(views: Views, size: int = 32) -> Callable[..., Encoded]:
            seen.clear()
            source = Tolerant(folder_source(pictures, size=size))
            return open_latents(
                source, encode, views=views, size=size, spread=False, key="k", cache=tmp_path
            )

        probe = 1  # tells the shape of a row
        for views, fresh in (
            (Views(), 6),
            (Views(), 0),
            (Views(flip=True), 6),
            (Views(random=True, crops=2), 12),
            (Views(random=True, crops=3, flip=True), 24),
            (Views(random=True, crops=3, flip=True, seed=7), 0),
        ):
            latents = opened(views)
            assert sum(seen) - probe == fresh
            source = folder_source(pictures, size=32)
            for i in range(6):
                for epoch in range(3):
                    number = views.number(i, epoch)
                    item = source.item(i, views.view(source.digest(i), number))
                    wanted = to_signed(item.image[None]).mean()
                    assert latents([(i, epoch)]).rows[0, 0, 0, 0] == pytest.approx(wanted.item())
        opened(Views(), size=24)
        assert sum(seen) - probe == 6

    def test_known_pictures_are_not_opened_again(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def opened() -> int:
            source = Tolerant(folder_source(pictures, size=32))
            read: list[int] = []
            item = source.source.item
            monkeypatch.setattr(
                source.source, "item", lambda index, *view: read.append(index) or item(index, *view)
            )
            open_latents(
                source, lambda x: x, views=Views(), size=32, spread=False, key="k", cache=tmp_path
            )
            return len(read)

        assert opened() > 6
        assert opened() == 1

    def test_scenes_are_mirrored_from_a_file_of_their_own(
        self, teachers: Path, tmp_path: Path
    ) -> None:
        scenes = {"kind": "scenes", "count": 4, "cache": str(tmp_path)}
        plain: Any = trainer("lcd", tmp_path, teachers / "sd-plain", scenes).recipe
        both: Any = trainer("lcd", tmp_path, teachers / "sd-plain", scenes | {"flip": True}).recipe
        assert len(list(tmp_path.glob("latents-*.npy"))) == 2
        changed = same = 0
        for epoch in range(8):
            a, b = (r.latents([(i, epoch) for i in range(4)]).rows for r in (plain, both))
            for i in range(4):
                equal = torch.allclose(a[i], b[i], rtol=1e-4, atol=1e-5)
                assert equal != both.latents._views.at(i, epoch).flip
                changed, same = changed + (not equal), same + equal
        assert changed and same

    @pytest.mark.parametrize("how", ["cached", "online"])
    def test_sdxl_is_told_the_size_and_the_crop(
        self, how: str, teachers: Path, pictures: Path, tmp_path: Path
    ) -> None:
        data = {"path": str(pictures), "cache": str(tmp_path), "crop": "random", "latents": how}
        made: Any = trainer("lcd", tmp_path, teachers / "sdxl", data).recipe
        told: dict[str, torch.Tensor] = {}
        for name in ("teacher", "student"):
            getattr(made, name).register_forward_pre_hook(
                lambda net, args, kwargs, name=name: told.update(
                    {name: kwargs["added_cond_kwargs"]["time_ids"]}
                ),
                with_kwargs=True,
            )
        batch = made.batch(draw(epoch=1, count=6))
        originals = [Image.open(path).size for path in sorted(pictures.glob("*.png"))]
        assert batch["sizes"][:, :2].tolist() == [[h, w] for w, h in originals]
        for (w, h), (top, left) in zip(originals, batch["sizes"][:, 2:].tolist(), strict=True):
            scale = SIZE / min(w, h)
            assert 0 <= top <= h * scale - SIZE + 0.5 and 0 <= left <= w * scale - SIZE + 0.5
        assert batch["sizes"][:, 2:].any()
        made.loss(batch)
        wanted = torch.cat([batch["sizes"], torch.full((6, 2), float(SIZE))], 1)
        assert torch.equal(told["teacher"], torch.cat([wanted, wanted]))
        assert torch.equal(told["student"], wanted)

    def test_without_sizes_sdxl_is_told_of_a_whole_square(self) -> None:
        conditions = {"context": torch.zeros(2, 3, 4), "pooled": torch.zeros(2, 5)}
        ids = unet_arguments(conditions, 64)["added_cond_kwargs"]["time_ids"]
        assert ids.tolist() == [[64, 64, 0, 0, 64, 64]] * 2

    def test_pixel_recipes_show_the_views(self, pictures: Path, tmp_path: Path) -> None:
        recipe = find("edm")
        small = {"channels": (16,), "norm_groups": 8, "head_width": 8, "device": "cpu"}
        data = {"kind": "folder", "path": str(pictures), "crop": "random", "flip": True}
        config = recipe.Config(resolution=16, data=data, **small)
        made: Any = recipe(config, torch.device("cpu"))
        made.build()
        for epoch in range(3):
            found = made.pictures(draw(epoch))["x0"]
            for i in range(4):
                image = made.source.item(i, Views(random=True, flip=True).at(i, epoch)).image
                assert torch.equal(found[i], to_signed(image[None])[0])

    def test_scenes_have_nothing_to_crop(self) -> None:
        with pytest.raises(ValidationError, match="square"):
            DataConfig(crop="random")
        assert not TrainConfig().data.flip
