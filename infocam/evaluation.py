"""The scores of trained runs on their validation and test images, and the tables."""

import functools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from infocam.data.load import load_splits
from infocam.figures.gallery import save_galleries, save_overlays
from infocam.figures.plots import plot_threshold_curves
from infocam.localise import Maps, SplitMaps, faithfulness, score_maps, split_maps
from infocam.maps.methods import parse_methods
from infocam.models.classifiers import EARLIER_DEFAULTS, TrainedRun, run_classifier
from infocam.names import RANDOM
from infocam.recipes import DataSettings
from infocam.refinement import box_grids, keep_best_exponents, mean_map_curves, refined_curves
from infocam.scoring import scores, tables
from infocam.scoring.boxes import mean_map
from infocam.scoring.choice import RULE, best_regions, choices
from infocam.scoring.metrics import Evaluator, ScoredMaps
from infocam.scoring.objects import object_properties, object_rows, object_table
from infocam.scoring.paired import ALL, PART, image_differences, over_images_and_seeds
from infocam.scoring.protocols import PROTOCOLS
from mi_common.errors import UserError
from mi_common.files import write_json
from mi_common.image_sets import ImageSet
from mi_common.runtime import Runtime
from mi_common.tables import to_markdown, write_csv, write_tables
from mi_common.training import ImageClassifier

# Flags that may differ between the runs of a table, because they do not change the training.
NOT_TRAINING = {"output_dir", "data_dir", "num_workers", "device", "resume", "overwrite"}


@dataclass(frozen=True)
class Options:
    """How runs are evaluated: the flags of `infocam.evaluate` of the same names."""

    methods: tuple[str, ...]
    region: tuple[int, ...]
    region_padding: str
    padding: str | None
    output_stride: int | None
    propagate: tuple[float, ...]
    propagate_earlier: tuple[float, ...]
    normalisation: str
    prior: bool
    protocol: str
    fixed_threshold: float
    prior_map: tuple[float, ...] | None
    threshold_rule: str
    box_rule: str
    faithfulness: int
    data_dir: Path | None
    num_workers: int


def evaluate_run(
    run: TrainedRun,
    sets: dict[str, ImageSet],
    options: Options,
    *,
    runtime: Runtime,
    workers: Executor | None,
) -> tuple[scores.Evaluation, dict[str, ScoredMaps]]:
    """The scores of one run on its validation and test images, and the maps by split."""
    settings = run.settings
    changed = {"padding": options.padding, "output_stride": options.output_stride}
    trained = run_classifier(run.folder.path, **changed, runtime=runtime)
    regions, protocol = sorted({1, *options.region}), PROTOCOLS[options.protocol]
    methods = parse_methods(options.methods, trained.class_names)
    maps = Maps(
        [*methods, RANDOM],
        regions,
        padding=options.region_padding,
        normalisation=options.normalisation,
        exponents=options.propagate,
        earlier_exponents=options.propagate_earlier,
        **(trained.prior if options.prior else {}),
    )
    classifier = ImageClassifier(
        trained.network,
        head_only=settings.freeze_backbone,
        cache_dir=(options.data_dir or run.data_dir) / "features",
        num_workers=options.num_workers,
        runtime=runtime,
    )
    misread = settings.data.dataset == "tiny-imagenet" and protocol.legacy
    scoring = {"normalisation": options.normalisation, "misread": misread, "workers": workers}
    evaluator = functools.partial(Evaluator, protocol, **scoring)
    maps_by_split = {}
    for split, images in sets.items():
        print(f"{run.folder.path}: {len(images)} {split} images", flush=True)
        maps_by_split[split] = split_maps(classifier, images, maps)
    scored, chosen_settings = refine(maps_by_split, sets, methods, options, evaluator)
    test, validation = scored["test"], scored["validation"]
    weights = protocol.weights(sets["test"].labels.numpy())
    side = "x".join(map(str, next(iter(test.maps.values())).shape[1:]))
    shared = {"run": str(run.folder.path), "dataset": settings.data.dataset}
    shared |= {"network": settings.network, "loss": settings.loss, "seed": settings.seed}
    shared |= {"map": side, "protocol": protocol.name}
    shared |= {"accuracy": float(weights @ (test.ranks == 0))}
    boxes = [(sets[split].boxes, sets[split].sizes) for split in ("test", "validation")]
    of_test = {"ranks": test.ranks, "weights": weights, "misread": misread}
    baselines = scores.baseline_rows(*boxes, protocol, **of_test)
    of_methods = scores.method_rows(test, validation, weights, fixed=options.fixed_threshold)
    rows = pd.DataFrame([shared | row for row in (*baselines, *of_methods)])
    if len(regions) > 1:
        rows = scores.with_best_regions(rows, best_regions(validation.curves))
    names = tables.CHOSEN if chosen_settings else ()
    for name in (*names, *[tables.EARLIER] * bool(options.propagate_earlier)):
        values = {method: chosen.get(name) for method, chosen in chosen_settings.items()}
        rows[name] = rows["method"].map(values)
    differences = image_differences(rows, ranks=test.ranks, weights=weights)
    by_object = object_rows(rows, sets["test"].boxes, sets["test"].sizes)
    for column in ("seed", "protocol", "map", "loss", "network", "dataset", "run"):
        differences.insert(0, column, shared[column])
        by_object.insert(0, column, shared[column])
    if options.faithfulness:
        areas = faithfulness(classifier, sets["test"], test, options.faithfulness)
        rows = rows.merge(areas, on="method", how="left")
    for method, chosen in chosen_settings.items():
        settings_of_method = ", ".join(f"{name} {value}" for name, value in chosen.items())
        print(f"{run.folder.path}: validation images choose for {method}: {settings_of_method}")
    properties = object_properties(*boxes[0])
    of_images = {"ranks": test.ranks, "weights": weights, "properties": properties}
    choice = choices(validation.curves, chosen_settings)
    return scores.Evaluation(rows, differences, choice, by_object, **of_images), scored


