"""Offhook on the bench `phonebench`: a directory on host s, a terminal each on a and b, strangers to each other.

Copy this file into the bench's folder `drivers`. Options (`-o NAME=VALUE`):
    bin=DIR             where `offhook` and `offhook-directory` are (profile `measured`)
    processing=PARTS    as `offhook run --processing`: `none` is what the figures in `_off` mean
    log=LEVEL           OFFHOOK_LOG of the terminals, written to their `log`

    venv/bin/python phonebench.py offhook -c d0,d50,loss10 -n 1 -o bin=/work/main/target/measured -o processing=none
"""
import json
import subprocess
import time

from pbnet import Proc, now

PASSWORD = b'correct horse battery\n'


class Terminal:
    """One person: an account, and `offhook run` on the bench's sound card."""

    def __init__(self, net, host, party, opt, entry):
        program = opt['bin'] + '/offhook'
        home = party.dir + '/offhook'
        account = [program, '--home', home, '--json', 'account', 'new', 'u' + host, '--password-stdin']
        made = subprocess.run(['ip', 'netns', 'exec', net.ns[host]] + account,
                              input=PASSWORD, capture_output=True, check=True)
        self.number = json.loads(made.stdout.splitlines()[0])['number']
        env = dict(party.env, ALSA_CONFIG_PATH=party.dir + '/asound.conf', OFFHOOK_LOG=opt.get('log', 'warn'))
        argv = [program, '--home', home, '--json', 'run', '--no-mdns', '--allow-private', '--entry', entry]
        if 'processing' in opt:
            argv += ['--processing', opt['processing']]
        self.process = Proc(net.ns[host], argv, env, party.dir + '/log')


class Driver:
    name = 'offhook'

    def __init__(self, net, pa, pb, opt):
        address = net.IP['s']
        argv = [opt['bin'] + '/offhook-directory', 'run', '--data', pa.dir + '/directory', '--allow-private',
                '--listen', f'/ip4/{address}/udp/4001/quic-v1', '--listen', f'/ip4/{address}/tcp/4001']
        self.directory = Proc(net.ns['s'], argv, pa.env, pa.dir + '/dirlog')
        _, line = self.directory.wait('/p2p/')
        entry = next(word for word in line.replace('"', ' ').split() if '/p2p/' in word)
        began = time.time()
        self.b = Terminal(net, 'b', pb, opt, entry)
        self.a = Terminal(net, 'a', pa, opt, entry)
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
        return {'a': self.a.process.pid, 'b': self.b.process.pid}

    def stop(self):
        for process in (self.a.process, self.b.process, self.directory):
            process.stop()
