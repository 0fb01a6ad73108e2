"""Ways of combining backbones: a table of what there is, loaded one by one when asked for. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble_bench import selection
from ensemble_bench.errors import UnknownName
from ensemble_bench.registry import Registry, Row, near
from ensemble_bench.strategies.spelling import each, parsed


def _row(target: str, family: str, labels: str, needs: str, summary: str) -> Row:
    facts = {"family": family, "labels": labels, "needs": tuple(needs.split())}
    return Row(f"ensemble_bench.strategies.{target}", summary, facts)


registry = Registry(
    "strategy",
    "ensemble_bench.strategies",
    {
        "single": _row("single:Single", "static", "none", "decisions", "One backbone by itself, a row for each."),
        "best-single": _row(
            "best_single:BestSingle",
            "control",
            "support",
            "decisions",
            "The backbone with the highest accuracy on the support.",
        ),
        "vote-top1": _row("vote:VoteTop1", "static", "none", "decisions", "Each backbone votes for its best class."),
        "vote-top3": _row(
            "vote:VoteTop3", "static", "none", "probabilities", "Each backbone votes for its three best classes."
        ),
        "confidence": _row("confidence:Confidence", "static", "none", "confidence", "The most confident backbone answers."),
        "mean-probability": _row(
            "mean_probability:MeanProbability", "static", "none", "probabilities", "Mean of the backbones' probabilities."
        ),
        "log-avg": _row("log_avg:LogAvg", "static", "none", "probabilities", "Mean of the backbones' log-probabilities."),
        "borda": _row("borda:Borda", "static", "none", "probabilities", "Each backbone ranks all classes."),
        "entropy-weighted": _row(
            "entropy_weighted:EntropyWeighted", "static", "none", "probabilities", "Log-average by how sure each backbone is."
        ),
        "mean-logit": _row("mean_logit:MeanLogit", "static", "none", "logits", "Mean of the backbones' logits."),
        "zs-en": _row(
            "zs_en:ZeroShotEnsemble", "static", "none", "probabilities", "An anchor, and the others by their confidence."
        ),
        "dawid-skene": _row(
            "dawid_skene:DawidSkene", "static", "none", "decisions", "Votes weighted by agreement on the unlabelled query."
        ),
        "calibrated-confidence": _row(
            "calibrated:CalibratedConfidence",
            "calibrated",
            "support",
            "logits",
            "The most confident backbone answers, once temperatures fitted on the support have calibrated them.",
        ),
        "calibrated-log-avg": _row(
            "calibrated:CalibratedLogAvg",
            "calibrated",
            "support",
            "logits",
            "Mean of the log-probabilities after temperatures fitted on the support.",
        ),
        "genetic": _row(
            "genetic:Genetic",
            "calibrated",
            "support",
            "logits",
            "Weights of the backbones found by evolutionary search on support accuracy.",
        ),
        "super-learner": _row(
            "super_learner:SuperLearner",
            "calibrated",
            "support",
            "logits",
            "Mixture weights of the backbones that make the support most likely.",
        ),
        "weighted-log-avg": _row(
            "weighted_log_avg:WeightedLogAvg", "calibrated", "support", "probabilities", "Log-average by support accuracy."
        ),
        "greedy-selection": _row(
            "greedy_selection:GreedySelection", "calibrated", "support", "probabilities", "A bag grown by what helps most."
        ),
        "tf-en": _row(
            "tf_en:TrainingFreeEnsemble", "calibrated", "support", "probabilities", "An anchor, and weights of others tried."
        ),
        "nlc": _row(
            "nlc:NeuralLogitController",
            "adaptive",
            "support",
            "logits features",
            "A small network gives each backbone a temperature per image.",
        ),
        "evidence-blend": _row(
            "evidence_blend:EvidenceBlend",
            "adaptive",
            "support",
            "logits features",
            "Heads and labelled examples, each weighted as the support bears it out.",
        ),
        "knora-e": _row(
            "knora_e:KnoraE",
            "adaptive",
            "support",
            "decisions features",
            "The backbones that are right on all of the nearest support samples vote.",
        ),
        "knora-u": _row(
            "knora_u:KnoraU",
            "adaptive",
            "support",
            "decisions features",
            "Each backbone has as many votes as it is right on the nearest support samples.",
        ),
        "ola": _row(
            "ola:OLA",
            "adaptive",
            "support",
            "decisions features",
            "The backbone that is right most often on the nearest support samples answers.",
        ),
        "tip-adapter": _row(
            "tip_adapter:TipAdapter",
            "adaptive",
            "support",
            "logits features",
            "Each backbone's logits plus a cache of the support; the mean over backbones, or one of them.",
        ),
        "tip-adapter-f": _row(
            "tip_adapter_f:TipAdapterF",
            "adaptive",
            "support",
            "logits features",
            "As tip-adapter, with the keys of the cache trained on the support.",
        ),
        "tip-adapter-nlc": _row(
            "tip_adapter_nlc:TipAdapterNLC",
            "adaptive",
            "support",
            "logits features",
            "As nlc, over the backbones' Tip-Adapters instead of their zero-shot heads.",
        ),
        "linear-probe": _row(
            "linear_probe:LinearProbe",
            "control",
            "support",
            "features",
            "Logistic regression on the features of all backbones side by side, or of one of them.",
        ),
        "nearest-centroid": _row(
            "nearest_centroid:NearestCentroid",
            "control",
            "support",
            "features",
            "The class with the nearest mean of features, of all backbones side by side or of one of them.",
        ),
        "lda": _row(
            "lda:LDA",
            "control",
            "support",
            "features",
            "Linear discriminant analysis with a shrunk covariance, of all backbones side by side or of one of them.",
        ),
        "mixture-of-experts": _row(
            "mixture_of_experts:MixtureOfExperts",
            "adaptive",
            "support",
            "probabilities features",
            "A small network gives each backbone a share of the answer per image.",
        ),
        "swig": _row(
            "swig:SampleWiseGenerator",
            "adaptive",
            "support",
            "probabilities features",
            "Shares from a small network of raw features, as published.",
        ),
        "cascade": _row(
            "cascade:Cascade", "adaptive", "support", "probabilities", "Cheap backbones first, dearer ones where unsure."
        ),
        "router": _row(
            "router:Router", "adaptive", "support", "probabilities", "The backbone most likely to be right answers."
        ),
        "meta-nlc": _row(
            "meta_nlc:MetaController",
            "adaptive",
            "support",
            "probabilities features",
            "Weights per image from a network that learnt on other tasks first.",
        ),
        "oracle": _row("oracle:Oracle", "oracle", "query", "decisions", "Right wherever any backbone is right: a ceiling."),
        "oracle-best-single": _row(
            "oracle_best_single:OracleBestSingle",
            "oracle",
            "query",
            "decisions",
            "The backbone with the highest accuracy on the query itself: a ceiling.",
        ),
        "oracle-per-class": _row(
            "oracle_per_class:OraclePerClass",
            "oracle",
            "query",
            "decisions",
            "The backbone with the highest accuracy on the query images of each class: a ceiling.",
        ),
    },
)

DEFAULT: tuple[str, ...] = (
    "single",
    "best-single",
    "vote-top1",
    "vote-top3",
    "confidence",
    "mean-probability",
    "log-avg",
    "calibrated-confidence",
    "calibrated-log-avg",
    "genetic",
    "super-learner",
    "nlc",
    "nlc:form=weight",
    "oracle",
    "oracle-best-single",
)
"""What ``run`` runs when not told otherwise, in the order of the board."""

READINGS: tuple[str, ...] = (
    "nlc:form=weight",
    "super-learner:form=linear",
    "swig:loss=nll",
    "cascade:by=agreement",
)
"""Parameterised readings that stand for a strategy of their own: with every name of the registry they are ``-s all``."""


def chosen(asked: Sequence[str], backbones: Sequence[str]) -> tuple[str, ...]:
    """Texts of the strategies that names, globs, ``default`` and ``all`` mean; of each backbone where they say so."""
    groups = {"default": DEFAULT, "all": [*registry, *READINGS]}
    every: dict[str, None] = {}
    for text in selection.chosen(asked, list(registry), groups, "strategy"):
        every |= dict.fromkeys(each(text, backbones))
    for text in every:
        _check_backbone(text, backbones)
    return tuple(every)


def _check_backbone(text: str, backbones: Sequence[str]) -> None:
    """Raise UnknownName where a parameter that must be one of the backbones is another."""
    name, given = parsed(text)
    for key in ("backbone", "anchor") if registry.builtin(name) else ():
        asked = given.get(key, "all")
        if asked not in (*backbones, "all", ""):
            raise UnknownName(f"{text}: {key} must be one of the backbones of this run, not {asked!r}.{near(asked, backbones)}")
