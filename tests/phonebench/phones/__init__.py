"""The telephones, one module each with a class `Driver`: how two of them are started, call each other and are stopped.

    Driver(network, a, b, options)   starts both phones (and servers on host `s`) and waits until they can call.
                                     `a` and `b` are the parties (sound.Party), `options` the words of `-o`
    dial(), answer()                 answer the time (process.now) just before the command was given
    ring()                           waits until b's phone tells of a call, and answers when it did
    up()                             waits until a's phone says that it talks, and answers when it did
    hangup()                         ends the call
    pids()                           {'caller': PID, 'callee': PID, 'server': PID if there is one}
    stop()                           ends everything; called even after a failure

    NEEDS                            {program or file: Debian's package}: without them the phone is not installed
    PACKETS_PER_SECOND               how many it sends while it runs in real time, or None if that varies; a call with less than
                                     97 % of them was starved by the machine and does not count

Times of events are CLOCK_MONOTONIC in ns. A phone's sound is ALSA's "default": its environment is `party.env`, and HOME has an
.asoundrc; for programs that ignore it there is `party.alsa_config`.
"""
import importlib

from ..prepare import find

ALL = ('offhook', 'baresip', 'linphone', 'tox', 'jami', 'mumble')


def load(name):
    """The driver of a phone by name."""
    if name not in ALL:
        raise ValueError(f'no phone "{name}"; there are {", ".join(ALL)}')
    return importlib.import_module(f'.{name}', __package__).Driver


def missing(name):
    """Debian's packages that a phone needs and that are not here; none if it can be measured."""
    return sorted({package for thing, package in load(name).NEEDS.items() if not find(thing)})
