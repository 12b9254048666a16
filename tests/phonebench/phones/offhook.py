"""Offhook: a directory on host s, a terminal each on a and b, strangers to each other.

Options:
    bin=DIR             where `offhook` and `offhook-directory` are; by default those of the profile `measured`
    processing=PARTS    as `offhook run --processing`: `none` is what the figures in `_off` mean
    log=LEVEL           OFFHOOK_LOG of the terminals, written to their `log`
"""
import json
import subprocess
import time
from pathlib import Path

from ..paths import PROGRAMS
from ..process import Process, now

PASSWORD = b'correct horse battery\n'


class Terminal:
    """One person: an account, and `offhook run` on the bench's sound card."""

    def __init__(self, network, host, party, options, entry):
        program = Path(options.get('bin', PROGRAMS)) / 'offhook'
        home = party.dir / 'offhook'
        account = [program, '--home', home, '--json', 'account', 'new', 'u' + host, '--password-stdin']
        made = subprocess.run(['ip', 'netns', 'exec', network.namespace[host], *map(str, account)],
                              input=PASSWORD, capture_output=True, check=True)
        self.number = json.loads(made.stdout.splitlines()[0])['number']
        env = dict(party.env, ALSA_CONFIG_PATH=str(party.alsa_config), OFFHOOK_LOG=options.get('log', 'warn'))
        argv = [program, '--home', home, '--json', 'run', '--no-mdns', '--allow-private', '--entry', entry]
        if 'processing' in options:
            argv += ['--processing', options['processing']]
        self.process = Process(network.namespace[host], argv, env, party.dir / 'log')


class Driver:
    NEEDS = {}
    # Acknowledgements go in packets of their own, and the length of a frame may change.
    PACKETS_PER_SECOND = None

    def __init__(self, network, a, b, options):
        address = network.IP['s']
        program = Path(options.get('bin', PROGRAMS)) / 'offhook-directory'
        argv = [program, 'run', '--data', a.dir / 'directory', '--allow-private',
                '--listen', f'/ip4/{address}/udp/4001/quic-v1', '--listen', f'/ip4/{address}/tcp/4001']
        self.directory = Process(network.namespace['s'], argv, a.env, a.dir / 'directory.log')
        _, line = self.directory.wait('/p2p/')
        entry = next(word for word in line.replace('"', ' ').split() if '/p2p/' in word)
        began = time.time()
        self.b = Terminal(network, 'b', b, options, entry)
        self.a = Terminal(network, 'a', a, options, entry)
        for terminal in (self.a, self.b):
            terminal.process.wait('"online"')
        self.boot_s = time.time() - began

    def dial(self):
        at = now()
        self.a.process.send('dial ' + self.b.number)
        return at

    def ring(self):
        return self.b.process.wait('"incoming"')[0]

    def answer(self):
        at = now()
        self.b.process.send('answer')
        return at

    def up(self):
        return self.a.process.wait('"audio_started"')[0]

    def hangup(self):
        self.a.process.send('hangup')
        self.b.process.wait('"ended"')

    def pids(self):
        return {'caller': self.a.process.pid, 'callee': self.b.process.pid}

    def stop(self):
        for process in (self.a.process, self.b.process, self.directory):
            process.stop()
