"""Times estimates, imbalanced classification and localisation on this machine.

    python -m scripts.speed --parts head memory

`errors`: until `mi_estimator.estimate` has printed an error. `estimate`: the whole of it on a CSV
file of 1,000,000 rows and 20 features, which takes minutes. `mnist`: the paper's run, 8 epochs of
16,500 images in batches of 64, and its stages; fp32 and bf16. `head`: a linear head on cached
features. `memory`: an epoch over memory-mapped features. `features`: a frozen backbone's feature
maps of image files, beside its forward pass alone. `boxes`: boxes of a map at 1,000
thresholds, beside a call of OpenCV for each. `localisation`: all methods and thresholds from cached
maps. Times of `errors`, `mnist` and `head` are the least of `--repeats` runs.

`plain`: stages on a CPU, in CPU seconds of one thread, each beside its plain version and with its
peak memory; it writes its own table, `plain`.

    python -m scripts.speed --parts plain

Parts for a GPU, each beside the bare work in plain PyTorch, together `gpu`:

    python -m scripts.speed --device cuda --parts gpu --num-workers 8

`digits`: MNIST's epochs and the whole command. `training`: ResNet50 and EfficientNet-Lite0, in
fp32, bf16 and compiled. `extraction`: feature maps of JPEG files. `suite`: the paper's estimates.
They write their own table, `gpu`, row after row.
"""

from pathlib import Path

from mi_common import cli

PARTS = ("errors", "estimate", "mnist", "head", "memory", "features", "boxes", "localisation")
GPU_PARTS = ("digits", "extraction", "training", "suite")


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    add = parser.add_argument_group("run").add_argument
    choices = (*PARTS, *GPU_PARTS, "gpu", "plain")
    add("--parts", nargs="+", choices=choices, default=PARTS, help="what to time")
    add("--repeats", type=cli.positive_int, default=3, help="runs of each")
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

    import pandas as pd

    from mi_common import runtime, tables
    from mi_common.errors import UserError
    from mi_common.files import write_json
    from mi_common.records import environment, prepare_output
    from pc_softmax.data import load_data
    from scripts import gpu_timings, plain_timings, timings

    parts, folder, workers = args.parts, args.output_dir, args.num_workers
    gpu_parts = GPU_PARTS if "gpu" in parts else [part for part in GPU_PARTS if part in parts]
    if args.images < 2 * args.batch_size and "training" in gpu_parts:
        raise UserError(f"--images {args.images}: at least two batches of {args.batch_size}")
    if {"mnist", "plain"} & set(parts) or "digits" in gpu_parts:
        load_data("mnist", args.data_dir, imbalance="paper")  # before anything is written
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_json(folder / "hardware.json", environment())
    if gpu_parts:
        options = {"side": args.image_size}
        rows_of = {  # generators: nothing runs yet
            "digits": gpu_timings.time_digits(args.data_dir, args.device),
            "extraction": gpu_timings.time_extraction(args.device, args.images, workers, **options),
            "suite": gpu_timings.time_suite(args.device),
            "training": gpu_timings.time_training(
                args.device, args.images, args.batch_size, **options
            ),
        }
        gpu_timings.write_parts([rows_of[part] for part in gpu_parts], folder)
    if "plain" in parts:
        stages = list(plain_timings.STAGES)
        plain_timings.write_stages(stages, args.data_dir, args.repeats, folder)
    if not set(parts) & set(PARTS):
        return
    rows = timings.time_errors(args.repeats) if "errors" in parts else []
    if "estimate" in parts:
        rows.append(timings.time_estimate(args.device))
    for precision in ("fp32", "bf16") if "mnist" in parts else ():
        rows += timings.time_mnist(args.data_dir, args.device, precision, args.repeats)
    if "head" in parts:
        rows.append(timings.time_cached_head(runtime.setup(args.device), args.repeats))
    if "memory" in parts:
        what, note = "head on memory-mapped features, one epoch", "100,000 x 1,280"
        rows.append(timings.alone(what, note, timings.time_file, 100_000))
    if "features" in parts:
        count, what = 640, "EfficientNet-Lite0, 640 images"
        note = "forward pass alone, batches of 16, one thread"
        rows.append(timings.throughput(what, note, count, timings.time_forward, count))
        note = "cached feature maps of JPEG files, one thread"
        rows.append(timings.throughput(what, note, count, timings.time_features, count))
    for side in (64, 224) if "boxes" in parts else ():
        rows += timings.time_boxes(side, workers)
    for images in (5_000, 10_000) if "localisation" in parts else ():
        what, note = f"evaluation from cached maps, {images:,} images", "10 methods, all thresholds"
        measured = timings.time_evaluation, images, workers
        rows.append(timings.throughput(what, note, images, *measured))
    table = pd.DataFrame(rows, columns=["what", "seconds", "note"])
    table["seconds"] = table["seconds"].map("{:.3g}".format)
    tables.write_tables(table, folder / "table")
    print(tables.to_markdown(table))
    print(f"wrote {folder}/table.md, table.tex and hardware.json")
    print("next: compare with scripts/README.md, section Speed")


if __name__ == "__main__":
    main()
