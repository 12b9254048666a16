"""PYTHONPATH=tests python3 -m phonebench COMMAND: makes what is needed first, then goes on with the bench's own Python."""
import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import prepare
from .paths import CACHE, RUNS, SOURCE, VENV


def arguments():
    parser = argparse.ArgumentParser(prog='phonebench', description='Measures telephones in an emulated network.')
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('prepare', help='only make what is needed')

    voice = commands.add_parser('voice', help='Offhook beside all phones that are installed: `cargo xtask bench voice`')
    voice.add_argument('--count', type=int, default=3, help='calls for each phone and condition (3)')
    voice.add_argument('--filter', help='only conditions whose names hold this; several with commas between them')
    voice.add_argument('--jobs', type=int, help='calls at a time (one for each core)')
    voice.add_argument('--json', action='store_true', help='print every sample as JSON before the table')

    onset = commands.add_parser('onset', help='the voice engine while a network becomes bad: `cargo xtask bench onset`')
    onset.add_argument('--count', type=int, default=6, help='seeds of each network (6)')
    onset.add_argument('--filter', help='only networks whose names hold this; several with commas between them')
    onset.add_argument('--json', action='store_true', help='print every sample as JSON before the table')

    call = commands.add_parser('call', help='calls between two phones of a kind')
    call.add_argument('phone')
    call.add_argument('-c', '--conditions', default='d50', help='with commas between them (d50)')
    call.add_argument('-n', '--count', type=int, default=1, help='calls for each condition (1)')
    call.add_argument('-o', '--option', action='append', default=[], metavar='KEY=VALUE', help='for the phone, see its driver')
    call.add_argument('-l', '--label', help='the name of its line (that of the phone)')
    call.add_argument('-s', '--seed', type=int, default=1, help='of the first call; the next ones follow (1)')
    call.add_argument('-i', '--instance', type=int, default=0, help='names the namespaces; different ones may run together (0)')
    call.add_argument('--folder', default=RUNS / 'calls', help='where recordings, logs and calls.jsonl go')
    call.add_argument('--lossy-setup', action='store_true', help='impair the network before dialling')
    call.add_argument('--json', action='store_true', help='print each call as a line of JSON and write no calls.jsonl')

    table = commands.add_parser('report', help='make table.csv and table.md of a calls.jsonl, beside it')
    table.add_argument('calls', nargs='?', default=RUNS / 'calls' / 'calls.jsonl')

    check = commands.add_parser('check', help='test the bench itself')
    check.add_argument('which', nargs='*', help='scores, card, emulator (all)')
    return parser.parse_args()


def main():
    args = arguments()
    try:
        prepare.everything()
    except (prepare.Missing, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f'phonebench: {error}')
    if args.command == 'prepare':
        return
    if sys.prefix != str(VENV):
        go_on_in_venv()
    commands = {'voice': voice, 'onset': onset, 'call': call, 'report': report, 'check': check}
    sys.exit(commands[args.command](args))


def go_on_in_venv():
    python = str(VENV / 'bin' / 'python')
    env = {**os.environ, 'PYTHONPATH': str(SOURCE.parent), 'PHONEBENCH_CACHE': str(CACHE),
           'PYTHONPYCACHEPREFIX': str(CACHE / 'pycache'),
           # Scores are calculated beside the calls of others: by one thread each.
           'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    # A session of its own, whose priority may be changed: that of who started us stays as it is.
    child = subprocess.Popen([python, '-m', __package__, *sys.argv[1:]], env=env, start_new_session=True)
    while True:
        try:
            sys.exit(child.wait())
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)


def voice(args):
    from . import voice as bench
    try:
        return bench.run(args.count, args.filter, args.jobs, args.json)
    except ValueError as error:
        return f'phonebench: {error}'


def onset(args):
    from .onset import bench
    bench(args.count, args.filter, os.cpu_count(), args.json)


def call(args):
    from .call import CONDITIONS, Call
    folder = Path(args.folder).absolute()
    options = dict(option.split('=', 1) for option in args.option)
    unknown = [name for name in args.conditions.split(',') if name not in CONDITIONS]
    if unknown:
        return f'phonebench: no condition {", ".join(unknown)}; there are {", ".join(CONDITIONS)}'
    for condition in args.conditions.split(','):
        for seed in range(args.seed, args.seed + args.count):
            record = Call(args.phone, options, condition, seed, args.instance, args.label or args.phone, folder,
                          args.lossy_setup).run()
            tell(record, folder, args.json)


def tell(record, folder, as_json):
    from . import report
    from .voice import one_line
    line = json.dumps(record, default=str)
    if as_json:
        print(line, flush=True)
        return
    with open(folder / 'calls.jsonl', 'a') as file:
        file.write(line + '\n')
    why = report.trouble(record)
    print(record['label'], record['cond'], record['seed'], f'FAILED: {why}' if why else one_line(record), flush=True)


def report(args):
    from . import report as tables
    path = Path(args.calls)
    table = tables.rows(tables.read_calls(path))
    tables.write_csv(path.with_name('table.csv'), table)
    text = tables.markdown({column: column for column in tables.COLUMNS}, table)
    path.with_name('table.md').write_text(text + '\n')
    print(text)


def check(args):
    from . import checks
    return checks.run(args.which)


if __name__ == '__main__':
    main()
