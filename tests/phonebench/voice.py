"""`cargo xtask bench voice`: Offhook and the other phones that are installed, side by side in one run, beside the limits.

Each call is a process of its own, so that what one of them breaks is its own. They take turns: each line's first call in
every condition comes before anybody's second, so that whatever else the machine does meets all alike.
"""
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import phones, report, wire
from .paths import BASELINE, RUNS
from .prepare import progress

CONDITIONS = ('d0', 'd50', 'jit30', 'loss5', 'loss10', 'loss20', 'loss30', 'burst10', 'rate48')

# Labels as in baseline/: phone, options.
LINES = {
    'offhook': ('offhook', {}),
    'offhook-off': ('offhook', {'processing': 'none'}),
    'baresip-default': ('baresip', {}),
    'baresip-fec-jb2': ('baresip', {'jbuf': '2-10', 'fec': 'yes', 'pl': '20', 'br': '32000'}),
    'linphone': ('linphone', {}),
    'tox': ('tox', {}),
    'jami': ('jami', {}),
    'mumble': ('mumble', {'relay': '1'}),
}
OWN = ('offhook', 'offhook-off')

# Key of the last line: (line, condition, column, limit, whether less is better). The limits are those of issue 4.
FIGURES = {
    'm2e_d0': ('offhook', 'd0', 'm2e_ms', 60, True),
    'm2e_d0_off': ('offhook-off', 'd0', 'm2e_ms', 45, True),
    'm2e_d50_off': ('offhook-off', 'd50', 'm2e_ms', 95, True),
    'm2e_jit30_off': ('offhook-off', 'jit30', 'm2e_ms', 125, True),
    'm2e_d50': ('offhook', 'd50', 'm2e_ms', 110, True),
    'm2e_jit30': ('offhook', 'jit30', 'm2e_ms', 140, True),
    'pesq_clean': ('offhook', 'd50', 'pesq_wb', 4.4, False),
    'pesq_loss5': ('offhook', 'loss5', 'pesq_wb', 4.3, False),
    'pesq_loss10': ('offhook', 'loss10', 'pesq_wb', 4.2, False),
    'pesq_loss20': ('offhook', 'loss20', 'pesq_wb', 4.0, False),
    'pesq_loss30': ('offhook', 'loss30', 'pesq_wb', 3.7, False),
    'pesq_burst10': ('offhook', 'burst10', 'pesq_wb', 3.8, False),
    'kbit_s': ('offhook', 'd50', 'kbit_s_dir', 62, True),
    'cpu_s_per_min': ('offhook', 'd50', 'cpu_s_per_min', 2.5, True),
    'rss_mib': ('offhook', 'd50', 'rss_mib', 40, True),
}
# Further limits of the issue, which are not in the last line. A rate's limit is in multiples of the clean one.
FURTHER = {
    'm2e_loss5': ('offhook', 'loss5', 'm2e_ms', 130, True),
    'm2e_loss10': ('offhook', 'loss10', 'm2e_ms', 130, True),
    'm2e_loss20': ('offhook', 'loss20', 'm2e_ms', 170, True),
    'm2e_loss30': ('offhook', 'loss30', 'm2e_ms', 170, True),
    'm2e_burst10': ('offhook', 'burst10', 'm2e_ms', 220, True),
    'pesq_rate48': ('offhook', 'rate48', 'pesq_wb', 3.5, False),
    'cpu_s_per_min_off': ('offhook-off', 'd50', 'cpu_s_per_min', 1.6, True),
}
RATES = {'loss5': 1.6, 'loss10': 1.6, 'loss20': 2.5, 'loss30': 2.5, 'burst10': 2.5}

