"""The commands with a tiny classifier and a tiny image folder, from training to use as the backbone of a detector."""

import csv
import json
import logging
import shutil
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest

import eval as evaluation
import export as exporting
import postprocess
import predict as prediction
import train as training
from msdet.checkpoints.card import apply_backbone_card
from msdet.checkpoints.weights_file import load_tensors, save_weights, tensors_of
from msdet.config import load_config
from msdet.data.formats.imagefolder import read_image_folder
from msdet.errors import UsageError, UserError, run_command
from msdet.export.sidecar import read_sidecar
from msdet.inference.result_files import result_names
from msdet.models.recipe import get_recipe
from msdet.training.initial_weights import load_initial_weights

ROOT = Path(__file__).resolve().parents[3]
CLASSES = ["ant", "bee", "cow"]
NARROW = ["--backbone_shape", "4,4,8,8,8,16", "--backbone_layers", "1,1,1,1,1"]
CONFIG = ["--config", "configs/darknet53_imagenet.yaml", "--num_parallel_workers", "0", "--progress", "off"]


def make_folder(root, classes=CLASSES, images=3):
    """Images with one hue per class and the same file names in each class."""
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(images):
            pixels = np.full((70, 80 + 9 * i, 3), (40, 80 * k, 200 - 20 * i), np.uint8)
            cv2.imwrite(str(root / name / f"img {i}.png"), pixels)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_folder(folder / "train")
    make_folder(folder / "val")
    return folder


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(ROOT)
    ms.set_context(mode=ms.GRAPH_MODE)