def refine(
    maps_by_split: dict[str, SplitMaps],
    sets: dict[str, ImageSet],
    methods: list[str],
    options: Options,
    evaluator: Callable[..., Evaluator],
) -> tuple[dict[str, ScoredMaps], dict[str, dict]]:
    """Scores of the maps by split, plain and with each option of boxes, and the chosen settings.

    The settings are the exponents and options that validation images choose, by refined method.
    """
    curves = {}
    for split, of_split in maps_by_split.items():
        evaluators = {key: evaluator() for key in of_split.maps}
        curves[split] = score_maps(of_split.maps, sets[split], evaluators, label=f"{split} boxes")
    settings: dict[str, dict] = {}
    if options.propagate:
        exponents = options.propagate, options.propagate_earlier
        maps_by_split, curves, settings = keep_best_exponents(
            maps_by_split, curves, methods, *exponents
        )
    grids = box_grids(options.prior_map, options.threshold_rule, options.box_rule)
    prior_maps = {}
    for method in (*methods, *settings):
        maps = {split: of_split.maps[method, 1] for split, of_split in maps_by_split.items()}
        plain = {split: of_split[method, 1] for split, of_split in curves.items()}
        if options.prior_map is not None:
            prior_maps[method] = mean_map(maps["validation"], options.normalisation)
        priors = {"prior_map": prior_maps.get(method), "normalisation": options.normalisation}
        refined = refined_curves(maps, plain, sets, grids, evaluator, **priors)
        for name, (best, curves_by_split) in refined.items():
            settings[f"{method}, {name}"] = settings.get(method, {}) | asdict(best)
            for split, of_method in curves_by_split.items():
                curves[split][f"{method}, {name}", 1] = of_method
    if prior_maps:
        of_methods = {method: prior_maps[method] for method in methods}
        for split, images in sets.items():
            curves[split] |= mean_map_curves(of_methods, images, evaluator)
    scored = {split: maps.scored(curves[split]) for split, maps in maps_by_split.items()}
    return scored, settings


def read_images(
    runs: list[TrainedRun], data_dir: Path | None, test_images: int | None
) -> list[dict[str, ImageSet]]:
    """The validation and test images of each run, read once for runs that share them.

    UserError if the validation images are not those of the run.
    """
    read: dict[tuple[DataSettings, Path], dict[str, ImageSet]] = {}
    for run in runs:
        settings, folder = run.settings.data, data_dir or run.data_dir
        if (settings, folder) not in read:
            options = {"test_images": test_images, "splits": ("validation", "test")}
            read[settings, folder] = load_splits(**vars(settings), data_dir=folder, **options)
        fingerprint = read[settings, folder]["validation"].fingerprint
        if fingerprint != (expected := run.folder.config("data").get("validation")):
            raise UserError(
                f"{run.folder.path} was trained with the validation images {expected}, but "
                f"{folder} holds {fingerprint}; give the run's with --data-dir or train again"
            )
    return [read[run.settings.data, data_dir or run.data_dir] for run in runs]


