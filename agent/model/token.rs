//! When a registry password expires, if it says so: a JSON web token (RFC 7519) and the token of Amazon's
//! registry do. Called by host/doctor.rs.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The end of its validity, from `exp` or `expiration`.
    pub at: u64,
    /// When it was issued, if known.
    pub since: Option<u64>,
}

/// Lifetime of a token of Amazon's registry (ECR API, `GetAuthorizationToken`).
const ECR: u64 = 12 * 3600;

/// `None`: the password has no expiry, like any chosen one.
pub fn expiry(password: &str) -> Option<Expiry> {
    let mut parts = password.split('.');
    if let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) {
        let claims: Value = serde_json::from_slice(&decode(claims)?).ok()?;
        return Some(Expiry { at: number(&claims, "exp")?, since: number(&claims, "iat") });
    }
    let token: Value = serde_json::from_slice(&decode(password)?).ok()?;
    let at = number(&token, "expiration")?;
    Some(Expiry { at, since: at.checked_sub(ECR) })
}

fn number(of: &Value, key: &str) -> Option<u64> {
    let value = of.get(key)?;
    value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 in either alphabet (RFC 4648, 4 and 5); padding may be missing.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.trim().replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_an_expiry() {
        // {"iat":1000,"exp":2000}
        let jwt = "e30.eyJpYXQiOjEwMDAsImV4cCI6MjAwMH0.c2ln";
        assert_eq!(expiry(jwt), Some(Expiry { at: 2000, since: Some(1000) }));
        // {"expiration":100000}
        assert_eq!(expiry("eyJleHBpcmF0aW9uIjoxMDAwMDB9"), Some(Expiry { at: 100_000, since: Some(56_800) }));
        for other in ["", "hunter2", "ghp_abc", "a.b.c", "..", "e30.e30.e30", "e30"] {
            assert_eq!(expiry(other), None, "{other}");
        }
    }

    #[test]
    fn both_alphabets() {
        assert_eq!(decode("-_8"), decode("+/8="));
        assert_eq!(decode("Z*"), None);
    }
}
