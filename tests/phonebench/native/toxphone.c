/* toxphone: the least telephone that toxav can be, without a screen.
 *
 *   toxphone UDP_PORT BOOTSTRAP_IP BOOTSTRAP_PORT BOOTSTRAP_KEY
 *
 * Standard input: add TOX_ID | call | answer | hangup | quit. Standard output: "CLOCK_MONOTONIC-in-ns EVENT ...".
 * Environment: TOXPHONE_BITRATE kbit/s (32), TOXPHONE_ITERATE ms between iterations (5), TOXPHONE_PREFILL ms (20).
 *
 * Sound is ALSA's "default" at 48 kHz, mono. The microphone is read in periods of 10 ms and sent in frames of 20; a frame that comes
 * in is written to the loudspeaker at once, after TOXPHONE_PREFILL of silence at the start and after every underrun. qTox
 * and toxic do the same: there is no jitter buffer but toxav's own. */
#define _GNU_SOURCE
#include <alsa/asoundlib.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tox/tox.h>
#include <tox/toxav.h>
#include <unistd.h>

#define RATE 48000
#define MS (RATE / 1000)
#define PERIOD (10 * MS)
#define FRAME (20 * MS)
#define MAX_PREFILL_MS 100
#define MAX_FRAME (120 * MS)           /* the longest that Opus has */
#define RETRY_NS 5000000000ll          /* between two attempts to get in */
#define REPORTED_ERRORS 5
#define SEND_TRIES 10

static Tox *tox;
static ToxAV *toxav;
static volatile int in_call, friend_number = -1;
static int bitrate = 32, iterate_ms = 5, prefill_ms = 20;
static snd_pcm_t *speaker;
static unsigned long received, underruns;

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  printf("%lld %s\n", now(), text);
  fflush(stdout);
}

/* ---- sound ---- */

static snd_pcm_t *open_device(snd_pcm_stream_t direction, snd_pcm_uframes_t buffer) {
  snd_pcm_t *device;
  snd_pcm_hw_params_t *hw;
  snd_pcm_sw_params_t *sw;
  snd_pcm_uframes_t period = PERIOD;
  int error = snd_pcm_open(&device, "default", direction, direction == SND_PCM_STREAM_PLAYBACK ? SND_PCM_NONBLOCK : 0);
  if (error) {
    say("err %s", snd_strerror(error));
    exit(1);
  }
  snd_pcm_hw_params_alloca(&hw);
  snd_pcm_hw_params_any(device, hw);
  snd_pcm_hw_params_set_access(device, hw, SND_PCM_ACCESS_RW_INTERLEAVED);
  snd_pcm_hw_params_set_format(device, hw, SND_PCM_FORMAT_S16_LE);
  snd_pcm_hw_params_set_channels(device, hw, 1);
  snd_pcm_hw_params_set_rate(device, hw, RATE, 0);
  snd_pcm_hw_params_set_period_size_near(device, hw, &period, 0);
  snd_pcm_hw_params_set_buffer_size_near(device, hw, &buffer);
  snd_pcm_hw_params(device, hw);
  snd_pcm_sw_params_alloca(&sw);
  snd_pcm_sw_params_current(device, sw);
  snd_pcm_sw_params_set_avail_min(device, sw, PERIOD);
  snd_pcm_sw_params_set_start_threshold(device, sw, 1);
  snd_pcm_sw_params(device, sw);
  return device;
}

static void send_frame(const int16_t *frame) {
  static int reported;
  TOXAV_ERR_SEND_FRAME error;
  for (int tries = 0; tries < SEND_TRIES; tries++) {
    toxav_audio_send_frame(toxav, (uint32_t)friend_number, frame, FRAME, 1, RATE, &error);
    if (error != TOXAV_ERR_SEND_FRAME_SYNC) break;
    usleep(500);
  }
  if (error && in_call && reported++ < REPORTED_ERRORS) say("senderr %d", error);
}

