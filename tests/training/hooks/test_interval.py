"""A function called every few epochs."""

from types import SimpleNamespace

from msdet.training.hooks.interval import EveryEpochs


def test_the_function_is_called_after_each_multiple_of_the_interval():
    trainer, epochs = SimpleNamespace(epoch=0), []
    hook = EveryEpochs(lambda: epochs.append(trainer.epoch), 3)
    for trainer.epoch in range(1, 10):
        hook.after_epoch(trainer)
    assert epochs == [3, 6, 9]
