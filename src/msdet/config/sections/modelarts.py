"""Keys of jobs on ModelArts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import ALL_COMMANDS, key


@dataclass(frozen=True)
class ModelArtsKeys:
    """ModelArts"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "postprocess", "create_data")
    ADVANCED_IN: ClassVar[tuple[str, ...]] = ALL_COMMANDS

    enable_modelarts: bool = key(
        False, "download the data from data_url, upload results to train_url", affects_training=False
    )
    data_url: str = key("", "bucket (obs://, s3://) or folder of the dataset", affects_training=False)
    train_url: str = key("", "bucket or folder for the results", affects_training=False)
    checkpoint_url: str = key("", "bucket or folder of checkpoints, downloaded into load_path", affects_training=False)
    data_path: str = key("/cache/data", "local folder of the downloaded dataset", path=True, affects_training=False)
    output_path: str = key("/cache/train", "local folder of the results", path=True, affects_training=False)
    load_path: str = key(
        "/cache/checkpoint_path", "local folder of the downloaded checkpoints", path=True, affects_training=False
    )
    need_modelarts_dataset_unzip: bool = key(True, "unpack zip files of the downloaded dataset", affects_training=False)
    modelarts_dataset_unzip_name: str = key(
        "coco", "zip file to unpack, without .zip; if it does not exist, all zip files are unpacked",
        affects_training=False,
    )  # fmt: skip
