"""Ask whether attention may be quantized: by the error of the network's outputs with it in INT8 and without.

A product of queries and keys with outliers, which levels for a whole tensor are too coarse for, shows in no error of
its own: what counts is what Softmax makes of it.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from calib.corrections.candidate import Candidate
from calib.corrections.scoring import Scorer
from calib.graph.attention import Attention
from calib.runtime.isa import LIMIT, cpu, exact_int8

# What attention in INT8 may take off the network's SQNR on held-out samples.
MOST_DB = 2.0


def attention_costs(candidate: Candidate, score: float, attention: Attention, scorer: Scorer) -> dict[str, str]:
    """Return layers of attention that stay in floating point, with the reason: figures and the CPU; none if all may go.

    The sums of values alone are left out if that is enough, else the scores as well.

    Args:
        candidate: Candidate with attention in INT8.
        score: Its SQNR in dB.
        attention: Layers of attention in its plan.
        scorer: Scorer on the held-out samples.
    """

    def without(layers: Collection[str]) -> float:
        bare = candidate.without(dict.fromkeys(layers, "left out to see what it costs"))
        return scorer.score(bare.executable()).score

    best = without(attention.layers)
    if not best - score > MOST_DB:
        return {}
    left = attention.layers
    if attention.sums and attention.scores and best - without(attention.sums) <= MOST_DB:
        left = attention.sums
    exact = exact_int8(cpu(), os.environ.get(LIMIT, ""))
    where = "a CPU with VNNI" if exact else "a CPU without VNNI, where sums of INT8 products saturate"
    reason = (
        f"with attention in INT8 the network's outputs are at {score:.1f} dB on held-out samples and at {best:.1f} dB "
        f"without, more than {MOST_DB:g} dB apart (measured on {where})"
    )
    return dict.fromkeys(sorted(left), reason)
