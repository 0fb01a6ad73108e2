"""Ways of combining backbones: a table of what there is, loaded one by one when asked for. Needs no torch."""

from __future__ import annotations

from ensemble_bench.registry import Registry, Row


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
        "confidence": _row("confidence:Confidence", "static", "none", "probabilities", "The most confident backbone answers."),
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
