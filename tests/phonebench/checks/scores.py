"""What measures, against signals of which is known what they are. No network, no sound card."""
import numpy as np

from .. import hearing, speech
from . import expect

RATE = hearing.RATE


def check():
    said = hearing.spoken('reference')[:int(speech.REFERENCE_SECONDS * RATE)]
    the_same(said)
    later(said)
    longer_delay_in_between(said)
    noise(said)
    gaps(said)
    somebody_else(said)
    first_sound(said)


def scores_of(name, said, ear):
    scores = hearing.quality(said, ear)
    print(f'{name:24}', {key: round(value, 2) for key, value in scores.items()}, flush=True)
    return scores


def padded(samples, before, after=1.5):
    return np.r_[np.zeros(int(before * RATE)), samples, np.zeros(int(after * RATE))]


def the_same(said):
    scores = scores_of('the same', said, said)
    expect(abs(scores['pesq_wb'] - 4.64) < .01 and abs(scores['pesq_wb_c2'] - 4.64) < .01, scores)
    expect(scores['stoi'] > .999 and scores['plcmos'] > 4, scores)


def later(said):
    for delay in (0, .02, .123, .8):
        found = [ms for _, ms in hearing.delays(said, padded(said, delay))]
        print(f'later by {delay * 1000:.0f} ms: found {min(found):.2f} to {max(found):.2f} in {len(found)} windows', flush=True)
        expect(len(found) > 50 and max(abs(ms - delay * 1000) for ms in found) < .1, found)


def longer_delay_in_between(said):
    """A buffer that grows in the middle is seen where it does."""
    half = len(said) // 2
    grown = np.r_[said[:half], np.zeros(int(.1 * RATE)), said[half:], np.zeros(int(1.5 * RATE))]
    found = hearing.delays(said, grown)
    print(f'0 ms at first, 100 ms at last: found {found[0][1]:.2f} and {found[-1][1]:.2f}', flush=True)
    expect(abs(found[0][1]) < .1 and abs(found[-1][1] - 100) < .1, found)


def noise(said):
    """The more of it, the worse; and the delay is found in it."""
    hiss = np.random.default_rng(1).normal(0, 1, len(said))
    level = np.sqrt((said ** 2).mean())
    before = 5
    for decibels in (40, 25, 10):
        noisy = said + hiss * level * 10 ** (-decibels / 20)
        scores = scores_of(f'noise {decibels} dB below', said, noisy)
        expect(scores['pesq_wb'] < before, scores)
        before = scores['pesq_wb']
    expect(before < 2, before)
    found = [ms for _, ms in hearing.delays(said, padded(noisy, .05))]
    expect(abs(np.median(found) - 50) < .1, found)


def gaps(said):
    """Packets of 20 ms replaced by silence."""
    random, frame = np.random.default_rng(2), RATE // 50
    before = 5
    for share in (.02, .1, .3):
        broken = said.copy()
        for at in range(0, len(said) - frame, frame):
            if random.random() < share:
                broken[at:at + frame] = 0
        scores = scores_of(f'{share:.0%} of packets missing', said, broken)
        expect(scores['pesq_wb'] < before, scores)
        before = scores['pesq_wb']
    expect(before < 1.3, before)


def somebody_else(said):
    other = np.roll(said, len(said) // 2)
    scores = scores_of('somebody else', said, other)
    expect(scores['pesq_wb'] < 1.5, scores)
    expect(len(hearing.delays(said, padded(other, .05))) < 5, 'no delay is to be found')
    silence = hearing.quality(said, np.zeros(len(said)))
    expect(silence['pesq_wb'] < 1.2 and not hearing.delays(said, padded(said * 0, 0)), silence)


def first_sound(said):
    dense = hearing.spoken('mouth')[:int(10 * RATE)]
    for at in (.05, .31, 1.2):
        ear = np.r_[np.zeros(int(at * RATE)), dense[int((at + .4) * RATE):int(4 * RATE)], np.zeros(RATE)]
        # Heard 100 ms after it was said; the ear begins half a second into what is said.
        found = hearing.first_sound(np.r_[np.zeros(RATE), dense][int(.5 * RATE):int(6 * RATE)], ear, 1.0)
        print(f'first sound after {at * 1000:.0f} ms: found {found * 1000:.0f}', flush=True)
        expect(abs(found - at) <= .03, found)
    expect(hearing.first_sound(dense, np.zeros(2 * RATE), 1.0) is None, 'silence is no sound')
