"""PyTorch and safetensors files: tensors are read, damaged and hostile files are refused, nothing is executed."""

import collections
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdet.errors import UserError
from msdet.importers.torch_file import read_safetensors, read_torch
from tests.importers import torch_files as files

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32)
COUNT = np.int64([7])


@pytest.fixture(autouse=True)
def _torch(monkeypatch):
    files.fake_torch(monkeypatch)


@pytest.fixture(params=["zip", "legacy"])
def save(request):
    return files.save_zip if request.param == "zip" else files.save_legacy


def test_tensors_are_read(tmp_path, save):
    state = collections.OrderedDict(
        a=files.tensor("0", KERNEL), n=files.tensor("1", COUNT), h=files.tensor("2", KERNEL.astype(np.float16))
    )
    save(tmp_path / "w.pth", state)
    read = read_torch(tmp_path / "w.pth")
    assert list(read) == ["a", "n", "h"]
    np.testing.assert_array_equal(read["a"], KERNEL)
    np.testing.assert_array_equal(read["n"], COUNT)
    assert read["h"].dtype == np.float16


def test_views_share_a_storage(tmp_path, save):
    storage = files.Storage("0", KERNEL.ravel())
    state = {"transposed": files.Tensor(storage, 0, (12, 4), (1, 12)), "tail": files.Tensor(storage, 40, (8,), (1,))}
    save(tmp_path / "w.pth", state)
    read = read_torch(tmp_path / "w.pth")
    np.testing.assert_array_equal(read["transposed"], KERNEL.reshape(4, 12).T)
    np.testing.assert_array_equal(read["tail"], KERNEL.ravel()[40:])


def test_the_weights_of_a_training_checkpoint_are_read(tmp_path, save):
    weights = {"a": files.tensor("0", KERNEL)}
    save(tmp_path / "w.pth", {"epoch": 3, "lr": 0.1, "note": "x", "optimizer": {"lr": [1, 2]}, "state_dict": weights})
    assert list(read_torch(tmp_path / "w.pth")) == ["a"]


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.pth"])
def test_files_written_by_torch(golden_dir, name):
    """Written by torch 2.13: arange(12) as 3 x 4, (1.5, -2) as bfloat16, and a column of the first as a view."""
    read = read_torch(golden_dir / name)
    np.testing.assert_array_equal(read["a.weight"], np.arange(12, dtype=np.float32).reshape(3, 4))
    np.testing.assert_array_equal(read["a.bias"], np.float32([1.5, -2]))
    np.testing.assert_array_equal(read["a.slice"], np.arange(12, dtype=np.float32).reshape(3, 4)[:, 1])


