"""Jami's daemon 13.7 over D-Bus (jami_control.py), our own OpenDHT node on host s as the only way in; TURN, UPnP, proxy, LAN discovery off.

Options:
    settle=SECONDS      between being registered and dialling (5)
"""
import time

from ..paths import SOURCE
from ..process import Process, now

CONTROL = SOURCE / 'phones' / 'jami_control.py'


class Driver:
    NEEDS = {'/usr/libexec/jamid': 'jami-daemon', 'dhtnode': 'dhtnode', 'dbus-run-session': 'dbus',
             '/usr/lib/python3/dist-packages/dbus': 'python3-dbus', '/usr/lib/python3/dist-packages/gi': 'python3-gi'}
    PACKETS_PER_SECOND = 50

    def __init__(self, network, a, b, options):
        self.server = Process(network.namespace['s'], ['dhtnode', '-s', '-p', '4222', '-v'], {'HOME': str(a.dir / 'home')},
                              a.dir / 'dhtnode.log')
        time.sleep(.5)
        self.a, self.b = (self._start(network, host, party) for host, party in (('a', a), ('b', b)))
        began = time.time()
        self.daemons = [int(control.wait('jamid', 20)[1].split()[-1]) for control in (self.a, self.b)]
        self.id_of_b = self.b.wait(' id ', 40)[1].split()[-1]
        for control in (self.a, self.b):
            control.wait('status REGISTERED', 60)
        self.boot_s = time.time() - began
        time.sleep(float(options.get('settle', 5)))

    @staticmethod
    def _start(network, host, party):
        # The system's Python: D-Bus's modules are Debian's.
        argv = ['dbus-run-session', '--', '/usr/bin/python3', CONTROL, network.IP['s'] + ':4222', party.dir / 'jamid.log']
        env = {**party.env, 'ALSA_CONFIG_PATH': str(party.alsa_config)}
        return Process(network.namespace[host], argv, env, party.dir / 'control.log')

    def dial(self):
        self.known = {control: control.mark() for control in (self.a, self.b)}
        at = now()
        self.a.send('call ' + self.id_of_b)
        return at

    def ring(self):
        return self.b.wait('incoming', 60, self.known[self.b])[0]

    def answer(self):
        at = now()
        self.b.send('answer')
        return at

    def up(self):
        return self.a.wait('callstate CURRENT', 30, self.known[self.a])[0]

    def hangup(self):
        self.a.send('hangup')
        time.sleep(1)

    def pids(self):
        return {'caller': self.daemons[0], 'callee': self.daemons[1], 'server': self.server.pid}

    def stop(self):
        for control in (self.a, self.b):
            try:
                control.send('quit')
            except OSError:
                pass                            # it has ended
        time.sleep(.7)
        for process in (self.a, self.b, self.server):
            process.stop()
