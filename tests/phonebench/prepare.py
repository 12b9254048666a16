"""Makes what the bench needs in its cache folder: Python packages, compiled helpers, speech. Uses the standard library only.

System packages are not its business; `cargo xtask bench voice` installs those. What is there and up to date is left alone.
"""
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

from .paths import BIN, CARD, FAKE_CARD, LINKEM, LOOPBACK, MUMBLE_CERTIFICATE, NATIVE, SOURCE, SPEECH, TOXPHONE, VENV

# Debian's package for each program or file that is looked for.
PACKAGES = {
    'cc': 'build-essential', 'ip': 'iproute2', 'ethtool': 'ethtool', 'sox': 'sox',
    '/usr/include/alsa/asoundlib.h': 'libasound2-dev',
    '/usr/share/pocketsphinx/test/data/librivox': 'pocketsphinx-testdata',
}
ADMIN_FOLDERS = '/usr/sbin:/sbin'
C_FLAGS = ['-O2', '-Wall', '-Wextra', '-fPIC', '-DPIC']


class Missing(Exception):
    """Something has to be installed first; the message says what and how."""


def find(program):
    """The path of a program or file, or None. Those of administrators are found, too."""
    if program.startswith('/'):
        return program if os.path.exists(program) else None
    return shutil.which(program, path=os.environ.get('PATH', '') + ':' + ADMIN_FOLDERS)


def everything():
    """Prepares all of it, saying what takes long.

    Raises Missing, or CalledProcessError if a step fails."""
    check_system()
    make_venv()
    compile_helpers()
    make_speech()


def check_system():
    missing = {package for thing, package in PACKAGES.items() if not find(thing)}
    if importlib.util.find_spec('ensurepip') is None:
        missing.add('python3-venv')
    if missing:
        raise Missing('missing: ' + ' '.join(sorted(missing)) + '\n'
                      'Install them (Debian\'s names): apt-get install --no-install-recommends ' + ' '.join(sorted(missing)))


def run(argv, **options):
    """Runs a program of which only a failure is to be seen."""
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()


def make_venv():
    requirements = SOURCE / 'requirements.txt'
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / 'requirements.sha256'
    if stamp.exists() and stamp.read_text() == wanted:
        return
    progress('Python packages (some hundred MB, once)')
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, '-m', 'venv', VENV])
    run([VENV / 'bin' / 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', requirements])
    stamp.write_text(wanted)


def compile_helpers():
    BIN.mkdir(parents=True, exist_ok=True)
    compile_one(LINKEM, 'linkem.c', '-lm')
    compile_one(CARD, 'card.c', '-shared', '-lasound')
    compile_one(FAKE_CARD, 'fakecard.c', '-shared')
    compile_one(LOOPBACK, 'loopback.c', '-lasound')
    if find('/usr/include/tox/toxav.h'):
        compile_one(TOXPHONE, 'toxphone.c', '-ltoxcore', '-lasound', '-lpthread')
    if find('mumble') and not MUMBLE_CERTIFICATE.exists():
        make_certificate()


def compile_one(result, source, *flags):
    source = NATIVE / source
    if result.exists() and result.stat().st_mtime >= source.stat().st_mtime:
        return
    progress('compiling ' + source.name)
    # Whoever runs the old one keeps it.
    made = result.with_suffix('.new')
    run([os.environ.get('CC', 'cc'), *C_FLAGS, '-o', made, source, *flags])
    made.rename(result)


def make_certificate():
    """A client's certificate without a password: without one, mumble asks by a dialogue before it does anything."""
    key, certificate = BIN / 'mumble.key', BIN / 'mumble.pem'
    run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '3650', '-subj', '/CN=phonebench',
         '-keyout', key, '-out', certificate])
    run(['openssl', 'pkcs12', '-export', '-passout', 'pass:', '-inkey', key, '-in', certificate, '-out', MUMBLE_CERTIFICATE])


def make_speech():
    if (SPEECH / 'complete').exists():
        return
    progress('speech')
    run([VENV / 'bin' / 'python', '-m', __package__ + '.speech'])


def progress(text):
    print('phonebench: ' + text, file=sys.stderr, flush=True)
