"""Mumble 1.3.4: murmurd on host s, two clients without a screen that transmit all the time, voice over UDP through the server.

Nobody dials here; what is said of setting up means nothing. Run it with `relay=1`. Options:
    q=BITS, fpp=N, jb=PACKETS, od=N, ns=N, loud=N   the client's quality, framesperpacket, jitterbuffer, outputdelay,
                                                    noisesupress, loudness
"""
import hashlib
import shutil
import sqlite3
import subprocess
import time

from ..paths import FAKE_CARD, MUMBLE_CERTIFICATE
from ..process import Process, now

PORT = 64738

SERVER_CONFIG = '''database={folder}/db.sqlite
logfile=
port={port}
host={ip}
bandwidth=130000
users=10
allowping=true
bonjour=False
ice=
welcometext=
registerName=
'''

CLIENT_CONFIG = '''[General]
lastupdate=2

[audio]
input=ALSA
output=ALSA
transmit=0
denoise=false
noisesupress={ns}
loudness={loud}
echo=0
echomulti=false
quality={q}
outputdelay={od}
attenuateothers=false
idletime=0

[alsa]
input=default
output=default

[net]
framesperpacket={fpp}
jitterbuffer={jb}
autoconnect=false

[ui]
language=en
server=
themestyle=
usage=false
updatecheck=false
plugincheck=false
stateintray=false
showOnStart=false
disablepubliclist=true

[tts]
enable=false

[overlay]
enable=false
'''
DEFAULTS = {'ns': '0', 'loud': '1000', 'q': '40000', 'od': '5', 'fpp': '2', 'jb': '1'}


class Driver:
    NEEDS = {'mumble': 'mumble', 'murmurd': 'mumble-server', 'openssl': 'openssl'}
    PACKETS_PER_SECOND = 50

    def __init__(self, network, a, b, options):
        folder = a.dir / 'server'
        folder.mkdir()
        folder.chmod(0o777)                     # murmurd gives its rights up
        (folder / 'ini').write_text(SERVER_CONFIG.format(folder=folder, port=PORT, ip=network.IP['s']))
        self.server = Process(network.namespace['s'], ['murmurd', '-fg', '-ini', folder / 'ini', '-v'], {'HOME': str(folder)},
                              folder / 'log')
        self.server.wait('Not registering', 30)
        time.sleep(.5)
        digest = self._certificate_of(folder / 'db.sqlite')
        self.a, self.b = (self._start(network, host, party, digest, options) for host, party in (('a', a), ('b', b)))
        for name in ('a(', 'b('):
            self.server.wait(name, 60)
        time.sleep(2)

    @staticmethod
    def _certificate_of(database):
        """The digest of the server's certificate: a client that does not know it asks by a dialogue."""
        connection = sqlite3.connect(database)
        (pem,), = connection.execute("select value from config where key='certificate'")
        connection.close()
        pem = pem.encode() if isinstance(pem, str) else pem
        der = subprocess.run(['openssl', 'x509', '-outform', 'der'], input=pem, capture_output=True, check=True).stdout
        return hashlib.sha1(der).hexdigest()

    @staticmethod
    def _start(network, host, party, digest, options):
        home, ip = party.dir / 'home', network.IP['s']
        for folder in ('.config/Mumble', '.local/share/Mumble/Mumble', 'Documents'):
            (home / folder).mkdir(parents=True, exist_ok=True)
        values = {key: options.get(key, value) for key, value in DEFAULTS.items()}
        (home / '.config/Mumble/Mumble.conf').write_text(CLIENT_CONFIG.format(**values))
        known = sqlite3.connect(home / '.local/share/Mumble/Mumble/mumble.sqlite')
        known.execute('create table if not exists cert '
                      '(id integer primary key autoincrement, hostname text, port integer, digest text)')
        known.execute('insert into cert (hostname,port,digest) values (?,?,?)', (ip, PORT, digest))
        known.commit()
        known.close()
        for folder in (home, home / 'Documents'):
            shutil.copy(MUMBLE_CERTIFICATE, folder / 'MumbleAutomaticCertificateBackup.p12')
        env = {**party.env, 'QT_QPA_PLATFORM': 'offscreen', 'LD_PRELOAD': str(FAKE_CARD), 'LANG': 'C.UTF-8',
               'ALSA_CONFIG_PATH': str(party.alsa_config)}
        argv = ['mumble', '-m', f'mumble://{host}@{ip}:{PORT}/?version=1.2.0']
        return Process(network.namespace[host], argv, env, party.dir / 'mumble.log')

    def dial(self):
        return now()

    ring = answer = up = dial

    def hangup(self):
        pass

    def pids(self):
        return {'caller': self.a.pid, 'callee': self.b.pid, 'server': self.server.pid}

    def stop(self):
        for process in (self.a, self.b, self.server):
            process.stop()
