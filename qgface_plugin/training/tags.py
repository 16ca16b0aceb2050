"""Names of a run's numbers in TensorBoard and in the services that get the same: `loss/...`, `quality/...` and so on.

What stands behind the slash is the name in metrics.jsonl.
"""

from __future__ import annotations

_GROUPS = {
    "loss": ("loss", "classification", "contrastive", "pull"),
    "queue": ("queue_fill", "queue_drift", "negative_cosine", "hardest_cosine"),
    "speed": ("samples_per_second", "data_stall", "learning_rate"),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}


def tag_of(name: str) -> str:
    """The tag of a number of the training steps; what is of no other group tells about the quality of the views.

    Example:
        >>> tag_of("loss"), tag_of("queue_drift"), tag_of("lq_share_pair"), tag_of("u")
        ('loss/loss', 'queue/queue_drift', 'quality/lq_share_pair', 'quality/u')
    """
    return f"{_GROUP_OF.get(name, 'quality')}/{name}"


def verification_tag(name: str) -> str:
    """The tag of the accuracy on a verification set.

    Example:
        >>> verification_tag("lfw")
        'verification/lfw'
    """
    return f"verification/{name}"
