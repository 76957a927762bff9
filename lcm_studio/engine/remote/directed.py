"""Serve's part of the routing: a call goes to the replica that it names."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class Directed(RequestRouter):  # type: ignore[misc]
    """Sends a call to the replica that its first argument names: the front has chosen it."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        from lcm_studio.engine.remote import present

        super().update_replicas(replicas)
        present.names = tuple(sorted(r.replica_id.unique_id for r in replicas))

    def on_replica_actor_died(self, replica_id: Any) -> None:
        from lcm_studio.engine.remote import present

        super().on_replica_actor_died(replica_id)
        present.names = tuple(n for n in present.names if n != replica_id.unique_id)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        wanted = pending_request.args[0] if pending_request is not None else ""
        meant = [r for r in candidate_replicas if r.replica_id.unique_id == wanted]
        # one that is gone: any other says that it was not meant, and the front chooses again
        return [meant or candidate_replicas[:1]]
