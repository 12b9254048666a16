"""One call: set up, spoken, measured. README.md has the course of it."""
import os
import time

import numpy as np
import soundfile

from . import hearing, phones, speech
from .network import Network
from .process import BENCH, LATER, now, set_priority, stop_all, usage
from .sound import Party

# What the network does to both directions of the media while the reference is spoken; see native/linkem.c.
CONDITIONS = {
    'd0': '',
    'd50': 'delay=50',
    'loss5': 'delay=50 loss=5',
    'loss10': 'delay=50 loss=10',
    'loss20': 'delay=50 loss=20',
    'loss30': 'delay=50 loss=30',
    'burst10': 'delay=50 ge_loss=10 ge_burst=5',
    'jit30': 'delay=50 jitter=30',
    'jit30ro': 'delay=50 jitter=30 order=0',
    'jit30l10': 'delay=50 jitter=30 loss=10',
    # A second of queue: who sends more than passes hears by the delay.
    'rate48': 'delay=50 rate=48 qlen=1000',
}

RING_SECONDS = .7
SETTLE_SECONDS = 4           # after the answer; the first sound is looked for in it
LONGEST_FIRST_SOUND = 3.9    # s
LONGEST_M2E = 2.0            # s of ear after the reference
LEAD_SECONDS, TAIL_SECONDS = .3, 1.6
SECOND = 1_000_000_000


