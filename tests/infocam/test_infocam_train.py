"""`infocam.train` end to end on small data: what trains, what does not, resume, refusals."""

import copy
import dataclasses
import json

import pytest
import timm
import torch
from slow_evaluation import TINY, TrainedRun, network_of

from infocam import training
from infocam.data import load
from infocam.models.classifiers import run_classifier
from infocam.train import main
from mi_common.backbones import build_backbone
from mi_common.errors import UserError
from mi_common.pictures import read_image
from mi_common.records import RunFolder

NETWORK = "timm:test_resnet"
SMALL = ["--network", NETWORK, "--image-size", 64, "--output-stride", 16]
WHOLE = [*SMALL, "--weights", "none", "--no-freeze-backbone", "--epochs", 3]
ADL = ["--adl", "layer3.0", "layer4.0"]


def model_of(folder) -> dict[str, torch.Tensor]:
    return RunFolder(folder).load_checkpoint()["model"]


def metrics_of(folder) -> list[dict]:
    return RunFolder(folder).load_checkpoint()["metrics"]


def result_of(folder) -> dict:
    return {k: v for k, v in RunFolder(folder).result().items() if "seconds" not in k}


def slow_accuracy(network, data_dir) -> float:
    """Of the validation images of the mini Tiny-ImageNet, one at a time."""
    images = load.load_splits("tiny-imagenet", data_dir, **TINY)["validation"]
    transform = network.spec.transform()
    correct = 0
    with torch.inference_mode():
        for path, label in zip(images.images, images.labels.tolist(), strict=True):
            correct += network(transform(read_image(path))[None]).argmax().item() == label
    return correct / len(images)


@pytest.fixture(scope="module")
def adl_words(tiny_words):
    """The command line of a fine-tuning with ADL into a folder."""
    return lambda folder, *more: tiny_words(folder, *WHOLE, *ADL, *more)


@pytest.fixture(scope="module")
def adl_run(tiny_dir, adl_words, tmp_path_factory) -> TrainedRun:
    """A finished fine-tuning with ADL; not to be written to."""
    folder = tmp_path_factory.mktemp("adl") / "run"
    main(adl_words(folder))
    return TrainedRun(tiny_dir, folder, adl_words(folder))


@pytest.fixture(params=["digits", "tiny", "adl"])
def trained(request, small_window):
    """A finished run and the words of its command line for another folder."""
    run = request.getfixturevalue(f"{request.param}_run")
    return run, request.getfixturevalue(f"{request.param}_words")


# What a run holds.


def test_run_on_digits_learns_and_counts_its_images(digits_run):
    result, metrics = result_of(digits_run.folder), metrics_of(digits_run.folder)
    assert (result["n_train"], result["n_validation"]) == (100, 40)
    assert [line["epoch"] for line in metrics] == [1, 2]
    assert result["train_loss"] == metrics[1]["loss"] < metrics[0]["loss"]
    assert json.loads((digits_run.folder / "split.json").read_text()) == {}  # no files


def test_split_names_the_images_that_trained_and_that_validate(tiny_run):
    split = json.loads((tiny_run.folder / "split.json").read_text())
    wnids = ["n04", "n02", "n03", "n01"]
    assert split == {
        "train": [f"train/{wnid}/images/{wnid}_{i}" for wnid in wnids for i in range(4)],
        "validation": [f"train/{wnid}/images/{wnid}_{i}" for wnid in wnids for i in (4, 5)],
    }
    result = result_of(tiny_run.folder)
    assert (result["n_train"], result["n_validation"]) == (16, 8)


def test_validation_accuracy_is_that_of_the_saved_network(tiny_run, tiny_dir):
    accuracy = result_of(tiny_run.folder)["validation_accuracy"]
    assert accuracy == pytest.approx(slow_accuracy(network_of(tiny_run), tiny_dir))
    assert accuracy > 0.5  # the colours are learnt; chance is a quarter


