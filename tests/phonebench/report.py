"""From calls to a table: one row for each line and condition, medians over calls and both directions."""
import csv
import json
import statistics

from . import phones
from .call import CONDITIONS

# A call counts only if both phones ran in real time, that is, sent this share of their packets: machines are shared.
REAL_TIME = .97

ROLES = ('caller', 'callee')
COLUMNS = ['system', 'cond', 'calls', 'starved', 'failed', 'dial_to_ring_ms', 'ring_range', 'answer_to_callee_hears_ms',
           'answer_to_caller_hears_ms', 'm2e_ms', 'm2e_range', 'm2e_last_ms', 'pesq_wb', 'pesq_range', 'pesq_wb_c2', 'plcmos',
           'cpu_s_per_min', 'rss_mib', 'server_cpu', 'server_rss', 'kbit_s_dir', 'real_loss_pct', 'server_kbyte_per_min', 'xruns']
OF_SET_UP = ('dial_to_ring_ms', 'ring_range', 'answer_to_callee_hears_ms', 'answer_to_caller_hears_ms')


def read_calls(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def upward(call):
    """The legs on which the phones send."""
    return ('a>s', 'b>s') if call['opt'].get('relay') else ('a>b', 'b>a')


def trouble(call):
    """Why a call does not count, or None."""
    if 'error' in call:
        return call['error']
    expected = phones.load(call['peer']).PACKETS_PER_SECOND
    if expected and min(call['media'][leg]['pps'] for leg in upward(call)) < REAL_TIME * expected:
        return 'starved'
    return None


def rows(calls):
    """A list of rows (see COLUMNS), by line in the order of the calls, then by condition."""
    groups = {}
    for call in calls:
        groups.setdefault(call['label'], {}).setdefault(call['cond'], []).append(call)
    return [row(label, condition, conditions[condition])
            for label, conditions in groups.items() for condition in CONDITIONS if condition in conditions]


def median(values):
    values = [value for value in values if value is not None]
    return round(float(statistics.median(values)), 2) if values else None


def span(values):
    return f'{min(values):.2f}..{max(values):.2f}' if values else ''


def row(label, condition, calls):
    good = [call for call in calls if trouble(call) is None]
    starved = sum(trouble(call) == 'starved' for call in calls)
    heard = lambda key: [way[key] for call in good for way in call['dir'].values() if way.get(key) is not None]
    used = lambda key, roles: [call[key][role] for call in good for role in roles if role in call[key]]
    media = lambda key: [call['media'][leg][key] for call in good for leg in upward(call)]
    rings = [call['dial_to_ring_ms'] for call in good]
    per_minute = [call['server_bytes'] / 1e3 / call['wall_s'] * 60 for call in good]
    result = dict(
        system=label, cond=condition, calls=len(good), starved=starved, failed=len(calls) - len(good) - starved,
        dial_to_ring_ms=median(rings), ring_range=span(rings),
        answer_to_callee_hears_ms=median([call['dir']['ab'].get('answer_to_audio_ms') for call in good]),
        answer_to_caller_hears_ms=median([call['dir']['ba'].get('answer_to_audio_ms') for call in good]),
        m2e_ms=median(heard('m2e_ms')), m2e_range=span(heard('m2e_ms')), m2e_last_ms=median(heard('m2e_last')),
        pesq_wb=median(heard('pesq_wb')), pesq_range=span(heard('pesq_wb')), pesq_wb_c2=median(heard('pesq_wb_c2')),
        plcmos=median(heard('plcmos')),
        cpu_s_per_min=median(used('cpu_s_per_min', ROLES)), rss_mib=median(used('rss_mib', ROLES)),
        server_cpu=median(used('cpu_s_per_min', ('server',))), server_rss=median(used('rss_mib', ('server',))),
        kbit_s_dir=median(media('kbit_s')), real_loss_pct=median(media('lost_pct')),
        server_kbyte_per_min=median(per_minute), xruns=median([call['xrun_a'] + call['xrun_b'] for call in good]))
    if calls[0]['peer'] == 'mumble':            # there nobody dials
        result.update(dict.fromkeys(OF_SET_UP))
    return result


def write_csv(path, table):
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)


def read_csv(path):
    """Rows as `rows` answers them; the conditions of the bench's baseline have the same names."""
    def number(text):
        try:
            return float(text) if text else None
        except ValueError:
            return text
    with open(path, newline='') as file:
        return [{key: number(text) for key, text in line.items()} for line in csv.DictReader(file)]


def markdown(columns, table):
    """A table in Markdown, padded, so that it can be read as it stands."""
    cells = [[title for title in columns.values()], None]
    for line in table:
        cells.append([show(line.get(key)) for key in columns])
    widths = [max(len(line[n]) for line in cells if line) for n in range(len(columns))]
    cells[1] = ['-' * width for width in widths]
    return '\n'.join('| ' + ' | '.join(word.ljust(width) for word, width in zip(line, widths)) + ' |' for line in cells)


def show(value):
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.1f}' if abs(value) >= 10 else f'{value:.2f}'
    return str(value)
