/* linkem: a link emulator in user space, as a layer-2 switch with impairments.
 *
 * Bridges network interfaces (the root-namespace ends of veth pairs whose other ends are in the hosts' namespaces)
 * through AF_PACKET sockets. Every ordered pair of ports "x>y" is a one-way link with parameters, a seeded random stream and
 * counters of its own, so that a>b can lose packets while a>s does not.
 *
 *   linkem -p a=vethA -p b=vethB [-p s=vethS] [-s SEED] [-r "a>b delay=50 ..."]... [-m]
 *
 * Prints {"ready":PORTS}, then answers each line of standard input with one line of JSON:
 *   set X>Y key=value ...   X or Y may be '*'; keys that are not named keep their value
 *   clear X>Y               a perfect link again
 *   reseed N                all random streams begin anew from seed N
 *   stats                   counters of every link
 *   sizes                   of every link: how many UDP datagrams of which payload length came in
 *   zero                    counters and sizes from nought
 *   quit
 *
 * Keys (times in ms, shares in percent):
 *   delay     one way
 *   jitter    more delay, uniform in [-jitter, +jitter] (jdist=normal: sigma, cut at 3 sigma; jdist=exp: one-sided, mean)
 *   order     1 (default): a packet waits for the one before it; 0: packets may overtake, as with `tc netem`
 *   loss      independent loss
 *   ge_loss   loss in bursts (Gilbert-Elliott; the bad state loses everything): the mean share ...
 *   ge_burst  ... and the mean length of a burst, packets
 *   dup       sent twice
 *   reorder   not delayed at all (netem's way)
 *   rate      kbit/s of whole Ethernet frames, 0: no limit
 *   qlen      what may wait for the rate, ms (default 200); more is dropped
 *
 * Every packet takes the same number of draws whatever the settings, so that the n-th packet of a link meets the same fate with
 * the same seed. (The traffic itself may differ between two runs.) ARP takes no draws, is delayed and never lost; what else goes to many
 * is dropped, so that nothing is discovered on the "LAN", unless -m is given.
 *
 * Unfinished checksums and segments are carried along (PACKET_VNET_HDR). Turn GSO, TSO and GRO off in the namespaces, or a
 * frame is more than one packet.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <math.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PORTS 8
#define MAX_STATIONS 64    /* MAC addresses that are known by their port */
#define MAX_RULES 64       /* -r */
#define MAX_FRAME 66000    /* a frame with its virtio header, even an unsegmented one */
#define MAX_PAYLOAD 1536   /* longer UDP payloads are counted as this long */
#define MAX_COMMAND 4096
#define RECEIVE_BUFFER (8 << 20)
#define PRIORITY 20        /* SCHED_FIFO: keeps time on a busy machine */

#define ETHERNET_HEADER 14
#define PROTOCOL_AT (ETHERNET_HEADER + 9)
#define VNET_HEADER ((int)sizeof(struct virtio_net_hdr))

/* ---- random numbers: xoshiro256** seeded by splitmix64 (Blackman and Vigna, public domain) ---- */

typedef struct {
  uint64_t s[4];
} rng_t;

