"""Command lines in the documentation of the old model zoo, with the resulting flags and logs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from msdet.tools.launcher.plan import make_plan

MODELS = (
    "yolov3", "yolov3_quant", "yolov4", "efficientdet_d0", "refinedet_vgg16_320", "refinedet_resnet101_512",
    "darknet53_imagenet", "cspdarknet53_imagenet",
)  # fmt: skip


def rank_table(path: Path, *devices: int) -> Path:
    """Writes a table with the given number of devices on each server."""
    rank, servers = 0, []
    for number, count in enumerate(devices):
        entries = []
        for device in range(count):
            entries.append(
                {"device_id": str(device), "device_ip": f"192.168.{number}.{device + 1}", "rank_id": str(rank)}
            )
            rank += 1
        servers.append({"server_id": f"10.0.0.{number + 1}", "device": entries, "host_nic_ip": "reserve"})
    table = {"version": "1.0", "server_count": str(len(servers)), "server_list": servers, "status": "completed"}
    path.write_text(json.dumps(table))
    return path


# Script and arguments -> flags of the entry script (HERE: the caller's folder), and the first log.
STANDALONE = {
    "run_standalone_train yolov4 dataset/xxx cspdarknet53_backbone.ckpt": (
        "--data_dir=HERE/dataset/xxx --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt --training_shape=416 "
        "--warmup_epochs=4", "train/log.txt"),
    "run_standalone_train yolov4 dataset/coco2017 cspdarknet53_backbone.ckpt --warmup_epochs 2": (
        "--data_dir=HERE/dataset/coco2017 --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt --training_shape=416 "
        "--warmup_epochs 2", "train/log.txt"),
    "run_standalone_train yolov4 dataset/xxx cspdarknet53_backbone.ckpt 3": (
        "--data_dir=HERE/dataset/xxx --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt --device_id=3 "
        "--training_shape=416 --warmup_epochs=4", "train/log.txt"),
    "run_standalone_train yolov3_quant dataset/coco2014 yolov3_darknet53_noquant.ckpt": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/yolov3_darknet53_noquant.ckpt --lr=0.004",
        "train/log.txt"),
    "run_standalone_train efficientdet_d0 4": ("--device_id=4", "train/log.txt"),
    "run_standalone_train efficientdet_d0": ("", "train/log.txt"),
    "run_standalone_train efficientdet": ("", "train/log.txt"),
    "run_standardalone_train refinedet 0 500 0.05 coco": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --device_id=0", "LOG0/log.txt"),
    "run_standardalone_train refinedet_resnet101_512 2 500 0.05 voc pre/trained.ckpt 200": (
        "--max_epoch=500 --lr=0.05 --dataset=voc --pretrained=HERE/pre/trained.ckpt --pre_trained_epoch_size=200 "
        "--device_id=2", "LOG2/log.txt"),
    "run_standardalone_train_gpu refinedet 0 5 0.02 coco": (
        "--max_epoch=5 --lr=0.02 --dataset=coco --device_id=0 --device_target=GPU", "LOG0/log.txt"),
    "run_standalone_train_gpu darknet53 imagenet2012 data/imagenet": (
        "--dataset=imagenet2012 --data_dir=HERE/data/imagenet --device_target=GPU", "train/log.txt"),
    "run_standalone_train_gpu darknet53 imagenet2012 /data/imagenet ck.ckpt": (
        "--dataset=imagenet2012 --data_dir=/data/imagenet --pretrained=HERE/ck.ckpt --device_target=GPU",
        "train/log.txt"),
    "run_standalone_train cspdarknet53 2 data/imagenet": (
        "--data_dir=HERE/data/imagenet --device_id=2", "train/log.txt"),
    "run_eval yolov4 dataset/xxx checkpoint/xxx.ckpt": (
        "--data_dir=HERE/dataset/xxx --pretrained=HERE/checkpoint/xxx.ckpt", "eval/log.txt"),
    "run_eval yolov4 dataset/coco2017 checkpoint/yolov4.ckpt": (
        "--data_dir=HERE/dataset/coco2017 --pretrained=HERE/checkpoint/yolov4.ckpt", "eval/log.txt"),
    "run_eval yolov3_quant dataset/coco2014/ checkpoint/yolov3_quant.ckpt 0": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/checkpoint/yolov3_quant.ckpt --device_id=0",
        "eval/log.txt"),
    "run_eval yolov3_quant dataset/coco2014/ checkpoint/0-130_83330.ckpt 0": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/checkpoint/0-130_83330.ckpt --device_id=0",
        "eval/log.txt"),
    "run_eval efficientdet_d0 checkpoint/effdet_d0.ckpt 0": (
        "--pretrained=HERE/checkpoint/effdet_d0.ckpt --device_id=0", "eval/log.txt"),
    "run_eval refinedet coco ./ckpt/refinedet.ckpt 0": (
        "--dataset=coco --pretrained=HERE/ckpt/refinedet.ckpt --device_id=0", "eval0/log.txt"),
    "run_eval_gpu refinedet coco ../ckpt/ckpt_0/refinedet-500_458.ckpt 0": (
        "--dataset=coco --pretrained=HERE/../ckpt/ckpt_0/refinedet-500_458.ckpt --device_id=0 --device_target=GPU",
        "eval0/log.txt"),
    "run_eval_gpu darknet53 data/imagenet ck.ckpt": (
        "--data_dir=HERE/data/imagenet --pretrained=HERE/ck.ckpt --device_target=GPU", "eval/log.txt"),
    "run_eval cspdarknet53 1 data/imagenet ck.ckpt": (
        "--data_dir=HERE/data/imagenet --pretrained=HERE/ck.ckpt --device_id=1", "eval/log.txt"),
    "run_test yolov4 dataset/coco2017 checkpoint/yolov4.ckpt": (
        "--data_dir=HERE/dataset/coco2017 --pretrained=HERE/checkpoint/yolov4.ckpt", "test/log.txt"),
    "run_infer_310 yolov4 y.mindir val2017 0 instances_val2017.json": (
        "--pretrained=HERE/y.mindir --val_ann_file=HERE/instances_val2017.json --device_id=0 "
        "--val_image_dir=HERE/val2017", "acc.log"),
    "run_infer_310 yolov4 y.mindir val2017 instances_val2017.json": (
        "--pretrained=HERE/y.mindir --val_ann_file=HERE/instances_val2017.json --val_image_dir=HERE/val2017",
        "acc.log"),
    "run_infer_310 yolov3_quant q.mindir val2014 a.json image_shape.npy image_id.npy 2": (
        "--pretrained=HERE/q.mindir --val_ann_file=HERE/a.json --image_shape=HERE/image_shape.npy "
        "--image_id=HERE/image_id.npy --device_id=2 --val_image_dir=HERE/val2014", "acc.log"),
    "run_infer_310 cspdarknet53 c.mindir imagenet/val 3": (
        "--pretrained=HERE/c.mindir --device_id=3 --val_image_dir=HERE/imagenet/val", "acc.log"),
    "run_infer_310 refinedet r.mindir coco2017 5": (
        "--pretrained=HERE/r.mindir --device_id=5 --data_dir=HERE/coco2017", "acc.log"),
    "run_infer_310 refinedet r.mindir coco2017": (
        "--pretrained=HERE/r.mindir --data_dir=HERE/coco2017", "acc.log"),
}  # fmt: skip


# ... and the number of ranks, and what starts them.
DISTRIBUTED = {
    "run_distribute_train yolov4 dataset/xxx cspdarknet53_backbone.ckpt rank_table_8p.json": (
        "--data_dir=HERE/dataset/xxx --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt",
        "train_parallel{rank}", 8, "rank_table_8p.json"),
    "run_distribute_train yolov4 dataset/coco2017 cspdarknet53_backbone.ckpt": (
        "--data_dir=HERE/dataset/coco2017 --pretrained_backbone=HERE/cspdarknet53_backbone.ckpt",
        "train_parallel{rank}", 8, "msrun"),
    "run_distribute_train yolov3_quant dataset/coco2014 yolov3_darknet53_noquant.ckpt rank_table_8p.json": (
        "--data_dir=HERE/dataset/coco2014 --pretrained=HERE/yolov3_darknet53_noquant.ckpt",
        "train_parallel{rank}", 8, "rank_table_8p.json"),
    "run_distribute_train efficientdet_d0 rank_table_8p.json": ("", "train_parallel{rank}", 8, "rank_table_8p.json"),
    "run_distribute_train efficientdet_d0": ("", "train_parallel{rank}", 8, "msrun"),
    "run_distribute_train refinedet 8 500 0.05 coco ./hccl_rank_tabel_8p.json": (
        "--max_epoch=500 --lr=0.05 --dataset=coco", "LOG{rank}", 8, "hccl_rank_tabel_8p.json"),
    "run_distribute_train refinedet 8 500 0.05 coco ./hccl_rank_tabel_8p.json p.ckpt 200": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --pretrained=HERE/p.ckpt --pre_trained_epoch_size=200",
        "LOG{rank}", 8, "hccl_rank_tabel_8p.json"),
    "run_distribute_train refinedet 4 500 0.05 coco": (
        "--max_epoch=500 --lr=0.05 --dataset=coco", "LOG{rank}", 4, "msrun"),
    "run_distribute_train_gpu refinedet 8 500 0.05 coco": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --device_target=GPU", "LOG{rank}", 8, "msrun"),
    "run_distribute_train_gpu refinedet 8 500 0.05 coco p.ckpt 200": (
        "--max_epoch=500 --lr=0.05 --dataset=coco --pretrained=HERE/p.ckpt --pre_trained_epoch_size=200 "
        "--device_target=GPU", "LOG{rank}", 8, "msrun"),
    "run_distribute_train_gpu darknet53 imagenet2012 data/imagenet": (
        "--dataset=imagenet2012 --data_dir=HERE/data/imagenet --device_target=GPU", "train_parallel{rank}", 8, "msrun"),
    "run_distribute_train_gpu darknet53 imagenet2012 data/imagenet ck.ckpt --launcher mpirun": (
        "--dataset=imagenet2012 --data_dir=HERE/data/imagenet --pretrained=HERE/ck.ckpt --device_target=GPU",
        "train_parallel{rank}", 8, "mpirun"),
    "run_distribute_train cspdarknet53 rank_table_8p.json data/imagenet": (
        "--data_dir=HERE/data/imagenet", "train_parallel{rank}", 8, "rank_table_8p.json"),
}  # fmt: skip


# Flags that the launcher adds.
PLACES = ("--config=", "--ckpt_path=", "--run_name=", "--log_path=")


def plan_of(line: str, here: Path):
    script, *arguments = shlex.split(line)
    return make_plan(script.replace("standardalone", "standalone"), arguments, here)


def flags_of(plan, here: Path) -> str:
    flags = [flag for flag in plan.entry[1:] if not flag.startswith(PLACES)]
    return " ".join(flags).replace(str(here), "HERE")
