"""Activation: nothing happens before it, it happens once, and only to a host that is known; what was broken works."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics
import torch

from ensemble_bench import cli
from ensemble_bench.errors import BadData, BadOption, Missing
from ensemble_bench.host.running import output_of


def test_importing_us_changes_nothing_in_the_host() -> None:
    code = "import sys, ensemble_bench.host.activate; assert 'clip_benchmark' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr


def test_help_of_the_verb_loads_neither_torch_nor_the_host() -> None:
    code = (
        "import sys\nfrom ensemble_bench.cli import main\n"
        "try:\n    main(['clip-benchmark', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'clip_benchmark'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    assert "--model_type ensemble_bench" in said.stdout


def test_twice_is_once(host: Any) -> None:
    import clip_benchmark.cli
    from clip_benchmark.models import MODEL_TYPES

    before = clip_benchmark.cli.run, clip_benchmark.cli.build_dataset
    assert host.activate() is clip_benchmark.cli
    assert (clip_benchmark.cli.run, clip_benchmark.cli.build_dataset) == before
    assert MODEL_TYPES.count("ensemble_bench") == MODEL_TYPES.count("ensemble_bench_module") == 1


@pytest.mark.parametrize("number", ["1.6.1", "2.0.0", "3"])
def test_another_version_is_refused(host: Any, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr(host, "version", lambda name: number)
    with pytest.raises(
        Missing, match=rf"clip_benchmark {number} is installed, .* 1\.6\.2 up to, not including, 2: pip install"
    ):
        host._checked()


def test_a_host_that_looks_otherwise_is_refused(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip_benchmark import models
    from clip_benchmark.metrics import linear_probe

    monkeypatch.setattr(linear_probe, "accuracy", lambda output, target: 0)
    with pytest.raises(Missing, match=r"its metrics\.linear_probe has a accuracy without topk"):
        host._checked()
    monkeypatch.delattr(linear_probe, "accuracy")
    with pytest.raises(Missing, match=r"its metrics\.linear_probe lacks accuracy"):
        host._checked()
    monkeypatch.undo()
    monkeypatch.setattr(models, "MODEL_TYPES", ("open_clip",))
    with pytest.raises(Missing, match="its models has no MODEL_TYPES"):
        host._checked()


def test_a_missing_requests_is_a_sentence(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_spec", lambda name: None)
    with pytest.raises(Missing, match="imports requests and does not bring it along: pip install requests"):
        host._checked()


def test_accuracy_is_a_number_again(host: Any) -> None:
    from clip_benchmark.metrics import linear_probe, zeroshot_classification

    output = torch.randn(50, 9, generator=torch.Generator().manual_seed(3))
    target = torch.arange(50) % 9
    for accuracy in (zeroshot_classification.accuracy, linear_probe.accuracy):
        found = accuracy(output, target.float(), topk=(1, 5))  # the linear probe gives floats
        wanted = [sklearn.metrics.top_k_accuracy_score(target, output, k=k) for k in (1, 5)]
        assert found == pytest.approx(wanted, abs=1e-12)


def test_labels_that_are_no_classes_are_noticed(host: Any) -> None:
    check = host.labels_checked(lambda *given, amp: (torch.zeros(3, 6), torch.tensor([0, 6, 2])))
    with pytest.raises(BadData, match="the data have the label 6, but there are 6 class names"):
        check(None, torch.zeros(7, 6), None, "cpu")
    many = host.labels_checked(lambda *given, amp: (torch.zeros(3, 6), torch.zeros(3, 6)))  # several labels a picture
    assert len(many(None, torch.zeros(7, 6), None, "cpu")) == 2


def options(**changes: Any) -> Namespace:
    given = {"dataset": "wds/a/b", "model": "hf-hub:org/x", "pretrained": "", "task": "auto", "language": "en"}
    default = "{dataset}_{pretrained}_{model}_{language}_{task}.json"
    return Namespace(**{**given, "output": default, "skip_existing": False, **changes})


def test_the_output_can_be_written(tmp_path: Path) -> None:
    args = options(output=f"{tmp_path}/deep/{{dataset}}_{{model}}_{{task}}.json")
    path = output_of(args)
    assert path == tmp_path / "deep" / "a_b_hf-hub:org_x_zeroshot_classification.json" and path.parent.is_dir()
    assert args.output.format(model="other") == str(path)
    path.write_text('{"acc')
    assert not output_of(options(output=str(path), skip_existing=True)).read_text().endswith("}")
    args = options(output=str(path), skip_existing=True)
    output_of(args)
    assert not args.skip_existing, "a half-written file is no result"
    path.write_text('{"acc1": 1}')
    args = options(output=str(path), skip_existing=True)
    output_of(args)
    assert args.skip_existing
    with pytest.raises(BadOption, match="is none of model, pretrained"):
        output_of(options(output="{modell}.json"))
    with pytest.raises(BadOption, match="cannot be made"):
        output_of(options(output=f"{path}/x.json"))


def test_the_verb_is_the_hosts(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["clip-benchmark", "eval", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: ensemble-bench clip-benchmark eval") and "ensemble_bench_module" in said
    with pytest.raises(SystemExit) as end:
        cli.main(["clip-benchmark", "eval", "--model_type", "nothing"])
    assert end.value.code == 2
    assert cli.main(["clip-benchmark"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "zeroshot_retrieval"], "answers zeroshot_classification only"),
        (["--task", "linear_probe", "--model_type", "open_clip"], "on a CUDA device only"),
        (["--model", "nothing"], "no strategy is called 'nothing'"),
        (["--dataset", "eb/nothing"], "no task is called 'nothing'"),
    ],
)
def test_bad_calls_are_sentences(
    host: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    usual = ["--model_type", "ensemble_bench", "--model", "single:mini/vit-8", "--pretrained", "mini"]
    assert host.main(["eval", *usual, "--dataset", "eb/mini/faces", "--quiet", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and "1 of 1 evaluations failed" in told and not list(tmp_path.iterdir())
