#!/usr/bin/env bash
# From a fresh clone to a trained detector: installs into .venv, renders a small dataset, trains a small YOLOv3 on the
# CPU and evaluates it on the validation images.
#
#   bash scripts/quickstart.sh [--data_dir DIR] [train.py's flags]
#
# --data_dir DIR uses your own COCO-format dataset instead. PYTHON=/path/to/python3.11 selects the Python.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
set -euo pipefail
# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

data_dir=
output=$root/outputs/quickstart
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --data_dir=*) data_dir=${1#*=} ;;
    --ckpt_path=*) output=${1#*=} ;;
    --data_dir | --ckpt_path)
        [ $# -ge 2 ] || die "$1 needs a value"
        if [ "$1" = --data_dir ]; then data_dir=$2; else output=$2; fi
        shift
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done
if [ -n "$data_dir" ] && [ ! -d "$data_dir" ]; then
    die "--data_dir $data_dir is not a folder"
fi

newest_checkpoint() {
    local file newest=
    for file in "$output"/*/ckpt_0/*.ckpt; do
        case $file in *.state.ckpt) continue ;; esac
        if [ -e "$file" ] && { [ -z "$newest" ] || [ "$file" -nt "$newest" ]; }; then newest=$file; fi
    done
    printf '%s\n' "$newest"
}

prepare_environment requirements.txt
(cd "$root" && "$python" -m msdet doctor --quiet) || die "this machine is not ready for training; see above"

if [ -z "$data_dir" ]; then
    data_dir=$root/outputs/shapes
    (cd "$root" && "$python" -m msdet shapes --output "$data_dir" --size 192)
fi

say "training on $data_dir"
begun=$SECONDS
"$python" "$root/train.py" --config "$root/configs/yolov3_shapes.yaml" --data_dir "$data_dir" --ckpt_path "$output" \
    --device_target CPU ${arguments[@]+"${arguments[@]}"} || {
    status=$?
    say "training ended early; to resume it, add --resume auto to the same command" >&2
    exit "$status"
}
trained=$((SECONDS - begun))

checkpoint=$(newest_checkpoint)
[ -n "$checkpoint" ] || die "training wrote no checkpoint to $output"
run=$(unset CDPATH && cd -- "$(dirname -- "$checkpoint")/.." && pwd)
checkpoint=$run/ckpt_0/$(basename "$checkpoint")

say "evaluating on the validation images"
"$python" "$root/eval.py" --config "$run/config.yaml" --pretrained "$checkpoint" --log_path "$run" --draw_images 16

pictures=
for folder in "$run"/eval_*/pictures; do
    if [ -d "$folder" ]; then pictures=$folder; fi
done
say ""
say "trained in $((trained / 60)) min $((trained % 60)) s; all files of the run: $run"
say "  checkpoint      $checkpoint"
say "  curves          $run/summary/curves.png (and train.csv, TensorBoard events)"
say "  drawn images    ${pictures:-none}"
