"""The data sets as their authors publish them: addresses, checksums, sizes, required files."""

from dataclasses import dataclass

IDX_FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # named as torchvision's classes
# torchvision has the md5 of the mirrors' gzip files; these are of the files inside.
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
RAW_MAX_BYTES = 250_000_000  # of an archive with the raw files, unpacked


@dataclass(frozen=True)
class OfficialArchive:
    """An official archive, the folder that it holds, and the files that this folder must have."""

    url: str
    md5: str
    folder: str  # below the data folder
    required: tuple[str, ...]
    max_bytes: int  # of any archive of this data set, unpacked


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
    "cifar10": OfficialArchive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        750_000_000,
    ),
    "cifar100": OfficialArchive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
        ("train", "test", "meta"),
        750_000_000,
    ),
}
DATA_SETS = (*RAW_MD5, *OFFICIAL)


def max_bytes(name: str) -> int:
    """What an archive of a data set may unpack to."""
    return RAW_MAX_BYTES if name in RAW_MD5 else OFFICIAL[name].max_bytes


def folder_of(name: str) -> str:
    """Where a data set is installed, below the data folder."""
    return f"{IDX_FOLDERS[name]}/raw" if name in RAW_MD5 else OFFICIAL[name].folder
