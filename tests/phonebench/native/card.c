/* A virtual sound card for ALSA (an "ioplug"), built as libasound_module_pcm_phonebench.so.
 *
 * It runs by CLOCK_MONOTONIC like a perfect card whose converters take no time:
 *
 *   capture   the frame captured at time t is what the mouth says at t: DIR/mic.RATE.raw (S16LE, mono) at offset t - t0.
 *             t0, and whether the mouth speaks at all, or again and again, are in DIR/ctl, which is mapped.
 *   playback  the frame that leaves the buffer at t is heard at t. Each start of a stream writes DIR/spk-PID-N.raw and
 *             DIR/spk-PID-N.idx: rate, channels, and CLOCK_MONOTONIC of the first frame in ns. So mouth and ear lie on one axis.
 *
 * What is measured is the program with the buffers that it chose; the card adds nothing to them. It moves on by whole periods, as a plain card
 * does at its interrupts. A buffer that runs empty or over is reported as -EPIPE, as by a real card, and written down in
 * DIR/xrun.log; DIR/dev.log has a line with rate, period and buffer for each start.
 *
 *   pcm_type.phonebench { lib "LIB/libasound_module_pcm_phonebench.so" }
 *   pcm.card { type phonebench dir "/run/party-a" }
 *   pcm.!default { type plug slave.pcm card }
 *
 * PHONEBENCH_DIR in the environment takes the place of `dir`.
 */
#define _GNU_SOURCE
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ll
#define LATE 20000 /* ns that the timer comes after a period's end, so that it has ended for certain */
#define CTL_SIZE 4096
#define PATH_ROOM 300

/* DIR/ctl, written by sound.py */
struct ctl {
  volatile int64_t t0_ns;
  volatile int32_t loop, on;
};

typedef struct {
  snd_pcm_ioplug_t io;
  char dir[200];
  int timer; /* readable when the program may go on */
  struct ctl *ctl;
  const int16_t *mic;
  int64_t mic_len;
  int running;
  int64_t start_ns;
  uint64_t moved; /* frames moved by the program since it prepared the stream */
  FILE *speaker;
  int number; /* of the stream, for the names of its files */
  snd_pcm_uframes_t boundary, avail_min;
} card_t;

static int streams;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t to_frames(const card_t *card, int64_t ns) { return (int64_t)((__int128)ns * card->io.rate / SECOND); }
static int64_t to_ns(const card_t *card, int64_t frames) { return (int64_t)((__int128)frames * SECOND / card->io.rate); }

static int plays(const snd_pcm_ioplug_t *io) { return io->stream == SND_PCM_STREAM_PLAYBACK; }

/* Frames since the start. */
static uint64_t elapsed(const card_t *card) { return card->running ? (uint64_t)to_frames(card, now() - card->start_ns) : 0; }

/* The same, as far as the last "interrupt" has told. */
static uint64_t elapsed_periods(const card_t *card) {
  uint64_t frames = elapsed(card);
  return frames - frames % card->io.period_size;
}

static uint64_t wanted(const card_t *card) { return card->avail_min ? card->avail_min : card->io.period_size; }

static FILE *open_file(const card_t *card, const char *name, const char *mode) {
  char path[PATH_ROOM];
  snprintf(path, sizeof path, "%s/%s", card->dir, name);
  return fopen(path, mode);
}

static FILE *open_recording(const card_t *card, const char *ending) {
  char name[64];
  snprintf(name, sizeof name, "spk-%d-%d.%s", getpid(), card->number, ending);
  return open_file(card, name, "w");
}

static void report_xrun(const card_t *card, const char *what) {
  FILE *log = open_file(card, "xrun.log", "a");
  if (!log) return;
  fprintf(log, "%lld %d %s %s\n", (long long)now(), getpid(), plays(&card->io) ? "play" : "capt", what);
  fclose(log);
}

static void set_timer(card_t *card, int flags, int64_t ns) {
  struct itimerspec when = {.it_value = {ns / SECOND, ns % SECOND}};
  timerfd_settime(card->timer, flags, &when, NULL);
}

/* Sets the timer to the end of the period in which as many frames as are wanted will be there, or there is room for them. */
static void arm(card_t *card) {
  if (!card->io.period_size || !card->io.rate) return;
  int64_t frames = (int64_t)(card->moved + wanted(card));
  if (plays(&card->io)) frames -= (int64_t)card->io.buffer_size;
  if (!card->running) {
    set_timer(card, 0, plays(&card->io) && frames <= 0); /* 1 ns: there is room at once */
    return;
  }
  int64_t period = (int64_t)card->io.period_size;
  if (frames < 0) frames = 0;
  frames = (frames + period - 1) / period * period;
  set_timer(card, TFD_TIMER_ABSTIME, card->start_ns + to_ns(card, frames) + LATE);
}