static uint64_t splitmix64(uint64_t *state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

static void rng_seed(rng_t *rng, uint64_t seed) {
  for (int i = 0; i < 4; i++) rng->s[i] = splitmix64(&seed);
}

static uint64_t rotate_left(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

/* uniform in [0, 1) */
static double rng_uniform(rng_t *rng) {
  uint64_t *s = rng->s;
  uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left(s[3], 45);
  return (double)(result >> 11) * (1.0 / 9007199254740992.0);
}

/* ---- ports and links ---- */

typedef enum { UNIFORM, NORMAL, EXPONENTIAL } jitter_t;

typedef struct {
  uint64_t in, in_bytes, out, out_bytes; /* Ethernet frames and their bytes */
  uint64_t lost, queue_drops, duplicated, reordered;
  uint64_t udp, udp_ip_bytes, tcp, tcp_ip_bytes; /* of what came in; bytes of IP packets */
  uint32_t sizes[MAX_PAYLOAD + 1];
} counters_t;

typedef struct {
  double delay, jitter, loss, ge_loss, ge_burst, dup, reorder, rate, qlen;
  jitter_t distribution;
  int in_order;

  rng_t rng;
  int in_burst;
  int64_t rate_free; /* when all that waits for the rate will have been sent, ns */
  int64_t last_out;  /* when the last packet comes out, ns */
  counters_t count;
} link_t;

typedef struct {
  char name[16], interface[IFNAMSIZ];
  int fd;
} port_t;

static port_t ports[MAX_PORTS];
static int port_count;
static link_t links[MAX_PORTS][MAX_PORTS];
static uint64_t seed = 1;
static int pass_multicast;

static struct {
  uint8_t mac[ETH_ALEN];
  int port;
} stations[MAX_STATIONS];
static int station_count;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* ---- packets under way: a heap by time, then by order of arrival ---- */

typedef struct {
  int64_t at;
  uint64_t number;
  int from, to, len;
  uint8_t *bytes;
} packet_t;

static packet_t *heap;
static size_t heap_count, heap_room;
static uint64_t next_number;

static int is_before(const packet_t *a, const packet_t *b) { return a->at != b->at ? a->at < b->at : a->number < b->number; }

static void swap(size_t i, size_t j) {
  packet_t kept = heap[i];
  heap[i] = heap[j];
  heap[j] = kept;
}

static void push(packet_t packet) {
  if (heap_count == heap_room) {
    heap_room = heap_room ? heap_room * 2 : 1024;
    heap = realloc(heap, heap_room * sizeof *heap);
    if (!heap) abort();
  }
  size_t i = heap_count++;
  heap[i] = packet;
  for (size_t parent; i && (parent = (i - 1) / 2, is_before(&heap[i], &heap[parent])); i = parent) swap(i, parent);
}

static packet_t pop(void) {
  packet_t first = heap[0];
  heap[0] = heap[--heap_count];
  for (size_t i = 0;;) {
    size_t left = 2 * i + 1, right = left + 1, least = i;
    if (left < heap_count && is_before(&heap[left], &heap[least])) least = left;
    if (right < heap_count && is_before(&heap[right], &heap[least])) least = right;
    if (least == i) return first;
    swap(i, least);
    i = least;
  }
}

/* ---- what a link does to a packet ---- */

static void clear(link_t *link) {
  link->delay = link->jitter = link->loss = link->ge_loss = link->dup = link->reorder = link->rate = 0;
  link->ge_burst = 1;
  link->qlen = 200;
  link->distribution = UNIFORM;
  link->in_order = 1;
}

static void reseed(void) {
  for (int i = 0; i < port_count; i++)
    for (int j = 0; j < port_count; j++) {
      rng_seed(&links[i][j].rng, seed * 1000003 + (uint64_t)ports[i].name[0] * 257 + (uint64_t)ports[j].name[0]);
      links[i][j].in_burst = 0;
    }
}

static int ethertype(const uint8_t *frame, int len) { return len >= ETHERNET_HEADER ? frame[12] << 8 | frame[13] : 0; }

static void count_in(counters_t *count, const uint8_t *frame, int len) {
  count->in++;
  count->in_bytes += (uint64_t)len;
  if (ethertype(frame, len) != ETH_P_IP || len <= ETHERNET_HEADER + 20) return;
  int ip_bytes = len - ETHERNET_HEADER;
  if (frame[PROTOCOL_AT] == IPPROTO_UDP) {
    count->udp++;
    count->udp_ip_bytes += (uint64_t)ip_bytes;
    int header = (frame[ETHERNET_HEADER] & 15) * 4; /* of IP */
    if (len >= ETHERNET_HEADER + header + 8) {
      const uint8_t *udp = frame + ETHERNET_HEADER + header;
      int payload = (udp[4] << 8 | udp[5]) - 8;
      count->sizes[payload < 0 ? 0 : payload > MAX_PAYLOAD ? MAX_PAYLOAD : payload]++;
    }
  } else if (frame[PROTOCOL_AT] == IPPROTO_TCP) {
    count->tcp++;
    count->tcp_ip_bytes += (uint64_t)ip_bytes;
  }
}

/* Whether a burst of losses is going on, by one more draw. */
static int burst(link_t *link, double draw) {
  if (link->ge_loss <= 0) {
    link->in_burst = 0;
  } else {
    double share = link->ge_loss / 100, ends = 1.0 / link->ge_burst, begins = ends * share / (1 - share);
    link->in_burst = link->in_burst ? !(draw < ends) : draw < begins;
  }
  return link->in_burst;
}

/* The delay of a packet in ms, from two draws. */
static double delay_of(const link_t *link, double draw, double second_draw) {
  double delay = link->delay;
  if (link->jitter > 0) {
    if (link->distribution == UNIFORM) {
      delay += (2 * draw - 1) * link->jitter;
    } else if (link->distribution == NORMAL) {
      double z = sqrt(-2 * log(draw + 1e-300)) * cos(2 * M_PI * second_draw);
      delay += fmin(fmax(z, -3), 3) * link->jitter;
    } else {
      delay += -log(1 - draw) * link->jitter;
    }
  }
  return fmax(delay, 0);
}

/* Lets a packet wait for the rate. Returns when it has been sent, or -1 if the queue is full. */
static int64_t wait_for_rate(link_t *link, int len, int64_t arrival) {
  if (link->rate <= 0) return arrival;
  int64_t takes = (int64_t)(len * 8.0 / link->rate * 1e6);
  int64_t begins = link->rate_free > arrival ? link->rate_free : arrival;
  if ((double)(begins - arrival) > link->qlen * 1e6) return -1;
  return link->rate_free = begins + takes;
}

static void enqueue(int from, int to, const uint8_t *bytes, int len, int64_t at) {
  packet_t packet = {at, next_number++, from, to, len, malloc((size_t)len)};
  if (!packet.bytes) abort();
  memcpy(packet.bytes, bytes, (size_t)len);
  push(packet);
}

static void forward(int from, int to, const uint8_t *bytes, int len, int64_t arrival) {
  link_t *link = &links[from][to];
  const uint8_t *frame = bytes + VNET_HEADER;
  int frame_len = len - VNET_HEADER;
  count_in(&link->count, frame, frame_len);
  if (ethertype(frame, frame_len) == ETH_P_ARP) { /* when it comes depends on the kernel: it takes no draws */
    enqueue(from, to, bytes, len, arrival + (int64_t)(link->delay * 1e6));
    return;
  }

  /* Always the same seven draws, the last of which nothing uses. */
  double loss = rng_uniform(&link->rng), burst_draw = rng_uniform(&link->rng), jitter = rng_uniform(&link->rng);
  double dup = rng_uniform(&link->rng), reorder = rng_uniform(&link->rng), jitter2 = rng_uniform(&link->rng);
  (void)rng_uniform(&link->rng);

  int in_burst = burst(link, burst_draw);
  if (in_burst || loss * 100 < link->loss) {
    link->count.lost++;
    return;
  }
  int64_t at = wait_for_rate(link, frame_len, arrival);
  if (at < 0) {
    link->count.queue_drops++;
    return;
  }
  if (reorder * 100 < link->reorder) {
    link->count.reordered++;
  } else {
    at += (int64_t)(delay_of(link, jitter, jitter2) * 1e6);
    if (link->in_order && at < link->last_out) at = link->last_out;
    if (at > link->last_out) link->last_out = at;
  }
  int copies = dup * 100 < link->dup ? 2 : 1;
  link->count.duplicated += (uint64_t)(copies - 1);
  while (copies--) enqueue(from, to, bytes, len, at);
}

/* ---- the switch ---- */

static int station(const uint8_t *mac) {
  int i = 0;
  while (i < station_count && memcmp(stations[i].mac, mac, ETH_ALEN)) i++;
  return i;
}

static void learn(const uint8_t *mac, int port) {
  int i = station(mac);
  if (i == MAX_STATIONS) return;
  if (i == station_count) memcpy(stations[station_count++].mac, mac, ETH_ALEN);
  stations[i].port = port;
}

static void receive(int from, const uint8_t *bytes, int len) {
  int64_t arrival = now();
  const uint8_t *frame = bytes + VNET_HEADER;
  if (len < VNET_HEADER + ETHERNET_HEADER) return;
  learn(frame + ETH_ALEN, from);
  int is_multicast = frame[0] & 1;
  if (is_multicast && !pass_multicast && ethertype(frame, len - VNET_HEADER) != ETH_P_ARP) return;
  int known = is_multicast ? station_count : station(frame);
  if (known < station_count) {
    if (stations[known].port != from) forward(from, stations[known].port, bytes, len, arrival);
    return;
  }
  for (int to = 0; to < port_count; to++)
    if (to != from) forward(from, to, bytes, len, arrival);
}

static void deliver(int64_t until) {
  while (heap_count && heap[0].at <= until) {
    packet_t packet = pop();
    counters_t *count = &links[packet.from][packet.to].count;
    if (send(ports[packet.to].fd, packet.bytes, (size_t)packet.len, 0) > 0) {
      count->out++;
      count->out_bytes += (uint64_t)(packet.len - VNET_HEADER);
    }
    free(packet.bytes);
  }
}

/* ---- commands ---- */

#define ANY (-2)
#define UNKNOWN (-1)

static int port_named(const char *name, size_t len) {
  if (*name == '*') return ANY;
  for (int i = 0; i < port_count; i++)
    if (strlen(ports[i].name) == len && !strncmp(ports[i].name, name, len)) return i;
  return UNKNOWN;
}

/* Applies "key=value" to a link; 0 if it is none. */
static int set_one(link_t *link, const char *setting) {
  const struct {
    const char *name;
    double *value;
  } numbers[] = {{"delay", &link->delay},     {"jitter", &link->jitter},     {"loss", &link->loss},
                 {"ge_loss", &link->ge_loss}, {"ge_burst", &link->ge_burst}, {"dup", &link->dup},
                 {"reorder", &link->reorder}, {"rate", &link->rate},         {"qlen", &link->qlen}};
  const char *equals = strchr(setting, '=');
  if (!equals) return 0;
  size_t len = (size_t)(equals - setting);
  double value = atof(equals + 1);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (strlen(numbers[i].name) == len && !strncmp(setting, numbers[i].name, len)) {
      *numbers[i].value = value;
      link->ge_burst = fmax(link->ge_burst, 1);
      return 1;
    }
  if (len == 5 && !strncmp(setting, "order", len)) {
    link->in_order = (int)value;
  } else if (len == 5 && !strncmp(setting, "jdist", len)) {
    link->distribution = equals[1] == 'n' ? NORMAL : equals[1] == 'e' ? EXPONENTIAL : UNIFORM;
  } else {
    return 0;
  }
  return 1;
}

/* Applies "X>Y key=value ..." or, if `clears`, "X>Y"; 0 if it is none. */
static int apply(char *rule, int clears) {
  char *rest, *settings[32], *pair = strtok_r(rule, " \t\r\n", &rest), *arrow;
  if (!pair || !(arrow = strchr(pair, '>'))) return 0;
  int from = port_named(pair, (size_t)(arrow - pair)), to = port_named(arrow + 1, strlen(arrow + 1)), count = 0;
  if (from == UNKNOWN || to == UNKNOWN) return 0;
  while (count < 32 && (settings[count] = strtok_r(NULL, " \t\r\n", &rest))) count++;
  for (int i = 0; i < port_count; i++)
    for (int j = 0; j < port_count; j++) {
      if (i == j || (from >= 0 && i != from) || (to >= 0 && j != to)) continue;
      if (clears) clear(&links[i][j]);
      for (int k = 0; k < count && !clears; k++)
        if (!set_one(&links[i][j], settings[k])) return 0;
    }
  return 1;
}

static void print_count(const counters_t *c) {
  printf("{\"in\":%lu,\"in_bytes\":%lu,\"out\":%lu,\"out_bytes\":%lu,\"lost\":%lu,\"qdrop\":%lu,\"dup\":%lu,\"reord\":%lu,"
         "\"udp\":%lu,\"udp_ipbytes\":%lu,\"tcp\":%lu,\"tcp_ipbytes\":%lu}",
         c->in, c->in_bytes, c->out, c->out_bytes, c->lost, c->queue_drops, c->duplicated, c->reordered, c->udp,
         c->udp_ip_bytes, c->tcp, c->tcp_ip_bytes);
}

static void print_sizes(const counters_t *c) {
  const char *comma = "";
  printf("{");
  for (int size = 0; size <= MAX_PAYLOAD; size++)
    if (c->sizes[size]) {
      printf("%s\"%d\":%u", comma, size, c->sizes[size]);
      comma = ",";
    }
  printf("}");
}

static void print_links(void (*print)(const counters_t *)) {
  const char *comma = "";
  printf("{");
  for (int i = 0; i < port_count; i++)
    for (int j = 0; j < port_count; j++)
      if (i != j) {
        printf("%s\"%s>%s\":", comma, ports[i].name, ports[j].name);
        print(&links[i][j].count);
        comma = ",";
      }
  printf("}\n");
}

static void zero(void) {
  for (int i = 0; i < port_count; i++)
    for (int j = 0; j < port_count; j++) memset(&links[i][j].count, 0, sizeof links[i][j].count);
}

static void obey(char *line) {
  int ok = 1;
  if (!strcmp(line, "quit")) exit(0);
  if (!strcmp(line, "stats")) {
    print_links(print_count);
    return;
  }
  if (!strcmp(line, "sizes")) {
    print_links(print_sizes);
    return;
  }
  if (!strncmp(line, "set ", 4)) {
    ok = apply(line + 4, 0);
  } else if (!strncmp(line, "clear ", 6)) {
    ok = apply(line + 6, 1);
  } else if (!strncmp(line, "reseed ", 7)) {
    seed = strtoull(line + 7, NULL, 0);
    reseed();
  } else if (!strcmp(line, "zero")) {
    zero();
  } else {
    ok = 0;
  }
  printf("{\"ok\":%d}\n", ok);
}

/* Reads what there is of commands and obeys whole lines. */
static void read_commands(void) {
  static char text[MAX_COMMAND];
  static size_t len;
  if (len == sizeof text - 1) exit(2); /* no line is that long */
  ssize_t got = read(0, text + len, sizeof text - 1 - len);
  if (got == 0) exit(0); /* nobody controls us any more */
  if (got < 0) return;
  len += (size_t)got;
  text[len] = 0;
  for (char *end; (end = strchr(text, '\n'));) {
    *end = 0;
    obey(text);
    size_t rest = len - (size_t)(end + 1 - text);
    memmove(text, end + 1, rest + 1);
    len = rest;
  }
}

/* ---- start ---- */

static int fail(const char *what) {
  perror(what);
  exit(1);
}

static void open_port(port_t *port) {
  int one = 1, buffer = RECEIVE_BUFFER;
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
  if (fd < 0) fail("AF_PACKET");
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = (int)if_nametoindex(port->interface);
  if (!address.sll_ifindex || bind(fd, (void *)&address, sizeof address)) fail(port->interface);
  if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one)) fail("PACKET_IGNORE_OUTGOING");
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) fail("PACKET_VNET_HDR");
  struct packet_mreq promiscuous = {.mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
  setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  port->fd = fd;
}

