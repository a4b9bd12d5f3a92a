"""The recipe of a tiny YOLOv3."""

from msdet.config import load_config
from msdet.models.recipe import get_recipe

TINY = ["--backbone_shape", "4,8,8,16,16,16", "--backbone_layers", "1,1,1,1,1"]


def recipe(classes=2, *flags):
    return get_recipe(load_config("configs/yolov3_shapes.yaml", [*TINY, *flags]).replace(num_classes=classes))
