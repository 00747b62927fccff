//! The log stream of the Docker API: frames of an eight-byte head (stream, three zeros, length in big endian)
//! and that many bytes; with a terminal, the bare bytes (Docker API, "Attach to a container", "Stream format").

/// The lines of `bytes`, of both streams in the order they came.
pub(super) fn lines(bytes: &[u8]) -> Vec<String> {
    let plain = unframed(bytes).unwrap_or_else(|| bytes.to_vec());
    String::from_utf8_lossy(&plain).lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

/// `None` where the bytes are no frames; a cut-off last frame is taken as it is.
fn unframed(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let [0..=2, 0, 0, 0, a, b, c, d] = *head else { return None };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let (frame, next) = rest.split_at(length.min(rest.len()));
        plain.extend_from_slice(frame);
        bytes = next;
    }
    bytes.is_empty().then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_bare_bytes() {
        let framed = b"\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x05two\r\n\x01\0\0\0\0\0\0\xffcut";
        assert_eq!(lines(framed), ["one", "two", "cut"]);
        assert_eq!(lines(b"bare\nbytes"), ["bare", "bytes"]);
        assert_eq!(lines(b""), [""; 0]);
        assert_eq!(lines(b"\x01\0\0\0\0"), ["\u{1}\0\0\0\0"]);
    }
}
