#!/usr/bin/env bash
# Makes the tables of imbalanced classification: all losses on MNIST, and Tiny-ImageNet's frozen
# features; with CUB-200-2011 in data/, that too. With --fair, the tables in which every loss has
# its own best learning rate and head, chosen on validation images; with Fashion-MNIST in data/, on
# that too. Put the archives there first:
#
#   python -m scripts.download_data tiny-imagenet        (and: cub, fashion-mnist)
#   bash scripts/reproduce_pc_softmax.sh                 an hour on two cores
#   bash scripts/reproduce_pc_softmax.sh --fair          three hours on two cores
#   bash scripts/reproduce_pc_softmax.sh --smoke         MNIST alone, shrunk to a check
#
# A second call goes on where the first stopped; delete runs/reproduce_pc_softmax to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=runs/reproduce_pc_softmax seeds="--seeds 0 1 2 3 4" sets="tiny-imagenet cub" tuned=""
all="softmax pc-softmax weighted class-balanced focal ldam logit-adjusted ldam-drw crt"
case "${1:-}" in
  "") ;;
  --fair) tuned="mnist:paper fashion-mnist:paper tiny-imagenet:paper tiny-imagenet:exp:100" ;;
  --smoke) runs=runs/reproduce_pc_softmax_smoke seeds="--seeds 0 1 --epochs 1" sets="" ;;
  *) echo "reproduce_pc_softmax.sh: unknown argument '$1'; use --fair, --smoke or nothing" >&2
     exit 2 ;;
esac

folder_of() {
  case $1 in
    mnist) echo data/MNIST ;;
    fashion-mnist) echo data/FashionMNIST ;;
    tiny-imagenet) echo data/tiny-imagenet-200 ;;
    cub) echo data/CUB_200_2011 ;;
  esac
}

bash scripts/setup.sh
python=.venv/bin/python
$python -m scripts.download_data mnist

for set in $tuned; do
  dataset=${set%%:*} imbalance=${set#*:}
  if [ ! -e "$(folder_of $dataset)" ]; then echo "== $dataset: not in data/, left out =="; continue; fi
  echo; echo "== $dataset, $imbalance, learning rate and head chosen on validation images =="
  losses="$all lade vs" rates="0.003 0.01 0.03 0.1 0.3"
  case $dataset in
    *mnist) losses="softmax pc-softmax ldam ldam-drw crt lade logit-adjusted" rates="0.01 0.03 0.1" ;;
  esac
  $python -m pc_softmax.compare --dataset $dataset --imbalance $imbalance --losses $losses \
    --tune lr head --tune-rates $rates --output-dir $runs/tuned-${set//:/-} --resume $seeds
done
if [ -n "$tuned" ]; then exit; fi

echo "== MNIST, the paper's lists =="
$python -m pc_softmax.compare --dataset mnist --losses $all --val-fraction 0 \
  --output-dir $runs/mnist --resume $seeds
for dataset in $sets; do
  if [ ! -e "$(folder_of $dataset)" ]; then echo; echo "== $dataset: not in data/, left out =="; continue; fi
  echo; echo "== $dataset, the paper's lists, frozen features =="
  $python -m pc_softmax.compare --dataset $dataset --network efficientnet_lite0 --losses $all \
    --output-dir $runs/$dataset --resume $seeds
done
