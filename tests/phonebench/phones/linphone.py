"""linphonec 5.1 (liblinphone, mediastreamer2): a SIP call by address over UDP, Opus; echo canceller off, ring tone silent.

Options:
    adaptive=0          the jitter buffer stays at 60 ms
"""
import time

from ..process import Process, now

CONFIG = '''[sip]
sip_port=5060
sip_tcp_port=-1
sip_tls_port=-1
use_ipv6=0
contact=sip:{host}@{ip}
register_only_when_network_is_up=0
[net]
firewall_policy=0
[rtp]
audio_jitt_comp=60
audio_adaptive_jitt_comp_enabled={adaptive}
[sound]
echocancellation=0
local_ring=/nonexistent.wav
remote_ring=/nonexistent.wav
[misc]
file_transfer_server_url=
config-uri=
log_collection_upload_server_url=
'''


class Driver:
    NEEDS = {'linphonec': 'linphone-cli'}
    PACKETS_PER_SECOND = 50

    def __init__(self, network, a, b, options):
        self.callee_at = network.IP['b']
        self.a = self._start(network, 'a', a, options)
        self.b = self._start(network, 'b', b, options)
        time.sleep(4)
        for process in (self.a, self.b):
            process.send('soundcard use 0')
        time.sleep(1)

    @staticmethod
    def _start(network, host, party, options):
        for folder in ('.local/share/linphone', '.config/linphone'):
            (party.dir / 'home' / folder).mkdir(parents=True, exist_ok=True)
        config = party.dir / 'linphonerc'
        config.write_text(CONFIG.format(host=host, ip=network.IP[host], adaptive=options.get('adaptive', '1')))
        env = {**party.env, 'TERM': 'dumb', 'ALSA_CONFIG_PATH': str(party.alsa_config)}
        argv = ['linphonec', '-c', config, '-d', '6', '-l', party.dir / 'linphone.log']
        return Process(network.namespace[host], argv, env, party.dir / 'out.log', pty=True)

    def dial(self):
        self.known = {process: process.mark() for process in (self.a, self.b)}
        at = now()
        self.a.send('call sip:b@' + self.callee_at)
        return at

    def ring(self):
        return self.b.wait('incoming call from', 40, self.known[self.b])[0]

    def answer(self):
        at = now()
        self.b.send('answer')
        return at

    def up(self):
        return self.a.wait('connected.', 20, self.known[self.a])[0]

    def hangup(self):
        self.a.send('terminate')
        time.sleep(1)

    def pids(self):
        return {'caller': self.a.pid, 'callee': self.b.pid}

    def stop(self):
        for process in (self.a, self.b):
            try:
                process.send('quit')
            except OSError:
                pass                            # it has ended
        time.sleep(1)
        for process in (self.a, self.b):
            process.stop()