def run(main, *args):
    return run_command(main, [*CONFIG, *map(str, args)])


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Two epochs of two steps with augmentation, scored after each."""
    out = tmp_path_factory.mktemp("out")
    flags = ("--data_dir", dataset, "--num_classes", 0, *NARROW, "--training_shape", 64, "--testing_shape", 64,
             "--batch_size", 4, "--eval_batch_size", 4, "--epoch_num", 2, "--warmup_epochs", 0, "--lr", 0.01,
             "--ckpt_interval", 1, "--ckpt_path", out, "--run_name", "run")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        ms.set_context(mode=ms.GRAPH_MODE)
        assert run(training.main, *flags) == 0
    return out / "run"


@pytest.fixture(scope="module")
def weights(trained):
    return trained / "ckpt_0" / "darknet53-2_4.ckpt"


def test_training_follows_the_accuracy_and_saves_the_names(trained):
    header, *rows = (trained / "summary" / "eval.csv").read_text().splitlines()
    assert header == "step,epoch,top_1_accuracy,top_5_accuracy" and len(rows) == 2
    (events,) = (trained / "summary").glob("*tfevents*")
    content = events.read_bytes()
    for tag in (b"eval/top_1_accuracy", b"eval/top_5_accuracy", b"train/loss", b"train/lr"):
        assert tag in content
    assert cv2.imread(str(trained / "summary" / "curves.png")) is not None
    card = json.loads((trained / "ckpt_0" / "darknet53-best.json").read_text())
    assert card["class_names"] == CLASSES and card["model"] == "darknet53"
    assert card["preprocess"]["resize"] == "shortest_side" and card["network"]["activation"] == "leaky"


def result_line(text):
    return next(line for line in text.splitlines() if line.startswith("result: "))


@pytest.fixture(scope="module")
def scored(dataset, weights, tmp_path_factory):
    """The output folder of eval.py for nine images in batches of four."""
    out = tmp_path_factory.mktemp("eval")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        ms.set_context(mode=ms.GRAPH_MODE)
        flags = ("--data_dir", dataset, "--pretrained", weights, "--testing_shape", 64, "--log_path", out)
        assert run(evaluation.main, *flags, "--batch_size", 4) == 0
    (folder,) = out.iterdir()
    return folder


def test_evaluation_counts_every_image(scored):
    result = result_line((scored / "log.txt").read_text())
    scores = json.loads(result.removeprefix("result: ").replace("'", '"'))
    assert list(scores) == ["top_5_accuracy", "top_1_accuracy"] and scores["top_5_accuracy"] == 1.0
    with (scored / "confusion.csv").open() as file:
        header, *rows = csv.reader(file)
    counts = np.array([[int(value) for value in row[1:]] for row in rows])
    assert header == ["true class", *CLASSES] and [row[0] for row in rows] == CLASSES
    assert counts.sum(1).tolist() == [3, 3, 3] and np.trace(counts) / 9 == pytest.approx(scores["top_1_accuracy"])
    with (scored / "per_class.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == CLASSES and {row["images"] for row in table} == {"3"}
    assert [float(row["top_1_accuracy"]) for row in table] == pytest.approx((np.diag(counts) / 3).tolist())
    chart = cv2.imread(str(scored / "confusion.png"))
    assert chart is not None and chart.std() > 10


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """The checkpoint as MINDIR and ONNX, with different batch sizes."""
    name = tmp_path_factory.mktemp("files") / "net"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        ms.set_context(mode=ms.GRAPH_MODE)
        for file_format, batch in (("MINDIR", 4), ("ONNX", 1)):
            flags = ("--ckpt_file", weights, "--width", 64, "--height", 64, "--file_name", name,
                     "--emulate_float16", file_format == "ONNX")  # fmt: skip
            assert run(exporting.main, *flags, "--file_format", file_format, "--batch_size", batch) == 0
    return {"mindspore": name.with_suffix(".mindir"), "onnxruntime": name.with_suffix(".onnx")}


@pytest.mark.parametrize("runner", ["mindspore", "onnxruntime"])
def test_scores_of_an_exported_file_equal_those_of_the_checkpoint(runner, files, dataset, scored, tmp_path):
    flags = ("--data_dir", dataset, "--pretrained", files[runner], "--log_path", tmp_path, "--runner", runner)
    assert run(postprocess.main, *flags) == 0
    (folder,) = tmp_path.iterdir()
    for name in ("confusion.csv", "per_class.csv"):
        assert (folder / name).read_text() == (scored / name).read_text()
    assert result_line((folder / "log.txt").read_text()) == result_line((scored / "log.txt").read_text())
    assert "atc" in (folder / "atc.sh").read_text()


def test_scores_of_result_files_equal_those_of_the_checkpoint(files, dataset, scored, tmp_path):
    """Inputs and logits are exchanged as files with another program, here onnxruntime."""
    import onnxruntime

    inputs, results = tmp_path / "inputs", tmp_path / "results"
    results.mkdir()
    file = files["onnxruntime"]
    flags = ("--data_dir", dataset, "--pretrained", file, "--log_path", tmp_path / "log")
    assert run(postprocess.main, *flags, "--input_bins", inputs) == 0
    assert sorted(path.name for path in inputs.iterdir()) == [f"{c}_img {i}.bin" for c in CLASSES for i in range(3)]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    _, form = read_sidecar(file)
    assert form.detect
    for path in inputs.iterdir():
        image = np.fromfile(path, np.float32).reshape(1, 3, 64, 64)
        (probabilities,) = session.run(None, {session.get_inputs()[0].name: image})
        np.log(probabilities).astype(np.float32).tofile(results / f"{path.stem}_0.bin")
    # The images are not read: the classes follow from the folders.
    empty = tmp_path / "empty"
    shutil.copytree(dataset, empty)
    for path in empty.rglob("*.png"):
        path.write_bytes(b"")
    assert run(postprocess.main, *flags, "--result_path", results, "--data_dir", empty) == 0
    (folder,) = (path for path in (tmp_path / "log").iterdir() if (path / "confusion.csv").exists())
    assert (folder / "confusion.csv").read_text() == (scored / "confusion.csv").read_text()


def test_invalid_result_files(dataset, tmp_path, capsys):
    flags = ("--data_dir", dataset, "--num_classes", 0, "--log_path", tmp_path / "log", "--result_path", tmp_path / "r")
    assert run(postprocess.main, *flags) == 1 and "no files NAME_0.bin" in capsys.readouterr().err
    (tmp_path / "r").mkdir()
    np.zeros(3, np.float32).tofile(tmp_path / "r" / "bee_img 0_0.bin")
    assert run(postprocess.main, *flags) == 1
    assert "has no ant_img 0_0.bin, the result of ant/img 0.png" in capsys.readouterr().err
    np.zeros(5, np.float32).tofile(tmp_path / "r" / "ant_img 0_0.bin")
    assert run(postprocess.main, *flags) == 1
    assert "has 20 bytes; 3 classes in float32 take 12, in float16 6" in capsys.readouterr().err


def test_names_of_result_files(tmp_path):
    make_folder(tmp_path / "val", ["a", "b"], 1)
    (tmp_path / "val" / "a" / "only.png").write_bytes(b"x")
    folder = read_image_folder(tmp_path / "val")
    assert result_names(folder.files, folder.root) == ["a_img 0", "only", "b_img 0"]
    (tmp_path / "val" / "b" / "a_img 0.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a/img 0\.png and b/a_img 0\.jpg would share a_img 0\.bin"):
        result_names(read_image_folder(tmp_path / "val").files, folder.root)


@pytest.mark.parametrize("suffix", [".mindir", ".ckpt"])
def test_prediction(suffix, weights, files, dataset, tmp_path):
    source = weights if suffix == ".ckpt" else files["mindspore"]
    flags = ("--pretrained", source, "--source", dataset / "val" / "bee", "--output", tmp_path, "--testing_shape", 64)
    assert run(prediction.main, *flags) == 0
    records = json.loads((tmp_path / "predictions.json").read_text())
    assert len(records) == 3 == len(list(tmp_path.glob("*.jpg")))
    for record in records:
        assert sorted(item["class"] for item in record["classes"]) == CLASSES, "at most five"
        found = [item["probability"] for item in record["classes"]]
        assert found == sorted(found, reverse=True) and sum(found) == pytest.approx(1, abs=1e-4)


def test_epochs_continue_from_pretrained_epoch_num(dataset, weights, tmp_path):
    flags = ("--data_dir", dataset, "--num_classes", 0, *NARROW, "--training_shape", 64, "--per_batch_size", 4,
             "--pre_trained", weights, "--pretrained_epoch_num", 2, "--epoch_num", 3, "--run_eval", 0,
             "--save_checkpoint_path", tmp_path, "--run_name", "r", "--augment", 0, "--mode", "pynative")  # fmt: skip
    assert run(training.main, *flags) == 0
    assert [path.name for path in (tmp_path / "r" / "ckpt_0").glob("*.json") if "state" not in path.name] == [
        "darknet53-3_6.json"
    ]
    rows = (tmp_path / "r" / "summary" / "train.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["5", "6"]


# Invalid data.
def no_class(data):
    for name in CLASSES:
        shutil.rmtree(data / "train" / name)


def empty_class(data):
    (data / "train" / "emu").mkdir()
    (data / "val" / "emu").mkdir()


def differing_classes(data):
    shutil.rmtree(data / "val" / "cow")
    make_folder(data / "val", ["emu"])


def damaged_image(data):
    path = data / "train" / "bee" / "img 1.png"
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (no_class, ["train contains no class", "one folder per class"]),
        (empty_class, ["class 'emu' has no images", "train/emu"]),
        (differing_classes, ["val", "1 only in", "emu", "cow"]),
        (damaged_image, ["bee/img 1.png", "truncated"]),
    ],
)
def test_invalid_training_data(damage, fragments, tmp_path, capsys):
    for split in ("train", "val"):
        make_folder(tmp_path / split)
    damage(tmp_path)
    flags = ("--data_dir", tmp_path, "--num_classes", 0, *NARROW, "--training_shape", 64, "--per_batch_size", 9,
             "--run_eval", 0, "--ckpt_path", tmp_path / "out", "--mode", "pynative")  # fmt: skip
    assert run(training.main, *flags) == 1
    message = capsys.readouterr().err
    assert all(fragment in message for fragment in fragments) and "Traceback" not in message
    assert not list(tmp_path.glob("out/**/*.ckpt"))


def test_another_number_of_classes_than_the_folder(dataset, weights, tmp_path, capsys):
    """The configuration has 1,000 classes; evaluation uses those of the card and rejects folders of other classes."""
    assert run(training.main, "--data_dir", dataset, "--ckpt_path", tmp_path) == 1
    assert "num_classes" in (message := capsys.readouterr().err) and "1000" in message and "3 classes" in message
    make_folder(tmp_path / "val", ["ant", "bee", "dog"])
    assert run(evaluation.main, "--data_dir", tmp_path, "--pretrained", weights, "--log_path", tmp_path) == 1
    assert "1 only in" in (message := capsys.readouterr().err) and "dog" in message and "cow" in message


def backbone_start(config, weights, *flags):
    """Configuration and network of a detector at the start of a training."""
    cfg = load_config(config, ["--num_classes=2", f"--pretrained_backbone={weights}", *flags])
    cfg = apply_backbone_card(cfg, weights)
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    load_initial_weights(network, recipe, {}, {})
    return cfg, network


def make_classifier(model, path, **keys):
    """A checkpoint with its card, as saved by a training."""
    cfg = load_config(f"configs/{model}_imagenet.yaml", [*NARROW, "--num_classes=3"]).replace(**keys)
    recipe = get_recipe(cfg)
    network = recipe.build_network()
    save_weights(path, tensors_of(network), recipe.card([]))
    return path


@pytest.mark.parametrize(("model", "detector"), [("darknet53", "yolov3"), ("cspdarknet53", "yolov4")])
def test_a_detector_loads_the_tensors_of_its_backbone(model, detector, tmp_path, caplog):
    path = make_classifier(model, tmp_path / "c.ckpt", bn_eps=1e-3)
    with caplog.at_level(logging.INFO):
        cfg, network = backbone_start(f"configs/{detector}.yaml", path)
    saved, own = load_tensors(path), tensors_of(network)
    inside = [name for name in own if name.startswith("backbone.")]
    assert inside and set(saved) - set(inside) == {"fc.weight", "fc.bias"}
    for name in inside:
        np.testing.assert_array_equal(own[name], saved[name], err_msg=name)
    assert "2 tensors of other layers are skipped: fc.weight, fc.bias" in caplog.text
    # Keys that are not set follow the card, and this is logged.
    assert cfg.bn_eps == 1e-3 and cfg.backbone_shape == (4, 4, 8, 8, 8, 16)
    assert "bn_eps" in caplog.text and "0.001" in caplog.text


def test_training_a_detector_from_the_trained_classifier(weights, dataset, tmp_path):
    """By train.py with a vanishing learning rate: the saved tensors are still those of the classifier."""
    images = [{"id": i, "file_name": f"{name}/img 0.png", "width": 80, "height": 70} for i, name in enumerate(CLASSES)]
    boxes = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [5, 5, 40, 40], "area": 1600, "iscrowd": 0}
             for i in range(3)]  # fmt: skip
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    flags = ["--config", "configs/yolov3.yaml", "--num_classes", "0", "--train_ann_file", tmp_path / "a.json",
             "--train_image_dir", dataset / "train", "--pretrained_backbone", weights, "--training_shape", "64",
             "--per_batch_size", "3", "--max_epoch", "1", "--t_max", "1", "--warmup_epochs", "0", "--lr", "1e-30",
             "--ckpt_path", tmp_path, "--run_name", "r", "--mode", "pynative", "--num_parallel_workers", "0",
             "--progress", "off"]  # fmt: skip
    assert run_command(training.main, list(map(str, flags))) == 0
    initial, own = load_tensors(weights), load_tensors(tmp_path / "r" / "ckpt_0" / "yolov3-1_1.ckpt")
    kept = [name for name in initial if name.startswith("backbone.") and "moving" not in name]
    assert kept
    for name in kept:
        np.testing.assert_array_equal(own[name], initial[name], err_msg=name)


@pytest.mark.parametrize(
    ("keys", "flag"),
    [
        ({"activation": "relu"}, "--activation=leaky"),
        ({"padding": "same"}, "--padding=symmetric"),
        ({"bn_eps": 1e-3}, "--bn_eps=0.00001"),
        ({"mean": (0.0, 0.0, 0.0)}, "--mean=0.485,0.456,0.406"),
        ({"std": (1.0, 1.0, 1.0)}, "--std=0.229,0.224,0.225"),
    ],
)
def test_a_backbone_with_other_settings_is_rejected(keys, flag, tmp_path):
    path = make_classifier("darknet53", tmp_path / "c.ckpt", **keys)
    with pytest.raises(UsageError) as error:
        backbone_start("configs/yolov3.yaml", path, flag)
    ((name, value),) = keys.items()
    value = list(value) if isinstance(value, tuple) else value
    assert name in str(error.value) and str(value) in str(error.value) and "c.json" in str(error.value)
    assert str(load_config("configs/yolov3.yaml", [flag]).to_dict()[name]) in str(error.value)


def test_the_backbone_of_another_network_is_rejected(tmp_path):
    path = make_classifier("cspdarknet53", tmp_path / "c.ckpt")
    with pytest.raises(UserError, match=r"mish") as error:
        backbone_start("configs/yolov3.yaml", path)
    assert "c.ckpt" in str(error.value) or "c.json" in str(error.value)
    # Without a card, the tensors do not fit.
    path.with_suffix(".json").unlink()
    flags = [f"--{name[2:]}={value}" for name, value in zip(NARROW[::2], NARROW[1::2], strict=True)]
    with pytest.raises(UserError, match=r"missing: backbone\.stages.*belong to no layer: backbone\.stages"):
        backbone_start("configs/yolov3.yaml", path, *flags)
