"""A person with a mouth and an ear: the folder behind the virtual sound card of one phone (native/card.c)."""
import shutil
import struct
from pathlib import Path

from .paths import CARD, NATIVE, SPEECH
from .speech import CARD_RATES

CTL_SIZE = 4096


class Party:
    """Also the home of its phone: `env` is what the phone's environment needs."""

    def __init__(self, path, mouth):
        """`mouth` names what it says: a file of speech.py."""
        self.dir = Path(path)
        shutil.rmtree(self.dir, ignore_errors=True)
        home = self.dir / 'home'
        (home / 'run').mkdir(parents=True, mode=0o700)
        for rate in CARD_RATES:
            (self.dir / f'mic.{rate}.raw').symlink_to(SPEECH / f'{mouth}.{rate}.raw')
        (self.dir / 'ctl').write_bytes(bytes(CTL_SIZE))
        card = (NATIVE / 'asound.conf').read_text().replace('@DIR@', str(self.dir)).replace('@LIBRARY@', str(CARD))
        (home / '.asoundrc').write_text(card)
        # For programs that do not look at .asoundrc, by ALSA_CONFIG_PATH.
        self.alsa_config = self.dir / 'asound.conf'
        self.alsa_config.write_text('</usr/share/alsa/alsa.conf>\n' + card)
        self.env = {
            'PHONEBENCH_DIR': str(self.dir),
            'HOME': str(home),
            'XDG_CONFIG_HOME': str(home / '.config'),
            'XDG_DATA_HOME': str(home / '.local/share'),
            'XDG_CACHE_HOME': str(home / '.cache'),
            'XDG_RUNTIME_DIR': str(home / 'run'),
        }

    def speak(self, at):
        """Begins to speak, its file's first sample at `at` (CLOCK_MONOTONIC, ns)."""
        with open(self.dir / 'ctl', 'r+b') as ctl:
            ctl.seek(8)
            ctl.write(struct.pack('<ii', 0, 1))
            ctl.seek(0)
            ctl.write(struct.pack('<q', at))

    def xruns(self):
        """How often the phone let its buffers run empty or over."""
        try:
            return len((self.dir / 'xrun.log').read_text().splitlines())
        except OSError:
            return 0

    def forget_sound(self):
        """Deletes what its ear has recorded, some ten MB."""
        for path in self.dir.glob('spk-*.raw'):
            path.unlink()
