"""Start a smaller network from the weights of a larger one.

    python scripts/shrink.py LARGE SMALL

``LARGE`` is a checkpoint of the default configuration, ``SMALL`` gets one of three quarters its size for ``train.py
--init``: of each block the weights of the intervals it still looks at, and the inner channels that count most; what
the fine stem saw in columns that are no longer computed, it expects in the one before. It needs training, best with
``--teacher LARGE``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from network import Network, load_network
from shared import errors_in_one_line
from torch import Tensor

SMALL = {
    "inner": 32,
    "intervals": (
        (12, -12, 19, -19, 24, -24, 28, -28),
        (12, -12, 19, -19, 28, -28, 31, -31),
        (12, -12, 19, -19, 24, -24, 34, -34),
    ),
    "every": 4,
    "bins": 264,
}


def shrink(large: Network, small: Network) -> None:
    """Give ``small`` what fits of the weights of ``large``.

    Raises
    ------
    ValueError
        If ``large`` has not all that ``small`` needs.
    """
    weights = large.state_dict()
    for i, shifts in enumerate(small.config["intervals"]):
        name, theirs = f"blocks.{i}.mix.0.weight", large.config["intervals"][i]
        if not set(shifts) <= set(theirs):
            raise ValueError(f"block {i} of the larger network does not look at all of the intervals {shifts}")
        mix = weights[name].unflatten(1, (-1, len(theirs)))
        weights[name] = mix[:, :, [theirs.index(shift) for shift in shifts]].flatten(1, 2)
        inner = f"blocks.{i}.local"
        best = influence(weights, inner).argsort(descending=True)[: small.config["inner"]].sort().values
        for key, value in weights.items():
            if key.startswith((f"{inner}.0.0", f"{inner}.0.1")) and value.ndim:
                weights[key] = value[best]
        weights[f"{inner}.1.0.weight"] = weights[f"{inner}.1.0.weight"][:, best]
    stem = weights["fine_stem.0.weight"]
    weights["fine_stem.0.weight"] = stem.unflatten(3, (-1, small.every // large.every)).sum(4)
    small.load_state_dict(weights)


def influence(weights: dict[str, Tensor], local: str) -> Tensor:
    """How much each inner channel of a block adds: spread, if normally distributed before the ReLU, times weights."""
    gain, bias = weights[f"{local}.0.1.weight"], weights[f"{local}.0.1.bias"]
    samples = torch.randn(len(gain), 4000, generator=torch.Generator().manual_seed(0))
    spread = torch.relu(bias[:, None] + gain[:, None] * samples).std(1)
    return weights[f"{local}.1.0.weight"].square().sum((0, 2, 3)).sqrt() * spread


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("large", type=Path)
    parser.add_argument("small", type=Path)
    args = parser.parse_args()
    large, small = load_network(args.large), Network(**SMALL)
    shrink(large, small)
    state = small.state_dict()
    torch.save({"config": small.config, "network": state, "ema": state}, args.small)
    sizes = (sum(p.numel() for p in net.parameters()) for net in (large, small))
    print("{} parameters, now {}".format(*sizes))


if __name__ == "__main__":
    main()
