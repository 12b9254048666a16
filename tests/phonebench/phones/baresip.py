"""baresip 1.0: SIP, RTP, Opus.

Options:
    server=1            both are registered at a kamailio on host s; otherwise they call each other by address
    jbuf=MIN-MAX        jitter buffer, packets (5-10)
    abuf=MIN-MAX        audio buffer, ms (20-160)
    br=BITS             bit rate of Opus (28000)
    fec=yes, pl=PERCENT Opus's own repair, and for which loss (no, 10)
    plc=1               concealment by spandsp
"""
import json
import socket
import threading
import time

from ..process import Process, in_namespace, now

CONTROL_PORT = 4444

CONFIG = '''poll_method epoll
sip_listen {ip}:5060
call_local_timeout 120
call_max_calls 4
audio_player alsa,default
audio_source alsa,default
audio_alert null,null
audio_buffer {abuf}
rtp_tos 184
jitter_buffer_delay {jbuf}
module_path /usr/lib/baresip/modules
module opus.so
module alsa.so
{plc}
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
ringback_disabled yes
opus_bitrate {br}
opus_stereo no
opus_sprop_stereo no
opus_inbandfec {fec}
opus_packet_loss {pl}
'''
DEFAULTS = {'abuf': '20-160', 'jbuf': '5-10', 'br': '28000', 'fec': 'no', 'pl': '10'}

KAMAILIO = '''#!KAMAILIO
debug=0
log_stderror=yes
fork=no
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:{ip}:5060
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "pv.so"
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483","Too Many Hops"); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    t_relay(); exit;
  }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (is_method("REGISTER")) {{ save("location"); exit; }}
  record_route();
  if (!lookup("location")) {{ sl_send_reply("404","Not Found"); exit; }}
  t_relay();
}}
'''


class UserAgent:
    """One baresip, controlled over its ctrl_tcp: netstrings (`LENGTH:JSON,`) both ways."""

    def __init__(self, network, host, party, options):
        self.events, self.told = [], threading.Condition()
        folder = party.dir / 'baresip'
        folder.mkdir()
        plc = 'module plc.so' if options.get('plc') else ''
        values = {key: options.get(key, value) for key, value in DEFAULTS.items()}
        config = CONFIG.format(ip=network.IP[host], plc=plc, control_port=CONTROL_PORT, **values)
        (folder / 'config').write_text(config)
        domain, expires = (network.IP['s'], 300) if options.get('server') else (network.IP[host], 0)
        account = f'<sip:{host}@{domain}>;auth_pass=x;regint={expires};audio_codecs=opus/48000/2\n'
        (folder / 'accounts').write_text(account)
        (folder / 'contacts').write_text('')
        self.process = Process(network.namespace[host], ['baresip', '-f', folder], party.env, folder / 'log')
        self.control = self._connect(network.namespace[host])
        threading.Thread(target=self._read, daemon=True).start()

    @staticmethod
    def _connect(namespace, tries=60):
        for _ in range(tries):
            with in_namespace(namespace):
                control = socket.socket()
            try:
                control.connect(('127.0.0.1', CONTROL_PORT))
                return control
            except OSError:
                control.close()
                time.sleep(.1)
        raise TimeoutError('baresip does not listen')

    def _read(self):
        buffer = b''
        while True:
            try:
                got = self.control.recv(65536)
            except OSError:
                return
            if not got:
                return
            at, buffer = now(), buffer + got
            while b':' in buffer:
                length, rest = buffer.split(b':', 1)
                if len(rest) < int(length) + 1:
                    break
                event, buffer = json.loads(rest[:int(length)]), rest[int(length) + 1:]
                with self.told:
                    self.events.append((at, event))
                    self.told.notify_all()

    def command(self, name, parameters=''):
        text = json.dumps({'command': name, 'params': parameters}).encode()
        self.control.sendall(b'%d:%s,' % (len(text), text))

    def wait(self, kind, timeout, start):
        """When the first event of a kind came, from index `start` on."""
        end, index = time.monotonic() + timeout, start
        with self.told:
            while True:
                for at, event in self.events[index:]:
                    if event.get('type') == kind:
                        return at
                index, left = len(self.events), end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f'no {kind} within {timeout} s')
                self.told.wait(left)


class Driver:
    NEEDS = {'baresip': 'baresip-core'}
    PACKETS_PER_SECOND = 50

    def __init__(self, network, a, b, options):
        self.server = None
        self.callee_at = network.IP['s' if options.get('server') else 'b']
        if options.get('server'):
            self.server = self._start_kamailio(network, a.dir / 'kamailio')
        self.a, self.b = UserAgent(network, 'a', a, options), UserAgent(network, 'b', b, options)
        # The event of registration may come before anybody listens for it.
        time.sleep(1.8 if self.server else .3)

    @staticmethod
    def _start_kamailio(network, folder):
        (folder / 'run').mkdir(parents=True)
        (folder / 'kamailio.cfg').write_text(KAMAILIO.format(ip=network.IP['s']))
        argv = ['kamailio', '-DD', '-f', folder / 'kamailio.cfg', '-Y', folder / 'run', '-m', '32', '-M', '8']
        server = Process(network.namespace['s'], argv, None, folder / 'log')
        time.sleep(1)
        return server

    def dial(self):
        self.known = {agent: len(agent.events) for agent in (self.a, self.b)}
        at = now()
        self.a.command('dial', 'sip:b@' + self.callee_at)
        return at

    def ring(self):
        return self.b.wait('CALL_INCOMING', 40, self.known[self.b])

    def answer(self):
        at = now()
        self.b.command('accept')
        return at

    def up(self):
        return self.a.wait('CALL_ESTABLISHED', 20, self.known[self.a])

    def hangup(self):
        self.a.command('hangup')
        time.sleep(.5)

    def pids(self):
        pids = {'caller': self.a.process.pid, 'callee': self.b.process.pid}
        return {**pids, 'server': self.server.pid} if self.server else pids

    def stop(self):
        for agent in (self.a, self.b):
            agent.process.stop()
        if self.server:
            self.server.stop()
