"""PC-softmax in loops that are not ours: plain PyTorch, Lightning, transformers; and on pixels."""

import copy
import socket

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pc_softmax.losses import PCSoftmaxLoss

CLASSES, STEPS, RATE = 3, 4, 0.5


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise OSError(f"a test must not connect to {address}")
        return connect(self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")


def library(name: str):
    """An optional library; a skip that says how to install it."""
    reason = f"no {name} here; pip install -r requirements-dev.txt"
    return pytest.importorskip(name, reason=reason)


def imbalanced(*shape: int) -> torch.Tensor:
    """Labels of which class 0 has three quarters."""
    labels = torch.arange(24) % 8
    return (labels.clamp_min(5) - 5).reshape(shape)


def trained(model: nn.Module, logits_of, labels: torch.Tensor, shift: torch.Tensor) -> nn.Module:
    """A copy after STEPS steps of gradient descent on cross-entropy of the shifted logits."""
    model, labelled = copy.deepcopy(model), labels >= 0
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy((logits_of(model) + shift)[labelled], labels[labelled]).backward()
        optimizer.step()
    return model


def assert_trained_by_pc_softmax(model, start, logits_of, labels) -> None:
    """The weights are those of balanced softmax, and not those of softmax."""
    log_counts = torch.bincount(labels[labels >= 0]).log()
    expected = trained(start, logits_of, labels, log_counts)
    of_softmax = trained(start, logits_of, labels, torch.zeros(CLASSES))
    differences = []
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, expected.get_parameter(name), rtol=1e-4, atol=1e-5)
        differences.append((weight - of_softmax.get_parameter(name)).abs().max().item())
    assert max(differences) > 0.01


@pytest.fixture
def network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, CLASSES)),
        torch.randn(24, 2),
        imbalanced(24),
    )


def test_in_a_plain_loop(network):
    start, inputs, labels = network
    model, loss = copy.deepcopy(start), PCSoftmaxLoss.from_labels(labels, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model(inputs), labels).backward()
        optimizer.step()
    assert_trained_by_pc_softmax(model, start, lambda m: m(inputs), labels)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_in_lightning(network, precision):
    lightning = library("pytorch_lightning")
    start, inputs, labels = network

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = copy.deepcopy(start)
            self.loss = PCSoftmaxLoss.from_labels(labels, CLASSES)

        def training_step(self, batch):
            inputs, labels = batch
            return self.loss(self.network(inputs), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

    if precision == "64-true":
        inputs, start = inputs.double(), start.double()
    module = Module()
    batches = torch.utils.data.DataLoader([*zip(inputs, labels, strict=True)], batch_size=24)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "precision": precision}
    lightning.Trainer(max_epochs=STEPS, **options).fit(module, batches)
    assert_trained_by_pc_softmax(module.network, start, lambda m: m(inputs), labels)


def huggingface(model, samples: list[dict], loss_of_batch, folder) -> nn.Module:
    """A copy of the model, trained by a Trainer that accumulates the gradients of three batches."""
    transformers = library("transformers")
    library("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=STEPS,
        learning_rate=RATE,
        per_device_train_batch_size=len(samples) // 3,
        gradient_accumulation_steps=3,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
    )
    model = copy.deepcopy(model)
    transformers.Trainer(
        model, arguments, train_dataset=samples, compute_loss_func=loss_of_batch
    ).train()
    return model


def test_in_a_trainer_of_image_classifiers(tmp_path):
    transformers = library("transformers")
    torch.manual_seed(0)
    shape = {"image_size": 4, "patch_size": 2, "num_channels": 1, "hidden_size": 8}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.ViTConfig(**shape, num_labels=CLASSES, hidden_dropout_prob=0.0)
    start = transformers.ViTForImageClassification(config)
    images, labels = torch.randn(24, 1, 4, 4), imbalanced(24)
    samples = [{"pixel_values": x, "labels": y} for x, y in zip(images, labels, strict=True)]
    loss = PCSoftmaxLoss.from_labels(labels, CLASSES, reduction="sum")

    def loss_of_batch(outputs, labels, num_items_in_batch):
        return loss(outputs.logits, labels) / num_items_in_batch

    model = huggingface(start, samples, loss_of_batch, tmp_path)
    assert_trained_by_pc_softmax(model, start, lambda m: m(images).logits, labels)


def test_in_a_trainer_of_token_classifiers(tmp_path):
    transformers = library("transformers")
    torch.manual_seed(0)
    shape = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    shape |= {"intermediate_size": 8, "hidden_dropout_prob": 0.0}
    config = transformers.BertConfig(**shape, attention_probs_dropout_prob=0.0, num_labels=CLASSES)
    start = transformers.BertForTokenClassification(config)
    tokens, labels = torch.randint(10, (6, 4)), imbalanced(6, 4)
    labels[::2, 3] = -100  # padding
    samples = [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]
    loss = PCSoftmaxLoss.from_labels(labels, CLASSES, reduction="sum")

    def loss_of_batch(outputs, labels, num_items_in_batch):
        return loss(outputs.logits.transpose(1, 2), labels) / num_items_in_batch

    model = huggingface(start, samples, loss_of_batch, tmp_path)
    assert_trained_by_pc_softmax(model, start, lambda m: m(tokens).logits, labels)


def toy_segmentation(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(20, 2, 16, 16) noisy images and (20, 16, 16) masks; 90, 8 and 2 % of the pixels a class."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([0.90, 0.08, 0.02])
    masks = torch.multinomial(shares, 20 * 256, replacement=True, generator=generator)
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    pixels = centres[masks] + torch.randn(20 * 256, 2, generator=generator)
    return pixels.view(20, 16, 16, 2).movedim(3, 1), masks.view(20, 16, 16)


def test_of_segmentation_rare_classes_gain():
    (images, masks), (test_images, test_masks) = toy_segmentation(0), toy_segmentation(1)
    masks[:, 0] = 255  # no class
    accuracies = {}
    for name, loss in (
        ("softmax", nn.CrossEntropyLoss(ignore_index=255)),
        ("pc-softmax", PCSoftmaxLoss.from_labels(masks, 3, ignore_index=255)),
    ):
        torch.manual_seed(0)
        model = nn.Conv2d(2, 3, 1)
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100)

        def step(model=model, optimizer=optimizer, loss=loss):
            optimizer.zero_grad()
            value = loss(model(images), masks)
            value.backward()
            return value

        optimizer.step(step)
        correct = model(test_images).argmax(dim=1) == test_masks
        by_class = [correct[test_masks == k].double().mean().item() for k in range(3)]
        accuracies[name] = sum(by_class) / 3, correct.double().mean().item()
    (balanced, of_pixels), (pc_balanced, pc_of_pixels) = accuracies.values()
    assert pc_balanced > balanced + 0.2
    assert pc_of_pixels < of_pixels  # the price: softmax maximises the share of correct pixels
