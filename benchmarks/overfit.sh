#!/usr/bin/env bash
# Overfits a narrow network to a few real images and prints its AP50 on them: a model, criterion or
# decoder with a subtle error does not reach it.
#   bash benchmarks/overfit.sh MODEL [IMAGES]      MODEL: yolov3, yolov4, efficientdet_d0 or refinedet
#   bash benchmarks/overfit.sh refinedet voc       the 19 images of voc_mini instead, and the VOC mAP
#   bash benchmarks/overfit.sh darknet53           or cspdarknet53: 100 classes of one image each, and the top-1 accuracy
# EfficientDet's smallest anchors have 32 px: boxes below that at its 512 px are trained on but not evaluated.
# DATA_DIR is the folder of coco_mini/ and imagenet_mini/ (default: ../shared/data next to the repository).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -euo pipefail

# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
model=${1:-yolov3} count=${2:-32}
data=${DATA_DIR:-$root/../shared/data}
case $model,$count in *darknet53,*) needed=imagenet_mini ;; *,voc) needed=voc_mini ;; *) needed=coco_mini ;; esac
[ -d "$data/$needed" ] || die "$data/$needed is absent: set DATA_DIR to the folder that holds $needed"
data=$(cd "$data" && pwd)
prepare_environment requirements.txt

cd "$root"
out=outputs/overfit_$model
images=$data/coco_mini/train2017
rm -rf "$out"
case $model in
yolov3)
    # 320 px, a quarter of the channels, no augmentation; the rate falls to 0 so that the moving averages catch up.
    recipe=(--config configs/yolov3.yaml --num_classes 0 --backbone_shape "8,16,32,64,128,256" --training_shape 320
        --testing_shape 320 --augment False --per_batch_size 4 --max_epoch 80 --t_max 80 --lr 0.005 --warmup_epochs 2
        --weight_decay 0.0005 --clip_grad_norm 30 --ema_decay 0.98 --log_interval 40 --ckpt_interval 80) ;;
yolov4)
    # As YOLOv3, with fewer residual units and loss_weight 1. At the start the gradient grows from batch norm to
    # batch norm on the long way back through pyramid and aggregation, and clipping leaves the heads nothing: the larger
    # bn_eps tames that. A box has four places or five here, and its loss would drown the classes.
    recipe=(--config configs/yolov4.yaml --num_classes 0 --backbone_shape "8,16,32,64,128,256"
        --backbone_layers "1,1,2,2,1" --bn_eps 0.1 --training_shape 320 --testing_shape 320 --augment False
        --per_batch_size 4 --max_epoch 100 --t_max 100 --lr 0.01 --loss_weight 1 --warmup_epochs 4 --iou_loss ciou
        --bbox_class_loss_coff "2,1,1" --clip_grad_norm 30 --ema_decay 0.98 --log_interval 40 --ckpt_interval 100) ;;
efficientdet_d0)
    # The whole network at 512 px, from random weights; two images a step, since their number counts less than that of
    # the steps. Batch norm and averages forget faster than in a training of 300 epochs. With the recipe's box_loss_weight
    # of 50 the boxes take all that clipping leaves, and with its focal_alpha of 0.25 the background keeps down classes
    # that have an object or two: both learn the classes too late.
    recipe=(--config configs/efficientdet_d0.yaml --label_map dense --num_classes 0 --augment False --per_batch_size 2
        --max_epoch 120 --t_max 120 --lr 0.1 --warmup_epochs 2 --weight_decay 0 --box_loss smooth_l1
        --box_loss_beta 0.1111 --box_loss_weight 5 --focal_alpha 0.5 --loss_normalizer image --bn_momentum 0.9
        --ema_decay 0.95 --log_interval 20 --ckpt_interval 120) ;;
refinedet)
    # VGG16 at an eighth to a quarter of its channels, one convolution a stage, and without its weights. Nothing in it
    # normalises: weaker inputs (std) make the loss less steep at the start, and the steps, as short as clipping makes
    # them, are many. The objects of VOC are large and few: fewer pixels, channels and steps do.
    recipe=(--config configs/refinedet_vgg16_320.yaml --num_classes 0 --augment False --per_batch_size 4
        --lr_scheduler cosine_annealing --warmup_epochs 4 --clip_grad_norm 10 --backbone_layers "1,1,1,1,1"
        --log_interval 20)
    if [ "$count" = voc ]; then
        recipe+=(--max_epoch 80 --t_max 80 --lr 0.01 --testing_shape 128 --backbone_shape "8,16,32,64,64,128"
            --pyramid_channels 32 --max_boxes 8 --ema_decay 0.95 --learn_difficult True --ckpt_interval 80)
    else
        recipe+=(--max_epoch 240 --t_max 240 --lr 0.006 --testing_shape 320 --backbone_shape "8,16,32,64,128,256"
            --pyramid_channels 48 --max_boxes 40 --ema_decay 0.98 --std "0.9,0.9,0.9" --ckpt_interval 240)
    fi ;;
darknet53 | cspdarknet53)
    # 64 px, a quarter of the channels, fewer residual units, neither augmentation nor smoothed labels; train/ and val/
    # contain the same images.
    recipe=(--config "configs/${model}_imagenet.yaml" --num_classes 0
        --backbone_shape "8,16,32,64,128,256" --backbone_layers "1,1,2,2,1" --training_shape 64 --testing_shape 64
        --augment False --label_smooth False --per_batch_size 25 --max_epoch 40 --t_max 40 --lr 0.05 --warmup_epochs 2
        --run_eval False --log_interval 20 --ckpt_interval 40) ;;
*) die "there is no model $model here; models: yolov3, yolov4, efficientdet_d0, refinedet, darknet53, cspdarknet53" ;;
esac
files=(--data_dir "$data/imagenet_mini")
learn() {
    "$python" train.py "${recipe[@]}" "${files[@]}" --ckpt_path "$out" --run_name run
    weights=$(find "$out/run/ckpt_0" -name '*.ckpt' ! -name '*.state.ckpt')
    "$python" eval.py "${recipe[@]}" "${files[@]}" --pretrained "$weights" --log_path "$out" | tee "$out/eval.txt"
}
if [ "$needed" = imagenet_mini ]; then
    learn
    sed -n "s/.*'top_1_accuracy': \([0-9.]*\).*/top-1 \1/p" "$out/eval.txt"
    exit
fi
if [ "$needed" = voc_mini ]; then
    files=(--dataset voc --data_dir "$data/voc_mini" --train_ann_file ImageSets/Main/test.txt)
    learn
    sed -n 's/^mAP: /VOC mAP /p' "$out/eval.txt"
    exit
fi
"$python" -m benchmarks.subset --annotations "$data/coco_mini/annotations/instances_train2017.json" \
    --images "$count" --output "$out/annotations.json"
scored=annotations.json
if [ "$model" = efficientdet_d0 ]; then
    scored=large.json
    "$python" -m benchmarks.anchor_recall --annotations "$out/annotations.json" --keep_large "$out/$scored" \
        | tee "$out/anchors.txt"
fi
files=(--train_ann_file "$PWD/$out/annotations.json" --train_image_dir "$images"
    --val_ann_file "$PWD/$out/$scored" --val_image_dir "$images")
learn
echo "AP50 $(sed -n 's/.*IoU=0.50 .* = //p' "$out/eval.txt" | head -1)"
[ ! -f "$out/anchors.txt" ] || cat "$out/anchors.txt"