class Evil:
    """A call, as in a malicious file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_file_is_refused_and_not_executed(tmp_path, save):
    victim = tmp_path / "victim"
    save(tmp_path / "w.pth", {"a": files.tensor("0", KERNEL), "b": Evil(victim)})
    with pytest.raises(UserError, match=r"(posix|nt)\.system"):
        read_torch(tmp_path / "w.pth")
    assert not victim.exists()
    # The file is a real attack: the same bytes execute the command when they are unpickled.
    pickle.loads(pickle.dumps(Evil(victim)))
    assert victim.exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Path("x"), "pathlib"),
        (np.float64(1), "numpy"),
        (complex(1, 2), "complex"),
        ({1, 2}, "set"),
        (print, "print"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_other_types_are_refused_by_name(tmp_path, value, named):
    files.save_zip(tmp_path / "w.pth", {"a": files.tensor("0", KERNEL), "b": value})
    with pytest.raises(UserError, match=named) as caught:
        read_torch(tmp_path / "w.pth")
    assert "Nothing in it was executed" in str(caught.value)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ((40, (9,), (1,)), "beyond"),
        ((0, (10**6,), (0,)), "more elements"),
        ((0, (4, -1), (1, 1)), "invalid"),
        ((-1, (4,), (1,)), "invalid"),
        ((0, (4,), (1, 1)), "invalid"),
        ((0, (2.0,), (1,)), "invalid"),
        ((0, (1,) * 80, (1,) * 80), "invalid"),
        ((0, (0, 10**30), (1, 1)), "invalid"),
        ((0, (1, 1), (10**30, 1)), "invalid"),
    ],
)
def test_views_outside_their_storage_are_refused(tmp_path, save, view, message):
    save(tmp_path / "w.pth", {"a": files.Tensor(files.Storage("0", KERNEL.ravel()), *view)})
    with pytest.raises(UserError, match=message):
        read_torch(tmp_path / "w.pth")


def test_many_tensors_of_one_storage_are_refused(tmp_path, save):
    storage = files.Storage("0", np.zeros(4000, np.float32))
    save(tmp_path / "w.pth", {str(i): files.Tensor(storage, 0, (4000,), (1,)) for i in range(200)})
    with pytest.raises(UserError, match="800,000 elements"):
        read_torch(tmp_path / "w.pth")


def rewritten(path, target, change):
    """A copy of a zip file with its members changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            for name, data, how in change(info.filename, old.read(info)):
                new.writestr(name, data, compress_type=how)


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, d: [(n, d[:-1] if "data/" in n else d, STORED)], "bytes"),
        (lambda n, d: [] if "data/" in n else [(n, d, STORED)], "missing"),
        (lambda n, d: [(n, d, DEFLATED)], "compressed"),
        (lambda n, d: [(n, b"big" if "byteorder" in n else d, STORED)], "big-endian"),
        (
            lambda n, d: [(n, d, STORED), *([("archive/constants.pkl", b"", STORED)] if "version" in n else [])],
            "Script",
        ),
        (lambda n, d: [(n, d[:20] if n.endswith("pkl") else d, STORED)], "damaged|truncated"),
        (lambda n, d: [] if n.endswith("pkl") else [(n, d, STORED)], r"no data\.pkl"),
    ],
)
def test_damaged_archives(tmp_path, change, message):
    files.save_zip(tmp_path / "w.pth", {"a": files.tensor("0", KERNEL)})
    rewritten(tmp_path / "w.pth", tmp_path / "bad.pth", change)
    with pytest.raises(UserError, match=message):
        read_torch(tmp_path / "bad.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"hello world", b"\x80\x02N."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pth"):
        read_torch(tmp_path / "w.pth")


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["zip", "legacy"]))
def test_a_changed_byte_gives_arrays_or_a_user_error(tmp_path_factory, data, layout):
    folder = tmp_path_factory.getbasetemp()
    good = folder / f"good_{layout}.pth"
    if not good.exists():
        with pytest.MonkeyPatch.context() as patch:
            files.fake_torch(patch)
            save_layout = files.save_zip if layout == "zip" else files.save_legacy
            save_layout(good, {"a": files.tensor("0", KERNEL), "epoch": 3})
    content = bytearray(good.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    (folder / "changed.pth").write_bytes(bytes(content))
    try:
        read = read_torch(folder / "changed.pth")
    except UserError as error:
        assert "changed.pth" in str(error)
    else:
        assert all(isinstance(value, np.ndarray) for value in read.values())


def test_safetensors(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": KERNEL}, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(read_safetensors(tmp_path / "w.safetensors")["a"], KERNEL)
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(content[:-5])
    for name in ("short.safetensors", "absent.safetensors"):
        with pytest.raises(UserError, match=name):
            read_safetensors(tmp_path / name)


def safe_file(path, dtype, data, shape):
    header = json.dumps({"layer.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_safetensors_of_bfloat16_are_read_without_loss(tmp_path):
    halves = np.arange(2**16, dtype="<u2")
    read = read_safetensors(safe_file(tmp_path / "w.safetensors", "BF16", halves.tobytes(), [256, 256]))["layer.weight"]
    assert read.dtype == np.float32 and read.shape == (256, 256)
    np.testing.assert_array_equal(read.view(np.uint32).ravel(), halves.astype(np.uint32) << 16)


@pytest.mark.parametrize(("dtype", "size"), [("F8_E4M3", 8), ("F8_E5M2", 8), ("F4", 4), ("C64", 64)])
def test_safetensors_of_other_types_are_refused(tmp_path, dtype, size):
    with pytest.raises(UserError, match=rf"layer\.weight has the type {dtype}"):
        read_safetensors(safe_file(tmp_path / "w.safetensors", dtype, bytes(size), [2, 4]))


@pytest.mark.parametrize(
    ("usual", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "ema"),
        ("model", "model_ema"),
        ("state_dict", "ema_state_dict"),
        ("model_state", "ema_state"),
    ],
)
def test_the_trained_container_is_read_by_default_and_any_other_on_request(tmp_path, save, usual, average):
    content = {average: {"a": files.tensor("1", KERNEL + 1)}, usual: {"a": files.tensor("0", KERNEL)}, "epoch": 3}
    save(tmp_path / "w.pth", content)
    others = []
    np.testing.assert_array_equal(read_torch(tmp_path / "w.pth", others=others)["a"], KERNEL)
    assert others == [f"{average}: a"]
    others.clear()
    np.testing.assert_array_equal(read_torch(tmp_path / "w.pth", average, others)["a"], KERNEL + 1)
    assert others == [f"{usual}: a"]
    with pytest.raises(UserError, match=f"no 'other'.*{average}"):
        read_torch(tmp_path / "w.pth", "other")


def test_nested_containers(tmp_path, save, caplog):
    content = {"ema": {"module": {"a": files.tensor("1", KERNEL + 1)}, "decay": 0.9}, "epoch": 3,
               "optimizer": {"state": {0: {"step": files.tensor("2", KERNEL)}}},
               "model": {"a": files.tensor("0", KERNEL), "_extra_state": None}}  # fmt: skip
    save(tmp_path / "w.pth", content)
    caplog.set_level("INFO")
    others = []
    np.testing.assert_array_equal(read_torch(tmp_path / "w.pth", others=others)["a"], KERNEL)
    assert others == ["ema.module: a"]
    assert "besides tensors the file holds epoch, optimizer" in caplog.text
    assert "the file holds ema.module (1 tensors), model (1 tensors): reading model, --container" in caplog.text
    np.testing.assert_array_equal(read_torch(tmp_path / "w.pth", "ema.module")["a"], KERNEL + 1)


@pytest.mark.parametrize("key", ["state_dict", ""])
def test_averages_of_mmdetection_among_the_weights(tmp_path, save, key):
    tensors = {"neck.ema_conv.a": files.tensor("0", KERNEL), "ema_neck_ema_conv_a": files.tensor("1", KERNEL + 1),
               "ema_other": files.tensor("2", KERNEL + 2)}  # fmt: skip
    save(tmp_path / "w.pth", {key: tensors} if key else tensors)
    weights = read_torch(tmp_path / "w.pth")
    assert list(weights) == ["neck.ema_conv.a", "ema_other"]
    averages = read_torch(tmp_path / "w.pth", f"{key}.ema_" if key else "ema_")
    assert list(averages) == ["neck.ema_conv.a"]
    np.testing.assert_array_equal(averages["neck.ema_conv.a"], KERNEL + 1)


def test_a_file_without_tensors_is_refused(tmp_path, save):
    save(tmp_path / "w.pth", {"epoch": 3, "args": {"lr": 0.1}})
    with pytest.raises(UserError, match="no known dictionary of tensors"):
        read_torch(tmp_path / "w.pth")
