"""Checkpoints, weights of other programs, exported files, rank tables, archives. Exit code 1, and the file."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest

from tests.bad_inputs.workspace import Case, run_case


def case(name, command, modify, *fragments, flags=(), code=1, bare=False):
    return Case(name, command, flags, code, fragments, modify, bare)


def edit(**values):
    return lambda w: w.json("w.json", lambda card: card.update(values))


W = ("--pretrained={root}/w.ckpt",)
RESUME = ("--resume={root}/out/old/ckpt_0/yolov3-2_8.ckpt",)
OLD = "out/old/ckpt_0/yolov3-2_8"
CHECKPOINTS = [
    *[case(f"{command} without the file", command, lambda w: (w.root / "w.ckpt").unlink(),
             "w.ckpt does not exist") for command in ("eval", "test", "export", "predict")],
    case("an empty checkpoint", "eval", lambda w: w.write("w.ckpt", ""), "w.ckpt", "sha256 differs"),
    case("a checkpoint of text", "export", lambda w: w.write("w.ckpt", "x" * 9), "w.ckpt", "sha256 differs"),
    case("half a checkpoint", "predict", lambda w: w.cut("w.ckpt"), "w.ckpt", "sha256 differs"),
    case("a flipped bit", "eval", lambda w: w.flip("w.ckpt"), "w.ckpt", "sha256 differs"),
    case("a flipped bit without card", "train",
           lambda w: (w.flip("w.ckpt"), (w.root / "w.json").unlink()), "not a valid MindSpore checkpoint",
           flags=W),
    case("no checkpoint, no card", "train",
           lambda w: (w.write("w.ckpt", b"\x0a\x05hello" * 9), (w.root / "w.json").unlink()),
           "not a valid MindSpore checkpoint", flags=W),
    case("a flipped bit in the card", "eval", lambda w: w.flip("w.json"), "w.json"),
    case("a card that is no JSON", "eval", lambda w: w.write("w.json", "{"), "w.json:1"),
    case("a card that is a list", "eval", lambda w: w.write("w.json", "[]"), "w.json is not a JSON object"),
    case("a card of numbers without end", "eval", lambda w: w.write("w.json", "9" * 5000), "w.json"),
    case("another model", "train", edit(model="yolov4"), "'yolov4'", "'yolov3'", flags=W),
    case("an unknown section", "train", edit(network=3), "w.json", "'network'", flags=W),
    case("other classes", "train", edit(class_names=["cat", "dog"]), "cat, dog", "--filter_weight", flags=W),
    case("another width", "train", None, "backbone_shape", "w.ckpt", flags=(*W, "--backbone_shape=8,8,8,16,16,16"),
           code=2),
    case("another width without card", "train", lambda w: (w.root / "w.json").unlink(),
           "does not fit the network", flags=(*W, "--backbone_shape=8,8,8,16,16,16")),
    case("no backbone", "train", lambda w: w.write("b.ckpt", (w.root / OLD).with_suffix(".state.ckpt")
           .read_bytes()), "holds no backbone", flags=("--pretrained_backbone={root}/b.ckpt",)),
    case("nothing to resume", "train", None, "none.ckpt cannot be resumed", "--pretrained",
           flags=("--resume={root}/none.ckpt",)),
    case("weights alone to resume", "train", None, "w.state.json is missing", flags=("--resume={root}/w.ckpt",)),
    case("a flipped bit in the state", "train", lambda w: w.flip(f"{OLD}.state.ckpt"),
           "yolov3-2_8.state.ckpt is damaged", flags=RESUME),
    case("no state", "train", lambda w: (w.root / f"{OLD}.state.ckpt").unlink(),
           "yolov3-2_8.state.ckpt is missing", flags=RESUME),
    case("a flipped bit in the manifest", "train", lambda w: w.flip(f"{OLD}.state.json"),
           "yolov3-2_8.state.json", flags=RESUME),
    case("an empty manifest", "train", lambda w: w.write(f"{OLD}.state.json", "{}"),
           "yolov3-2_8.state.json", flags=RESUME),
    case("another setting", "train", None, "was saved with other settings", "--resume_force", flags=RESUME),
]  # fmt: skip


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def archive(**members):
    def modify(workspace):
        with zipfile.ZipFile(workspace.root / "x", "w") as file:
            for name, content in members.items():
                file.writestr(name.replace("__", "/"), content)

    return modify


def packed(workspace):
    with zipfile.ZipFile(workspace.root / "x", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}) * 100)


def content(data):
    return lambda w: w.write("x", data)


PICKLE = pickle.dumps({}, protocol=2)
NUMBERS = np.zeros(1000, "<f4").tobytes()
WEIGHTS = [
    case("no file", "weights", None, "cannot be read: No such file"),
    case("an empty file", "weights", content(b""), "x is empty"),
    case("a short file", "weights", content(b"abc"), "not a darknet file", "3 bytes"),
    case("an unknown version", "weights", content(struct.pack("<iii", -5, 9, 9) + NUMBERS), "version -5.9.9"),
    case("half a number", "weights", content(struct.pack("<iiiq", 0, 2, 0, 1) + NUMBERS + b"x"), "truncated"),
    case("too few numbers", "weights", content(struct.pack("<iiiq", 0, 2, 0, 1) + NUMBERS), "too short", "values"),
    case("too many numbers", "weights", content(struct.pack("<iiiq", 0, 2, 0, 1) + NUMBERS * 1000), "too long"),
    case("a pickle that runs a command", "weights", content(pickle.dumps(Evil(), protocol=2)), "is refused",
           "posix.system", "Nothing in it was executed"),
    case("a pickle in an archive that runs a command", "weights",
           archive(a__data__pkl="", **{"archive/data.pkl": pickle.dumps(Evil(), protocol=2)}), "is refused",
           "posix.system"),
    case("half a pickle", "weights", content(PICKLE[:-1]), "is refused"),
    case("a pickle of another thing", "weights", content(PICKLE), "is refused"),
    case("half an archive", "weights", content(b"PK\x03\x04half"), "not a valid PyTorch file"),
    case("an archive without pickle", "weights", archive(a="b"), "no data.pkl"),
    case("an archive that leaves its folder", "weights", archive(**{"../../evil": "x"}), "no data.pkl"),
    case("two pickles", "weights", archive(**{"a/data.pkl": PICKLE, "b/data.pkl": PICKLE}), "data.pkl"),
    case("a program", "weights", archive(**{"a/data.pkl": PICKLE, "a/code/x.py": ""}), "TorchScript program"),
    case("a packed archive", "weights", packed, "is compressed"),
    case("big-endian numbers", "weights", archive(**{"a/data.pkl": PICKLE, "a/byteorder": "big"}), "big-endian"),
    case("no tensors", "weights", archive(**{"a/data.pkl": PICKLE, "a/byteorder": "little"}), "no known dictionary"),
    case("text as .pth", "weights", lambda w: w.write("x.pth", "text" * 9), "not a PyTorch file",
           flags=("--source={root}/x.pth",)),
    case("text as .safetensors", "weights", lambda w: w.write("x.safetensors", "text" * 9), "safetensors",
           flags=("--source={root}/x.safetensors",)),
    case("text as .ckpt", "weights", lambda w: w.write("x.ckpt", "text" * 9), "not a valid MindSpore checkpoint",
           flags=("--source={root}/x.ckpt",)),
    case("an unknown layout", "weights", content(NUMBERS), "--layout is 'caffe'", flags=("--layout=caffe",), code=2),
]  # fmt: skip


def exported(name, modify, *fragments, file="net.onnx", flags=(), command="predict", code=1):
    return case(name, command, modify, *fragments, flags=(f"--pretrained={{root}}/{file}", *flags), code=code)


EXPORTS = [
    *[exported(f"another {kind} file by {command}", lambda w, kind=kind: w.flip(f"net.{kind}"),
               f"net.{kind}", "sha256 differs", "was not run", file=f"net.{kind}", command=command)
      for kind in ("onnx", "mindir") for command in ("predict", "postprocess")],
    exported("no exported file", lambda w: (w.root / "net.onnx").unlink(), "net.onnx does not exist"),
    exported("no sidecar", lambda w: (w.root / "net.onnx.json").unlink(), "net.onnx.json is missing",
             "Copy both files"),
    exported("a sidecar that is no JSON", lambda w: w.write("net.mindir.json", "{"), "net.mindir.json:1",
             file="net.mindir"),
    exported("a sidecar without form", lambda w: w.json("net.onnx.json", lambda c: c.pop("form")),
             "net.onnx.json is not a sidecar", "'form'"),
    exported("a sidecar that is a list", lambda w: w.write("net.onnx.json", "[]"), "not a sidecar"),
    exported("a sidecar of another model",
             lambda w: w.json("net.onnx.json", lambda c: c["config"].update(model="yolov4")), "'yolov4'"),
    exported("a file that no runtime reads", None, "net.onnx", "cannot be loaded"),
    exported("a MINDIR that MindSpore does not read", None, "net.mindir", "cannot be loaded", file="net.mindir"),
    exported("another size than exported", None, "was exported for 64 x 64 px", flags=("--testing_shape=96",), code=2),
]  # fmt: skip


def table(**values):
    """A rank table of two devices with something replaced."""
    devices = [{"device_id": str(i), "device_ip": f"10.0.0.{i + 1}", "rank_id": str(i)} for i in range(2)]
    server = {"server_id": "10.0.0.9", "device": devices, "host_nic_ip": "reserve"}
    good = {"version": "1.0", "server_count": "1", "server_list": [server], "status": "completed"}
    good.update({key: value for key, value in values.items() if key in good})
    for key, value in values.items():
        if key not in good:
            devices[1][key] = value
    return json.dumps(good)


def ranks(name, text, *fragments):
    """The table of a distributed training, whose commands are only printed."""
    flags = ("run_distribute_train", "yolov4", "{root}/data", "{root}/w.ckpt", "{root}/t.json", "--dry_run")
    modify = None if text is None else lambda w: w.write("t.json", text)
    return Case(name, "launch", flags, 1, ("t.json", *fragments), modify)


RANKS = [
    ranks("no table", None),
    ranks("an empty table", ""),
    ranks("a table that is no JSON", "{"),
    ranks("a table that is a list", "[]"),
    ranks("no servers", table(server_list=[])),
    ranks("a server that is none", table(server_list=[3])),
    ranks("a rank twice", table(rank_id="0"), "rank"),
    ranks("a rank that is left out", table(rank_id="5"), "rank"),
    ranks("a rank of text", table(rank_id="first"), "rank"),
    ranks("a device twice", table(device_id="0"), "device"),
    ranks("an address that is none", table(device_ip="here"), "here"),
    case("merging what is no table", "hccl_tools", lambda w: w.write("t.json", "{}"), "t.json",
           flags=("--merge", "{root}/t.json", "{root}/t.json")),
    case("no address of a card", "hccl_tools", None, "--device_ips", flags=("--device_num=[0,8)",)),
]  # fmt: skip


def zipped(name, make, *fragments):
    """An archive among the data of ModelArts."""

    def modify(workspace):
        (workspace.root / "bucket").mkdir()
        make(workspace.root / "bucket" / "coco.zip")
        # Fetched already: what is to be fetched is no file that appears.
        shutil.copy2(workspace.root / "bucket" / "coco.zip", workspace.data / "coco.zip")

    flags = ("--enable_modelarts=1", "--data_url={root}/bucket", "--data_path={root}/data",
             "--output_path={root}/out", "--load_path={root}/load")  # fmt: skip
    return Case(name, "train", flags, 1, ("coco.zip", *fragments), modify)


def member(name, attributes=0):
    def make(path):
        with zipfile.ZipFile(path, "w") as file:
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            file.writestr(info, "/etc/passwd")

    return make


def damaged(path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive_:
        archive_.writestr("coco/a.txt", "hello" * 100)
    data = bytearray(file.getvalue())
    data[60] ^= 1
    path.write_bytes(data)


ARCHIVES = [
    zipped("a member that leaves the folder", member("../evil.txt"), "outside of its folder", "nothing was unpacked"),
    zipped("an absolute member", member("/evil.txt"), "outside of its folder"),
    zipped("a member of another system", member("..\\evil.txt"), "outside of its folder"),
    zipped("a drive", member("C:/evil.txt"), "outside of its folder"),
    zipped("a link", member("coco/link", 0o120777), "the link 'coco/link'"),
    zipped("a damaged archive", damaged, "cannot be unpacked"),
    zipped("no archive", lambda path: path.write_bytes(b"no archive"), "cannot be unpacked"),
]


def failed_step(**files):
    def modify(workspace):
        for name, data in files.items():
            workspace.write(f"step/{name.replace('__', '.')}", data)

    return modify


REPLAY = [
    case("no such step", "replay", None, "not the folder of a failed step", flags=("{root}/none",)),
    case("one of several ranks", "replay", lambda w: w.write("step/rank_1/report.json", "{}"),
           "contains rank_1", flags=("{root}/step",)),
    case("a damaged report", "replay", failed_step(report__json="{"), "report.json:1", flags=("{root}/step",)),
    case("no batch", "replay", failed_step(report__json="{}"), "is damaged", flags=("{root}/step",)),
    case("a damaged batch", "replay", failed_step(report__json="{}", batch__npz=b"PK\x03\x04"), "is damaged",
           flags=("{root}/step",)),
    case("a batch that is a pickle", "replay",
           failed_step(report__json="{}", batch__npz=pickle.dumps(Evil(), protocol=2)), "is damaged",
           flags=("{root}/step",)),
]  # fmt: skip


@pytest.mark.parametrize("case", [*CHECKPOINTS, *EXPORTS], ids=lambda case: case.name)
def test_own_files(case, good, tmp_path, capsys):
    run_case(case, good, tmp_path, capsys)


@pytest.mark.parametrize("case", [*WEIGHTS, *RANKS, *ARCHIVES, *REPLAY], ids=lambda case: case.name)
def test_files_of_other_programs(case, good, tmp_path, capsys):
    run_case(case, good, tmp_path, capsys)
