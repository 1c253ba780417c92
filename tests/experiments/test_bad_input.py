"""Whatever a person gets wrong is one line that names it, exit code 2, and no folder left."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common import cli

ROOT = Path(__file__).resolve().parents[2]

CONFIGS = {
    "exits": "import sys\nsys.exit(0)",
    "text": "config = Config('x', 'digits', 'dense', learning_rate='fast')",
    "bool": "config = Config('x', 'digits', 'dense', seeds=True)",
    "float": "config = Config('x', 'digits', 'dense', epochs=2.5)",
    "list": "config = Config('x', 'digits', 'dense', hidden=[300])",
    "rules": "config = Config('x', 'digits', 'dense', rules='q_agrel')",
    "nan": "config = Config('x', 'digits', 'dense', epsilon=float('nan'))",
    "name": "config = Config('../x', 'digits', 'dense')",
    "empty": "config = Config('x', '', 'dense')",
    "none": "",
    "syntax": "config = = 3",
}

BAD = [
    ("train", "''", "unknown config ''"),
    ("train", "../configs/digits", "unknown config '../configs/digits'"),
    ("train", "nonesuch.py", "config nonesuch.py does not exist"),
    ("train", "MNIST", "unknown config 'MNIST'; did you mean 'mnist_"),
    ("train", "mnist-dense", "unknown config 'mnist-dense'; did you mean 'mnist_dense'?"),
    ("train", "exits.py", "config exits.py: it calls exit"),
    ("train", "text.py", "text.py: --learning-rate must be a number, got 'fast'"),
    ("train", "bool.py", "bool.py: --seeds must be a whole number, got True"),
    ("train", "float.py", "float.py: --epochs must be a whole number, got 2.5"),
    ("train", "list.py", "list.py: --hidden must be a tuple of whole numbers, got [300]"),
    ("train", "rules.py", "rules.py: --rule must be a tuple of names, got 'q_agrel'"),
    ("train", "nan.py", "nan.py: --epsilon must be in [0, 1], got nan"),
    ("train", "name.py", "a config's name"),
    ("train", "empty.py", "--dataset must not be empty"),
    ("train", "none.py", "none.py does not define `config = Config(...)`"),
    ("train", "syntax.py", "invalid syntax"),
    ("train", "--dataset MNIST", "unknown data set 'MNIST'; did you mean 'mnist'?"),
    ("train", "--dataset fashion-mnist", "did you mean 'fashion_mnist'?"),
    ("train", "--rule q-agrel", "unknown rule 'q-agrel'; did you mean 'q_agrel'?"),
    ("train", "--lerning-rate 1", "did you mean '--learning-rate'?"),
    ("train", "--hidden 1000000,1000000", "GiB of memory: lower --hidden or --seeds"),
    ("train", "--seeds 1000000", "GiB of memory: lower --hidden or --seeds"),
    ("agrel", "digits --max-trials 500", "--max-trials must be a multiple of 200 with digits"),
    ("train", "--feedback-init he", "--feedback-init does nothing with tied feedback: leave it"),
    ("train", "--curriculum-step 2", "--curriculum-step does nothing without --curriculum"),
    ("train", "--reward always --reward-wrong -1", "--reward-wrong does nothing with a --reward"),
    ("train", "--weight-decay-epochs 3", "does nothing without --weight-decay: leave it out"),
    ("train", "mnist_dense --validation-fraction 0.2", "does nothing with --protocol paper"),
    ("train", "--noise-sd 0.2", "--noise-sd does nothing without --rule node_perturbation"),
    ("train", "--rule agrel --curriculum index", "agrel with a curriculum needs --curriculum-expl"),
    ("train", "--curriculum index --curriculum-exploration 1", "1 needs --curriculum-max-wait"),
    ("train", "--coordinator localhost", "must be HOST:PORT or auto, got 'localhost'"),
    ("train", "--coordinator localhost:0", "must be HOST:PORT or auto"),
    ("train", "--coordinator localhost:99", "needs --processes N and --process I"),
    (
        "train",
        "--coordinator localhost:99 --processes 2 --process 2",
        "--process must be below --processes 2, got 2",
    ),
    ("train", "--mesh 1000x1", "--seeds 5 does not divide evenly over 1000 devices"),
    ("train", "--mesh 1000x1 --seeds 1000", "a mesh of 1000 x 1 (seeds x batch) does not fit"),
    ("train", "--mesh 1x1000000", "--batch-size 16 does not divide evenly over 1000000 devices"),
    ("train", "--out ''", "argument --out: needs a path, got ''"),
    ("train", "--out file", "file is not a folder"),
    ("train", "--out file/run", "cannot write to file/run"),
    ("train", "--architecture conv --dataset three_pixels", "unknown data set 'three_pixels'"),
    ("working_memory", "sacade", "unknown task 'sacade'; did you mean 'saccade'?"),
    ("working_memory", "saccade --set delay_steps=100000000000000", "must be at most 10000"),
    ("working_memory", "saccade --set fixation_reward=1e400", "must be at most 1000000.0"),
    ("working_memory", "saccade --set delay_step=3", "did you mean 'delay_steps'?"),
    ("working_memory", "saccade --set delay_steps=1 --set delay_steps=2", "given twice"),
    (
        "working_memory",
        "saccade --set fixation_reward=1 --fixation-reward 0",
        "fixation_reward is given twice",
    ),
    ("working_memory", "saccade --networks 1000000 --regular 10000", "lower --networks"),
    ("working_memory", "saccade --out ''", "needs a path"),
    ("controls", "rewards", "unknown control 'rewards'; did you mean 'reward'?"),
    ("controls", "reward --out file", "cannot write to file/reward"),
    ("controls", "fast_mnist", "not prepared"),
    ("agrel", "XOR", "unknown task 'XOR'; did you mean 'xor'?"),
    ("agrel", "xor --out file", "file is not a folder"),
    ("agrel", "xor --out full", "full holds another run or other files"),
    ("agrel", "xor --seed -1", "must be in [0, 4294967295], got -1"),
    ("curve_tracing", "--out full", "full holds files that are no run"),
    ("curve_tracing", "--out ''", "needs a path"),
    ("curve_tracing", "--networks 0", "must be in [1, 10000], got 0"),
    ("feedback", "--out file", "file is not a folder"),
    ("feedback", "--out ''", "needs a path"),
    ("feedback", "--configs digits --hidden 0", "must be in [1, 1000000], got 0"),
    ("update_statistics", "--out file", "file is not a folder"),
    ("update_statistics", "--out full", "full holds files that are no run"),
    ("update_statistics", "--out ''", "needs a path"),
    ("update_statistics", "--classes 11", "--classes 11: digits has 10"),
    ("memory_speed", "--out full", "full holds another run or other files"),
    ("memory_speed", "--networks 1,1", "the same value twice"),
    ("benchmark", "--cells denes", "did you mean 'dense'?"),
    ("benchmark", "--out file", "file is not a folder"),
    ("streaming_speed", "--cells ''", "unknown cell ''"),
    ("streaming_speed", "--out full", "full holds another run or other files"),
    ("reproduce", "--cells ''", "unknown config ''"),
    ("reproduce", "--plan --out file", "file is not a folder"),
    ("reproduce", "--out file/cells --cells mnist_dense", "cannot write to file/cells"),
    ("export", "full net.npz", "full holds no run"),
    ("export", "'' net.npz", "needs a path, got ''"),
    ("merge", "nonesuch --out new", "nonesuch holds no run"),
    ("merge", "full", "required: --out"),
    ("new_letters", "nonesuch", "nonesuch holds no run"),
    ("new_letters", "full --out full", "full holds no run"),
    ("tangent_kernel", "nonesuch", "nonesuch holds no run"),
    ("tangent_kernel", "full --out full", "full holds no run"),
    ("tensorboard", "nonesuch", "nonesuch holds no run"),
    ("report", "--results file", "file is no folder of results"),
    ("report", "--results nonesuch", "nonesuch is no folder of results"),
    ("report", "--results full --readme full", "cannot read full"),
    ("report", "--results full --readme bytes", "bytes is not a text in UTF-8"),
]


def main_of(command):
    module = importlib.import_module(f"experiments.{command}")
    if not hasattr(module, "main"):
        module = importlib.import_module(f"experiments.{command}.__main__")
    return module.main


@pytest.mark.parametrize(("command", "arguments", "says"), BAD)
def test_one_line_code_2_and_nothing_left(command, arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_data"))
    for name, text in CONFIGS.items():
        (tmp_path / f"{name}.py").write_text(f"from experiments.config import Config\n{text}\n")
    (tmp_path / "file").touch()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    given = [word.strip("'") for word in arguments.split()]
    with pytest.raises(SystemExit) as stop:
        cli.run(main_of(command), given)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and "error: " in line
    left = [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts]
    assert left == before


def test_a_folder_may_be_in_the_home_folder(tmp_path, monkeypatch):
    """Of ``--out=~/runs`` the shell leaves the ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.path("~/runs") == tmp_path / "runs"


