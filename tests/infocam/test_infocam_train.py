"""`infocam.train` end to end on small data: what trains, what does not, resume, refusals."""

import copy
import dataclasses
import json

import pytest
import torch

from infocam import train
from infocam.data.load import load_splits
from infocam.train import main
from mi_common.pictures import read_image
from mi_common.records import RunFolder


def model_of(folder) -> dict[str, torch.Tensor]:
    return RunFolder(folder).load_checkpoint()["model"]


def result_of(folder) -> dict:
    return {k: v for k, v in RunFolder(folder).result().items() if "seconds" not in k}


@pytest.fixture(params=["digits", "tiny"])
def trained(request, small_window):
    """A finished run and the words of its command line for another folder."""
    run = request.getfixturevalue(f"{request.param}_run")
    return run, request.getfixturevalue(f"{request.param}_words")


def test_run_on_digits_learns_and_counts_its_images(digits_run):
    run = RunFolder(digits_run.folder)
    result = run.result()
    assert (result["n_train"], result["n_validation"]) == (100, 40)
    assert [line["epoch"] for line in run.load_checkpoint()["metrics"]] == [1, 2]
    assert (
        result["train_loss"]
        == run.load_checkpoint()["metrics"][1]["loss"]
        < run.load_checkpoint()["metrics"][0]["loss"]
    )
    assert json.loads((run.path / "split.json").read_text()) == {}  # no files


def test_split_names_the_images_that_trained_and_that_are_held_out(tiny_run):
    split = json.loads((tiny_run.folder / "split.json").read_text())
    wnids = ["n04", "n02", "n03", "n01"]
    assert split == {
        "train": [f"train/{wnid}/images/{wnid}_{i}" for wnid in wnids for i in range(4)],
        "validation": [f"train/{wnid}/images/{wnid}_{i}" for wnid in wnids for i in (4, 5)],
    }
    result = result_of(tiny_run.folder)
    assert (result["n_train"], result["n_validation"]) == (16, 8)


def test_validation_accuracy_is_that_of_the_saved_network(tiny_run, tiny_dir):
    head = model_of(tiny_run.folder)
    network = train.build_network("efficientnet_lite0", weights="imagenet", num_classes=4).eval()
    network.head.load_state_dict(head)
    parts = load_splits(
        "tiny-imagenet", tiny_dir, images_per_class=6, val_per_class=2, test_images=1
    )
    part, transform = parts["validation"], network.spec.transform()
    with torch.inference_mode():
        images = torch.stack([transform(read_image(path)) for path in part.images])
        right = network(images).argmax(dim=1) == part.labels
    accuracy = RunFolder(tiny_run.folder).result()["validation_accuracy"]
    assert accuracy == pytest.approx(right.float().mean().item())
    assert accuracy > 0.5  # the colours are learnt; chance is a quarter


def test_frozen_backbone_is_not_changed_by_training(tiny_words, tmp_path, monkeypatch):
    networks = []

    def built(*args, **options):
        network = build(*args, **options)
        networks.append((network, copy.deepcopy(network.state_dict())))
        return network

    build = train.build_network
    monkeypatch.setattr(train, "build_network", built)
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
    load = train.load_splits

    def without_boxes(*args, **options):
        parts = load(*args, **options)
        return {name: dataclasses.replace(part, boxes=None) for name, part in parts.items()}

    monkeypatch.setattr(train, "load_splits", without_boxes)
    main(digits_words(tmp_path / "run"))
    assert result_of(tmp_path / "run") == result_of(digits_run.folder)


def test_interrupted_run_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
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
    (first_epoch,) = RunFolder(tmp_path / "run").load_checkpoint()["metrics"]
    main(words(tmp_path / "run", "--resume"))
    assert RunFolder(tmp_path / "run").load_checkpoint()["metrics"][0] == first_epoch
    whole, resumed = model_of(run.folder), model_of(tmp_path / "run")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert result_of(tmp_path / "run") == result_of(run.folder)


def test_loss_changes_the_head_when_classes_are_imbalanced(
    digits_run, digits_words, tmp_path, small_window
):
    """Drawn digits are not quite balanced, so the two losses have different gradients."""
    main(digits_words(tmp_path / "run", "--loss", "pc-softmax"))
    a, b = (model_of(folder)["head.weight"] for folder in (digits_run.folder, tmp_path / "run"))
    assert (a - b).abs().max() > 1e-4


def test_a_finished_run_is_refused_or_left_alone(trained, user_error, capsys):
    run, words = trained
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    line = user_error(main, words(run.folder))
    assert f"{run.folder} exists; use --resume, --overwrite or another --output-dir" in line
    main(words(run.folder, "--resume"))
    accuracy = 100 * RunFolder(run.folder).result()["validation_accuracy"]
    assert f"held-out top-1 accuracy {accuracy:.1f} %" in capsys.readouterr().out
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
    ],
)
def test_wrong_input_is_one_line(tiny_words, tmp_path, user_error, words, said):
    line = user_error(main, tiny_words(tmp_path / "run", *words))
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_training_image_is_named_in_one_line(
    tiny_words, corrupt_tiny, tmp_path, user_error
):
    data_dir, file = corrupt_tiny("train/n02/images/n02_1.JPEG")
    line = user_error(main, tiny_words(tmp_path / "run", "--data-dir", data_dir))
    assert line == f"error: {file}: not a readable image (OSError)"
    assert not (tmp_path / "run").exists()
    assert list(data_dir.glob("features/*")) == []
