"""What Offhook's bits on the wire are made of, from the sizes of its packets alone: their contents are encrypted.

It holds for a clean line, where there are no copies of earlier frames (RED): each packet that is long enough to hold voice is one RTP
packet of Opus in one QUIC datagram; what is shorter acknowledges. Reports and checks of the path, a few a second, are as long as
voice and count as such.
"""
from . import report

CONDITION = 'd50'

FRAME_AND_IP = 14 + 20 + 8      # Ethernet without preamble and FCS, IPv4, UDP
# A short header of one byte, the connection ID, one byte of packet number (as long as fewer than 128 packets
# are under way), the DATAGRAM frame's type and length, the tag (RFC 9000, RFC 9221, RFC 9001). Keep it as core/src/media/quic.rs has it.
QUIC = 1 + 2 + 1 + 1 + 2 + 16
RTP = 1 + 6                     # the flow's number, and the short header that all but one in 50 have (core/proto/src/rtp/short.rs)
# UDP payload, bytes: shorter packets hold no voice. An acknowledgement is 33 bytes and some ranges.
LEAST_VOICE = QUIC + RTP + 8


def shares(records):
    """A sentence for each of Offhook's lines whose clean calls succeeded."""
    lines = []
    for label in ('offhook', 'offhook-off'):
        sizes = [call['sizes'][leg] for call in records
                 if call['label'] == label and call['cond'] == CONDITION and report.trouble(call) is None
                 for leg in report.upward(call)]
        if sizes:
            lines.append(f'{label}, {CONDITION}, share of the bits on the wire: ' + describe(parts(sizes)))
    return '\n'.join(lines)


def parts(histograms):
    """Bytes of each kind. A histogram is {UDP payload length: packets}."""
    packets = [(int(length), count) for sizes in histograms for length, count in sizes.items()]
    voice = [(length, count) for length, count in packets if length >= LEAST_VOICE]
    number = sum(count for _, count in voice)
    return {
        'Ethernet, IP, UDP': number * FRAME_AND_IP,
        'QUIC': number * QUIC,
        'RTP': number * RTP,
        'Opus': sum((length - QUIC - RTP) * count for length, count in voice),
        'packets without voice (acknowledgements)': sum((length + FRAME_AND_IP) * count for length, count in packets
                                                        if length < LEAST_VOICE),
    }


def describe(found):
    whole = sum(found.values()) or 1
    return ', '.join(f'{name} {100 * size / whole:.0f} %' for name, size in found.items())