class Call:
    def __init__(self, phone, options, condition, seed, instance, label, folder, lossy_setup=False):
        self.phone, self.options, self.condition, self.label = phone, options, condition, label
        self.seed, self.instance, self.lossy_setup = seed, instance, lossy_setup
        self.folder = folder / f'{label}-{condition}-{seed}'
        self.rule = CONDITIONS[condition]
        # Through host s: half of the delay on each leg, and what is impaired is impaired before s.
        self.relayed = bool(options.get('relay'))
        self.legs = ('a>s', 'b>s', 's>a', 's>b') if self.relayed else ('a>b', 'b>a')
        self.record = {'label': label, 'peer': phone, 'cond': condition, 'seed': seed, 'opt': options,
                       'when': time.strftime('%H:%M:%S'), 'load1': os.getloadavg()[0]}

    def run(self):
        """Makes the call and answers all that was measured; `error` in it says why it failed."""
        set_priority(os.getpid(), BENCH)
        network = driver = None
        try:
            network = Network(self.instance, self.seed)
            self.a, self.b = Party(self.folder / 'a', 'mouth'), Party(self.folder / 'b', 'mouth-b')
            if self.condition != 'd0':
                network.command('set *>* delay=%d' % (25 if self.relayed else 50))
            driver = self.start_phones(network)
            self.set_up(network, driver)
            self.talk(network, driver)
            driver.hangup()
        except Exception as error:
            self.record['error'] = f'{type(error).__name__}: {error}'
        finally:
            self.stop(driver)
            if network:
                network.close()
        set_priority(os.getpid(), LATER)
        if 'error' not in self.record:
            self.record['dir'] = {'ab': self.judge('mouth', self.b, 'ab'), 'ba': self.judge('mouth-b', self.a, 'ba')}
            self.record.update(xrun_a=self.a.xruns(), xrun_b=self.b.xruns())
            for party in (self.a, self.b):
                party.forget_sound()
        return self.record

    def start_phones(self, network):
        began = time.time()
        driver = phones.load(self.phone)(network, self.a, self.b, self.options)
        self.record['start_s'] = time.time() - began
        for key in ('find_s', 'boot_s'):
            if hasattr(driver, key):
                self.record[key] = getattr(driver, key)
        return driver

    def set_up(self, network, driver):
        """From dialling until both have heard each other for a while, on the clean network."""
        if self.lossy_setup and self.rule:
            network.command('set *>* ' + self.rule)
        network.command('zero')
        self.spoken_from = now()
        self.a.speak(self.spoken_from)
        self.b.speak(self.spoken_from)
        dialled = driver.dial()
        self.record['dial_to_ring_ms'] = (driver.ring() - dialled) / 1e6
        time.sleep(RING_SECONDS)
        self.answered = driver.answer()
        self.record['answer_to_callerup_ms'] = (driver.up() - self.answered) / 1e6
        time.sleep(SETTLE_SECONDS)
        self.record['setup_bytes_server'] = of_server(network.counters(), 'in_bytes')

    def impair(self, network):
        if self.relayed and self.rule:
            rule = ' '.join(word for word in self.rule.split() if not word.startswith('delay'))
            network.command('set a>s delay=25 ' + rule)
            network.command('set b>s delay=25 ' + rule)
        elif self.rule:
            network.command('set a>b ' + self.rule)
            network.command('set b>a ' + self.rule)
        network.command('zero')

    def talk(self, network, driver):
        """Both say the reference at the same time."""
        self.impair(network)
        before, began = {role: usage(pid) for role, pid in driver.pids().items()}, time.time()
        reference_at = int(speech.REFERENCE_AT * SECOND)
        start = now() + int(LEAD_SECONDS * SECOND) - reference_at
        self.a.speak(start)
        self.b.speak(start)
        self.reference_from = start + reference_at
        time.sleep(LEAD_SECONDS + speech.REFERENCE_SECONDS + TAIL_SECONDS)
        after, lasted = {role: usage(pid) for role, pid in driver.pids().items()}, time.time() - began
        counters, sizes = network.counters(), network.command('sizes')
        per_minute = lambda role, what: round((after[role][what] - before[role][what]) / lasted * 60, 3)
        self.record.update(
            cpu_s_per_min={role: per_minute(role, 0) for role in after},
            rss_mib={role: round(used[1], 1) for role, used in after.items()},
            waited_s_per_min={role: per_minute(role, 2) for role in after},
            server_bytes=of_server(counters, 'in_bytes'), server_pkts=of_server(counters, 'in'),
            wall_s=round(lasted, 2),
            media={leg: of_leg(counters[leg], lasted) for leg in self.legs},
            sizes={leg: sizes[leg] for leg in self.legs},
        )

    def judge(self, mouth, listener, name):
        """What one ear made of the other's mouth."""
        result = {}
        said = hearing.spoken(mouth)
        reference_at = int(speech.REFERENCE_AT * hearing.RATE)
        reference = said[reference_at:reference_at + int(speech.REFERENCE_SECONDS * hearing.RATE)]
        until = self.reference_from + int((speech.REFERENCE_SECONDS + LONGEST_M2E) * SECOND)
        ear = hearing.heard(listener.dir, self.reference_from, until)
        windows = hearing.delays(reference, ear)
        if windows:
            delays = np.array([delay for _, delay in windows])
            result.update(m2e_ms=float(np.median(delays)), m2e_p5=float(np.percentile(delays, 5)),
                          m2e_p95=float(np.percentile(delays, 95)), m2e_first=float(delays[0]), m2e_last=float(delays[-1]),
                          windows=len(delays))
            at = int(np.median(delays) / 1000 * hearing.RATE)
            aligned = ear[at:at + len(reference)]
            result.update(hearing.quality(reference, aligned))
            soundfile.write(self.folder / f'{name}.wav', aligned, hearing.RATE)
        result['answer_to_audio_ms'] = self.first_sound(said[:reference_at], listener)
        return result

    def first_sound(self, dense, listener):
        """From the answer until the other one is heard, ms, or None."""
        longest, rate = 1.0, hearing.RATE
        at, lead = int((self.answered - self.spoken_from) / 1e9 * rate), int(longest * rate)
        said = np.r_[np.zeros(lead), dense][at:at + lead + int((LONGEST_FIRST_SOUND + .05) * rate)]
        ear = hearing.heard(listener.dir, self.answered, self.answered + int(LONGEST_FIRST_SOUND * SECOND))
        found = hearing.first_sound(said, ear, longest)
        return None if found is None else found * 1000

    def stop(self, driver):
        try:
            if driver:
                driver.stop()
        except Exception as error:
            # All that it leaves behind ends below.
            self.record['stop_error'] = f'{type(error).__name__}: {error}'
        stop_all()


def of_server(counters, what):
    return sum(count[what] for leg, count in counters.items() if 's' in leg)


def of_leg(count, lasted):
    return {'pps': round(count['in'] / lasted, 1), 'kbit_s': round(count['in_bytes'] * 8 / lasted / 1e3, 1),
            'lost_pct': round(100 * (count['lost'] + count['qdrop']) / max(1, count['in']), 2)}