static void *capture(void *unused) {
  (void)unused;
  while (!in_call) usleep(1000);
  snd_pcm_t *microphone = open_device(SND_PCM_STREAM_CAPTURE, 200 * MS);
  int16_t frame[FRAME];
  snd_pcm_start(microphone);
  while (in_call) {
    for (long filled = 0; filled < FRAME;) {
      long got = snd_pcm_readi(microphone, frame + filled, PERIOD);
      if (got == -EPIPE) {
        snd_pcm_prepare(microphone);
        snd_pcm_start(microphone);
      } else if (got < 0) {
        say("capt err %s", snd_strerror((int)got));
        return NULL;
      } else {
        filled += got;
      }
    }
    send_frame(frame);
  }
  snd_pcm_close(microphone);
  return NULL;
}

static void write_silence(void) {
  static const int16_t silence[MAX_PREFILL_MS * MS];
  if (prefill_ms) snd_pcm_writei(speaker, silence, (snd_pcm_uframes_t)(prefill_ms * MS));
}

static void on_audio(ToxAV *av, uint32_t from, const int16_t *pcm, size_t count, uint8_t channels, uint32_t rate, void *user) {
  (void)av, (void)from, (void)user;
  static int16_t mono[MAX_FRAME];
  if (!speaker) {
    speaker = open_device(SND_PCM_STREAM_PLAYBACK, 400 * MS);
    say("firstrx %zu %u %u", count, channels, rate);
    write_silence();
  }
  if (channels == 2) {
    for (size_t i = 0; i < count && i < MAX_FRAME; i++) mono[i] = pcm[2 * i];
    pcm = mono;
  }
  if (snd_pcm_writei(speaker, pcm, count) == -EPIPE) {
    underruns++;
    snd_pcm_prepare(speaker);
    write_silence();
    snd_pcm_writei(speaker, pcm, count);
  }
  received++;
}

static void begin(void) {
  pthread_t thread;
  if (in_call) return;
  in_call = 1;
  pthread_create(&thread, NULL, capture, NULL);
}

/* ---- events ---- */

static void on_call(ToxAV *av, uint32_t from, bool audio, bool video, void *user) {
  (void)av, (void)audio, (void)video, (void)user;
  friend_number = (int)from;
  say("incoming %u", from);
}

static void on_state(ToxAV *av, uint32_t from, uint32_t state, void *user) {
  (void)av, (void)from, (void)user;
  say("callstate %u", state);
  if (state & (TOXAV_FRIEND_CALL_STATE_FINISHED | TOXAV_FRIEND_CALL_STATE_ERROR))
    in_call = 0;
  else
    begin();
}

static void on_bitrate(ToxAV *av, uint32_t from, uint32_t suggested, void *user) {
  (void)av, (void)from, (void)user;
  say("suggest_bitrate %u", suggested);
}

static void on_connection(Tox *self, TOX_CONNECTION connection, void *user) {
  (void)self, (void)user;
  say("dht %d", connection);
}

static void on_friend_connection(Tox *self, uint32_t who, TOX_CONNECTION connection, void *user) {
  (void)self, (void)user;
  friend_number = (int)who;
  say("friend %u %d", who, connection);
}

static void on_friend_request(Tox *self, const uint8_t *key, const uint8_t *message, size_t len, void *user) {
  (void)message, (void)len, (void)user;
  tox_friend_add_norequest(self, key, NULL);
  say("friendrequest");
}

/* ---- commands ---- */

static void from_hex(const char *hex, uint8_t *bytes, int len) {
  for (int i = 0; i < len; i++) sscanf(hex + 2 * i, "%2hhx", bytes + i);
}

static void add(const char *id) {
  uint8_t address[TOX_ADDRESS_SIZE];
  TOX_ERR_FRIEND_ADD error;
  from_hex(id, address, TOX_ADDRESS_SIZE);
  friend_number = (int)tox_friend_add(tox, address, (const uint8_t *)"hi", 2, &error);
  say("added %d", error);
}

