"""Model names of the old zoo at MindSpore Hub -> config files."""

HUB_NAMES = {
    "yolov3_darknet53_quant": "yolov3_quant",
    "yolov4_cspdarknet53": "yolov4",
    "yolov4_shape416": "yolov4",
    "EfficientDet_d0": "efficientdet_d0",
    "refinedet": "refinedet_vgg16_320",
    "darknet53": "darknet53_imagenet",
    "cspdarknet53": "cspdarknet53_imagenet",
}
