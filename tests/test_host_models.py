"""The model door: what the host is shown ranks classes as we do, and what cannot be a model is told so."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from ensemble_bench import backbones, fits, metrics, prompts
from ensemble_bench.cube import Cube
from ensemble_bench.errors import BadOption, BadWeights, Lacking, UnknownName
from ensemble_bench.host import models
from ensemble_bench.host.shown import Prepared, grouped
from ensemble_bench.strategies import registry
from ensemble_bench.strategies.base import Strategy
from ensemble_bench.strategies.build import named
from ensemble_bench.testing.toy import toy

CUBE = toy(240, 2)


def host_logits(shown: torch.Tensor) -> torch.Tensor:
    """What the host makes of the vectors of pictures: its own three steps, float32 [s, c]."""
    classifier = torch.eye(shown.shape[1], dtype=torch.float64)[:, :-1]
    return (100.0 * normalize(shown, dim=-1) @ classifier).float()


def ranked_as_ours(scores: torch.Tensor, query: Cube) -> None:
    logits = host_logits(models.seen(scores, query))
    best = metrics.order(scores, query)
    assert bool((logits.gather(1, best).diff(dim=1) < 0).all())
    assert bool((logits.argmax(1) == metrics.decide(scores, query)).all())
    assert bool((logits.topk(5, 1).indices == best[:, :5]).all())


@pytest.mark.parametrize("name", [name for name in registry if registry.row(name).facts.get("labels") == "none"])
def test_the_host_ranks_as_we_do(name: str) -> None:
    strategy = named(f"single:{CUBE.backbones[0]}" if name == "single" else name)
    ranked_as_ours(strategy.predict(CUBE.blind()), CUBE)


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(torch.zeros(240, 6), id="nothing but ties"),
        pytest.param(torch.full((240, 6), 3.0), id="all the same"),
        pytest.param(torch.randint(0, 2, (240, 6), generator=torch.Generator().manual_seed(1)).float(), id="few votes"),
        pytest.param(1 + 1e-12 * torch.arange(240 * 6, dtype=torch.float64).reshape(240, 6).sin(), id="nearer than float32"),
        pytest.param(1e-300 * torch.arange(240 * 6, dtype=torch.float64).reshape(240, 6).sin(), id="all but zero"),
        pytest.param(1e300 * torch.arange(240 * 6, dtype=torch.float64).reshape(240, 6).sin(), id="huge"),
        pytest.param(torch.tensor([-1.0, 0.0, 0.0, 1.0, 1.0, -1.0]).expand(240, 6), id="both signs, tied"),
    ],
)
def test_no_score_is_too_odd(scores: torch.Tensor) -> None:
    ranked_as_ours(scores, CUBE)
    rows = models.seen(scores, CUBE)
    assert torch.allclose(rows.norm(dim=1), torch.ones(240, dtype=torch.float64), atol=1e-12)


def test_a_float32_argmax_of_votes_would_be_another_answer() -> None:
    """The check above can fail: the scores as they are lose the tie rule."""
    votes = named("vote-top1").predict(CUBE.blind())
    assert bool((votes.argmax(1) != metrics.decide(votes, CUBE)).any())


def test_the_same_score_looks_the_same_in_every_sample() -> None:
    """Average precision compares samples: what is shown of a score must not depend on the others of its row."""
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.5, 0.2], [0.3, 0.1, 0.0]], dtype=torch.float64)
    cube = Cube(backbones=["a"], classes=list("xyz"), ids=list("123"), probabilities=torch.full((1, 3, 3), 1 / 3))
    logits = host_logits(models.seen(scores, cube))
    assert logits[0, 0] == logits[1, 0] > logits[1, 1] > logits[2, 0] > logits[1, 2] > logits[0, 1] == logits[2, 1]


def test_thousand_classes_and_mixed_precision_keep_the_ranks() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 20, 1000, generator=generator)
    cube = Cube(backbones=list("abc"), classes=[str(c) for c in range(1000)], ids=[str(s) for s in range(20)], logits=logits)
    votes = named("vote-top3").predict(cube)
    rows = models.seen(votes, cube)
    classifier = torch.eye(1001, dtype=torch.float64)[:, :-1]
    with torch.autocast("cpu", enabled=True):
        mixed = (100.0 * normalize(rows, dim=-1) @ classifier).float()
    assert bool((mixed.argsort(1, descending=True) == metrics.order(votes, cube)).all())


# What a name stands for ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Whole(Strategy):
    """Wants the whole query."""

    family: ClassVar[str] = "static"
    transductive: ClassVar[bool] = True

    def predict(self, query: Cube) -> torch.Tensor:
        return query.logits[0]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENSEMBLE_BENCH_CACHE", str(tmp_path / "store"))
    return tmp_path / "store"


def facts(**changes: Any) -> dict[str, Any]:
    pool = backbones.find(["mini"])
    found = {"strategy": "genetic", "task": "mini/faces", "shots": 1, "draw": 0, "prompts": prompts.digest([["x"], ["y"]])}
    return {**found, "pool": {b.id: [b.weights(), b.architecture(), b.preprocessing()] for b in pool}, **changes}


def saved(**changes: Any) -> str:
    names = tuple(sorted(backbones.POOLS["mini"]))
    learnt = {"backbones_": names, "weight_": torch.arange(1.0, 1 + len(names), dtype=torch.float64)}
    return fits.save(fits.shelf(), learnt, facts(**changes))


@pytest.mark.parametrize(
    ("model", "pretrained", "error", "said"),
    [
        ("log-avrg", "mini", UnknownName, "no strategy is called 'log-avrg'. Did you mean log-avg"),
        ("log-avg", "mimi", UnknownName, "no backbone is called 'mimi'. Did you mean mini"),
        ("log-avg", "mini@nope", UnknownName, "no backbone is called 'mini@nope'"),
        ("log-avg", "mini@0123456789ab", BadOption, "log-avg learns nothing: write --pretrained mini, without @0123456789ab"),
        ("oracle", "mini", BadOption, "oracle is an oracle: it needs the labels"),
        ("oracle-best-single", "mini", BadOption, "is an oracle"),
        ("single", "mini", BadOption, "say which backbone is meant: --model single:ID"),
        ("single:mini/vit-9", "mini", UnknownName, "mini has no backbone 'mini/vit-9'. Did you mean mini/vit-8"),
        ("nlc", "mini", BadOption, "nlc learns from labelled examples: write --pretrained mini@FIT. There is none yet"),
        ("nlc", "mini@nope", BadWeights, "there is no fit 'nope' in .*fits"),
        ("nlc:form=wait", "mini", BadOption, "form is temperature or weight"),
    ],
)
def test_what_cannot_be_a_model(store: Path, model: str, pretrained: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        models.asked(model, pretrained)


def test_a_strategy_that_wants_everything_at_once_is_no_model(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {"whole": Whole})
    with pytest.raises(BadOption, match="whole wants all images at once"):
        models.asked("whole", "mini")


def test_a_single_backbone_loads_no_other(store: Path) -> None:
    assert [backbone.id for backbone in models.asked("single:mini/vit-8", "mini").pool] == ["mini/vit-8"]
    assert [backbone.id for backbone in models.asked("log-avg", "mini").pool] == sorted(backbones.POOLS["mini"])


def test_fits_are_named_where_one_is_lacking(store: Path) -> None:
    name = saved()
    with pytest.raises(BadOption, match=rf"There are {name} \(mini/faces, 1 shots, draw 0\)"):
        models.asked("genetic", "mini")
    what = models.asked("genetic", f"mini@{name}")
    assert what.task == "mini/faces" and what.strategy.learnt()["weight_"].tolist() == [1, 2, 3, 4, 5]


def test_a_fit_of_something_else_is_refused(store: Path) -> None:
    with pytest.raises(BadWeights, match="is one of genetic, not of genetic:generations=3"):
        models.asked("genetic:generations=3", f"mini@{saved()}")
    with pytest.raises(BadWeights, match=r"was made with mini/convnext, .*: give that pool"):
        models.asked("genetic", f"mini/vit-8@{saved()}")
    pool = facts()["pool"]
    pool["mini/vit-8"] = ["0" * 64, *pool["mini/vit-8"][1:]]
    with pytest.raises(BadWeights, match="was made with other weights of mini/vit-8"):
        models.asked("genetic", f"mini@{saved(pool=pool)}")
    with pytest.raises(BadWeights, match="does not say for which prompts"):
        models.asked("genetic", f"mini@{saved(pool=None)}")
    name = saved()
    path = fits.shelf() / f"{name}.json"
    path.write_text(path.read_text().replace("mini/faces", "mini/digits"))
    with pytest.raises(BadWeights, match="is spoilt"):
        models.asked("genetic", f"mini@{name}")


# The model ----------------------------------------------------------------------------------------------------------------


def zero_shot(model: models.Ensemble, names: list[str], templates: list[str]) -> torch.Tensor:
    """The host's own classifier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    original = getattr(zero_shot_classifier, "__wrapped__", zero_shot_classifier)
    made: torch.Tensor = models.announced(original)(model, model.tokenizer, names, templates, "cpu", amp=False)
    return made


