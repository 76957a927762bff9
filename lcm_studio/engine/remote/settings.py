"""What a deployment of engines is made with: flags of `serve`, and the arguments in a config file of Ray Serve."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.ray import ray_token

if TYPE_CHECKING:
    from lcm_studio.engine import Engine

MANY = 10_000  # calls at once: the front lets in what there is room for, so that Serve need not
DRAIN = 300.0  # seconds that requests in work have to end when a replica is to go


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`replicas`: engines, at least; up to `max_replicas` as requests come. `gpus`, `cpus`: of each replica.

    `model`: loaded before a replica is ready, "" = none. `queue_size`: requests that may wait. Others: of EngineConfig.
    """

    model: str = ""
    replicas: int = 1
    max_replicas: int = 0
    gpus: float = 0.0
    cpus: float = 1.0
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "auto"
    models_dirs: tuple[str, ...] = ()
    embeddings_dirs: tuple[str, ...] = ()
    offline: bool = True
    queue_size: int = 256
    name: str = "lcm-studio"

    @property
    def token(self) -> str:
        """What clients must show; from the environment, so that no config file holds it."""
        return os.environ.get("LCM_STUDIO_ENGINE_TOKEN", "")

    def plain(self) -> dict[str, Any]:
        """As a config file holds them."""
        lists = {
            "models_dirs": list(self.models_dirs),
            "embeddings_dirs": list(self.embeddings_dirs),
        }
        return {**asdict(self), **lists}

    def engine(self) -> Engine:
        """An engine with nothing loaded."""
        from lcm_studio.engine import Engine, EngineConfig
        from lcm_studio.engine.config import default_folders

        return Engine(
            EngineConfig(
                device=self.device,
                dtype=self.dtype,
                backend=self.backend,
                models_dirs=(*default_folders(), *(Path(d) for d in self.models_dirs)),
                embeddings_dirs=tuple(Path(d) for d in self.embeddings_dirs),
                offline=self.offline,
            )
        )

    def of_replicas(self) -> dict[str, Any]:
        """Options of Serve for the engines: how many, what each takes, health, draining."""
        scale: dict[str, Any] = {"num_replicas": self.replicas}
        if self.max_replicas > self.replicas:
            scale = {
                "autoscaling_config": {
                    "min_replicas": self.replicas,
                    "initial_replicas": self.replicas,
                    "max_replicas": self.max_replicas,
                    "target_ongoing_requests": 8,
                    "upscale_delay_s": 10,
                    "downscale_delay_s": 300,
                }
            }
        actor: dict[str, Any] = {"num_cpus": self.cpus}
        if self.gpus:
            actor["num_gpus"] = self.gpus
        return {
            "name": "Replica",
            **scale,
            "ray_actor_options": actor,
            "max_ongoing_requests": MANY,
            "graceful_shutdown_timeout_s": DRAIN,
            "health_check_period_s": 10,
            "health_check_timeout_s": 60,
        }

    def of_door(self) -> dict[str, Any]:
        """Options of Serve for the front."""
        return {
            "name": "Door",
            "num_replicas": 1,
            "ray_actor_options": {"num_cpus": 0},
            "max_ongoing_requests": MANY,
            "graceful_shutdown_timeout_s": DRAIN,
        }

    def config_file(self, host: str, port: int) -> str:
        """The YAML that `serve deploy FILE` takes; this module's options are in it, to be changed there."""
        import yaml

        replicas = {**self.of_replicas(), "request_router_config": {
            "request_router_class": "lcm_studio.engine.remote.directed:Directed"
        }}  # fmt: skip
        whole = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": host, "port": port},
            "applications": [
                {
                    "name": self.name,
                    "route_prefix": "/",
                    "import_path": "lcm_studio.engine.remote.deployment:application",
                    "args": self.plain(),
                    "deployments": [self.of_door(), replicas],
                }
            ],
        }
        return yaml.safe_dump(whole, sort_keys=False)


def send_token(address: str) -> None:
    """Before Ray is imported: a cluster of a given address gets the token of this machine, where there is one.

    Ray looks for it by itself only where no address is given.
    """
    if address and ray_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
