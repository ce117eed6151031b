"""The text of a ranking's page: definitions of its columns, and its facts."""

from __future__ import annotations

from torchvice.measures.rank import Ranking, ranking_label
from torchvice.measures.reduced import MEASURES
from torchvice.report.page.definitions import definitions_of

__all__ = ["RANK_SET", "facts_of_ranking", "ranking_definitions"]

RANK_SET = (
    "A rank set holds every rank that the data leave open for a model: with a probability of 95 %, the sets of all "
    "models hold the true ranks at once."
)
_OTHERS = {
    "rank.set": ("Rank set", f"{RANK_SET} A pair of models whose order is not established widens the sets of both."),
    "rank.alone": (
        "Rank set of one model",
        "The 95 % set for a model that was chosen before the numbers were known. It is narrower, and does not hold for "
        "all models at once.",
    ),
    "rank.rank": ("Rank", "The place by the estimate, 1 is the best. Equal estimates share the best of their ranks."),
    "rank.interval": (
        "Interval",
        "Below a number: a 95 % interval that holds for all models at once, from the same resampled images.",
    ),
    "rank.given": (
        "VICE given accuracy",
        "VICE less what accuracy predicts over these models (least squares: a straight line, from 30 models a natural "
        "cubic spline). Above 0, certainty and map agree more than accuracy suggests. Established where the interval, "
        "which holds for all models at once, is without 0.",
    ),
    "rank.front": (
        "Pareto front",
        "The models that no other one beats: none is as good in accuracy and VICE and better in one. The share says in "
        "how many of the resamplings a model is on the front.",
    ),
    "rank.top": (
        "The best K",
        "The models that cannot be excluded from the best K: with a probability of 95 % all true ones are among them. "
        "A model is surely among the best K where its whole rank set is.",
    ),
    "rank.loss": ("Loss", "The mean loss over images, nats. Lower is better."),
}


def definition_key(measure: str, protocol: str) -> str:
    """The key of a measure's definition."""
    if measure == "loss":
        return "rank.loss"
    if (measure, protocol) == ("mean_average_precision", "paper"):
        return "classification.mean_average_precision"
    return f"{protocol}.{measure}"


def ranking_definitions(ranking: Ranking) -> dict[str, tuple[str, str]]:
    """Name and meaning of every term of the page."""
    keys = [definition_key(measure, ranking.protocol) for measure in MEASURES]
    exclusive = ranking.accuracy == "ml_accuracy"  # else mAP, see `torchvice.measures.rank`
    definitions = definitions_of("ji", exclusive)
    return {**_OTHERS, **{key: definitions[key] for key in keys if key not in _OTHERS}}


def facts_of_ranking(ranking: Ranking) -> list[tuple[str, str]]:
    """What the page says beside the sentences."""
    count = len(ranking.ranked)
    linear = [ranking_label(name, ranking.protocol) for name, how in ranking.bootstrap.items() if how == "linear"]
    facts = [
        ("Models with a rank", f"{count:,} of {len(ranking.models) + len(ranking.left_out):,}"),
        ("Ranked by", ranking_label(ranking.by, ranking.protocol)),
        ("Images", f"{ranking.images:,}, {ranking.masked:,} with a mask"),
        *([("True pairs", f"{ranking.pairs:,}")] if ranking.pairs else []),
        ("Pairs of models told apart", f"{ranking.told_apart:,} of {count * (count - 1) // 2:,}"),
        ("Resamplings", f"{ranking.replicates:,}, seed {ranking.seed}"),
        ("Replicates", f"linear: {', '.join(linear)}" if linear else "exact"),
    ]
    return facts
