"""The data sets as their authors publish them: addresses, checksums, sizes, and what must be there.

An archive may unpack to about four times what the official one does.
"""

from dataclasses import dataclass

from mi_common.datasets import CIFAR_DATASETS, cifar_files

# The mirrors' gzip files have their md5 in torchvision; these are the files inside.
RAW_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
RAW_BYTES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
RAW_MAX_BYTES = 250_000_000  # of an archive with the raw files


@dataclass(frozen=True)
class OfficialArchive:
    """An official archive and what must be in its folder, which may lie in another set's."""

    url: str
    md5: str
    folder: str
    required: tuple[str, ...]
    max_bytes: int  # of any archive, unpacked: about four times the official one's


OFFICIAL = {
    "tiny-imagenet": OfficialArchive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
        "tiny-imagenet-200",
        ("wnids.txt", "words.txt", "train", "val/val_annotations.txt"),
        1_000_000_000,
    ),
    "cub": OfficialArchive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "97eceeb196236b17998738112f37df78",
        "CUB_200_2011",
        (
            "images.txt",
            "image_class_labels.txt",
            "train_test_split.txt",
            "bounding_boxes.txt",
            "classes.txt",
        ),
        5_000_000_000,
    ),
    "cub-segmentations": OfficialArchive(
        "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
        "4d47ba1228eae64f2fa547c47bc65255",
        "CUB_200_2011/segmentations",
        ("001.Black_footed_Albatross", "200.Common_Yellowthroat"),
        200_000_000,
    ),
    **{
        name: OfficialArchive(
            cifar.url, cifar.tgz_md5, cifar.base_folder, cifar_files(name), 750_000_000
        )
        for name, cifar in CIFAR_DATASETS.items()
    },
}
