"""Tox: toxcore and toxav 0.2.18 in our own least phone (native/toxphone.c), tox-bootstrapd (DHT, TCP relay) on host s.

Options:
    br=KBIT             bit rate (32)
    iter=MS             between two iterations (5)
    prefill=MS          silence before the first frame, and after an underrun (20)
"""
import re
import time

from ..paths import TOXPHONE
from ..process import Process, now

PORT = 33445
KEY = re.compile(r'[0-9A-F]{64}')

CONFIG = '''port = {port}
keys_file_path = "{folder}/keys"
pid_file_path = "{folder}/pid"
enable_ipv6 = false
enable_ipv4_fallback = true
enable_lan_discovery = false
enable_tcp_relay = true
tcp_relay_ports = [{port}]
enable_motd = false
'''


class Driver:
    NEEDS = {'tox-bootstrapd': 'toxcore-utils', '/usr/include/tox/toxav.h': 'libtoxcore-dev'}
    PACKETS_PER_SECOND = 50

    def __init__(self, network, a, b, options):
        folder = a.dir / 'bootstrap'
        folder.mkdir()
        (folder / 'conf').write_text(CONFIG.format(port=PORT, folder=folder))
        argv = ['tox-bootstrapd', '--foreground', '--log-backend', 'stdout', '--config', folder / 'conf']
        self.server = Process(network.namespace['s'], argv, None, folder / 'log')
        key = self._key_of(self.server)
        self.a, self.b = (self._start(network, host, party, key, options) for host, party in (('a', a), ('b', b)))
        id_of_b = self.b.wait('id ', 10)[1].split()[-1]
        began = now()
        for phone in (self.a, self.b):
            phone.wait('dht', 60)
        in_dht = now()
        self.a.send('add ' + id_of_b)
        self.a.wait('friend 0 2', 120)
        self.b.wait('friend 0', 60)
        self.boot_s, self.find_s = (in_dht - began) / 1e9, (now() - in_dht) / 1e9
        time.sleep(2)

    @staticmethod
    def _start(network, host, party, key, options):
        env = {**party.env, 'TOXPHONE_BITRATE': options.get('br', '32'), 'TOXPHONE_ITERATE': options.get('iter', '5'),
               'TOXPHONE_PREFILL': options.get('prefill', '20')}
        argv = [TOXPHONE, PORT, network.IP['s'], PORT, key]
        return Process(network.namespace[host], argv, env, party.dir / 'tox.log')

    @staticmethod
    def _key_of(server, tries=100):
        for _ in range(tries):
            for _, line in list(server.lines):
                if found := KEY.search(line):
                    return found.group()
            time.sleep(.1)
        raise TimeoutError('tox-bootstrapd does not tell its key')

    def dial(self):
        self.known = {phone: phone.mark() for phone in (self.a, self.b)}
        at = now()
        self.a.send('call')
        return at

    def ring(self):
        return self.b.wait('incoming', 40, self.known[self.b])[0]

    def answer(self):
        at = now()
        self.b.send('answer')
        return at

    def up(self):
        return self.a.wait('callstate', 20, self.known[self.a])[0]

    def hangup(self):
        self.a.send('hangup')
        time.sleep(1)

    def pids(self):
        return {'caller': self.a.pid, 'callee': self.b.pid, 'server': self.server.pid}

    def stop(self):
        for phone in (self.a, self.b):
            try:
                phone.send('quit')
            except OSError:
                pass                            # it has ended
        time.sleep(.2)
        for process in (self.a, self.b, self.server):
            process.stop()
