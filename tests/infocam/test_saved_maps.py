"""Maps as files: what an evaluation writes is read back, scored the same, and checked."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from infocam.evaluate import main
from infocam.scoring.metrics import ScoredMaps
from infocam.scoring.saved_maps import read_map, read_ranks, save_maps
from mi_common.errors import UserError
from mi_common.files import read_json
from mi_common.image_sets import ImageSet

NAMES = ["cat/1", "cat/2.5", "dog/1"]
RANKS = "is not a whole number from 0 to 999999"
DIGITS = {"images_per_class": 14, "val_per_class": 4, "test_images": 25}


@pytest.fixture
def three() -> tuple[ImageSet, ScoredMaps]:
    """Three images with one or two boxes, and maps of two methods."""
    rng = np.random.default_rng(0)
    boxes = [[[0, 0, 9, 9]], [[2, 3, 30, 20], [5, 5, 6, 6]], [[10, 10, 39, 29]]]
    data = ImageSet(
        "any",
        torch.zeros(3, 1, 30, 40, dtype=torch.uint8),
        torch.tensor([0, 0, 1]),
        ["cat", "dog"],
        [np.array(of_image) for of_image in boxes],
        np.array([[40, 30]] * 3),
        NAMES,
    )
    maps = {name: rng.normal(size=(3, 5, 6)).astype(np.float32) for name in ("cam", "lowest:2")}
    return data, ScoredMaps({}, maps, np.array([0, 1, 1]), np.array([0, 1, 0]))


def test_files_that_are_written(three, tmp_path):
    data, found = three
    save_maps(tmp_path / "maps", data, found)
    files = {path.relative_to(tmp_path / "maps").as_posix() for path in tmp_path.rglob("*.*")}
    of_method = ["predictions.csv", *(f"{name}.npy" for name in NAMES)]
    assert files == {"annotations.csv", *(f"{m}/{file}" for m in found.maps for file in of_method)}
    for method, maps in found.maps.items():
        for name, values in zip(NAMES, maps, strict=True):
            assert np.array_equal(np.load(tmp_path / "maps" / method / f"{name}.npy"), values)
            assert np.array_equal(read_map(tmp_path / "maps" / method, name), values)
    text = (tmp_path / "maps/cam/predictions.csv").read_text()
    assert text == "image,rank\ncat/1,0\ncat/2.5,1\ndog/1,0\n"
    assert (tmp_path / "maps/annotations.csv").read_text().splitlines()[2:4] == [
        "cat/2.5,40,30,2,3,30,20,0",
        "cat/2.5,40,30,5,5,6,6,0",
    ]


def test_ranks_follow_the_names_whatever_the_order_of_the_file(tmp_path):
    assert read_ranks(tmp_path, NAMES) is None
    (tmp_path / "predictions.csv").write_text("image,rank\ndog/1,7\n1,3\ncat/1,0\n01,2\n")
    assert read_ranks(tmp_path, ["cat/1", "dog/1", "01", "1"]).tolist() == [0, 7, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,rank\ncat/1,0\n", "predictions.csv: no line for image cat/2.5"),
        ("image,rank\ncat/1,-1\n", "predictions.csv, line 2: rank '-1' is not a whole number"),
        ("image,rank\ncat/1,²\n", "predictions.csv, line 2: rank '²' is not a whole number"),
        ("image,rank\ncat/1,1000000\n", f"predictions.csv, line 2: rank '1000000' {RANKS}"),
        (f"image,rank\ncat/1,{2**63}\n", f"predictions.csv, line 2: rank '{2**63}' {RANKS}"),
        (
            f"image,rank\na,{'9' * 5000}\n",
            f"predictions.csv, line 2: rank '{'9' * 100}...' {RANKS}",
        ),
        (
            "image,rank\ncat/1,0\ndog/1,1\n\ncat/1,0\n",
            "predictions.csv, line 5: a second line for image cat/1; keep one",
        ),
        ("image,rank\ncat/1,\n", "predictions.csv, line 2: rank '' is not a whole number"),
        ("image,rank\ncat/1,0,0\n", "predictions.csv, line 2: 3 cells, not 2"),
        ("image,label\ncat/1,0\n", "predictions.csv, line 1: columns image,label; want"),
        ("", "predictions.csv, line 1: columns ; want"),
    ],
)
def test_wrong_ranks_are_named(tmp_path, text, message):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_ranks(tmp_path, NAMES)
    assert str(error.value).startswith(f"{tmp_path}/{message}")


# What evaluate makes of them, on the digits.


@pytest.fixture(scope="module")
def digits_maps(digits_run, evaluate_words, tmp_path_factory):
    """Folders of the test and of the validation maps, and results.csv of the run."""
    folder = tmp_path_factory.mktemp("digits-maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infocam.data.load.DIGITS_TRAIN_WINDOW", 1000)
        more = ["--test-images", 25, "--overlays", 0, "--gallery", 0, "--save-maps"]
        main(evaluate_words(digits_run, folder / "out", *more, "--methods", "cam", "infocam"))
    maps = folder / "out/maps"
    return maps / "test", maps / "validation", pd.read_csv(folder / "out/results.csv")


def maps_words(folder, method, out, *more) -> list[str]:
    words = ["--maps", folder / method, "--annotations", folder / "annotations.csv"]
    words += ["--output-dir", out, "--num-workers", 0, "--device", "cpu"]
    return [str(word) for word in (*words, *more)]


def rows_by_rule(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    own = rows[rows["method"] == method].set_index("threshold_rule")
    described = ["run", "dataset", "network", "loss", "seed", "map", "accuracy", "non_finite_maps"]
    return own.drop(columns=[name for name in described if name in own])


def test_saved_maps_score_as_the_run_did(digits_maps, tmp_path):
    maps, validation, of_run = digits_maps
    more = ["--val-maps", validation / "infocam"]
    more += ["--val-annotations", validation / "annotations.csv"]
    main(maps_words(maps, "infocam", tmp_path / "out", *more))
    rows = pd.read_csv(tmp_path / "out/results.csv")
    for method in ("infocam", "centre-box", "whole-image"):
        pd.testing.assert_frame_equal(rows_by_rule(rows, method), rows_by_rule(of_run, method))
    assert rows_by_rule(rows, "infocam").index.tolist() == ["fixed", "validation", "oracle"]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        *("chosen.json", "config.json", "differences.csv", "differences.md", "differences.tex"),
        *("results.csv", "table.md", "table.tex"),
    ]
    compared = pd.read_csv(tmp_path / "out/differences.csv")
    assert compared["method"].tolist() == ["infocam - centre-box"] * 2
    known = rows.set_index(["method", "threshold_rule"])["gt_known"]
    for line in compared.to_dict("records"):
        pair = [known[name, line["threshold_rule"]] for name in ("infocam", "centre-box")]
        assert line["gt_known"] == pytest.approx(pair[0] - pair[1])


def test_without_val_maps_and_ranks_there_is_no_such_row_and_no_top_k(digits_maps, tmp_path):
    maps, _, of_run = digits_maps
    (maps / "cam/predictions.csv").rename(tmp_path / "predictions.csv")
    main(maps_words(maps, "cam", tmp_path / "out", "--fixed-threshold", 0.35))
    (tmp_path / "predictions.csv").rename(maps / "cam/predictions.csv")
    rows = rows_by_rule(pd.read_csv(tmp_path / "out/results.csv"), "cam")
    assert rows.index.tolist() == ["fixed", "oracle"]
    assert rows.loc["fixed", "threshold"] == 0.35
    expected = rows_by_rule(of_run, "cam").loc["oracle", "gt_known"]
    assert rows.loc["oracle", "gt_known"] == expected
    assert rows["top1_loc"].isna().all()
    assert "top1_loc" not in (tmp_path / "out/table.md").read_text()
    assert "top1_loc" not in (tmp_path / "out/differences.csv").read_text()
    assert read_json(tmp_path / "out/chosen.json")["chosen"] == {str(maps / "cam"): None}


def test_maps_of_any_resolution_with_masks_and_the_default_folder(tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    (tmp_path / "masks").mkdir()
    header = "image,width,height,x0,y0,x1,y1,label,mask"
    lines, true = [header], np.zeros((8, 6), np.uint8)
    true[2:6, 1:4] = 255
    for i, scale in enumerate((1, 2, 3)):
        Image.fromarray(true).save(tmp_path / f"masks/{i}.png")
        np.save(maps / f"{i}.npy", np.kron(true, np.ones((scale, scale))).astype(np.float16))
        lines.append(f"{i}.jpg,6,8,1,2,3,5,{i},masks/{i}.png")
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    main(["--maps", str(maps), "--annotations", str(tmp_path / "boxes.csv"), "--num-workers", "0"])
    rows = pd.read_csv(maps / "evaluation/results.csv")
    oracle = rows[(rows["method"] == "maps") & (rows["threshold_rule"] == "oracle")].iloc[0]
    assert (oracle["gt_known"], oracle["pointing"], oracle["peak_iou"]) == (1, 1, 1)
    assert oracle["pxap"] == pytest.approx(1)
    assert "pxap" in (maps / "evaluation/table.md").read_text()
    # 12 of 48 pixels are in the box.
    whole = rows[rows["method"] == "whole-image"].iloc[0]
    assert (whole["gt_known"], whole["energy"]) == (0, pytest.approx(12 / 48))


# Errors.


NO_ARRAY = {
    "text": lambda file: file.write(b"not a map"),
    "nothing": lambda file: None,
    "archive": lambda file: np.savez(file, values=np.zeros((2, 2))),
    "pickled": lambda file: np.save(file, np.array([{}, None]), allow_pickle=True),
}


@pytest.mark.parametrize("write", NO_ARRAY.values(), ids=NO_ARRAY)
def test_a_file_that_is_no_array_or_missing_is_named(tmp_path, write):
    with pytest.raises(UserError, match=f"{tmp_path}/a.npy: no map of the annotated image a"):
        read_map(tmp_path, "a")
    with (tmp_path / "a.npy").open("wb") as file:
        write(file)
    with pytest.raises(UserError, match=rf"{tmp_path}/a\.npy: not a NumPy array \(ValueError\)"):
        read_map(tmp_path, "a")


@pytest.mark.parametrize("shape", [(1, 3, 4), (4,), (0, 4), (1, 65_536), (2, 2)])
def test_an_array_that_is_no_map_is_named(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, complex if shape == (2, 2) else np.uint8))
    with pytest.raises(UserError) as error:
        read_map(tmp_path, "a")
    assert str(error.value).startswith(f"{tmp_path}/a.npy: shape {shape}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--maps", "DIR"], "--maps and --annotations go together"),
        (["--annotations", "x.csv"], "give run folders, or --maps and --annotations"),
        ([], "give run folders, or --maps and --annotations"),
        (["run", "--maps", "DIR", "--annotations", "x.csv"], "give run folders, or --maps and"),
        (["--maps", "DIR", "--annotations", "x.csv"], "no file x.csv; want the columns image,"),
    ],
)
def test_flags_that_do_not_go_together(user_error, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in user_error(main, words)
    assert list(tmp_path.iterdir()) == []


def test_maps_and_annotations_are_not_overwritten(user_error, digits_maps, tmp_path):
    folder = digits_maps[0]
    for where in (folder / "cam", folder, folder.parent):
        line = user_error(main, maps_words(folder, "cam", where, "--overwrite"))
        assert line == f"error: --output-dir {where}: {folder}/cam is in it; choose another folder"
    assert len(list((folder / "cam").glob("*.npy"))) == 25
