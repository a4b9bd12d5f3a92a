"""The reader of pickles: plain data is read, hostile programs are refused, nothing is executed."""

import collections
import io
import os
import pickle
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdet.importers.pickle_data import PickleReader, RefusedPickle
from msdet.importers.torch_file import _ordered_dict, _reader, _storage

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner, inner, inner),
    max_leaves=10,
)


def read(program):
    """Reads a pickle with everything that files of PyTorch may refer to."""
    return _reader(_storage).read(io.BytesIO(program))


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


@given(PLAIN, st.integers(0, 5))
def test_plain_data_of_every_protocol(value, protocol):
    assert PickleReader({}).read(io.BytesIO(pickle.dumps(value, protocol))) == value


@pytest.mark.parametrize("protocol", range(6))
def test_attributes_of_an_ordered_dictionary_are_ignored(protocol):
    """The `_metadata` of a state_dict."""
    ordered = collections.OrderedDict(a=1, b=2)
    ordered._metadata = collections.OrderedDict(version=1)
    found = read(pickle.dumps(ordered, protocol))
    assert type(found) is dict and list(found.items()) == [("a", 1), ("b", 2)]


def test_the_file_is_read_to_the_end_of_the_pickle():
    file = io.BytesIO(pickle.dumps([1, 2]) + b"rest")
    assert PickleReader({}).read(file) == [1, 2]
    assert file.read() == b"rest"


def test_unknown_functions_are_refused():
    ordered = pickle.dumps(collections.OrderedDict(x=1))
    with pytest.raises(RefusedPickle, match=r"collections\.OrderedDict"):
        PickleReader({}).read(io.BytesIO(ordered))


# Programs that run a command when they are unpickled.
TOUCH = "touch victim"
COMMANDS = {
    "GLOBAL": b"cos\nsystem\n(S'" + TOUCH.encode() + b"'\ntR.",
    "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + text(TOUCH) + b"\x85R.",
    "INST": b"(S'" + TOUCH.encode() + b"'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'" + TOUCH.encode() + b"'\no.",
    "dotted name": b"\x80\x04" + text("pathlib") + text("os.system") + b"\x93" + text(TOUCH) + b"\x85R.",
    "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'" + TOUCH.encode() + b"'\ntR.",
    "state": b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0hooksh\0"
    b"cos\nsystem\n(S'" + TOUCH.encode() + b"'\ntRsb.",
}
# Names that reach other classes and functions, or that hide behind allowed ones.
NAMES = {
    "copyreg": b"ccopyreg\n_reconstructor\n(ccollections\nOrderedDict\ncbuiltins\nobject\nNtR.",
    "builtins": b"c__builtin__\neval\n(S'1'\ntR.",
    "dotted allowed name": b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys.__class__") + b"\x93.",
    "module of an allowed name": b"\x80\x04" + text("collections") + text("abc.sys.modules") + b"\x93.",
    "name in the wrong module": b"cos\nOrderedDict\n.",
    "own module": b"cmsdet.importers.torch_file\n_view\n.",
    "empty names": b"c\n\n.",
}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "state"])
def test_commands_are_not_executed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedPickle):
        read(COMMANDS[name])
    assert not list(tmp_path.iterdir())
    # The program is a real attack: it does execute the command when it is unpickled.
    pickle.loads(COMMANDS[name])
    assert (tmp_path / "victim").exists()


@pytest.mark.parametrize("program", [*COMMANDS.values(), *NAMES.values()], ids=[*COMMANDS, *NAMES])
def test_names_are_neither_imported_nor_called(program, monkeypatch):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    monkeypatch.setattr("builtins.eval", called.append)
    loaded = set(sys.modules)
    with pytest.raises(RefusedPickle):
        read(program)
    assert not called and set(sys.modules) == loaded


ORDERED = b"ccollections\nOrderedDict\n"
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0K\x04\x85K\x01\x85\x89}tR"
# An instance state of `__class__`, as a dictionary and as one for slots.
STATE = b"}X\x09\0\0\0__class__K\x01s"
SLOTS = b"N" + STATE + b"\x86"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (ORDERED + STATE + b"b.", "sets the state of a GlobalName"),
        (ORDERED + SLOTS + b"b.", "sets the state of a GlobalName"),
        (ORDERED + b")R" + SLOTS + b"b.", "sets the state of a dict"),
        (ORDERED + b")RK\x01b.", "sets the state of a dict"),
        (b"]" + STATE + b"b.", "sets the state of a list"),
        (STORAGE + STATE + b"b.", "sets the state of a _Storage"),
        (STORAGE + SLOTS + b"b.", "sets the state of a _Storage"),
        (TENSOR + STATE + b"b.", "sets the state of a _View"),
        (TENSOR + SLOTS + b"b.", "sets the state of a _View"),
    ],
)
def test_no_state_is_set(program, message):
    with pytest.raises(RefusedPickle, match=message):
        read(program)


