//! IPv4 addresses in CIDR notation.

use std::net::Ipv4Addr;

/// Reads `192.0.2.7/24`.
///
/// # Errors
/// What it should look like.
pub fn parse_cidr(text: &str) -> Result<(Ipv4Addr, u8), &'static str> {
    let wanted = "an address looks like 192.0.2.7/24";
    let (address, length) = text.split_once('/').ok_or(wanted)?;
    let length: u8 = length.parse().map_err(|_| wanted)?;
    let address = address.parse().map_err(|_| wanted)?;
    if (1..=32).contains(&length) {
        Ok((address, length))
    } else {
        Err(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_cidr;

    #[test]
    fn an_address_has_a_length_from_1_to_32() {
        assert_eq!(parse_cidr("192.0.2.7/24"), Ok(([192, 0, 2, 7].into(), 24)));
        for wrong in [
            "192.0.2.7",
            "192.0.2.7/0",
            "192.0.2.7/33",
            "192.0.2/24",
            "2001:db8::1/64",
            "",
        ] {
            assert!(parse_cidr(wrong).is_err(), "{wrong}");
        }
    }
}
