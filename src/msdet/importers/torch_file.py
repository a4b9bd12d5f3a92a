"""Reads tensors from PyTorch files, without PyTorch and without unpickling, and from safetensors files.

Since version 1.6, `torch.save` writes a zip archive with a pickle (`data.pkl`) and one file per storage (`data/KEY`);
before, it wrote five pickles followed by the storages. A tensor is a view of a storage: offset, shape, strides.
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
from msdet.importers.pickle_data import GlobalName, PickleReader, RefusedPickle, plain_dict
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
_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_STORAGE_NAMES = frozenset(f"torch.{name}" for name in _STORAGES)
# Limits that no file of weights reaches; numpy supports 32 axes, and more of them crash the process.
_MAX_SIZE = 2**40
_MAX_AXES = 16
# Tensors may share a storage, but a small file must not fill the memory.
_MAX_ELEMENTS_PER_BYTE = 8
# Prefix of the names of averages in files of mmdetection.
_AVERAGE_PREFIX = "ema_"
# Levels of nested dictionaries that are searched for tensors.
_MAX_DEPTH = 4
# Keys under which training programs store the weights, in order of preference.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")


@dataclass(frozen=True)
class _Storage:
    """A storage that a pickle refers to: its key in the file, numpy type (or "bfloat16") and number of values."""

    key: str
    dtype: str
    count: int

    @property
    def item_size(self) -> int:
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _View:
    """A tensor: a view of a storage, with offset and strides in values; its bounds are checked."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path, container: str = "", others: list[str] | None = None) -> dict[str, np.ndarray]:
    """Reads the tensors of a .pth or .pt file by name; bfloat16 is converted to float32.

    From a training checkpoint that stores its weights under a key such as "state_dict" these are read.

    Args:
        path: the file.
        container: the key to read, such as "state_dict_ema"; empty: the first of the usual ones.
        others: receives the names of the tensors under other keys.

    Raises:
        UserError: the file is missing or damaged, holds anything but plain data and tensors, or no tensors.
    """
    data = read_bytes(path)
    try:
        root, load = _read_zip(data) if data[:2] == b"PK" else _read_legacy(data)
        views = _find_weights(root, container, [] if others is None else others)
        elements = sum(math.prod(view.shape) for view in views.values())
        if elements > _MAX_ELEMENTS_PER_BYTE * len(data):
            raise RefusedPickle(f"its tensors have {elements:,} elements, but the file has only {len(data):,} bytes")
        return {name: _array(view, load) for name, view in views.items()}
    except RefusedPickle as error:
        raise UserError(f"{path} is refused: {error}.\nNothing in it was executed. {_REMEDY}") from error
    # RuntimeError: a member of the archive is encrypted.
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{path} is not a valid PyTorch file: {error}") from error


