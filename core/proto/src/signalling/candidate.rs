//! What signalling needs to know of an ICE candidate.

/// Whether an ICE candidate (RFC 8839 section 5.1) tells a relay's address and nothing of where its terminal is: of type
/// `relay`, and its related address, if there is one, is left out as section 5.1 permits (`raddr 0.0.0.0 rport 9`, or
/// `::`). Only such a candidate may be told to somebody who is not to learn our address. Whatever cannot be read is not.
#[must_use]
pub fn is_relayed(candidate: &str) -> bool {
    let attribute = candidate.strip_prefix("a=").unwrap_or(candidate);
    let Some(attribute) = attribute.strip_prefix("candidate:") else { return false };
    // Foundation, component, transport, priority, address, port; then pairs of name and value.
    let mut extensions = attribute.split_ascii_whitespace().skip(6);
    let mut relayed = false;
    while let Some(name) = extensions.next() {
        match (name, extensions.next()) {
            ("typ", Some("relay")) => relayed = true,
            // The user name fragment (RFC 8839 section 5.4) stands in the offer anyway.
            ("raddr", Some("0.0.0.0" | "::")) | ("rport", Some("0" | "9")) | ("ufrag", Some(_)) => {}
            // Where the terminal is, or what nobody knows to be harmless.
            (_, _) => return false,
        }
    }
    relayed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_nothing_but_the_relay_is_relayed() {
        let line = |rest: &str| format!("candidate:1 1 udp 7340031 203.0.113.9 49152 {rest}");
        for good in [
            "typ relay",
            "typ relay raddr 0.0.0.0 rport 9",
            "typ relay raddr :: rport 9",
            "typ relay raddr :: rport 9 ufrag byGAPdfpJtdv9e7y",
        ] {
            assert!(is_relayed(&line(good)), "{good}");
        }
        assert!(is_relayed(&format!("a={}", line("typ relay"))));
        for bad in [
            "typ host",
            "typ srflx raddr 10.0.0.2 rport 4000",
            "typ relay raddr 10.0.0.2 rport 4000",
            "typ relay raddr 0.0.0.0 rport 4000",
            "typ relay raddr",
            "typ relay typ host",
            "typ relay name 10.0.0.2",
            "typ relay ufrag",
            "raddr 0.0.0.0 rport 9",
            "",
        ] {
            assert!(!is_relayed(&line(bad)), "{bad}");
        }
        assert!(!is_relayed("") && !is_relayed("candidate:") && !is_relayed("typ relay"));
    }
}
