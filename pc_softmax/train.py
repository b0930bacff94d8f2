"""Trains a classifier on imbalanced images and saves its predictions of every test set.

    python -m pc_softmax.train --dataset mnist --loss pc-softmax --seed 0
    python -m pc_softmax.train --dataset tiny-imagenet --loss ldam --drw 20
    python -m pc_softmax.train --dataset folder --data-dir pictures --imbalance none

MNIST is the original's protocol: 16,500 training images (3,000 of each odd digit, 300 of each even
one), SGD with momentum 0.5, learning rate 0.01, batch 64, 8 epochs. For sets of photographs the
backbone is frozen as in the paper: its features are computed once and cached under the data folder,
and a linear head trains on them; `--no-freeze-backbone` trains all of it. The last epoch counts.

Writes `predictions.npz` (logits and labels of each test set, priors), `indices.npz` (the images
chosen), and the files of a run folder; see `mi_common.records`.
"""

import time
from pathlib import Path

from torch import nn

from mi_common import cli, runtime
from mi_common.errors import UserError
from mi_common.files import save_arrays
from mi_common.fingerprints import file_fingerprint
from mi_common.information import class_counts, log_prior_from_counts
from mi_common.records import RunFolder, check_output, prepare_output
from mi_common.runtime import Runtime, seed_everything
from mi_common.tables import to_markdown
from pc_softmax.data import ImbalancedData, indices_digest
from pc_softmax.losses import LOSSES, build_loss
from pc_softmax.metrics import classification_scores, scores_table
from pc_softmax.models import Model, finished_checkpoint, load_model, new_model
from pc_softmax.optimisation import fit_model
from pc_softmax.posthoc import logit_log_prior
from pc_softmax.recipes import add_arguments, read_data, set_defaults, train_options


def train(
    data: ImbalancedData,
    run: RunFolder,
    model: Model,
    *,
    loss: str,
    loss_options: dict,
    retrain_head: bool,
    seed: int,
    training: dict,
    runtime: Runtime,
) -> dict:
    """Trains a model, or goes on with it, and writes predictions and the result.

    Args:
        loss_options: see `build_loss`.
        retrain_head: a new last layer on the features as they are, every class drawn equally often
            (cRT, Kang et al. 2020).
        training: see `fit_model`.

    Returns:
        The content of result.json: scores of each test set, seconds, sizes.
    """
    counts = class_counts(data.train.labels, len(data.class_names))
    seed_everything(seed)
    objective = build_loss(loss, counts, **loss_options).to(runtime.device)
    history = fit_model(
        model, data.train, objective, run, seed=seed, balanced=retrain_head, **training
    )
    started = time.perf_counter()
    parts = data.tests | ({"validation": data.validation} if data.validation else {})
    logits = {name: model.predict(part) for name, part in parts.items()}
    if loss == "ldam":
        logits = {name: objective.scale * cosines for name, cosines in logits.items()}
    arrays = {f"{name}_logits": values.numpy() for name, values in logits.items()}
    arrays |= {f"{name}_labels": part.labels.numpy() for name, part in parts.items()}
    arrays |= {
        "counts": counts.numpy(),
        "log_prior": log_prior_from_counts(counts).numpy(),
        "logit_log_prior": logit_log_prior(objective, counts, balanced=retrain_head).numpy(),
        "class_names": data.class_names,
    }
    if isinstance(model.last, nn.Linear):
        arrays["head_norms"] = model.last.weight.detach().norm(dim=1).cpu().numpy()
        arrays["head_bias"] = model.last.bias.detach().cpu().numpy()
    result = {
        "test_sets": {
            name: classification_scores(logits[name].numpy(), part.labels.numpy())
            | {"n_test": len(part)}
            for name, part in data.tests.items()
        },
        "seconds": sum(line["seconds"] for line in history),
        "predict_seconds": time.perf_counter() - started,
        "n_train": len(data.train),
        "indices_sha256": indices_digest(data.indices),
        "body_sha256": model.body_digest(),
    }
    indices = {name.replace("/", "_"): chosen.numpy() for name, chosen in data.indices.items()}

    def write() -> None:
        save_arrays(run.path / "predictions.npz", **arrays)
        save_arrays(run.path / "indices.npz", **indices)
        run.save_result(result)

    runtime.on_main(write)
    return result


