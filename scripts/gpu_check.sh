#!/usr/bin/env bash
# Checks the project on this machine's GPU: its tests, its speed, and EfficientNet-Lite0 fine-tuned
# on Tiny-ImageNet with and without ADL. No installation: it takes .venv, or else the machine's
# python3. The archive comes first:
#
#   python -m scripts.download_data tiny-imagenet
#   bash scripts/gpu_check.sh                  designed for 25 minutes on one GPU
#   bash scripts/gpu_check.sh tests speed      some of the steps: tests, speed, tune
#   bash scripts/gpu_check.sh --smoke          everything shrunk to a check, on a CPU too; it needs
#                                              the archive as well
#   EPOCHS=5 SEEDS="0 1" RUNS=runs/short bash scripts/gpu_check.sh tune
#
# Variables: RUNS (folder to write; other SEEDS have one of their own), EPOCHS, SEEDS, JOBS (runs at
# the same time), WORKERS (processes that read pictures, of each), DEVICE, DATA, PYTHON (in place of
# python3), and NETWORK with WEIGHTS (imagenet or a file; with the file of ResNet50's weights:
# NETWORK=resnet50). A failed step or run
# stops no other, and the table has the others' rows; the exit status is 1 then. A second call goes
# on where the first stopped, and refuses trainings with other flags; delete RUNS to start afresh.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/steps.sh
if [ -n "${DRY_RUN:-}" ]; then echo "gpu_check.sh: has no dry run; unset DRY_RUN" >&2; exit 2; fi

steps="" smoke=""
for word in "$@"; do
  case $word in
    tests | speed | tune) steps="$steps $word" ;;
    --smoke) smoke=1 ;;
    *) echo "gpu_check.sh: unknown argument '$word'; use tests, speed, tune or --smoke" >&2; exit 2 ;;
  esac
done
read_seeds
for variable in JOBS WORKERS EPOCHS; do
  value=${!variable:-1}
  if ! [[ $value =~ ^[1-9][0-9]{0,3}$ || $variable=$value = WORKERS=0 ]]; then
    echo "gpu_check.sh: $variable='$value'; use a whole number from 1 to 9999 (WORKERS: 0)" >&2; exit 2
  fi
done
cores=$(nproc)
runs=${RUNS:-runs/gpu_check$of_seeds} device=${DEVICE:-cuda} data=${DATA:-data}
epochs=${EPOCHS:-20} seeds=${SEEDS:-0 1 2} jobs=${JOBS:-3}
workers=${WORKERS:-$(((cores + jobs - 1) / jobs))}
network=${NETWORK:-efficientnet_lite0} weights=${WEIGHTS:-imagenet}
tests="-m gpu" speed="--parts gpu --images 1024" train="--precision bf16" evaluate=""
if [ -n "$smoke" ]; then
  runs=${RUNS:-runs/gpu_check_smoke$of_seeds} device=${DEVICE:-auto} epochs=${EPOCHS:-1} seeds=${SEEDS:-0}
  tests="-m gpu -k losses_and_their_gradients" speed="--parts extraction --images 4 --image-size 32"
  train="--image-size 32 --images-per-class 3 --val-per-class 1" evaluate="--test-images 100"
fi
adl="layer3.0 layer4.0 layer4.2"
if [ "$network" = efficientnet_lite0 ]; then adl="blocks.4.2 blocks.5.3 blocks.6.0"; fi

[ -x "$python" ] || python=${PYTHON:-python3}
failed=""
if ! mkdir -p "$runs/logs" 2>/dev/null; then
  echo "gpu_check.sh: RUNS='$runs' cannot be made; name another folder" >&2; exit 2
fi

tune() {  # NAME SEED ADL: trains and evaluates one run; notes it in $finished
  local name=$1 layers=""
  if [ "$3" = yes ]; then layers="--adl $adl"; fi
  run infocam.train --dataset tiny-imagenet --network "$network" --weights "$weights" \
    --no-freeze-backbone --epochs "$epochs" --seed "$2" --device "$device" --data-dir "$data" \
    --num-workers "$workers" --output-dir "$runs/$name" --resume $train $layers &&
  run_into "$runs/$name/evaluation" infocam.evaluate "$runs/$name" --device "$device" \
    --methods cam infocam infocam+ layer-cam --data-dir "$data" --num-workers "$workers" \
    --overlays 0 --gallery 0 --overwrite $evaluate &&
  echo "$name" >>"$finished"
}

for step in ${steps:-tests speed tune}; do
  echo; echo "== $step =="
  case $step in
    tests)
      parallel=""
      if "$python" -c 'import xdist' 2>/dev/null; then parallel="-n $((cores < 8 ? cores : 8)) --dist loadfile"; fi
      # shellcheck disable=SC2086
      OMP_NUM_THREADS=2 PCS_GPU_TESTS_DEVICE=$([ "$device" = auto ] && echo cpu || echo "$device") \
        "$python" -m pytest tests/gpu $tests $parallel -v -p no:cacheprovider -rs --durations 10 \
        --junitxml="$runs/tests.xml" 2>&1 | tee "$runs/logs/tests.txt" || failed="$failed tests"
      ;;
    speed)
      {
        run_into "$runs/speed" scripts.speed --device "$device" --data-dir "$data" \
          --num-workers "$((cores < 8 ? cores : 8))" --overwrite $speed &&
          collect speed_gpu "$runs/speed" --table gpu.csv
      } 2>&1 | tee -a "$runs/logs/speed.txt" || failed="$failed speed"
      ;;
    tune)
      export OMP_NUM_THREADS=1
      finished=$runs/logs/finished.txt evaluations=()
      : >"$finished"
      for seed in $seeds; do
        for with_adl in no yes; do
          while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
          name=$network-seed-$seed-adl-$with_adl
          tune "$name" "$seed" $with_adl >>"$runs/logs/$name.txt" 2>&1 &
        done
      done
      wait
      unset OMP_NUM_THREADS
      for seed in $seeds; do
        for with_adl in no yes; do
          name=$network-seed-$seed-adl-$with_adl
          if grep -qxF "$name" "$finished"; then
            evaluations+=("$runs/$name/evaluation")
            continue
          fi
          echo "$name failed; the end of $runs/logs/$name.txt:" >&2
          tail -n 3 "$runs/logs/$name.txt" >&2
          failed="$failed $name"
        done
      done
      if [ ${#evaluations[@]} -gt 0 ]; then
        collect infocam_fine_tuned "${evaluations[@]}" --columns adl epochs training.precision ||
          failed="$failed rows"
      fi
      ;;
  esac
done
echo
if [ -n "$failed" ]; then echo "failed:$failed" >&2; exit 1; fi
echo "done: $runs"
