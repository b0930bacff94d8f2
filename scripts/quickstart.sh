#!/usr/bin/env bash
# Sets up, runs the three experiments, prints their tables and writes a report with pictures.
#
#   bash scripts/quickstart.sh           under ten minutes on two cores, after the install
#   bash scripts/quickstart.sh --smoke   everything shrunk, under two minutes: a check, not a result
#
# A second call goes on where the first stopped; delete runs/quickstart to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/steps.sh

runs=runs/quickstart
mi="--seeds 0 1 2 --n-test 200000" pc="--seeds 0 1 2" train="" evaluate="" smoke=""
one_of --smoke "$@"
case $argument in
  --smoke)
    runs=runs/smoke
    mi="--seeds 0 --n-train 5000 --n-test 20000 --epochs 3"
    pc="--seeds 0 1 --epochs 1"
    train="--images-per-class 150 --val-per-class 30 --epochs 2"
    evaluate="--test-images 200"
    smoke="--smoke"
    ;;
esac

bash scripts/setup.sh
$python -m scripts.download_data mnist

echo; echo "== 1 of 3: mutual information, estimated and exact =="
$python -m mi_estimator.benchmark --suite paper --estimators oracle softmax pc-softmax \
  --output-dir $runs/mi_estimator --resume $mi

echo; echo "== 2 of 3: PC-softmax on the paper's imbalanced MNIST =="
$python -m pc_softmax.compare --dataset mnist --losses softmax pc-softmax \
  --output-dir $runs/pc_softmax --resume $pc

echo; echo "== 3 of 3: infoCAM on scattered digits =="
$python -m infocam.train --dataset scattered-digits --output-dir $runs/infocam \
  --resume $train
$python -m infocam.evaluate $runs/infocam --overwrite $evaluate

echo; echo "== where the evidence is in two photographs =="
photographs=$($python -c '
from pathlib import Path
import sklearn
print(Path(sklearn.__file__).parent / "datasets/images")')
$python -m infocam.explain "$photographs"/{china,flower}.jpg --output-dir $runs/explain --overwrite

echo
$python -m scripts.report $runs $smoke
if [ -n "$smoke" ]; then echo "(a check of the machinery: these numbers mean nothing)"; fi
