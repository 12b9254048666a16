"""`cargo xtask bench onset`: the voice engine alone over networks that become bad during a call, in virtual time, scored by PESQ.

The moment is that of the bench of telephones: a clean call of five seconds, then the network, 0.3 s later the reference. What is
measured is the engine: no device, no clock, no socket, no processing. The same program gives the same figures.
"""
import json
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from . import hearing, speech
from .call import LEAD_SECONDS
from .paths import PROGRAMS, SPEECH

TALK_SECONDS = 5.23          # of dense speech and silence before the reference
TAIL_SECONDS = 3
# Limit of PESQ-WB and of mouth to ear, ms, of each.
NETWORKS = {
    'clean-0': (4.4, 95), 'loss-5': (4.3, 130), 'loss-10': (4.2, 130), 'loss-20': (4.0, 170), 'loss-30': (3.7, 170),
    'burst-10': (3.8, 220), 'jit-30': (None, 125), 'rate-48': (3.5, None),
}
ENGINE_RATE = 48000


def bench(count, only, jobs, as_json):
    """Prints a table and the closing line."""
    names = [name for name in NETWORKS if not only or any(part in name for part in only.split(','))]
    with tempfile.TemporaryDirectory() as folder:
        said, mouth = speech_of(Path(folder))
        runs = [(PROGRAMS / 'offhook-trial', mouth, len(said) / hearing.RATE, f'{name}-{seed}', folder) for name in names for seed in range(1, count + 1)]
        with ThreadPoolExecutor(jobs) as pool:
            results = list(pool.map(lambda run: one(said, *run), runs))
    if as_json:
        print(json.dumps(results))
    figures = []
    print(f'{"network":10} {"calls":>5} {"pesq_wb":>8} {"worst":>6} {"limit":>6} {"by section":>18} {"m2e_ms":>7} {"longest":>8} {"limit":>6} {"kbit_s":>7}')
    for name in names:
        rows = [result for result in results if result['name'].startswith(name + '-')]
        score, delay, rate = (float(np.mean([row[what] for row in rows])) for what in ('pesq', 'm2e', 'kbit'))
        sections = ' '.join(f'{value:.2f}' for value in np.mean([row['sections'] for row in rows], 0))
        limits = ['' if limit is None else f'{limit}' for limit in NETWORKS[name]]
        print(f'{name:10} {len(rows):5} {score:8.2f} {min(row["pesq"] for row in rows):6.2f} {limits[0]:>6} {sections:>18} '
              f'{delay:7.0f} {max(row["m2e"] for row in rows):8.0f} {limits[1]:>6} {rate:7.1f}')
        key = name.replace('-', '')
        figures += [f'pesq_{key}={score:.2f}', f'm2e_{key}={delay:.0f}', f'kbit_{key}={rate:.1f}']
    print('onset:', ' '.join(figures))


def speech_of(folder):
    """What is said (16 kHz), and the same as a WAV file of the engine's rate."""
    skip = speech.REFERENCE_AT - TALK_SECONDS
    said = hearing.spoken('mouth')[int(skip * hearing.RATE):]
    raw = np.fromfile(SPEECH / f'mouth.{ENGINE_RATE}.raw', dtype='<i2')[int(skip * ENGINE_RATE):]
    path = folder / 'mouth.wav'
    soundfile.write(path, raw, ENGINE_RATE, subtype='PCM_16')
    return np.r_[said, np.zeros(TAIL_SECONDS * hearing.RATE)], path


def one(said, program, mouth, seconds, network, folder):
    from scipy.signal import resample_poly
    begin = int((TALK_SECONDS - LEAD_SECONDS) * 1000)
    command = [program, mouth, folder, '--seconds', str(int(seconds)), '--begin', str(begin), network]
    name, later, kbit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ear = resample_poly(np.fromfile(Path(folder) / f'{name}.f32', dtype='<f4').astype(float), 1, ENGINE_RATE // hearing.RATE)
    at, size = int(TALK_SECONDS * hearing.RATE), int(speech.REFERENCE_SECONDS * hearing.RATE)
    reference, ear = said[at:at + size], ear[at:]
    delay = float(np.median([delay for _, delay in hearing.delays(reference, ear)]))
    sections = hearing.sections(reference, ear[int(delay / 1000 * hearing.RATE):][:size])
    return {'name': name, 'pesq': float(np.mean(sections)), 'sections': sections, 'm2e': delay + float(later), 'kbit': float(kbit)}