static void obey(const char *line) {
  if (!strncmp(line, "add ", 4)) {
    add(line + 4);
  } else if (!strcmp(line, "call")) {
    TOXAV_ERR_CALL error;
    say("dial");
    toxav_call(toxav, (uint32_t)friend_number, (uint32_t)bitrate, 0, &error);
    say("called %d", error);
  } else if (!strcmp(line, "answer")) {
    TOXAV_ERR_ANSWER error;
    say("answering");
    toxav_answer(toxav, (uint32_t)friend_number, (uint32_t)bitrate, 0, &error);
    say("answered %d", error);
    begin();
  } else if (!strcmp(line, "hangup")) {
    in_call = 0;
    toxav_call_control(toxav, (uint32_t)friend_number, TOXAV_CALL_CONTROL_CANCEL, NULL);
    say("hungup rx %lu underruns %lu", received, underruns);
  } else if (!strcmp(line, "quit")) {
    say("bye rx %lu underruns %lu", received, underruns);
    exit(0);
  }
}

static void read_commands(void) {
  static char text[1024];
  static size_t len;
  ssize_t got = read(0, text + len, sizeof text - 1 - len);
  if (got == 0) exit(0);
  if (got < 0) return;
  len += (size_t)got;
  text[len] = 0;
  for (char *end; (end = strchr(text, '\n'));) {
    *end = 0;
    obey(text);
    len -= (size_t)(end + 1 - text);
    memmove(text, end + 1, len + 1);
  }
}

/* ---- start ---- */

static void *iterate_audio(void *unused) {
  (void)unused;
  for (;;) {
    toxav_audio_iterate(toxav);
    usleep((unsigned)iterate_ms * 1000);
  }
}

static int setting(const char *name, int otherwise) { return getenv(name) ? atoi(getenv(name)) : otherwise; }

static Tox *new_tox(uint16_t port) {
  struct Tox_Options *options = tox_options_new(NULL);
  tox_options_set_local_discovery_enabled(options, false);
  tox_options_set_ipv6_enabled(options, false);
  tox_options_set_start_port(options, port);
  tox_options_set_end_port(options, (uint16_t)(port + 20));
  return tox_new(options, NULL);
}

static void set_callbacks(void) {
  tox_callback_self_connection_status(tox, on_connection);
  tox_callback_friend_connection_status(tox, on_friend_connection);
  tox_callback_friend_request(tox, on_friend_request);
  toxav_callback_call(toxav, on_call, NULL);
  toxav_callback_call_state(toxav, on_state, NULL);
  toxav_callback_audio_receive_frame(toxav, on_audio, NULL);
  toxav_callback_audio_bit_rate(toxav, on_bitrate, NULL);
}

static void say_id(void) {
  uint8_t address[TOX_ADDRESS_SIZE];
  char hex[TOX_ADDRESS_SIZE * 2 + 1];
  tox_self_get_address(tox, address);
  for (int i = 0; i < TOX_ADDRESS_SIZE; i++) sprintf(hex + 2 * i, "%02X", address[i]);
  say("id %s", hex);
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  bitrate = setting("TOXPHONE_BITRATE", bitrate);
  iterate_ms = setting("TOXPHONE_ITERATE", iterate_ms);
  prefill_ms = setting("TOXPHONE_PREFILL", prefill_ms);
  if (prefill_ms < 0 || prefill_ms > MAX_PREFILL_MS) return 2;

  tox = new_tox((uint16_t)atoi(argv[1]));
  if (!tox) {
    say("err tox_new");
    return 1;
  }
  toxav = toxav_new(tox, NULL);
  set_callbacks();
  uint8_t key[TOX_PUBLIC_KEY_SIZE];
  uint16_t port = (uint16_t)atoi(argv[3]);
  from_hex(argv[4], key, TOX_PUBLIC_KEY_SIZE);
  tox_bootstrap(tox, argv[2], port, key, NULL);
  tox_add_tcp_relay(tox, argv[2], port, key, NULL);
  say_id();

  fcntl(0, F_SETFL, O_NONBLOCK);
  pthread_t thread;
  pthread_create(&thread, NULL, iterate_audio, NULL);
  for (long long next_try = now() + RETRY_NS;;) {
    read_commands();
    tox_iterate(tox, NULL);
    toxav_iterate(toxav);
    if (now() > next_try && tox_self_get_connection_status(tox) == TOX_CONNECTION_NONE) {
      tox_bootstrap(tox, argv[2], port, key, NULL);
      next_try = now() + RETRY_NS;
    }
    usleep((unsigned)iterate_ms * 1000);
  }
}
