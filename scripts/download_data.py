"""Downloads a data set, checks it, and puts it into the data folder.

    python -m scripts.download_data mnist

Nothing that is there is overwritten. All work is done in a `.partial-NAME.*` folder inside the data
folder, which is renamed into place when it is whole. So an interrupted run leaves nothing that
looks finished; the next run deletes what a killed one left. A running process locks `.NAME.lock`.

An archive may unpack to about four times the size of the official one: 250 MB for the MNIST family,
750 MB for CIFAR, 1 GB for Tiny-ImageNet, 5 GB for CUB, 200 MB for its segmentations.
"""

from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError
from scripts.dataset_files import DATA_SETS, RAW_MD5, max_bytes


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("name", metavar="NAME", choices=DATA_SETS, help=", ".join(DATA_SETS))
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="the data folder")
    parser.add_argument("--archive", type=Path, help="a .zip, .tar or .tgz to install instead")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    if args.data_dir.exists() and not args.data_dir.is_dir():
        raise UserError(f"--data-dir {args.data_dir} is a file; give a folder")
    if args.archive is not None:
        check_archive(args.archive, args.name)

    from scripts.installation import install

    install(args.name, args.data_dir, args.archive)
    print(f"next: {next_command(args.name, args.data_dir)}")


def check_archive(archive: Path, name: str) -> None:
    """UserError when `--archive` is no file, or larger than all that it may unpack to."""
    if archive.suffix == ".lock" or not archive.is_file():  # a lock is of another download
        raise UserError(f"--archive {archive}: no such file; give a .zip, .tar or .tgz")
    size, limit = archive.stat().st_size / 1e6, max_bytes(name) / 1e6
    if size > limit:
        raise UserError(f"--archive {archive}: {size:,.1f} MB, {name} has at most {limit:,.1f} MB")


def next_command(name: str, data_dir: Path) -> str:
    """A command that trains on the data set."""
    localised = name not in (*RAW_MD5, "cifar10", "cifar100")
    dataset = name.removesuffix("-segmentations")
    command = f"python -m {'infocam' if localised else 'pc_softmax'}.train --dataset {dataset}"
    return command + (f" --data-dir {data_dir}" if data_dir != Path("data") else "")


if __name__ == "__main__":
    main()
