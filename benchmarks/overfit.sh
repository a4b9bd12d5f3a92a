#!/usr/bin/env bash
# Lets a narrow network learn a few real images by heart and prints the AP50 it reaches on them: a model, criterion or
# decoder that is subtly wrong does not get there.
#   bash benchmarks/overfit.sh MODEL [IMAGES]      MODEL: yolov3 or yolov4
# DATA_DIR names the folder that holds coco_mini/ (default: ../shared/data beside the repository).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -euo pipefail

# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
model=${1:-yolov3} count=${2:-32}
data=${DATA_DIR:-$root/../shared/data}
[ -d "$data/coco_mini" ] || die "$data/coco_mini is absent: set DATA_DIR to the folder that holds coco_mini"
data=$(cd "$data" && pwd)
prepare_environment requirements.txt

cd "$root"
out=outputs/overfit_$model
images=$data/coco_mini/train2017
rm -rf "$out"
case $model in
yolov3)
    # 320 px, a quarter of the channels, no augmentation; the rate falls to 0, since the averages lag before it does.
    recipe=(--config configs/yolov3.yaml --num_classes 0 --backbone_shape "8,16,32,64,128,256" --training_shape 320
        --testing_shape 320 --augment False --per_batch_size 4 --max_epoch 80 --t_max 80 --lr 0.005 --warmup_epochs 2
        --weight_decay 0.0005 --clip_grad_norm 30 --ema_decay 0.98 --log_interval 40 --ckpt_interval 80) ;;
yolov4)
    # As YOLOv3, with the gradient as it is and the paper's loss of the boxes.
    recipe=(--config configs/yolov4.yaml --num_classes 0 --backbone_shape "8,16,32,64,128,256" --training_shape 320
        --testing_shape 320 --augment False --per_batch_size 4 --max_epoch 80 --t_max 80 --lr 0.005 --loss_weight 1
        --warmup_epochs 2 --iou_loss ciou --clip_grad_norm 30 --ema_decay 0.98 --log_interval 40 --ckpt_interval 80) ;;
*) die "there is no model $model here; models: yolov3, yolov4" ;;
esac
"$python" -m benchmarks.subset --annotations "$data/coco_mini/annotations/instances_train2017.json" \
    --images "$count" --output "$out/annotations.json"
files=(--train_ann_file "$PWD/$out/annotations.json" --train_image_dir "$images"
    --val_ann_file "$PWD/$out/annotations.json" --val_image_dir "$images")
"$python" train.py "${recipe[@]}" "${files[@]}" --ckpt_path "$out" --run_name run
weights=$(find "$out/run/ckpt_0" -name '*.ckpt' ! -name '*.state.ckpt')
"$python" eval.py "${recipe[@]}" "${files[@]}" --pretrained "$weights" --log_path "$out" | tee "$out/eval.txt"
echo "AP50 $(sed -n 's/.*IoU=0.50 .* = //p' "$out/eval.txt" | head -1)"
