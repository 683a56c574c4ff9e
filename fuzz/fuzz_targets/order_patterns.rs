//! Host patterns and trusted proxies.
//!
//! - A pattern reads back as the same pattern from what it displays as, and its segments are its text.
//! - An address is trusted if one of the networks has it, bit by bit.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kakehi_command::order::{HOST_BYTES_MAX, HostPattern, HostSegment, HttpListener};
use kakehi_command::proto::HttpListenerConfig;
use libfuzzer_sys::fuzz_target;

fn check_pattern(text: &str) {
    let Ok(pattern) = HostPattern::parse(text) else { return };
    let normal = pattern.to_string();
    assert!(text.eq_ignore_ascii_case(&normal) && text.len() <= HOST_BYTES_MAX, "{normal}");
    assert_eq!(HostPattern::parse(&normal).as_ref(), Ok(&pattern));
    let segments: Vec<String> = pattern
        .segments()
        .map(|segment| match segment {
            HostSegment::Literal(label) => label.to_owned(),
            HostSegment::Regex(source) => format!("/{source}/"),
        })
        .collect();
    match &pattern {
        HostPattern::Any => assert_eq!((normal.as_str(), segments.len()), ("*", 0)),
        HostPattern::Wildcard(_) => assert_eq!(normal, format!("*.{}", segments.join("."))),
        HostPattern::Exact(_) | HostPattern::Regex(_) => assert_eq!(normal, segments.join(".")),
    }
    if let HostPattern::Exact(_) | HostPattern::Wildcard(_) = pattern {
        assert!(normal.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    }
    assert!(pattern.capture_count() <= text.len());
}

/// The bits of an address, most significant first, IPv4 as its form in IPv6 (RFC 4291 §2.5.5.2).
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn is_v4(address: IpAddr) -> bool {
    address.to_canonical().is_ipv4()
}

/// Whether a network, known to be well-formed, has an address.
fn is_in(network: &str, peer: IpAddr) -> bool {
    let (address, prefix) = network.split_once('/').unwrap_or((network, "128"));
    let address: IpAddr = address.parse().expect("it was accepted");
    let prefix: u32 = prefix.parse().expect("it was accepted");
    let prefix = match address {
        IpAddr::V4(_) => 96 + prefix.min(32),
        IpAddr::V6(_) => prefix,
    };
    // A network of IPv6 has no IPv4 address in it, unless it is one of those in another form.
    let network_is_v4 = is_v4(address) && prefix >= 96;
    let same = prefix == 0 || bits(address) >> (128 - prefix) == bits(peer) >> (128 - prefix);
    network_is_v4 == is_v4(peer) && same
}

fn check_proxies(networks: &[&str], more: &[u8]) {
    let listener = HttpListener::from_wire(HttpListenerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        trusted_proxies: networks.iter().map(ToString::to_string).collect(),
        ..Default::default()
    });
    let Ok(listener) = listener else { return };
    let trusted = listener.trusted_proxies();
    assert_eq!(trusted.is_empty(), networks.is_empty());
    let own = networks.iter().filter_map(|network| network.split('/').next()?.parse().ok());
    let near = own.flat_map(|address: IpAddr| {
        let number = bits(address);
        let around =
            [number, number.wrapping_sub(1), number.wrapping_add(1), number ^ 0xff, number ^ 1 << 64];
        around.map(|number| IpAddr::V6(Ipv6Addr::from_bits(number)))
    });
    let far = more.chunks_exact(4).flat_map(|octets| {
        let v4 = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
        [IpAddr::V4(v4), IpAddr::V6(v4.to_ipv6_mapped()), IpAddr::V6(v4.to_ipv6_compatible())]
    });
    for peer in near.chain(far) {
        let expected = networks.iter().any(|network| is_in(network, peer));
        assert_eq!(trusted.contains(peer), expected, "{peer} of {networks:?}");
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check_pattern(text);
    let networks: Vec<&str> = text.split_ascii_whitespace().collect();
    check_proxies(&networks, input);
});