def test_a_fit_for_other_prompts_is_refused(store: Path) -> None:
    model, _, _ = models.load("genetic", f"mini@{saved()}")
    with pytest.raises(BadWeights, match="these data: the fit was made for the prompts of mini/faces, and these are others"):
        zero_shot(model, ["y", "x"], ["{c}"])
    assert zero_shot(model, ["x", "y"], ["{c}"]).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_pictures_before_classes_and_embeddings_are_refused(store: Path) -> None:
    model, transform, tokenizer = models.load("single:mini/vit-8", "mini")
    with pytest.raises(Lacking, match="zeroshot_classification only"):
        model.encode_image(transform(Image.new("RGB", (64, 64)))[None])
    with pytest.raises(Lacking, match="ensemble_bench_module"):
        model.encode_text(tokenizer(["a cat"]))
    assert model.eval() is model


def test_classes_of_the_same_name_and_prompts_of_their_own(store: Path) -> None:
    """ImageNet has two classes called crane; a dictionary of templates gives classes different numbers of prompts."""
    model, transform, _ = models.load("single:mini/vit-8", "mini")
    each = {"crane": ["a crane"], "cat": ["a cat", "the cat", "cats"]}
    zero_shot(model, ["crane", "cat", "crane"], each)  # type: ignore[arg-type]
    rows = model.encode_image(torch.stack([transform(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue")]))
    assert rows.shape == (2, 4) and rows.dtype == torch.float64
    encoder = backbones.find(["mini/vit-8"])[0].load()
    heads = encoder.ensembled([each["crane"], each["cat"], each["crane"]])
    mean = normalize(normalize(encoder.texts(each["cat"]), dim=1).mean(0), dim=0)
    assert torch.allclose(heads[1], mean, atol=1e-6) and torch.allclose(heads[0], heads[2], atol=1e-6)


def test_the_prepared_picture_carries_no_tower(store: Path) -> None:
    import pickle

    _, transform, _ = models.load("log-avg", "mini")
    assert len(pickle.dumps(transform)) < 20_000


@dataclass
class Shapes:
    """A preparation to another size."""

    side: int

    def __call__(self, picture: Any) -> torch.Tensor:
        return torch.full((3, self.side, self.side), float(picture.mean()))


def test_backbones_of_several_input_sizes_share_one_tensor() -> None:
    class Encoder:
        def __init__(self, side: int, factor: float) -> None:
            self.side, self.factor = side, factor

        def preparation(self) -> Shapes:
            return Shapes(self.side)

        def images(self, batch: torch.Tensor) -> torch.Tensor:
            assert batch.shape[1:] == (3, self.side, self.side)
            return batch.flatten(1)[:, :2] * self.factor

    @dataclass
    class Named:
        id: str
        way: str

        def preprocessing(self) -> str:
            return self.way

    pool = [
        (Named("b", "small"), Encoder(4, 1.0)),
        (Named("a", "large"), Encoder(6, 2.0)),
        (Named("c", "small"), Encoder(4, 3.0)),
    ]
    groups = grouped(pool)  # type: ignore[arg-type]
    transform = Prepared(groups.preparations)
    batch = torch.stack([transform(Image.new("L", (9, 9), value)) for value in (10, 20)])
    assert batch.shape == (2, 3 * 16 + 3 * 36)
    assert {name: part[:, 0].tolist() for name, part in groups.features(batch).items()} == {
        "a": [20, 40],
        "b": [10, 20],
        "c": [30, 60],
    }
