"""What a run will take, before it starts: parameters, memory, steps, pictures, disk, time.

Nothing is kept; the time is measured in a scratch folder, see `estimate`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import TrainConfig
from training.errors import TrainingFault
from training.networks import check_teacher, weight_bytes

if TYPE_CHECKING:
    from training.estimate import Times

_COPIES_TRAINED = 4  # weights, gradient, two moments of Adam; float32
_MB = 2**20


LATENT_STUDENTS = ("lcd", "dmd", "lcm-lora")
TEXT_RECIPES = ("teacher", *LATENT_STUDENTS)  # which learn from captions


def plan(
    recipe: str, config: TrainConfig, output: Path = Path(), *, timed: bool = True, age: float = 0.0
) -> str:
    """The plan as lines of text; raises TrainingFault for what would end the run at once.

    `output`: the run's folder, on whose disk there must be room. `timed`: whether its time is measured, by trying it;
    `age`: the seconds that this process has taken to come here, as the run's will.
    """
    from training.accelerator import check_device

    check_device(config)
    pictures, captions = _examples(config)
    per_step = config.batch_size * config.gradient_accumulation_steps
    lines = [
        f"recipe      {recipe}, {config.steps} steps of {per_step} pictures at {config.resolution} px",
        _data(config, pictures, config.steps * per_step),
        f"precision   {config.mixed_precision}, device {config.device}, seed {config.seed}",
    ]
    if captions and recipe in TEXT_RECIPES:
        lines.append(f"captions    {captions}")
    for key in ("autoencoder", "start_from"):
        place = getattr(config, key, "")
        if place and not Path(place).is_dir():
            raise TrainingFault(
                "missing_weights", f"{key}={place!r} is no folder; give one of a finished run"
            )
    teacher = getattr(config, "teacher", "")
    if teacher:
        lines += _sizes(recipe, Path(teacher), config, output)
    lines += _caches(recipe, config, pictures)
    saves = config.steps // config.checkpoint_every + 1
    lines.append(
        f"checkpoints every {config.checkpoint_every} steps, {saves} in all, "
        f"the newest {config.keep_checkpoints} are kept"
    )
    if config.validate_every:
        lines.append(f"pictures    every {config.validate_every} steps into samples/")
    lines += _time(recipe, config, pictures, age) if timed else []
    return "\n".join(lines)


def _data(config: TrainConfig, pictures: int | None, drawn: int) -> str:
    if pictures is None:
        return f"data        {config.data.path}, counted when the run opens it; {drawn} pictures are drawn"
    passes = drawn / pictures
    return f"data        {pictures} pictures, seen {passes:.1f} times each on average"


def _time(recipe: str, config: TrainConfig, pictures: int | None, age: float) -> list[str]:
    """Measured where the memory for it is there."""
    needed = 8 * 4 * _trained(config)
    free = _free_memory(config)
    if free is not None and needed > 0.6 * free:
        return ["time        not measured: memory is short; the first event tells steps/s"]
    from training.estimate import measure

    try:
        times = measure(recipe, config, age=age)
    except TrainingFault as fault:
        if fault.reason in ("config", "missing_weights"):  # the run would end the same way
            raise
        why: Exception = fault
    except (RuntimeError, ValueError, TypeError, OSError, MemoryError) as error:
        why = error
    else:
        return time_lines(config, times, cache_counts(recipe, config, pictures))
    first = (str(why).splitlines() or ["no reason given"])[0][:80]
    return [f"time        not measured ({first}); the first event tells steps/s"]


def time_lines(config: TrainConfig, times: Times, counts: Mapping[str, int]) -> list[str]:
    """The sum of a run's parts, and the parts. `counts`: what caches may lack, of pictures rendered, encoded and captions."""
    saves = _times(config.steps, config.checkpoint_every) + 1  # the finished model is one more
    sheets = _times(config.steps, config.validate_every)
    filling = sum(getattr(times, name) * count for name, count in counts.items())
    parts = {
        "before the first step": times.start,
        "encoding of what the caches lack, at most": filling,
        "validation pictures": None
        if times.validation is None or times.teacher is None
        else times.teacher + sheets * times.validation,
        "checkpoints and the model": None if times.checkpoint is None else saves * times.checkpoint,
    }
    if not config.validate_every:
        del parts["validation pictures"]
    total = times.step * config.steps + sum(seconds or 0 for seconds in parts.values())
    told = [f"{name} {_duration(seconds)}" for name, seconds in parts.items() if seconds]
    beside = [name for name, seconds in parts.items() if seconds is None]
    if getattr(config, "path_share", 0):
        beside.append("solving of paths")
    lines = [
        f"time        about {_duration(total)} on {times.device}: {config.steps} steps at {1 / times.step:.3g} steps/s, "
        f"measured now with {times.measured} pictures a step",
        f"            in it: {'; '.join(told)}",
    ]
    return [*lines, *([f"            on top: {', '.join(beside)}"] if beside else [])]


