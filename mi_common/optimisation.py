"""Optimisers with a learning rate of their own for the head, and schedules of the learning rate."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mi_common.recipes import Training


def build_optimizer(trained: nn.Module, head: nn.Module, training: Training):
    """A `torch.optim.Optimizer` over all parameters of a module, the head's in the last group.

    Args:
        trained: the module, which may be the head itself.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    parameters = list(trained.parameters())
    head_lr = training.lr * training.head_lr_ratio
    groups = [{"params": [p for p in parameters if id(p) in in_head], "lr": head_lr}]
    if backbone := [p for p in parameters if id(p) not in in_head]:
        groups.insert(0, {"params": backbone, "lr": training.lr})
    shared = {"lr": training.lr, "weight_decay": training.weight_decay, "fused": True}
    if training.optimizer == "sgd":
        momentum = {"momentum": training.momentum, "nesterov": training.nesterov}
        return torch.optim.SGD(groups, **momentum, **shared)
    return torch.optim.AdamW(groups, **shared)


def build_scheduler(
    optimizer: torch.optim.Optimizer, training: Training, steps_per_epoch: int
) -> LRScheduler | None:
    """A scheduler to step after every batch; None if the learning rate never changes.

    "one-cycle" (Smith and Topin 2018) rises to the learning rate over three tenths of the steps and
    falls to nearly zero over the others. `learning_rate` defines the other schedules.
    """
    steps = training.epochs * steps_per_epoch
    if training.schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=steps)
    if training.schedule == "constant" and not training.warmup_epochs:
        return None
    warmup = training.warmup_epochs * steps_per_epoch
    return LambdaLR(optimizer, lambda step: learning_rate(training, step, steps, warmup))


def learning_rate(training: Training, step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate at one of `steps` steps.

    It rises linearly over the first `warmup` steps. Then "constant" stays, "step" falls tenfold at
    each of the milestones, and "cosine" falls to zero over the remaining steps.
    """
    if step < warmup:
        return (step + 1) / warmup
    if training.schedule == "step":
        return 0.1 ** sum(step >= steps * milestone for milestone in training.milestones)
    if training.schedule == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    return 1.0
