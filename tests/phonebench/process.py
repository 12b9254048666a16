"""Programs in the namespaces of the bench, with the times at which they say something."""
import ctypes
import os
import signal
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
# Nice and autogroup of phones; of the bench while a call goes on; of what is calculated when it has ended.
PHONES, BENCH, LATER = -15, -12, 5

_libc = ctypes.CDLL('libc.so.6', use_errno=True)


def now():
    """CLOCK_MONOTONIC in ns, the axis of everything here."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def sh(*argv, check=True):
    return subprocess.run(argv, check=check, capture_output=True, text=True)


def set_priority(pid, nice):
    """Weighs a session against others: each is its own scheduler autogroup, so that `nice` alone changes nothing. Not everybody may.

    Only for the first process of a session: of another one it would be everybody's in it, a shell's, for instance."""
    if os.getsid(pid) != pid:
        return
    try:
        with open(f'/proc/{pid}/autogroup', 'w') as file:
            file.write(str(nice))
    except OSError:
        pass


class in_namespace:
    """with in_namespace(NAME): sockets that this thread makes belong to that network namespace."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.own = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        other = os.open('/run/netns/' + self.name, os.O_RDONLY)
        self._set(other)
        os.close(other)

    def __exit__(self, *_):
        self._set(self.own)
        os.close(self.own)

    @staticmethod
    def _set(fd):
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'setns')


class Process:
    """A program in a namespace. Its lines come with CLOCK_MONOTONIC in ns."""

    # All that run: a phone that fails while it starts leaves nothing behind.
    running = []

    def __init__(self, namespace, argv, env=None, log=None, pty=False):
        """`log`: a file that its lines are appended to. `pty`: its standard input is a terminal."""
        self.lines, self.said, self.terminal = [], threading.Condition(), None
        self.log = open(log, 'a') if log else None
        stdin = subprocess.PIPE
        if pty:
            self.terminal, stdin = os.openpty()
        # `ip netns exec` and `nice` replace themselves, so the process is the program itself.
        argv = ['ip', 'netns', 'exec', namespace, 'nice', '-n', str(PHONES), *map(str, argv)]
        self.process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env={**os.environ, **(env or {})}, start_new_session=True)
        if pty:
            os.close(stdin)
        self.pid = self.process.pid
        Process.running.append(self)
        set_priority(self.pid, PHONES)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in iter(self.process.stdout.readline, b''):
            self._add(now(), line.decode('utf8', 'replace').rstrip())
        self._add(now(), '<EOF>')

    def _add(self, at, line):
        with self.said:
            if self.log and not self.log.closed:
                self.log.write(f'{at} {line}\n')
                self.log.flush()
            self.lines.append((at, line))
            self.said.notify_all()

    def send(self, line):
        if self.terminal is not None:
            os.write(self.terminal, line.encode() + b'\n')
        else:
            self.process.stdin.write(line.encode() + b'\n')
            self.process.stdin.flush()

    def mark(self):
        """How many lines there are: a `start` for `wait`."""
        return len(self.lines)

    def wait(self, what, timeout=30, start=0):
        """The first line from `start` on that holds `what`, with its time.

        Raises TimeoutError, at once if the program has ended."""
        end, index = time.monotonic() + timeout, start
        with self.said:
            while True:
                for at, line in self.lines[index:]:
                    if what in line:
                        return at, line
                    if line == '<EOF>':
                        raise TimeoutError(f'it ended without "{what}"; before: {self._last_words()}')
                index = len(self.lines)
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f'no "{what}" within {timeout} s; last: {self._last_words()}')
                self.said.wait(left)

    def _last_words(self):
        return ' / '.join(line for _, line in self.lines[-4:])

    def stop(self):
        for how in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                try:
                    os.killpg(self.pid, how)    # its own session, nobody else's
                except ProcessLookupError:
                    pass
                try:
                    self.process.wait(2)
                except subprocess.TimeoutExpired:
                    pass
        if self in Process.running:
            Process.running.remove(self)
        with self.said:
            if self.log:
                self.log.close()
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None


def stop_all():
    for process in list(Process.running):
        process.stop()


def usage(pid):
    """What a process has used: processor time in s, resident memory in MiB, and for how long its threads waited for a processor, s."""
    with open(f'/proc/{pid}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    processor = (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    with open(f'/proc/{pid}/status') as file:
        resident = [int(line.split()[1]) for line in file if line.startswith('VmRSS')]
    return processor, (resident[0] / 1024 if resident else 0), waited(pid)


def waited(pid):
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        try:
            with open(f'/proc/{pid}/task/{thread}/schedstat') as file:
                total += int(file.read().split()[1])
        except OSError:
            pass                                # the thread has ended, or the kernel does not count
    return total / 1e9