TABLE = {
    'system': 'phone', 'cond': 'network', 'calls': 'calls', 'failed': 'failed', 'starved': 'starved', 'dial_to_ring_ms': 'dial to ring, ms',
    'answer_to_caller_hears_ms': 'answer to sound, ms', 'm2e_ms': 'mouth to ear, ms', 'm2e_last_ms': 'at the end, ms',
    'pesq_wb': 'PESQ-WB', 'pesq_wb_c2': 'PESQ-WB C2', 'plcmos': 'PLCMOS', 'cpu_s_per_min': 'CPU, s/min', 'rss_mib': 'RSS, MiB',
    'kbit_s_dir': 'kbit/s', 'real_loss_pct': 'lost, %',
}
LEGEND = '''Medians over calls and both directions. PESQ-WB: P.862.2 (package pesq 0.0.4), as in the limits; C2: with its corrigendum 2
(pesqc2 0.0.4), which maps the same speech to more. PLCMOS v2. kbit/s: one direction, whole Ethernet frames without preamble and FCS.
Network: one way 50 ms but for d0; lossN: N % at random; burst10: 10 % in bursts of 5; jit30: +-30 ms; rate48: 48 kbit/s with a
second of queue. Set-up and the first 4 s are on the clean network. offhook: as shipped; offhook-off: its processing off.'''

# Two phones and what calculates afterwards take about a third of a core.
CALLS_PER_CORE, MOST_AT_ONCE = 1, 8
# Namespaces of their own for all that overlaps, and none that somebody uses by hand (`call -i`).
FIRST_INSTANCE, INSTANCES = 100, 100
CALL_SECONDS = 45
CALL_TIMEOUT = 420


class Run:
    """All calls of one run of the bench."""

    def __init__(self, count, pattern, jobs):
        self.conditions = [name for name in CONDITIONS if matches(name, pattern)]
        if not self.conditions:
            raise ValueError(f'no condition holds "{pattern}"; there are {", ".join(CONDITIONS)}')
        self.lines, self.absent = installed()
        self.jobs = jobs or min(MOST_AT_ONCE, CALLS_PER_CORE * (os.cpu_count() or 1))
        self.plan = [(label, condition, seed) for seed in range(1, count + 1)
                     for condition in self.conditions for label in self.lines]
        self.folder = RUNS / time.strftime('voice-%Y%m%d-%H%M%S')
        self.done, self.lock, self.began = 0, threading.Lock(), time.monotonic()

    def calls(self):
        """Makes all calls; answers what was measured, failures included, in the order of the plan."""
        self.folder.mkdir(parents=True)
        minutes = len(self.plan) * CALL_SECONDS / self.jobs / 60
        progress(f'{len(self.plan)} calls, {self.jobs} at a time, about {minutes:.0f} min; all of it is kept in {self.folder}')
        for phone, packages in self.absent.items():
            progress(f'{phone} is not installed; to measure it beside: apt-get install --no-install-recommends {" ".join(packages)}')
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                records = list(pool.map(self.one, range(len(self.plan))))
            except KeyboardInterrupt:
                progress('the calls under way are ended first')
                pool.shutdown(cancel_futures=True)
                raise
        with open(self.folder / 'calls.jsonl', 'w') as file:
            file.writelines(json.dumps(record) + '\n' for record in records)
        return records

    def one(self, number):
        label, condition, seed = self.plan[number]
        phone, options = self.lines[label]
        log = self.folder / f'{label}-{condition}-{seed}.log'
        words = [word for pair in options.items() for word in ('-o', '='.join(pair))]
        argv = [sys.executable, '-m', __package__, 'call', phone, '-c', condition, '-s', str(seed), '-n', '1', '-l', label,
                '-i', str(FIRST_INSTANCE + number % INSTANCES), '--folder', str(self.folder), '--json', *words]
        record = {'label': label, 'peer': phone, 'cond': condition, 'seed': seed, 'opt': options}
        try:
            with open(log, 'w') as errors:
                # A session of its own, and so a share of the processor of its own.
                ended = subprocess.run(argv, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=CALL_TIMEOUT,
                                       start_new_session=True)
            record = json.loads(ended.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            record['error'] = f'it did not end within {CALL_TIMEOUT} s'
        except (IndexError, ValueError):
            record['error'] = f'it ended without a result, see {log}'
        self.tell(record)
        return record

    def tell(self, record):
        with self.lock:
            self.done += 1
            left = (time.monotonic() - self.began) / self.done * (len(self.plan) - self.done) / 60
            why = report.trouble(record)
            result = f'FAILED: {why}' if why else one_line(record)
            progress(f'[{self.done}/{len(self.plan)}] {record["label"]} {record["cond"]} {record["seed"]}: {result} '
                     f'(about {left:.0f} min left)')


def matches(condition, pattern):
    return not pattern or any(part in condition for part in pattern.split(','))


def installed():
    """The lines that can be measured, and the packages that each of the other phones needs."""
    absent = {phone: packages for phone in phones.ALL if (packages := phones.missing(phone))}
    return {label: line for label, line in LINES.items() if line[0] not in absent}, absent


def one_line(record):
    both = lambda key: ', '.join(report.show(way.get(key)) or '-' for way in record['dir'].values())
    rates = ', '.join(report.show(record['media'][leg]['kbit_s']) for leg in report.upward(record))
    return f'{both("m2e_ms")} ms, PESQ-WB {both("pesq_wb")}, {rates} kbit/s'


def run(count, pattern, jobs, as_json):
    """Makes the calls and prints what came of them. Answers the exit status."""
    this = Run(count, pattern, jobs)
    records = this.calls()
    table = report.rows(records)
    report.write_csv(this.folder / 'table.csv', table)
    text = '\n\n'.join(filter(None, [report.markdown(TABLE, table), LEGEND, limits(table), wire.shares(records),
                                     failures(records)]))
    (this.folder / 'table.md').write_text(text + '\n')
    found = figures(table)
    if as_json:
        print(json.dumps({'bench': 'voice', 'figures': found, 'samples': records}))
    print(text)
    print('voice: ' + ' '.join(f'{key}={rounded(value)}' for key, value in found.items()))
    return 0 if found else 1


def lookup(table, label, condition, column):
    for row in table:
        if row['system'] == label and row['cond'] == condition:
            return row[column]
    return None


def figures(table):
    """What the last line says: all that was measured."""
    found = {key: lookup(table, *where[:3]) for key, where in FIGURES.items()}
    return {key: value for key, value in found.items() if value is not None}


def rounded(value):
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.1f}' if abs(value) >= 10 else f'{value:.2f}'


