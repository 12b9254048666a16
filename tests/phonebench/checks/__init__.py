"""The bench tested: `PYTHONPATH=tests python3 -m phonebench check [scores] [card] [emulator]`. Each check asserts what it prints."""
import importlib

ALL = ('scores', 'card', 'emulator')


def run(which):
    """Runs the named checks, or all. Answers the exit status."""
    failed = []
    for name in which or ALL:
        if name not in ALL:
            return f'no check "{name}"; there are {", ".join(ALL)}'
        print(f'== {name}', flush=True)
        try:
            importlib.import_module(f'.{name}', __package__).check()
        except AssertionError as error:
            print(f'FAILED: {error}', flush=True)
            failed.append(name)
    print(f'{len(which or ALL) - len(failed)} passed, {len(failed)} failed')
    return 1 if failed else 0


def expect(holds, what):
    """Fails with what was seen."""
    if not holds:
        raise AssertionError(what)
