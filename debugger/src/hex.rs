//! Bytes and numbers as the protocol writes them: hexadecimal, most significant digit first.

/// Two digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The inverse of [`encode`].
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// The same, as text.
pub fn decode_text(text: &[u8]) -> Option<String> {
    decode(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a digit.
pub fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// A number of up to 64 bits.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    text.iter().try_fold(0u64, |value, &d| {
        (value >> 60 == 0).then_some(value << 4 | u64::from(digit(d)?))
    })
}

/// Two numbers with a separator between them.
pub fn pair(text: &[u8], separator: u8) -> Option<(u64, u64)> {
    let (a, b) = split(text, separator)?;
    Some((number(a)?, number(b)?))
}

/// Splits a text at the first `separator`.
pub fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&b| b == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_numbers() {
        assert_eq!(encode(&[0, 0xaf, 7]), "00af07");
        assert_eq!(decode(b"00aF07"), Some(vec![0, 0xaf, 7]));
        assert_eq!(decode(b"0"), None);
        assert_eq!(decode(b"0g"), None);
        assert_eq!(number(b"00000000000000000000ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(number(b"1ffffffffffffffff"), None);
        assert_eq!(number(b""), None);
        assert_eq!(pair(b"10,2", b','), Some((16, 2)));
    }
}
