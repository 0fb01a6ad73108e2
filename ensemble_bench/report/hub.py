"""A strategy's rows as ``model-index`` metadata, the head of a model card on the Hugging Face Hub. Nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensemble_bench.errors import BadOption

NAMES = {
    "acc1": ("accuracy", "Accuracy"),
    "acc5": ("accuracy", "Top-5 accuracy"),
    "mean_per_class_recall": ("recall", "Mean per-class recall"),
}


def model_index(rows: Sequence[dict[str, Any]], strategy: str, pool: Sequence[str], version: str) -> str:
    """A model card's head (YAML between two lines of dashes) with every accuracy and recall of one strategy on every task."""
    from huggingface_hub import EvalResult, ModelCardData

    mine = [row for row in rows if row["strategy"] == strategy and not row["task"].startswith("mean(")]
    if not mine:
        there = ", ".join(dict.fromkeys(row["strategy"] for row in rows))
        raise BadOption(f"there is no strategy {strategy!r} in these results: name one with --strategy, of {there}.")
    results = []
    for row in mine:
        if row["metric"] not in NAMES or row["value"] is None:
            continue
        kind, title = NAMES[row["metric"]]
        bounds = None if row["ci_low"] is None else {"ci_low": row["ci_low"], "ci_high": row["ci_high"], "level": 0.95}
        results.append(
            EvalResult(
                task_type="zero-shot-image-classification" if not row["shots"] else "image-classification",
                dataset_type=row["task"],
                dataset_name=row["task"] + ("" if row["condition"] == "clean" else f" ({row['condition']})"),
                dataset_config=row["condition"],
                dataset_split="test",
                metric_type=kind,
                metric_name=title if not row["shots"] else f"{title}, {row['shots']} label{'s' * (row['shots'] > 1)} per class",
                metric_value=row["value"],
                metric_args=bounds,
            )
        )
    card = ModelCardData(
        model_name=f"{strategy} of {len(pool)} backbones",
        tags=["clip", "ensemble", "zero-shot-image-classification", "ensemble-bench"],
        eval_results=results,
        ensemble={"strategy": strategy, "pool": list(pool), "tool": f"ensemble-bench {version}"},
    )
    return f"---\n{card.to_yaml()}\n---\n"
