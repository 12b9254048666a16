"""The virtual sound card: speech goes in, is written to the loudspeaker with a delay that is known, and comes out as much later."""
import os
import subprocess

import numpy as np

from .. import hearing
from ..paths import LOOPBACK, RUNS
from ..process import PHONES, now, set_priority
from ..sound import Party
from . import expect

SECOND = 1_000_000_000
# Frames of a period, frames of silence before, Hz.
CASES = ((480, 480, 48000), (960, 1920, 48000), (160, 320, 16000), (240, 240, 48000))


def check():
    for period, prefill, rate in CASES:
        party = Party(RUNS / 'check', 'reference')
        began = now() + SECOND // 5
        party.speak(began)
        argv = [LOOPBACK, str(period), str(prefill), '8', str(rate)]
        loopback = subprocess.Popen(argv, env={**os.environ, **party.env}, stderr=subprocess.PIPE, text=True,
                                    start_new_session=True)
        set_priority(loopback.pid, PHONES)
        _, errors = loopback.communicate()
        expect(loopback.returncode == 0, errors + ' (a busy machine?)')
        ear = hearing.heard(party.dir, began, began + int(9.5 * SECOND))
        said = hearing.spoken('reference')[:int(7.5 * hearing.RATE)]
        found = [delay for _, delay in hearing.delays(said, ear)]
        starts = [int(line.split()[0]) for line in (party.dir / 'dev.log').read_text().splitlines()]
        expected = (starts[1] - starts[0]) / 1e6 + prefill / rate * 1000
        print(f'period {period / rate * 1e3:.0f} ms, prefill {prefill / rate * 1e3:.0f} ms: expected {expected:.3f} ms, '
              f'median {np.median(found):.3f}, spread {max(found) - min(found):.3f}, {len(found)} windows', flush=True)
        # One sample at 16 kHz, by which the ear is compared.
        expect(abs(np.median(found) - expected) <= .0626 and max(found) - min(found) <= .0626, found)
        expect(party.xruns() == 0, 'under- or overruns: is the machine busy?')