def test_wrong_names_are_refused_before_jax_is_imported():
    """In a process of its own, which must be quick for every command."""
    code = """
import importlib, sys
from experiments.common import cli
for words in sys.argv[1:]:
    command, *arguments = words.split()
    try:
        cli.run(importlib.import_module(f"experiments.{command}.__main__").main, arguments)
    except SystemExit as stop:
        print(stop.code, "jax" in sys.modules)
"""
    wrong = (
        "train nonesuch",
        "working_memory stroop",
        "agrel nosuch",
        "controls rewards",
        "curve_tracing --networks 0",
        "update_statistics nosuch",
        "benchmark --cells denes",
        "memory_speed --networks 1,1",
        "reproduce --cells nosuch",
    )
    command = [sys.executable, "-c", code, *wrong]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.stdout.splitlines() == ["2 False"] * len(wrong), result.stderr


def test_a_plan_needs_no_folder_and_makes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main_of("reproduce")(["--plan", "--cells", "mnist_dense,cifar10_deep"])
    text = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert "The whole matrix, 12 cells under both protocols, 10 seeds each" in text
    assert "A first evening (4.0 h)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_errors_of_the_machine_are_one_line_too(capsys):
    def fail(error):
        def main(argv):
            raise error

        with pytest.raises(SystemExit) as stop:
            cli.run(main, [])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert fail(PermissionError(13, "Permission denied", "/x")) == (
        "error: Permission denied: /x\n"
    )
    assert "out of memory" in fail(MemoryError("3 GiB"))
    assert "out of memory" in fail(RuntimeError("RESOURCE_EXHAUSTED: 3 GiB"))
    assert "JAX_PLATFORMS" in fail(RuntimeError("Unable to initialize backend 'tpu'"))
    with pytest.raises(RuntimeError, match="of the program"):
        cli.run(lambda argv: (_ for _ in ()).throw(RuntimeError("of the program")), [])