def test_the_whole_network_trains_on_the_files_and_is_loaded_as_it_was(adl_run, tiny_dir, cpu):
    torch.manual_seed(1)
    fresh = build_backbone(NETWORK, weights="none", num_classes=4, output_stride=16)
    trained = model_of(adl_run.folder)
    assert trained.keys() == fresh.state_dict().keys()
    weights = {name for name, _ in fresh.named_parameters()}
    assert all(not torch.equal(trained[name], fresh.state_dict()[name]) for name in weights)
    network = run_classifier(adl_run.folder, runtime=cpu).network
    assert not any(part.training for part in network.modules())
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())
    assert (network.spec.size, network.output_stride) == (64, 16)
    assert network.features(torch.zeros(1, 3, 64, 64)).shape[2:] == (4, 4)
    accuracy = result_of(adl_run.folder)["validation_accuracy"]
    assert accuracy == pytest.approx(slow_accuracy(network, tiny_dir))
    assert list(tiny_dir.glob("features/*resnet*")) == []


def test_frozen_backbone_is_not_changed_by_training(tiny_words, tmp_path, monkeypatch):
    networks = []

    def built(*args, **options):
        network = build(*args, **options)
        networks.append((network, copy.deepcopy(network.state_dict())))
        return network

    build = training.build_network
    monkeypatch.setattr(training, "build_network", built)
    main(tiny_words(tmp_path / "run"))
    ((network, before),) = networks
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert model_of(tmp_path / "run").keys() == {"weight", "bias"}
    assert torch.equal(model_of(tmp_path / "run")["weight"], after["head.weight"])


def test_boxes_play_no_part_in_training(
    digits_run, digits_words, tmp_path, monkeypatch, small_window
):
    load_splits = load.load_splits

    def without_boxes(*args, **options):
        sets = load_splits(*args, **options)
        return {split: dataclasses.replace(part, boxes=None) for split, part in sets.items()}

    monkeypatch.setattr(load, "load_splits", without_boxes)
    main(digits_words(tmp_path / "run"))
    assert result_of(tmp_path / "run") == result_of(digits_run.folder)


def test_a_head_belongs_to_the_stride_and_the_weights_of_its_backbone(
    tiny_words, tiny_dir, tmp_path, cpu
):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet")
    state = network.state_dict()
    torch.save(state, tmp_path / "weights.pt")
    before = set(tiny_dir.glob("features/*"))
    for stride, side in ((32, 2), (16, 4)):
        run = tmp_path / str(stride)
        words = ["--weights", tmp_path / "weights.pt", "--epochs", 1, "--output-stride", stride]
        main(tiny_words(run, *SMALL, *words))
        network = run_classifier(run, runtime=cpu).network
        assert network.features(torch.zeros(1, 3, 64, 64)).shape[2:] == (side, side)
        assert torch.equal(network.backbone.network.conv1[0].weight, state["conv1.0.weight"])
        assert torch.equal(network.head.weight, model_of(run)["weight"])
        accuracy = result_of(run)["validation_accuracy"]
        assert accuracy == pytest.approx(slow_accuracy(network, tiny_dir))
    made = set(tiny_dir.glob("features/*")) - before
    kinds = sorted(path.name.split("-")[2] for path in made if path.suffix == ".npy")
    assert kinds == ["maps", "maps", "pooled", "pooled"]
    state["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt: .* trained on other features"):
        run_classifier(run, runtime=cpu)


# Flags that reach the training.


def test_the_recipe_reaches_the_optimiser(adl_run):
    """The mini data's own --lr 0.01; the paper's for the rest. Two of three steps have passed a
    half, so the last epoch ends at a hundredth."""
    backbone, head = RunFolder(adl_run.folder).load_checkpoint()["optimizer"]["param_groups"]
    assert len(head["params"]) == 2
    assert [line["lr"] for line in metrics_of(adl_run.folder)] == pytest.approx([1e-2, 1e-3, 1e-4])
    assert head["lr"] == pytest.approx(10 * backbone["lr"])
    for group in (backbone, head):
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-4)


def test_milestones_copies_and_label_smoothing_reach_the_training(
    tiny_run, tiny_dir, tiny_words, tmp_path
):
    before = set(tiny_dir.glob("features/*.npy"))
    words = ["--label-smoothing", 0.5, "--augmented-copies", 2]
    words += ["--schedule", "step", "--milestones", 0.25, 0.65]
    main(tiny_words(tmp_path / "run", *words))
    metrics = metrics_of(tmp_path / "run")
    rates = [1e-2] * 2 + [1e-3] * 4 + [1e-4] * 4
    assert [line["lr"] for line in metrics] == pytest.approx(rates)
    made = set(tiny_dir.glob("features/*.npy")) - before
    assert [path.name.split("-")[2] for path in made] == ["pooled", "pooled"]
    # No prediction has less loss than the smoothed label itself, 5/8 and three times 1/8.
    least = -(5 / 8 * torch.tensor(5 / 8).log() + 3 / 8 * torch.tensor(1 / 8).log())
    assert result_of(tiny_run.folder)["train_loss"] < least < metrics[-1]["loss"]


