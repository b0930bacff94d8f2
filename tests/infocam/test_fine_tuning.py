"""Whole networks trained on image files, with ADL too, and finished runs loaded again."""

import json
import shutil

import pytest
import timm
import torch

from infocam.data.load import load_splits
from infocam.models.networks import load_run
from infocam.train import main
from mi_common.backbones import build_backbone
from mi_common.errors import UserError
from mi_common.pictures import read_image
from mi_common.records import RunFolder

NETWORK = "timm:test_resnet"
SMALL = ["--network", NETWORK, "--image-size", 64, "--output-stride", 16]
WHOLE = [*SMALL, "--weights", "none", "--no-freeze-backbone", "--epochs", 3]
ADL = ["--adl", "layer3.0", "layer4.0", "--adl-rate", 0.5]


def model_of(folder) -> dict[str, torch.Tensor]:
    return RunFolder(folder).load_checkpoint()["model"]


def slow_accuracy(network, data_dir) -> float:
    """Of the held-out images of the mini Tiny-ImageNet, one at a time."""
    sizes = {"images_per_class": 6, "val_per_class": 2, "test_images": 1}
    part = load_splits("tiny-imagenet", data_dir, **sizes)["validation"]
    transform = network.spec.transform()
    right = 0
    with torch.inference_mode():
        for path, label in zip(part.images, part.labels.tolist(), strict=True):
            right += network(transform(read_image(path))[None]).argmax().item() == label
    return right / len(part)


@pytest.fixture(scope="module")
def adl_run(tiny_words, tmp_path_factory) -> RunFolder:
    """A finished fine-tuning with ADL; not to be written to."""
    folder = tmp_path_factory.mktemp("adl") / "run"
    main(tiny_words(folder, *WHOLE, *ADL))
    return RunFolder(folder)


def test_the_whole_network_trains_on_the_files_and_is_loaded_as_it_was(adl_run, tiny_dir, cpu):
    torch.manual_seed(1)
    fresh = build_backbone(NETWORK, weights="none", num_classes=4, output_stride=16)
    trained = model_of(adl_run.path)
    assert trained.keys() == fresh.state_dict().keys()
    weights = {name for name, _ in fresh.named_parameters()}
    assert all(not torch.equal(trained[name], fresh.state_dict()[name]) for name in weights)
    network = load_run(adl_run, 4, cpu)
    assert not any(part.training for part in network.modules())
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())
    assert (network.spec.size, network.output_stride) == (64, 16)
    assert network.features(torch.zeros(1, 3, 64, 64)).shape[2:] == (4, 4)
    accuracy = adl_run.result()["validation_accuracy"]
    assert accuracy == pytest.approx(slow_accuracy(network, tiny_dir))
    assert list(tiny_dir.glob("features/*resnet*")) == []
    names = json.loads((adl_run.path / "split.json").read_text())
    assert (len(names["train"]), len(names["validation"])) == (16, 8)


def test_the_recipe_reaches_the_optimiser(adl_run):
    """The mini data's own --lr 0.01; the paper's for the rest. Two of three steps have passed a
    half, so the last epoch ends at a hundredth."""
    body, head = adl_run.load_checkpoint()["optimizer"]["param_groups"]
    assert len(head["params"]) == 2
    metrics = adl_run.load_checkpoint()["metrics"]
    assert [line["lr"] for line in metrics] == pytest.approx([1e-2, 1e-3, 1e-4])
    assert head["lr"] == pytest.approx(10 * body["lr"])
    for group in (body, head):
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-4)


def test_an_interrupted_fine_tuning_resumes_to_the_same_weights(
    adl_run, tiny_words, tmp_path, monkeypatch
):
    """Crops and the draws of ADL go on where they stopped."""
    save_epoch = RunFolder.save_epoch

    def stop_after_first_epoch(self, checkpoint):
        save_epoch(self, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_epoch", stop_after_first_epoch)
        with pytest.raises(SystemExit):
            main(tiny_words(tmp_path / "run", *WHOLE, *ADL))
    assert len(RunFolder(tmp_path / "run").load_checkpoint()["metrics"]) == 1
    main(tiny_words(tmp_path / "run", *WHOLE, *ADL, "--resume"))
    whole, resumed = model_of(adl_run.path), model_of(tmp_path / "run")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_adl_changes_what_is_learned_from_the_same_seed(adl_run, tiny_words, tmp_path):
    main(tiny_words(tmp_path / "run", *WHOLE))
    with_adl, without = model_of(adl_run.path), model_of(tmp_path / "run")
    assert with_adl.keys() == without.keys()
    assert (with_adl["head.weight"] - without["head.weight"]).abs().max() > 1e-3


def test_a_frozen_backbone_of_another_stride_has_features_of_its_own(
    tiny_words, tiny_dir, tmp_path, cpu
):
    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, tmp_path / "weights.pt")
    before = set(tiny_dir.glob("features/*"))
    for stride, side in ((32, 2), (16, 4)):
        run = RunFolder(tmp_path / str(stride))
        words = ["--weights", tmp_path / "weights.pt", "--epochs", 1]
        main(tiny_words(run.path, *SMALL, *words, "--output-stride", stride))
        network = load_run(run, 4, cpu)
        assert network.features(torch.zeros(1, 3, 64, 64)).shape[2:] == (side, side)
        assert torch.equal(network.backbone.network.conv1[0].weight, state["conv1.0.weight"])
        assert torch.equal(network.head.weight, model_of(run.path)["weight"])
        accuracy = run.result()["validation_accuracy"]
        assert accuracy == pytest.approx(slow_accuracy(network, tiny_dir))
    made = set(tiny_dir.glob("features/*")) - before
    assert sorted(path.name[:22] for path in made) == [
        *["tiny-imagenet-maps-64-"] * 2,
        *["tiny-imagenet-pooled-6"] * 2,
    ]


def copied(run: RunFolder, folder, **flags) -> RunFolder:
    """A copy of a run with flags changed, or left out where they are None."""
    shutil.copytree(run.path, folder)
    config = json.loads((folder / "config.json").read_text())
    config["flags"] = {k: v for k, v in (config["flags"] | flags).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return RunFolder(folder)


def test_runs_that_cannot_be_loaded_are_user_errors(adl_run, tmp_path, cpu):
    with pytest.raises(UserError, match=r"checkpoint\.pt: 2 parameters do not fit"):
        load_run(adl_run, 5, cpu)
    lost = copied(adl_run, tmp_path / "lost")
    lost.checkpoint_file.unlink()
    with pytest.raises(UserError, match=r"lost: the run is finished but checkpoint\.pt is missing"):
        load_run(lost, 4, cpu)
    with pytest.raises(UserError, match="other is not a run of infocam"):
        load_run(copied(adl_run, tmp_path / "other", images_per_class=None), 4, cpu)
    with pytest.raises(UserError, match="nothing holds no finished run"):
        load_run(RunFolder(tmp_path / "nothing"), 4, cpu)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--adl", "layer9"], "--adl layer9: no such layer; there are"),
        (["--network", "timm:test_vit", "--image-size", 50], "test_vit: cannot take images of 50"),
        (["--network", "mobilenet_v2"], "its maps have stride 32, not 16"),
    ],
)
def test_what_a_network_cannot_do_stops_before_anything_is_written(
    tiny_words, tmp_path, user_error, more, said
):
    assert said in user_error(main, tiny_words(tmp_path / "run", *WHOLE, *more))
    assert list(tmp_path.iterdir()) == []
