use std::sync::{Arc, Mutex};

use super::testing::{Vault, answer, role};
use super::*;
use crate::host::http::testing::{Server, json, serve};
use crate::host::imds;

/// An instance with a role, and the services beside it.
struct Rig {
    vault: Arc<Mutex<Vault>>,
    asked: Arc<Mutex<u32>>,
    metadata: Server,
    services: Server,
}

impl Rig {
    async fn new(vault: Vault) -> Self {
        let facts = role("web");
        let metadata = serve(move |request| {
            let (status, body) = imds::testing::answer(&facts, &request.head);
            json(status, "", &body)
        })
        .await;
        let (vault, asked) = (Arc::new(Mutex::new(vault)), Arc::new(Mutex::new(0)));
        let (of, count) = (Arc::clone(&vault), Arc::clone(&asked));
        let services = serve(move |request| {
            *count.lock().unwrap() += 1;
            let (status, body) = answer(&of.lock().unwrap(), &request.head, &request.body);
            json(status, "", &body)
        })
        .await;
        Self { vault, asked, metadata, services }
    }

    async fn text(&self, item: Item<'_>) -> Result<String, AwsError> {
        *self.asked.lock().unwrap() = 0;
        let settings = Aws { endpoint: Some(format!("http://{}", self.services.address)), ..Aws::default() };
        let imds = Imds::at(&format!("http://{}", self.metadata.address));
        AwsClient::connect(&settings, &imds).await?.text(item).await
    }

    async fn fails(&self, status: u16, code: &'static str, message: &'static str) -> (String, u32) {
        self.vault.lock().unwrap().fails = Some((status, code, message));
        let error = self.text(Item::Secret("db")).await.unwrap_err().to_string();
        (error, *self.asked.lock().unwrap())
    }
}

fn vault() -> Vault {
    let mut vault = Vault::default();
    vault.secrets.insert("db".into(), "x\u{e4}\n".into());
    vault.secrets.insert("bytes".into(), "\0".into());
    vault.parameters.insert("/a/dsn".into(), "https://x".into());
    vault
}

#[tokio::test]
async fn secrets_and_parameters_are_read_as_the_role() {
    let rig = Rig::new(vault()).await;
    assert_eq!(rig.text(Item::Secret("db")).await.unwrap(), "x\u{e4}\n");
    assert_eq!(rig.text(Item::Parameter("/a/dsn")).await.unwrap(), "https://x");
    let error = rig.text(Item::Secret("bytes")).await.unwrap_err().to_string();
    assert!(error.contains("is binary"), "{error}");
    for (item, what) in [(Item::Secret("d"), "no secret d\n"), (Item::Parameter("d"), "no parameter d\n")] {
        let error = rig.text(item).await.unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains("in eu-central-1") && error.contains("region"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn refusals_name_the_permission_and_other_failures_are_tried_again() {
    let rig = Rig::new(vault()).await;
    let (error, asked) = rig.fails(400, "AccessDeniedException", "User: arn:… is not authorized").await;
    let permission =
        "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:*:secret:db-??????";
    assert!(error.contains(permission) && error.contains("to the role web"), "{error}");
    assert_eq!(asked, 1);
    let (error, _) = rig.fails(400, "AccessDeniedException", "Access to KMS is not allowed").await;
    assert!(error.contains("kms:Decrypt"), "{error}");
    let (error, asked) = rig.fails(400, "InvalidSignatureException", "Signature expired").await;
    assert!(error.contains("timedatectl") && error.contains("Signature expired"), "{error}");
    assert_eq!(asked, 1);
    for (status, code) in [(400, "ThrottlingException"), (500, "InternalServiceError"), (503, "")] {
        let (error, asked) = rig.fails(status, code, "slow down").await;
        assert!(error.contains("cannot be reached") && error.contains("slow down"), "{error}");
        assert_eq!(asked, TRIES, "{code}");
    }
}

#[tokio::test]
async fn an_instance_without_a_role_is_told() {
    let facts = std::collections::BTreeMap::from([("placement/region".to_owned(), "us-east-1".to_owned())]);
    let metadata = serve(move |request| {
        let (status, body) = imds::testing::answer(&facts, &request.head);
        json(status, "", &body)
    })
    .await;
    let imds = Imds::at(&format!("http://{}", metadata.address));
    let error = AwsClient::connect(&Aws::default(), &imds).await.unwrap_err().to_string();
    assert!(error.contains("has no role"), "{error}");
}

#[test]
fn arns_name_their_region_and_policies() {
    let arn = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:db-AbCdEf";
    assert_eq!(Item::Secret(arn).region(), Some("cn-north-1"));
    assert_eq!(Item::Secret("arn").region(), None);
    assert_eq!(Item::Secret("a:b:c:d").region(), None);
    assert_eq!(Item::Secret(arn).permission("eu-west-1").1, arn);
    let labelled = "arn:aws:ssm:us-east-1:123456789012:parameter/a/b:3";
    assert_eq!(Item::Parameter(labelled).permission("us-east-1").1, labelled.trim_end_matches(":3"));
    assert_eq!(partition("us-gov-east-1"), ("aws-us-gov", "amazonaws.com"));
    assert_eq!(partition("eu-central-1"), ("aws", "amazonaws.com"));
    assert_eq!(
        Item::Parameter("/a/b:3").permission("cn-north-1").1,
        "arn:aws-cn:ssm:cn-north-1:*:parameter/a/b"
    );
}

/// moto checks the signature itself (tests/host/secrets.rs).
#[tokio::test]
async fn the_signature_covers_body_session_and_target() {
    let rig = Rig::new(vault()).await;
    let imds = Imds::at(&format!("http://{}", rig.metadata.address));
    let client = AwsClient::connect(&Aws::default(), &imds).await.unwrap();
    let signature = |body: &[u8], target: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", HeaderValue::from_static(target));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let url = "https://ssm.eu-central-1.amazonaws.com/";
        client.sign(url, &mut headers, body, ("ssm", "eu-central-1"), now).unwrap();
        assert!(headers.values().filter(|value| !value.is_sensitive()).all(|value| value == target));
        headers["authorization"].to_str().unwrap().to_owned()
    };
    let one = signature(b"{}", "a");
    assert!(one.contains("20150830/eu-central-1/ssm/aws4_request"), "{one}");
    assert!(one.contains("SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target,"), "{one}");
    assert!(one != signature(b"{ }", "a") && one != signature(b"{}", "b"));
    assert_eq!(one, signature(b"{}", "a"));
}
