"""Every python command line on the pages of the old model zoo, with --config in front: what it resolves to.

Those of its shell scripts are in tests/tools/launcher/test_plan.py.
"""

import pytest

from msdet.config import parse_command_line

TRAIN_YOLOV4 = (
    "--pretrained_backbone=cspdarknet53_backbone.ckpt --is_distributed=0 --lr=0.1 --t_max=320 --max_epoch=320 "
    "--warmup_epochs=4 --training_shape=416 --lr_scheduler=cosine_annealing"
)
COMMANDS = {
    # YOLOv3-DarkNet53-Quant
    "train yolov3_quant --data_dir=./dataset/coco2014 --resume_yolov3=yolov3_darknet53_noquant.ckpt --is_distributed=0 "
    "--per_batch_size=16 --lr=0.012 --T_max=135 --max_epoch=135 --warmup_epochs=5 --lr_scheduler=cosine_annealing": {
        "data_dir": "./dataset/coco2014", "pretrained": "yolov3_darknet53_noquant.ckpt", "is_distributed": False,
        "per_batch_size": 16, "lr": 0.012, "t_max": 135, "max_epoch": 135, "warmup_epochs": 5,
        "quantization_aware": True, "loss_weight": 1 / 1024,
    },
    "eval yolov3_quant --data_dir=./dataset/coco2014 --pretrained=yolov3_quent.ckpt --testing_shape=416": {
        "data_dir": "./dataset/coco2014", "pretrained": "yolov3_quent.ckpt", "testing_shape": 416,
    },
    "eval yolov3_quant --data_dir=./dataset/coco2014 --pretrained=0-130_83330.ckpt --testing_shape=416": {
        "pretrained": "0-130_83330.ckpt", "eval_ignore_threshold": 0.001, "nms_thresh": 0.5,
    },
    # YOLOv4
    f"train yolov4 --data_dir=./dataset/xxx {TRAIN_YOLOV4}": {
        "data_dir": "./dataset/xxx", "pretrained_backbone": "cspdarknet53_backbone.ckpt", "lr": 0.1, "t_max": 320,
        "max_epoch": 320, "warmup_epochs": 4, "training_shape": "416", "lr_scheduler": "cosine_annealing",
    },
    f"train yolov4 --data_dir=/dataset/xxx {TRAIN_YOLOV4}": {"data_dir": "/dataset/xxx", "per_batch_size": 8},
    "eval yolov4 --data_dir=./dataset/xxx --pretrained=yolov4.ckpt --testing_shape=608": {"testing_shape": 608},
    "eval yolov4 --data_dir=./dataset/coco2017 --pretrained=yolov4.ckpt --testing_shape=608": {"nms_type": "diou"},
    "test yolov4 --data_dir=./dataset/coco2017 --pretrained=yolov4.ckpt --testing_shape=608": {
        "pretrained": "yolov4.ckpt", "test_nms_thresh": 0.6, "test_ignore_threshold": 0.001,
    },
    "export yolov4 --ckpt_file yolov4.ckpt --file_name out --file_format ONNX": {
        "pretrained": "yolov4.ckpt", "file_name": "out", "file_format": "ONNX",
    },
    # EfficientDet-D0
    "export efficientdet_d0 --pre_trained effdet_d0.ckpt --file_format MINDIR": {
        "pretrained": "effdet_d0.ckpt", "file_format": "MINDIR",
    },
    # RefineDet
    "train refinedet_vgg16_320 --device_id=0 --epoch_size=500 --dataset=coco": {"device_id": 0, "max_epoch": 500},
    "train refinedet_vgg16_320 --run_online=True --data_url=obs://xxx/coco2017 --train_url=obs://xxx/train_output "
    "--distribute=True --epoch_size=500 --dataset=coco": {
        "enable_modelarts": True, "data_url": "obs://xxx/coco2017", "train_url": "obs://xxx/train_output",
        "is_distributed": True, "max_epoch": 500,
    },
    "eval refinedet_vgg16_320 --dataset=coco --device_id=0 --checkpoint_path=./ckpt/refinedet.ckpt": {
        "pretrained": "./ckpt/refinedet.ckpt", "device_id": 0,
    },
    "export refinedet_vgg16_320 --ckpt_file refinedet.ckpt --file_name out --file_format MINDIR": {
        "pretrained": "refinedet.ckpt", "file_name": "out",
    },
    # DarkNet53
    "export darknet53_imagenet --ckpt_file darknet53.ckpt --batch_size 1 --file_format MINDIR": {
        "pretrained": "darknet53.ckpt", "export_batch_size": 1, "file_format": "MINDIR",
    },
}  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_what_a_command_of_the_old_pages_says(line):
    script, config, *flags = line.split()
    found = parse_command_line(["--config", f"configs/{config}.yaml", *flags], script).to_dict()
    expected = COMMANDS[line]
    assert {name: found[name] for name in expected} == expected
