"""Every command line on the five pages of the old zoo, and what is typed here in its place.

MODEL comes behind the name of a shell script and `--config configs/MODEL.yaml` behind that of a Python script; all
else is as on the page, but for the tools that have moved.
"""

from __future__ import annotations

from typing import NamedTuple

V4_TRAIN = (
    "--pretrained_backbone=cspdarknet53_backbone.ckpt --is_distributed=0 --lr=0.1 --t_max=320 --max_epoch=320 "
    "--warmup_epochs=4 --training_shape=416 --lr_scheduler=cosine_annealing"
)


class Line(NamedTuple):
    """A command line of a page.

    Attributes:
        page: its file.
        theirs: without continuation, redirection and `&`; a word in brackets stands for a value.
        model: MODEL here.
        ours: where it is not `theirs` with MODEL.
    """

    page: str
    theirs: str
    model: str
    ours: str = ""


_QUANT, _V4, _D0, _REFINE, _DARK = (
    "yolov3_darknet53_quant.md", "yolov4.md", "efficientdet_d0.md", "refinedet.md", "darknet53.md",
)  # fmt: skip
LINES = [
    Line(_QUANT, "python train.py --data_dir=./dataset/coco2014 --resume_yolov3=yolov3_darknet53_noquant.ckpt "
         "--is_distributed=0 --per_batch_size=16 --lr=0.012 --T_max=135 --max_epoch=135 --warmup_epochs=5 "
         "--lr_scheduler=cosine_annealing", "yolov3_quant"),
    Line(_QUANT, "sh run_standalone_train.sh dataset/coco2014 yolov3_darknet53_noquant.ckpt", "yolov3_quant"),
    Line(_QUANT, "sh run_distribute_train.sh dataset/coco2014 yolov3_darknet53_noquant.ckpt rank_table_8p.json",
         "yolov3_quant"),
    Line(_QUANT, "python eval.py --data_dir=./dataset/coco2014 --pretrained=yolov3_quent.ckpt --testing_shape=416",
         "yolov3_quant"),
    Line(_QUANT, "sh run_eval.sh dataset/coco2014/ checkpoint/yolov3_quant.ckpt 0", "yolov3_quant"),
    Line(_QUANT, "python eval.py --data_dir=./dataset/coco2014 --pretrained=0-130_83330.ckpt --testing_shape=416",
         "yolov3_quant"),
    Line(_QUANT, "sh run_eval.sh dataset/coco2014/ checkpoint/0-130_83330.ckpt 0", "yolov3_quant"),
    Line(_V4, 'python hccl_tools.py --device_num "[0,8)"', "", 'msdet hccl_tools --device_num "[0,8)"'),
    Line(_V4, f"python train.py --data_dir=./dataset/xxx {V4_TRAIN}", "yolov4"),
    Line(_V4, f"python train.py --data_dir=/dataset/xxx {V4_TRAIN}", "yolov4"),
    Line(_V4, "bash run_standalone_train.sh dataset/xxx cspdarknet53_backbone.ckpt", "yolov4"),
    Line(_V4, "bash run_standalone_train.sh dataset/coco2017 cspdarknet53_backbone.ckpt", "yolov4"),
    Line(_V4, "bash run_distribute_train.sh dataset/xxx cspdarknet53_backbone.ckpt rank_table_8p.json", "yolov4"),
    Line(_V4, "bash run_distribute_train.sh dataset/coco2017 cspdarknet53_backbone.ckpt rank_table_8p.json", "yolov4"),
    Line(_V4, "python eval.py --data_dir=./dataset/xxx --pretrained=yolov4.ckpt --testing_shape=608", "yolov4"),
    Line(_V4, "python eval.py --data_dir=./dataset/coco2017 --pretrained=yolov4.ckpt --testing_shape=608", "yolov4"),
    Line(_V4, "bash run_eval.sh dataset/xxx checkpoint/xxx.ckpt", "yolov4"),
    Line(_V4, "bash run_eval.sh dataset/coco2017 checkpoint/yolov4.ckpt", "yolov4"),
    Line(_V4, "python test.py --data_dir=./dataset/coco2017 --pretrained=yolov4.ckpt --testing_shape=608", "yolov4"),
    Line(_V4, "bash run_test.sh dataset/coco2017 checkpoint/yolov4.ckpt", "yolov4"),
    Line(_V4, "python export.py --ckpt_file [CKPT_PATH] --file_name [FILE_NAME] --file_format [FILE_FORMAT]", "yolov4"),
    Line(_V4, "bash run_infer_310.sh [MINDIR_PATH] [DATA_PATH] [DEVICE_ID] [ANN_FILE]", "yolov4"),
    Line(_D0, "python src/create_data.py --is_modelarts=False", "efficientdet_d0"),
    Line(_D0, "python src/create_data.py --is_modelarts=True --data_url=[coco_root] --train_url=[OBS_PATH]",
         "efficientdet_d0"),
    Line(_D0, "bash run_standalone_train.sh [DEVICE_ID]", "efficientdet_d0"),
    Line(_D0, "bash run_standalone_train.sh", "efficientdet_d0"),
    Line(_D0, "bash run_distribute_train.sh [RANK_TABLE_FILE]", "efficientdet_d0"),
    Line(_D0, "bash run_distribute_train.sh rank_table_8p.json", "efficientdet_d0"),
    Line(_D0, "bash run_eval.sh [CKPT_PATH] [DEVICE_ID]", "efficientdet_d0"),
    Line(_D0, "bash run_eval.sh checkpoint/effdet_d0.ckpt 0", "efficientdet_d0"),
    Line(_D0, "python export.py --pre_trained [CKPT_PATH] --file_format [FILE_FORMAT]", "efficientdet_d0"),
    Line(_REFINE, "python train.py --device_id=0 --epoch_size=500 --dataset=coco", "refinedet_vgg16_320"),
    Line(_REFINE, "bash run_standardalone_train.sh [DEVICE_ID] [EPOCH_SIZE] [LR] [DATASET]", "refinedet"),
    Line(_REFINE, "bash run_standardalone_train.sh 0 500 0.05 coco", "refinedet"),
    Line(_REFINE, "bash run_distribute_train.sh [DEVICE_NUM] [EPOCH_SIZE] [LR] [DATASET] [RANK_TABLE_FILE]",
         "refinedet"),
    Line(_REFINE, "bash run_distribute_train.sh [DEVICE_NUM] [EPOCH_SIZE] [LR] [DATASET] [RANK_TABLE_FILE] "
         "[PRE_TRAINED](optional) [PRE_TRAINED_EPOCH_SIZE](optional)", "refinedet"),
    Line(_REFINE, "bash run_distribute_train.sh 8 500 0.05 coco ./hccl_rank_tabel_8p.json", "refinedet"),
    Line(_REFINE, "python train.py --run_online=True --data_url=obs://xxx/coco2017 --train_url=obs://xxx/train_output "
         "--distribute=True --epoch_size=500 --dataset=coco", "refinedet_vgg16_320"),
    Line(_REFINE, "bash run_eval.sh [DATASET] [CHECKPOINT_PATH] [DEVICE_ID]", "refinedet"),
    Line(_REFINE, "bash run_eval.sh coco ./ckpt/refinedet.ckpt 0", "refinedet"),
    Line(_REFINE, "python eval.py --dataset=coco --device_id=0 --checkpoint_path=./ckpt/refinedet.ckpt",
         "refinedet_vgg16_320"),
    Line(_REFINE, "bash run_standardalone_train_gpu.sh [DEVICE_ID] [EPOCH_SIZE] [LR] [DATASET]", "refinedet"),
    Line(_REFINE, "bash ./run_standardalone_train_gpu.sh 0 5 0.02 coco", "refinedet"),
    Line(_REFINE, "bash run_distribute_train_gpu.sh [DEVICE_NUM] [EPOCH_SIZE] [LR] [DATASET]", "refinedet"),
    Line(_REFINE, "bash run_distribute_train_gpu.sh [DEVICE_NUM] [EPOCH_SIZE] [LR] [DATASET] "
         "[PRE_TRAINED](optional) [PRE_TRAINED_EPOCH_SIZE](optional)", "refinedet"),
    Line(_REFINE, "bash ./run_distribute_train_gpu.sh 8 500 0.05 coco", "refinedet"),
    Line(_REFINE, "bash run_eval_gpu.sh [DATASET] [CHECKPOINT_PATH] [DEVICE_ID]", "refinedet"),
    Line(_REFINE, "bash run_eval_gpu.sh coco ../ckpt/ckpt_0/refinedet-500_458.ckpt 0", "refinedet"),
    Line(_REFINE, "python export.py --ckpt_file [CKPT_PATH] --file_name [FILE_NAME] --file_format [FILE_FORMAT]",
         "refinedet_vgg16_320"),
    Line(_REFINE, "bash run_infer_310.sh [MINDIR_PATH] [DATA_PATH] [DEVICE_ID]", "refinedet"),
    Line(_DARK, "bash run_distribute_train_gpu.sh darknet53 imagenet2012 [DATASET_PATH]", "",
         "bash run_distribute_train_gpu.sh darknet53 imagenet2012 [DATASET_PATH]"),
    Line(_DARK, "bash run_standalone_train_gpu.sh darknet53 imagenet2012 [DATASET_PATH]", "",
         "bash run_standalone_train_gpu.sh darknet53 imagenet2012 [DATASET_PATH]"),
    Line(_DARK, "bash run_eval_gpu.sh [DATASET_PATH] [CHECKPOINT_PATH]", "darknet53"),
    Line(_DARK, "python export.py --ckpt_file [CKPT_PATH] --batch_size [BATCH_SIZE] --file_format [FILE_FORMAT]",
         "darknet53_imagenet"),
]  # fmt: skip
# What a word in brackets is replaced by.
VALUES = {
    "[CKPT_PATH]": "w.ckpt", "[CHECKPOINT_PATH]": "w.ckpt", "[FILE_NAME]": "out", "[FILE_FORMAT]": "MINDIR",
    "[MINDIR_PATH]": "w.mindir", "[DATA_PATH]": "val2017", "[DEVICE_ID]": "0", "[ANN_FILE]": "a.json",
    "[coco_root]": "raw", "[OBS_PATH]": "delivered", "[RANK_TABLE_FILE]": "rank_table_8p.json", "[DEVICE_NUM]": "8",
    "[EPOCH_SIZE]": "500", "[LR]": "0.05", "[DATASET]": "coco", "[PRE_TRAINED]": "p.ckpt",
    "[PRE_TRAINED_EPOCH_SIZE]": "200", "[DATASET_PATH]": "imagenet", "[BATCH_SIZE]": "1",
}  # fmt: skip


def here(line: Line) -> str:
    """What is typed here, with values."""
    words = (line.ours or line.theirs).replace("(optional)", "").split()
    if not line.ours:
        words[2:2] = [f"--config=configs/{line.model}.yaml"] if words[1].endswith(".py") else [line.model]
    if words[1].endswith(".sh"):
        words[1] = f"scripts/{words[1].removeprefix('./')}"
    return " ".join(_filled(word) for word in words)


def _filled(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{VALUES.get(value, value)}"