_REMEDY = "Save only the weights: torch.save(model.state_dict(), FILE)."


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a .safetensors file by name; bfloat16 is converted to float32 without loss.

    Raises:
        UserError: the file is missing or damaged, or a tensor has an unsupported type (fp8, complex).
    """
    from safetensors import SafetensorError, deserialize

    data = read_bytes(path)
    try:
        return {name: _safetensors_tensor(name, entry) for name, entry in deserialize(data)}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error


def _safetensors_tensor(name: str, entry: Mapping[str, Any]) -> np.ndarray:
    dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
    if dtype is None:
        raise ValueError(
            f"the tensor {name} has the type {entry['dtype']}, which is not supported. Save it as float32, float16 "
            "or bfloat16"
        )
    shape = tuple(entry["shape"])
    return _to_array(bytes(entry["data"]), _Storage(name, dtype, math.prod(shape))).reshape(shape)


def _reader(load_persistent: Callable[[Any], Any] | None = None) -> PickleReader:
    functions: Mapping[str, Callable[..., Any]] = {
        "collections.OrderedDict": _ordered_dict,
        "torch._utils._rebuild_tensor_v2": _view,
        "torch._utils._rebuild_tensor": _view,
        "torch._utils._rebuild_parameter": _parameter,
    }
    return PickleReader(functions, _STORAGE_NAMES, load_persistent)


def _ordered_dict(items: Iterable[Any] = ()) -> dict:
    return plain_dict(items)


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise RefusedPickle("the description of a tensor is invalid")
    if not all(type(n) is int and 0 <= n < _MAX_SIZE for n in (offset, *shape, *strides)):
        raise RefusedPickle("the description of a tensor is invalid")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise RefusedPickle(f"a tensor of shape {tuple(shape)} reaches beyond its {storage.count} stored values")
    # With a stride of 0, a few bytes could describe a tensor of any size.
    if math.prod(shape) > storage.count:
        raise RefusedPickle(f"a tensor of shape {tuple(shape)} has more elements than the {storage.count} stored ones")
    return _View(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _storage(identity: Any) -> _Storage:
    is_valid = isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"
    if not is_valid or not isinstance(identity[1], GlobalName):
        raise RefusedPickle("the description of a storage is invalid")
    _, storage_type, key, _, count, *rest = identity
    if rest and rest[0] is not None:
        raise RefusedPickle("a storage is a view of another one")
    if type(count) is not int or not 0 <= count < _MAX_SIZE or not isinstance(key, str | int):
        raise RefusedPickle("the description of a storage is invalid")
    return _Storage(str(key), _STORAGES[storage_type.text.removeprefix("torch.")], count)


def _read_zip(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise RefusedPickle("the archive has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in names or any(name.startswith(f"{root}code/") for name in names):
        raise RefusedPickle("it is a TorchScript program, not a weights file")
    if f"{root}byteorder" in names and _member(archive, names[f"{root}byteorder"]) != b"little":
        raise RefusedPickle("its values are big-endian")

    def load(storage: _Storage) -> np.ndarray:
        info = names.get(f"{root}data/{storage.key}")
        if info is None:
            raise RefusedPickle(f"the storage data/{storage.key} is missing")
        return _to_array(_member(archive, info), storage)

    return _reader(_storage).read(io.BytesIO(_member(archive, names[pickles[0]]))), load


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # PyTorch does not compress; a compressed member could expand to any size.
    if info.compress_type != zipfile.ZIP_STORED:
        raise RefusedPickle(f"the member {info.filename} is compressed, which PyTorch never does")
    return archive.read(info)


def _read_legacy(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    file = io.BytesIO(data)
    if _reader().read(file) != _LEGACY_MAGIC or _reader().read(file) != _LEGACY_PROTOCOL:
        raise RefusedPickle("it was not written by torch.save")
    platform = _reader().read(file)
    if not isinstance(platform, dict) or platform.get("little_endian") is not True:
        raise RefusedPickle("its values are big-endian")
    known: dict[str, _Storage] = {}

    def remember(identity: Any) -> _Storage:
        storage = _storage(identity)
        return known.setdefault(storage.key, storage)

    root = _reader(remember).read(file)
    keys = _reader().read(file)
    if not isinstance(keys, list):
        raise RefusedPickle("the list of storages is missing")
    storages = dict(_legacy_storages(file, [str(key) for key in keys], known))

    def load(storage: _Storage) -> np.ndarray:
        if storage.key not in storages:
            raise RefusedPickle(f"the storage {storage.key} is missing")
        return storages[storage.key]

    return root, load


def _legacy_storages(
    file: BinaryIO, keys: list[str], known: Mapping[str, _Storage]
) -> Iterable[tuple[str, np.ndarray]]:
    for key in keys:
        if key not in known:
            raise RefusedPickle(f"no tensor uses the storage {key}")
        header = file.read(8)
        if len(header) < 8 or int.from_bytes(header, "little", signed=True) != known[key].count:
            raise RefusedPickle(f"the storage {key} is truncated or has another size than its tensors require")
        yield key, _to_array(file.read(known[key].count * known[key].item_size), known[key])


def _to_array(data: bytes, storage: _Storage) -> np.ndarray:
    if len(data) != storage.count * storage.item_size:
        raise RefusedPickle(
            f"the storage {storage.key} has {len(data)} bytes, but needs {storage.count * storage.item_size}"
        )
    if storage.dtype == "bfloat16":
        # bfloat16 is the upper half of a float32.
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, storage.dtype)


def _array(view: _View, load: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    values = load(view.storage)
    if not math.prod(view.shape):
        return np.zeros(view.shape, values.dtype)
    strides = [stride * values.itemsize for stride in view.strides]
    # `_view` has checked the bounds.
    return np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides).copy()


def _find_weights(root: Any, container: str, others: list[str]) -> dict[str, _View]:
    """The dictionary of tensors to read: the root object itself, or one under a key."""
    found = _containers(root)
    own = found.get("", {})
    usual = next((key for key in _WRAPPERS if key in found), next(iter(found), "") if len(found) == 1 else "")
    choice = container or ("" if own else usual)
    if choice not in found:
        what = f"it has no {choice!r} with tensors" if container else "it has no known dictionary of tensors"
        listed = ", ".join(key for key in found if key) or "none"
        raise RefusedPickle(f"{what} (it is a {type(root).__name__} with: {listed}; --container selects one of them)")
    others += [f"{key or 'the file itself'}: {name}" for key in found if key != choice for name in found[key]]
    if rest := _other_entries(root, found):
        log.info("besides tensors the file holds %s", first_few(rest))
    if len(found) > 1:
        listed = ", ".join(f"{key or 'top level'} ({len(tensors)} tensors)" for key, tensors in found.items())
        log.info("the file holds %s: reading %s, --container selects another", listed, choice or "top level")
    return found[choice]


def _containers(root: Any) -> dict[str, dict[str, _View]]:
    """Every dictionary of tensors by its key: "" for the root object, `outer.inner` for nested ones.

    Averages that mmdetection stores among the weights (`ema_backbone_conv1_weight` for `backbone.conv1.weight`) are
    returned as a dictionary of their own, `ema_`, with the names of the weights.
    """
    found: dict[str, dict[str, _View]] = {}
    # A dictionary is visited once: a small file may refer to it very often.
    seen: set[int] = set()

    def visit(value: Any, key: str, depth: int) -> None:
        if not isinstance(value, dict) or id(value) in seen or depth > _MAX_DEPTH:
            return
        seen.add(id(value))
        if tensors := _tensors(value):
            averaged = _find_averages(tensors)
            found[key] = {name: view for name, view in tensors.items() if name not in averaged}
            if averaged:
                averages = {own: tensors[name] for name, own in averaged.items()}
                found[f"{key}.{_AVERAGE_PREFIX}" if key else _AVERAGE_PREFIX] = averages
        for name, inner in value.items():
            if isinstance(name, str):
                visit(inner, f"{key}.{name}" if key else name, depth + 1)

    visit(root, "", 0)
    return found


def _find_averages(tensors: Mapping[str, _View]) -> dict[str, str]:
    """Names of averages -> names of the averaged weights."""
    flat = {_AVERAGE_PREFIX + name.replace(".", "_"): name for name in tensors if not name.startswith(_AVERAGE_PREFIX)}
    return {name: flat[name] for name in tensors if name in flat}


def _other_entries(root: Any, found: Mapping[str, object]) -> list[str]:
    """Keys of the root dictionary that neither are tensors nor hold any."""
    if not isinstance(root, dict):
        return []
    with_tensors = {key.partition(".")[0] for key in found}
    return [str(key) for key, value in root.items() if not isinstance(value, _View) and str(key) not in with_tensors]


def _tensors(value: Any) -> dict[str, _View]:
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, _View)}
