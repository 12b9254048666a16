/* loopback: the sound card played back to itself with a delay that is known, to check the card and what measures it.
 *
 *   loopback PERIOD PREFILL SECONDS [RATE]
 *
 * Reads PERIOD frames from the microphone and writes them to a loudspeaker that was given PREFILL frames of silence before.
 * A frame is heard PREFILL / RATE later than it was spoken, plus what lies between the starts of both (see the card's dev.log). */
#include <alsa/asoundlib.h>
#include <stdio.h>
#include <stdlib.h>

static void check(const char *what, long result) {
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", what, snd_strerror((int)result));
    exit(1);
  }
}

static snd_pcm_t *open_device(snd_pcm_stream_t direction, snd_pcm_uframes_t period, unsigned rate) {
  snd_pcm_t *device;
  snd_pcm_hw_params_t *hw;
  snd_pcm_sw_params_t *sw;
  snd_pcm_uframes_t buffer = period * 32;
  check("open", snd_pcm_open(&device, "default", direction, 0));

  snd_pcm_hw_params_alloca(&hw);
  snd_pcm_hw_params_any(device, hw);
  snd_pcm_hw_params_set_access(device, hw, SND_PCM_ACCESS_RW_INTERLEAVED);
  snd_pcm_hw_params_set_format(device, hw, SND_PCM_FORMAT_S16_LE);
  snd_pcm_hw_params_set_channels(device, hw, 1);
  snd_pcm_hw_params_set_rate(device, hw, rate, 0);
  snd_pcm_hw_params_set_period_size_near(device, hw, &period, 0);
  snd_pcm_hw_params_set_buffer_size_near(device, hw, &buffer);
  check("hardware parameters", snd_pcm_hw_params(device, hw));

  snd_pcm_sw_params_alloca(&sw);
  snd_pcm_sw_params_current(device, sw);
  snd_pcm_sw_params_set_start_threshold(device, sw, 1 << 30); /* starts by hand only */
  snd_pcm_sw_params_set_avail_min(device, sw, period);
  check("software parameters", snd_pcm_sw_params(device, sw));
  return device;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "loopback PERIOD PREFILL SECONDS [RATE]\n");
    return 2;
  }
  long period = atol(argv[1]), prefill = atol(argv[2]), seconds = atol(argv[3]), rate = argc > 4 ? atol(argv[4]) : 48000;
  snd_pcm_t *microphone = open_device(SND_PCM_STREAM_CAPTURE, (snd_pcm_uframes_t)period, (unsigned)rate);
  snd_pcm_t *speaker = open_device(SND_PCM_STREAM_PLAYBACK, (snd_pcm_uframes_t)period, (unsigned)rate);
  short *frames = calloc((size_t)(period + prefill), sizeof *frames);
  if (!frames) abort();
  if (prefill) check("prefill", snd_pcm_writei(speaker, frames, (snd_pcm_uframes_t)prefill));
  check("start", snd_pcm_start(microphone));
  for (long done = 0; done < seconds * rate; done += period) {
    check("read", snd_pcm_readi(microphone, frames, (snd_pcm_uframes_t)period));
    check("write", snd_pcm_writei(speaker, frames, (snd_pcm_uframes_t)period));
    if (done == 0) check("start", snd_pcm_start(speaker));
  }
  return 0;
}
