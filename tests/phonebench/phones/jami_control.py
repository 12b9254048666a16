#!/usr/bin/python3
"""A Jami daemon controlled by lines: dbus-run-session -- /usr/bin/python3 jami_control.py BOOTSTRAP[:PORT] LOG_OF_DAEMON

Standard input: call JAMI_ID | answer | hangup | quit. Standard output: "CLOCK_MONOTONIC-in-ns EVENT ...". Belongs to jami.py.
"""
import os
import subprocess
import sys
import threading
import time

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

DAEMON = '/usr/libexec/jamid'
BUS_NAME = 'cx.ring.Ring'
POLL_MS = 200

ACCOUNT = {
    'Account.type': 'RING', 'Account.alias': 'pb', 'Account.archivePassword': '',
    'Account.upnpEnabled': 'false', 'TURN.enable': 'false', 'STUN.enable': 'false', 'Account.proxyEnabled': 'false',
    'Account.peerDiscovery': 'false', 'Account.accountDiscovery': 'false', 'Account.accountPublish': 'false',
    'DHT.PublicInCalls': 'true', 'Account.ringtoneEnabled': 'false', 'Account.videoEnabled': 'false',
    'RingNS.uri': 'http://10.77.0.3:9',
}
AUDIO = {'MEDIA_TYPE': 'MEDIA_TYPE_AUDIO', 'ENABLED': 'true', 'MUTED': 'false', 'SOURCE': '', 'LABEL': 'audio_0'}


def say(*words):
    print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), *words, flush=True)


class Control:
    def __init__(self, bootstrap, log):
        dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
        self.bus = dbus.SessionBus()
        self.daemon = subprocess.Popen([DAEMON, '-c', '-d', '-p'], stdout=open(log, 'w'), stderr=subprocess.STDOUT)
        say('jamid', self.daemon.pid)
        self._wait_for_daemon()
        self.manager, self.calls, instance = map(self._interface, ('ConfigurationManager', 'CallManager', 'Instance'))
        self.attempt('register', instance.Register, os.getpid(), 'phonebench')
        self._set_up_audio()
        self.call = self.id = self.status = None
        self._listen()
        template = {str(key): str(value) for key, value in self.manager.getAccountTemplate('RING').items()}
        template.update(ACCOUNT, **{'Account.hostname': bootstrap})
        self.account = self.manager.addAccount(dbus.Dictionary(template, signature='ss'))
        say('account', self.account)

    def _wait_for_daemon(self):
        for _ in range(100):
            if self.bus.name_has_owner(BUS_NAME):
                return
            time.sleep(.1)

    def _interface(self, name):
        path = '/' + BUS_NAME.replace('.', '/') + '/' + name
        return dbus.Interface(self.bus.get_object(BUS_NAME, path), BUS_NAME + '.' + name)

    @staticmethod
    def attempt(name, function, *arguments):
        """Some versions lack some of these."""
        try:
            function(*arguments)
        except dbus.DBusException as error:
            say(name, error)

    def _set_up_audio(self):
        self.manager.setAudioManager('alsa')
        self.attempt('plugin', self.manager.setAudioPlugin, 'default')
        self.attempt('agc', self.manager.setAgcState, False)
        self.attempt('noise', self.manager.setNoiseSuppressState, 'off')
        devices = [list(map(str, devices())) for devices in
                   (self.manager.getAudioOutputDeviceList, self.manager.getAudioInputDeviceList)]
        say('out', devices[0], 'in', devices[1])

    def _listen(self):
        for signal, handler in (('registrationStateChanged', lambda *words: say('reg', *words)),
                                ('incomingCallWithMedia', self.on_incoming), ('incomingCall', self.on_incoming),
                                ('callStateChanged', lambda _account, _call, state, code: say('callstate', state, code)),
                                ('mediaNegotiationStatus', lambda *words: say('medianeg', *words[:2]))):
            self.bus.add_signal_receiver(handler, signal)
        GLib.timeout_add(POLL_MS, self.poll)

    def on_incoming(self, _account, call, peer, *_media):
        self.call = call
        say('incoming', call, peer)

    def poll(self):
        name = str(self.manager.getAccountDetails(self.account).get('Account.username', ''))
        status = str(self.manager.getVolatileAccountDetails(self.account).get('Account.registrationStatus', ''))
        if name and not self.id:
            self.id = name
            say('id', name)
        if status != self.status:
            self.status = status
            say('status', status)
        return True

    def obey(self, line, loop):
        media = dbus.Array([dbus.Dictionary(AUDIO, signature='ss')], signature='a{ss}')
        try:
            if line.startswith('call '):
                say('dial')
                self.call = self.calls.placeCallWithMedia(self.account, line[5:], media)
                say('callid', self.call)
            elif line == 'answer':
                say('answering', self.calls.acceptWithMedia(self.account, self.call, media))
            elif line == 'hangup':
                say('hangup', self.calls.hangUp(self.account, self.call))
            elif line == 'quit':
                self.daemon.terminate()
                loop.quit()
        except dbus.DBusException as error:
            say('ERR', error)
        return False


def main():
    control, loop = Control(sys.argv[1], sys.argv[2]), GLib.MainLoop()

    def read():
        for line in sys.stdin:
            GLib.idle_add(control.obey, line.strip(), loop)
        GLib.idle_add(control.obey, 'quit', loop)

    threading.Thread(target=read, daemon=True).start()
    loop.run()


if __name__ == '__main__':
    main()
