"""Learning rates: functions of the step alone, so that resuming needs no state."""

import math

from training.config import Config

# The paper's steps (those of Keras' example for ResNet): from an epoch on, counted from 1, the rate is times a factor.
STEPS = ((181, 0.5e-3), (161, 1e-3), (121, 1e-2), (81, 1e-1), (1, 1.0))


def learning_rate(config: Config, step: int, steps: int) -> float:
    """Give the rate of a step (from 0) of a run of that many by the config's schedule."""
    if config.schedule == "steps":
        epoch = step * config.epochs // steps + 1
        return config.peak_learning_rate * step_factor(epoch)
    return _cosine(config, step, steps)


def step_factor(epoch: int) -> float:
    """Give the paper's factor in an epoch, counted from 1. Its steps stay where they are in a shorter run."""
    return next(factor for start, factor in STEPS if epoch >= start)


def _cosine(config: Config, step: int, steps: int) -> float:
    """Rise in a line to the peak, then fall along half a cosine to zero."""
    warmup = max(1, round(config.warmup_share * steps))
    if step < warmup:
        return config.peak_learning_rate * (step + 1) / warmup
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