static int on_start(snd_pcm_ioplug_t *io) {
  card_t *card = io->private_data;
  card->start_ns = now();
  card->running = 1;
  arm(card);
  FILE *file;
  if (plays(io) && (file = open_recording(card, "idx"))) {
    fprintf(file, "%u %u %lld\n", io->rate, io->channels, (long long)card->start_ns);
    fclose(file);
  }
  if ((file = open_file(card, "dev.log", "a"))) {
    fprintf(file, "%lld %d start %s rate=%u ch=%u period=%lu buffer=%lu prefill=%lu\n", (long long)card->start_ns, getpid(),
            plays(io) ? "play" : "capt", io->rate, io->channels, (unsigned long)io->period_size,
            (unsigned long)io->buffer_size, (unsigned long)card->moved);
    fclose(file);
  }
  return 0;
}

static void close_speaker(card_t *card) {
  if (card->speaker) fclose(card->speaker);
  card->speaker = NULL;
}

static void close_mic(card_t *card) {
  if (card->mic) munmap((void *)card->mic, (size_t)card->mic_len * 2);
  card->mic = NULL;
}

static int on_stop(snd_pcm_ioplug_t *io) {
  card_t *card = io->private_data;
  card->running = 0;
  arm(card);
  close_speaker(card);
  return 0;
}

static snd_pcm_sframes_t on_pointer(snd_pcm_ioplug_t *io) {
  card_t *card = io->private_data;
  if (!io->period_size || !io->buffer_size) return 0; /* mediastreamer2 asks before it has set any */
  uint64_t frames = elapsed(card);
  if (card->running && plays(io) && frames > card->moved) {
    report_xrun(card, "underrun");
    return -EPIPE;
  }
  if (card->running && !plays(io) && frames > card->moved + io->buffer_size) {
    report_xrun(card, "overrun");
    return -EPIPE;
  }
  frames -= frames % io->period_size;
  return (snd_pcm_sframes_t)(frames % (card->boundary ? card->boundary : io->buffer_size));
}

static void open_mic(card_t *card) {
  char path[PATH_ROOM];
  struct stat info;
  close_mic(card);
  snprintf(path, sizeof path, "%s/mic.%u.raw", card->dir, card->io.rate);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return;
  if (!fstat(fd, &info) && info.st_size) {
    void *mapped = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    card->mic_len = info.st_size / 2;
    card->mic = mapped == MAP_FAILED ? NULL : mapped;
  }
  close(fd);
}

static int on_prepare(snd_pcm_ioplug_t *io) {
  card_t *card = io->private_data;
  card->running = 0;
  card->moved = 0;
  close_speaker(card);
  if (plays(io)) {
    card->number = __sync_fetch_and_add(&streams, 1);
    card->speaker = open_recording(card, "raw");
  } else {
    open_mic(card);
  }
  arm(card);
  return 0;
}

/* What the mouth says in its own frame `at`. */
static int16_t spoken(const card_t *card, int64_t at) {
  if (!card->ctl->on || !card->mic || !card->mic_len) return 0;
  if (card->ctl->loop) at = (at % card->mic_len + card->mic_len) % card->mic_len;
  return at >= 0 && at < card->mic_len ? card->mic[at] : 0;
}

static snd_pcm_sframes_t on_transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas, snd_pcm_uframes_t offset,
                                     snd_pcm_uframes_t size) {
  card_t *card = io->private_data;
  unsigned channels = io->channels;
  int16_t *frames = (int16_t *)((char *)areas->addr + (areas->first + areas->step * offset) / 8);
  if (plays(io)) {
    if (card->speaker) fwrite(frames, 2 * channels, size, card->speaker);
  } else {
    int64_t first = to_frames(card, card->start_ns - card->ctl->t0_ns) + (int64_t)card->moved;
    for (snd_pcm_uframes_t i = 0; i < size; i++)
      for (unsigned channel = 0; channel < channels; channel++)
        frames[i * channels + channel] = spoken(card, first + (int64_t)i);
  }
  card->moved += size;
  arm(card);
  return (snd_pcm_sframes_t)size;
}

static int on_close(snd_pcm_ioplug_t *io) {
  card_t *card = io->private_data;
  close_speaker(card);
  close_mic(card);
  munmap(card->ctl, CTL_SIZE);
  close(card->timer);
  free(card);
  return 0;
}

