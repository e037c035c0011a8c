//! Shell patterns of `modules.alias`, matched as fnmatch(3) without flags does: what depmod writes and kmod reads.

/// Whether `text` matches `pattern`: `*`, `?`, and sets such as `[0-9a]` or `[!x]`. `-` and `_` are the same outside sets,
/// as they are for kmod.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` did not match: the star takes one more byte.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some(taken) = one(&pattern[p..], text[t]) {
            p += taken;
            t += 1;
            continue;
        }
        let Some((after, from)) = star else {
            return false;
        };
        star = Some((after, from + 1));
        (p, t) = (after, from + 1);
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Bytes of `pattern` that match `byte`; `None` if its first element does not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => match set(&pattern[1..], byte) {
            Some((length, true)) => Some(1 + length),
            Some((_, false)) => None,
            None => (byte == b'[').then_some(1),
        },
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        literal => (dashed(literal) == dashed(byte)).then_some(1),
    }
}

/// A set whose `[` is taken: its length with the `]`, and whether `byte` is in it; `None` if it is not closed.
fn set(rest: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let (mut at, mut found) = (start, false);
    loop {
        let low = *rest.get(at)?;
        // A `]` in the first place is a member.
        if low == b']' && at > start {
            return Some((at + 1, found != negated));
        }
        match (rest.get(at + 1), rest.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
}

fn dashed(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn real_aliases_match_their_devices() {
        for (pattern, device) in [
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
            ),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4"),
            (
                "usb:v*p*d*dc*dsc*dp*ic08isc0[1-6]ip50in*",
                "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00",
            ),
            (
                "dmi*:svn*:pn*ThinkPad-X1*",
                "dmi:bvnX:svnLENOVO:pn20HRThinkPad_X1Carbon:",
            ),
            ("acpi*:PNP0501:*", "acpi:PNP0501:"),
            (
                "cpu:type:x86,ven0000fam0006mod0086:feature:*",
                "cpu:type:x86,ven0000fam0006mod0086:feature:,0000,0001",
            ),
            ("platform:Fixed_MDIO_bus", "platform:Fixed-MDIO-bus"),
        ] {
            assert!(matches(pattern, device), "{pattern} {device}");
        }
    }

    #[test]
    fn other_devices_do_not_match() {
        for (pattern, device) in [
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Fsv0sd0bc02sc00i00",
            ),
            ("usb:v*ic08isc0[1-6]ip50in*", "usb:v46F4ic08isc07ip50in00"),
            ("virtio:d00000001v*", "virtio:d00000001"),
            ("a*b", "ab_"),
            ("", "a"),
            ("a[", "ab"),
        ] {
            assert!(!matches(pattern, device), "{pattern} {device}");
        }
    }

    #[test]
    fn sets_have_ranges_members_and_negation() {
        for (pattern, text, wanted) in [
            ("[!0-9]x", "ax", true),
            ("[!0-9]x", "5x", false),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[^ab]", "c", true),
            ("[a", "[a", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
        assert!(!matches(
            &format!("{}b", "*a".repeat(60)),
            &"a".repeat(5000)
        ));
    }
}