def limits(table):
    """Each figure beside its limit, the best other phone of this run, and the best one of the baseline."""
    baseline = report.read_csv(BASELINE / 'table.csv')
    lines = []
    for key, (label, condition, column, limit, less) in {**FIGURES, **FURTHER}.items():
        lines.append(limit_line(key, lookup(table, label, condition, column), limit, less,
                                best(table, condition, column, less), best(baseline, condition, column, less)))
    clean = lookup(table, 'offhook', 'd50', 'kbit_s_dir')
    for condition, limit in RATES.items():
        rate = lookup(table, 'offhook', condition, 'kbit_s_dir')
        if clean and rate:
            lines.append(limit_line(f'rate_{condition}', rate / clean, limit, True, '', ''))
    lines = [line for line in lines if line['ours'] is not None]
    columns = {'key': 'figure', 'ours': 'ours', 'limit': 'limit', 'verdict': '', 'here': 'best other, this run',
               'baseline': 'best other, baseline'}
    return report.markdown(columns, lines) if lines else ''


def limit_line(key, value, limit, less, here, before):
    kept = None if value is None else (value <= limit if less else value >= limit)
    verdict = {None: '', True: 'kept', False: 'missed'}[kept]
    return {'key': key, 'ours': value, 'limit': ('<= ' if less else '>= ') + report.show(limit), 'verdict': verdict, 'here': here,
            'baseline': before}


def best(table, condition, column, less):
    others = [(row[column], row['system']) for row in table
              if row['cond'] == condition and row['system'] not in OWN and row[column] is not None]
    if not others:
        return ''
    value, system = min(others) if less else max(others)
    return f'{report.show(value)} ({system})'


def failures(records):
    lines = [f'failed: {record["label"]} {record["cond"]} {record["seed"]}: {why}'
             for record in records if (why := report.trouble(record))]
    return '\n'.join(lines)
