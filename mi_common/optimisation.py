"""Optimisers, with a learning rate of their own for the last layer, and schedules of the rate."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "step", "cosine")


def build_optimizer(
    trained: nn.Module,
    last: nn.Module,
    *,
    optimizer: str,
    lr: float,
    weight_decay: float,
    head_lr_ratio: float = 1.0,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """An optimiser over all of a module's parameters, the last layer's in the last group.

    Args:
        trained: the module, which may be the last layer itself.
        last: its last layer.
        optimizer: one of OPTIMIZERS.
        lr: of all but the last layer, whose rate is `head_lr_ratio` times that.
        momentum, nesterov: of SGD.
    """
    own = {id(parameter) for parameter in last.parameters()}
    parameters = list(trained.parameters())
    groups = [{"params": [p for p in parameters if id(p) in own], "lr": lr * head_lr_ratio}]
    if rest := [p for p in parameters if id(p) not in own]:
        groups.insert(0, {"params": rest, "lr": lr})
    shared = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    if optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, **shared)
    return torch.optim.AdamW(groups, **shared)


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: str, *, steps: int, warmup: int = 0
) -> LRScheduler | None:
    """A scheduler to step after every batch; None where the learning rate never changes.

    Args:
        schedule: one of SCHEDULES, or "one-cycle" (Smith and Topin 2018): up to the learning rate
            over three tenths of the steps, down to nearly zero over the others.
        steps: in all.
        warmup: steps at the beginning, see `learning_rate`; "one-cycle" has its own.
    """
    if schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=steps)
    if schedule == "constant" and not warmup:
        return None
    return LambdaLR(optimizer, lambda step: learning_rate(schedule, step, steps, warmup))


def learning_rate(schedule: str, step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate at a step of `steps`.

    It rises linearly over the first `warmup` steps; then "constant" stays, "step" falls tenfold at
    a half and at three quarters of all steps, "cosine" falls to zero over those that are left.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "step":
        return 0.1 ** ((step >= steps / 2) + (step >= steps * 3 / 4))
    if schedule == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    return 1.0