def test_adl_changes_what_is_learned_from_the_same_seed(adl_run, tiny_words, tmp_path):
    main(tiny_words(tmp_path / "run", *WHOLE))
    with_adl, without = model_of(adl_run.folder), model_of(tmp_path / "run")
    assert with_adl.keys() == without.keys()
    assert (with_adl["head.weight"] - without["head.weight"]).abs().max() > 1e-3


def test_loss_changes_the_head_when_classes_are_imbalanced(
    digits_run, digits_words, tmp_path, small_window
):
    """Drawn digits are not quite balanced, so the two losses have different gradients."""
    main(digits_words(tmp_path / "run", "--loss", "pc-softmax"))
    a, b = (model_of(folder)["head.weight"] for folder in (digits_run.folder, tmp_path / "run"))
    assert (a - b).abs().max() > 1e-4


# Resume and refusals.


def test_interrupted_run_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
    """Crops and the draws of ADL go on where they stopped, too."""
    run, words = trained
    save_epoch = RunFolder.save_epoch

    def stop_after_first_epoch(self, checkpoint):
        save_epoch(self, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_epoch", stop_after_first_epoch)
        with pytest.raises(SystemExit) as stopped:
            main(words(tmp_path / "run"))
    assert stopped.value.code == 130
    (first_epoch,) = metrics_of(tmp_path / "run")
    main(words(tmp_path / "run", "--resume"))
    assert metrics_of(tmp_path / "run")[0] == first_epoch
    whole, resumed = model_of(run.folder), model_of(tmp_path / "run")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert result_of(tmp_path / "run") == result_of(run.folder)


def test_a_finished_run_is_refused_or_left_alone(trained, user_error, capsys):
    run, words = trained
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    line = user_error(main, words(run.folder))
    assert f"{run.folder} exists; use --resume, --overwrite or another --output-dir" in line
    main(words(run.folder, "--resume"))
    accuracy = 100 * result_of(run.folder)["validation_accuracy"]
    assert f"top-1 accuracy {accuracy:.1f} % (validation)" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--network", "small-cnn"], "--network small-cnn with --dataset tiny-imagenet"),
        (
            ["--dataset", "scattered-digits", "--network", "resnet18"],
            "--network resnet18 with --dataset scattered-digits",
        ),
        (["--network", "resnet999"], "network 'resnet999'"),
        (["--weights", "absent.pt"], "--weights absent.pt: no such file"),
        (["--loss", "focal"], "'focal'"),
        (["--val-per-class", "0"], "'0' is not a whole number above 0"),
        (["--val-per-class", "6"], "--val-per-class 6: must be below"),
        (["--lr", "nan"], "'nan' is not a number above 0"),
        (["--data-dir", "absent"], "python -m scripts.download_data tiny-imagenet"),
        ([*WHOLE, "--adl", "layer9"], "--adl layer9: no such layer; there are"),
        ([*WHOLE, "--network", "timm:test_vit", "--image-size", 50], "cannot take images of 50"),
        (
            [*WHOLE, "--network", "mobilenet_v2"],
            "--output-stride 16: mobilenet_v2 has 32; use that",
        ),
    ],
    ids=str,
)
def test_wrong_input_is_one_line_before_anything_is_written(
    tiny_words, tmp_path, user_error, words, said
):
    assert said in user_error(main, tiny_words(tmp_path / "run", *words))
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_training_image_is_named_in_one_line(
    tiny_words, corrupt_tiny, tmp_path, user_error
):
    data_dir, file = corrupt_tiny("train/n02/images/n02_1.JPEG")
    line = user_error(main, tiny_words(tmp_path / "run", "--data-dir", data_dir))
    assert line == f"error: {file}: not a readable image (OSError)"
    assert not (tmp_path / "run").exists()
    assert list(data_dir.glob("features/*")) == []