def _times(steps: int, every: int) -> int:
    """How often something is due: after every `every` steps and the last; 0 for never."""
    return -(-steps // every) if every else 0


def _trained(config: TrainConfig) -> int:
    """Parameters of the network that `estimate` would build, where its folder tells."""
    root = Path(getattr(config, "teacher", "") or getattr(config, "start_from", "") or "")
    return weight_bytes(root / "unet")[0] if (root / "unet").is_dir() else 0


def _free_memory(config: TrainConfig) -> int | None:
    """Bytes free on the device of a config; None where the system does not tell."""
    from training.accelerator import device_of

    device = device_of(config.device)
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(kilobytes) * 1024 for kilobytes in found), None)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def _examples(config: TrainConfig) -> tuple[int | None, str]:
    """How many examples there are, and what is to say of their captions; only listings and headers are
    read. None for what lies elsewhere."""
    data = config.data
    if data.kind == "scenes":
        return min(data.limit, data.count) if data.limit else data.count, ""
    if not data.path:
        raise TrainingFault("data", f"data.kind={data.kind} needs data.path; name it in the config")
    if data.kind == "huggingface":
        return None, ""
    from training.data.load import missing_captions, open_source

    source = open_source(config)
    return len(source), missing_captions(source)


def _sizes(recipe: str, teacher: Path, config: TrainConfig, output: Path) -> list[str]:
    if recipe in LATENT_STUDENTS:
        total = check_teacher(teacher).parameters
        network = weight_bytes(teacher / "unet")[0]
    else:  # a pixel-space model, or its network alone
        where = teacher / "unet" if (teacher / "unet").is_dir() else teacher
        total = network = weight_bytes(where)[0]
    rest = total - network
    # distribution matching trains two networks, and keeps what the student was instead of a target network
    trained, target = (2, 0) if recipe in ("dmd", "pixel-dmd") else (1, 1)
    average = bool(config.ema_decay)
    copies = 4 * network * (trained * (_COPIES_TRAINED + average) + 2)  # the teacher, and one more
    checkpoint = 4 * network * (trained * (3 + average) + target)
    disk = checkpoint * (config.keep_checkpoints + 1) + 4 * (network + rest)
    free = _free_disk(output)
    if recipe != "lcm-lora" and disk > free:  # a LoRA's checkpoints hold the adapter alone
        raise TrainingFault(
            "disk",
            f"the run needs {disk / _MB:.0f} MB and {free / _MB:.0f} MB are free in {output}; free some, "
            "give another --output, or lower keep_checkpoints",
        )
    return [
        f"parameters  {network / 1e6:.1f} M trained, {rest / 1e6:.1f} M frozen beside them",
        _memory(config, copies, 4 * rest),
        f"disk        {disk / _MB:.0f} MB of {free / _MB:.0f} MB that are free: "
        f"{checkpoint / _MB:.0f} MB a checkpoint, and the model",
    ]