def check_loss(args, data: ImbalancedData) -> None:
    """UserError for flags of the loss that do not go together."""
    if args.retrain_head and args.init is None:
        raise UserError("--retrain-head: give the run of the first stage with --init RUN")
    if args.drw is not None and args.drw >= args.epochs:
        raise UserError(f"--drw {args.drw}: must be below --epochs {args.epochs}")
    counts = class_counts(data.train.labels, len(data.class_names))
    build_loss(args.loss, counts, **train_options(args)["loss_options"])


def fingerprints(args, data: ImbalancedData) -> dict[str, str]:
    """What the run is computed from, for config.json; see `mi_common.fingerprints`."""
    fingerprints = data.fingerprints()
    if Path(args.weights).is_file():
        fingerprints["weights"] = file_fingerprint(Path(args.weights))
    if args.init is not None:
        fingerprints["init"] = file_fingerprint(finished_checkpoint(args.init))
    return fingerprints


def build_model(args, data: ImbalancedData, runtime: Runtime) -> Model:
    """The network that the flags describe, with the weights of --init's run, its features cached.

    Errors are those of `new_model`, `load_model` and `Model.cache_features`.
    """
    seed_everything(args.seed)
    model = new_model(
        args.network,
        data,
        weights=args.weights,
        head_only=args.freeze_backbone or args.retrain_head,
        cosine=args.loss == "ldam",
        size=args.image_size,
        cache_dir=args.data_dir / "features",
        num_workers=args.num_workers,
        runtime=runtime,
    )
    if args.init is not None:
        load_model(model, args.init, keep_last=not args.retrain_head)
    model.cache_features(data, copies=args.augmented_copies)
    return model


def get_parser() -> cli.Parser:
    parser = cli.Parser("Train a classifier on imbalanced images.")
    cli.add_common_arguments(parser, output_dir=None)
    add_arguments(parser)
    parser.add_argument("--loss", choices=LOSSES, default="pc-softmax", help="training loss")
    parser.add_argument(
        "--drw",
        type=cli.non_negative_int,
        metavar="EPOCH",
        help="class weights from this epoch on (weighted, class-balanced, focal, ldam)",
    )
    parser.add_argument(
        "--init", type=Path, metavar="RUN", help="start from the network of a finished run"
    )
    parser.add_argument(
        "--retrain-head",
        action="store_true",
        help="a new last layer on --init's features, classes drawn equally often (cRT)",
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    set_defaults(args)
    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/pc_softmax/{args.dataset}-{args.loss}-{args.seed}")
    run, flags = RunFolder(folder), vars(args)
    output_options = {"resume": args.resume, "overwrite": args.overwrite}
    device.on_main(check_output, folder, flags, **output_options)
    data = read_data(args, device.say)
    check_loss(args, data)
    output_options["data"] = fingerprints(args, data)
    device.on_main(check_output, folder, flags, **output_options)
    done = device.gather(args.resume and run.finished)[0]
    model = None if done else build_model(args, data, device)
    device.on_main(prepare_output, folder, flags, **output_options)
    device.require_shared(folder)
    device.say(f"pc_softmax: {device.describe()}, seed {args.seed}, writing {folder}")
    if model is not None:
        train(data, run, model, runtime=device, **train_options(args))
    run.require_files("predictions.npz", "indices.npz", "checkpoint.pt")
    device.say(to_markdown(scores_table(run.result()["test_sets"])))
    device.say(f"wrote {folder}/predictions.npz, indices.npz, checkpoint.pt and result.json")


if __name__ == "__main__":
    main()
