"""Where models are found: bundled ones, folders, hub ids and single files. No torch."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcm_studio.models import ip_adapter_file
from lcm_studio.models.catalog import read_info, scan
from lcm_studio.models.controlnet import FOLDER, check_fit, facts_of, fits
from lcm_studio.models.kinds.memory import KindMemory
from lcm_studio.models.tiny import FAST, tiny_folder
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import ControlSpec, IPAdapterSpec, Sampling

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Registry:
    """Names to model folders. Results are kept until a folder's model_index.json changes.

    `fetch`: in place of `hub.fetch_model`, one that tells how far it is.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        *,
        offline: bool = True,
        fetch: Callable[..., Path] | None = None,
    ) -> None:
        self.folders = folders
        self._fetch = fetch
        self.offline = offline
        self.memory = KindMemory()
        self._kept: dict[str, tuple[int, ModelInfo]] = {}
        self._kept_singles: dict[tuple[Any, ...], ModelInfo] = {}
        self._fetched: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._fetching = threading.Lock()

    def catalog(self) -> tuple[ModelInfo, ...]:
        """All models that could be loaded from the known folders: diffusers folders, then single files by their file's name."""
        return (*scan(self.folders)[0], *self._singles()[0])

    def broken(self) -> dict[str, str]:
        """{name of a folder or file: why it cannot be loaded} in the known folders."""
        return scan(self.folders)[1] | self._singles()[1]

    def _singles(self) -> tuple[list[ModelInfo], dict[str, str]]:
        """(the single files that can be opened, {name: why another cannot}); each is read once."""
        infos: dict[str, ModelInfo] = {}
        broken: dict[str, str] = {}
        folders: tuple[Path, ...] | None = None
        for root in self.folders:
            for path in sorted(root.glob("*.safetensors")) if root.is_dir() else ():
                if path.name in infos:
                    continue
                folders = self.model_folders() if folders is None else folders
                try:
                    infos[path.name] = self._single(path, folders)
                except ModelError as error:
                    broken[path.name] = str(error)
        return list(infos.values()), broken

    def _single(self, path: Path, folders: tuple[Path, ...]) -> ModelInfo:
        """What a single file is. Raises ModelError where it cannot be opened with the configs that are there."""
        from lcm_studio.models.single import single_info

        try:
            stat = path.stat()
        except OSError as error:
            raise ModelError(
                f"{path.name} cannot be read ({error.strerror}); check its rights"
            ) from error
        key = (str(path), stat.st_mtime_ns, stat.st_size, folders)
        with self._lock:
            kept = self._kept_singles.get(key)
        if kept is None:
            kept = replace(single_info(path, folders, self.memory), id=path.name)
            with self._lock:
                self._kept_singles[key] = kept
        return kept

    def info(self, model_id: str) -> ModelInfo:
        """What `model_id` is. Raises ModelError with the remedy where it is unknown or unusable."""
        folder = self.folder(model_id)
        if folder.suffix.lower() == ".safetensors":
            from lcm_studio.models.single import single_info

            info: ModelInfo = replace(
                single_info(folder, self.model_folders(), self.memory), id=model_id
            )
            return info
        stamp = (folder / "model_index.json").stat().st_mtime_ns
        with self._lock:
            kept = self._kept.get(model_id)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        info = read_info(folder, model_id)
        with self._lock:
            self._kept[model_id] = (stamp, info)
        return info

    def remember(self, request: Sampling, info: ModelInfo) -> None:
        """Keeps the kind that a user names for files which do not say what they are."""
        from lcm_studio.models.kinds.recognise import of_lora

        with self._lock:
            self._kept_singles.clear()
        for lora in request.loras:
            try:
                of_lora(Path(lora.path), info.kind, self.memory)
            except BadRequest:
                self.memory.remember(Path(lora.path), request.kind)
                return
        if info.path.lower().endswith(".safetensors") and "told by its configs" in info.why:
            self.memory.remember(Path(info.path), request.kind)

    def folder(self, model_id: str) -> Path:
        """The folder (or single .safetensors file) of a name, path or hub id."""
        if not isinstance(model_id, str) or not model_id.strip() or "\x00" in model_id:
            raise ModelError("no model is named; choose one from the list")
        if len(model_id) > 1000:
            raise ModelError(
                f"a model name of {len(model_id)} characters is no name; choose one from the list"
            )
        try:
            return self._find(model_id)
        except OSError as error:
            raise ModelError(
                f"model {model_id[:80]!r} cannot be read ({error.strerror}); choose one from the list"
            ) from error

    def _find(self, model_id: str) -> Path:
        for root in self.folders:
            candidate = root / model_id
            if Path(model_id).name != model_id:
                break
            if (candidate / "model_index.json").is_file():
                return candidate
            if candidate.suffix.lower() == ".safetensors" and candidate.is_file():
                return candidate
        path = Path(model_id).expanduser()
        if (path / "model_index.json").is_file():
            return path
        if path.is_file():
            if path.suffix.lower() != ".safetensors":
                raise ModelError(
                    f"{path.name} is no .safetensors file; pickled checkpoints can run code and are not loaded"
                )
            return path
        if path.is_dir():
            raise ModelError(
                f"{path} has no model_index.json; give the folder of a whole diffusers pipeline"
            )
        if HUB_ID.fullmatch(model_id) and not path.exists():
            return self._hub(model_id)
        names = ", ".join(info.id for info in self.catalog()) or "none found"
        raise ModelError(f"model {model_id!r} is unknown; choose one of: {names}, or give a folder")

    def model_folders(self) -> tuple[Path, ...]:
        """The diffusers folders of the catalog."""
        return tuple(Path(info.path) for info in scan(self.folders)[0])

    def decoder(self, name: str, info: ModelInfo | None = None) -> Path:
        """The folder of a decoder by name or path; `fast` is the tiny one for the latents of `info`."""
        if name == FAST:
            tiny = info and tiny_folder(info.kind, self.folders, Path(info.path))
            if tiny:
                return tiny
            raise ModelError(
                "there is no tiny decoder for this model; put taesd/ or taesdxl/ beside the models, or vae_tiny/ into its folder"
            )
        for path in (*(root / name for root in self.folders), Path(name).expanduser()):
            if (path / "config.json").is_file():
                return path
        raise ModelError(
            f"decoder {name!r} is unknown; use default or the folder of an autoencoder"
        )

    def controls(self, info: ModelInfo) -> tuple[str, ...]:
        """Names of the ControlNets in folders `controlnets` beside the models that fit a model, sorted."""
        names = set()
        for name, path in self._controlnets():
            with contextlib.suppress(ModelError):
                if fits(facts_of(path), info):
                    names.add(name)
        return tuple(sorted(names))

    def control(self, spec: ControlSpec, info: ModelInfo) -> Path:
        """The folder or file of a ControlNet by name or path. Raises BadRequest or ModelError where it is none for this model."""
        path = Path(spec.path).expanduser()
        if path.name == spec.path:
            names = (spec.path, spec.path.removesuffix(".safetensors"))
            path = next((one for name, one in self._controlnets() if name in names), path)
        if not path.exists():
            known = ", ".join(self.controls(info)) or "none are there"
            raise BadRequest(
                f"ControlNet {spec.path[:80]!r} is unknown; give its diffusers folder or .safetensors file, or put it into a folder "
                f"{FOLDER}/ beside the models (for this model: {known})"
            )
        check_fit(path, info)
        return path

    def ip_adapters(self, info: ModelInfo) -> tuple[str, ...]:
        """Names of the IP-Adapters in folders `ip_adapters` beside the models that fit a model, sorted."""
        names = set()
        for path in self._ip_adapters():
            with contextlib.suppress(ModelError):
                if ip_adapter_file.fits(ip_adapter_file.facts_of(path), info):
                    names.add(path.stem)
        return tuple(sorted(names))

    def ip_adapter(self, spec: IPAdapterSpec, info: ModelInfo) -> tuple[Path, Path]:
        """The file of an IP-Adapter by name or path, and the folder of its image encoder.

        Raises BadRequest or ModelError where one is missing, or none for this model.
        """
        path = Path(spec.path).expanduser()
        if path.name == spec.path:
            names = (spec.path, spec.path.removesuffix(".safetensors"))
            path = next((one for one in self._ip_adapters() if one.stem in names), path)
        if not path.exists():
            known = ", ".join(self.ip_adapters(info)) or "none are there"
            raise BadRequest(
                f"IP-Adapter {spec.path[:80]!r} is unknown; give its .safetensors file, or put it into a folder "
                f"{ip_adapter_file.FOLDER}/ beside the models (for this model: {known})"
            )
        facts = ip_adapter_file.check_fit(path, info)
        roots = [root / ip_adapter_file.FOLDER for root in self.folders]
        return path, ip_adapter_file.find_encoder(path, facts, spec.encoder, roots, Path(info.path))

    def _ip_adapters(self) -> list[Path]:
        roots = (root / ip_adapter_file.FOLDER for root in self.folders)
        return [path for root in roots for path in ip_adapter_file.adapter_files(root)]

    def _controlnets(self) -> list[tuple[str, Path]]:
        """(name, folder or file) of what lies in the folders `controlnets`; of two with one name the first."""
        roots = [root / FOLDER for root in self.folders if (root / FOLDER).is_dir()]
        return [
            (path.stem if path.is_file() else path.name, path)
            for root in roots
            for path in sorted(root.iterdir())
            if path.is_dir() or path.suffix.lower() == ".safetensors"
        ]

    def decoders(self) -> tuple[str, ...]:
        """Names that `decoder` takes: default and the autoencoder folders beside the models."""
        found = [
            path.name
            for root in self.folders
            if root.is_dir()
            for path in sorted(root.iterdir())
            if (path / "config.json").is_file() and not (path / "model_index.json").is_file()
        ]
        tiny = any(tiny_folder(i.kind, self.folders, Path(i.path)) for i in self.catalog())
        return ("default", *((FAST,) if tiny else ()), *found)

    def _hub(self, model_id: str) -> Path:
        """The folder of a hub id, asked for once: every request looks its model up, and none should wait for that."""
        from lcm_studio.models.hub import HubError, fetch_model

        if self._still_there(model_id):
            return self._fetched[model_id]
        with self._fetching:
            if self._still_there(model_id):
                return self._fetched[model_id]
            try:
                folder = (self._fetch or fetch_model)(model_id, offline=self.offline)
            except HubError as error:
                raise ModelError(f"model {model_id!r} is not available: {error}") from error
            self._fetched[model_id] = folder
            return folder

    def _still_there(self, model_id: str) -> bool:
        """False before it was fetched, and after its cache was emptied."""
        folder = self._fetched.get(model_id)
        return folder is not None and (folder / "model_index.json").is_file()
