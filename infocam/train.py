"""Trains the classifier whose maps localise, from image labels alone.

    python -m infocam.train --dataset tiny-imagenet
    python -m infocam.train --dataset scattered-digits
    python -m infocam.train --dataset cub --network resnet50 --no-freeze-backbone --adl

The default for photographs is a frozen `efficientnet_lite0` at 224 pixels: its pooled features are
computed once and cached under the data folder, and a linear head trains on them.
`--no-freeze-backbone` trains the whole network, with the recipes of Choe and Shim (2019) for VGG16
and ResNet50, and `--adl` adds their attention-based dropout. For scattered digits a small
convolutional network trains from scratch, about two minutes on two cores. There is no early
stopping: the weights of the last epoch are kept.

Writes the files of a run folder (see `mi_common.records`), and `split.json` with the names of the
training and validation images.
"""

from pathlib import Path

from infocam.recipes import Settings, add_arguments, resolve
from mi_common import cli
from mi_common.recipes import take


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(parser, output_dir=None, folder="runs/infocam/DATASET-LOSS-SEED")
    add_arguments(parser)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    resolve(args)
    flags, settings = vars(args), take(Settings, args)

    from infocam import training
    from infocam.data.load import load_splits
    from mi_common import runtime
    from mi_common.records import RunFolder, check_output, prepare_output

    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/infocam/{args.dataset}-{args.loss}-{args.seed}")
    run = RunFolder(folder)
    output_options = {"resume": args.resume, "overwrite": args.overwrite}
    device.on_main(check_output, folder, flags, **output_options)
    sets = load_splits(
        **vars(settings.data), data_dir=args.data_dir, splits=("train", "validation")
    )
    output_options["data"] = training.fingerprints(settings, sets)
    device.on_main(check_output, folder, flags, **output_options)
    done = device.gather(args.resume and run.finished)[0]
    if not done:  # before anything is written, because cached features find unreadable images
        classifier = training.build_classifier(
            settings,
            len(sets["train"].class_names),
            cache_dir=args.data_dir / "features",
            num_workers=args.num_workers,
            runtime=device,
        )
        classifier.cache_features(sets["train"], copies=settings.training.augmented_copies)
        classifier.cache_features(sets["validation"], maps=True)  # which evaluation needs too
    output_options["description"] = training.description(sets)
    device.on_main(prepare_output, folder, flags, **output_options)
    device.require_shared(folder)
    device.say(f"infocam: {device.describe()}, seed {args.seed}, writing {folder}")
    if not done:
        training.train(settings, sets, classifier, run)
    run.require_files("checkpoint.pt", "split.json")
    device.say(f"top-1 accuracy {100 * run.result()['validation_accuracy']:.1f} % (validation)")
    device.say(
        f"wrote {folder}/checkpoint.pt, split.json and result.json; "
        f"next: python -m infocam.evaluate {folder}"
    )


if __name__ == "__main__":
    main()
