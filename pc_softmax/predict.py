"""Classifies pictures with a trained network, under any class prior.

    python -m pc_softmax.predict runs/pc_softmax/folder-pc-softmax-0 photos more/cat.jpg
    python -m pc_softmax.predict runs/pc_softmax/mnist-pc-softmax-0 digits --target-prior em

Reads picture files, and all pictures in and below folders. Class names, the size of the input, the
counts of the training images and the weights come from the run; a frozen backbone comes from where
its training took it. The target prior is that of `pc_softmax.evaluate`; `em`, `bbse`, `pacc` and
`auto` estimate it from these pictures. A network of grey images, such as MNIST's, gets
grey pictures.

Writes

    predictions.csv        a row per picture: file, class, probability; entropy of the posterior and
                           pmi, log of probability / prior of the class, in nats; the next four
                           classes with their probabilities
    class_frequencies.csv  a row per class: share in training, target prior, share of pictures that
                           get the class, and the estimated share with a 95 % bootstrap interval
    unreadable.csv         files that could not be read, and why
    logits.npz             logits, files and priors, for `pc_softmax.adjust`
    result.json
"""

import shlex
from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError
from pc_softmax.recipes import add_bootstrap, add_target_prior


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("run", type=Path, help="folder that pc_softmax.train wrote")
    text = "picture files, and folders with pictures at any depth"
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURES", help=text)
    cli.add_common_arguments(
        parser, output_dir=None, folder="RUN/predicted", data=False, resume=False
    )
    add = parser.add_argument_group("estimate").add_argument
    add_target_prior(add, default="uniform")
    add_bootstrap(add)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    folder, flags = args.output_dir or args.run / "predicted", vars(args)
    if folder.resolve() in (args.run.resolve(), *args.run.resolve().parents):
        raise UserError(f"--output-dir {folder} holds the run itself; choose another folder")

    import numpy as np

    from mi_common import runtime
    from mi_common.files import write_json
    from mi_common.pictures import picture_files, printable
    from mi_common.records import check_output, prepare_output
    from pc_softmax.decisions import decide, write_decisions, write_unreadable
    from pc_softmax.logit_files import write_logits
    from pc_softmax.trained import TrainedNetwork

    device = runtime.from_flags(args)
    if device.world_size > 1:
        raise UserError("pc_softmax.predict is one process; run it without torchrun")
    check_output(folder, flags, overwrite=args.overwrite)
    paths, others = picture_files(args.pictures)
    network = TrainedNetwork.load(args.run, runtime=device, num_workers=args.num_workers)
    predictions = network.predictions
    if args.target_prior != "em":  # what cannot work is said before pictures are read
        logits = next(iter(predictions.test_logits.values()), np.eye(len(predictions.counts)))
        predictions.adapter.target_log_prior(args.target_prior, logits)
    device.say(f"pc_softmax: {device.describe()}, {args.run}, {len(paths)} pictures")
    if others:
        first = printable(others[0])
        device.say(f"left out {len(others)} files that are no pictures, such as {first}")
    logits, read, unreadable = network.logits_of_files(paths)
    if not read:
        path, reason = unreadable[0]
        raise UserError(f"none of {len(paths)} pictures could be read, first {path}: {reason}")
    prepare_output(folder, flags, overwrite=args.overwrite)
    files = [printable(path) for path in read]
    write_logits(predictions, logits, files, folder / "logits.npz")
    pc_logits = predictions.pc_softmax_logits(logits.astype(float))
    options = {"target": args.target_prior, "replicates": args.bootstrap, "seed": args.seed}
    decisions = decide(predictions, pc_logits, files, **options)
    write_decisions(predictions, decisions, folder)
    write_unreadable(unreadable, folder)
    counts = {"n": len(read), "n_unreadable": len(unreadable)}
    write_json(
        folder / "result.json", {"target_prior": args.target_prior} | counts | decisions.summary
    )
    print(f"wrote {folder}: predictions.csv, class_frequencies.csv, unreadable.csv, logits.npz")
    print(f"next: python -m pc_softmax.adjust {shlex.quote(str(folder / 'logits.npz'))}")


if __name__ == "__main__":
    main()