@pytest.mark.parametrize("state", [STATE, b"}X\x0c\0\0\0__setstate__Ns", b"}X\x08\0\0\0__dict__}s"])
def test_the_state_of_an_ordered_dictionary_does_not_change_it(state):
    found = read(ORDERED + b")R" + state + b"b.")
    assert type(found) is dict and found == {}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"ctorch\nFloatStorage\n)R.", r"calls torch\.FloatStorage"),
        (b"X\x01\0\0\0a)R.", "calls str"),
        (ORDERED + b"]R.", r"calls collections\.OrderedDict"),
        (ORDERED + b")\x81.", "opcode NEWOBJ"),
        (ORDERED + b")}\x92.", "opcode NEWOBJ_EX"),
        (b"(" + ORDERED + b"o.", "opcode OBJ"),
        (b"(icollections\nOrderedDict\n.", "opcode INST"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"\x83\x01\x01.", "opcode EXT2"),
        (b"\x84\x01\0\0\x01.", "opcode EXT4"),
        (b"\x8f.", "opcode EMPTY_SET"),
        (b"(\x91.", "opcode FROZENSET"),
        (b"\x96" + bytes(8) + b".", "opcode BYTEARRAY8"),
        (b"\x97.", "opcode NEXT_BUFFER"),
        (b"]2.", "opcode DUP"),
        (b"P0\n.", "opcode PERSID"),
        (b"NQ.", "description of a storage is invalid"),
        (TENSOR.replace(b"K\x04\x85", b"K\x05\x85") + b".", "beyond"),
    ],
)
def test_other_calls_and_opcodes_are_refused(program, message):
    with pytest.raises(RefusedPickle, match=message):
        read(program)


BILLION, BILLION_8 = (10**9).to_bytes(4, "little"), (10**9).to_bytes(8, "little")


@pytest.mark.parametrize(
    "program",
    [
        b"X" + BILLION + b"a.",
        b"\x8d" + BILLION_8 + b"a.",
        b"\x8d" + b"\xff" * 8 + b"a.",
        b"B" + BILLION + b"a.",
        b"\x8e" + BILLION_8 + b"a.",
        b"T" + BILLION + b"a.",
        b"\x8b" + BILLION + b"a.",
        b"\x8b" + b"\xff" * 4 + b"a.",
        b"L" + b"9" * 10**5 + b"L\n.",
        b"I" + b"9" * 10**5 + b"\n.",
        b"j" + BILLION + b".",
        b"g1000000000\n.",
        b"\x80\x04\x95" + BILLION_8 + b"]r" + BILLION + b"j" + b"\xff" * 4 + b".",
    ],
)
def test_huge_counts_take_no_memory(program):
    tracemalloc.start()
    try:
        with pytest.raises(RefusedPickle, match="damaged|truncated"):
            read(program)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("put", [b"r" + BILLION, b"r\xff\xff\xff\xff", b"p4000000000\n"])
def test_huge_indices_of_the_memo_take_no_memory(put):
    """The memo of `pickle.Unpickler` is an array up to the highest index."""
    tracemalloc.start()
    try:
        assert read(b"]" + put + b".") == []
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def nested(depth):
    """Opcodes for ((((...),),),), which Python cannot hash beyond some depth."""
    return b")" + b"\x85" * depth


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"}" + nested(10**6) + b"K\x01s.", "a tuple as a key"),
        (b"}(" + nested(10**6) + b"K\x01u.", "a tuple as a key"),
        (b"(" + nested(10**6) + b"K\x01d.", "a tuple as a key"),
        (b"ccollections\nOrderedDict\n](" + nested(10**6) + b"K\x01\x86e\x85R.", "a tuple as a key"),
        (nested(10**6) + b"X\x01\0\0\0a\x93.", "not text"),
    ],
    ids=["item", "items", "dictionary", "ordered dictionary", "name"],
)
def test_nested_keys_do_not_crash_the_process(program, message):
    with pytest.raises(RefusedPickle, match=message):
        PickleReader({"collections.OrderedDict": _ordered_dict}).read(io.BytesIO(b"\x80\x04" + program))


class CountedStack(list):
    """A stack that counts the items that are iterated over."""

    visited = 0

    def __iter__(self):
        for item in super().__iter__():
            CountedStack.visited += 1
            yield item


def test_many_open_marks_are_visited_once():
    reader, count = PickleReader({}), 3000
    reader.stack = CountedStack()
    for name in ["MARK"] * count + ["TUPLE"] * count:
        reader._interpret(name, None)
    assert CountedStack.visited < 10 * count
    assert len(reader.stack) == 1


def test_a_mark_is_popped_as_pickle_does():
    assert PickleReader({}).read(io.BytesIO(b"K\x01(0.")) == 1


def test_calls_that_pass_one_long_list_again_and_again_are_refused():
    reader = PickleReader({"collections.OrderedDict": _ordered_dict})
    pairs = b"](" + b"]".join([b""] + [b"(K\x01K\x02e"] * 1000) + b"e"
    call = b"ccollections\nOrderedDict\nh\x00\x85R0"
    with pytest.raises(RefusedPickle, match="again and again"):
        reader.read(io.BytesIO(pairs + b"q\x00" + call * 1000 + b"."))
