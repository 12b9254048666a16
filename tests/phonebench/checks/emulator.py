"""The network emulator: delay, jitter, shares of loss, bursts, rate; and the same fate from the same seed. Times are printed, and asserted
with room for a busy machine."""
import socket
import statistics
import struct
import threading
import time

from ..network import Network
from ..process import in_namespace, now
from . import expect

INSTANCE = 90
PORT = 5000
STAMP = struct.Struct('<qq')     # number, ns


class Line:
    """Datagrams from a to b."""

    def __init__(self):
        self.network = Network(INSTANCE, seed=7)
        self.sender, self.receiver = (self._socket(host) for host in ('a', 'b'))
        self.receiver.settimeout(1.5)

    def _socket(self, host):
        with in_namespace(self.network.namespace[host]):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((self.network.IP[host], PORT))
        return made

    def send(self, count, gap, size):
        """Sends; answers (number, delay in ms) of what arrived, in that order."""
        arrived = []

        def receive():
            while True:
                try:
                    number, sent = STAMP.unpack(self.receiver.recv(3000)[:STAMP.size])
                except socket.timeout:
                    return
                arrived.append((number, (now() - sent) / 1e6))

        thread = threading.Thread(target=receive)
        thread.start()
        for number in range(count):
            self.sender.sendto(STAMP.pack(number, now()) + bytes(size - STAMP.size), (self.network.IP['b'], PORT))
            time.sleep(gap)
        thread.join()
        return arrived

    def case(self, rule, count, gap, size=160):
        self.network.command('clear *>*')
        self.network.command('set a>b ' + rule)
        return Result(rule, count, self.send(count, gap, size))


class Result:
    def __init__(self, rule, count, arrived):
        numbers, delays = [number for number, _ in arrived], sorted(delay for _, delay in arrived)
        self.lost = sorted(set(range(count)) - set(numbers))
        self.loss = 100 * len(self.lost) / count
        self.bursts = bursts(self.lost)
        self.least, self.median, self.most = delays[0], statistics.median(delays), delays[-1]
        self.late = delays[int(len(delays) * .99)]
        self.overtaken = sum(one > other for one, other in zip(numbers, numbers[1:]))
        self.copies = len(numbers) - len(set(numbers))
        self.quick = sum(delay < 2 for delay in delays) / count
        print(f'{rule:28} lost {self.loss:5.2f} %, bursts of {self.bursts:.2f}, delay {self.least:.2f} to {self.most:.2f} ms, '
              f'median {self.median:.2f}, p99 {self.late:.2f}, overtaken {self.overtaken}, copies {self.copies}', flush=True)


def bursts(lost):
    """Mean length of what was lost without a gap."""
    runs = sum(1 for at, number in enumerate(lost) if at == 0 or lost[at - 1] != number - 1)
    return len(lost) / runs if runs else 0


def check():
    line = Line()
    try:
        delays(line)
        losses(line)
        others(line)
        sizes(line)
    finally:
        line.network.close()


def delays(line):
    for delay in (0, 50):
        result = line.case(f'delay={delay}', 500, .002)
        expect(delay <= result.least and result.median < delay + 1, 'the delay')
        expect(not result.lost and not result.overtaken, 'nothing is lost or overtaken')
    kept = line.case('delay=50 jitter=30', 1000, .005)
    expect(not kept.overtaken and 20 <= kept.least and kept.late < 82, 'jitter, in order')
    free = line.case('delay=50 jitter=30 order=0', 1000, .005)
    expect(free.overtaken > 100 and 20 <= free.least < 25 and 47 < free.median < 53, 'jitter, out of order')


def losses(line):
    fates = []
    for _ in range(2):
        line.network.command('reseed 5')
        fates.append(line.case('delay=5 loss=10', 3000, .0007).lost)
    expect(fates[0] == fates[1], 'the same seed, the same fate')
    expect(8 < len(fates[0]) / 30 < 12, 'a tenth is lost')
    burst = line.case('delay=5 ge_loss=10 ge_burst=5', 3000, .0007)
    expect(6 < burst.loss < 14 and 3.5 < burst.bursts < 6.5, 'bursts of five')


def others(line):
    narrow = line.case('rate=256 qlen=1000', 100, .001, 1000)
    # 99 packets wait for one another: 1042 bytes at 256 kbit/s each.
    expect(not narrow.lost or narrow.most < 1040, 'the queue')
    expect(narrow.most > 900, 'the queue fills')
    expect(25 < line.case('delay=1 dup=5', 1000, .001).copies < 80, 'duplicates')
    expect(.06 < line.case('delay=5 reorder=10', 1000, .001).quick < .14, 'some are not delayed')


def sizes(line):
    line.network.command('zero')
    line.case('delay=0', 10, .001, 321)
    counted = line.network.command('sizes')['a>b']
    expect(counted == {'321': 10}, counted)
