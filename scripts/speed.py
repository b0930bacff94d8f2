"""Times estimates, imbalanced classification and localisation on this machine.

    python -m scripts.speed --parts errors memory

`errors`: until `mi_estimator.estimate` has printed an error, the least of `--repeats` runs.
`estimate`: the whole of it on a CSV file of 1,000,000 rows and 20 features, which takes minutes.
`memory`: an epoch of a linear head over memory-mapped features. `localisation`: all methods and
thresholds from cached maps, in `--num-workers` processes.

`plain`: stages on a CPU, in CPU seconds of one thread, each beside its plain version and with its
peak memory; it writes its own table, `plain`.

    python -m scripts.speed --parts plain

Parts for a GPU, each beside the bare work in plain PyTorch, together `gpu`:

    python -m scripts.speed --device cuda --parts gpu --num-workers 8

`digits`: MNIST's epochs and the whole command. `training`: ResNet50 and EfficientNet-Lite0, in
fp32, bf16 and compiled. `extraction`: feature maps of JPEG files. `suite`: the paper's estimates.
They write their own table, `gpu`. Each table is written anew after each row.
"""

import itertools
from pathlib import Path

from mi_common import cli

PARTS = ("errors", "estimate", "memory", "localisation")
GPU_PARTS = ("digits", "extraction", "training", "suite")


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    add = parser.add_argument_group("run").add_argument
    choices = (*PARTS, *GPU_PARTS, "gpu", "plain")
    add("--parts", nargs="+", choices=choices, default=PARTS, help="what to time")
    add("--repeats", type=cli.positive_int, default=3, help="runs of an error or a stage")
    add("--device", type=cli.device_name, default="auto", help="auto, cpu, cuda or cuda:N")
    add(
        "--num-workers",
        type=cli.worker_count,
        default=2,
        help="processes that box or read images",
    )
    add("--data-dir", type=Path, default=Path("data"), help="folder of the data sets")
    add("--output-dir", type=Path, default=Path("runs/speed"), help="folder to write")
    add("--overwrite", action="store_true", help="replace an earlier table")
    add = parser.add_argument_group("training and extraction").add_argument
    add("--images", type=cli.positive_int, default=2048, help="images")
    add("--batch-size", type=cli.positive_int, default=128, help="images a step of training")
    text = "side of the images in pixels (default: that of the network)"
    add("--image-size", type=cli.image_side, help=text)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_common import runtime
    from mi_common.errors import UserError
    from mi_common.records import prepare_output
    from pc_softmax.data import load_data
    from scripts import gpu_timings, plain_timings, timings

    parts = {*args.parts, *(GPU_PARTS if "gpu" in args.parts else ())}
    if args.images < 2 * args.batch_size and "training" in parts:
        raise UserError(f"--images {args.images}: at least two batches of {args.batch_size}")
    if parts & {"plain", "digits"}:
        load_data("mnist", args.data_dir, imbalance="paper")  # before anything is written
    on_gpu = runtime.setup(args.device).device.type == "cuda"  # UserError without the device
    prepare_output(args.output_dir, vars(args), overwrite=args.overwrite)
    device, side = args.device, {"side": args.image_size}
    rows_of = {  # generators: nothing runs yet
        "errors": timings.time_errors(args.repeats),
        "estimate": timings.time_estimate(device),
        "memory": timings.time_memory(),
        "localisation": timings.time_localisation(args.num_workers),
        "plain": plain_timings.time_stages(args.data_dir, args.repeats),
        "digits": gpu_timings.time_digits(args.data_dir, device),
        "extraction": gpu_timings.time_extraction(device, args.images, args.num_workers, **side),
        "suite": gpu_timings.time_suite(device),
        "training": gpu_timings.time_training(device, args.images, args.batch_size, **side),
    }
    tables = {
        "gpu": (GPU_PARTS, gpu_timings.COLUMNS),
        "plain": (("plain",), plain_timings.COLUMNS),
        "table": (PARTS, timings.COLUMNS),
    }
    for name, (names, columns) in tables.items():
        if generators := [rows_of[part] for part in names if part in parts]:
            rows, path = itertools.chain(*generators), args.output_dir / name
            timings.write_rows(rows, columns, path, on_gpu=on_gpu and name == "gpu")
    print("next: compare with scripts/README.md, section Speed")


if __name__ == "__main__":
    main()
