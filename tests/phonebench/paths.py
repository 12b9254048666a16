"""Where things are. What is made lies in one folder, PHONEBENCH_CACHE, by default `target/phonebench` of the workspace."""
import os
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
WORKSPACE = SOURCE.parent.parent
CACHE = Path(os.environ.get('PHONEBENCH_CACHE') or WORKSPACE / 'target' / 'phonebench').absolute()

PROGRAMS = Path(os.environ.get('PHONEBENCH_PROGRAMS') or WORKSPACE / 'target' / 'measured').absolute()

NATIVE = SOURCE / 'native'          # C sources
BASELINE = SOURCE / 'baseline'      # what others were measured with before

VENV = CACHE / 'venv'
BIN = CACHE / 'bin'                 # compiled helpers
SPEECH = CACHE / 'speech'           # what is said
RUNS = CACHE / 'runs'               # what comes of the calls

CARD = BIN / 'libasound_module_pcm_phonebench.so'
FAKE_CARD = BIN / 'fakecard.so'
LINKEM = BIN / 'linkem'
LOOPBACK = BIN / 'loopback'
TOXPHONE = BIN / 'toxphone'
MUMBLE_CERTIFICATE = BIN / 'mumble.p12'