def check_runs(runs: list[TrainedRun]) -> None:
    """UserError for runs that the tables cannot tell apart, or that differ in their training."""
    seen: dict[tuple, tuple[Path, dict]] = {}
    for run in runs:
        path, flags = run.folder.path, EARLIER_DEFAULTS | run.folder.config("flags")
        seed = flags.pop("seed")
        columns = ("dataset", "network", "loss", "image_size", "output_stride")
        key = tuple(flags.get(name) for name in columns)
        first, first_flags = seen.setdefault((*key, seed), (path, flags))
        if first != path:
            raise UserError(f"{first} and {path}: both have seed {seed}; leave one out")
        first, first_flags = seen.setdefault(key, (path, flags))
        for name in sorted((flags.keys() | first_flags.keys()) - NOT_TRAINING):
            if flags.get(name) != first_flags.get(name):
                values = f"--{name.replace('_', '-')} {first_flags.get(name)} and {flags.get(name)}"
                raise UserError(f"{first} and {path}: {values}; runs in one table must match in it")


def write_results(evaluations: list[scores.Evaluation], folder: Path) -> None:
    """Writes the CSV files, chosen.json and the tables, and prints the tables."""
    results = pd.concat([part.rows for part in evaluations], ignore_index=True)
    results = results.drop(columns=scores.HITS)
    differences = pd.concat([part.differences for part in evaluations], ignore_index=True)
    write_csv(results, folder / "results.csv")
    write_csv(differences, folder / "differences.csv")
    runs = results["run"].unique()
    chosen = dict(zip(runs, (part.chosen for part in evaluations), strict=True))
    write_json(folder / "chosen.json", {"rule": RULE, "chosen": chosen})
    if len(runs) == 1:
        table, paired = tables.shown(results), tables.over_images(differences)
        heading = "Paired differences in points over images, with 95 % intervals"
        print(to_markdown(table))
    else:
        over_seeds = over_images_and_seeds(evaluations)
        whole = over_seeds["property"] == ALL
        write_csv(over_seeds[whole].drop(columns=PART), folder / "over_seeds.csv")
        write_csv(over_seeds[~whole], folder / "by_object_over_seeds.csv")
        table, paired = tables.summary(results), tables.over_seeds(over_seeds)
        heading = "Paired differences in points, with 95 % intervals over images and seeds"
        print("Mean ± half the 95 % interval over seeds.\n")
        print(to_markdown(table))
    write_tables(table, folder / "table")
    write_tables(paired, folder / "differences")
    shown = paired[paired["threshold_rule"] == "validation"]
    print(f"{heading}; all rules are in differences.md.\n")
    print(to_markdown(shown if len(shown) else paired))
    of_runs = [part.by_object for part in evaluations if part.by_object is not None]
    if of_runs:
        by_object = pd.concat(of_runs, ignore_index=True)
        write_csv(by_object, folder / "by_object.csv")
        table = object_table(by_object)
        write_tables(table, folder / "by_object")
        print("Percent given the label, by quarter of the object's distance from the centre and of")
        print("its area, the nearest and the smallest first.\n")
        print(to_markdown(table))


def write_pictures(
    rows: pd.DataFrame,
    images: ImageSet,
    scored: dict[str, ScoredMaps],
    options: Options,
    folder: Path,
    *,
    overlays: int,
    gallery: int,
) -> None:
    """Writes curves, overlays and galleries of the test images of one run."""
    curves = scores.curve_table(scored["test"], scored["validation"])
    write_csv(curves, folder / "threshold_curves.csv")
    plot_threshold_curves(curves, rows, folder / "threshold_curves.png")
    drawing = {"protocol": PROTOCOLS[options.protocol], "rows": rows}
    drawing |= {"normalisation": options.normalisation}
    save_overlays(folder / "overlays", images, scored["test"], overlays, **drawing)
    save_galleries(folder, images, scored["test"], gallery, **drawing)
