"""The fit of a model: its batches, its loss, and `mi_common.optimisation` in one call."""

from contextlib import nullcontext

from torch import nn

from mi_common.engine import fit
from mi_common.optimisation import build_optimizer, build_scheduler
from mi_common.records import RunFolder
from mi_common.runtime import one_thread
from pc_softmax.data import Part
from pc_softmax.losses import ReweightedLoss
from pc_softmax.models import Model


def fit_model(
    model: Model,
    part: Part,
    objective: nn.Module,
    run: RunFolder,
    *,
    seed: int,
    balanced: bool,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    optimizer: str,
    momentum: float,
    schedule: str,
    warmup_epochs: int,
    head_lr_ratio: float,
    copies: int,
) -> list[dict]:
    """Trains what is to be trained of a model, or goes on with it, and returns the metrics.

    Args:
        objective: a loss of `pc_softmax.losses`.
        balanced, copies: see `Model.batches`.
        lr: of all but the last layer, whose rate is `head_lr_ratio` times that.
        schedule: see `mi_common.optimisation.learning_rate`.
    """
    batches = model.batches(
        part, batch_size=batch_size, seed=seed, balanced=balanced, copies=copies
    )
    chosen = build_optimizer(
        model.trained,
        model.last,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        head_lr_ratio=head_lr_ratio,
        momentum=momentum,
    )
    scheduler = build_scheduler(
        chosen, schedule, steps=epochs * len(batches), warmup=warmup_epochs * len(batches)
    )
    with one_thread() if model.head_only else nullcontext():
        return fit(
            model.trained,
            batches,
            objective,
            chosen,
            epochs=epochs,
            runtime=model.runtime,
            scheduler=scheduler,
            run=run,
            before_epoch=objective.start_epoch if isinstance(objective, ReweightedLoss) else None,
            description=f"seed {seed}",
        )
