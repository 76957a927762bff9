"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

from collections.abc import Callable

from training.config import TrainConfig


def factor(config: TrainConfig) -> Callable[[int], float]:
    """step -> multiplier of the peak learning rate: diffusers' schedules, and `trapezoid`."""
    warm, steps = config.lr_warmup_steps, config.steps
    if config.lr_scheduler == "trapezoid":
        tail = max(1, round(config.lr_tail * steps))

        def trapezoid(step: int) -> float:
            rise = (step + 1) / warm if step < warm else 1.0
            return max(0.0, min(rise, (steps - step) / tail))

        return trapezoid
    import torch
    from diffusers.optimization import get_scheduler

    probe = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_scheduler(
        config.lr_scheduler,
        probe,
        num_warmup_steps=warm,
        num_training_steps=steps,
        num_cycles=int(config.lr_cycles) if config.lr_cycles >= 1 else 1,
        power=config.lr_power,
    )
    rule = schedule.lr_lambdas[0]
    return lambda step: float(rule(step))