static int usage(void) {
  fprintf(stderr, "linkem -p NAME=INTERFACE... [-s SEED] [-r RULE]... [-m]\n");
  return 2;
}

static void loop(void) {
  static uint8_t bytes[MAX_FRAME];
  for (;;) {
    deliver(now());
    struct pollfd polled[MAX_PORTS + 1];
    for (int i = 0; i < port_count; i++) polled[i] = (struct pollfd){ports[i].fd, POLLIN, 0};
    polled[port_count] = (struct pollfd){0, POLLIN, 0};
    struct timespec until, *timeout = NULL;
    if (heap_count) {
      int64_t wait = heap[0].at - now();
      if (wait < 0) wait = 0;
      until = (struct timespec){wait / 1000000000, wait % 1000000000};
      timeout = &until;
    }
    if (ppoll(polled, (nfds_t)port_count + 1, timeout, NULL) < 0 && errno != EINTR) fail("ppoll");
    for (int i = 0; i < port_count; i++)
      if (polled[i].revents)
        for (ssize_t len; (len = recv(ports[i].fd, bytes, sizeof bytes, 0)) > 0;) receive(i, bytes, (int)len);
    if (polled[port_count].revents) read_commands();
  }
}

int main(int argc, char **argv) {
  char *rules[MAX_RULES];
  int rule_count = 0;
  for (int option; (option = getopt(argc, argv, "p:s:r:m")) > 0;) {
    if (option == 'p') {
      char *equals = strchr(optarg, '=');
      if (!equals || port_count == MAX_PORTS) return usage();
      port_t *port = &ports[port_count++];
      snprintf(port->name, sizeof port->name, "%.*s", (int)(equals - optarg), optarg);
      snprintf(port->interface, sizeof port->interface, "%s", equals + 1);
    } else if (option == 's') {
      seed = strtoull(optarg, NULL, 0);
    } else if (option == 'r' && rule_count < MAX_RULES) {
      rules[rule_count++] = optarg;
    } else if (option == 'm') {
      pass_multicast = 1;
    } else {
      return usage();
    }
  }
  for (int i = 0; i < port_count; i++)
    for (int j = 0; j < port_count; j++) clear(&links[i][j]);
  reseed();
  for (int i = 0; i < rule_count; i++)
    if (!apply(rules[i], 0)) return usage();
  for (int i = 0; i < port_count; i++) open_port(&ports[i]);

  prctl(PR_SET_TIMERSLACK, 1);
  mlockall(MCL_CURRENT | MCL_FUTURE);
  struct sched_param priority = {.sched_priority = PRIORITY};
  sched_setscheduler(0, SCHED_FIFO, &priority); /* refused unless we are root outside, too */
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  fcntl(0, F_SETFL, O_NONBLOCK);
  printf("{\"ready\":%d}\n", port_count);
  loop();
}