@pytest.mark.parametrize(
    ("name", "given", "named"),
    [
        ("mnist_conv", {"dataset": "fashion_mnist"}, "fashion_mnist_conv"),
        ("digits", {"dataset": "fashion_mnist"}, "fashion_mnist"),
        ("digits_fast", {"dataset": "emnist/balanced:1.0.0"}, "emnist_balanced_1.0.0_fast"),
        ("mnist_dense", {"architecture": "conv"}, "mnist_conv"),
        ("digits", {"architecture": "conv"}, "digits_conv"),
        ("digits", {"seeds": 3}, "digits"),
    ],
)
def test_a_run_is_named_after_its_images_and_network(name, given, named):
    from experiments import config as configs

    assert configs.override(configs.load(name), given).name == named


def test_help_shows_the_chosen_config(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for arguments, rate in ((["--help"], "0.1"), (["digits_fast", "-h"], "0.001")):
        with pytest.raises(SystemExit):
            main_of("train")(arguments)
        text = capsys.readouterr().out
        assert f"step size (default: {rate})" in text
        assert "…" not in text and "(300" not in text and "300,200,100" in text
        assert max(map(len, text.splitlines())) <= 80


COMMANDS = (
    "agrel api_reference benchmark controls curve_tracing export feedback memory_speed merge "
    "new_letters report reproduce streaming_speed tangent_kernel tensorboard train "
    "update_statistics working_memory"
)


@pytest.mark.parametrize("command", COMMANDS.split())
def test_help_fits_the_terminal_and_cuts_no_word(command, capsys, monkeypatch):
    texts = {}
    for width in (1000, 80, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit):
            main_of(command)(["--help"])
        texts[width] = capsys.readouterr().out
        assert "…" not in texts[width]
        assert max(map(len, texts[width].splitlines())) <= width
    whole = set(re.split(r"[\s,]+", texts[1000])) | {"\\", "[options]"}
    for width in (80, 60):
        assert not set(re.split(r"[\s,]+", texts[width])) - whole
