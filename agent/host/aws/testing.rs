//! AWS Secrets Manager and the SSM Parameter Store as a stand-in. tests/scenarios.rs uses it, too.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The content of the services.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    /// Texts of secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// Values of parameters, by name.
    pub parameters: BTreeMap<String, String>,
    /// An error of every request: status, code, message.
    pub fails: Option<(u16, &'static str, &'static str)>,
}

/// The metadata of an instance with this role in `eu-central-1`.
pub fn role(name: &str) -> BTreeMap<String, String> {
    let of_roles = "iam/security-credentials/";
    let credentials = json!({
        "Code": "Success", "LastUpdated": "2026-11-27T10:00:00Z", "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "canary-key", "Token": "canary-session",
        "Expiration": "2126-11-27T16:00:00Z",
    });
    BTreeMap::from([
        ("placement/region".to_owned(), "eu-central-1".to_owned()),
        (of_roles.to_owned(), name.to_owned()),
        (format!("{of_roles}{name}"), serde_json::to_string_pretty(&credentials).unwrap()),
    ])
}

/// Status and body for a request. One without the headers of a signature is refused, as AWS does.
pub fn answer(vault: &Vault, head: &str, body: &str) -> (u16, String) {
    let error = |status, code: &str, message: &str| {
        let kind = format!("com.amazonaws#{code}");
        (status, json!({ "__type": kind, "Message": message, "message": message }).to_string())
    };
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let signed = header("authorization").unwrap_or_default();
    let scope = |service: &str| format!("/eu-central-1/{service}/aws4_request, SignedHeaders=");
    let target = header("x-amz-target").unwrap_or_default();
    let service = if target.starts_with("AmazonSSM") { "ssm" } else { "secretsmanager" };
    let whole = signed.starts_with("AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/")
        && signed.contains(&scope(service))
        && signed.contains("x-amz-security-token")
        && header("x-amz-security-token").as_deref() == Some("canary-session")
        && header("x-amz-date").is_some();
    if !whole {
        return error(400, "IncompleteSignatureException", "the signature is incomplete");
    }
    if let Some((status, code, message)) = vault.fails {
        return error(status, code, message);
    }
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    match target.as_str() {
        "secretsmanager.GetSecretValue" => match vault.secrets.get(text("SecretId")) {
            Some(secret) if secret == "\0" => (200, json!({ "SecretBinary": "AAEC" }).to_string()),
            Some(secret) => (200, json!({ "Name": text("SecretId"), "SecretString": secret }).to_string()),
            None => {
                error(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
            }
        },
        "AmazonSSM.GetParameter" => match vault.parameters.get(text("Name")) {
            Some(value) => {
                (200, json!({ "Parameter": { "Name": text("Name"), "Value": value } }).to_string())
            }
            None => error(400, "ParameterNotFound", ""),
        },
        _ => error(400, "InvalidAction", "no such action"),
    }
}
