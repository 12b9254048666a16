"""What an ear has heard, on the axis of what the mouth said: delay, first sound, quality. Signals are arrays at 16 kHz, full scale 1."""
import math

import numpy as np
from scipy.signal import correlate, resample_poly

from .paths import SPEECH
from .speech import CUTS

RATE = 16000
FULL_SCALE = 32768
SILENT = 1e-3                # RMS of what holds no speech to look for


def spoken(name):
    """What a mouth says, from its file's beginning."""
    return np.fromfile(SPEECH / f'{name}.{RATE}.raw', dtype='<i2').astype(np.float64) / FULL_SCALE


def heard(folder, begin, end):
    """What came out of a party's loudspeaker between two times (CLOCK_MONOTONIC, ns)."""
    result = np.zeros(int((end - begin) * RATE / 1e9) + 1)
    for index in sorted(folder.glob('spk-*.idx')):
        words = index.read_text().split()
        if len(words) < 3:
            continue                            # the phone was stopped while it began
        rate, channels, start = map(int, words[:3])
        samples = np.fromfile(index.with_suffix('.raw'), dtype='<i2').astype(np.float64) / FULL_SCALE
        if len(samples) < channels:
            continue
        samples = samples[:len(samples) // channels * channels].reshape(-1, channels)[:, 0]
        if rate != RATE:
            divisor = math.gcd(rate, RATE)
            samples = resample_poly(samples, RATE // divisor, rate // divisor)
        at = int(round((start - begin) * RATE / 1e9))
        first, last = max(at, 0), min(at + len(samples), len(result))
        if last > first:
            result[first:last] += samples[first - at:last - at]
    return result


def lag(said, ear):
    """By how much `said` comes later in `ear`, which begins at the same time and is longer: (s, height of the peak, 0 to 1).

    (None, 0) if nothing is said."""
    if np.sqrt((said ** 2).mean()) < SILENT:
        return None, 0
    products = correlate(ear, said, 'valid', 'fft')
    energy = np.cumsum(np.r_[0, ear ** 2])
    energy = energy[len(said):] - energy[:-len(said)]
    heights = np.abs(products / np.sqrt(np.maximum(energy, 1e-9) * (said ** 2).sum()))
    best = int(heights.argmax())
    return best / RATE, heights[best]


def delays(said, ear, window=.8, hop=.4, longest=1.5, least=.45):
    """Mouth to ear in windows of what was said: a list of (s into `said`, ms). `ear` is `longest` s longer.

    Windows whose correlation stays below `least` are left out."""
    result, size, reach = [], int(window * RATE), int(longest * RATE)
    for at in range(0, len(said) - size, int(hop * RATE)):
        delay, height = lag(said[at:at + size], ear[at:at + size + reach])
        if delay is not None and height >= least:
            result.append((at / RATE, delay * 1000))
    return result


def first_sound(said, ear, longest, audible=.002, least=.5):
    """The first time in `ear`, s, at which the other party's speech is heard, or None. `said` begins `longest` s before `ear`.

    10 ms must be audible, and 240 ms from there on have a correlation above `least` with something that was said by then."""
    step, size, reach = int(.01 * RATE), int(.24 * RATE), int(longest * RATE)
    for at in range(0, len(ear) - size, step):
        if np.sqrt((ear[at:at + step] ** 2).mean()) < audible:
            continue
        _, height = lag(ear[at:at + size], said[at:at + reach + size])
        if height > least:
            return at / RATE
    return None


def quality(said, ear):
    """Scores of the reference as it was heard; both signals are as long as it and begin together.

    pesq_wb     P.862.2 as in the package `pesq`; 1.0 if it cannot judge
    pesq_wb_c2  P.862.2 with corrigendum 2, which maps the same to more
    stoi        intelligibility
    plcmos      what listeners would say of the concealment (PLCMOS v2), without the reference; of the whole, the others of each part"""
    import pesq
    import pesqc2
    from pystoi import stoi
    scores = {
        'pesq_wb': (1.0, lambda x, y: pesq.pesq(RATE, x, y, 'wb')),
        'pesq_wb_c2': (1.0, lambda x, y: pesqc2.pesq(RATE, x, y, 'wb')),
        'stoi': (0.0, lambda x, y: stoi(x, y, RATE)),
    }
    result = {}
    for name, (worst, score) in scores.items():
        result[name] = float(np.mean([attempt(score, worst, *part) for part in parts(said, ear)]))
    result['plcmos'] = plcmos(ear)
    return result


def sections(said, ear):
    """P.862.2 of each part of the reference."""
    import pesq
    return [attempt(lambda x, y: pesq.pesq(RATE, x, y, 'wb'), 1.0, *part) for part in parts(said, ear)]


def parts(said, ear):
    """The parts of the reference, and what was heard of each."""
    cuts = [int(second * RATE) for second in CUTS]
    return [(said[a:b], ear[a:b]) for a, b in zip(cuts, cuts[1:])]


def attempt(score, worst, said, ear):
    """A score, or the worst one where there is nothing to judge, as the packages say by exceptions of many kinds."""
    try:
        return float(score(said, ear))
    except Exception:
        return worst


def plcmos(ear):
    from speechmos import plcmos as package
    peak = np.abs(ear).max()
    try:
        return float(package.run(ear / peak * .5 if peak > 0 else ear, sr=RATE)['plcmos'])
    except Exception:
        return None
