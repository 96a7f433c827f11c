"""Average the weights of checkpoints that began with the same ones.

    python scripts/average.py OUT.pt CHECKPOINT=SHARE CHECKPOINT=SHARE ...

What single stages of training gain and lose by chance evens out, what all of them learnt stays (Wortsman et al., "Model
soups", ICML 2022). Shares are made to add up to one. Of each checkpoint its moving average is taken; OUT.pt is for
export.py, and for ``train.py --init``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from network import load_network
from shared import errors_in_one_line

from basic_transcribe.errors import UsageError


def part(text: str) -> tuple[Path, float]:
    """A checkpoint and its share, for argparse."""
    path, _, share = text.rpartition("=")
    if not path or not 0 < float(share) < math.inf:
        raise ValueError(text)
    return Path(path), float(share)


def average(parts: list[tuple[Path, float]]) -> dict[str, object]:
    """A checkpoint with the mean of their weights.

    Raises
    ------
    UsageError
        If they are no checkpoints, or of different networks.
    """
    networks, whole = [load_network(path) for path, _ in parts], sum(share for _, share in parts)
    first = networks[0]
    for (path, _), network in zip(parts, networks, strict=True):
        if network.config != first.config:
            raise UsageError(f"{path}: its network is another than that of {parts[0][0]}; average those of one network")
    states = [(network.state_dict(), share / whole) for network, (_, share) in zip(networks, parts, strict=True)]
    mean = {
        name: sum(share * state[name].double() for state, share in states).to(value.dtype)
        for name, value in first.state_dict().items()
    }
    return {"config": first.config, "network": mean, "ema": mean}


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.pt")
    parser.add_argument("parts", type=part, nargs="+", metavar="CHECKPOINT=SHARE")
    args = parser.parse_args()
    torch.save(average(args.parts), args.out)


if __name__ == "__main__":
    main()
