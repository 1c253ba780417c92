"""The working-memory tasks as scripts (Rombouts, Bohte & Roelfsema 2015), one generator a trial.

``next(script)`` gives the first ``(observation, reward, done)``, ``script.send(action)`` the next.
What is random is handed in.
"""

import math

import numpy as np

FIXATE, LEFT, RIGHT = 0, 1, 2


def trial(mark, held, go, payoff, fixation_reward=0.2, restart=False):
    """Blank, fixate within 10 and hold two steps, see ``held``, then respond to ``go`` within 8."""
    blank = np.zeros_like(mark)
    yield blank, 0, False
    fixated = 0
    step = 0
    while fixated < 2:
        step += 1
        action = yield mark, 0, False
        if action == FIXATE:
            fixated += 1
            continue
        if step >= 10 or (fixated and not restart):
            yield blank, 0, True
            return
        fixated = 0
    reward = fixation_reward
    for picture in held:
        action = yield picture, reward, False
        reward = 0
        if action != FIXATE:
            yield blank, 0, True
            return
    for _ in range(8):
        action = yield go, 0, False
        if action != FIXATE:
            yield blank, payoff(action), True
            return
    yield blank, 0, True


def saccade(kind, **options):
    """Kind: 0 pro left, 1 pro right, 2 anti left, 3 anti right."""
    anti, right = kind >= 2, kind % 2 == 1
    mark = np.array([0, 1, 0, 0]) if anti else np.array([1, 0, 0, 0])
    cue = np.array([0, 0, 0, 1]) if right else np.array([0, 0, 1, 0])
    answer = {(0, 0): LEFT, (0, 1): RIGHT, (1, 0): RIGHT, (1, 1): LEFT}[anti, right]
    pictures = [mark + cue, mark, mark]
    return answer, trial(
        mark, pictures, np.zeros(4), lambda a: 1.5 if a == answer else 0, **options
    )


def direction_rates(degrees):
    """Twenty Gaussian units, sd 12°, on a circle."""
    rates = []
    for unit in range(20):
        apart = abs(degrees - 18 * unit) % 360
        apart = min(apart, 360 - apart)
        rates.append(math.exp(-(apart**2) / (2 * 12**2)))
    return rates


def match_to_category(first, second, shown, **options):
    """Directions 15°, 45°, …; the first six make one category."""
    mark = np.array([1.0] + [0.0] * 20)
    pictures = [np.array([1.0, *direction_rates(shown[0])]), mark, mark]
    go = np.array([1.0, *direction_rates(shown[1])])
    answer = LEFT if (first in range(6)) == (second in range(6)) else RIGHT
    return answer, trial(mark, pictures, go, lambda a: 1.5 if a == answer else 0, **options)


def vibration_rates(frequency, noise, additive=False):
    """Ten rising, then ten falling sigmoids; the noise is 7.5 % of each rate, or of the highest."""
    centers = [5.5 + 44 * k / 9 for k in range(10)]
    rates = [1 / (1 + math.exp(-5 * (frequency - c))) for c in centers]
    rates += [1 / (1 + math.exp(5 * (frequency - c))) for c in centers]
    if additive:
        return [rate + 0.075 * n for rate, n in zip(rates, noise, strict=True)]
    return [rate * (1 + 0.075 * n) for rate, n in zip(rates, noise, strict=True)]


def vibrotactile(frequencies, jitter, additive=False, **options):
    """Left if the second vibration is slower."""
    mark = np.array([1.0] + [0.0] * 20)
    first, go = (
        np.array([1.0, *vibration_rates(f, n, additive)])
        for f, n in zip(frequencies, jitter, strict=True)
    )
    pictures = [first, mark, mark]
    answer = LEFT if frequencies[1] < frequencies[0] else RIGHT
    return answer, trial(mark, pictures, go, lambda a: 1.5 if a == answer else 0, **options)


SYMBOLS = (math.inf, -math.inf, 0.9, -0.9, 0.7, -0.7, 0.5, -0.5, 0.3, -0.3)


def probability_red(symbols):
    """P(red) of the symbols shown; opposite infinities cancel."""
    weights = [SYMBOLS[s] for s in symbols]
    plus, minus = weights.count(math.inf), weights.count(-math.inf)
    if plus != minus:
        return 1.0 if plus > minus else 0.0
    tenths = sum(round(10 * w) for w in weights if math.isfinite(w))
    return 10 ** (tenths / 10) / (1 + 10 ** (tenths / 10))


def probabilistic(
    symbols,
    positions,
    red_right,
    bait,
    symbols_stay="delay",
    targets_stay="delay",
    **options,
):
    """One symbol a step, all on until the end of the delay; then choose a color by its side."""
    mark = np.zeros(45)
    mark[0] = 1
    targets = np.zeros(45)
    for red, right in ((True, red_right), (False, not red_right)):
        targets[1 + (0 if red else 1) + (2 if right else 0)] = 1
    pictures = []
    scene = mark + targets
    for symbol, position in zip(symbols, positions, strict=True):
        scene = mark + targets if symbols_stay == "step" else scene.copy()
        scene[5 + 10 * position + symbol] = 1
        pictures.append(scene)
    pictures += 2 * [scene if symbols_stay == "delay" else mark + targets]
    go = targets if targets_stay == "response" else np.zeros(45)
    probability = probability_red(symbols)
    baited_right = (bait < probability) == red_right
    answer = RIGHT if (probability > 0.5) == red_right else LEFT

    def payoff(action):
        return 1.5 if (action == RIGHT) == baited_right else 0

    return answer, trial(mark, pictures, go, payoff, **options)
