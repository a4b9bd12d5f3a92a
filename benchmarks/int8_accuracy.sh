#!/usr/bin/env bash
# Average precision of float, trained int8 and calibrated int8 on held-out rendered images: means of several seeds.
#
#   bash benchmarks/int8_accuracy.sh [SEEDS [FLOAT_EPOCHS [QUANT_EPOCHS [SIZE]]]]      (3 seeds, 24 and 4 epochs, 192 px)
#
# The narrow YOLOv3 of the quickstart, 400 training and 300 validation images. For each seed: a float training, a
# quantization-aware training from it, and the table of `msdet compare`; finally the means. Existing results
# are not computed again. PYTHON=... chooses the interpreter, OUT=... the folder.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python} out=${OUT:-outputs/int8_accuracy}
seeds=${1:-3} float_epochs=${2:-24} quant_epochs=${3:-4} size=${4:-192}
data=$out/shapes
mkdir -p "$out"
"$python" -m msdet shapes --output "$data" --size 192 --train 400 --val 300

weights_of() { find "$out/$1/ckpt_0" -name '*.ckpt' ! -name '*.state.ckpt' 2>/dev/null | sort -V | tail -n 1; }

# train NAME EPOCHS FLAGS...
train() {
    local name=$1 epochs=$2
    shift 2
    "$python" train.py --config configs/yolov3_shapes.yaml --data_dir "$data" --ckpt_path "$out" --run_name "$name" \
        --training_shape "$size" --testing_shape "$size" --max_epoch "$epochs" --t_max "$epochs" --run_eval False \
        --ckpt_interval "$epochs" --device_target CPU "$@"
}

for ((seed = 1; seed <= seeds; seed++)); do
    [ -n "$(weights_of "float$seed")" ] || train "float$seed" "$float_epochs" --seed "$seed"
    # A tenth of the float training's rate, since the network only has to adapt to the quantization.
    [ -n "$(weights_of "quant$seed")" ] ||
        train "quant$seed" "$quant_epochs" --seed "$seed" --pretrained "$(weights_of "float$seed")" \
            --quantization_aware True --observer_decay 0.99 --lr 0.0003 --warmup_epochs 0.5
    [ -e "$out/compare$seed/compare.json" ] ||
        "$python" -m msdet compare --config configs/yolov3_shapes.yaml --data_dir "$data" --testing_shape "$size" \
            --float "$(weights_of "float$seed")" --quant "$(weights_of "quant$seed")" --calibration "$data/train" \
            --output "$out/compare$seed"
done
"$python" -m benchmarks.int8_means "$out"
