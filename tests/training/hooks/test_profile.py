"""The profiler runs for the given number of steps after the first one."""

from types import SimpleNamespace

import mindspore.profiler as profiling
import pytest

from msdet.training.hooks.profile import Profile


@pytest.fixture
def calls(monkeypatch):
    """The calls of the profiler."""
    made = []
    profiler = SimpleNamespace(start=lambda: made.append("start"), stop=lambda: made.append("stop"))
    monkeypatch.setattr(profiling, "profile", lambda on_trace_ready: profiler)
    monkeypatch.setattr(profiling, "tensorboard_trace_handler", lambda folder: folder)
    return made


def test_the_step_that_compiles_is_not_profiled(calls, tmp_path):
    hook, seen = Profile(tmp_path, steps=2), []
    for _ in range(5):
        hook.after_step(SimpleNamespace())
        seen.append(list(calls))
    assert seen == [["start"], ["start"], ["start", "stop"], ["start", "stop"], ["start", "stop"]]
    hook.after_train(SimpleNamespace())
    assert calls == ["start", "stop"]


def test_a_shorter_training_ends_the_profile(calls, tmp_path):
    hook = Profile(tmp_path, steps=5)
    hook.after_step(SimpleNamespace())
    hook.after_train(SimpleNamespace())
    assert calls == ["start", "stop"]
