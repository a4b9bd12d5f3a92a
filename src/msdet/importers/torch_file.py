"""Reads the tensors of PyTorch files, without PyTorch and without unpickling; and those of safetensors files.

`torch.save` writes, since version 1.6, a zip archive with a pickle (`data.pkl`) and one file a storage (`data/KEY`);
before that, five pickles and the storages one after the other. A tensor is a view of a storage: offset, shape, strides.
"""

from __future__ import annotations

import io
import logging
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msdet.errors import UserError
from msdet.importers.darknet_file import read_bytes
from msdet.importers.pickle_data import Name, PickleReader, RefusedPickle, plain_dict
from msdet.text import first_few

log = logging.getLogger(__name__)

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SAFE_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = frozenset(f"torch.{name}" for name in _STORAGES)
# What no tensor of weights comes near; numpy takes 32 axes, and more of them end the process.
_LARGEST = 2**40
_MOST_AXES = 16
# Tensors may share a storage, but not so often that a small file fills the memory.
_MOST_ELEMENTS_A_BYTE = 8
# What mmdetection puts before the names of averages.
_AVERAGE = "ema_"
# Dictionaries in dictionaries that are looked into.
_DEEPEST = 4
# Under which key training programs keep the weights, the best choice first.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")


@dataclass(frozen=True)
class _Storage:
    key: str
    kind: str
    count: int

    @property
    def item_size(self) -> int:
        return 2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize


@dataclass(frozen=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path, container: str = "", others: list[str] | None = None) -> dict[str, np.ndarray]:
    """Tensors of a .pth or .pt file by name; bfloat16 becomes float32.

    A training checkpoint that keeps its weights under a key such as "state_dict" gives those.

    Args:
        path: the file.
        container: the key to take, such as "state_dict_ema"; empty: the first of the usual ones.
        others: is given the names of the tensors under other keys.

    Raises:
        UserError: the file is missing, damaged, holds anything but plain data, or no tensors.
    """
    data = read_bytes(path)
    try:
        content, load = _read_zip(data) if data[:2] == b"PK" else _read_legacy(data)
        views = _weights_in(content, container, [] if others is None else others)
        elements = sum(math.prod(view.shape) for view in views.values())
        if elements > _MOST_ELEMENTS_A_BYTE * len(data):
            raise RefusedPickle(f"its tensors have {elements:,} elements, the whole file has {len(data):,} bytes")
        return {name: _array(view, load) for name, view in views.items()}
    except RefusedPickle as error:
        raise UserError(f"{path} is refused: {error}.\nNothing of it was run. {_REMEDY}") from error
    # RuntimeError: a member of the archive is encrypted.
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{path} is no whole PyTorch file: {error}") from error


