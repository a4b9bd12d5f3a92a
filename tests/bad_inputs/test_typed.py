"""Invalid configuration files and command lines: exit code 2, and a message with the place."""

import pytest

from tests.bad_inputs.workspace import Case, run_case


def config(name, text, *fragments, code=2):
    """A configuration file, `c.yaml`, with this content."""
    flags = ("--config={root}/c.yaml",)
    return Case(name, "train", flags, code, fragments, lambda w: w.write("c.yaml", text), bare=True)


def typed(name, command, *flags, code=2, fragments, modify=None, bare=False):
    return Case(name, command, flags, code, fragments, modify, bare)


M = "model: yolov3\n"
CONFIGS = [
    config("an empty file", "", "c.yaml: the file is empty"),
    config("only a comment", "# nothing\n", "c.yaml: the file is empty"),
    config("no text", b"\xff\xfe\x00bad", "c.yaml: not a UTF-8 text file"),
    config("no YAML", M + "lr: [1, 2\n", "c.yaml:3: not valid YAML"),
    config("a tab as indentation", M + "lr:\n\t- 1\n", "c.yaml:3: not valid YAML"),
    config("a list", "- model\n- yolov3\n", "c.yaml:1: expected lines of `key: value`"),
    config("a control character", M + "lr: \x07\n", "c.yaml: not valid YAML"),
    config("an unknown key", M + "lerning_rate: 1\n", "c.yaml:2: unknown key 'lerning_rate'", "did you mean"),
    config("a key of elsewhere", M + "epochs: 3\n", "c.yaml:2: unknown key 'epochs'", "'max_epoch'"),
    config("a key twice", M + "lr: 1\nlr: 2\n", "c.yaml:3: lr was already set", "c.yaml:2"),
    config("a key that is a list", M + "? [a, b]\n: 1\n", "c.yaml:2: a key must be a scalar"),
    config("a word for a number", M + "lr: fast\n", "c.yaml:2: lr is 'fast'; it takes a number"),
    config("a fraction for a whole number", M + "max_epoch: 1.5\n", "c.yaml:2: max_epoch is '1.5'", "whole number"),
    config("no number", M + "lr: .nan\n", "c.yaml:2: lr is '.nan'"),
    config("infinity", M + "lr: inf\n", "c.yaml:2: lr is 'inf'"),
    config("too large", M + "momentum: 2\n", "c.yaml:2: momentum is '2'; it takes a number from 0 to 1"),
    config("negative", M + "lr: -1\n", "c.yaml:2: lr is '-1'", "above 0"),
    config("no truth value", M + "augment: maybe\n", "c.yaml:2: augment is 'maybe'; it takes 0/1 or True/False"),
    config("not among the choices", M + "resize: squash\n", "c.yaml:2: resize", "takes one of 'stretch'"),
    config("nested keys", M + "lr:\n  value: 1\n", "c.yaml:2: lr: takes a value or a list, not nested keys"),
    config("an alias", M + "lr: &a 1\neta_min: *a\n", "c.yaml:3: YAML aliases (*name) are not supported"),
    config("a million laughs", M + "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "YAML aliases"),
    config("a Python object", M + "lr: !!python/object/apply:os.system [touch here]\n", "c.yaml:2: lr: the YAML tag",
           "is not allowed"),
    config("nested too deeply", M + "lr: " + "[" * 600 + "]" * 600, "c.yaml", "nested too deeply"),
    config("no model", "lr: 1\n", "c.yaml: `model:` is missing"),
    config("an unknown model", "model: yolov9\n", "c.yaml:1: unknown model 'yolov9'", "did you mean 'yolov"),
    config("a base that is not there", "base: none.yaml\n", "c.yaml:1: base:", "none.yaml: no such config file"),
    config("a base that is its own", "base: c.yaml\n", "c.yaml:1: base:", "is its own base"),
    config("two bases", "base: [a.yaml, b.yaml]\n", "c.yaml:1: base takes the path of one YAML file"),
    config("a size of no stride", M + "training_shape: 100\n", "c.yaml:2: training_shape contains 100 px", "of 32"),
    config("a size that is none", M + "training_shape: big\n", "c.yaml:2: training_shape is 'big'"),
    config("no size at all", M + "multi_scale: []\n", "c.yaml:2: multi_scale is empty"),
    config("epochs that fall", M + "lr_epochs: [50, 20]\n", "c.yaml:2: lr_epochs must be strictly increasing"),
    config("a rate that rises", M + "lr: 0.1\neta_min: 0.5\n", "c.yaml:3: eta_min is 0.5, above lr 0.1"),
    config("a class twice", M + "class_names: [cat, dog, cat]\n", "c.yaml:2: class_names contains 'cat' twice"),
    config("fewer names than classes", M + "class_names: [cat]\nnum_classes: 3\n", "c.yaml:3: num_classes is 3",
           "has 1 classes"),
    config("an odd anchor", M + "anchors: [10, 13, 16]\n", "c.yaml:2: anchors"),
    config("preprocessing of the wrong length", M + "mean: [0.5, 0.5]\n", "c.yaml:2: mean", "list of 3 numbers"),
    config("a mean beyond 1", M + "mean: [123, 117, 104]\n", "c.yaml:2: mean", "from 0 to 1"),
    config("zoom the wrong way round", M + "jitter_scale: [2, 0.5]\n", "c.yaml:2: jitter_scale must be (minimum"),
]  # fmt: skip

SCRIPTS = ("train", "eval", "test", "export", "predict", "postprocess")
LINES = [
    *[typed(f"{script} without --config", script, bare=True, fragments=("--config is missing", f"{script}.py"))
      for script in SCRIPTS],
    *[typed(f"{script} with an unknown flag", script, "--num_clases=3", fragments=("flag --num_clases", "did you mean"))
      for script in SCRIPTS],
    typed("a config that is not there", "train", "--config={root}/none.yaml", fragments=("no such config file",)),
    typed("a folder as config", "train", "--config={root}/data", fragments=("is a folder, not a config file",)),
    typed("a word without flag", "train", "extra", fragments=("unexpected argument 'extra'",)),
    typed("a flag without value", "train", "--lr", fragments=("--lr", "expected one argument")),
    typed("a word for a number", "train", "--lr", "fast", fragments=("--lr is 'fast'; it takes a number",)),
    typed("two names of one key", "train", "--resume_yolov3=a.ckpt", "--pretrained=b.ckpt",
          fragments=("--resume_yolov3 and --pretrained both set pretrained",)),
    typed("an unknown model", "train", "--model=yolo", bare=True, fragments=("--model: unknown model 'yolo'",)),
    typed("no data", "train", "--data_dir=", fragments=("data_dir is empty",)),
    typed("data that is not there", "train", "--data_dir={root}/none", code=1, fragments=("none",)),
    typed("a file as data", "train", "--data_dir={root}/w.ckpt", code=1, fragments=("w.ckpt",)),
    typed("weights twice", "train", "--pretrained={root}/w.ckpt", "--pretrained_backbone={root}/w.ckpt",
          fragments=("either pretrained or pretrained_backbone",)),
    typed("a name that is taken", "train", "--run_name=old", fragments=("already contains a run", "--resume=auto")),
    typed("a device that is not there", "train", "--device_target=GPU", code=1,
          fragments=("device_target GPU is not usable here", "msdet doctor")),
    typed("ranks without launcher", "train", "--is_distributed=1", code=1, fragments=("msrun",)),
    typed("nothing to evaluate", "eval", "--pretrained=", fragments=("pretrained is empty",)),
    typed("nothing to export", "export", "--ckpt_file=", fragments=("ckpt_file is empty",)),
    typed("AIR on a CPU", "export", "--file_format=AIR", fragments=("which only MindSpore on Ascend writes",)),
    typed("any batch in ONNX", "export", "--file_format=ONNX", "--export_batch_size=0", fragments=("a fixed batch",)),
    typed("an unknown format", "export", "--file_format=TFLITE", fragments=("--file_format", "takes one of")),
    typed("nothing to predict on", "predict", "--source=", fragments=("source is empty",)),
    typed("a source that is not there", "predict", "--source={root}/none.jpg", fragments=("none.jpg",)),
    typed("a pattern without match", "predict", "--source={root}/*.bmp", fragments=("matches no image",)),
    typed("a folder without images", "predict", "--source={root}/out", fragments=("contains no image",)),
    typed("weights of an unknown kind", "predict", "--pretrained={root}/w.h5", fragments=("w.h5", ".ckpt")),
    typed("a runner that runs no such file", "predict", "--runner=onnxruntime", fragments=("does not run .ckpt",)),
    typed("nothing to score", "postprocess", "--pretrained=", fragments=("--pretrained FILE", "--result_path")),
    typed("results that are not there", "postprocess", "--pretrained=", "--result_path={root}/out", code=1,
          fragments=("has no files NAME_0.bin",)),
    typed("no command line for weights", "weights", bare=True, fragments=("--config",)),
    typed("an output of another kind", "weights", "--output={root}/out/x.pth", fragments=("ends in .ckpt",)),
    typed("an unknown part", "weights", "--partial=neck", fragments=("only 'backbone' can be imported alone",)),
    typed("an unknown split", "check", "--splits=dev", fragments=("--splits is 'dev'",)),
    typed("an unknown split to convert", "create_data", "--splits=dev", fragments=("--splits is 'dev'",)),
    typed("an unknown target", "create_data", "--to=tfrecord", fragments=("--to",)),
    typed("an unknown script", "launch", "run_everything", fragments=("NAME is one of",)),
    typed("a script without arguments", "launch", "run_distribute_train", fragments=("run_distribute_train",)),
    typed("devices that fall", "hccl_tools", "--device_num=[4,2)", fragments=("must be increasing",)),
    typed("devices that are none", "hccl_tools", "--device_num=eight", fragments=("takes an interval",)),
    typed("no folder to replay", "replay", bare=True, fragments=("folder",)),
]  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS, ids=lambda case: case.name)
def test_configuration(case, good, tmp_path, capsys):
    run_case(case, good, tmp_path, capsys)


@pytest.mark.parametrize("case", LINES, ids=lambda case: case.name)
def test_command_line(case, good, tmp_path, capsys):
    run_case(case, good, tmp_path, capsys)
