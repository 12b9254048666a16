"""Three hosts in network namespaces, joined by the emulator: `a` calls, `b` is called, `s` is for servers."""
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from .paths import LINKEM
from .process import sh

READY_SECONDS = 3


class Network:
    """The network of one instance. Different instances may exist at the same time.

    There is no DNS (a question fails at once), no IPv6, and nothing is discovered by asking everybody."""

    IP = {'a': '10.77.0.1', 'b': '10.77.0.2', 's': '10.77.0.3'}

    def __init__(self, instance, seed=1):
        self.instance = instance
        self.namespace = {host: f'pb{instance}{host}' for host in self.IP}
        self._port = {host: f'pbv{instance}{host}' for host in self.IP}
        self.emulator = None
        self._destroy()
        try:
            for number, host in enumerate(self.IP, 1):
                self._add_host(host, number)
            self._start_emulator(seed)
            self._fill_arp()
        except BaseException:
            self.close()
            raise

    def _add_host(self, host, number):
        namespace, port = self.namespace[host], self._port[host]
        try:
            etc = Path('/etc/netns') / namespace
            etc.mkdir(parents=True, exist_ok=True)
            (etc / 'resolv.conf').write_text('nameserver 127.0.0.1\n')
        except OSError:
            pass                                # in a user namespace: questions go to a server that is not reachable
        sh('ip', 'netns', 'add', namespace)
        sh('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
        mac = f'02:77:00:00:{self.instance % 256:02x}:{number:02x}'
        for command in (['link', 'set', 'lo', 'up'], ['link', 'set', 'eth0', 'address', mac], ['link', 'set', 'eth0', 'up'],
                        ['addr', 'add', self.IP[host] + '/24', 'dev', 'eth0'], ['route', 'add', 'default', 'dev', 'eth0']):
            sh('ip', '-n', namespace, *command)
        inside = ('ip', 'netns', 'exec', namespace)
        sh(*inside, 'ethtool', '-K', 'eth0', 'gso', 'off', 'tso', 'off', 'gro', 'off', 'tx', 'off', check=False)
        no_ipv6 = 'echo 1 >/proc/sys/net/ipv6/conf/{}/disable_ipv6'
        sh('sh', '-c', no_ipv6.format(port), check=False)
        sh(*inside, 'sh', '-c', no_ipv6.format('all'), check=False)
        sh('ip', 'link', 'set', port, 'up')

    def _start_emulator(self, seed):
        ports = [word for host, port in self._port.items() for word in ('-p', f'{host}={port}')]
        self.emulator = subprocess.Popen([str(LINKEM), '-s', str(seed), *ports], text=True, bufsize=1,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if 'ready' not in self.emulator.stdout.readline():
            raise RuntimeError('the emulator does not start')

    def _fill_arp(self):
        """Lets every host learn the others' addresses, so that no first packet waits for that."""
        for host in self.IP:
            for other in self.IP.keys() - {host}:
                sh('ip', 'netns', 'exec', self.namespace[host], 'bash', '-c',
                   f'exec 3<>/dev/udp/{self.IP[other]}/9; echo x >&3', check=False)
        time.sleep(.3)

    def command(self, line):
        """Tells the emulator something (see native/linkem.c); answers its JSON."""
        self.emulator.stdin.write(line + '\n')
        self.emulator.stdin.flush()
        answer = json.loads(self.emulator.stdout.readline())
        if not answer.get('ok', 1):
            raise ValueError(f'the emulator does not know "{line}"')
        return answer

    def counters(self):
        return self.command('stats')

    def close(self):
        if self.emulator:
            try:
                self.emulator.communicate('quit\n', timeout=READY_SECONDS)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                self.emulator.kill()
                self.emulator.wait()
        self._destroy()

    def _destroy(self):
        for host, namespace in self.namespace.items():
            shutil.rmtree('/etc/netns/' + namespace, ignore_errors=True)
            if os.path.exists('/run/netns/' + namespace):
                sh('ip', 'netns', 'del', namespace, check=False)
            sh('ip', 'link', 'del', self._port[host], check=False)
