"""OpenImages of the benchmark: metadata with masks, and PxAP against a slow evaluator."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from infocam import evaluate, train
from infocam.data.annotations import read_annotations
from infocam.data.load import load_splits
from infocam.data.masks import InstanceMasks, object_boxes, scored_mask
from infocam.data.wsol_metadata import read_mask_split
from infocam.scoring.protocols import PROTOCOLS
from infocam.scoring.saved_maps import evaluate_saved_maps
from mi_common.errors import UserError

CLASSES, EACH = ("0abc", "1def"), {"train": 3, "val": 2, "test": 2}
SIZES = [(20, 10), (33, 47)]  # of the images, in turn; the masks of the second are smaller
MASK_SIZES = [(20, 10), (30, 40)]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Two classes; images with one or two objects, and with and without a region to ignore."""
    root, rng = tmp_path_factory.mktemp("openimages"), np.random.default_rng(0)
    for split, count in EACH.items():
        ids, labels, places = [], [], []
        for k, folder in enumerate(CLASSES):
            (root / "OpenImages" / split / folder).mkdir(parents=True)
            for i in range(count):
                stem = f"{split}/{folder}/{i}"
                Image.fromarray(
                    rng.integers(0, 255, (*SIZES[i % 2][::-1], 3)).astype(np.uint8)
                ).save(root / f"OpenImages/{stem}.jpg")
                ids.append(f"{stem}.jpg")
                labels.append(f"{stem}.jpg,{k}")
                for number in range(1 + i % 2):
                    save_mask(root / f"OpenImages/{stem}_m{number}.png", i, rng)
                    ignored = f"{stem}_ignore.png" if number == 0 and i == 1 else ""
                    places.append(f"{stem}.jpg,{stem}_m{number}.png,{ignored}")
                save_mask(root / f"OpenImages/{stem}_ignore.png", i, rng)
        metadata = root / "metadata/OpenImages" / split
        metadata.mkdir(parents=True)
        files = {"image_ids": ids, "class_labels": labels, "localization": places}
        for name, lines in files.items():
            if (split, name) != ("train", "localization"):
                (metadata / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def save_mask(path: Path, i: int, rng: np.random.Generator) -> None:
    width, height = MASK_SIZES[i % 2]
    mask = np.zeros((height, width), np.uint8)
    x, y = rng.integers(0, width // 2), rng.integers(0, height // 2)
    mask[y : y + height // 3, x : x + width // 3] = 255
    mask[y + 1, x + 1] = 0
    Image.fromarray(mask).convert("1").save(path)


def parts_of(data_dir: Path) -> dict:
    options = {"images_per_class": None, "val_per_class": 0, "test_images": None}
    return load_splits("openimages30k", data_dir, **options)


def slow_mask(data_dir: Path, image: str) -> np.ndarray:
    """The rules of the benchmark at 224 x 224, from the text file itself."""
    objects, ignored = np.zeros((224, 224), bool), np.zeros((224, 224), bool)
    text = (data_dir / "metadata/OpenImages/test/localization.txt").read_text()
    for line in text.splitlines():
        path, mask, region = line.split(",")
        for name, into in ((mask, objects), (region, ignored)):
            if path == image and name:
                levels = cv2.imread(str(data_dir / "OpenImages" / name), cv2.IMREAD_GRAYSCALE)
                into |= cv2.resize(levels, (224, 224), interpolation=cv2.INTER_NEAREST) > 0.5
    return np.where(objects, 1, np.where(ignored, 255, 0))


def slow_pxap(data_dir: Path, maps: dict[str, np.ndarray]) -> float:
    """Precision and recall at each thousandth, pixel by pixel of all images together."""
    scores, truths = [], []
    for image, values in maps.items():
        resized = cv2.resize(values, (224, 224), interpolation=cv2.INTER_CUBIC)
        scores.append((resized - resized.min()) / (resized.max() - resized.min()))
        truths.append(slow_mask(data_dir, image))
    scores, truths = np.stack(scores), np.stack(truths)
    area, last_recall = 0.0, 0.0
    for threshold in [1.0, *np.arange(999, -1, -1) / 1000]:
        above = scores >= threshold
        true, false = (above & (truths == 1)).sum(), (above & (truths == 0)).sum()
        if true + false:
            recall = true / (truths == 1).sum()
            area += true / (true + false) * (recall - last_recall)
            last_recall = recall
    return area


def test_pxap_of_saved_maps_equals_a_slow_evaluator(data_dir, tmp_path):
    rng, maps = np.random.default_rng(1), {}
    for image in parts_of(data_dir)["test"].image_names:
        maps[f"{image}.jpg"] = rng.random((7, 7)).astype(np.float32)
        path = tmp_path / f"maps/{image}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, maps[f"{image}.jpg"])
    source = tmp_path / "maps", data_dir / "metadata/OpenImages/test"
    options = {"normalisation": "minmax", "fixed": 0.2, "workers": None}
    evaluation = evaluate_saved_maps(source, None, PROTOCOLS["wsol"], **options)
    rows = evaluation.rows.set_index("threshold_rule")
    assert rows.loc["oracle"].iloc[-1]["pxap"] == pytest.approx(slow_pxap(data_dir, maps))


def test_splits_have_masks_boxes_around_them_and_sizes_of_the_images(data_dir):
    parts = parts_of(data_dir)
    assert [len(parts[split]) for split in ("train", "validation", "test")] == [6, 4, 4]
    train_part, test = parts["train"], parts["test"]
    assert train_part.mask_files is None and [len(boxes) for boxes in train_part.boxes] == [0] * 6
    assert test.class_names == list(CLASSES)
    assert test.sizes.tolist() == [list(size) for size in SIZES] * 2
    assert [len(boxes) for boxes in test.boxes] == [1, 2, 1, 2]
    assert [files.ignored is not None for files in test.mask_files] == [False, True] * 2
    for i, image in enumerate(test.image_names):
        mask = scored_mask(test.mask_files[i], test.sizes[i], (224, 224))
        assert np.array_equal(mask, slow_mask(data_dir, f"{image}.jpg"))


def test_boxes_are_around_each_object_in_pixels_of_the_image(tmp_path):
    levels = np.zeros((10, 20), np.uint8)
    levels[2:5, 4:10] = 1
    Image.fromarray(levels).save(tmp_path / "a.png")
    levels[9, 19] = 9
    Image.fromarray(levels).save(tmp_path / "b.png")
    Image.fromarray(levels * 0).save(tmp_path / "c.png")
    masks = InstanceMasks((tmp_path / "a.png", tmp_path / "b.png"))
    assert object_boxes(masks, 20, 10).tolist() == [[4, 2, 9, 4], [4, 2, 19, 9]]
    assert object_boxes(masks, 40, 20).tolist() == [[8, 4, 19, 9], [8, 4, 39, 19]]
    assert object_boxes(masks, 10, 5).tolist() == [[2, 1, 4, 2], [2, 1, 9, 4]]
    with pytest.raises(UserError, match=r"c\.png: no foreground; leave its line out"):
        object_boxes(InstanceMasks((tmp_path / "c.png",)), 20, 10)


FIRST = "test/0abc/0.jpg,test/0abc/0_m0.png,"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("test/0abc/0.jpg", "'test/0abc/0.jpg' is not PATH,MASK,IGNORED"),
        ("test/0abc/9.jpg,a.png,", "no 'test/0abc/9.jpg' in image_ids.txt; want PATH,MASK"),
        ("test/0abc/0.jpg,,", "no mask; want PATH,MASK,IGNORED"),
        ("test/0abc/0.jpg,a.png,", "no mask "),
        ("test/0abc/0.jpg,../a.png,", "'../a.png' is not a path such as"),
        ("test/0abc/1.jpg,test/0abc/1_m0.png,test/0abc/0_ignore.png", "a second mask of what"),
        (None, "image 'test/0abc/0.jpg' has no line in"),
    ],
)
def test_wrong_lines_are_named(data_dir, tmp_path, line, message):
    folder = tmp_path / "test"
    folder.mkdir()
    for file in ("image_ids.txt", "class_labels.txt"):
        (folder / file).write_text((data_dir / "metadata/OpenImages/test" / file).read_text())
    text = (data_dir / "metadata/OpenImages/test/localization.txt").read_text()
    text = text.replace(f"{FIRST}\n", "") if line is None else f"{text}{line}\n"
    (folder / "localization.txt").write_text(text)
    place = "image_ids.txt, line 1" if line is None else "localization.txt, line 7"
    with pytest.raises(UserError) as error:
        read_mask_split(folder, data_dir / "OpenImages")
    assert str(error.value).startswith(f"{folder}/{place}: {message}")


def test_the_format_of_a_folder_is_seen_in_its_first_line(data_dir, tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    for file, line in {
        "image_ids.txt": "a.jpg",
        "class_labels.txt": "a.jpg,0",
        "image_sizes.txt": "a.jpg,9,9",
        "localization.txt": "a.jpg,1,2,3,4",
    }.items():
        (folder / file).write_text(f"{line}\n")
    assert read_annotations(folder).masks is None
    annotations = read_annotations(data_dir / "metadata/OpenImages/test")
    test = parts_of(data_dir)["test"]
    assert (annotations.names, annotations.masks) == (test.image_names, test.mask_files)
    assert annotations.sizes.tolist() == test.sizes.tolist()
    assert [b.tolist() for b in annotations.boxes] == [b.tolist() for b in test.boxes]


def test_a_run_trains_and_its_saved_maps_score_as_the_run_did(data_dir, tmp_path):
    words = ["--data-dir", str(data_dir), "--device", "cpu", "--num-workers", "0"]
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    train.main(["--dataset", "openimages30k", "--epochs", "1", "--output-dir", run, *words])
    more = ["--protocol", "wsol", "--overlays", "1", "--gallery", "0", "--methods", "infocam"]
    evaluate.main([run, *words, *more, "--output-dir", out, "--save-maps"])
    rows = pd.read_csv(f"{out}/results.csv").set_index(["method", "threshold_rule"])
    maps = Path(out) / "maps/test"
    test = parts_of(data_dir)["test"]
    saved = {f"{name}.jpg": np.load(maps / f"infocam/{name}.npy") for name in test.image_names}
    expected = slow_pxap(data_dir, saved)
    assert rows.loc[("infocam", "oracle"), "pxap"] == pytest.approx(expected)
    # The masks beside the maps have the size of their image.
    annotations = read_annotations(maps / "annotations.csv")
    for i, files in enumerate(test.mask_files):
        mask = scored_mask(annotations.masks[i], test.sizes[i], (224, 224))
        assert np.array_equal(mask, scored_mask(files, test.sizes[i], tuple(test.sizes[i])))