static int on_sw_params(snd_pcm_ioplug_t *io, snd_pcm_sw_params_t *params) {
  card_t *card = io->private_data;
  snd_pcm_sw_params_get_avail_min(params, &card->avail_min);
  snd_pcm_sw_params_get_boundary(params, &card->boundary);
  arm(card);
  return 0;
}

static int on_poll(snd_pcm_ioplug_t *io, struct pollfd *polled, unsigned count, unsigned short *events) {
  card_t *card = io->private_data;
  (void)polled, (void)count;
  *events = 0;
  if (!io->period_size) return 0;
  uint64_t frames = elapsed_periods(card), available;
  if (plays(io))
    available = frames > card->moved ? io->buffer_size : io->buffer_size - (card->moved - frames);
  else
    available = frames > card->moved ? frames - card->moved : 0;
  if (available >= wanted(card))
    *events = plays(io) ? POLLOUT : POLLIN;
  else
    arm(card);
  return 0;
}

static int on_delay(snd_pcm_ioplug_t *io, snd_pcm_sframes_t *delay) {
  card_t *card = io->private_data;
  int64_t ahead = (int64_t)card->moved - (int64_t)elapsed(card);
  *delay = plays(io) ? ahead : -ahead;
  return 0;
}

static const snd_pcm_ioplug_callback_t CALLBACKS = {
    .start = on_start,         .stop = on_stop,           .pointer = on_pointer,   .transfer = on_transfer, .close = on_close,
    .prepare = on_prepare,     .sw_params = on_sw_params, .poll_revents = on_poll, .delay = on_delay,
};

/* What the card can do. */
static void allow(snd_pcm_ioplug_t *io) {
  static const unsigned access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED};
  static const unsigned format[] = {SND_PCM_FORMAT_S16_LE};
  static const unsigned rates[] = {8000, 16000, 24000, 32000, 44100, 48000}; /* those of speech.py */
  snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);
  snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, format);
  snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_RATE, 6, rates);
  snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_CHANNELS, 1, 2);
  snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 64, 65536);
  snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_BUFFER_BYTES, 256, 1 << 20);
  snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIODS, 2, 1024);
}

/* The folder that the configuration or the environment names, or NULL. */
static const char *folder(snd_config_t *conf) {
  snd_config_iterator_t i, next;
  const char *dir = NULL;
  snd_config_for_each(i, next, conf) {
    snd_config_t *entry = snd_config_iterator_entry(i);
    const char *id;
    if (snd_config_get_id(entry, &id) < 0 || !strcmp(id, "comment") || !strcmp(id, "type") || !strcmp(id, "hint")) continue;
    if (strcmp(id, "dir")) {
      SNDERR("phonebench: unknown field %s", id);
      return NULL;
    }
    snd_config_get_string(entry, &dir);
  }
  return getenv("PHONEBENCH_DIR") ? getenv("PHONEBENCH_DIR") : dir;
}

static struct ctl *map_ctl(const char *dir) {
  char path[PATH_ROOM];
  snprintf(path, sizeof path, "%s/ctl", dir);
  int fd = open(path, O_RDWR | O_CREAT, 0644);
  if (fd < 0) return NULL;
  void *mapped = ftruncate(fd, CTL_SIZE) ? MAP_FAILED : mmap(NULL, CTL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return mapped == MAP_FAILED ? NULL : mapped;
}

SND_PCM_PLUGIN_DEFINE_FUNC(phonebench) {
  (void)root;
  const char *dir = folder(conf);
  if (!dir) {
    SNDERR("phonebench: no dir");
    return -EINVAL;
  }
  card_t *card = calloc(1, sizeof *card);
  if (!card) return -ENOMEM;
  snprintf(card->dir, sizeof card->dir, "%s", dir);
  card->ctl = map_ctl(dir);
  card->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (!card->ctl || card->timer < 0) {
    int error = -errno;
    free(card);
    return error;
  }
  card->io.version = SND_PCM_IOPLUG_VERSION;
  card->io.name = "phonebench virtual sound card";
  card->io.callback = &CALLBACKS;
  card->io.private_data = card;
  card->io.poll_fd = card->timer;
  card->io.poll_events = POLLIN;
  card->io.mmap_rw = 0;
  card->io.flags = SND_PCM_IOPLUG_FLAG_BOUNDARY_WA | SND_PCM_IOPLUG_FLAG_MONOTONIC;
  int error = snd_pcm_ioplug_create(&card->io, name, stream, mode);
  if (error < 0) {
    free(card);
    return error;
  }
  allow(&card->io);
  *pcmp = card->io.pcm;
  return 0;
}
SND_PCM_PLUGIN_SYMBOL(phonebench);
