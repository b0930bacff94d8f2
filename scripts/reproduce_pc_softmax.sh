#!/usr/bin/env bash
# Makes the tables of imbalanced classification: all losses on MNIST, and Tiny-ImageNet's frozen
# features; with CUB-200-2011 in data/, that too. Put the archives there first:
#
#   python -m scripts.download_data tiny-imagenet        (and: cub)
#   bash scripts/reproduce_pc_softmax.sh                 an hour on two cores
#   bash scripts/reproduce_pc_softmax.sh --smoke         MNIST alone, shrunk to a check
#
# A second call goes on where the first stopped; delete runs/reproduce_pc_softmax to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=runs/reproduce_pc_softmax
all="softmax pc-softmax weighted class-balanced focal ldam logit-adjusted ldam-drw crt"
mnist="--seeds 0 1 2 3 4" photographs="--seeds 0 1 2 3 4" sets="tiny-imagenet cub"
case "${1:-}" in
  "") ;;
  --smoke) runs=runs/reproduce_pc_softmax_smoke mnist="--seeds 0 1 --epochs 1" sets="" ;;
  *) echo "reproduce_pc_softmax.sh: unknown argument '$1'; use --smoke or nothing" >&2; exit 2 ;;
esac

bash scripts/setup.sh
python=.venv/bin/python
$python -m scripts.download_data mnist

echo "== MNIST, the paper's lists =="
$python -m pc_softmax.compare --dataset mnist --losses $all --val-fraction 0 \
  --output-dir $runs/mnist --resume $mnist
for dataset in $sets; do
  case $dataset in tiny-imagenet) folder=data/tiny-imagenet-200 ;; cub) folder=data/CUB_200_2011 ;; esac
  if [ ! -e $folder ]; then echo; echo "== $dataset: not in data/, left out =="; continue; fi
  echo; echo "== $dataset, the paper's lists, frozen features =="
  $python -m pc_softmax.compare --dataset $dataset --network efficientnet_lite0 --losses $all \
    --output-dir $runs/$dataset --resume $photographs
done