def _free_disk(output: Path) -> int:
    """Bytes free where `output` is or will be."""
    place = output.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _memory(config: TrainConfig, copies: int, rest: int) -> str:
    """Bytes of what sharding splits, and of what every process has all of."""
    if config.sharding == "none":
        total = (copies + rest) / _MB
        return f"memory      {total:.0f} MB for weights, gradients and averages, activations on top"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    what = "weights, gradients and averages, gathered blocks and activations on top"
    if world > 1:
        return f"memory      {(copies / world + rest) / _MB:.0f} MB in each of {world} processes for {what}"
    return f"memory      {rest / _MB:.0f} MB in each process and its share of {copies / _MB:.0f} MB for {what}"


def _caches(recipe: str, config: Any, pictures: int | None) -> list[str]:
    if pictures is None:
        return [f"caches      in {config.data.cache}, as large as the data set turns out"]
    sizes = cache_bytes(recipe, config, pictures)
    if not sizes:
        return []
    each = " + ".join(f"{size / _MB:.0f} MB {name}" for name, size in sizes.items())
    return [
        f"caches      at most {each} in {config.data.cache}, kept for other runs on the same data"
    ]


def cache_bytes(recipe: str, config: Any, pictures: int) -> dict[str, int]:
    """Bytes, at most, of what one process makes once of `pictures` pictures and keeps in data.cache.

    Copies of a picture and captions of the same words share a row; what other runs made is there already.
    """
    data, found = config.data, {}
    if data.kind == "scenes":
        found["rendered scenes"] = pictures * 3 * config.resolution**2
    root = Path(getattr(config, "teacher", ""))
    vae = Path(config.autoencoder) if recipe == "teacher" else root / "vae"
    about = vae / "config.json"
    reads = getattr(config, "reads_pictures", True)  # dmd may do without
    if recipe in TEXT_RECIPES and reads and about.is_file() and data.latents == "cached":
        found["latents"] = pictures * _views(config) * _row(about, config.resolution)
    if getattr(config, "path_share", 0) and about.is_file():
        from training.objectives.paths import BLOCK, KEPT

        row = _row(about, config.resolution, copies=1)
        found["solved paths"] = -(-config.paths // BLOCK) * BLOCK * (KEPT + 1) * row
    texts = sorted(root.glob("text_encoder*/config.json")) if recipe in LATENT_STUDENTS else []
    if texts and data.text == "cached":
        drawn = config.steps * config.gradient_accumulation_steps * config.batch_size
        captions = 1 + (drawn if data.kind == "scenes" else min(drawn, pictures))
        wanted = captions * sum(map(_embedding, texts))
        found["captions"] = min(wanted, data.text_cache_mb * 10**6)
    return found


def cache_counts(recipe: str, config: Any, pictures: int | None) -> dict[str, int]:
    """How many pictures are rendered and encoded and captions encoded, at most, before or beside the steps."""
    if pictures is None:
        return {}
    sizes, data = cache_bytes(recipe, config, pictures), config.data
    counts = {}
    if data.kind == "scenes" and (data.stored or "latents" in sizes):
        counts["rendering"] = pictures
    if "latents" in sizes:
        counts["encoding"] = pictures * _views(config)
    if "captions" in sizes:
        root = Path(config.teacher)
        row = sum(map(_embedding, sorted(root.glob("text_encoder*/config.json"))))
        counts["caption"] = sizes["captions"] // row
    return counts


def _views(config: TrainConfig) -> int:
    from training.data.views import Views

    return Views.of(config, cached=True).count


def _row(about: Path, resolution: int, copies: int = 0) -> int:
    """Bytes of the cached latents of a picture; an AutoencoderKL has a mean and a deviation.

    `copies`: how many latents, where it is not the autoencoder that tells.
    """
    from training.estimate import down

    fields = json.loads(about.read_text())
    copies = copies or (1 if fields.get("_class_name") == "AutoencoderTiny" else 2)
    side = resolution // down(fields)
    return 4 * copies * int(fields.get("latent_channels", 4)) * side**2


def _embedding(about: Path) -> int:
    """Bytes of what an encoder says of a caption: its states, and SDXL's second one a pooled vector."""
    fields = json.loads(about.read_text())
    states = int(fields.get("max_position_embeddings", 77)) * int(fields["hidden_size"])
    pooled = int(fields.get("projection_dim", 0)) if about.parent.name.endswith("_2") else 0
    return 4 * (states + pooled)
