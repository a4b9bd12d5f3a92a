"""Keys of jobs on ModelArts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msdet.config.key import EVERYWHERE, key


@dataclass(frozen=True)
class ModelArtsKeys:
    """ModelArts"""

    COMMANDS: ClassVar[tuple[str, ...]] = ("train", "eval", "test", "postprocess", "create_data")
    DETAIL_IN: ClassVar[tuple[str, ...]] = EVERYWHERE

    enable_modelarts: bool = key(
        False, "fetch data from data_url, deliver results to train_url", affects_training=False
    )
    data_url: str = key("", "bucket (obs://, s3://) or folder of the data", affects_training=False)
    train_url: str = key("", "bucket or folder that results are delivered to", affects_training=False)
    checkpoint_url: str = key("", "bucket or folder of checkpoints to fetch into load_path", affects_training=False)
    data_path: str = key("/cache/data", "local folder of the fetched data", path=True, affects_training=False)
    output_path: str = key("/cache/train", "local folder of the results", path=True, affects_training=False)
    load_path: str = key(
        "/cache/checkpoint_path", "local folder of the fetched checkpoints", path=True, affects_training=False
    )
    need_modelarts_dataset_unzip: bool = key(True, "unpack zip files among the fetched data", affects_training=False)
    modelarts_dataset_unzip_name: str = key(
        "coco", "name of the zip file without .zip; if there is none of that name, all are unpacked",
        affects_training=False,
    )  # fmt: skip