_REMEDY = "Save the weights alone: torch.save(model.state_dict(), FILE)."


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a .safetensors file by name; bfloat16 becomes float32, exactly.

    Raises:
        UserError: the file is missing or damaged, or a tensor has a type that is not read (fp8, complex).
    """
    from safetensors import SafetensorError, deserialize

    data = read_bytes(path)
    try:
        return {name: _safe_tensor(name, entry) for name, entry in deserialize(data)}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error


def _safe_tensor(name: str, entry: Mapping[str, Any]) -> np.ndarray:
    kind = _SAFE_KINDS.get(entry["dtype"])
    if kind is None:
        raise ValueError(
            f"the tensor {name} is of the type {entry['dtype']}, which is not read here. Save it as float32, float16 "
            "or bfloat16"
        )
    shape = tuple(entry["shape"])
    return _numbers(bytes(entry["data"]), _Storage(name, kind, math.prod(shape))).reshape(shape)


def _reader(persistent: Callable[[Any], Any] | None = None) -> PickleReader:
    calls: Mapping[str, Callable[..., Any]] = {
        "collections.OrderedDict": _ordered_dict,
        "torch._utils._rebuild_tensor_v2": _view,
        "torch._utils._rebuild_tensor": _view,
        "torch._utils._rebuild_parameter": _parameter,
    }
    return PickleReader(calls, _NAMES, persistent)


def _ordered_dict(items: Iterable[Any] = ()) -> dict:
    return plain_dict(items)


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise RefusedPickle("a tensor is described wrongly")
    if not all(type(n) is int and 0 <= n < _LARGEST for n in (offset, *shape, *strides)):
        raise RefusedPickle("a tensor is described wrongly")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise RefusedPickle(f"a tensor of shape {tuple(shape)} reaches beyond its {storage.count} stored numbers")
    # A stride of 0 lets a few bytes claim to be a tensor of any size.
    if math.prod(shape) > storage.count:
        raise RefusedPickle(f"a tensor of shape {tuple(shape)} has more elements than the {storage.count} stored ones")
    return _View(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _storage(identity: Any) -> _Storage:
    is_known = isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"
    if not is_known or not isinstance(identity[1], Name):
        raise RefusedPickle("a tensor's storage is described wrongly")
    _, kind, key, _, count, *rest = identity
    if rest and rest[0] is not None:
        raise RefusedPickle("a storage is a view of another one")
    if type(count) is not int or not 0 <= count < _LARGEST or not isinstance(key, str | int):
        raise RefusedPickle("a tensor's storage is described wrongly")
    return _Storage(str(key), _STORAGES[kind.text.removeprefix("torch.")], count)


def _read_zip(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise RefusedPickle("the archive holds no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in names or any(name.startswith(f"{root}code/") for name in names):
        raise RefusedPickle("it is a TorchScript program, not a file of weights")
    if f"{root}byteorder" in names and _member(archive, names[f"{root}byteorder"]) != b"little":
        raise RefusedPickle("its numbers are big-endian")

    def load(storage: _Storage) -> np.ndarray:
        info = names.get(f"{root}data/{storage.key}")
        if info is None:
            raise RefusedPickle(f"the storage data/{storage.key} is missing")
        return _numbers(_member(archive, info), storage)

    return _reader(_storage).read(io.BytesIO(_member(archive, names[pickles[0]]))), load


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # PyTorch stores without compression; a packed member could unpack to any size.
    if info.compress_type != zipfile.ZIP_STORED:
        raise RefusedPickle(f"the member {info.filename} is compressed, which PyTorch never does")
    return archive.read(info)


def _read_legacy(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    file = io.BytesIO(data)
    if _reader().read(file) != _LEGACY_MAGIC or _reader().read(file) != _LEGACY_PROTOCOL:
        raise RefusedPickle("it is no file of torch.save")
    system = _reader().read(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedPickle("its numbers are big-endian")
    known: dict[str, _Storage] = {}

    def remember(identity: Any) -> _Storage:
        storage = _storage(identity)
        return known.setdefault(storage.key, storage)

    content = _reader(remember).read(file)
    keys = _reader().read(file)
    if not isinstance(keys, list):
        raise RefusedPickle("the list of storages is missing")
    storages = dict(_legacy_storages(file, [str(key) for key in keys], known))

    def load(storage: _Storage) -> np.ndarray:
        if storage.key not in storages:
            raise RefusedPickle(f"the storage {storage.key} is missing")
        return storages[storage.key]

    return content, load


def _legacy_storages(
    file: BinaryIO, keys: list[str], known: Mapping[str, _Storage]
) -> Iterable[tuple[str, np.ndarray]]:
    for key in keys:
        if key not in known:
            raise RefusedPickle(f"no tensor uses the storage {key}")
        header = file.read(8)
        if len(header) < 8 or int.from_bytes(header, "little", signed=True) != known[key].count:
            raise RefusedPickle(f"the storage {key} is cut short or has another size than its tensors say")
        yield key, _numbers(file.read(known[key].count * known[key].item_size), known[key])


def _numbers(data: bytes, storage: _Storage) -> np.ndarray:
    if len(data) != storage.count * storage.item_size:
        raise RefusedPickle(
            f"the storage {storage.key} has {len(data)} bytes, {storage.count * storage.item_size} are needed"
        )
    if storage.kind == "bfloat16":
        # bfloat16 is the upper half of a float32.
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, storage.kind)


def _array(view: _View, load: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    numbers = load(view.storage)
    if not math.prod(view.shape):
        return np.zeros(view.shape, numbers.dtype)
    strides = [stride * numbers.itemsize for stride in view.strides]
    # The bounds were checked when the view was read.
    return np.lib.stride_tricks.as_strided(numbers[view.offset :], view.shape, strides).copy()


def _weights_in(content: Any, container: str, others: list[str]) -> dict[str, _View]:
    """The dictionary of tensors: the file's own, or the one it keeps under a key."""
    found = _containers(content)
    own = found.get("", {})
    usual = next((key for key in _WRAPPERS if key in found), next(iter(found), "") if len(found) == 1 else "")
    choice = container or ("" if own else usual)
    if choice not in found:
        what = f"it has no {choice!r} with tensors" if container else "it holds no dictionary of tensors that is known"
        listed = ", ".join(key for key in found if key) or "none"
        raise RefusedPickle(f"{what} (but {type(content).__name__}: {listed}; --container takes one of them)")
    others += [f"{key or 'the file itself'}: {name}" for key in found if key != choice for name in found[key]]
    if besides := _no_tensors(content, found):
        log.info("besides tensors the file holds %s", first_few(besides))
    if len(found) > 1:
        listed = ", ".join(f"{key or 'its own'} ({len(tensors)} tensors)" for key, tensors in found.items())
        log.info("the file holds %s: %s is taken, --container takes another", listed, choice or "its own")
    return found[choice]


def _containers(content: Any) -> dict[str, dict[str, _View]]:
    """Every dictionary of tensors in a file under its key, `outer.inner` of one in another, the file's own under "".

    Averages that stand among the weights under the names of mmdetection (`ema_backbone_conv1_weight` of
    `backbone.conv1.weight`) are a dictionary of their own, `ema_`, with the names of the weights.
    """
    found: dict[str, dict[str, _View]] = {}
    # One dictionary under many keys is read once: a small file may refer to it very often.
    seen: set[int] = set()

    def look(value: Any, key: str, depth: int) -> None:
        if not isinstance(value, dict) or id(value) in seen or depth > _DEEPEST:
            return
        seen.add(id(value))
        if tensors := _tensors(value):
            averaged = _averages_among(tensors)
            found[key] = {name: view for name, view in tensors.items() if name not in averaged}
            if averaged:
                found[f"{key}.{_AVERAGE}" if key else _AVERAGE] = {own: tensors[name] for name, own in averaged.items()}
        for name, inner in value.items():
            if isinstance(name, str):
                look(inner, f"{key}.{name}" if key else name, depth + 1)

    look(content, "", 0)
    return found


def _averages_among(tensors: Mapping[str, _View]) -> dict[str, str]:
    """Names of averages -> names of the weights that they average."""
    flat = {_AVERAGE + name.replace(".", "_"): name for name in tensors if not name.startswith(_AVERAGE)}
    return {name: flat[name] for name in tensors if name in flat}


def _no_tensors(content: Any, found: Mapping[str, object]) -> list[str]:
    """What else stands in the file's own dictionary, by its key."""
    if not isinstance(content, dict):
        return []
    holders = {key.partition(".")[0] for key in found}
    return [str(key) for key, value in content.items() if not isinstance(value, _View) and str(key) not in holders]


def _tensors(value: Any) -> dict[str, _View]:
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, _View)}
