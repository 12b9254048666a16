"""Makes what is said: real speech, from the five LibriVox samples of Debian's package pocketsphinx-testdata (public domain).

    reference   27.2 s: the samples at about -26 dBov, 0.4 s of silence after each; by it delay and quality are measured
    mouth       19.2 s of the same speech without its pauses, while a call is set up: the first sound is found at once
                whenever it comes; 1 s of silence; the reference
    mouth-b     the same with both parts turned by half: what the other party says at the same time

Each is written as SPEECH/NAME.RATE.raw (S16LE, mono) for every rate of the virtual card.
"""
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from .paths import SPEECH

SOURCE = '/usr/share/pocketsphinx/test/data/librivox'
RATE = 16000
CARD_RATES = (8000, 16000, 24000, 32000, 44100, 48000)

DENSE_SECONDS = 19.23
REFERENCE_AT = 20.23         # s into a mouth file: dense speech, and 1 s of silence
REFERENCE_SECONDS = 27.23
# Where the reference may be cut for scores of 8 to 10 s each, s: in the silence between two samples.
CUTS = (0.0, 8.05, 17.45, 27.2)

LEAD_SECONDS, PAUSE_SECONDS = 0.5, 0.4
LEVEL = 10 ** (-26 / 20)     # RMS of what is not silence
AUDIBLE = 0.01               # samples above this count for the level
FRAME = RATE // 100
FRAME_AUDIBLE = 0.008        # RMS of a frame that is kept in dense speech


def read_samples(folder):
    parts = [np.zeros(int(LEAD_SECONDS * RATE))]
    for path in sorted(Path(folder).glob('*.wav')):
        samples, rate = soundfile.read(path)
        assert rate == RATE, f'{path}: {rate} Hz'
        parts += [samples - samples.mean(), np.zeros(int(PAUSE_SECONDS * RATE))]
    speech = np.concatenate(parts)
    return speech * LEVEL / np.sqrt(np.mean(speech[np.abs(speech) > AUDIBLE] ** 2))


def without_pauses(speech):
    frames = speech[:len(speech) // FRAME * FRAME].reshape(-1, FRAME)
    loud = np.sqrt((frames ** 2).mean(1)) > FRAME_AUDIBLE
    return frames[loud].reshape(-1)[:int(DENSE_SECONDS * RATE)]


def half_turn(samples):
    return np.roll(samples, len(samples) // 2)


def write(name, samples):
    wav = SPEECH / (name + '.wav')
    soundfile.write(wav, samples, RATE, subtype='PCM_16')
    for rate in CARD_RATES:
        raw = SPEECH / f'{name}.{rate}.raw'
        subprocess.run(['sox', '-D', wav, '-r', str(rate), '-t', 'raw', '-e', 'signed', '-b', '16', '-c', '1', raw], check=True)


def main():
    SPEECH.mkdir(parents=True, exist_ok=True)
    reference = read_samples(SOURCE)
    dense = without_pauses(reference)
    silence = np.zeros(RATE)
    write('reference', reference)
    write('mouth', np.concatenate([dense, silence, reference]))
    write('mouth-b', np.concatenate([half_turn(dense), silence, half_turn(reference)]))
    (SPEECH / 'complete').write_text('')


if __name__ == '__main__':
    sys.exit(main())
