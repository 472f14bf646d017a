#!/usr/bin/env bash
# More training seeds of `make board`, which must be complete: trains all stages anew on the board's own training
# sets, predicts, and fuses with parameters that are fitted on the board's out-of-fold predictions (of its first seed) and
# this seed's validation photos. About half an hour a seed on 2 cores; goes on where it was stopped.
#
#   benchmarks/board_seeds.sh 1 2          -> runs/board_seed1/fusion, runs/board_seed2/fusion
#   python benchmarks/second_look.py --arm board runs/board/fusion runs/board_seed*/fusion
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
export FORCE_TORCHRUN=1 NPROC_PER_NODE=2 DS_ACCELERATOR=cpu
task=recipes/tasks/corridor.yaml data=data/corridor_augmented

for seed in "$@"; do
  name=board_seed$seed
  for stage in base high_risk clutter objects; do
    recipe=runs/board/recipes/$stage.yaml
    if [ ! -e "saves/$name/$stage/trainer_state.json" ]; then
      llamafactory-cli train "$recipe" seed="$seed" output_dir="saves/$name/$stage"
    fi
    riskfuse predict --recipe "$recipe" --task "$task" --stage "$stage" --data "$data" \
      --adapter "saves/$name/$stage" --out "predictions/$name/$stage" --engine ray --workers 2
  done
  riskfuse fuse "$data" --task "$task" --base "predictions/$name/base" \
    --specialist high_risk="predictions/$name/high_risk" --specialist clutter="predictions/$name/clutter" \
    --specialist objects="predictions/$name/objects" \
    --out-of-fold predictions/board/out_of_fold --label-errors 0.02 --out "runs/$name/fusion"
done
