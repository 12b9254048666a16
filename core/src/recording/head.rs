//! The two packets that begin a stream of Opus in Ogg (RFC 7845 section 5).

/// Longest packet of comments that is looked at: foreign files hold whole pictures there.
pub(super) const MAX_TAGS: usize = 64 * 1024;
/// Comments that are looked at.
const MAX_COMMENTS: usize = 64;

/// The identification header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// 1 or 2: others are not read.
    pub(super) channels: u8,
    /// Samples at 48 kHz that are not heard.
    pub(super) pre_skip: u16,
    /// Gain to be applied, Q7.8 dB.
    pub(super) gain: i16,
}

impl Head {
    const MAGIC: &[u8; 8] = b"OpusHead";
    /// The input's rate, which is of no consequence.
    const RATE: u32 = 48_000;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Self::MAGIC.to_vec();
        out.extend([1, self.channels]);
        out.extend(self.pre_skip.to_le_bytes());
        out.extend(Self::RATE.to_le_bytes());
        out.extend(self.gain.to_le_bytes());
        // Mapping family 0: mono or stereo.
        out.push(0);
        out
    }

    /// `None` for what is none, of an incompatible version, or of more than two channels.
    pub(super) fn decode(packet: &[u8]) -> Option<Head> {
        let fields = packet.strip_prefix(Self::MAGIC)?;
        let [version, channels, skip0, skip1, _, _, _, _, gain0, gain1, family, ..] = *fields else {
            return None;
        };
        let good = version & 0xf0 == 0 && (1..=2).contains(&channels) && family == 0;
        let pre_skip = u16::from_le_bytes([skip0, skip1]);
        good.then_some(Head { channels, pre_skip, gain: i16::from_le_bytes([gain0, gain1]) })
    }

    /// The factor of the gain.
    pub(super) fn factor(self) -> f32 {
        10.0_f32.powf(f32::from(self.gain) / (20.0 * 256.0))
    }
}

/// The comment header: names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tags(pub(super) Vec<(String, String)>);

impl Tags {
    const MAGIC: &[u8; 8] = b"OpusTags";

    pub(super) fn encode(&self) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
        };
        let mut out = Self::MAGIC.to_vec();
        text(&mut out, concat!("offhook ", env!("CARGO_PKG_VERSION")));
        out.extend((self.0.len() as u32).to_le_bytes());
        self.0.iter().for_each(|(name, value)| text(&mut out, &format!("{name}={value}")));
        out
    }

    /// What can be understood of it. `None` for what is none.
    pub(super) fn decode(packet: &[u8]) -> Option<Tags> {
        let mut rest = packet.get(..packet.len().min(MAX_TAGS))?.strip_prefix(Self::MAGIC)?;
        let mut tags = Vec::new();
        // Before the comments stands who made it.
        take_text(&mut rest)?;
        let count = take_length(&mut rest)?;
        for _ in 0..count.min(MAX_COMMENTS) {
            let Some(comment) = take_text(&mut rest) else { break };
            if let Some((name, value)) =
                std::str::from_utf8(comment).ok().and_then(|text| text.split_once('='))
            {
                tags.push((name.to_ascii_uppercase(), value.to_owned()));
            }
        }
        Some(Tags(tags))
    }

    /// The first value of that name, which is written in capitals.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, left) = rest.split_first_chunk::<4>()?;
    *rest = left;
    Some(u32::from_le_bytes(*length) as usize)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(rest)?;
    let (text, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        let head = Head { channels: 1, pre_skip: 312, gain: -256 };
        let bytes = head.encode();
        assert_eq!(bytes.len(), 19);
        assert_eq!(Head::decode(&bytes), Some(head));
        assert!((head.factor() - 0.891).abs() < 0.001, "one decibel less");
        for (at, bad) in [(0, b'o'), (8, 0x10), (9, 0), (9, 3), (18, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = bad;
            assert_eq!(Head::decode(&bytes), None, "{at}");
        }
        assert_eq!(Head::decode(&bytes[..18]), None);
        let tags = Tags(vec![("DATE".into(), "2026-01-31".into()), ("X".into(), "a=b".into())]);
        assert_eq!(Tags::decode(&tags.encode()), Some(tags.clone()));
        assert_eq!((tags.get("X"), tags.get("Y")), (Some("a=b"), None));
    }

    #[test]
    fn comments_that_are_cut_or_lie_about_their_length_are_read_as_far_as_they_go() {
        let bytes = Tags(vec![("A".into(), "1".into()), ("B".into(), "2".into())]).encode();
        for cut in 0..bytes.len() {
            assert!(Tags::decode(&bytes[..cut]).is_none_or(|tags| tags.0.len() < 2));
        }
        let mut lies = b"OpusTags\0\0\0\0\xff\xff\xff\xff".to_vec();
        assert_eq!(Tags::decode(&lies), Some(Tags::default()));
        lies.extend(b"\xff\xff\xff\xffA=1");
        assert_eq!(Tags::decode(&lies), Some(Tags::default()));
    }
}
