#!/bin/bash
# A data set as a SLURM array. Submit it with `sbatch slurm.sh`, and again if jobs were lost: what is finished is skipped.
#SBATCH --job-name=labyrinths
#SBATCH --array=0-159
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=2G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=labyrinths-%A-%a.log
set -euo pipefail

JOBS=${JOBS:-160}          # not SLURM_ARRAY_TASK_COUNT: that is another number when only some are submitted again
OUT=${OUT:-labyrinths}     # on a file system that all nodes see
SAMPLES=${SAMPLES:-1000000}

# job i makes the shards i, i + JOBS, i + 2 JOBS, …; whichever comes last finds all of them and finishes the set
srun spinloom simulate "$OUT" \
    --samples "$SAMPLES" --size 128 --J 1 --D 0.3 --seed 0 --shard-size 1000 \
    --shard "$SLURM_ARRAY_TASK_ID/$JOBS" --threads "$SLURM_CPUS_PER_TASK" --quiet
