"""The one training loop, and the one prediction loop.

batches = TensorBatches(images, labels, batch_size=64, seed=0, runtime=runtime)
fit(model, batches, loss, optimizer, epochs=8, runtime=runtime)
logits = predict(model, test_images, runtime=runtime)
"""

import functools
import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mi_common.errors import UserError
from mi_common.image_sets import ImageFileDataset, ImageSet
from mi_common.progress import Progress
from mi_common.records import RunFolder
from mi_common.runtime import Runtime, rng_state, set_rng_state


class DivergedError(UserError):
    """The loss of a training run is not finite."""


class _ShuffledBatches:
    """Batches in an order that depends on the seed and the epoch alone.

    So it is the same on every device and after a resume, and several processes share one order.
    `epoch` yields a process's inputs, labels, and the batch size of all processes together.
    """

    def __init__(self, size: int, *, batch_size: int, seed: int, runtime: Runtime):
        if batch_size < runtime.world_size:
            raise UserError(f"--batch-size {batch_size}: at least one sample for each process")
        self.size, self.batch_size, self.seed, self.runtime = size, batch_size, seed, runtime

    def __len__(self) -> int:
        # A remainder too small to give every process a sample is left out of that epoch.
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest >= self.runtime.world_size)

    def _epoch_seed(self, epoch: int) -> int:
        return self.seed * 1_000_003 + epoch

    def _order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(self.size, generator=generator)

    def _positions(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """This process's positions of each batch, and the size of the whole batch."""
        order = self._order(torch.Generator().manual_seed(self._epoch_seed(epoch)))
        for batch in order.split(self.batch_size)[: len(self)]:
            yield batch[self.runtime.rank :: self.runtime.world_size], len(batch)


class TensorBatches(_ShuffledBatches):
    """Shuffled batches of tensors that lie on the device.

    With `balanced`, an epoch is N draws by `class_cycle`. Half-precision inputs, as cached features
    are, become float32 a batch at a time. With `augment`, images are shifted and flipped at random;
    see `shifted_and_flipped`.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        balanced: bool = False,
        augment: bool = False,
        **shuffling,
    ):
        """`shuffling`: `batch_size`, `seed`, `runtime`."""
        if len(inputs) != len(labels):
            raise UserError(f"{len(inputs)} inputs but {len(labels)} labels")
        super().__init__(len(inputs), **shuffling)
        self.inputs = inputs.to(self.runtime.device)
        self.labels = labels.to(self.runtime.device)
        self.balanced, self.augment = balanced, augment

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.balanced:
            order = class_cycle(self.labels.cpu(), self.size, generator)
        else:
            order = super()._order(generator)
        return order.to(self.runtime.device)  # once an epoch, not once a batch

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        generator = torch.Generator().manual_seed(self._epoch_seed(epoch) + self.runtime.rank)
        for positions, global_size in self._positions(epoch):
            inputs = self.inputs[positions]
            if inputs.dtype == torch.float16:
                inputs = inputs.float()
            if self.augment:
                inputs = shifted_and_flipped(inputs, generator)
            yield inputs, self.labels[positions], global_size


def class_cycle(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Positions of samples, every class equally often (Kang et al. 2020, cRT's sampler).

    The classes follow each other in a random order, which is drawn anew when all have had their
    turn, and so do the samples of each class. (N,) labels -> (count,) int64 positions.
    """

    def cycle(values: Tensor, length: int) -> Tensor:
        orders = range(-(-length // len(values)))
        order = [values[torch.randperm(len(values), generator=generator)] for _ in orders]
        return torch.cat(order)[:length]

    classes = cycle(labels.unique(), count)
    positions = torch.empty(count, dtype=torch.int64)
    for label in labels.unique():
        turns = (classes == label).nonzero().flatten()
        if len(turns):
            positions[turns] = cycle((labels == label).nonzero().flatten(), len(turns))
    return positions


def shifted_and_flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) images, each shifted by up to an eighth of its sides and mirrored half the time.

    The border is filled with zeros, which is the mean of normalised pixels. The generator is on the
    CPU, so that all devices draw the same.
    """
    (count, _, height, width), device = images.shape, images.device
    pad_y, pad_x = height // 8, width // 8
    padded = nn.functional.pad(images, [pad_x, pad_x, pad_y, pad_y])
    top = torch.randint(2 * pad_y + 1, (count, 1), generator=generator)
    left = torch.randint(2 * pad_x + 1, (count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = (top + torch.arange(height)).to(device)
    columns = torch.arange(width).expand(count, -1)
    columns = (left + torch.where(mirrored, columns.flip(1), columns)).to(device)
    samples = torch.arange(count, device=device)[:, None, None]
    cut = padded[samples, :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return cut.permute(0, 3, 1, 2)


class ImageBatches(_ShuffledBatches):
    """Shuffled batches of image files that worker processes read.

    What a random transform makes of an image depends on the seed and the epoch alone too, whatever
    the number of workers.
    """

    def __init__(self, images: ImageSet, transform: Callable, *, num_workers: int = 2, **shuffling):
        """`shuffling`: `batch_size`, `seed`, `runtime`."""
        super().__init__(len(images), **shuffling)
        self.images, self.transform, self.num_workers = images, transform, num_workers

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        batches = list(self._positions(epoch))
        # Less than 64 bits, for the data set multiplies the seed by the number of images.
        seed, device = self._epoch_seed(epoch) % 2**32, self.runtime.device
        loader = torch.utils.data.DataLoader(
            ImageFileDataset(self.images.images, self.transform, seed=seed),
            batch_sampler=[positions.tolist() for positions, _ in batches],
            num_workers=self.num_workers,
            pin_memory=device.type == "cuda",
        )
        for images, (positions, global_size) in zip(loader, batches, strict=True):
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
            yield images, self.images.labels[positions].to(device), global_size


def fit(
    model: nn.Module,
    batches: TensorBatches | ImageBatches,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    runtime: Runtime,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    run: RunFolder | None = None,
    before_epoch: Callable[[int], None] | None = None,
    after_epoch: Callable[[], bool] | None = None,
    description: str | None = None,
) -> list[dict]:
    """Trains `model` in place and returns the metrics of every epoch.

    Args:
        model: already on the device; maps inputs to (B, K) logits.
        loss: mean loss of (B, K) logits and (B,) labels.
        epochs: total passes; a resumed run does what is left of them.
        scheduler: stepped after every batch.
        run: where checkpoint and metrics go after every epoch, and are taken up from.
        before_epoch: called with the number of the epoch that begins, from zero.
        after_epoch: called after every epoch, to score the model on validation samples; training
            ends early when it returns True.
        description: label of the progress; None shows none.

    DivergedError if the loss is not finite.
    """
    scaler = runtime.scaler()
    stateful = {"model": model, "optimizer": optimizer, "scaler": scaler}
    if scheduler is not None:
        stateful["scheduler"] = scheduler
    metrics: list[dict] = []
    checkpoint = run.load_checkpoint() if run else None
    if checkpoint is not None:
        metrics = _resume(checkpoint, stateful, run, runtime)
    elif runtime.rank > 0:
        torch.manual_seed(torch.initial_seed() + runtime.rank)  # dropout of its own
    network = runtime.wrap(model)
    done, steps = len(metrics), len(batches)
    show = runtime.is_main and description is not None
    with Progress(description or "", epochs * steps, start=done * steps, show=show) as progress:
        for epoch in range(done, epochs):
            started = time.perf_counter()
            if before_epoch is not None:
                before_epoch(epoch)
            model.train()
            total = torch.zeros((), device=runtime.device)
            seen = 0
            progress.name(f"epoch {epoch + 1}/{epochs}")
            for inputs, labels, global_size in batches.epoch(epoch):
                with runtime.autocast():
                    logits = network(inputs)
                    value = loss(logits, labels)
                # DistributedDataParallel averages over processes; the weight makes it the mean of
                # the whole batch.
                weight = len(labels) * runtime.world_size / global_size
                scaler.scale(value * weight).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                if scheduler is not None:
                    scheduler.step()
                total += value.detach() * len(labels)
                seen += len(labels)
                progress.step(functools.partial(_shown, total, seen, logits, labels))
            shares = runtime.gather((total.item(), seen))  # the epoch's only CPU-GPU sync
            mean_loss = sum(share[0] for share in shares) / sum(share[1] for share in shares)
            if runtime.world_size > 1:
                _share_buffers(model, runtime)
            if not math.isfinite(mean_loss):
                raise DivergedError(
                    f"the loss is {mean_loss} in epoch {epoch + 1}; use a lower --lr"
                )
            lr, seconds = optimizer.param_groups[0]["lr"], time.perf_counter() - started
            metrics.append({"epoch": epoch + 1, "loss": mean_loss, "lr": lr, "seconds": seconds})
            progress.finish(f"epoch {epoch + 1}/{epochs}", loss=mean_loss, seconds=seconds)
            if run:
                checkpoint = {name: part.state_dict() for name, part in stateful.items()}
                checkpoint |= {"metrics": metrics, "rng": runtime.gather(rng_state(runtime.device))}
                runtime.on_main(run.save_epoch, checkpoint)
            if after_epoch is not None and after_epoch():
                break
    model.eval()
    return metrics


def _shown(total: Tensor, seen: int, logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The mean loss of the epoch so far, and the accuracy on its last batch."""
    correct = logits.argmax(dim=-1) == labels
    return {"loss": total.item() / seen, "accuracy": correct.float().mean().item()}


def _resume(checkpoint: dict, stateful: dict, run: RunFolder, runtime: Runtime) -> list[dict]:
    """Restores all states; returns the metrics so far. UserError for another training's states."""
    try:
        for name, part in stateful.items():
            part.load_state_dict(checkpoint[name])
        states = checkpoint["rng"]
        set_rng_state(states[runtime.rank % len(states)], runtime.device)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{run.checkpoint_file}: belongs to another training; delete it") from error
    runtime.on_main(run.restore_metrics, checkpoint["metrics"])
    return checkpoint["metrics"]


def _share_buffers(model: nn.Module, runtime: Runtime) -> None:
    """Gives every process the first one's batch norm statistics, which the checkpoint holds."""
    first = runtime.gather([buffer.cpu() for buffer in model.buffers()])[0]
    for buffer, value in zip(model.buffers(), first, strict=True):
        buffer.copy_(value)


@torch.inference_mode()
def predict(
    model: nn.Module,
    inputs: Tensor,
    method: Callable[[Tensor], Tensor] | None = None,
    *,
    runtime: Runtime,
    batch_size: int = 1000,
) -> Tensor:
    """(N, K) float32 outputs on the CPU of a model in eval mode, or of another `method` of it.

    Every sample is counted exactly once.
    """
    model.eval()
    rows = []
    for batch in inputs[runtime.rank :: runtime.world_size].split(batch_size):
        with runtime.autocast():
            rows.append((method or model)(batch.to(runtime.device)).float())
    return runtime.gather_rows(torch.cat(rows))
